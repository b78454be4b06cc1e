"""The pool of search connections. The connections are stand-ins."""

import pytest
import trio

from mongoguard.authn.ldap.query import LdapEntry, LdapQuery
from mongoguard.errors import DirectoryUnavailable
from mongoguard.server.ldap.connection import DirectoryConnectionLost, LdapServer
from mongoguard.server.ldap.pool import SearchPool

QUERY = LdapQuery("dc=org")
ENTRY = LdapEntry("dc=org", {})


class StandInConnection:
    def __init__(self):
        self.server = LdapServer("a", 636)
        self.idle_since = 0.0
        self.closed = False
        self.usable = True
        self.error = None
        self.secs = 1.0
        self.searches = 0

    def is_usable(self):
        return self.usable and not self.closed

    async def search(self, _query):
        self.searches += 1
        try:
            await trio.sleep(self.secs)
        except trio.Cancelled:
            self.closed = True
            raise
        if self.error is not None:
            self.closed = True
            raise self.error
        return (ENTRY,)

    def close(self):
        self.closed = True


class Opened:
    """What the pool opened, and which servers failed."""

    def __init__(self, size=2, idle_secs=300):
        self.connections = []
        self.failed = []
        self.next = StandInConnection
        self.pool = SearchPool(
            self._open, lambda server, _problem: self.failed.append(server), size, idle_secs
        )

    async def _open(self):
        await trio.lowlevel.checkpoint()
        self.connections.append(self.next())
        return self.connections[-1]

    async def search(self):
        return await self.pool.search(QUERY, lambda: trio.move_on_after(10))


@pytest.fixture
def opened():
    return Opened()


async def test_a_connection_is_used_again(opened, autojump_clock):
    for _ in range(3):
        assert await opened.search() == (ENTRY,)
    assert len(opened.connections) == 1
    assert opened.pool.idle == 1


async def test_there_are_never_more_than_its_size(opened, autojump_clock):
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(opened.search)
    assert len(opened.connections) == 2
    assert trio.current_time() >= 10


async def test_one_that_was_closed_while_idle_is_replaced_unnoticed(opened, autojump_clock):
    await opened.search()
    opened.connections[0].usable = False
    assert await opened.search() == (ENTRY,)
    assert opened.connections[0].closed
    assert opened.connections[1].searches == 1
    assert opened.failed == []


async def test_when_one_breaks_in_use_the_other_idle_ones_go_too_and_a_fresh_one_is_tried(
    opened, autojump_clock
):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(opened.search)
        nursery.start_soon(opened.search)
    first, second = opened.connections
    first.error = second.error = DirectoryConnectionLost("reset")
    assert await opened.search() == (ENTRY,)
    assert first.closed
    assert second.closed
    assert first.searches + second.searches == 3, "only one of them was tried"
    assert len(opened.connections) == 3
    assert opened.failed == []


async def test_what_breaks_on_a_fresh_one_is_an_error_and_the_servers(opened, autojump_clock):
    def broken():
        connection = StandInConnection()
        connection.error = DirectoryConnectionLost("reset")
        return connection

    opened.next = broken
    with pytest.raises(DirectoryConnectionLost, match="reset"):
        await opened.search()
    assert opened.failed == [LdapServer("a", 636)]
    assert opened.pool.idle == 0


async def test_a_search_that_is_not_answered_ends_in_time_and_is_not_used_again(opened, autojump_clock):
    def silent():
        connection = StandInConnection()
        connection.secs = 1000
        return connection

    opened.next = silent
    with pytest.raises(DirectoryConnectionLost, match="was not answered in time"):
        await opened.search()
    assert trio.current_time() == pytest.approx(10, abs=0.1)
    assert opened.connections[0].closed
    assert opened.pool.idle == 0


async def test_an_answer_that_is_an_error_is_not_tried_elsewhere(opened, autojump_clock):
    def refusing():
        connection = StandInConnection()
        connection.error = DirectoryUnavailable("50 insufficientAccessRights")
        return connection

    opened.next = refusing
    with pytest.raises(DirectoryUnavailable, match="50"):
        await opened.search()
    assert len(opened.connections) == 1
    assert opened.failed == []


async def test_unused_connections_are_closed_after_a_while(opened, autojump_clock):
    await opened.search()
    await trio.sleep(299)
    opened.pool.close_idle()
    assert opened.pool.idle == 1
    await trio.sleep(2)
    opened.pool.close_idle()
    assert opened.pool.idle == 0
    assert opened.connections[0].closed


async def test_without_a_pool_each_search_has_a_connection_that_is_closed_after_it(autojump_clock):
    opened = Opened(idle_secs=0)
    for _ in range(3):
        assert await opened.search() == (ENTRY,)
        assert opened.pool.idle == 0
    assert [(c.searches, c.closed) for c in opened.connections] == [(1, True)] * 3


async def test_without_a_pool_there_are_never_more_than_its_size_either(autojump_clock):
    opened = Opened(idle_secs=0)
    most = 0

    async def search():
        nonlocal most
        await opened.search()
        most = max(most, sum(not c.closed for c in opened.connections))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(search)
    assert most <= 2
    assert trio.current_time() == pytest.approx(5, abs=0.1), "two at a time, a second each"
    assert len(opened.connections) == 10
