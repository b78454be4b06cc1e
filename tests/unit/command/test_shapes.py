"""The shapes that rows share, each made and asked here: the resource and the actions, and nothing wider."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary

from mongoguard.command import requires_admin as admin
from mongoguard.command import user_management as users
from mongoguard.command.catalog import _row, find_row
from mongoguard.command.catalog_flags import _words
from mongoguard.command.explain import explain_requires
from mongoguard.command.generic import GENERIC_FIELDS
from mongoguard.command.pipeline import Walk
from mongoguard.command.requirement import known_fields, requirement_of
from mongoguard.command.requires import (
    INTERNAL,
    all_of,
    full_namespace,
    needs,
    on_cluster,
    on_collection,
    on_database,
    on_namespace_string,
    privilege_on,
)
from mongoguard.command.sessions import IMPERSONATE, requires_own_sessions, session_uid
from mongoguard.command.spec import Asker, CommandRow, Handling, Requires, needs_nothing
from mongoguard.command.stages import _on_any_normal, _on_cluster, _on_collection
from mongoguard.errors import CommandError
from mongoguard.model.names import Namespace, UserName
from mongoguard.model.privilege import NOTHING, AllOf, AnyOf, Requirement
from mongoguard.model.resource_pattern import MatchType, ResourcePattern
from tests.unit.command.commands import ALICE, any_normal, cluster, command, database, namespace


def asked(requires: Requires, body: dict[str, Any], db: str = "t", asker: Asker = ALICE) -> Requirement:
    return requires(command(body, db), asker)


def refusal(requires: Requires, body: dict[str, Any], db: str = "t") -> tuple[int, str]:
    with pytest.raises(CommandError) as caught:
        requires(command(body, db), ALICE)
    return caught.value.code, caught.value.errmsg


def test_on_collection_is_the_collection_that_is_named() -> None:
    assert asked(on_collection("find", "insert"), {"x": "c"}) == namespace("t", "c", "find", "insert")
    assert refusal(on_collection("find"), {"x": 1})[0] == 2


def test_on_database_is_the_database_of_the_command() -> None:
    assert asked(on_database("dbStats"), {"x": 1}, "d") == database("d", "dbStats")


def test_on_cluster_and_on_any_normal_are_those_resources() -> None:
    assert asked(on_cluster("top", "shutdown"), {"x": 1}) == cluster("top", "shutdown")
    assert asked(admin.on_any_normal("find", "top"), {"x": 1}) == any_normal("find", "top")


def test_on_namespace_string_is_the_namespace_spelled_out() -> None:
    assert asked(on_namespace_string("find", "top"), {"x": "d.a.b"}) == namespace("d", "a.b", "find", "top")
    assert refusal(on_namespace_string("find"), {"x": 1})[0] == 2


@pytest.mark.parametrize("text", ["", "d", "d.", ".c", "d\0.c"])
def test_a_namespace_with_half_missing_is_refused(text: str) -> None:
    with pytest.raises(CommandError) as caught:
        full_namespace(text)
    assert (caught.value.code, caught.value.errmsg) == (73, f"Invalid namespace specified '{text}'")


@pytest.mark.parametrize("text", ["d..c", "d.a$b", "d.a\0b", "$external.c", f"{'d' * 64}.c"])
def test_a_namespace_that_cannot_exist_is_refused(text: str) -> None:
    with pytest.raises(CommandError) as caught:
        full_namespace(text)
    assert caught.value.code == 73


def test_a_namespace_splits_at_its_first_dot() -> None:
    assert full_namespace("d.a.b") == Namespace("d", "a.b")


def test_on_database_string_is_the_database_spelled_out() -> None:
    requires = admin.on_database_string("enableSharding", "top")
    assert asked(requires, {"x": "d"}) == database("d", "enableSharding", "top")
    assert asked(requires, {"x": "d" * 63}) == database("d" * 63, "enableSharding", "top")
    assert refusal(requires, {"x": 1})[0] == 14


@pytest.mark.parametrize("db", ["", "a.b", "a\0b", "d" * 64])
def test_a_database_that_cannot_exist_is_refused(db: str) -> None:
    assert refusal(admin.on_database_string("find"), {"x": db}) == (73, f"Invalid database name: '{db}'")


def test_on_config_is_that_collection_of_the_config_database() -> None:
    assert asked(admin.on_config("settings", "find", "update"), {"x": 1}) == namespace(
        "config", "settings", "find", "update"
    )


def test_on_config_or_cluster_is_either_of_them() -> None:
    requires = admin.on_config_or_cluster(
        "enableSharding", ("shards", ("find",)), ("tags", ("find", "insert"))
    )
    assert asked(requires, {"x": 1}) == AnyOf(
        (
            cluster("enableSharding"),
            AllOf((namespace("config", "shards", "find"), namespace("config", "tags", "find", "insert"))),
        )
    )


def test_a_requirement_of_one_part_is_the_part_and_of_none_is_nothing() -> None:
    assert all_of([]) == NOTHING
    assert all_of([AllOf(())]) == NOTHING
    assert all_of([cluster("top")]) == cluster("top")
    assert all_of([cluster("top"), cluster("find")]) == cluster("top", "find")
    either = AnyOf((cluster("top"),))
    assert all_of([either]) == either
    assert all_of([either, database("d", "find"), either]) == AllOf((database("d", "find"), either))


def test_a_privilege_on_a_namespace_is_on_exactly_that() -> None:
    made = privilege_on.__wrapped__("d", "c", needs("find"))
    assert made == namespace("d", "c", "find")
    assert made.resource.match_type is MatchType.EXACT_NAMESPACE
    assert needs("a", "b") == {"a", "b"}


def test_on_roles_is_the_action_on_the_database_of_each_role() -> None:
    body = {"x": "bob", "roles": ["read", {"role": "r", "db": "d"}]}
    assert asked(users.on_roles("grantRole"), body) == AllOf(
        (database("t", "grantRole"), database("d", "grantRole"))
    )
    requires = users.on_roles("grantRole")
    assert refusal(requires, {"x": "bob", "roles": []}) == (2, 'x command requires a non-empty "roles" array')
    assert refusal(requires, {"x": 1, "roles": ["read"]})[0] == 14
    assert refusal(requires, {"x": "bob"})[0] == 40414


def test_on_privileges_is_the_action_on_the_database_that_rules_each() -> None:
    requires = users.on_privileges("revokeRole")
    grant = {"resource": {"db": "d", "collection": "c"}, "actions": ["find"]}
    assert asked(requires, {"x": "r", "privileges": [grant]}) == database("d", "revokeRole")
    assert refusal(requires, {"x": "r", "privileges": []}) == (
        2,
        'x command requires a non-empty "privileges" array',
    )
    assert refusal(requires, {"x": "r", "privileges": [{"actions": ["find"]}]}) == (
        9,
        "missing resource field",
    )


def test_naming_sessions_is_free_for_ones_own_and_not_for_others() -> None:
    uuid, own = Binary(b"u" * 16, 4), session_uid(UserName("alice", "shop"))
    requires = requires_own_sessions(IMPERSONATE)
    mine, alien = {"id": uuid, "uid": own}, {"id": uuid, "uid": b"x" * 32}
    assert asked(requires, {"endSessions": [mine, {"id": uuid}]}) == NOTHING
    assert asked(requires, {"endSessions": [mine, alien]}) == cluster("impersonate")
    assert asked(requires, {"endSessions": [mine]}, asker=Asker()) == cluster("impersonate")


def test_an_explain_is_what_the_command_inside_needs() -> None:
    requires = explain_requires(find_row)
    assert asked(requires, {"explain": {"find": "c"}}) == namespace("t", "c", "find")
    assert asked(requires, {"explain": {"find": "c", "$db": "t"}}) == namespace("t", "c", "find")
    for verbosity in ("queryPlanner", "executionStats", "allPlansExecution"):
        assert asked(requires, {"explain": {"find": "c"}, "verbosity": verbosity}) == namespace(
            "t", "c", "find"
        )


def test_an_explain_needs_what_generic_arguments_inside_need() -> None:
    requires = explain_requires(find_row)
    internal = {"explain": {"find": "c", "maxTimeMSOpOnly": 1}}
    assert asked(requires, internal) == AllOf((namespace("t", "c", "find"), INTERNAL))
    audit = {"explain": {"find": "c", "$audit": {"$impersonatedUsers": []}}}
    assert asked(requires, audit) == AllOf((namespace("t", "c", "find"), IMPERSONATE))


def test_an_explain_is_asked_for_by_the_one_who_asks() -> None:
    requires = explain_requires(find_row)
    for user, stage_needs, session_needs in (
        (UserName("alice", "shop"), NOTHING, NOTHING),
        (UserName("bob", "shop"), cluster("listSessions"), IMPERSONATE),
    ):
        stage = {"$listLocalSessions": {"users": [{"user": user.user, "db": user.db}]}}
        assert asked(requires, {"explain": {"aggregate": 1, "pipeline": [stage]}}) == stage_needs
        lsid = {"id": Binary(bytes(16), 4), "uid": session_uid(user)}
        finds = asked(requires, {"explain": {"find": "c", "lsid": lsid}})
        assert finds == all_of([namespace("t", "c", "find"), session_needs])


@pytest.mark.parametrize(
    ("body", "code", "errmsg"),
    [
        ({"explain": {"nope": 1}}, 59, "Explain failed due to unknown command: nope"),
        ({"explain": {"drop": "c"}}, 20, "Cannot explain cmd: drop"),
        ({"explain": 5}, 14, "BSON field 'explain.explain' is the wrong type 'int', expected type 'object'"),
        ({"explain": {"find": "c", "$db": 5}}, 13111, "wrong type for field ($db) int != string"),
        (
            {"explain": {"find": "c", "$db": "d"}},
            73,
            "Mismatched $db in explain command. Expected t but got d",
        ),
        (
            {"explain": {"find": "c"}, "verbosity": 5},
            14,
            "BSON field 'explain.verbosity' is the wrong type 'int', expected type 'string'",
        ),
        (
            {"explain": {"find": "c"}, "verbosity": "all"},
            2,
            "Enumeration value 'all' for field 'explain.verbosity' is not a valid value.",
        ),
    ],
)
def test_an_explain_that_is_not_understood_is_refused(body: dict[str, Any], code: int, errmsg: str) -> None:
    assert refusal(explain_requires(find_row), body) == (code, errmsg)


def test_a_row_without_columns_is_relayed_after_login_on_any_database() -> None:
    row = _row("somethingNew")
    assert row == CommandRow("somethingNew")
    assert (row.requires, row.handling, row.requires_auth) == (needs_nothing, Handling.RELAY, True)
    assert (row.admin_only, row.api_v1, row.fields, row.internal_fields) == (False, False, None, frozenset())


def test_a_row_takes_its_flags_from_the_servers_list() -> None:
    requires = on_cluster("top")
    assert _row("top", requires) == CommandRow("top", requires, admin_only=True)
    assert not _row("hello").requires_auth
    assert _row("find").api_v1
    assert _row("other", api_v1=True).api_v1
    assert not _row("other", api_v1=False).api_v1
    assert _row("other", admin_only=True).admin_only


def test_a_row_knows_its_name_its_aliases_its_fields_and_the_generic_ones() -> None:
    row = _row("top", aliases=("peak",), fields="a b", internal_fields="c d", since="7.0")
    assert row.fields == GENERIC_FIELDS | {"top", "peak", "a", "b"}
    assert row.internal_fields == {"c", "d"}
    assert (row.aliases, row.since) == (("peak",), "7.0")
    assert known_fields("a", "b") == GENERIC_FIELDS | {"a", "b"}
    assert _row("top", fields="").fields == GENERIC_FIELDS | {"top"}
    assert _words(" a\n b ") == {"a", "b"}


ROW = CommandRow(
    "x",
    on_cluster("top"),
    fields=known_fields("x", "a"),
    internal_fields=frozenset({"i"}),
    sequences=frozenset({"s"}),
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"x": 1}, cluster("top")),
        ({"x": 1, "a": 1, "comment": 1}, cluster("top")),
        ({"x": 1, "i": 1}, cluster("top", "internal")),
        ({"x": 1, "a": 1, "i": 1, "shardVersion": 1}, cluster("top", "internal")),
        ({"x": 1, "shardVersion": 1}, cluster("top")),  # generic_requirement asks for internal
    ],
)
def test_an_argument_between_servers_needs_internal(body: dict[str, Any], expected: Requirement) -> None:
    assert requirement_of(ROW, command(body), ALICE) == expected


@pytest.mark.parametrize("more", [{"b": 1}, {"i": 1, "b": 1}, {"shardVersion": 1, "b": 1}, {"A": 1}])
def test_an_argument_that_nobody_knows_is_refused_beside_any_other(more: dict[str, Any]) -> None:
    (name,) = set(more) - {"i", "shardVersion"}
    with pytest.raises(CommandError) as caught:
        requirement_of(ROW, command({"x": 1, **more}), ALICE)
    assert caught.value.code == 40415
    assert caught.value.errmsg == f"BSON field 'x.{name}' is an unknown field."


def test_a_row_without_fields_asks_for_nothing_more_whatever_is_sent() -> None:
    row = CommandRow("x", on_cluster("top"))
    assert requirement_of(row, command({"x": 1, "whatever": 1}), ALICE) == cluster("top")


def test_a_sequence_that_the_row_names_is_taken_and_no_other() -> None:
    assert requirement_of(ROW, command({"x": 1}, sequences={"s": [{}]}), ALICE) == cluster("top")
    for sequences in ({"z": [{}]}, {"s": [{}], "z": [{}]}):
        with pytest.raises(CommandError) as caught:
            requirement_of(ROW, command({"x": 1}, sequences=sequences), ALICE)
        assert caught.value.code == 40415
        assert caught.value.errmsg == "BSON field 'x.z' is an unknown field."


def test_a_refused_row_is_refused_with_its_reason() -> None:
    row = CommandRow("x", handling=Handling.REFUSED, refusal="because")
    with pytest.raises(CommandError) as caught:
        requirement_of(row, command({"x": 1}), ALICE)
    assert (caught.value.code, caught.value.errmsg) == (115, "x is not supported: because")
    assert caught.value.reason == "because"


def test_a_stages_shape_is_its_resource() -> None:
    shapes: list[tuple[Any, Requirement]] = [
        (_on_collection, namespace("d", "c", "find", "top")),
        (_on_cluster, cluster("find", "top")),
        (_on_any_normal, any_normal("find", "top")),
    ]
    for shape, expected in shapes:
        walk = Walk("d", ALICE, bypass=False)
        shape("find", "top")(walk, "$x", command({"x": 1}).body, "c", 0)
        assert walk.requirement() == expected


def test_what_a_walk_needs_adds_up() -> None:
    walk = Walk("d", ALICE, bypass=False)
    assert walk.requirement() == NOTHING
    walk.need(ResourcePattern.for_database("d"), needs("find"))
    walk.need(ResourcePattern.for_database("d"), needs("insert"))
    walk.write("d", "c", needs("insert"))
    assert walk.requirement() == AllOf((database("d", "find", "insert"), namespace("d", "c", "insert")))
    writer = Walk("d", ALICE, bypass=True)
    writer.write("d", "c", needs("insert"))
    assert writer.requirement() == namespace("d", "c", "insert", "bypassDocumentValidation")
