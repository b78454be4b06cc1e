"""The upstream as a whole. Servers and monitors are faked: what is tested is choice, order and deadlines."""

import bson
import pytest
import trio
import trio.testing
from bson import ObjectId

from mongoguard.command.read_preference import ReadPreference, ReadPreferenceMode
from mongoguard.config.settings import parse_settings
from mongoguard.effects import StateChanged
from mongoguard.errors import (
    ConfigError,
    NoServerForReadPreference,
    UpstreamConnectionLost,
    UpstreamUnavailable,
)
from mongoguard.proxy.deployment import Impersonation, PresentAs
from mongoguard.server import server_pool, warming
from mongoguard.server import upstream as module
from mongoguard.server.topology import TopologySnapshot
from mongoguard.server.upstream import open_upstream
from tests.rawwire import op_msg
from tests.unit.server.upstream_fakes import Clock, FakeConnection, settings


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(server_pool.time, "monotonic", found.monotonic)
    return found


# ---- the upstream ---------------------------------------------------------------------------------------------------


SECONDARY = ReadPreference(ReadPreferenceMode.SECONDARY)


def snapshot(primary, *others, **fields):
    """A replica set of those servers."""
    servers = frozenset({primary, *others} - {None})
    known = {"primary": primary, "servers": servers, "readable": servers, "is_replica_set": True}
    return TopologySnapshot(**{**known, **fields})


class FakeTopology:
    """Knows what the test says."""

    def __init__(self, _address, on_change, _connect_timeout_ms, _listeners=()):
        self.on_change = on_change
        self.snapshot = snapshot("h:1", "h:2")
        self.closed = False
        self.doubts = []
        self.asked = []
        self.found = []
        self.event = trio.Event()

    def change(self, new):
        self.snapshot = new
        self.event.set()
        self.event = trio.Event()
        self.on_change(new)

    async def changed(self):
        await self.event.wait()

    async def wait_for_change(self):
        await trio.sleep(0.1)

    def refresh(self):
        pass

    def readers(self, preference, usable):
        self.asked.append((preference, usable))
        return [address for address in self.found if address in usable]

    def doubt(self, address, topology_version):
        self.doubts.append((address, topology_version))

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
    monkeypatch.setattr(server_pool, "open_upstream_connection", connect)
    return made, connections_prepare


async def test_opening_introduces_and_closing_closes_everything(connections):
    made, _ = connections
    async with open_upstream(settings()) as upstream:
        assert upstream.hello["maxWireVersion"] == 17
        assert upstream.build_info["version"] == "6.0.5"
        assert upstream.impersonation == Impersonation.USERS
        assert upstream.deployment.current.present_as is PresentAs.MONGOS
        assert (await upstream.ask("admin", {"ping": 1}))["server"] == "h:1"
        assert len(made) == 1, "the connection that was introduced serves the first request"
        assert (await upstream.relay(b"", "h:2")).server == "h:2"
    assert [one.closed for one in made] == [1, 1]
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
        connections[0][0].gate = trio.Event()
        began = trio.current_time()
        with pytest.raises(UpstreamUnavailable, match="did not answer within 30 s"):
            await upstream.ask("admin", {"ping": 1})
        assert trio.current_time() - began == module.ASK_TIMEOUT_SECS


async def test_a_request_looks_for_another_primary_while_the_old_one_cannot_be_reached(
    connections, autojump_clock
):
    async with open_upstream(settings()) as upstream, trio.open_nursery() as nursery:
        upstream._pools["h:1"]._take_idle()
        connections[1][0] = lambda c: UpstreamUnavailable("gone") if c.address == "h:1" else c
        answers = []

        async def relay():
            answers.append(await upstream.relay(b"", None))

        nursery.start_soon(relay)
        await trio.sleep(1)
        assert answers == []
        upstream._topology.change(snapshot("h:2"))
        await trio.sleep(1)
        assert answers[0].server == "h:2"
        with pytest.raises(UpstreamUnavailable, match="gone"):
            await upstream.relay(b"", "h:1")


async def test_a_request_gives_up_in_time_where_no_server_can_be_reached(connections, autojump_clock):
    async with open_upstream(settings(serverSelectionTimeoutMS=3000)) as upstream:
        upstream._pools["h:1"]._take_idle()
        connections[1][0] = lambda _: UpstreamUnavailable("gone")
        began = trio.current_time()
        with pytest.raises(UpstreamUnavailable, match="gone"):
            await upstream.relay(b"", None)
        assert 3 <= trio.current_time() - began < 4


