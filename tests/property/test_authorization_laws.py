"""Laws of authorisation: monotone without NotHeld, conjunctive, Boolean, independent of the cache; and no document or
file makes the parsers raise anything but their own errors."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mongoguard.authz.authorization_session import AuthorizationSession
from mongoguard.config.user_file import parse_user_file
from mongoguard.errors import CommandError, ConfigError
from mongoguard.model.documents import (
    parse_credentials,
    parse_privileges,
    parse_resource,
    parse_restrictions,
    parse_role_name,
    parse_user_name,
    role_from_directory,
    user_from_directory,
)
from mongoguard.model.names import UserName
from mongoguard.model.privilege import AllOf, AnyActionInDatabase, AnyOf, NotHeld, Privilege, Requirement
from mongoguard.model.resource_pattern import MatchType, ResourcePattern, search_list
from mongoguard.model.user import User

DBS = ("t", "u", "local", "config", "admin")
COLLECTIONS = ("c", "system.js", "system.buckets.x", "system.buckets.", "replset.x", "x")
ACTIONS = ("find", "insert", "remove", "anyAction")

namespaces = st.builds(
    ResourcePattern.for_exact_namespace, st.sampled_from(DBS), st.sampled_from(COLLECTIONS)
)
targets = st.one_of(
    namespaces,
    st.builds(ResourcePattern.for_database, st.sampled_from(DBS)),
    st.just(ResourcePattern.for_cluster()),
)
suffixes = st.sampled_from(("x", "c"))
patterns = st.one_of(
    targets,
    st.just(ResourcePattern.for_any_resource()),
    st.just(ResourcePattern.for_any_normal_resource()),
    st.builds(ResourcePattern.for_collection, st.sampled_from(COLLECTIONS)),
    st.builds(ResourcePattern, st.just(MatchType.EXACT_BUCKETS), st.sampled_from(DBS), suffixes),
    st.builds(ResourcePattern, st.just(MatchType.ANY_BUCKETS_IN_DB), st.sampled_from(DBS), st.just("")),
    st.builds(ResourcePattern, st.just(MatchType.BUCKETS_IN_ANY_DB), st.just(""), suffixes),
    st.just(ResourcePattern(MatchType.ANY_BUCKETS)),
)
action_sets = st.frozensets(st.sampled_from(ACTIONS), max_size=3)
held = st.dictionaries(patterns, action_sets, max_size=6)
privileges = st.builds(Privilege, targets, st.frozensets(st.sampled_from(ACTIONS[:3]), max_size=3))
leaves: st.SearchStrategy[Requirement] = st.one_of(
    privileges, st.builds(AnyActionInDatabase, st.sampled_from(DBS))
)


def combined(parts: st.SearchStrategy[Requirement]) -> st.SearchStrategy[Requirement]:
    tuples = st.lists(parts, max_size=3).map(tuple)
    return st.one_of(st.builds(AllOf, tuples), st.builds(AnyOf, tuples))


monotone = st.recursive(leaves, combined, max_leaves=6)
requirements = st.recursive(leaves, lambda p: st.one_of(combined(p), st.builds(NotHeld, p)), max_leaves=6)

Held = dict[ResourcePattern, frozenset[str]]


def session(rights: Held) -> AuthorizationSession:
    return AuthorizationSession(User(UserName("alice", "admin"), privileges=rights))


def allowed(rights: Held, requirement: Requirement) -> bool:
    return session(rights).authorize(requirement).allowed


def united(one: Held, other: Held) -> Held:
    return {p: one.get(p, frozenset()) | other.get(p, frozenset()) for p in {*one, *other}}


def naively_matches(pattern: ResourcePattern, target: ResourcePattern) -> bool:
    """The manual's sentences, one by one, without a search list."""
    kind, db, collection = target
    normal = not collection.startswith("system.") and not (
        db == "local" and collection.startswith("replset.")
    )
    is_namespace, is_database = kind == MatchType.EXACT_NAMESPACE, kind == MatchType.DATABASE
    bucket = collection[len("system.buckets.") :] if collection.startswith("system.buckets.") else ""
    return {
        MatchType.ANY_RESOURCE: True,
        MatchType.CLUSTER: kind == MatchType.CLUSTER,
        MatchType.ANY_NORMAL: (is_database or (is_namespace and normal)) and db not in ("local", "config"),
        MatchType.DATABASE: (is_database or (is_namespace and normal)) and db == pattern.db,
        MatchType.COLLECTION: is_namespace and collection == pattern.collection,
        MatchType.EXACT_NAMESPACE: is_namespace and (db, collection) == (pattern.db, pattern.collection),
        MatchType.EXACT_BUCKETS: bucket != "" and (db, bucket) == (pattern.db, pattern.collection),
        MatchType.ANY_BUCKETS_IN_DB: bucket != "" and db == pattern.db,
        MatchType.BUCKETS_IN_ANY_DB: bucket != "" and bucket == pattern.collection,
        MatchType.ANY_BUCKETS: bucket != "",
    }[pattern.match_type]


@given(patterns, targets)
def test_the_search_list_is_the_set_of_patterns_that_match(
    pattern: ResourcePattern, target: ResourcePattern
) -> None:
    assert (pattern in search_list(target)) is naively_matches(pattern, target)


