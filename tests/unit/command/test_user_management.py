"""Managing users and roles: the right to grant is asked where each role and privilege rules, and nowhere less."""

from __future__ import annotations

from typing import Any

import pytest

from mongoguard.command.requires import all_of
from mongoguard.command.spec import Asker
from mongoguard.command.user_management import names_user_collection
from mongoguard.errors import CommandError
from mongoguard.model.privilege import NOTHING, AnyOf, Requirement
from tests.unit.command.commands import ALICE, any_normal, cluster, command, database, required

READ_D: dict[str, Any] = {"role": "read", "db": "d"}
ON_E: dict[str, Any] = {"resource": {"db": "e", "collection": "c"}, "actions": ["find"]}
ONE_KIND = (
    "resource must have exactly db and collection set, or have only cluster set  or have only anyResource set"
)
BOTH = "resource must set both db and collection or neither, but not exactly one."


def refusal(body: dict[str, Any], db: str = "t") -> tuple[int, str]:
    with pytest.raises(CommandError) as error:
        required(body, db)
    return error.value.code, error.value.errmsg


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"createUser": "u", "pwd": "x", "roles": []}, database("t", "createUser")),
        (
            {"createUser": "u", "pwd": "x", "roles": ["read", READ_D]},
            all_of([database("t", "createUser", "grantRole"), database("d", "grantRole")]),
        ),
        (
            {"createUser": "u", "roles": [], "authenticationRestrictions": []},
            database("t", "createUser", "setAuthenticationRestriction"),
        ),
        ({"updateUser": "u", "pwd": "x"}, database("t", "changePassword")),
        ({"updateUser": "u", "pwd": None}, database("t", "changePassword")),
        ({"updateUser": "u", "mechanisms": []}, database("t", "changePassword")),
        ({"updateUser": "u", "digestPassword": True}, database("t", "changePassword")),
        ({"updateUser": "u", "customData": {}}, database("t", "changeCustomData")),
        (
            {"updateUser": "u", "authenticationRestrictions": []},
            database("t", "setAuthenticationRestriction"),
        ),
        ({"updateUser": "u", "roles": []}, any_normal("revokeRole")),
        (
            {"updateUser": "u", "roles": [READ_D, "read"]},
            all_of([any_normal("revokeRole"), database("d", "grantRole"), database("t", "grantRole")]),
        ),
        (
            {"updateUser": "u", "pwd": "x", "customData": {}, "authenticationRestrictions": []},
            database("t", "changePassword", "changeCustomData", "setAuthenticationRestriction"),
        ),
        (
            {"updateUser": "u", "pwd": "x", "customData": {}, "roles": [READ_D]},
            all_of(
                [
                    database("t", "changePassword", "changeCustomData"),
                    any_normal("revokeRole"),
                    database("d", "grantRole"),
                ]
            ),
        ),
        (
            {"updateUser": "u", "authenticationRestrictions": [], "mechanisms": [], "roles": []},
            all_of(
                [database("t", "setAuthenticationRestriction", "changePassword"), any_normal("revokeRole")]
            ),
        ),
        (
            {"createUser": "u", "roles": [READ_D], "authenticationRestrictions": []},
            all_of([database("t", "createUser", "setAuthenticationRestriction"), database("d", "grantRole")]),
        ),
        (
            {"updateRole": "r", "roles": [READ_D], "privileges": [ON_E], "authenticationRestrictions": []},
            all_of(
                [
                    any_normal("revokeRole"),
                    database("t", "setAuthenticationRestriction"),
                    database("d", "grantRole"),
                    database("e", "grantRole"),
                ]
            ),
        ),
        (
            {"grantRolesToUser": "u", "roles": [{"role": "r", "db": "d" * 63}]},
            database("d" * 63, "grantRole"),
        ),
        ({"createRole": "r", "privileges": [], "roles": []}, database("t", "createRole")),
        (
            {"createRole": "r", "privileges": [ON_E], "roles": [READ_D], "authenticationRestrictions": []},
            all_of(
                [
                    database("t", "createRole", "setAuthenticationRestriction"),
                    database("d", "grantRole"),
                    database("e", "grantRole"),
                ]
            ),
        ),
        ({"updateRole": "r"}, any_normal("revokeRole")),
        (
            {"updateRole": "r", "roles": [READ_D]},
            all_of([any_normal("revokeRole"), database("d", "grantRole")]),
        ),
        (
            {"updateRole": "r", "privileges": [ON_E]},
            all_of([any_normal("revokeRole"), database("e", "grantRole")]),
        ),
        (
            {"updateRole": "r", "authenticationRestrictions": []},
            all_of([any_normal("revokeRole"), database("t", "setAuthenticationRestriction")]),
        ),
        ({"grantRolesToUser": "u", "roles": [READ_D]}, database("d", "grantRole")),
        ({"revokeRolesFromUser": "u", "roles": [READ_D]}, database("d", "revokeRole")),
        ({"grantRolesToRole": "r", "roles": ["read"]}, database("t", "grantRole")),
        ({"revokeRolesFromRole": "r", "roles": ["read"]}, database("t", "revokeRole")),
        ({"grantPrivilegesToRole": "r", "privileges": [ON_E]}, database("e", "grantRole")),
        ({"revokePrivilegesFromRole": "r", "privileges": [ON_E]}, database("e", "revokeRole")),
        ({"dropUser": "u"}, database("t", "dropUser")),
        ({"dropAllUsersFromDatabase": 1}, database("t", "dropUser")),
        ({"dropRole": "r"}, database("t", "dropRole")),
        ({"dropAllRolesFromDatabase": 1}, database("t", "dropRole")),
    ],
)
def test_managing_needs(body: dict[str, Any], expected: Requirement) -> None:
    assert required(body) == expected


