"""Pools of one server. Connections are faked: what is tested is order, bounds and deadlines."""

import pytest
import trio
import trio.testing

from mongoguard.errors import UpstreamConnectionLost, UpstreamUnavailable
from mongoguard.server import server_pool as module
from mongoguard.server.server_pool import ServerPool
from mongoguard.server.upstream_uri import UpstreamAddress
from tests.unit.server.upstream_fakes import Clock, FakeConnection, settings


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(module.time, "monotonic", found.monotonic)
    return found


class Pool(ServerPool):
    """A pool whose connections are faked."""

    def __init__(self, **upstream):
        super().__init__("h:1", UpstreamAddress(None, None, None), settings(**upstream).upstream)
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
        with pytest.raises(UpstreamUnavailable, match="all 1 connections to h:1 are busy") as refused:
            await pool.exchange(b"")
        assert "h:1" not in refused.value.told
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


# ---- few connections at a time --------------------------------------------------------------------------------------


class SlowPool(Pool):
    """A pool whose connections take a second to open, or fail after it."""

    def __init__(self, **upstream):
        super().__init__(**upstream)
        self.opening = self.most = 0
        self.fails = False

    async def connect(self):
        self.opening += 1
        self.most = max(self.most, self.opening)
        try:
            await trio.sleep(1)
            if self.fails:
                raise UpstreamUnavailable("refused")
            return await super().connect()
        finally:
            self.opening -= 1


async def test_in_a_burst_few_connections_are_opened_and_given_on(clock, autojump_clock):
    pool = SlowPool()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(pool.exchange, b"")
    assert pool.most == module.MAX_CONNECTING
    assert len(pool.made) < 10
    assert sum(one.served for one in pool.made) == 50
    assert (pool._connecting, pool.in_use) == (0, 0)


async def test_slow_requests_get_a_connection_each(clock, autojump_clock):
    pool = SlowPool()
    gate = trio.Event()
    pool.next = [FakeConnection() for _ in range(9)]
    for one in pool.next:
        one.gate = gate
    async with trio.open_nursery() as nursery:
        for _ in range(9):
            nursery.start_soon(pool.exchange, b"")
        await trio.sleep(5.5)
        assert len(pool.made) == 9
        gate.set()


async def test_when_a_server_cannot_be_reached_all_who_wait_are_told_at_once(clock, autojump_clock):
    pool = SlowPool()
    pool.fails = True
    refused = []

    async def ask():
        with pytest.raises(UpstreamUnavailable, match="refused"):
            await pool.exchange(b"")
        refused.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        for _ in range(50):
            nursery.start_soon(ask)
    assert len(refused) == 50
    assert max(refused) - began == 1
    assert (pool._connecting, pool.in_use) == (0, 0)
    pool.fails = False
    await pool.exchange(b"")


@pytest.mark.parametrize("after_secs", [0.5, 1.0, 1.5])
async def test_who_leaves_the_queue_keeps_nothing_from_the_others(clock, autojump_clock, after_secs):
    pool = SlowPool()
    scopes = []

    async def leave():
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await pool.exchange(b"")

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(leave)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            nursery.start_soon(pool.exchange, b"")
        await trio.sleep(after_secs)
        for scope in scopes:
            scope.cancel()
    assert (pool._connecting, pool.in_use, len(pool._waiting)) == (0, 0, 0)
    assert sum(one.served for one in pool.made) >= 5


async def test_a_connection_that_was_opened_for_something_else_serves_who_waits(clock, autojump_clock):
    pool = SlowPool()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(pool.exchange, b"")
        await trio.testing.wait_all_tasks_blocked()
        extra = FakeConnection()
        pool.keep(extra)
        await trio.sleep(0.1)
        assert extra.served == 1
    pool.close(interrupt=False)
    pool.keep(late := FakeConnection())
    assert late.closed == 1


# ---- connections that are kept ready --------------------------------------------------------------------------------


async def test_connections_are_opened_ahead_one_at_a_time_until_there_are_enough(clock, autojump_clock):
    pool = SlowPool(minPoolSize=3)
    assert pool.lacks_connections
    await pool.warm()
    assert (len(pool.made), pool.most, pool._connecting) == (3, 1, 0)
    assert not pool.lacks_connections
    await pool.warm()
    assert len(pool.made) == 3
    began = trio.current_time()
    await at_once(pool, 3)
    assert (len(pool.made), trio.current_time()) == (3, began), "nobody had to wait for a login"


