"""Explanations as values: the proxy's own decision, with the roles behind it."""

import json

import pytest

from mongoguard.cli.explanation import Source, parse_command
from mongoguard.command.catalog import COMMANDS
from mongoguard.errors import ConfigError
from mongoguard.model.names import RoleName
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from tests.unit.cli.explaining import (
    AUDITOR,
    CHIEF,
    CLERK,
    GRAPH,
    ORDERS,
    PEEPER,
    RENAMER,
    SHOP,
    user,
    why,
)

FIND = frozenset({"find"})
READ = RoleName("read", "shop")
ROOT = RoleName("root", "admin")
RENAME = '{"renameCollection": "shop.a", "to": "shop.b"}'


# ---- what grants ----------------------------------------------------------------------------------------------------


def test_a_held_privilege_names_the_path_of_roles_that_grants_it():
    explanation = why(user(CLERK), '{"find": "orders"}')
    assert explanation.allowed
    (grant,) = explanation.granted
    assert grant.privilege == Privilege(ORDERS, FIND)
    assert grant.sources == (Source(ORDERS, FIND, ((CLERK, AUDITOR),)),)
    assert explanation.missing == ()


def test_every_path_is_named_because_all_must_go_to_revoke_it():
    explanation = why(user(AUDITOR, CHIEF, READ), '{"find": "orders"}')
    assert explanation.requirement.sources == (
        Source(SHOP, FIND, ((READ,),)),
        Source(ORDERS, FIND, ((AUDITOR,), (CHIEF, CLERK, AUDITOR))),
    )


def test_a_builtin_role_is_named_with_the_pattern_that_matched():
    explanation = why(user(READ), '{"find": "customers"}')
    assert explanation.granted[0].sources == (Source(SHOP, FIND, ((READ,),)),)


def test_any_action_on_a_matching_pattern_grants_every_action():
    explanation = why(user(RoleName("__system", "admin")), '{"find": "orders"}')
    (source,) = explanation.requirement.sources
    assert source.resource == ResourcePattern.for_any_resource()
    assert source.actions == FIND


def test_any_privilege_in_the_database_names_what_there_is():
    text = '{"listCollections": 1, "nameOnly": true, "authorizedCollections": true}'
    explanation = why(user(AUDITOR), text)
    assert explanation.allowed
    lists, anything = explanation.requirement.parts
    assert (lists.holds, anything.holds) == (False, True)
    assert anything.sources == (Source(ORDERS, FIND, ((AUDITOR,),)),)
    denied = why(user(), text)
    assert not denied.allowed
    assert denied.requirement.parts[1].sources == ()


# ---- what is missing ------------------------------------------------------------------------------------------------


def test_a_missing_privilege_names_what_to_grant_and_the_smallest_builtin_role():
    explanation = why(user(AUDITOR), '{"insert": "orders", "documents": [{"a": 1}]}')
    assert not explanation.allowed
    assert explanation.missing == (Privilege(ORDERS, frozenset({"insert"})),)
    assert explanation.suggestion == RoleName("readWrite", "shop")
    assert explanation.requirement.lacking == {"insert"}


def test_of_a_privilege_held_in_part_both_parts_are_named():
    explanation = why(
        user(CLERK), '{"findAndModify": "orders", "update": {"a": 1}, "upsert": true, "query": {}}'
    )
    step = explanation.requirement
    assert (step.holds, step.lacking) == (False, {"update"})
    assert {source.actions for source in step.sources} == {frozenset({"find", "insert"})}


def test_generic_arguments_are_explained_too():
    explanation = why(user(AUDITOR), '{"find": "orders", "$audit": {"$impersonatedUsers": []}}')
    assert not explanation.allowed
    assert explanation.missing == (Privilege(CLUSTER, frozenset({"impersonate"})),)