def test_changing_oneself_has_lesser_actions_for_password_and_custom_data_only() -> None:
    assert required({"updateUser": "alice", "pwd": "x"}, "shop") == AnyOf(
        (database("shop", "changePassword"), database("shop", "changeOwnPassword"))
    )
    assert required({"updateUser": "alice", "mechanisms": []}, "shop") == required(
        {"updateUser": "alice", "pwd": "x"}, "shop"
    )
    assert required({"updateUser": "alice", "customData": {}}, "shop") == AnyOf(
        (database("shop", "changeCustomData"), database("shop", "changeOwnCustomData"))
    )
    assert required({"updateUser": "alice", "roles": []}, "shop") == any_normal("revokeRole")
    assert required({"updateUser": "alice", "authenticationRestrictions": []}, "shop") == database(
        "shop", "setAuthenticationRestriction"
    )


@pytest.mark.parametrize(("name", "db"), [("alice", "t"), ("bob", "shop"), ("Alice", "shop")])
def test_a_namesake_elsewhere_is_somebody_else(name: str, db: str) -> None:
    assert required({"updateUser": name, "pwd": "x"}, db) == database(db, "changePassword")
    assert required({"updateUser": name, "customData": {}}, db) == database(db, "changeCustomData")
    assert required({"usersInfo": {"user": name, "db": db}}, "shop") == database(db, "viewUser")


