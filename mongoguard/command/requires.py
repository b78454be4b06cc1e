"""Building blocks of requirements, and the shapes that most rows share.

In: action names. Out: `Requires` functions for rows whose need is "these actions on the collection (database, cluster)
that the command names". Must not know any particular command.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from mongoguard.command.command import Command, check_collection
from mongoguard.command.spec import Asker, Requires
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.action_type import ActionType
from mongoguard.model.names import Namespace
from mongoguard.model.privilege import NOTHING, AllOf, Privilege, Requirement
from mongoguard.model.resource_pattern import CLUSTER, MatchType, ResourcePattern

__all__ = [
    "ANY_NORMAL",
    "INTERNAL",
    "all_of",
    "full_namespace",
    "needs",
    "on_cluster",
    "on_collection",
    "on_database",
    "on_namespace_string",
    "privilege_on",
]

ANY_NORMAL = ResourcePattern.for_any_normal_resource()
INTERNAL = Privilege(CLUSTER, frozenset({ActionType.INTERNAL}))
"""What mongod asks of its own kind; no built-in role but `__system` holds it."""


def needs(*actions: str) -> frozenset[str]:
    """A set of actions, made once at import."""
    return frozenset(actions)


@lru_cache(maxsize=8192)
def privilege_on(db: str, collection: str, actions: frozenset[str]) -> Privilege:
    """Those actions on exactly that namespace."""
    return Privilege(ResourcePattern(MatchType.EXACT_NAMESPACE, db, collection), actions)


def all_of(parts: Iterable[Requirement]) -> Requirement:
    """Every part, flattened; privileges on one resource become one, so that equal needs compare equal."""
    actions: dict[ResourcePattern, frozenset[str]] = {}
    others: dict[Requirement, None] = {}
    stack = list(parts)
    stack.reverse()  # taken from its end: clients choose how many parts there are, so no part may cost more than one
    while stack:
        part = stack.pop()
        if isinstance(part, Privilege):
            actions[part.resource] = actions.get(part.resource, frozenset()) | part.actions
        elif isinstance(part, AllOf):
            stack.extend(reversed(part.parts))
        else:
            others[part] = None
    merged = (*(Privilege(resource, held) for resource, held in actions.items()), *others)
    if not merged:
        return NOTHING
    return merged[0] if len(merged) == 1 else AllOf(merged)


def on_collection(*actions: str) -> Requires:
    """The actions on the collection that the command field names on the command's database."""
    needed = needs(*actions)

    def requires(command: Command, _asker: Asker) -> Requirement:
        return privilege_on(command.db, command.collection(), needed)

    return requires


def on_database(*actions: str) -> Requires:
    """The actions on the command's database."""
    needed = needs(*actions)

    def requires(command: Command, _asker: Asker) -> Requirement:
        return Privilege(ResourcePattern.for_database(command.db), needed)

    return requires


def on_cluster(*actions: str) -> Requires:
    """The actions on the cluster resource."""
    needed = Privilege(CLUSTER, needs(*actions))

    def requires(_command: Command, _asker: Asker) -> Requirement:
        return needed

    return requires


def full_namespace(text: str) -> Namespace:
    """A namespace written as `db.collection`, checked as mongod checks it (73)."""
    namespace = Namespace.parse(text)
    if not namespace.db or not namespace.collection or "\0" in namespace.db:
        raise CommandError(ErrorCode.INVALID_NAMESPACE, f"Invalid namespace specified '{text}'")
    check_collection(namespace.db, namespace.collection)
    return namespace


def on_namespace_string(*actions: str) -> Requires:
    """The actions on the namespace `db.collection` that the command field spells out."""
    needed = needs(*actions)

    def requires(command: Command, _asker: Asker) -> Requirement:
        namespace = full_namespace(command.target_string())
        return privilege_on(namespace.db, namespace.collection, needed)

    return requires
