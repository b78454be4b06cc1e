"""Pools and the upstream as a whole. Servers and monitors are faked: what is tested is order, bounds and deadlines."""

import pytest
import trio
import trio.testing

from mongoguard.config.settings import parse_settings
from mongoguard.errors import UpstreamConnectionLost, UpstreamUnavailable
from mongoguard.proxy.deployment import Impersonation, PresentAs
from mongoguard.server import upstream as module
from mongoguard.server.topology import TopologySnapshot
from mongoguard.server.upstream import ServerPool, open_upstream
from tests.rawwire import op_msg


def settings(**upstream):
    fields = "".join(f", {key}: {value}" for key, value in upstream.items())
    return parse_settings(
        f"{{upstream: {{uri: 'mongodb://h'{fields}}}}}", "test", environ={}, read_file=lambda p: p
    )


class FakeConnection:
    """Answers at once, or when `gate` is set; counts what was done to it."""

    def __init__(self, address="h:1"):
        self.address = address
        self.hello = {"ok": 1, "maxWireVersion": 17, "setName": "rs0"}
        self.idle_since = 0.0
        self.gate = None
        self.error = None
        self.usable = True
        self.closed = 0
        self.served = 0
        self.soon = []
        self.takes_secs = 0.0
        self.clock = Clock()
        self.accepts = {"$impersonatedUsers", "$impersonatedUser"}
        self.asked = []

    async def exchange(self, message, soon_secs=0.0):
        self.soon.append(soon_secs)
        await trio.lowlevel.checkpoint()
        self.clock.now += self.takes_secs
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.served += 1
        return op_msg({"ok": 1, "server": self.address})

    async def ask(self, _db, command):
        await trio.lowlevel.checkpoint()
        self.asked.append(command)
        audit = command.get("$audit")
        return {"ok": 1.0 if audit is None or set(audit) & self.accepts else 0.0, "version": "6.0.5"}

    def is_usable(self):
        return self.usable

    def close(self):
        self.closed += 1


