"""Decisions and their reasons; what listDatabases and listCollections showed was measured on mongod 6.0.5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mongoguard.authz.authorization_session import (
    MAX_DECISIONS,
    MAX_KEPT_WEIGHT,
    AuthorizationSession,
    Decision,
    Grant,
)
from mongoguard.authz.builtin_roles import builtin_role
from mongoguard.model.documents import parse_privileges, parse_resource
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.privilege import (
    NOTHING,
    AllOf,
    AnyActionInDatabase,
    AnyOf,
    NotHeld,
    Privilege,
    Requirement,
)
from mongoguard.model.resource_pattern import BUCKETS_PREFIX, CLUSTER, ResourcePattern
from mongoguard.model.user import User

FIXTURES = Path(__file__).parents[3] / "fixtures/mongod/6.0.5"
TABLE = json.loads((FIXTURES / "resource_match_truth_table.json").read_text())
C = ResourcePattern.for_exact_namespace("t", "c")
D = ResourcePattern.for_exact_namespace("t", "d")
T = ResourcePattern.for_database("t")
ANY_NORMAL = ResourcePattern.for_any_normal_resource()


def need(resource: ResourcePattern, *actions: str) -> Privilege:
    return Privilege(resource, frozenset(actions))


def session(*privileges: Privilege) -> AuthorizationSession:
    return AuthorizationSession(User(UserName("alice", "admin"), privileges=dict(privileges)))


def holding(resource: dict[str, Any], *actions: str) -> AuthorizationSession:
    return session(*parse_privileges([{"resource": resource, "actions": list(actions)}]))


NOBODY = AuthorizationSession(None)


@pytest.mark.parametrize("row", TABLE["rows"], ids=lambda row: f"{row['db']}.{row['collection']}")
def test_find_is_decided_as_mongod_decided_it(row: dict[str, Any]) -> None:
    db, collection = row["db"], row["collection"]
    values = {"DB": db, "COLL": collection, "BK": collection.removeprefix(BUCKETS_PREFIX)}
    required = need(ResourcePattern.for_exact_namespace(db, collection), "find")
    for pattern, verdict in zip(TABLE["patterns"], row["results"], strict=True):
        resource = {k: values.get(v, v) if isinstance(v, str) else v for k, v in pattern.items()}
        if verdict != "-":
            assert holding(resource, "find").authorize(required).allowed is (verdict == "Y"), resource


def test_a_held_privilege_is_granted_by_its_pattern() -> None:
    decision = session(need(C, "find", "insert")).authorize(need(C, "find"))
    assert decision == Decision(True, (), (Grant(need(C, "find"), (C,)),))


def test_a_privilege_that_is_not_held_is_missing() -> None:
    assert session(need(D, "find")).authorize(need(C, "find")) == Decision(False, (need(C, "find"),))


def test_actions_on_several_patterns_add_up() -> None:
    alice = session(need(T, "find"), need(C, "insert"), need(ANY_NORMAL, "update"))
    decision = alice.authorize(need(C, "find", "insert", "update"))
    assert decision.allowed
    assert set(decision.granted_by[0].patterns) == {T, C, ANY_NORMAL}


def test_a_refusal_tells_what_was_held_and_what_lacks() -> None:
    decision = session(need(T, "find")).authorize(need(C, "find", "remove"))
    assert decision == Decision(False, (need(C, "remove"),), (Grant(need(C, "find"), (T,)),))


def test_a_pattern_that_adds_nothing_is_not_named() -> None:
    decision = session(need(ANY_NORMAL, "find"), need(T, "find"), need(C, "insert")).authorize(
        need(C, "find", "insert")
    )
    assert decision.granted_by[0].patterns == (ANY_NORMAL, C)


def test_any_action_grants_everything_on_its_pattern_and_nothing_elsewhere() -> None:
    alice = session(need(T, "anyAction"))
    assert alice.authorize(need(C, "find", "collMod")).allowed
    assert not alice.authorize(need(CLUSTER, "top")).allowed
    assert not alice.authorize(need(ResourcePattern.for_exact_namespace("t", "system.js"), "find")).allowed


def test_only_any_action_covers_a_demand_for_every_action() -> None:
    every = need(ResourcePattern.for_any_resource(), "anyAction")
    assert session(every).authorize(every).allowed
    root = builtin_role(RoleName("root", "admin"))
    assert root is not None
    assert not session(*root.privileges).authorize(every).allowed


def test_an_empty_set_of_held_actions_grants_nothing() -> None:
    alice = session(Privilege(C, frozenset()))
    assert not alice.authorize(need(C, "find")).allowed
    assert not alice.any_action_on(C)
    assert not alice.may_see_database("t")


def test_nothing_is_needed_of_any_logged_in_user_but_nobody_is_allowed_nothing() -> None:
    for requirement in (NOTHING, Privilege(CLUSTER, frozenset()), NotHeld(need(C, "find"))):
        assert session().authorize(requirement) == Decision(True)
        assert NOBODY.authorize(requirement) == Decision(False)


def test_nobody_lacks_what_is_needed() -> None:
    assert NOBODY.authorize(need(C, "find")) == Decision(False, (need(C, "find"),))
    assert not NOBODY.holds(Privilege(CLUSTER, frozenset()))
    assert not NOBODY.any_action_on(C)
    assert not NOBODY.may_see_database("t")


def test_all_of_needs_every_part_and_merges_what_is_missing() -> None:
    both = AllOf((need(C, "find"), need(D, "find"), need(C, "insert")))
    assert session(need(T, "find", "insert")).authorize(both).allowed
    decision = session(need(D, "find")).authorize(both)
    assert not decision.allowed
    assert decision.missing == (need(C, "find", "insert"),)
    assert decision.granted_by == (Grant(need(D, "find"), (D,)),)


def test_any_of_takes_the_first_part_that_holds() -> None:
    either = AnyOf((need(C, "createCollection"), need(C, "insert")))
    decision = session(need(C, "insert")).authorize(either)
    assert decision == Decision(True, (), (Grant(need(C, "insert"), (C,)),))


def test_any_of_that_fails_lacks_the_part_with_the_fewest_missing_actions() -> None:
    either = AnyOf((need(C, "find", "insert"), need(D, "find"), need(D, "remove")))
    assert session().authorize(either).missing == (need(D, "find"),)
    assert session(need(C, "find")).authorize(either).missing == (need(C, "insert"),)


def test_any_of_nothing_holds_for_nobody_and_lacks_nothing_that_could_be_granted() -> None:
    assert session(need(C, "find")).authorize(AnyOf(())) == Decision(False)
    assert session().authorize(AnyOf((AnyOf(()), need(C, "find")))).missing == (need(C, "find"),)
    assert session().authorize(AllOf((AnyOf(()), need(C, "find")))) == Decision(False)


def test_what_must_not_be_held_is_in_excess() -> None:
    held = session(need(T, "find")).authorize(NotHeld(need(C, "find")))
    assert held == Decision(False, (), (Grant(need(C, "find"), (T,)),), (need(C, "find"),))
    assert session().authorize(NotHeld(need(C, "find"))) == Decision(True)


def test_not_holding_all_is_not_holding_one_of_them() -> None:
    both = NotHeld(AllOf((need(C, "find"), need(D, "find"))))
    assert session(need(C, "find")).authorize(both).allowed
    decision = session(need(T, "find")).authorize(both)
    assert not decision.allowed
    assert decision.excess == (need(C, "find"),)


def test_not_holding_any_is_holding_none_of_them() -> None:
    neither = NotHeld(AnyOf((need(C, "find"), need(D, "find"))))
    assert session().authorize(neither).allowed
    decision = session(need(T, "find")).authorize(neither)
    assert decision.excess == (need(C, "find"), need(D, "find"))


def test_not_twice_is_the_requirement_itself() -> None:
    twice = NotHeld(NotHeld(need(C, "find")))
    assert session(need(C, "find")).authorize(twice).allowed
    assert session().authorize(twice).missing == (need(C, "find"),)


def test_what_everyone_holds_can_not_be_not_held() -> None:
    assert session().authorize(NotHeld(Privilege(C, frozenset()))) == Decision(False)
    assert session().authorize(NotHeld(NOTHING)) == Decision(False)


def test_the_rule_of_rename_collection_tells_both_ways_out() -> None:
    rule = AnyOf((need(C, "find"), NotHeld(need(D, "find"))))
    assert session().authorize(rule).allowed
    assert session(need(T, "find")).authorize(rule).allowed
    decision = session(need(D, "find")).authorize(rule)
    assert not decision.allowed
    assert decision.missing == (need(C, "find"),)


def test_any_action_in_a_database_is_granted_by_whatever_applies_there() -> None:
    decision = session(need(C, "collMod"), need(CLUSTER, "top")).authorize(AnyActionInDatabase("t"))
    assert decision == Decision(True, (), (Grant(Privilege(T, frozenset()), (C,)),))
    refused = session(need(CLUSTER, "top")).authorize(AnyActionInDatabase("t"))
    assert refused == Decision(False, (need(T, "listCollections"),))


def test_not_holding_any_action_in_a_database() -> None:
    requirement = NotHeld(AnyActionInDatabase("t"))
    assert session(need(CLUSTER, "top")).authorize(requirement).allowed
    assert session(need(C, "collMod")).authorize(requirement).excess == (need(C, "collMod"),)


@pytest.mark.parametrize(
    ("resource", "seen"),
    [
        ({"db": "t", "collection": "c"}, {"t"}),
        ({"db": "t", "collection": "system.js"}, {"t"}),
        ({"db": "t", "collection": ""}, {"t"}),
        ({"db": "", "collection": "c"}, {"t", "u", "admin", "local", "config"}),
        ({"db": "", "collection": ""}, {"t", "u", "admin"}),
        ({"anyResource": True}, {"t", "u", "admin", "local", "config"}),
        ({"cluster": True}, set()),
        ({"db": "t", "system_buckets": "x"}, {"t"}),
        ({"db": "t", "system_buckets": ""}, {"t"}),
        ({"system_buckets": "x"}, {"t", "u", "admin", "local", "config"}),
        ({"system_buckets": ""}, {"t", "u", "admin", "local", "config"}),
        ({"db": "local", "collection": ""}, {"local"}),
    ],
)
def test_the_databases_that_a_grant_lets_see(resource: dict[str, Any], seen: set[str]) -> None:
    alice = holding(resource, "shutdown")
    assert {db for db in ("t", "u", "admin", "local", "config") if alice.may_see_database(db)} == seen


@pytest.mark.parametrize(
    ("resource", "seen"),
    [
        ({"db": "t", "collection": ""}, {"c", "d"}),
        ({"db": "t", "collection": "c"}, {"c"}),
        ({"db": "", "collection": "system.js"}, {"system.js"}),
        ({"anyResource": True}, {"c", "d", "system.js"}),
        ({"db": "t", "system_buckets": ""}, set()),
    ],
)
def test_the_collections_that_a_grant_lets_see(resource: dict[str, Any], seen: set[str]) -> None:
    alice = holding(resource, "shutdown")
    names = ("c", "d", "system.js")
    assert {n for n in names if alice.any_action_on(ResourcePattern.for_exact_namespace("t", n))} == seen


def test_holds_is_the_verdict_without_reasons() -> None:
    alice = session(need(T, "find"))
    assert alice.holds(need(C, "find"))
    assert not alice.holds(need(C, "find", "insert"))


def test_an_equal_requirement_gets_the_same_decision_object() -> None:
    alice = session(need(T, "find"))
    assert alice.authorize(need(C, "find")) is alice.authorize(need(C, "find"))


def test_a_full_cache_is_cleared_and_decisions_stay_the_same() -> None:
    alice = session(need(C, "find"))
    first = alice.authorize(need(C, "find"))
    for number in range(MAX_DECISIONS):
        alice.authorize(need(ResourcePattern.for_exact_namespace("t", f"c{number}"), "find"))
    again = alice.authorize(need(C, "find"))
    assert again == first
    assert again is not first


@pytest.mark.parametrize("wrap", [lambda p: p, NotHeld, lambda p: AllOf((p,)), lambda p: AnyOf((p,))])
def test_a_requirement_too_large_to_keep_is_decided_each_time(wrap: Any) -> None:
    requirement = wrap(need(ResourcePattern.for_exact_namespace("t", "c" * MAX_KEPT_WEIGHT), "find"))
    alice = session(need(C, "find"))
    assert alice.authorize(requirement) == alice.authorize(requirement)
    assert alice.authorize(requirement).allowed is (wrap is NotHeld)


def test_a_long_database_name_is_not_kept() -> None:
    alice = session(need(T, "find"))
    long = AnyActionInDatabase("d" * MAX_KEPT_WEIGHT)
    assert alice.authorize(long) is not alice.authorize(long)
    short = AnyActionInDatabase("d")
    assert alice.authorize(short) is alice.authorize(short)


def test_the_resource_of_a_bucket_grant_is_named_in_the_reasons() -> None:
    pattern = parse_resource({"db": "t", "system_buckets": "x"})
    decision = session(need(pattern, "find")).authorize(
        need(ResourcePattern.for_exact_namespace("t", "system.buckets.x"), "find")
    )
    assert decision.granted_by[0].patterns == (pattern,)


def test_a_privilege_on_the_cluster_lets_see_no_database_not_even_one_without_a_name() -> None:
    alice = session(need(CLUSTER, "top"))
    assert not alice.may_see_database("")
    assert not alice.authorize(AnyActionInDatabase("")).allowed


def test_a_hopeless_part_still_tells_what_was_held() -> None:
    decision = session(need(C, "find")).authorize(AllOf((need(C, "find"), AnyOf(()))))
    assert decision == Decision(False, granted_by=(Grant(need(C, "find"), (C,)),))


def test_a_session_of_nobody_lacks_what_is_asked() -> None:
    assert AuthorizationSession(None).authorize(need(C, "find")) == Decision(False, (need(C, "find"),))


def _weighing(weight: int) -> Privilege:
    """One part weighs 16, and each character of its names 1."""
    return need(ResourcePattern.for_exact_namespace("d" * 100, "c" * (weight - 116)), "find")


@pytest.mark.parametrize(
    ("heaviest", "too_heavy"),
    [
        (_weighing(MAX_KEPT_WEIGHT), _weighing(MAX_KEPT_WEIGHT + 1)),
        (NotHeld(_weighing(MAX_KEPT_WEIGHT - 16)), NotHeld(_weighing(MAX_KEPT_WEIGHT - 15))),
        (
            AllOf((_weighing(1000), _weighing(MAX_KEPT_WEIGHT - 1016))),
            AllOf((_weighing(1000), _weighing(MAX_KEPT_WEIGHT - 1015))),
        ),
        (
            AnyOf((_weighing(1000), _weighing(MAX_KEPT_WEIGHT - 1016))),
            AnyOf((_weighing(1000), _weighing(MAX_KEPT_WEIGHT - 1015))),
        ),
        (
            AnyActionInDatabase("d" * (MAX_KEPT_WEIGHT - 16)),
            AnyActionInDatabase("d" * (MAX_KEPT_WEIGHT - 15)),
        ),
    ],
)
def test_a_requirement_is_kept_up_to_its_weight(heaviest: Requirement, too_heavy: Requirement) -> None:
    alice = session()
    assert alice.authorize(heaviest) is alice.authorize(heaviest)
    first = alice.authorize(too_heavy)
    assert len(alice._decisions) == 1
    assert alice.authorize(too_heavy) == first
