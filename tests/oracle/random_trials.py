"""Random trials, for as long as one likes: random commands, and users who hold nearly what these need.

In: a seed. Out: `Trial`s without end. A user's privileges are made from what the catalogue says that some of the
commands need: each kept or left out by chance, on a pattern that covers it or nearly does, so that both answers are
about equally likely and the edges of patterns are tried most.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from mongoguard.model.privilege import AllOf, AnyActionInDatabase, AnyOf, NotHeld, Privilege, Requirement
from mongoguard.model.resource_pattern import MatchType, ResourcePattern
from tests.oracle.cases import CASES
from tests.oracle.cases.case import Case, cases
from tests.oracle.cases.crud import EXPLAINABLE
from tests.oracle.cases.pipelines import JOINS, PLAIN, WRITES
from tests.oracle.cases.users import PRIVILEGES, ROLE_LISTS
from tests.oracle.offline import requirement_for
from tests.oracle.plan import Trial, trial_of
from tests.oracle.subjects import KNOWN_ACTIONS, NOBODY, RESOURCES, Subject

__all__ = ["random_trials"]

_COLLECTIONS = (
    "c",
    "o",
    "p",
    "vw",
    "ts",
    "missing",
    "system.js",
    "system.views",
    "system.buckets.ts",
    "systemx",
)
_DATABASES = ("t", "t", "t", "t2", "admin", "config")
_ROLES = (
    ("read", "t"),
    ("dbAdmin", "t"),
    ("userAdmin", "t2"),
    ("readWrite", "t2"),
    ("clusterMonitor", "admin"),
)
_CASES_OF_A_SUBJECT = 48
_NAMEABLE = frozenset({"", "t", "t2", "t3", "admin", "config", "local", "lists", "missing"})
"""A role that names an impossible database (`a.b`, 64 characters) keeps its holders from logging in."""
_AIMED_AT = 12
"""Commands that a subject's privileges are made for; the others are tried all the same."""
_ACTIONS = sorted(KNOWN_ACTIONS)
_RESOURCES = tuple(RESOURCES.values())


def random_trials(seed: int) -> Iterator[Trial]:
    """Trials without end, the same for the same seed."""
    chance = random.Random(seed)
    number = 0
    while True:
        number += 1
        tried = [_random_case(chance) for _ in range(_CASES_OF_A_SUBJECT)]
        subject = _subject(chance, f"random {seed}-{number}", tried[:_AIMED_AT])
        yield trial_of(subject, list({case.name: case for case in tried}.values()))


# ---- users ----------------------------------------------------------------------------------------------------------


def _subject(chance: random.Random, name: str, aims: list[Case]) -> Subject:
    privileges: list[Mapping[str, Any]] = []
    for case in aims:
        for needed in _privileges(chance, requirement_for(case, NOBODY)):
            actions = [str(a) for a in sorted(needed.actions & KNOWN_ACTIONS) if chance.random() < 0.85]
            if actions:
                privileges.append({"resource": _covering(chance, needed.resource), "actions": actions})
    privileges += [
        {"resource": chance.choice(_RESOURCES), "actions": chance.sample(_ACTIONS, 2)}
        for _ in range(chance.randrange(3))
    ]
    roles = tuple(role for role in _ROLES if chance.random() < 0.05)
    return Subject(name, roles, tuple(p for p in privileges if "anyAction" not in p["actions"]))


def _privileges(chance: random.Random, requirement: Requirement | None) -> Iterator[Privilege]:
    match requirement:
        case Privilege():
            yield requirement
        case AllOf(parts):
            for part in parts:
                yield from _privileges(chance, part)
        case AnyOf(parts):
            yield from _privileges(chance, chance.choice(parts))
        case NotHeld(part):
            if chance.random() < 0.3:
                yield from _privileges(chance, part)
        case AnyActionInDatabase(db):
            yield Privilege(ResourcePattern.for_database(db), frozenset({"find"}))
        case None:
            return


def _covering(chance: random.Random, resource: ResourcePattern) -> Mapping[str, Any]:
    """A resource document that covers the resource, or one nearby that does not."""
    if chance.random() < 0.15 or resource.db not in _NAMEABLE:
        return chance.choice(_RESOURCES)
    match resource.match_type:
        case MatchType.CLUSTER:
            return {"cluster": True}
        case MatchType.EXACT_NAMESPACE:
            db, collection = resource.db, resource.collection
            if "$" in collection:  # a pseudo-collection, which no document can name
                collection = ""
            exact = {"db": db, "collection": collection}
            wider = [
                {"db": db, "collection": ""},
                {"db": "", "collection": collection},
                {"db": "", "collection": ""},
            ]
            return chance.choice([exact, exact, *wider])
        case MatchType.DATABASE:
            whole = {"db": resource.db, "collection": ""}
            return chance.choice([whole, whole, {"db": "", "collection": ""}])
        case _:
            return chance.choice([{"db": "", "collection": ""}, {"anyResource": True}])


# ---- commands -------------------------------------------------------------------------------------------------------