class Clock:
    """The pool's own clock."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(module.time, "monotonic", found.monotonic)
    return found


class Pool(ServerPool):
    """A pool whose connections are faked."""

    def __init__(self, **upstream):
        super().__init__("h:1", None, settings(**upstream).upstream)
        self.made = []
        self.next = []

    async def connect(self):
        connection = self.next.pop(0) if self.next else FakeConnection()
        self.made.append(connection)
        return connection


async def at_once(pool, count):
    """That many requests at the same time, each on a connection of its own."""
    gate = trio.Event()
    pool.next = [FakeConnection() for _ in range(count)]
    for connection in pool.next:
        connection.gate = gate
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(pool.exchange, b"")
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
    return pool.made


async def test_the_connection_used_last_is_used_first(clock):
    pool = Pool()
    made = await at_once(pool, 3)
    last = pool._idle[-1]
    for _ in range(5):
        await pool.exchange(b"")
    assert last.served == 6
    assert len(made) == 3


async def test_only_a_request_that_is_alone_at_a_quick_server_looks_before_it_sleeps(clock):
    pool = Pool()
    first, second = await at_once(pool, 2)
    assert (first.soon, second.soon) == ([module.SOON_SECS], [0.0])
    pool = Pool()
    connection = FakeConnection()
    pool.next, connection.clock, connection.takes_secs = [connection], clock, 1.0
    for _ in range(3):
        await pool.exchange(b"")
    connection.takes_secs = 0.0
    for _ in range(100):
        await pool.exchange(b"")
    assert connection.soon[:3] == [module.SOON_SECS, 0.0, 0.0]
    assert connection.soon[-1] == module.SOON_SECS


async def test_connections_idle_for_long_are_closed_and_younger_ones_kept(clock):
    pool = Pool()
    made = await at_once(pool, 3)
    clock.now += module.MAX_IDLE_SECS
    pool.trim()
    assert [one.closed for one in made] == [0, 0, 0]
    used = pool._idle[-1]
    await pool.exchange(b"")
    clock.now += 1
    pool.trim()
    assert sum(one.closed for one in made) == 2
    assert used.closed == 0


async def test_a_connection_idle_for_a_while_is_looked_at_before_it_is_used(clock):
    pool = Pool()
    (dead,) = await at_once(pool, 1)
    dead.usable = False
    await pool.exchange(b"")
    assert (len(pool.made), dead.closed) == (1, 0), "used a moment ago: not looked at"
    clock.now += module.CHECK_IDLE_AFTER_SECS + 0.1
    await pool.exchange(b"")
    assert (len(pool.made), dead.closed) == (2, 1)
    clock.now += module.CHECK_IDLE_AFTER_SECS + 0.1
    await pool.exchange(b"")
    assert len(pool.made) == 2, "and the new one is usable"


async def test_a_lost_or_cancelled_request_closes_its_connection(clock):
    pool = Pool()
    lost, slow = FakeConnection(), FakeConnection()
    lost.error, slow.gate = UpstreamConnectionLost("h:1"), trio.Event()
    pool.next = [lost, slow]
    with pytest.raises(UpstreamConnectionLost):
        await pool.exchange(b"")
    with trio.CancelScope() as scope:
        scope.cancel()
        await pool.exchange(b"")
    assert (lost.closed, slow.closed) == (1, 1)
    await pool.exchange(b"")
    assert len(pool.made) == 3


@pytest.mark.parametrize("interrupt", [False, True])
async def test_a_closed_pool_closes_idle_connections_now_and_busy_ones_as_told(clock, interrupt):
    pool = Pool()
    (idle,) = await at_once(pool, 1)
    busy = FakeConnection()
    busy.gate = trio.Event()
    pool.next = [busy]
    pool._idle.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.exchange, b"")
        await trio.testing.wait_all_tasks_blocked()
        pool._idle.append(idle)
        pool.close(interrupt=interrupt)
        assert (idle.closed, busy.closed) == (1, int(interrupt))
        busy.gate.set()
    assert busy.closed == 1 + int(interrupt), "after its request it is not kept"
    assert pool._idle == []


async def test_a_full_pool_lets_wait_and_then_refuses_in_time(clock, autojump_clock):
    pool = Pool(maxPoolSize=1, waitQueueTimeoutMS=2000)
    busy = FakeConnection()
    busy.gate = trio.Event()
    pool.next = [busy]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.exchange, b"")
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        with pytest.raises(UpstreamUnavailable, match="all 1 connections to h:1 are busy"):
            await pool.exchange(b"")
        assert trio.current_time() - began == 2
        nursery.start_soon(pool.exchange, b"")
        await trio.testing.wait_all_tasks_blocked()
        busy.gate.set()
    assert (busy.served, len(pool.made)) == (2, 1)
    busy.error = UpstreamConnectionLost("h:1")
    with pytest.raises(UpstreamConnectionLost):
        await pool.exchange(b"")
    await pool.exchange(b"")
    assert len(pool.made) == 2, "a failed request gives its place back"


# ---- the upstream ---------------------------------------------------------------------------------------------------


class FakeTopology:
    """Knows what the test says."""

    def __init__(self, _address, on_change):
        self.on_change = on_change
        self.snapshot = TopologySnapshot("h:1", frozenset({"h:1", "h:2"}))
        self.closed = False

    def change(self, **fields):
        self.snapshot = TopologySnapshot(**fields)
        self.on_change(self.snapshot)

    async def primary(self, within_secs):
        if self.snapshot.primary is None:
            await trio.sleep(within_secs)
            raise UpstreamUnavailable("no upstream server takes writes (faked)")
        return self.snapshot.primary

    async def close(self):
        self.closed = True


@pytest.fixture
def connections(monkeypatch, clock):
    """Every connection that is opened; the next ones are taken from `.next`."""
    made = []

    async def connect(address, _upstream, _seconds):
        await trio.lowlevel.checkpoint()
        connection = prepare(FakeConnection(address))
        if isinstance(connection, Exception):
            raise connection
        made.append(connection)
        return connection

    def prepare(connection):
        return connections_prepare[0](connection)

    connections_prepare = [lambda c: c]
    monkeypatch.setattr(module, "Topology", FakeTopology)
    monkeypatch.setattr(module, "open_upstream_connection", connect)
    return made, connections_prepare


async def test_opening_introduces_and_closing_closes_everything(connections):
    made, _ = connections
    async with open_upstream(settings()) as upstream:
        assert upstream.hello["maxWireVersion"] == 17
        assert upstream.build_info["version"] == "6.0.5"
        assert upstream.impersonation == Impersonation.USERS
        assert upstream.deployment.current.present_as is PresentAs.MONGOS
        assert made[0].closed == 1
        assert (await upstream.ask("admin", {"ping": 1}))["server"] == "h:1"
        assert (await upstream.relay(b"", "h:2")).server == "h:2"
    assert [one.closed for one in made] == [1, 1, 1]
    assert upstream._topology.closed


@pytest.mark.parametrize(
    ("accepts", "expected"),
    [
        ({"$impersonatedUser"}, Impersonation.USER),
        ({"$impersonatedUsers"}, Impersonation.USERS),
        (set(), Impersonation.NONE),
    ],
)
async def test_impersonation_is_probed_in_both_spellings(connections, caplog, accepts, expected):
    def prepare(connection):
        connection.accepts = accepts
        return connection

    connections[1][0] = prepare
    async with open_upstream(settings()) as upstream:
        assert upstream.deployment.current.impersonation is expected
    told = [r for r in caplog.records if "refuses impersonation" in r.getMessage()]
    assert len(told) == (1 if expected is Impersonation.NONE else 0)


@pytest.mark.parametrize(
    ("hello", "present_as"),
    [
        ({}, PresentAs.STANDALONE),
        ({"setName": "rs0"}, PresentAs.MONGOS),
        ({"msg": "isdbgrid"}, PresentAs.MONGOS),
    ],
)
async def test_it_presents_itself_as_what_is_behind(connections, hello, present_as):
    def prepare(connection):
        connection.hello = hello
        return connection

    connections[1][0] = prepare
    async with open_upstream(settings()) as upstream:
        assert upstream.deployment.current.present_as is present_as


@pytest.mark.parametrize(
    ("hello", "net", "warns"),
    [
        ({}, "{presentAs: mongos}", True),
        ({}, "{presentAs: standalone}", False),
        ({}, "{presentAs: auto}", False),
        ({"setName": "rs0"}, "{presentAs: mongos}", False),
        ({"msg": "isdbgrid"}, "{presentAs: mongos}", False),
    ],
)
async def test_a_standalone_presented_as_a_mongos_is_warned_of(connections, caplog, hello, net, warns):
    def prepare(connection):
        connection.hello = hello
        return connection

    connections[1][0] = prepare
    text = f"{{upstream: {{uri: 'mongodb://h'}}, net: {net}}}"
    told = parse_settings(text, "test", environ={}, read_file=lambda path: path)
    async with open_upstream(told) as upstream:
        assert any("net.presentAs is mongos" in warning for warning in upstream.warnings()) is warns
    assert any("net.presentAs is mongos" in message for message in caplog.messages) is warns


async def test_a_question_to_a_faked_silent_upstream_ends_in_time(connections, autojump_clock):
    async with open_upstream(settings()) as upstream:

        def prepare(connection):
            connection.gate = trio.Event()
            return connection

        connections[1][0] = prepare
        began = trio.current_time()
        with pytest.raises(UpstreamUnavailable, match="did not answer within 30 s"):
            await upstream.ask("admin", {"ping": 1})
        assert trio.current_time() - began == module.ASK_TIMEOUT_SECS


async def test_a_request_looks_for_another_primary_while_the_old_one_cannot_be_reached(
    connections, autojump_clock
):
    async with open_upstream(settings()) as upstream, trio.open_nursery() as nursery:
        connections[1][0] = lambda c: UpstreamUnavailable("gone") if c.address == "h:1" else c
        answers = []

        async def relay():
            answers.append(await upstream.relay(b"", None))

        nursery.start_soon(relay)
        await trio.sleep(1)
        assert answers == []
        upstream._topology.change(primary="h:2", servers=frozenset({"h:2"}))
        await trio.sleep(1)
        assert answers[0].server == "h:2"
        with pytest.raises(UpstreamUnavailable, match="gone"):
            await upstream.relay(b"", "h:1")


async def test_a_request_gives_up_in_time_where_no_server_can_be_reached(connections, autojump_clock):
    async with open_upstream(settings(serverSelectionTimeoutMS=3000)) as upstream:
        connections[1][0] = lambda _: UpstreamUnavailable("gone")
        began = trio.current_time()
        with pytest.raises(UpstreamUnavailable, match="gone"):
            await upstream.relay(b"", None)
        assert 3 <= trio.current_time() - began < 4


async def test_a_full_pool_is_not_waited_for_twice(connections, autojump_clock):
    async with open_upstream(settings(maxPoolSize=1, waitQueueTimeoutMS=1000)) as upstream:

        def prepare(connection):
            connection.gate = trio.Event()
            return connection

        connections[1][0] = prepare
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upstream.relay, b"", None)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            with pytest.raises(UpstreamUnavailable, match="are busy"):
                await upstream.relay(b"", None)
            assert trio.current_time() - began == 1
            nursery.cancel_scope.cancel()


async def test_a_new_primary_is_introduced_and_an_unreachable_one_is_tried_again(connections, autojump_clock):
    made, prepare = connections
    async with open_upstream(settings()) as upstream, trio.open_nursery() as nursery:
        nursery.start_soon(upstream.keep_up)
        await trio.sleep(3.5)
        assert len(made) == 1, "the primary is known already"
        prepare[0] = lambda _: UpstreamUnavailable("not yet")
        upstream._topology.change(primary="h:2", servers=frozenset({"h:2"}))
        await trio.sleep(3)
        assert len(made) == 1

        def newer(connection):
            connection.hello = {"ok": 1, "maxWireVersion": 21, "setName": "rs0"}
            return connection

        prepare[0] = newer
        await trio.sleep(3)
        assert len(made) == 2
        assert upstream.hello["maxWireVersion"] == 21
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("frozen", [False, True])
async def test_a_server_that_left_loses_its_pool_and_one_that_is_frozen_its_requests(
    connections, caplog, frozen
):
    made, prepare = connections
    async with open_upstream(settings()) as upstream:
        gate = trio.Event()

        def busy(connection):
            connection.gate = gate
            return connection

        prepare[0] = busy
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upstream.relay, b"", "h:2")
            await trio.testing.wait_all_tasks_blocked()
            upstream._topology.change(
                primary="h:1",
                servers=frozenset({"h:1"}),
                frozen=frozenset({"h:2"} if frozen else ()),
                error="h:2: timed out",
            )
            assert made[-1].closed == int(frozen)
            gate.set()
        assert made[-1].closed == 1 + int(frozen)
    assert "upstream server h:2 is gone or does not answer (h:2: timed out)" in caplog.text


async def test_without_a_primary_at_the_start_everything_is_closed_again(
    connections, autojump_clock, monkeypatch
):
    found = []

    class Nowhere(FakeTopology):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.snapshot = TopologySnapshot()
            found.append(self)

    monkeypatch.setattr(module, "Topology", Nowhere)
    with pytest.raises(UpstreamUnavailable, match="no upstream server takes writes"):
        async with open_upstream(settings()):
            raise AssertionError
    assert found[0].closed