async def test_a_full_pool_is_not_waited_for_twice(connections, autojump_clock):
    async with open_upstream(settings(maxPoolSize=1, waitQueueTimeoutMS=1000)) as upstream:
        connections[0][0].gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upstream.relay, b"", None)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            with pytest.raises(UpstreamUnavailable, match="are busy"):
                await upstream.relay(b"", None)
            assert trio.current_time() - began == 1
            nursery.cancel_scope.cancel()


async def test_a_new_server_is_met_at_once_and_an_unreachable_one_is_tried_again(
    connections, autojump_clock, caplog
):
    made, prepare = connections
    async with open_upstream(settings()) as upstream, trio.open_nursery() as nursery:
        nursery.start_soon(upstream.keep_up)
        await trio.sleep(0.01)
        assert [one.address for one in made] == ["h:1", "h:2"], "the secondary too, without waiting"
        prepare[0] = lambda _: UpstreamUnavailable("not yet")
        upstream._topology.change(snapshot("h:3"))
        await trio.sleep(3)
        assert len(made) == 2
        assert caplog.text.count("upstream server h:3 cannot be used: not yet") == 1

        def newer(connection):
            connection.hello = {"ok": 1, "maxWireVersion": 21, "setName": "rs0"}
            return connection

        prepare[0] = newer
        await trio.sleep(1.5)
        assert [one.address for one in made][2:] == ["h:3"]
        assert upstream.hello["maxWireVersion"] == 21
        nursery.cancel_scope.cancel()


async def test_a_hello_holds_for_every_server_that_may_be_read_from(connections, autojump_clock):
    def prepare(connection):
        newer = {"maxWireVersion": 21, "minWireVersion": 6, "maxWriteBatchSize": 200}
        older = {"maxWireVersion": 17, "minWireVersion": 0, "maxWriteBatchSize": 100}
        connection.hello = {"setName": "rs0", **(newer if connection.address == "h:1" else older)}
        return connection

    connections[1][0] = prepare
    async with open_upstream(settings()) as upstream, trio.open_nursery() as nursery:
        assert upstream.hello["maxWireVersion"] == 21
        nursery.start_soon(upstream.keep_up)
        await trio.sleep(0.01)
        told = {
            name: upstream.hello[name] for name in ("maxWireVersion", "minWireVersion", "maxWriteBatchSize")
        }
        assert told == {"maxWireVersion": 17, "minWireVersion": 6, "maxWriteBatchSize": 100}
        nursery.cancel_scope.cancel()


async def test_a_server_that_passes_over_the_users_name_does_not_impersonate(connections):
    """It takes whatever stands there, so what no server that reads it would take is asked first."""

    def prepare(connection):
        connection.reads_no_audit = True
        return connection

    connections[1][0] = prepare
    async with open_upstream(settings()) as upstream:
        assert upstream.deployment.current.impersonation is Impersonation.NONE