@pytest.mark.parametrize(
    ("body", "code", "errmsg"),
    [
        ({"updateUser": "u"}, 2, "Must specify at least one field to update in updateUser"),
        (
            {"updateUser": "u", "pwd": 5},
            14,
            "BSON field 'updateUser.pwd' is the wrong type 'int', expected type 'string'",
        ),
        ({"updateUser": 5, "pwd": "x"}, 14, None),
        ({"createUser": 5, "roles": []}, 14, None),
        ({"createUser": "u"}, 40414, None),
        ({"createUser": "u", "roles": 5}, 14, None),
        ({"createRole": 5, "privileges": [], "roles": []}, 14, None),
        ({"createRole": "r", "roles": []}, 40414, None),
        ({"createRole": "r", "privileges": []}, 40414, None),
        ({"createRole": "r", "privileges": [5], "roles": []}, 14, None),
        ({"updateRole": 5}, 14, None),
        ({"updateRole": "r", "roles": 5}, 14, None),
        ({"updateRole": "r", "privileges": 5}, 14, None),
        ({"grantRolesToUser": "u", "roles": []}, 2, None),
        ({"grantRolesToUser": 5, "roles": ["read"]}, 14, None),
        ({"grantPrivilegesToRole": "r", "privileges": []}, 2, None),
        ({"grantRolesToUser": "u", "roles": [5]}, 2, "Role name must be either a document or string"),
        (
            {"grantRolesToUser": "u", "roles": [{"db": "d"}]},
            2,
            "RoleName must contain a field named: role",
        ),
        ({"grantRolesToUser": "u", "roles": [{"role": "r"}]}, 2, "RoleName must contain a field named: db"),
        (
            {"grantRolesToUser": "u", "roles": [{"role": 5, "db": "d"}]},
            2,
            "RoleName must contain a string field named: role. But, has type int",
        ),
        (
            {"grantRolesToUser": "u", "roles": [{"role": "r", "db": "d", "x": 1}]},
            2,
            "RoleName contains an unknown field named: 'x",
        ),
        (
            {"grantRolesToUser": "u", "roles": [{"role": "r", "db": "d" * 64}]},
            73,
            "database name is too long",
        ),
        ({"usersInfo": 0}, 2, "UserName must be either a string or an object"),
        ({"usersInfo": 2}, 2, None),
        ({"usersInfo": -1}, 2, None),
        ({"usersInfo": float("nan")}, 2, None),
        ({"usersInfo": 1e300}, 2, None),
        ({"usersInfo": [5]}, 2, None),
        ({"usersInfo": {"user": "u"}}, 2, "UserName must contain a field named: db"),
        ({"usersInfo": {"forAllDBs": False}}, 2, "UserName contains an unknown field named: 'forAllDBs"),
        (
            {"usersInfo": {"forAllDBs": True, "db": "d"}},
            2,
            "UserName contains an unknown field named: 'forAllDBs",
        ),
        ({"rolesInfo": 0}, 2, "RoleName must be either a string or an object"),
        ({"rolesInfo": {"role": "r"}}, 2, "RoleName must contain a field named: db"),
        ({"rolesInfo": {"forAllDBs": True}}, 2, None),
    ],
)
def test_a_form_that_mongod_refuses_is_refused(body: dict[str, Any], code: int, errmsg: str | None) -> None:
    got = refusal(body)
    assert got[0] == code
    assert errmsg is None or got[1] == errmsg


@pytest.mark.parametrize(
    ("resource", "db"),
    [
        ({"db": "d", "collection": "c"}, "d"),
        ({"db": "d", "collection": ""}, "d"),
        ({"collection": "c", "db": "d"}, "d"),
        ({"db": "", "collection": ""}, "admin"),
        ({"db": "", "collection": "c"}, "admin"),
        ({"db": "d", "system_buckets": "b"}, "admin"),
        ({"system_buckets": "b"}, "admin"),
        ({"cluster": True}, "admin"),
        ({"anyResource": True}, "admin"),
    ],
)
@pytest.mark.parametrize("name", ["grantPrivilegesToRole", "revokePrivilegesFromRole", "updateRole"])
def test_a_privilege_is_ruled_in_its_database_or_in_admin(name: str, resource: Any, db: str) -> None:
    action = "revokeRole" if name.startswith("revoke") else "grantRole"
    expected: Requirement = database(db, action)
    if name == "updateRole":
        expected = all_of([any_normal("revokeRole"), expected])
    assert required({name: "r", "privileges": [{"resource": resource, "actions": ["find"]}]}) == expected


