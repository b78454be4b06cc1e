"""User-management messages: MongoDB's parameters, never a password."""

from ipaddress import IPv4Address

import bson
import pytest

from mongoguard.model.names import UserName
from mongoguard.model.restriction import Peer
from mongoguard.observe.event import to_json
from mongoguard.observe.user_management_messages import USER_MANAGEMENT_COMMANDS, user_management
from mongoguard.wire.document import Document

PEER = Peer(IPv4Address("10.0.0.7"), IPv4Address("10.0.0.1"), 50123, 27017)
ROOT = UserName("root", "admin")


def message(document, result=0):
    command = next(iter(document))
    return user_management(
        PEER, [ROOT], [], command, "shop", body=Document(bson.encode(document)), result=result
    )


PRIVILEGE = {"resource": {"db": "shop", "collection": ""}, "actions": ["find"]}


@pytest.mark.parametrize(
    ("document", "param"),
    [
        (
            {"createUser": "bob", "pwd": "c4n4ry", "customData": {"ssn": "c4n4ry"}, "roles": ["read"]},
            {"user": "bob", "db": "shop", "roles": [{"role": "read", "db": "shop"}]},
        ),
        (
            {"updateUser": "bob", "pwd": "c4n4ry"},
            {"user": "bob", "db": "shop", "passwordChanged": True},
        ),
        (
            {"updateUser": "bob", "roles": [{"role": "read", "db": "hr"}]},
            {
                "user": "bob",
                "db": "shop",
                "passwordChanged": False,
                "roles": [{"role": "read", "db": "hr"}],
            },
        ),
        ({"dropUser": "bob"}, {"user": "bob", "db": "shop"}),
        ({"dropAllUsersFromDatabase": 1}, {"db": "shop"}),
        (
            {"grantRolesToUser": "bob", "roles": ["read"]},
            {"user": "bob", "db": "shop", "roles": [{"role": "read", "db": "shop"}]},
        ),
        (
            {"revokeRolesFromUser": "bob", "roles": ["read"]},
            {"user": "bob", "db": "shop", "roles": [{"role": "read", "db": "shop"}]},
        ),
        (
            {"createRole": "r", "roles": [], "privileges": [PRIVILEGE]},
            {"role": "r", "db": "shop", "roles": [], "privileges": [PRIVILEGE]},
        ),
        (
            {"updateRole": "r", "authenticationRestrictions": [{"clientSource": ["10.0.0.0/8"]}]},
            {"role": "r", "db": "shop", "authenticationRestrictions": [{"clientSource": ["10.0.0.0/8"]}]},
        ),
        ({"dropRole": "r"}, {"role": "r", "db": "shop"}),
        ({"dropAllRolesFromDatabase": 1}, {"db": "shop"}),
        (
            {"grantRolesToRole": "r", "roles": ["read"]},
            {"role": "r", "db": "shop", "roles": [{"role": "read", "db": "shop"}]},
        ),
        (
            {"revokeRolesFromRole": "r", "roles": ["read"]},
            {"role": "r", "db": "shop", "roles": [{"role": "read", "db": "shop"}]},
        ),
        (
            {"grantPrivilegesToRole": "r", "privileges": [PRIVILEGE]},
            {"role": "r", "db": "shop", "privileges": [PRIVILEGE]},
        ),
        (
            {"revokePrivilegesFromRole": "r", "privileges": [PRIVILEGE]},
            {"role": "r", "db": "shop", "privileges": [PRIVILEGE]},
        ),
    ],
)
def test_each_command_has_the_parameters_of_the_manual(document, param):
    event = message(document)
    assert event.atype == next(iter(document))
    assert event.param == param
    assert event.users == (ROOT,)
    assert "c4n4ry" not in to_json(event, 0)


def test_every_command_has_an_example_above():
    assert len(USER_MANAGEMENT_COMMANDS) == 14


def test_a_refused_command_keeps_its_code():
    assert message({"dropUser": "nobody"}, result=11).result == 11


@pytest.mark.parametrize(
    "document",
    [
        {"createUser": 3, "roles": 3},
        {"createUser": "b", "roles": [1, {}, {"role": 1, "db": 2}, {"role": "c4n4ry"}]},
        {"createRole": "r", "privileges": [1, {"resource": 3, "actions": {"c4n4ry": 1}}], "roles": []},
        {"createRole": "r", "privileges": [{"resource": {"db": {"c4n4ry": 1}}, "actions": [{"c4n4ry": 1}]}]},
        {"createRole": "r", "authenticationRestrictions": ["c4n4ry", {"c4n4ry": 1}]},
    ],
)
def test_ill_typed_arguments_are_left_out(document):
    assert "c4n4ry" not in to_json(message(document, result=14), 0)


def test_a_single_address_is_a_list_of_one():
    event = message({"createUser": "b", "authenticationRestrictions": [{"clientSource": "::1"}]})
    assert event.param["authenticationRestrictions"] == [{"clientSource": ["::1"]}]


def test_a_thousand_roles_are_listed_and_the_rest_counted():
    event = message({"createUser": "b", "roles": ["read"] * 1500})
    assert len(event.param["roles"]) == 1000
    assert event.param["rolesOmitted"] == 500


def test_arguments_that_are_no_bson_are_left_out():
    raw = bson.encode({"createUser": "bbbb", "roles": ["read"]})
    broken = raw.replace(b"bbbb", b"\xff\xff\xff\xff").replace(b"read", b"\xff\xff\xff\xff")
    event = user_management(PEER, [ROOT], [], "createUser", "shop", body=Document(broken), result=22)
    assert event.param == {"user": "", "db": "shop"}
