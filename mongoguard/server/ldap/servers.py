"""Which directory servers to try, and in which order.

In: `security.ldap.servers`, and which server failed or answered. Out: candidates in order. Must not connect.

The configured order counts. A server that failed is passed over for `DOWN_SECS`; then one login tries it again, while
the others still pass it over. When all of them are down, all are tried, those that failed longest ago first.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import trio

from mongoguard.config.ldap_section import ServerName
from mongoguard.errors import DirectoryUnavailable
from mongoguard.server.ldap.connection import LdapServer

__all__ = ["HostLookup", "Servers"]

log = logging.getLogger(__name__)

DOWN_SECS = 30.0
"""How long a server that failed is passed over: a restart takes less, and a try costs a login its time limit."""

LOOKUP_SECS = 60.0
"""How long looked-up names are used (Enterprise's ldapConnectionPoolHostRefreshIntervalMillis)."""


class HostLookup(Protocol):
    """What finds the hosts behind a name."""

    async def hosts(self, server: ServerName) -> list[tuple[str, int]]:
        """Hosts and ports, best first. Raises `DirectoryUnavailable`."""


class Servers:
    """The servers of one directory."""

    def __init__(self, names: Sequence[ServerName], default_port: int, lookup: HostLookup) -> None:
        """All of them are up until one fails."""
        self._names = names
        self._default_port = default_port
        self._lookup = lookup
        self._found: dict[ServerName, tuple[float, list[LdapServer]]] = {}
        self._down_since: dict[LdapServer, float] = {}
        self._count = len(names)

    @property
    def count(self) -> int:
        """How many servers there are, as far as is known."""
        return self._count

    async def candidates(self) -> list[LdapServer]:
        """All servers, those to try first at the front. Raises `DirectoryUnavailable` when no name can be looked up."""
        now = trio.current_time()
        up: list[LdapServer] = []
        down: list[LdapServer] = []
        for server in await self.resolve():
            since = self._down_since.get(server)
            if since is None:
                up.append(server)
            elif now - since >= DOWN_SECS:
                self._down_since[server] = (
                    now  # whoever asks next passes it over until this try has succeeded
                )
                up.append(server)
            else:
                down.append(server)
        return up + sorted(down, key=lambda server: self._down_since[server])

    async def resolve(self) -> list[LdapServer]:
        """All servers in the configured order, each once."""
        servers: dict[LdapServer, None] = {}
        problem = None
        for name in self._names:
            try:
                servers.update(dict.fromkeys(await self._servers_of(name)))
            except DirectoryUnavailable as error:
                problem = error
        if not servers and problem is not None:
            raise problem
        self._count = len(servers)
        return list(servers)

    def failed(self, server: LdapServer, problem: str) -> None:
        """This server could not be used."""
        if server not in self._down_since:
            log.warning("the directory server %s is passed over: %s", server, problem)
        self._down_since[server] = trio.current_time()

    def answered(self, server: LdapServer) -> None:
        """This server works."""
        if self._down_since.pop(server, None) is not None:
            log.info("the directory server %s answers again", server)

    async def _servers_of(self, name: ServerName) -> list[LdapServer]:
        if name.lookup == "host":
            return [LdapServer(name.host, name.port or self._default_port)]
        kept = self._found.get(name)
        if kept is not None and trio.current_time() - kept[0] < LOOKUP_SECS:
            return kept[1]
        try:
            hosts = await self._lookup.hosts(name)
        except DirectoryUnavailable as error:
            if kept is None:
                raise
            log.warning("the directory's servers cannot be looked up again: %s", error)
            return kept[1]
        found = [LdapServer(host, port) for host, port in hosts]
        self._found[name] = (trio.current_time(), found)
        return found
