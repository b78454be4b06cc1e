"""SRV records: a directory's servers by its domain's name (RFC 2782).

In: a name of `security.ldap.servers`. Out: hosts and ports, best first. Must not know connections. DNS is dnspython's,
which pymongo brings along.

DNS is not to be trusted with more than availability: a record that names a host outside the domain is refused, as
MongoDB's drivers refuse it, for the users' passwords would go there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dns.resolver
import trio
from dns.exception import DNSException

from mongoguard.config.ldap_section import ServerName
from mongoguard.errors import DirectoryUnavailable

__all__ = ["SrvLookup"]

MAX_RECORDS = 32
"""Servers behind one name that are looked at; each may cost a login its time limit."""

_TLS_PORTS = {389: 636, 3268: 3269}
"""The records name the ports for connections in clear (or StartTLS); these are beside them, for TLS."""


class SrvLookup:
    """Looks names up, in a thread."""

    def __init__(self, timeout_secs: float, *, is_tls: bool, resolver: Any = None) -> None:
        """Ask the system's resolver, or `resolver` (dnspython's). `is_tls`: connections begin with TLS."""
        self._timeout = timeout_secs
        self._is_tls = is_tls
        self._resolver = resolver

    async def hosts(self, server: ServerName) -> list[tuple[str, int]]:
        """Hosts and ports by priority, then weight. Raises `DirectoryUnavailable`."""
        domain = _domain(server)
        problem = ""
        for name in _record_names(server):
            try:
                records = await trio.to_thread.run_sync(self._resolve, name, abandon_on_cancel=True)
            except DNSException as error:
                problem = f"{name}: {error}"
                continue
            return [(host, self._port(port)) for host, port in _within(domain, name, records)]
        raise DirectoryUnavailable(f"no SRV records: {problem}")

    def _resolve(self, name: str) -> list[tuple[int, int, str, int]]:
        resolver = self._resolver or dns.resolver.Resolver()
        answer = resolver.resolve(f"{name}.", "SRV", lifetime=self._timeout)
        found = [(r.priority, -r.weight, str(r.target).rstrip(".").lower(), r.port) for r in answer]
        return sorted(found)[:MAX_RECORDS]

    def _port(self, port: int) -> int:
        return _TLS_PORTS.get(port, port) if self._is_tls else port


def _record_names(server: ServerName) -> tuple[str, ...]:
    """`srv:` asks Active Directory's global catalog first, then any directory, as MongoDB does."""
    if server.lookup == "srv_raw":
        return (server.host,)
    return (f"_ldap._tcp.gc._msdcs.{server.host}", f"_ldap._tcp.{server.host}")


def _domain(server: ServerName) -> str:
    """The domain that all servers must be in: the name without its labels of service and protocol."""
    labels = server.host.lower().split(".")
    while labels and (labels[0].startswith("_") or "_msdcs" in labels):
        labels.pop(0)
    return ".".join(labels)


def _within(
    domain: str, name: str, records: Iterable[tuple[int, int, str, int]]
) -> Iterable[tuple[str, int]]:
    for _, _, host, port in records:
        if not domain or not host.endswith(f".{domain}"):
            raise DirectoryUnavailable(f"the SRV records of {name} name {host}, which is not in {domain}")
        yield host, port
