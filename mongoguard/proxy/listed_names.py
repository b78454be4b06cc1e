"""Listed names: what listDatabases and listCollections may look at for a user who does not see everything.

In: an allowed command and its user's rights. Out: a `Narrowing` that puts a condition on names before the client's own
filter. Must not know sockets.

Filtering the reply is not enough (`narrowing.filter_database_list`, `keep_authorized_collections`): the service user
sees every name, and the client's filter runs over all of them. `{filter: {$expr: {$toInt: "$name"}}}` is answered with
an error that quotes the first name, and the cursor of `{batchSize: 1}` tells how many match. mongod leaves out what the
user may not see before it looks at the filter; here the condition comes first in an `$and`, whose parts a server tries
in their order.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mongoguard.authz.authorization_session import AuthorizationSession
from mongoguard.command.command import Command
from mongoguard.model.resource_pattern import BUCKETS_PREFIX, MatchType, ResourcePattern
from mongoguard.proxy.narrowing import filters_database_list, shows_only_authorized_collections
from mongoguard.proxy.relaying import Narrowing, array_element
from mongoguard.wire.document import DOCUMENT, NULL, encode

__all__ = ["listed_collections", "listed_databases", "narrow_list"]

_APART = ("config", "local")
"""The databases that privileges on any normal resource do not cover."""

_IN_ANY_DATABASE = {
    MatchType.ANY_RESOURCE,
    MatchType.COLLECTION,
    MatchType.BUCKETS_IN_ANY_DB,
    MatchType.ANY_BUCKETS,
}


def narrow_list(command: Command, name: str, session: AuthorizationSession) -> Narrowing | None:
    """The narrowing of a listing; None for every other command and for who sees everything."""
    if name == "listDatabases" and filters_database_list(command, session):
        return _with_condition(command, listed_databases(_held(session)))
    if name == "listCollections" and shows_only_authorized_collections(command):
        return _with_condition(command, listed_collections(_held(session), command.db))
    return None


def _held(session: AuthorizationSession) -> list[ResourcePattern]:
    privileges = {} if session.user is None else session.user.privileges
    return [pattern for pattern, actions in privileges.items() if actions]


def listed_databases(held: Collection[ResourcePattern]) -> dict[str, Any]:
    """A filter for the databases of `AuthorizationSession.may_see_database`."""
    kinds = {pattern.match_type for pattern in held}
    if not kinds.isdisjoint(_IN_ANY_DATABASE):
        return {}
    named = sorted({pattern.db for pattern in held if pattern.db})
    if MatchType.ANY_NORMAL in kinds:
        return {"name": {"$nin": [db for db in _APART if db not in named]}}
    return {"name": {"$in": named}}


def listed_collections(held: Collection[ResourcePattern], db: str) -> dict[str, Any]:
    """A filter for the collections of `db` of `AuthorizationSession.any_action_on`."""
    here = [pattern for pattern in held if pattern.db in ("", db)]
    kinds = {pattern.match_type for pattern in here}
    if MatchType.ANY_RESOURCE in kinds:
        return {}
    conditions: list[dict[str, Any]] = [{"name": {"$in": _names(here)}}]
    if MatchType.DATABASE in kinds or (MatchType.ANY_NORMAL in kinds and db not in _APART):
        apart = r"^(system|replset)\." if db == "local" else r"^system\."
        conditions.append({"name": {"$not": {"$regex": apart}}})
    if not kinds.isdisjoint({MatchType.ANY_BUCKETS, MatchType.ANY_BUCKETS_IN_DB}):
        conditions.append({"name": {"$regex": r"^system\.buckets\.."}})
    return {"$or": conditions}


def _names(here: Collection[ResourcePattern]) -> list[str]:
    names = set()
    for kind, _, collection in here:
        if kind in (MatchType.EXACT_NAMESPACE, MatchType.COLLECTION):
            names.add(collection)
        elif kind in (MatchType.EXACT_BUCKETS, MatchType.BUCKETS_IN_ANY_DB):
            names.add(BUCKETS_PREFIX + collection)
    return sorted(names)


def _with_condition(command: Command, condition: dict[str, Any]) -> Narrowing | None:
    """The condition, and behind it the client's filter; one that is no document is for the server to refuse."""
    if not condition:
        return None
    element = command.body.fields.get("filter")
    if element is None:
        return Narrowing(appended=_filter_element([encode(condition)]))
    if element.type not in (DOCUMENT, NULL):
        return None
    own = [] if element.type == NULL else [command.body.data[element.value : element.end]]
    replacement = _filter_element([encode(condition), *own])
    return Narrowing(splices=((element.start, element.end, replacement),))


def _filter_element(parts: list[bytes]) -> bytes:
    """The element `filter: {$and: [parts]}`."""
    inside = array_element("$and", parts)
    return b"\x03filter\0" + (len(inside) + 5).to_bytes(4, "little") + inside + b"\0"
