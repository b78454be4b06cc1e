"""What roles come to, and which definitions are refused (mongod answers those with 49, 51002 or 2)."""

from __future__ import annotations

import pytest

from mongoguard.authz.builtin_roles import builtin_role
from mongoguard.authz.role_graph import RoleGraph, RoleGraphError
from mongoguard.errors import ConfigError
from mongoguard.model.documents import parse_privileges, parse_restrictions
from mongoguard.model.names import RoleName
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import CLUSTER, MatchType, ResourcePattern
from mongoguard.model.user import Role


def name(text: str) -> RoleName:
    role, _, db = text.partition("@")
    return RoleName(role, db or "t")


def role(text: str, *inherits: str, privileges: tuple[Privilege, ...] = (), source: str = "") -> Role:
    return Role(
        name(text),
        privileges=privileges,
        roles=tuple(name(other) for other in inherits),
        restrictions=parse_restrictions([{"clientSource": [source]}]) if source else (),
    )


def on(db: str, collection: str, *actions: str) -> tuple[Privilege, ...]:
    return parse_privileges([{"resource": {"db": db, "collection": collection}, "actions": list(actions)}])


def test_privileges_add_up_along_the_graph() -> None:
    graph = RoleGraph(
        [
            role("a", "b", "c", privileges=on("t", "c", "find")),
            role("b", "d", privileges=on("t", "c", "insert")),
            role("c", "d"),
            role("d", privileges=on("t", "", "dbStats")),
        ]
    )
    effective = graph.resolve([name("a")])
    assert effective.roles == (name("a"), name("b"), name("c"), name("d"))
    assert effective.privileges == {
        ResourcePattern.for_exact_namespace("t", "c"): {"find", "insert"},
        ResourcePattern.for_database("t"): {"dbStats"},
    }
    assert effective.missing == ()


def test_a_role_that_is_not_reached_gives_nothing() -> None:
    graph = RoleGraph([role("a"), role("b", privileges=on("t", "c", "find"))])
    assert graph.resolve([name("a")]).privileges == {}


def test_built_in_roles_need_no_definition() -> None:
    effective = RoleGraph([role("a", "read")]).resolve([name("a"), name("root@admin")])
    read, root = builtin_role(name("read")), builtin_role(name("root@admin"))
    assert read is not None
    assert root is not None
    assert effective.privileges == dict(read.privileges) | dict(root.privileges)


def test_each_role_keeps_its_own_array_of_restrictions() -> None:
    graph = RoleGraph([role("a", "b", source="10.0.0.1"), role("b", "c", source="10.0.0.2"), role("c")])
    assert len(graph.resolve([name("a")]).restrictions) == 2
    assert len(graph.resolve([name("c")]).restrictions) == 0


def test_missing_roles_are_listed_and_grant_nothing() -> None:
    graph = RoleGraph([role("a", "gone")])
    effective = graph.resolve([name("a"), name("nowhere@x")])
    assert effective.missing == (name("gone"), name("nowhere@x"))
    assert effective.roles == (name("a"), name("gone"), name("nowhere@x"))
    assert effective.privileges == {}
    assert graph.missing == (name("gone"),)


def test_a_path_is_a_shortest_one() -> None:
    graph = RoleGraph([role("a", "b", "d"), role("b", "c"), role("c", "d"), role("d")])
    assert graph.path_to([name("a")], name("d")) == (name("a"), name("d"))
    assert graph.path_to([name("b")], name("d")) == (name("b"), name("c"), name("d"))
    assert graph.path_to([name("a")], name("a")) == (name("a"),)


def test_there_is_no_path_to_a_role_that_is_not_held() -> None:
    assert RoleGraph([role("a"), role("b")]).path_to([name("a")], name("b")) == ()


@pytest.mark.parametrize(
    "roles",
    [
        [role("a", "a")],
        [role("a", "b"), role("b", "a")],
        [role("x", "a"), role("a", "b"), role("b", "c"), role("c", "a")],
    ],
)
def test_a_cycle_is_refused_naming_a_role_on_it(roles: list[Role]) -> None:
    with pytest.raises(RoleGraphError, match="inherits from itself") as caught:
        RoleGraph(roles)
    assert caught.value.role == name("a")
    assert caught.value.problem == "inherits from itself"
    assert isinstance(caught.value, ConfigError)


def test_a_diamond_is_no_cycle() -> None:
    assert RoleGraph([role("a", "b", "c"), role("b", "d"), role("c", "d"), role("d")]).missing == ()


def test_a_role_of_another_database_can_be_inherited_in_admin_only() -> None:
    assert RoleGraph([role("a@admin", "read@t")]).resolve([name("a@admin")]).missing == ()
    with pytest.raises(RoleGraphError, match=r"role a@t: .*other databases \(read@u\)"):
        RoleGraph([role("a", "read@u")])


@pytest.mark.parametrize(
    "resource",
    [
        CLUSTER,
        ResourcePattern.for_any_resource(),
        ResourcePattern.for_any_normal_resource(),
        ResourcePattern.for_collection("c"),
        ResourcePattern.for_database("u"),
        ResourcePattern.for_exact_namespace("u", "c"),
        ResourcePattern(MatchType.EXACT_BUCKETS, "t", "x"),
        ResourcePattern(MatchType.ANY_BUCKETS_IN_DB, "t"),
        ResourcePattern(MatchType.ANY_BUCKETS),
    ],
)
def test_a_privilege_elsewhere_can_be_held_in_admin_only(resource: ResourcePattern) -> None:
    privileges = (Privilege(resource, frozenset({"find"})),)
    assert (
        resource in RoleGraph([role("a@admin", privileges=privileges)]).resolve([name("a@admin")]).privileges
    )
    with pytest.raises(RoleGraphError, match="role a@t: roles of the t database can hold privileges"):
        RoleGraph([role("a", privileges=privileges)])


@pytest.mark.parametrize("text", ["a@local", "a@$external"])
def test_some_databases_have_no_roles(text: str) -> None:
    with pytest.raises(RoleGraphError, match="roles can't be defined in"):
        RoleGraph([role(text)])


def test_the_name_of_a_built_in_role_of_that_database_is_taken() -> None:
    with pytest.raises(RoleGraphError, match="read is a built-in role of the t database"):
        RoleGraph([role("read")])
    assert RoleGraph([role("root")]).resolve([name("root")]).privileges == {}


def test_two_roles_of_one_name_are_refused() -> None:
    with pytest.raises(RoleGraphError, match="is defined twice"):
        RoleGraph([role("a"), role("a")])


@pytest.mark.parametrize("empty", [RoleName("", "t"), RoleName("a", "")])
def test_a_role_without_a_name_is_refused(empty: RoleName) -> None:
    with pytest.raises(RoleGraphError, match="needs a name"):
        RoleGraph([Role(empty)])


def test_a_built_in_role_of_a_newer_upstream_is_taken_as_it_says() -> None:
    newer = Role(name("read"), (Privilege(CLUSTER, frozenset({"newAction"})),), is_builtin=True)
    assert RoleGraph([newer]).resolve([name("read")]).privileges == {CLUSTER: {"newAction"}}
