"""Cursors as documents: how one worker process asks for a cursor, and another hands it over or keeps it.

In: entries, claims, and documents of another process. Out: documents; entries and claims. Must not know how they
travel. A document that is not understood to the letter is none: an entry decides who may read what.
"""

from __future__ import annotations

from typing import Any

from mongoguard.effects import CursorClaim, KeptCursor
from mongoguard.model.names import UserName
from mongoguard.model.privilege import AllOf, AnyActionInDatabase, AnyOf, NotHeld, Privilege, Requirement
from mongoguard.model.resource_pattern import MatchType, ResourcePattern
from mongoguard.proxy.cursors import CursorEntry

__all__ = ["claim_document", "cursor_document", "kept_document", "read_claim", "read_cursor", "read_kept"]

MAX_NESTING = 64
"""Levels of a requirement. Those of the catalogue have five, and each sub-pipeline adds two."""


def claim_document(claim: CursorClaim) -> dict[str, Any]:
    """Who asks, and for what."""
    return {
        "user": _name_document(claim.user),
        "ofAnybody": claim.of_anybody,
        "ns": claim.namespace,
        "session": claim.session,
    }


def read_claim(document: object) -> CursorClaim:
    """The claim of such a document. Raises `ValueError` for any other."""
    match document:
        case {
            "user": user,
            "ofAnybody": bool(of_anybody),
            "ns": str() | None as namespace,
            "session": bytes() | None as session,
            **more,
        } if not more:
            return CursorClaim(_read_name(user), of_anybody, namespace, session)
    raise ValueError("no claim to a cursor")


def kept_document(kept: KeptCursor) -> dict[str, Any]:
    """A cursor that is not handed over."""
    return {"id": kept.cursor_id, "ns": kept.namespace, "errmsg": kept.errmsg}


def read_kept(document: object) -> KeptCursor:
    """The cursor of such a document. Raises `ValueError` for any other."""
    match document:
        case {"id": int(cursor_id), "ns": str(namespace), "errmsg": str(errmsg), **more} if not more:
            return KeptCursor(int(cursor_id), namespace, errmsg)
    raise ValueError("no cursor that is kept")


def cursor_document(entry: CursorEntry) -> dict[str, Any]:
    """The entry, without the time of its last use."""
    return {
        "id": entry.cursor_id,
        "owner": _name_document(entry.owner),
        "ns": entry.namespace,
        "session": entry.session,
        "server": entry.server,
        "requirement": _requirement_document(entry.requirement),
        "onlyAuthorized": entry.only_authorized,
    }


def read_cursor(document: object) -> CursorEntry:
    """The entry of such a document. Raises `ValueError` for any other."""
    match document:
        case {
            "id": int(cursor_id),
            "owner": owner,
            "ns": str(namespace),
            "session": bytes() | None as session,
            "server": str(server),
            "requirement": requirement,
            "onlyAuthorized": bool(only_authorized),
            **more,
        } if not more:
            return CursorEntry(
                int(cursor_id),
                _read_name(owner),
                namespace,
                session,
                server,
                _read_requirement(requirement, MAX_NESTING),
                only_authorized,
            )
    raise ValueError("no cursor")


def _name_document(name: UserName | None) -> list[str] | None:
    return None if name is None else list(name)


def _read_name(document: object) -> UserName | None:
    match document:
        case None:
            return None
        case [str(user), str(db)]:
            return UserName(user, db)
    raise ValueError("no name of a user")


def _requirement_document(requirement: Requirement) -> dict[str, Any]:
    match requirement:
        case Privilege(resource, actions):
            return {
                "on": [int(resource.match_type), resource.db, resource.collection],
                "actions": sorted(map(str, actions)),
            }
        case AllOf(parts):
            return {"allOf": [_requirement_document(part) for part in parts]}
        case AnyOf(parts):
            return {"anyOf": [_requirement_document(part) for part in parts]}
        case NotHeld(part):
            return {"notHeld": _requirement_document(part)}
        case AnyActionInDatabase(db):
            return {"anyActionIn": db}


def _read_requirement(document: object, levels: int) -> Requirement:
    if not levels or not isinstance(document, dict):
        raise ValueError("no requirement")
    match document:
        case {"on": [int(kind), str(db), str(collection)], "actions": [*actions]} if len(document) == 2:
            if not all(isinstance(action, str) for action in actions):
                raise ValueError("no actions")
            return Privilege(ResourcePattern(MatchType(kind), db, collection), frozenset(actions))
        case {"allOf": [*parts]} if len(document) == 1:
            return AllOf(tuple(_read_requirement(part, levels - 1) for part in parts))
        case {"anyOf": [*parts]} if len(document) == 1:
            return AnyOf(tuple(_read_requirement(part, levels - 1) for part in parts))
        case {"notHeld": part} if len(document) == 1:
            return NotHeld(_read_requirement(part, levels - 1))
        case {"anyActionIn": str(db)} if len(document) == 1:
            return AnyActionInDatabase(db)
    raise ValueError("no requirement")
