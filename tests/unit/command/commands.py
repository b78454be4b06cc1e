"""Commands for tests: from plain values to `Command`, and an evaluator of requirements that shares nothing with authz."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import bson

from mongoguard.command.catalog import find_row
from mongoguard.command.command import Command
from mongoguard.command.generic import generic_requirement
from mongoguard.command.requirement import requirement_of
from mongoguard.command.requires import all_of
from mongoguard.command.spec import Asker
from mongoguard.model.names import UserName
from mongoguard.model.privilege import AllOf, AnyActionInDatabase, AnyOf, NotHeld, Privilege, Requirement
from mongoguard.model.resource_pattern import ResourcePattern, search_list
from mongoguard.wire.document import Document

ALICE = Asker(UserName("alice", "shop"), frozenset({("clerk", "shop")}))


def command(
    body: Mapping[str, Any], db: str = "t", sequences: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> Command:
    """A command as the wire room would read it, `$db` last; sequences lie behind the body."""
    document = {**body, "$db": db}
    data = bson.encode(document)
    end = len(data)
    spans: dict[str, list[tuple[int, int]]] = {}
    for name, documents in (sequences or {}).items():
        spans[name] = []
        for entry in documents:
            encoded = bson.encode(entry)
            spans[name].append((len(data), len(data) + len(encoded)))
            data += encoded
    return Command(Document(data, 0, end), db, spans)


def required(
    body: Mapping[str, Any],
    db: str = "t",
    asker: Asker = ALICE,
    sequences: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Requirement:
    """Everything the command needs, its generic arguments included."""
    made = command(body, db, sequences)
    row = find_row(made.name)
    assert row is not None, made.name
    return all_of([generic_requirement(made, asker), requirement_of(row, made, asker)])


def namespace(db: str, collection: str, *actions: str) -> Privilege:
    return Privilege(ResourcePattern.for_exact_namespace(db, collection), frozenset(actions))


def database(db: str, *actions: str) -> Privilege:
    return Privilege(ResourcePattern.for_database(db), frozenset(actions))


def cluster(*actions: str) -> Privilege:
    return Privilege(ResourcePattern.for_cluster(), frozenset(actions))


def any_normal(*actions: str) -> Privilege:
    return Privilege(ResourcePattern.for_any_normal_resource(), frozenset(actions))


def allowed(requirement: Requirement, held: Iterable[Privilege]) -> bool:
    """Whether the privileges meet the requirement, told as plainly as possible."""
    grants = list(held)
    match requirement:
        case Privilege(resource, actions):
            patterns = search_list(resource)
            granted = {a for g in grants if g.resource in patterns for a in g.actions}
            return "anyAction" in granted or actions <= granted
        case AllOf(parts):
            return all(allowed(part, grants) for part in parts)
        case AnyOf(parts):
            return any(allowed(part, grants) for part in parts)
        case NotHeld(part):
            return not allowed(part, grants)
        case AnyActionInDatabase(db):
            return any(g.resource.db in ("", db) for g in grants)
