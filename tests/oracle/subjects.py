"""Subjects: the users in whose name every case is tried.

In: nothing but tables. Out: `Subject`s, each with the roles and privileges that its user gets on both sides.
Which cases a subject is worth trying with is said by `plan.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mongoguard.authz.builtin_roles import ADMIN_ONLY_ROLE_NAMES, BUILTIN_ROLE_NAMES
from mongoguard.model.action_type import ACTIONS_AFTER_6_0, ActionType

__all__ = [
    "KNOWN_ACTIONS",
    "NOBODY",
    "RESOURCES",
    "Subject",
    "built_in_role_subjects",
    "hand_made_subjects",
    "single_privilege_subject",
]

Privilege = Mapping[str, Any]
"""`{resource, actions}` as a role document holds it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A user of database admin with these direct roles; `privileges` become a role of the user's name."""

    name: str
    roles: tuple[tuple[str, str], ...] = ()
    privileges: tuple[Privilege, ...] = field(default=(), hash=False)
    logged_in: bool = True

    @property
    def direct_roles(self) -> tuple[tuple[str, str], ...]:
        """Roles of the user document: (role, db)."""
        return (*self.roles, (self.name, "admin")) if self.privileges else self.roles


KNOWN_ACTIONS = frozenset(str(action) for action in frozenset(ActionType) - ACTIONS_AFTER_6_0)
"""A 6.0.5 server lets nobody log in whose role names another action."""

NOBODY = Subject("(nobody)", logged_in=False)
"""A connection that never logs in."""

RESOURCES: Mapping[str, Privilege] = {
    "cluster": {"cluster": True},
    "any": {"anyResource": True},
    "normal": {"db": "", "collection": ""},
    "t": {"db": "t", "collection": ""},
    "t.c": {"db": "t", "collection": "c"},
    "*.c": {"db": "", "collection": "c"},
    "t.o": {"db": "t", "collection": "o"},
    "t2": {"db": "t2", "collection": ""},
    "admin": {"db": "admin", "collection": ""},
    "config": {"db": "config", "collection": ""},
    "local": {"db": "local", "collection": ""},
    "t.system.js": {"db": "t", "collection": "system.js"},
    "t.system.profile": {"db": "t", "collection": "system.profile"},
    "t buckets": {"db": "t", "system_buckets": ""},
    "buckets of ts": {"system_buckets": "ts"},
    "t buckets of ts": {"db": "t", "system_buckets": "ts"},
    "all buckets": {"db": "", "system_buckets": ""},
}
"""One resource of each kind, and the databases with rules of their own."""


def built_in_role_subjects() -> Iterator[Subject]:
    """Every built-in role: the six of two databases, all twenty of admin."""
    for db in ("t", "t2"):
        for role in sorted(BUILTIN_ROLE_NAMES):
            yield Subject(f"{role}@{db}", ((role, db),))
    for role in sorted(BUILTIN_ROLE_NAMES | ADMIN_ONLY_ROLE_NAMES):
        yield Subject(f"{role}@admin", ((role, "admin"),))


def single_privilege_subject(action: str, resource: str) -> Subject:
    """One action on one resource of `RESOURCES`."""
    privilege = {"resource": RESOURCES[resource], "actions": [action]}
    return Subject(f"only {action} on {resource}", (), (privilege,))


def _subject(name: str, *privileges: tuple[str, str], roles: Sequence[tuple[str, str]] = ()) -> Subject:
    documents = tuple(
        {"resource": RESOURCES[resource], "actions": actions.split()} for resource, actions in privileges
    )
    return Subject(name, tuple(roles), documents)


def hand_made_subjects() -> Iterator[Subject]:
    """Combinations that the rules speak of: non-monotonic ones, granting rights, everything but one thing."""
    yield Subject("no roles")
    yield Subject("missing role", (("gone", "admin"), ("gone", "t")))
    yield _subject("every action on t", ("t", " ".join(sorted(KNOWN_ACTIONS - {"anyAction"}))))
    yield _subject("anyAction on t", ("t", "anyAction"))
    yield _subject("anyAction on t.c", ("t.c", "anyAction"))
    yield _subject("anyAction on normal", ("normal", "anyAction"))
    yield _subject("anyAction on cluster", ("cluster", "anyAction"))
    yield _subject("views blind", ("t", "createCollection collMod insert"))
    yield _subject("views seeing", ("t.o", "find createCollection collMod"))
    yield _subject("views seeing all", ("t", "find createCollection collMod"))
    yield _subject("views seeing without c", ("t.o", "find"), ("t", "createCollection collMod"))
    yield _subject("renames", ("t", "renameCollectionSameDB"))
    yield _subject("renames seeing target", ("t", "renameCollectionSameDB"), ("t.o", "find dropCollection"))
    yield _subject("renames seeing source", ("t", "renameCollectionSameDB"), ("t.c", "find dropCollection"))
    yield _subject("renames by copy", ("t.c", "find dropCollection"), ("t.o", "insert createIndex"))
    yield _subject("renames to t2", ("t", "find dropCollection"), ("t2", "insert createIndex dropCollection"))
    yield _subject("grants on t", ("t", "createUser createRole grantRole revokeRole"))
    yield _subject("grants on t2", ("t2", "grantRole revokeRole"), ("t", "createUser createRole"))
    yield _subject("grants on admin", ("admin", "grantRole revokeRole"), ("t", "createUser createRole"))
    yield _subject("grants anywhere", ("normal", "createUser createRole grantRole revokeRole"))
    yield _subject("reads profile", ("t.system.profile", "find"))
    yield _subject("own password", ("admin", "changeOwnPassword changeOwnCustomData"))
    yield _subject("own password on t", ("t", "changeOwnPassword changeOwnCustomData"))
    yield _subject("sessions", ("cluster", "killAnySession listSessions impersonate"))
    yield _subject("kills sessions", ("cluster", "killAnySession"))
    yield _subject("impersonates", ("cluster", "impersonate"))
    yield _subject("watches t", ("t", "changeStream find"))
    yield _subject("watches all", ("normal", "changeStream find"))
    yield _subject("applies", ("cluster", "applyOps"), ("t", "insert update remove"))
    yield _subject(
        "applies with uuids", ("cluster", "applyOps useUUID forceUUID"), ("normal", "insert update remove")
    )
    yield _subject("read and more", ("t2", "find"), roles=[("read", "t"), ("clusterMonitor", "admin")])
