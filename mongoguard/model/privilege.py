"""Privileges, and requirements built from them.

In: a resource pattern and action names. Out: hashable values. Must not know users, roles or commands.

A command's needs are a `Requirement`: one `Privilege`, or an `AllOf`, `AnyOf`, `NotHeld`, `AnyActionInDatabase` of
them. The combinators are classes that never compare equal to each other, because decisions are cached by requirement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from mongoguard.model.resource_pattern import ResourcePattern

__all__ = [
    "NOTHING",
    "AllOf",
    "AnyActionInDatabase",
    "AnyOf",
    "NotHeld",
    "Privilege",
    "Requirement",
]


class Privilege(NamedTuple):
    """Actions on one resource. As a requirement: every action must be granted by some pattern that matches."""

    resource: ResourcePattern
    actions: frozenset[str]

    def to_document(self) -> dict[str, object]:
        """`{resource, actions}` as usersInfo prints it, actions sorted."""
        return {"resource": self.resource.to_document(), "actions": sorted(self.actions)}


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part must hold. `AllOf(())` holds for everybody."""

    parts: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part must hold. `AnyOf(())` holds for nobody."""

    parts: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class NotHeld:
    """Holds when the user does *not* hold `part`: mongod's measured non-monotonic rules (views, renameCollection)."""

    part: Requirement


@dataclass(frozen=True, slots=True)
class AnyActionInDatabase:
    """Holds when any privilege on anything that could live in `db` is held (listCollections nameOnly)."""

    db: str


Requirement: TypeAlias = Privilege | AllOf | AnyOf | NotHeld | AnyActionInDatabase

NOTHING = AllOf(())
"""Needs no privilege: any logged-in user may."""
