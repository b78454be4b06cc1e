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
