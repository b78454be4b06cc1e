"""Getting to know upstream servers: what each says of itself, and what they have in common.

In: a new connection. Out: an `Acquaintance`, and a `hello` that holds for all servers. Must not know pools or clients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mongoguard.proxy.deployment import Impersonation
from mongoguard.server.upstream_connection import CLIENT_METADATA, UpstreamConnection

__all__ = ["Acquaintance", "common_hello", "meet"]

_SMALLEST = (
    "maxWireVersion",
    "maxBsonObjectSize",
    "maxMessageSizeBytes",
    "maxWriteBatchSize",
    "logicalSessionTimeoutMinutes",
)
_GREATEST = ("minWireVersion",)


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """One server: its answers to hello and buildInfo, and how it takes what is said of the real user and client."""

    hello: Mapping[str, Any]
    build_info: Mapping[str, Any]
    impersonation: Impersonation
    takes_client_metadata: bool


async def meet(connection: UpstreamConnection) -> Acquaintance:
    """Ask a server who it is. Raises `UpstreamConnectionLost`."""
    build_info = await connection.ask("admin", {"buildInfo": 1})
    impersonation = await _probe_impersonation(connection)
    takes_metadata = impersonation is not Impersonation.NONE and await _takes_client_metadata(connection)
    return Acquaintance(connection.hello, build_info, impersonation, takes_metadata)


def common_hello(hello: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The first server's hello with the limits that hold for the others too: a read may be sent to any of them."""
    common = dict(hello)
    for other in others:
        for names, pick in ((_SMALLEST, min), (_GREATEST, max)):
            for name in names:
                if name in common and name in other:
                    common[name] = pick(common[name], other[name])
    return common


async def _probe_impersonation(connection: UpstreamConnection) -> Impersonation:
    """Try both spellings with a command that does nothing; first what no server that reads `$audit` may accept.

    Other servers than mongod pass over fields that they do not know: such a one would seem to take every name, and
    would keep no user's sessions from another's.
    """
    malformed = {str(Impersonation.USERS): "", str(Impersonation.USER): "", "$impersonatedRoles": ""}
    reply = await connection.ask("admin", {"ping": 1, "$audit": malformed})
    if reply.get("ok"):
        return Impersonation.NONE
    name = {"user": "mongoguard", "db": "admin"}
    for spelling, users in ((Impersonation.USERS, [name]), (Impersonation.USER, name)):
        audit = {str(spelling): users, "$impersonatedRoles": []}
        reply = await connection.ask("admin", {"ping": 1, "$audit": audit})
        if reply.get("ok"):
            return spelling
    return Impersonation.NONE


async def _takes_client_metadata(connection: UpstreamConnection) -> bool:
    """Try `$client`: a server may keep it for other servers."""
    return bool((await connection.ask("admin", {"ping": 1, "$client": CLIENT_METADATA})).get("ok"))
