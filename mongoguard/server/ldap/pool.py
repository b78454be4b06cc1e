"""The pool of search connections, bound as the service and never as anybody else.

In: a way to open a bound connection; searches. Out: their entries. Must not know servers or names.

A connection is never bound anew: after a failed bind it would be anonymous, and find nothing for anybody. One that
broke while it was idle is replaced once, unnoticed; whatever breaks on a fresh connection is an error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from mongoguard.authn.ldap.query import LdapEntry, LdapQuery
from mongoguard.server.ldap.connection import DirectoryConnectionLost, LdapConnection, LdapServer

__all__ = ["SearchPool"]


class SearchPool:
    """At most `size` connections, closed when nobody has used them for `idle_secs`; 0 keeps none for another search."""

    def __init__(
        self,
        open_bound: Callable[[], Awaitable[LdapConnection]],
        failed: Callable[[LdapServer, str], None],
        size: int,
        idle_secs: int,
    ) -> None:
        """Start without connections. `failed` is told of a server that stops in mid-search, and why."""
        self._open_bound = open_bound
        self._failed = failed
        self._places = trio.Semaphore(size, max_value=size)
        self._idle_secs = idle_secs
        self._idle: list[LdapConnection] = []

    @property
    def idle(self) -> int:
        """How many connections wait to be used."""
        return len(self._idle)

    async def search(self, query: LdapQuery, within: Callable[[], trio.CancelScope]) -> tuple[LdapEntry, ...]:
        """The entries. `within()` is the time limit of one search on an open connection.

        Raises what `LdapConnection.search` raises, and what opening raises.
        """
        async with self._places:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_usable():
                    try:
                        return await self._search_on(connection, query, within)
                    except DirectoryConnectionLost:
                        self.close_idle(0)  # what broke one of them has broken all
                        break
                connection.close()
            connection = await self._open_bound()
            try:
                return await self._search_on(connection, query, within)
            except DirectoryConnectionLost as error:
                self._failed(connection.server, str(error))
                raise

    def close_idle(self, idle_secs: float | None = None) -> None:
        """Close the connections that nobody has used for so long."""
        before = trio.current_time() - (self._idle_secs if idle_secs is None else idle_secs)
        for connection in [c for c in self._idle if c.idle_since <= before]:
            self._idle.remove(connection)
            connection.close()

    async def _search_on(
        self, connection: LdapConnection, query: LdapQuery, within: Callable[[], trio.CancelScope]
    ) -> tuple[LdapEntry, ...]:
        with within() as scope:
            entries = await connection.search(query)
        if scope.cancelled_caught:
            raise DirectoryConnectionLost(f"{connection.server}: a search was not answered in time")
        if self._idle_secs == 0:
            connection.close()
            return entries
        connection.idle_since = trio.current_time()
        self._idle.append(connection)
        return entries