def test_a_privilege_held_too_much_is_named_with_the_role_that_brings_it():
    allowed, denied = why(user(RENAMER), RENAME, "admin"), why(user(RENAMER, PEEPER), RENAME, "admin")
    assert (allowed.allowed, denied.allowed) == (True, False)
    same_db = denied.requirement.parts[0]
    not_held = same_db.parts[1].parts[1]
    assert not not_held.holds
    assert not_held.parts[0].sources[0].paths == ((PEEPER,),)
    assert denied.missing or denied.excess
    assert any("turn allowed into denied" in note for note in denied.notes)


def test_where_only_less_would_help_what_to_revoke_is_named():
    view = '{"create": "b", "viewOn": "secrets", "pipeline": [{"$lookup": {"from": "x", "pipeline": [], "as": "y"}}]}'
    assert not why(user(RENAMER), view).allowed
    explanation = why(user(RoleName("dbAdmin", "shop"), PEEPER), view)
    assert not explanation.allowed
    assert explanation.missing == ()
    assert explanation.excess == (Privilege(ResourcePattern.for_exact_namespace("shop", "b"), FIND),)
    assert why(user(RoleName("dbAdmin", "shop")), view).allowed
    assert explanation.suggestion == READ
    assert any("find on the view" in note for note in explanation.notes)


# ---- what does not depend on privileges -----------------------------------------------------------------------------


def test_a_command_that_needs_no_privilege_is_allowed():
    explanation = why(user(), '{"ping": 1}')
    assert explanation.allowed
    assert (explanation.requirement.holds, explanation.requirement.parts) == (True, ())


@pytest.mark.parametrize(
    ("text", "db", "part"),
    [
        ('{"nonsense": 1}', "shop", "knows no command of this name"),
        ('{"FIND": "orders"}', "shop", "knows no command of this name"),
        ('{"$db": "shop", "find": "orders"}', "shop", "knows no command of this name"),
        ('{"serverStatus": 1}', "a.b", "the command is not valid: Invalid database name"),
        ('{"find": 3}', "shop", "the command is not valid"),
        ('{"find": "orders", "bogus": 1}', "shop", "the command is not valid"),
        (
            '{"find": "orders", "apiVersion": "2"}',
            "shop",
            "the command is not valid: Cannot accept API version",
        ),
        ('{"ping": 1, "$tenant": 1}', "shop", "the command is not valid: Multitenancy"),
        ('{"getParameter": 1}', "shop", "admin database only"),
        ('{"replSetHeartbeat": 1}', "admin", "no client's business"),
    ],
)
def test_what_does_not_depend_on_privileges_is_refused_with_its_reason(text, db, part):
    explanation = why(user(ROOT), text, db)
    assert (explanation.allowed, explanation.requirement) == (False, None)
    assert part in explanation.refusal


@pytest.mark.parametrize("text", ['{"dropUser": "bob"}', '{"usersInfo": 1}', '{"rolesInfo": 1}'])
def test_users_of_a_file_are_not_read_or_changed_by_commands(text):
    assert why(user(ROOT), text).allowed
    refused = why(user(ROOT), text, relays_user_management=False)
    assert not refused.allowed
    assert "security.userDirectory: file" in refused.refusal


def test_the_upstreams_own_user_cache_is_no_matter_of_the_file():
    assert why(user(ROOT), '{"invalidateUserCache": 1}', "admin", relays_user_management=False).allowed


def test_what_is_answered_by_mongoguard_needs_nothing_whatever_it_carries():
    assert why(user(), '{"hello": 1, "$tenant": 1}', "admin").allowed