@pytest.mark.parametrize(
    ("resource", "errmsg"),
    [
        ({}, ONE_KIND),
        ({"db": "d"}, BOTH),
        ({"collection": "c"}, BOTH),
        ({"db": 5, "collection": "c"}, ONE_KIND),
        ({"db": "d", "collection": 5}, ONE_KIND),
        ({"db": "d", "collection": "c", "cluster": True}, ONE_KIND),
        ({"db": "d", "cluster": True}, ONE_KIND),
        ({"cluster": True, "anyResource": True}, ONE_KIND),
        ({"cluster": False}, "cluster must be true when specified"),
        ({"anyResource": False}, "anyResource must be true when specified"),
        ({"cluster": 1}, ONE_KIND),
        ({"system_buckets": 5}, ONE_KIND),
        ({"db": 5, "system_buckets": "b"}, ONE_KIND),
        ({"db": "d", "system_buckets": "b", "x": 1}, ONE_KIND),
        ({"x": 1}, ONE_KIND),
    ],
)
def test_a_privilege_on_what_means_nothing_is_refused(resource: dict[str, Any], errmsg: str) -> None:
    grant = {"resource": resource, "actions": ["find"]}
    assert refusal({"grantPrivilegesToRole": "r", "privileges": [grant]}) == (9, errmsg)


@pytest.mark.parametrize("grant", [{"actions": ["find"]}, {"resource": 5, "actions": ["find"]}])
def test_a_privilege_without_a_resource_is_refused(grant: dict[str, Any]) -> None:
    assert refusal({"grantPrivilegesToRole": "r", "privileges": [grant]}) == (9, "missing resource field")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"usersInfo": 1}, database("shop", "viewUser")),
        ({"usersInfo": 1.5}, database("shop", "viewUser")),
        ({"usersInfo": {"forAllDBs": True}}, cluster("viewUser")),
        ({"usersInfo": {"forAllDBs": 1}}, cluster("viewUser")),
        ({"usersInfo": []}, NOTHING),
        ({"usersInfo": "alice"}, NOTHING),
        ({"usersInfo": {"user": "alice", "db": "shop"}}, NOTHING),
        ({"usersInfo": ["alice", {"user": "bob", "db": "d"}]}, database("d", "viewUser")),
        ({"rolesInfo": 1}, database("shop", "viewRole")),
        ({"rolesInfo": "clerk"}, NOTHING),
        ({"rolesInfo": {"role": "clerk", "db": "shop"}}, NOTHING),
        ({"rolesInfo": {"role": "clerk", "db": "d"}}, database("d", "viewRole")),
        ({"rolesInfo": ["clerk", "boss"]}, database("shop", "viewRole")),
        (
            {"rolesInfo": [{"role": "a", "db": "d"}, "boss"]},
            all_of([database("d", "viewRole"), database("shop", "viewRole")]),
        ),
    ],
)
def test_looking_needs(body: dict[str, Any], expected: Requirement) -> None:
    assert required(body, "shop", ALICE) == expected


def test_nobody_has_nothing_of_their_own_to_look_at() -> None:
    assert required({"usersInfo": "alice"}, "shop", Asker()) == database("shop", "viewUser")
    assert required({"rolesInfo": "clerk"}, "shop", Asker()) == database("shop", "viewRole")


INFO = {"ns": "shop.orders"}, {"ns": "admin.system.roles"}


@pytest.mark.parametrize(
    ("body", "db", "names"),
    [
        ({"delete": "system.users"}, "admin", True),
        ({"findAndModify": "system.roles"}, "admin", True),
        ({"update": "system.users"}, "shop", False),
        ({"update": "system.version"}, "admin", False),
        ({"bulkWrite": 1, "nsInfo": INFO}, "admin", True),
        ({"bulkWrite": 1, "nsInfo": INFO[:1]}, "admin", False),
        ({"bulkWrite": 1}, "admin", False),
    ],
)
def test_commands_about_the_collections_of_users_are_told_apart(
    body: dict[str, Any], db: str, names: bool
) -> None:
    assert names_user_collection(command(body, db)) is names