@given(held, privileges)
def test_a_privilege_holds_when_each_action_is_held_on_some_matching_pattern(
    rights: Held, needed: Privilege
) -> None:
    matching = [actions for p, actions in rights.items() if naively_matches(p, needed.resource)]
    naive = all(any(a in actions or "anyAction" in actions for actions in matching) for a in needed.actions)
    assert allowed(rights, needed) is naive
    assert session(rights).holds(needed) is naive


@given(held, held, monotone)
def test_more_rights_never_allow_less(rights: Held, more: Held, requirement: Requirement) -> None:
    assert allowed(united(rights, more), requirement) or not allowed(rights, requirement)


@given(held, st.lists(privileges, max_size=4))
def test_a_set_of_privileges_holds_when_each_of_them_does(rights: Held, needed: list[Privilege]) -> None:
    assert allowed(rights, AllOf(tuple(needed))) is all(allowed(rights, p) for p in needed)


@given(held, st.lists(requirements, max_size=3))
def test_all_of_and_any_of_are_all_and_any(rights: Held, parts: list[Requirement]) -> None:
    verdicts = [allowed(rights, part) for part in parts]
    assert allowed(rights, AllOf(tuple(parts))) is all(verdicts)
    assert allowed(rights, AnyOf(tuple(parts))) is any(verdicts)


@given(held, requirements)
def test_not_held_is_the_opposite(rights: Held, part: Requirement) -> None:
    assert allowed(rights, NotHeld(part)) is not allowed(rights, part)


@given(held, st.lists(requirements, max_size=4), requirements)
def test_a_kept_decision_equals_a_fresh_one(
    rights: Held, before: list[Requirement], asked: Requirement
) -> None:
    used = session(rights)
    for requirement in (*before, asked):
        used.authorize(requirement)
    assert used.authorize(asked) == session(rights).authorize(asked)


@given(held, monotone)
def test_granting_what_is_missing_is_enough(rights: Held, requirement: Requirement) -> None:
    decision = session(rights).authorize(requirement)
    if decision.missing:
        assert allowed(united(rights, dict(decision.missing)), requirement)


@given(held, requirements)
def test_an_allowed_decision_lacks_nothing_and_has_nothing_in_excess(
    rights: Held, requirement: Requirement
) -> None:
    decision = session(rights).authorize(requirement)
    if decision.allowed:
        assert (decision.missing, decision.excess) == ((), ())


@given(requirements)
def test_nobody_is_allowed_nothing(requirement: Requirement) -> None:
    assert not AuthorizationSession(None).authorize(requirement).allowed


KEYS = (
    *(
        "db",
        "collection",
        "cluster",
        "anyResource",
        "system_buckets",
        "resource",
        "actions",
        "user",
        "role",
        "roles",
    ),
    *(
        "clientSource",
        "serverAddress",
        "SCRAM-SHA-1",
        "salt",
        "iterationCount",
        "userId",
        "credentials",
        "privileges",
    ),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=16),
    st.text(max_size=8),
    st.sampled_from(KEYS),
)
values = st.recursive(
    scalars,
    lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(st.sampled_from(KEYS), v, max_size=4)),
    max_leaves=8,
)
resources = st.dictionaries(
    st.sampled_from(KEYS[:5]), st.one_of(st.just(""), st.just(True), st.text(max_size=4)), max_size=3
)


@given(values)
@pytest.mark.parametrize(
    "parse",
    [
        parse_resource,
        parse_privileges,
        lambda value: parse_privileges(value, newer_upstream=True),
        parse_restrictions,
        parse_credentials,
        lambda value: parse_role_name(value, "t"),
        lambda value: parse_user_name(value, "t"),
        user_from_directory,
        role_from_directory,
    ],
)
def test_a_document_parses_or_raises_a_command_error(parse: Any, value: Any) -> None:
    with contextlib.suppress(CommandError):
        parse(value)


@given(resources)
def test_a_resource_that_parses_prints_a_document_that_parses_to_the_same(doc: dict[str, Any]) -> None:
    with contextlib.suppress(CommandError):
        pattern = parse_resource(doc)
        assert parse_resource(pattern.to_document()) == pattern


@given(st.one_of(st.text(), st.text(alphabet=":-[]{}'\"&*!|>#%@,? \nab1.=<~")))
@example("users: [{user: =, db: t, roles: []}]")
@example("users: [{<<: 1}]")
@example('users: [{user: a, db: "\\ud800", roles: []}]')
@example('users: [{user: "\\ud800", db: $external, roles: []}]')
@example("users: [{user: 1:99999999999999999999, db: !!binary x, roles: []}]")
@example("users: [{user: !!int x, db: t, roles: []}]")
@example("users: [{user: !!float '', db: t, roles: []}]")
@example("users: [{user: !!bool x, db: t, roles: []}]")
@example("users: [{user: !!timestamp x, db: t, roles: []}]")
@example("users: [{user: !!int '', db: t, roles: []}]")
def test_a_user_file_parses_or_raises_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_user_file(text, "users.yaml")