def test_without_authorization_only_what_is_refused_to_everybody_is_denied():
    assert not why(user(), '{"find": "orders"}').allowed
    explanation = why(user(), '{"find": "orders"}', authorization_enabled=False)
    assert explanation.allowed
    assert "security.authorization is disabled" in explanation.notes[0]
    assert not why(user(), '{"shutdown": 1}', authorization_enabled=False).allowed


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            '{"getMore": {"$numberLong": "7"}, "collection": "orders"}',
            "the cursor must be one that this user",
        ),
        ('{"killCursors": "orders", "cursors": []}', "one's own cursors"),
        ('{"killOp": 1, "op": 3}', "an operation of one's own"),
        ('{"listDatabases": 1}', "only databases are shown"),
    ],
)
def test_what_only_a_running_server_can_tell_is_noted(text, part):
    (note,) = why(user(ROOT), text, "admin").notes
    assert part in note
    assert why(user(ROOT), '{"ping": 1}').notes == ()


# ---- reading the command --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "3",
        '{"find": "a", "find": "b"}',
        '{"find": "a", "filter": {"x": 1, "x": 2}}',
        '{"a": {"$oid": "x"}}',
        '{"$oid": "5f5f5f5f5f5f5f5f5f5f5f5f"}',
        '{"find": 99999999999999999999}',
        '{"a\\u0000b": 1}',
        '{"find": "\\ud800"}',
        "[" * 100_000,
        '{"a":' * 5000 + "1" + "}" * 5000,
    ],
    ids=lambda text: text[:20],
)
def test_a_command_that_is_no_json_object_is_refused(text):
    with pytest.raises(ConfigError, match="--command: expected a JSON object"):
        parse_command(text, "shop")


def test_a_command_that_no_message_can_carry_is_refused():
    with pytest.raises(ConfigError, match="--command: .*fields"):
        parse_command(json.dumps({f"f{i}": 1 for i in range(10_001)}), "shop")


def test_extended_json_is_understood():
    command = parse_command('{"getMore": {"$numberLong": "7"}, "collection": "orders"}', "shop")
    assert command.name == "getMore"
    assert command.body.type_name("getMore") == "long"


def test_the_database_is_the_one_given_beside_the_command():
    assert parse_command('{"find": "a", "$db": "other"}', "shop").body.string("$db") == "shop"


# ---- JSON -----------------------------------------------------------------------------------------------------------


def test_the_document_holds_the_whole_tree():
    document = why(user(RENAMER, PEEPER), RENAME, "admin").to_document()
    assert json.loads(json.dumps(document)) == document
    assert document["requirement"]["kind"] == "anyOf"
    same_db, copies = document["requirement"]["parts"]
    assert (same_db["kind"], copies["kind"], same_db["holds"]) == ("allOf", "allOf", False)
    renames, readable = same_db["parts"]
    assert renames == {
        "kind": "privilege",
        "holds": True,
        "resource": {"db": "shop", "collection": ""},
        "actions": ["renameCollectionSameDB"],
        "lacking": [],
        "grantedBy": [
            {
                "resource": {"db": "shop", "collection": ""},
                "actions": ["renameCollectionSameDB"],
                "roles": [["renamer@admin"]],
            }
        ],
    }
    assert [part["kind"] for part in readable["parts"]] == ["privilege", "notHeld"]
    assert readable["parts"][1]["part"]["actions"] == ["find"]


def test_any_action_in_a_database_is_a_kind_of_its_own():
    text = '{"listCollections": 1, "nameOnly": true, "authorizedCollections": true}'
    assert why(user(AUDITOR), text).to_document()["requirement"]["parts"][1] == {
        "kind": "anyActionInDatabase",
        "holds": True,
        "db": "shop",
        "grantedBy": [
            {
                "resource": {"db": "shop", "collection": "orders"},
                "actions": ["find"],
                "roles": [["auditor@admin"]],
            }
        ],
    }


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_of_the_catalogue_is_explained_without_failing(name):
    for who in (user(), user(ROOT)):
        explanation = why(who, json.dumps({name: 1}), "admin")
        assert explanation.allowed != bool(
            explanation.refusal or explanation.missing or explanation.excess
        ), explanation
        json.dumps(explanation.to_document())


def test_the_graph_of_these_tests_is_sound():
    assert GRAPH.missing == ()