async def test_without_the_setting_none_is_opened_ahead(clock):
    pool = Pool()
    assert not pool.lacks_connections
    await pool.warm()
    assert pool.made == []


async def test_those_in_use_count_too(clock):
    pool = Pool(minPoolSize=2)
    busy = FakeConnection()
    busy.gate = trio.Event()
    pool.next = [busy]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.exchange, b"")
        await trio.testing.wait_all_tasks_blocked()
        await pool.warm()
        assert len(pool.made) == 2
        busy.gate.set()


async def test_a_request_takes_what_is_opened_ahead_instead_of_one_more(clock, autojump_clock):
    """Or there would be more connections than `maxPoolSize` allows."""
    pool = SlowPool(minPoolSize=2, maxPoolSize=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.warm)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(20):
            nursery.start_soon(pool.exchange, b"")
    assert (len(pool.made), pool._connecting, pool._ahead, pool._given) == (2, 0, 0, 0)
    assert sum(one.served for one in pool.made) == 20


async def test_requests_have_a_turn_of_their_own_while_connections_are_opened_ahead(clock, autojump_clock):
    pool = SlowPool(minPoolSize=50)
    gate = trio.Event()
    pool.next = [FakeConnection() for _ in range(4)]
    for one in pool.next:
        one.gate = gate
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.warm)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(4):
            nursery.start_soon(pool.exchange, b"")
        await trio.sleep(2.5)
        assert pool.in_use - len(pool._waiting) == 4, "two were opened for them, two had been for nobody"
        assert pool.most == module.MAX_CONNECTING
        gate.set()
    await pool.warm()
    assert len(pool.made) == 50


async def test_who_waits_for_what_is_opened_ahead_hears_that_the_server_is_gone(clock, autojump_clock):
    pool = SlowPool(minPoolSize=1)
    pool.fails = True
    told = []

    async def ask():
        with pytest.raises(UpstreamUnavailable, match="refused"):
            await pool.exchange(b"")
        told.append(trio.current_time())

    async def warm():
        with pytest.raises(UpstreamUnavailable, match="refused"):
            await pool.warm()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(warm)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask)
        began = trio.current_time()
    assert told == [began + 1]
    assert (pool._connecting, pool._ahead, pool.in_use) == (0, 0, 0)


async def test_a_cancelled_warming_gives_its_turn_to_who_waits(clock, autojump_clock):
    pool = SlowPool(minPoolSize=1)
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            async with trio.open_nursery() as inner:
                inner.start_soon(pool.warm)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(pool.exchange, b"")
    assert (len(pool.made), pool._connecting, pool._ahead) == (1, 0, 0)


async def test_as_many_as_are_kept_ready_may_be_idle_for_long(clock):
    pool = Pool(minPoolSize=2)
    made = await at_once(pool, 4)
    clock.now += module.MAX_IDLE_SECS + 1
    pool.trim()
    assert [one.closed for one in made].count(1) == 2
    assert len(pool._idle) == 2
    assert not pool.lacks_connections


async def test_what_the_server_has_closed_is_replaced_before_it_is_needed(clock):
    pool = Pool(minPoolSize=2)
    first, second = await at_once(pool, 2)
    first.usable = False
    pool.trim()
    assert (first.closed, second.closed) == (1, 0)
    assert pool.lacks_connections
    await pool.warm()
    assert len(pool.made) == 3


async def test_a_closed_pool_opens_nothing_ahead(clock, autojump_clock):
    pool = SlowPool(minPoolSize=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.warm)
        await trio.sleep(0.5)
        pool.close(interrupt=False)
    (only,) = pool.made
    assert only.closed == 1
    assert not pool.lacks_connections


async def test_a_reload_changes_how_many_are_kept_ready_but_never_beyond_the_limit(clock):
    pool = Pool(maxPoolSize=2)
    pool.change(settings(minPoolSize=5, maxPoolSize=5).upstream.model_copy(update={"max_pool_size": 2}))
    await pool.warm()
    assert len(pool.made) == 2
