"""Routing: what the shell must know to choose a server for an allowed command.

In: a client's message, the deployment's default. Out: a `Route`. Must not know which servers there are.

Reads go where the client's `$readPreference` says, or the upstream's own default where the client says nothing. All
else goes to the primary. A request in a transaction goes to the primary too, or to the mongos of its session.
"""

from __future__ import annotations

from dataclasses import dataclass

from mongoguard.command.catalog import find_row
from mongoguard.command.read_preference import (
    ReadPreference,
    ReadPreferenceMode,
    may_use_secondary,
    parse_read_preference,
)
from mongoguard.proxy.reading import read_command
from mongoguard.proxy.relaying import Narrowing, session_id
from mongoguard.wire.document import encode_element
from mongoguard.wire.message import OpMsg

__all__ = ["PRIMARY_ROUTE", "Route", "route_of"]


@dataclass(frozen=True, slots=True)
class Route:
    """`read_preference` None: the primary. `transaction`: the session's id, for a request in a transaction.

    `appended`: what the command must say of it, because a secondary refuses reads without a `$readPreference`.
    """

    read_preference: ReadPreference | None = None
    transaction: bytes | None = None
    appended: bytes = b""

    def onto(self, narrowed: Narrowing | None) -> Narrowing | None:
        """The narrowing of the command with what the route appends."""
        if not self.appended:
            return narrowed
        if narrowed is None:
            return Narrowing(appended=self.appended)
        return Narrowing(narrowed.splices, narrowed.appended + self.appended)


PRIMARY_ROUTE = Route()


def route_of(message: OpMsg, default: ReadPreference | None) -> Route:
    """Where a message may go. Raises `CommandError` for a `$readPreference` that mongod refuses."""
    body = message.body
    preference = parse_read_preference(body)
    if body.boolean("autocommit") is False:
        # A transaction runs on one server; mongod itself says what it thinks of another preference than primary.
        return Route(transaction=session_id(body))
    appended = b""
    if preference is None and default is not None:
        preference, appended = default, encode_element("$readPreference", _as_document(default))
    if preference is None or preference.mode is ReadPreferenceMode.PRIMARY:
        return PRIMARY_ROUTE
    command = read_command(message)
    row = find_row(command.name)
    if row is None or not may_use_secondary(row.name, command):
        return PRIMARY_ROUTE
    return Route(preference, appended=appended)


def _as_document(preference: ReadPreference) -> dict[str, object]:
    document: dict[str, object] = {"mode": str(preference.mode)}
    if preference.tag_sets:
        document["tags"] = [dict(tag_set) for tag_set in preference.tag_sets]
    if preference.max_staleness_seconds is not None:
        document["maxStalenessSeconds"] = preference.max_staleness_seconds
    return document