async def test_a_server_that_takes_the_users_name_otherwise_is_not_read_from(connections, autojump_clock):
    """A read without the real user's name, or under another, would be anybody's."""

    def prepare(connection):
        if connection.address == "h:2":
            connection.accepts = {"$impersonatedUser"}
        return connection

    connections[1][0] = prepare
    async with (
        open_upstream(settings(serverSelectionTimeoutMS=1000)) as upstream,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(upstream.keep_up)
        await trio.sleep(0.01)
        upstream._topology.found = ["h:2"]
        with pytest.raises(NoServerForReadPreference, match='read preference { mode: "secondary" }'):
            await upstream.relay(b"", None, SECONDARY)
        upstream._topology.found = ["h:1", "h:2"]
        assert (await upstream.relay(b"", None, SECONDARY)).server == "h:1"
        assert {usable for _, usable in upstream._topology.asked} == {frozenset({"h:1"})}
        nursery.cancel_scope.cancel()


async def test_a_read_goes_to_another_server_when_the_chosen_one_cannot_be_reached(
    connections, autojump_clock
):
    async with open_upstream(settings()) as upstream, trio.open_nursery() as nursery:
        nursery.start_soon(upstream.keep_up)
        upstream._topology.change(snapshot("h:1", "h:2", "h:3"))
        await trio.sleep(0.01)
        upstream._topology.found = ["h:2", "h:3"]
        upstream._pools["h:2"]._take_idle()
        connections[1][0] = lambda c: UpstreamUnavailable("gone") if c.address == "h:2" else c
        for _ in range(10):
            began = trio.current_time()
            assert (await upstream.relay(b"", None, SECONDARY)).server == "h:3"
            assert trio.current_time() == began, "nobody waits where there is another"
        nursery.cancel_scope.cancel()


ROUTERS = tuple(f"r:{number}" for number in range(4))


async def test_requests_of_a_transaction_go_to_one_mongos_and_others_to_any_near_one(connections):
    async with open_upstream(settings()) as upstream:
        sharded = {"is_replica_set": False, "routers": ROUTERS, "near_routers": ROUTERS[:2]}
        upstream._topology.change(snapshot("r:0", *ROUTERS, **sharded))
        others = {(await upstream.relay(b"", None, SECONDARY)).server for _ in range(50)}
        assert others == set(ROUTERS[:2])
        chosen = set()
        for session in range(50):
            key = session.to_bytes(16, "big")
            servers = {(await upstream.relay(b"", None, None, key)).server for _ in range(3)}
            assert len(servers) == 1
            chosen |= servers
        assert chosen == set(ROUTERS)


async def test_a_transaction_moves_only_when_its_mongos_is_gone(connections, autojump_clock):
    async with open_upstream(settings()) as upstream:
        sharded = {"is_replica_set": False, "routers": ROUTERS, "near_routers": ROUTERS}
        upstream._topology.change(snapshot("r:0", *ROUTERS, **sharded))
        keys = [session.to_bytes(16, "big") for session in range(40)]
        before = [(await upstream.relay(b"", None, None, key)).server for key in keys]
        left = tuple(router for router in ROUTERS if router != "r:2")
        upstream._topology.change(
            snapshot("r:0", *left, **{**sharded, "routers": left, "near_routers": left})
        )
        after = [(await upstream.relay(b"", None, None, key)).server for key in keys]
        assert all(new == old for old, new in zip(before, after, strict=True) if old != "r:2")
        assert "r:2" not in after


@pytest.mark.parametrize(
    ("fields", "shuts_down", "doubted"),
    [
        ({}, False, True),
        ({"is_replica_set": False}, True, False),
        ({"is_replica_set": False, "routers": ("h:1",)}, False, False),
        ({"is_replica_set": False, "routers": ("h:1",)}, True, True),
    ],
)
async def test_what_a_server_says_of_itself_counts_where_there_is_another(
    connections, fields, shuts_down, doubted
):
    """A mongos passes on what its shards say; a server behind a direct connection has no substitute."""
    async with open_upstream(settings()) as upstream:
        upstream._topology.change(snapshot("h:1", **fields))
        upstream.state_changed(StateChanged("h:1", shuts_down, {"counter": 1}))
        assert upstream._topology.doubts == ([("h:1", {"counter": 1})] if doubted else [])


async def test_requests_at_a_server_that_left_and_is_frozen_are_lost_in_time(connections, autojump_clock):
    made, prepare = connections
    async with open_upstream(settings()) as upstream, trio.open_nursery() as nursery:
        nursery.start_soon(upstream.keep_up)
        await trio.sleep(0.01)
        (old,) = [one for one in made if one.address == "h:1"]
        old.gate = trio.Event()
        nursery.start_soon(lost, upstream)
        await trio.sleep(0.01)
        upstream._topology.change(snapshot("h:2"))
        await trio.sleep(5)
        assert old.closed == 0, "it takes connections, so it may finish"
        prepare[0] = lambda c: UpstreamUnavailable("no answer") if c.address == "h:1" else c
        await trio.sleep(1.5)
        assert old.closed
        nursery.cancel_scope.cancel()


async def lost(upstream):
    with pytest.raises(UpstreamConnectionLost):
        await upstream.relay(b"", "h:1")


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
                snapshot("h:1", frozen=frozenset({"h:2"} if frozen else ()), error="h:2: timed out")
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


# ---- as a replica set -----------------------------------------------------------------------------------------------


def presented(advertise, uri="mongodb://h"):
    """Settings of a mongoguard that is presented as a replica set."""
    text = f"{{net: {{presentAs: replicaSet, advertise: {advertise}}}, upstream: {{uri: '{uri}'}}}}"
    return parse_settings(text, "test", environ={}, read_file=str)


@pytest.mark.parametrize("hello", [{"ok": 1}, {"ok": 1, "msg": "isdbgrid"}])
async def test_what_is_no_replica_set_ends_the_start(connections, hello):
    def of_another_kind(connection):
        connection.hello = hello
        return connection

    connections[1][0] = of_another_kind
    with pytest.raises(ConfigError, match="the upstream is no member of a replica set"):
        async with open_upstream(presented("'g:1'")):
            pass


async def test_heartbeats_are_what_hello_is_made_of(connections):
    async with open_upstream(presented("'g:1'"), ObjectId(b"s" * 12)) as upstream:
        view = upstream.deployment
        assert view.service_id == ObjectId(b"s" * 12)
        assert (view.replica_set_fields["hosts"], view.replica_set_fields["isWritablePrimary"]) == (
            ["g:1"],
            False,
        )
        upstream._members_heard({"a:1": {"setName": "rs0", "isWritablePrimary": True}})
        assert view.replica_set_fields["isWritablePrimary"] is True


@pytest.mark.parametrize(
    ("is_replica_set", "expected"), [(True, None), (False, {"mode": "primaryPreferred"})]
)
async def test_a_member_that_is_connected_to_directly_is_asked_as_a_secondary(
    connections, is_replica_set, expected
):
    async with open_upstream(settings()) as upstream:
        upstream._topology.snapshot = snapshot("h:1", is_replica_set=is_replica_set)
        sent = []

        async def exchange(message, _soon_secs=0.0):
            await trio.lowlevel.checkpoint()
            sent.append(bson.decode(message[21:]))
            return op_msg({"ok": 1})

        connections[0][0].exchange = exchange
        await upstream.ask("admin", {"usersInfo": 1})
        assert sent[0].get("$readPreference") == expected


# ---- connections that are kept ready --------------------------------------------------------------------------------


async def test_every_server_has_connections_ready_and_the_new_one_after_a_fail_over_too(
    connections, autojump_clock
):
    made, _prepare = connections

    def opened(address):
        return sum(connection.address == address for connection in made)

    async with open_upstream(settings(minPoolSize=3)) as upstream, trio.open_nursery() as nursery:
        nursery.start_soon(upstream.keep_up)
        await trio.sleep(warming.WARM_SECS * 1.5)
        one_more = "when it was being met at that moment"
        first = opened("h:1"), opened("h:2")
        assert set(first) <= {3, 4}, one_more
        upstream._topology.change(snapshot("h:2", "h:3"))
        await trio.sleep(warming.WARM_SECS * 1.5)
        assert (opened("h:1"), opened("h:2")) == first
        assert opened("h:3") in (3, 4), one_more
        upstream._topology.change(snapshot("h:2", "h:1"))
        await trio.sleep(warming.WARM_SECS * 1.5)
        assert opened("h:1") - first[0] in (3, 4), "it came back, and its old connections are gone"
        nursery.cancel_scope.cancel()


async def test_a_server_that_takes_no_more_connections_is_not_asked_all_the_time(
    connections, autojump_clock, caplog
):
    caplog.set_level("INFO")
    made, prepare = connections
    async with open_upstream(settings(minPoolSize=3)) as upstream, trio.open_nursery() as nursery:
        nursery.start_soon(upstream.keep_up)
        await trio.lowlevel.checkpoint()
        tried = []

        def refuse(connection):
            tried.append(connection.address)
            return UpstreamUnavailable("h:1 is full")

        prepare[0] = lambda c: refuse(c) if c.address == "h:1" else c
        await trio.sleep(warming.WARM_AGAIN_SECS * 4)
        assert 2 <= len(tried) <= 6
        assert "connections to upstream server h:1 cannot be kept ready: h:1 is full" in caplog.text
        prepare[0] = lambda c: c
        await trio.sleep(warming.WARM_AGAIN_SECS + warming.WARM_SECS)
        assert not upstream._pools["h:1"].lacks_connections
        nursery.cancel_scope.cancel()
    assert made


async def test_answered_requests_are_counted_over_all_servers_of_now_and_before(connections, autojump_clock):
    connections[1][0] = lambda c: c
    async with open_upstream(settings()) as upstream, trio.open_nursery() as nursery:
        nursery.start_soon(upstream.keep_up)
        for address, count in (("h:1", 3), ("h:2", 2)):
            for _ in range(count):
                await upstream.relay(b"", address)
        assert upstream.answered == 5
        lost = connections[0][0]
        lost.error = UpstreamConnectionLost("h:1")
        with pytest.raises(UpstreamConnectionLost):
            await upstream.relay(b"", "h:1")
        assert upstream.answered == 5
        upstream._topology.change(snapshot("h:2"))
        await trio.sleep(3 * module.KEEP_UP_SECS)
        assert "h:1" not in upstream._pools
        assert (upstream._left, upstream.answered) == ([], 5)
        nursery.cancel_scope.cancel()