def _random_case(chance: random.Random) -> Case:
    if chance.random() < 0.4:
        return chance.choice(CASES)
    make = chance.choice(_MAKERS)
    db, command = make(chance)
    (case,) = cases(db, [command])
    return case


def _stages(chance: random.Random, depth: int = 0) -> list[Any]:
    return [_stage(chance, depth) for _ in range(chance.randrange(4))]


def _stage(chance: random.Random, depth: int) -> Mapping[str, Any]:
    kind = chance.random()
    if kind < 0.35 or depth > 3:
        return chance.choice(PLAIN)
    if kind < 0.6:
        return chance.choice(JOINS)
    foreign, inner = chance.choice(_COLLECTIONS), _stages(chance, depth + 1)
    if kind < 0.75:
        return {"$lookup": {"from": foreign, "pipeline": inner, "as": "x"}}
    if kind < 0.9:
        return {"$unionWith": {"coll": foreign, "pipeline": inner}}
    return {"$facet": {"f": inner, "g": _stages(chance, depth + 1)}}


def _aggregate(chance: random.Random) -> tuple[str, Mapping[str, Any]]:
    pipeline = [{"$match": {"_id": -1}}, *_stages(chance)]
    if chance.random() < 0.3:
        pipeline.append(chance.choice(WRITES))
    command: dict[str, Any] = {"aggregate": chance.choice(_COLLECTIONS), "pipeline": pipeline, "cursor": {}}
    if chance.random() < 0.2:
        command["bypassDocumentValidation"] = chance.choice([True, False, 1, 0])
    if chance.random() < 0.2 and "$unionWith" not in repr(pipeline):
        # mongod 6.0.5 ends with a segmentation fault when it explains some unions
        return "t", {"explain": command}
    return chance.choice(_DATABASES[:4]), command


def _view(chance: random.Random) -> tuple[str, Mapping[str, Any]]:
    definition = {"viewOn": chance.choice(_COLLECTIONS), "pipeline": _stages(chance)}
    # A view with a union, and the next explain ends mongod: c is a collection, and stays one.
    name = "c" if "$unionWith" in repr(definition) else chance.choice(("c", "o", "vw"))
    return "t", {chance.choice(["create", "collMod"]): name, **definition}


def _rename(chance: random.Random) -> tuple[str, Mapping[str, Any]]:
    source = f"{chance.choice(_DATABASES)}.{chance.choice(('missing', 'system.missing', 'gone'))}"
    target = f"{chance.choice(_DATABASES)}.{chance.choice(('o', 'p', 'missing', 'system.js'))}"
    command: dict[str, Any] = {"renameCollection": source, "to": target}
    if chance.random() < 0.5:
        command["dropTarget"] = chance.choice([True, False])
    return "admin", command


def _write(chance: random.Random) -> tuple[str, Mapping[str, Any]]:
    collection = chance.choice(_COLLECTIONS)
    statements = [
        {"q": {"_id": -1}, "u": {"$set": {"a": 1}}, **chance.choice([{}, {"upsert": False}, {"multi": True}])}
        for _ in range(chance.randrange(1, 4))
    ]
    if chance.random() < 0.3:
        statements.append({"q": {"_id": "up"}, "u": {"$set": {"a": 1}}, "upsert": True})
    commands: list[Mapping[str, Any]] = [
        {"update": collection, "updates": statements},
        {"delete": collection, "deletes": [{"q": {"_id": -1}, "limit": 0}]},
        {"find": collection, "limit": 1, "singleBatch": True},
        {"count": collection, "query": {"_id": -1}},
        chance.choice(EXPLAINABLE),
    ]
    command = chance.choice(commands)
    if command.keys() & {"update", "delete", "findAndModify"} and chance.random() < 0.3:
        command = {**command, "bypassDocumentValidation": chance.choice([True, False])}
    return chance.choice(_DATABASES[:4]), command


def _management(chance: random.Random) -> tuple[str, Mapping[str, Any]]:
    db = chance.choice(("t", "t2", "admin"))
    roles, privileges = chance.choice(ROLE_LISTS), chance.choice(PRIVILEGES)
    more: Mapping[str, Any] = {"authenticationRestrictions": []} if chance.random() < 0.2 else {}
    commands: list[Mapping[str, Any]] = [
        {"updateUser": "missing", "roles": roles, **more},
        {"updateUser": "missing", "customData": {}, **more},
        {"createRole": "read", "roles": roles, "privileges": privileges, **more},
        {"updateRole": "missing", "roles": roles, "privileges": privileges, **more},
        {"grantRolesToUser": "missing", "roles": roles},
        {"revokeRolesFromRole": "missing", "roles": roles},
        {"grantPrivilegesToRole": "missing", "privileges": privileges},
        {"usersInfo": [{"user": "zu", "db": chance.choice(("t", "t2"))}, "zv"]},
        {"rolesInfo": ["read", {"role": "dbOwner", "db": chance.choice(("t", "t2"))}]},
    ]
    return db, chance.choice(commands)


_MAKERS = (_aggregate, _aggregate, _view, _rename, _write, _management)
