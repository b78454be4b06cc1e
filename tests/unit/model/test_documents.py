"""MongoDB's documents are read strictly; the expected codes and texts were measured on mongod 6.0.5."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from bson import Binary

from mongoguard.errors import CommandError
from mongoguard.model.action_type import ActionType
from mongoguard.model.documents import (
    is_valid_database_name,
    merge_privileges,
    parse_credentials,
    parse_privilege,
    parse_privileges,
    parse_resource,
    parse_restriction,
    parse_restrictions,
    parse_role_name,
    parse_user_name,
    role_from_directory,
    user_from_directory,
)
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import MatchType, ResourcePattern
from mongoguard.model.restriction import AuthenticationRestriction

ONE_KIND = (
    "resource must have exactly db and collection set, or have only cluster set  or have only anyResource set"
)
BOTH = "resource must set both db and collection or neither, but not exactly one."
R = {"db": "t", "collection": "c"}
ON_C = ResourcePattern.for_exact_namespace("t", "c")


@pytest.mark.parametrize(
    ("doc", "match_type"),
    [
        ({"anyResource": True}, MatchType.ANY_RESOURCE),
        ({"cluster": True}, MatchType.CLUSTER),
        ({"db": "", "collection": ""}, MatchType.ANY_NORMAL),
        ({"db": "t", "collection": ""}, MatchType.DATABASE),
        ({"db": "", "collection": "c"}, MatchType.COLLECTION),
        ({"db": "t", "collection": "c"}, MatchType.EXACT_NAMESPACE),
        ({"db": "t", "system_buckets": "x"}, MatchType.EXACT_BUCKETS),
        ({"db": "t", "system_buckets": ""}, MatchType.ANY_BUCKETS_IN_DB),
        ({"system_buckets": "x"}, MatchType.BUCKETS_IN_ANY_DB),
        ({"system_buckets": ""}, MatchType.ANY_BUCKETS),
    ],
)
def test_each_match_type_has_its_document_and_prints_it_again(
    doc: dict[str, Any], match_type: MatchType
) -> None:
    pattern = parse_resource(doc)
    assert pattern.match_type is match_type
    assert pattern.to_document() == doc


def test_an_empty_db_beside_system_buckets_is_the_same_as_none() -> None:
    assert parse_resource({"db": "", "system_buckets": "x"}) == parse_resource({"system_buckets": "x"})


@pytest.mark.parametrize(
    "doc",
    [
        {"db": "t", "collection": "c."},
        {"db": "local", "collection": "oplog.$main"},
        {"db": "$external", "collection": ""},
        {"db": "a$b", "collection": ""},
        {"db": "t*", "collection": ""},
        {"db": "x" * 63, "collection": ""},
        {"db": "t", "collection": "x" * 300},
        {"db": "t", "system_buckets": "a$b"},
        {"db": "t", "collection": "system.buckets.x"},
    ],
)
def test_unusual_names_that_mongod_accepts_are_accepted(doc: dict[str, Any]) -> None:
    assert parse_resource(doc).to_document() == doc


@pytest.mark.parametrize(
    ("doc", "code", "errmsg"),
    [
        ({}, 9, ONE_KIND),
        ({"cluster": False}, 9, "cluster must be true when specified"),
        ({"anyResource": False}, 9, "anyResource must be true when specified"),
        ({"cluster": 1}, 2, "wrong type for 'cluster' field, expected boolean, found int"),
        ({"anyResource": "x"}, 2, "wrong type for 'anyResource' field, expected boolean, found string"),
        ({"cluster": True, "anyResource": True}, 9, ONE_KIND),
        ({"cluster": True, "anyResource": False}, 9, ONE_KIND),
        ({"cluster": True, "db": "t", "collection": "c"}, 9, ONE_KIND),
        ({"anyResource": True, "db": "", "collection": ""}, 9, ONE_KIND),
        ({"cluster": True, "system_buckets": "x"}, 9, ONE_KIND),
        ({"cluster": True, "db": ""}, 9, BOTH),
        ({"anyResource": True, "db": "t"}, 9, BOTH),
        ({"db": "t"}, 9, BOTH),
        ({"collection": "c"}, 9, BOTH),
        (
            {"db": "t", "collection": "c", "system_buckets": "x"},
            9,
            "system_buckets and collection cannot both be set",
        ),
        ({"collection": "", "system_buckets": ""}, 9, "system_buckets and collection cannot both be set"),
        ({"db": "a.b", "collection": "c"}, 9, "a.b is not a valid database name"),
        ({"db": "a b", "collection": ""}, 9, "a b is not a valid database name"),
        ({"db": "a/b", "system_buckets": "x"}, 9, "a/b is not a valid database name"),
        ({"db": "x" * 64, "collection": ""}, 9, "x" * 64 + " is not a valid database name"),
        ({"db": "t", "collection": "a$c"}, 9, "a$c is not a valid collection name"),
        ({"db": "", "collection": ".c"}, 9, ".c is not a valid collection name"),
        ({"db": "t", "collection": "x\0y"}, 9, "x\0y is not a valid collection name"),
        ({"db": "t", "collection": "oplog.$main"}, 9, "oplog.$main is not a valid collection name"),
        ({"db": "", "collection": "oplog.$main"}, 9, "oplog.$main is not a valid collection name"),
        ({"db": "t", "system_buckets": ".x"}, 73, "Collection names cannot start with '.': .x"),
        ({"db": "t", "system_buckets": "x\0"}, 73, "namespaces cannot have embedded null characters"),
        ({"db": 1, "collection": "c"}, 2, "wrong type for 'db' field, expected string, found int"),
        (
            {"db": "t", "collection": None},
            2,
            "wrong type for 'collection' field, expected string, found null",
        ),
        ({"db": "t", "collection": "c", "x": 1}, 40415, "BSON field 'resource.x' is an unknown field."),
        ([], 14, "BSON field 'resource' is the wrong type 'array', expected type 'object'"),
        (object(), 14, "BSON field 'resource' is the wrong type 'object', expected type 'object'"),
    ],
)
def test_a_resource_that_means_nothing_is_refused(doc: object, code: int, errmsg: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse_resource(doc)
    assert (caught.value.code, caught.value.errmsg) == (code, errmsg)


def test_a_database_name_is_measured_in_bytes_and_may_hold_what_is_no_character() -> None:
    assert is_valid_database_name("é" * 31)
    assert not is_valid_database_name("é" * 32)
    assert is_valid_database_name("\ud800")
    assert not is_valid_database_name("")


def test_any_action_swallows_the_rest() -> None:
    assert parse_privilege({"resource": R, "actions": ["find", "anyAction"]}).actions == {"anyAction"}


def test_actions_become_members() -> None:
    (action,) = parse_privilege({"resource": R, "actions": ["find", "find"]}).actions
    assert action is ActionType.FIND


@pytest.mark.parametrize(
    ("doc", "code", "errmsg"),
    [
        ({"resource": R}, 9, "missing actions field"),
        ({"resource": R, "actions": []}, 9, "missing actions field"),
        ({}, 9, "missing actions field"),
        ({"actions": ["find"]}, 9, "missing resource field"),
        ({"resource": R, "actions": ["bogus"]}, 2, "Unrecognized action: bogus"),
        ({"resource": R, "actions": ["b2", "bogus", "find"]}, 2, "Unrecognized actions: b2, bogus"),
        (
            {"resource": R, "actions": [1]},
            2,
            (
                "error parsing element 0 of field actions :: caused by :: "
                "wrong type for '0' field, expected string, found int"
            ),
        ),
        (
            {"resource": R, "actions": "find"},
            2,
            "wrong type for 'actions' field, expected vector array, found string",
        ),
        (
            {"resource": 1.5, "actions": ["find"]},
            14,
            "BSON field 'resource' is the wrong type 'double', expected type 'object'",
        ),
        (
            {"resource": R, "actions": ["find"], "x": 1},
            40415,
            "BSON field 'privilege.x' is an unknown field.",
        ),
        (True, 14, "BSON field 'privilege' is the wrong type 'bool', expected type 'object'"),
    ],
)
def test_a_malformed_privilege_is_refused(doc: object, code: int, errmsg: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse_privilege(doc)
    assert (caught.value.code, caught.value.errmsg) == (code, errmsg)


def test_privileges_on_one_resource_are_merged() -> None:
    merged = parse_privileges(
        [
            {"resource": R, "actions": ["find"]},
            {"resource": {"cluster": True}, "actions": ["inprog"]},
            {"resource": R, "actions": ["insert"]},
        ]
    )
    assert merged == (
        Privilege(ON_C, frozenset({"find", "insert"})),
        Privilege(ResourcePattern.for_cluster(), frozenset({"inprog"})),
    )


def test_any_action_swallows_across_merged_privileges() -> None:
    parts = [Privilege(ON_C, frozenset({"anyAction"})), Privilege(ON_C, frozenset({"find"}))]
    assert merge_privileges(parts) == (Privilege(ON_C, frozenset({"anyAction"})),)


def test_an_action_of_a_newer_upstream_is_kept_as_a_string_and_refused_from_anyone_else() -> None:
    docs = [{"resource": R, "actions": ["find", "teleport"]}]
    assert parse_privileges(docs, newer_upstream=True) == (Privilege(ON_C, frozenset({"find", "teleport"})),)
    with pytest.raises(CommandError, match="Unrecognized action: teleport"):
        parse_privileges(docs)


@pytest.mark.parametrize(
    "doc",
    [
        {"resource": {"db": "t", "anyCollection": True}, "actions": ["find"]},
        {"resource": {"db": "t", "collection": "c", "tenant": "x"}, "actions": ["find"]},
        {"resource": R, "actions": ["find"], "except": ["c"]},
        {"resource": R, "actions": []},
        {"resource": R},
    ],
)
def test_a_privilege_of_a_newer_upstream_that_is_not_understood_grants_nothing(doc: dict[str, Any]) -> None:
    assert parse_privileges([doc], newer_upstream=True) == ()
    with pytest.raises(CommandError):
        parse_privileges([doc])


@pytest.mark.parametrize(
    "docs", [{}, [1], [{"resource": 1, "actions": ["find"]}], [{"resource": R, "actions": [1]}]]
)
def test_a_newer_upstream_may_not_send_other_shapes(docs: object) -> None:
    with pytest.raises(CommandError):
        parse_privileges(docs, newer_upstream=True)


def test_a_bare_name_belongs_to_the_default_database() -> None:
    assert parse_role_name("read", "t") == RoleName("read", "t")
    assert parse_user_name("u", "t") == UserName("u", "t")


def test_a_full_name_names_its_database() -> None:
    assert parse_role_name({"role": "read", "db": "x"}, "t") == RoleName("read", "x")
    assert parse_user_name({"user": "u", "db": "x"}, "t") == UserName("u", "x")


@pytest.mark.parametrize(
    ("value", "errmsg"),
    [
        (1, "Role name must be either a document or string"),
        ({"role": "x"}, "RoleName must contain a field named: db"),
        ({"db": "x"}, "RoleName must contain a field named: role"),
        ({"role": 1, "db": "x"}, "RoleName must contain a string field named: role. But, has type int"),
        ({"role": "r", "db": "x", "z": 1}, "RoleName contains an unknown field named: 'z'"),
    ],
)
def test_a_malformed_role_name_is_refused(value: object, errmsg: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse_role_name(value, "t")
    assert (caught.value.code, caught.value.errmsg) == (2, errmsg)


@pytest.mark.parametrize(
    ("value", "errmsg"),
    [
        (None, "UserName must be either a string or an object"),
        ({"user": "x"}, "UserName must contain a field named: db"),
        ({"user": "x", "db": "x", "z": 1}, "UserName contains an unknown field named: 'z'"),
    ],
)
def test_a_malformed_user_name_is_refused(value: object, errmsg: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse_user_name(value, "t")
    assert (caught.value.code, caught.value.errmsg) == (2, errmsg)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("127.0.0.1", "127.0.0.1/32"),
        ("::1", "::1/128"),
        ("127.0.0.77/8", "127.0.0.0/8"),
        ("127.0.0.1/08", "127.0.0.0/8"),
        ("127.0.0.1/+8", "127.0.0.0/8"),
        ("127.0.0.1/ 8", "127.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1/128"),
    ],
)
def test_an_address_or_range_is_read_as_mongod_reads_it(text: str, network: str) -> None:
    (parsed,) = parse_restriction({"clientSource": [text]}).client_source or ()
    assert str(parsed) in {network, "::ffff:a00:1/128"}


@pytest.mark.parametrize(
    ("text", "errmsg"),
    [
        ("localhost", "Invalid IP address in CIDR string"),
        ("127.1", "Invalid IP address in CIDR string"),
        ("127.0.0.01", "Invalid IP address in CIDR string"),
        (" 127.0.0.1", "Invalid IP address in CIDR string"),
        ("::1%lo", "Invalid IP address in CIDR string"),
        ("/8", "Invalid IP address in CIDR string"),
        ("", "Invalid IP address in CIDR string"),
        ("127.0.0.1/", "Non-numeric length in CIDR string"),
        ("127.0.0.1/8 ", "Non-numeric length in CIDR string"),
        ("127.0.0.1/255.0.0.0", "Non-numeric length in CIDR string"),
        ("127.0.0.0/0x8", "Non-numeric length in CIDR string"),
        ("127.0.0.1/33", "Invalid length in CIDR string"),
        ("127.0.0.1/-1", "Invalid length in CIDR string"),
        ("::1/129", "Invalid length in CIDR string"),
        ("127.0.0.1/" + "9" * 5000, "Invalid length in CIDR string"),
    ],
)
def test_what_is_no_address_or_range_is_refused(text: str, errmsg: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse_restriction({"serverAddress": [text]})
    assert (caught.value.code, caught.value.errmsg) == (2, errmsg)


@pytest.mark.parametrize(
    ("docs", "code"),
    [
        ([{}], 162),
        ([{"clientSource": "127.0.0.1"}], 14),
        ([{"clientSource": [1]}], 14),
        ([{"clientSource": ["1.2.3.4"], "x": 1}], 40415),
        ([1], 14),
        ({"clientSource": []}, 14),
    ],
)
def test_malformed_restrictions_are_refused(docs: object, code: int) -> None:
    with pytest.raises(CommandError) as caught:
        parse_restrictions(docs)
    assert caught.value.code == code


def test_an_empty_list_of_sources_is_kept_and_an_absent_one_is_none() -> None:
    assert parse_restrictions([{"clientSource": []}]) == (AuthenticationRestriction((), None),)
    assert parse_restrictions([]) == ()


def b64(size: int) -> str:
    return base64.b64encode(bytes(range(size))).decode()


SHA256 = {"iterationCount": 15000, "salt": b64(28), "storedKey": b64(32), "serverKey": b64(32)}
SHA1 = {"iterationCount": 10000, "salt": b64(16), "storedKey": b64(20), "serverKey": b64(20)}


def test_stored_credentials_are_decoded_for_each_mechanism() -> None:
    parsed = parse_credentials({"SCRAM-SHA-1": SHA1, "SCRAM-SHA-256": SHA256, "MONGODB-CR": "x"})
    assert set(parsed) == {"SCRAM-SHA-1", "SCRAM-SHA-256"}
    assert parsed["SCRAM-SHA-256"].salt == bytes(range(28))
    assert parsed["SCRAM-SHA-1"].iteration_count == 10000
    assert parse_credentials({"external": True}) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"iterationCount": 0},
        {"iterationCount": True},
        {"iterationCount": "15000"},
        {"salt": b64(16)},
        {"salt": 5},
        {"storedKey": "not base64!"},
        {"storedKey": b64(31)},
        {"serverKey": "ä"},
        {"serverKey": None},
    ],
)
def test_malformed_credentials_are_refused_without_showing_them(change: dict[str, Any]) -> None:
    with pytest.raises(CommandError) as caught:
        parse_credentials({"SCRAM-SHA-256": SHA256 | change})
    (key, value), *_ = change.items()
    assert f"credentials.SCRAM-SHA-256.{key}" in caught.value.errmsg
    assert not isinstance(value, str) or value not in caught.value.errmsg
    assert caught.value.__cause__ is None


def test_each_part_of_stored_credentials_stays_in_its_place() -> None:
    doc: dict[str, Any] = SHA256 | {"iterationCount": 1}
    doc["storedKey"] = base64.b64encode(b"s" * 32).decode()
    doc["serverKey"] = base64.b64encode(b"v" * 32).decode()
    (parsed,) = parse_credentials({"SCRAM-SHA-256": doc}).values()
    assert (parsed.iteration_count, parsed.salt) == (1, bytes(range(28)))
    assert (parsed.stored_key, parsed.server_key) == (b"s" * 32, b"v" * 32)


@pytest.mark.parametrize("junk", ["\n", "!", " ", "="])
def test_characters_that_are_no_base64_are_not_passed_over(junk: str) -> None:
    key = SHA256["storedKey"]
    assert isinstance(key, str)
    with pytest.raises(CommandError, match="storedKey must be 32 bytes in base64"):
        parse_credentials({"SCRAM-SHA-256": SHA256 | {"storedKey": key[:4] + junk + key[4:]}})


def test_a_missing_key_in_credentials_is_refused() -> None:
    with pytest.raises(CommandError, match="storedKey must be 32 bytes in base64"):
        parse_credentials({"SCRAM-SHA-256": {k: v for k, v in SHA256.items() if k != "storedKey"}})


ALICE: dict[str, Any] = {
    "_id": "shop.alice",
    "userId": Binary(bytes(range(16)), 4),
    "user": "alice",
    "db": "shop",
    "mechanisms": ["SCRAM-SHA-256"],
    "credentials": {"SCRAM-SHA-256": SHA256},
    "roles": [{"role": "r1", "db": "shop"}],
    "inheritedRoles": [{"role": "read", "db": "shop"}, {"role": "r1", "db": "shop"}],
    "inheritedPrivileges": [{"resource": R, "actions": ["find"]}],
    "authenticationRestrictions": [{"clientSource": ["10.0.0.0/8"]}],
    "inheritedAuthenticationRestrictions": [[{"serverAddress": ["10.0.0.1/32"]}]],
}


def test_a_users_info_document_becomes_a_user() -> None:
    user = user_from_directory(ALICE)
    assert user.name == UserName("alice", "shop")
    assert user.user_id == bytes(range(16))
    assert user.roles == (RoleName("r1", "shop"),)
    assert user.inherited_roles == (RoleName("r1", "shop"), RoleName("read", "shop"))
    assert user.privileges == {ON_C: {"find"}}
    assert [len(array) for array in user.restrictions] == [1, 1]
    assert "AAEC" not in repr(user)


@pytest.mark.parametrize(
    "change",
    [
        {"user": 1},
        {"db": None},
        {"userId": "x"},
        {"userId": b"short"},
        {"roles": None},
        {"roles": [1]},
        {"inheritedRoles": {}},
        {"inheritedPrivileges": None},
        {"inheritedPrivileges": [1]},
        {"credentials": None},
        {"credentials": {"SCRAM-SHA-256": None}},
        {"authenticationRestrictions": [{"clientSource": ["bogus"]}]},
        {"inheritedAuthenticationRestrictions": [{}]},
    ],
)
def test_a_malformed_users_info_document_is_no_user(change: dict[str, Any]) -> None:
    with pytest.raises(CommandError) as caught:
        user_from_directory(ALICE | change)
    assert caught.value.code == 1
    assert caught.value.errmsg == "The user directory holds a malformed user document"
    assert caught.value.reason


@pytest.mark.parametrize("key", [k for k in ALICE if k not in ("_id", "mechanisms")])
def test_a_users_info_document_with_a_part_missing_is_no_user(key: str) -> None:
    with pytest.raises(CommandError):
        user_from_directory({k: v for k, v in ALICE.items() if k != key})


def test_a_roles_info_document_becomes_a_role() -> None:
    role = role_from_directory(
        {
            "role": "r1",
            "db": "shop",
            "isBuiltin": False,
            "roles": [{"role": "read", "db": "shop"}],
            "privileges": [{"resource": R, "actions": ["find"]}],
            "authenticationRestrictions": [[{"clientSource": []}]],
        }
    )
    assert role.name == RoleName("r1", "shop")
    assert role.roles == (RoleName("read", "shop"),)
    assert role.privileges == (Privilege(ON_C, frozenset({"find"})),)
    assert role.restrictions == (AuthenticationRestriction((), None),)
    assert not role.is_builtin


def test_a_role_without_restrictions_has_none_and_two_arrays_of_them_are_refused() -> None:
    doc: dict[str, Any] = {"role": "r", "db": "d", "roles": [], "privileges": []}
    assert role_from_directory(doc).restrictions == ()
    with pytest.raises(CommandError):
        role_from_directory(doc | {"authenticationRestrictions": [[], []]})


NEWER: list[dict[str, Any]] = [
    {"resource": R, "actions": ["find", "teleport"]},
    {"resource": {"db": "shop", "anyCollection": True}, "actions": ["insert"]},
]


def test_a_role_of_a_newer_upstream_keeps_what_is_understood() -> None:
    role = role_from_directory({"role": "r", "db": "d", "roles": [], "privileges": NEWER})
    assert role.privileges == (Privilege(ON_C, frozenset({"find", "teleport"})),)


def test_a_user_of_a_newer_upstream_keeps_what_is_understood() -> None:
    user = user_from_directory(ALICE | {"inheritedPrivileges": NEWER})
    assert user.privileges == {ON_C: {"find", "teleport"}}


@pytest.mark.parametrize(
    ("printed", "builtin"), [({"isBuiltin": True}, True), ({"isBuiltin": 1}, False), ({}, False)]
)
def test_only_a_role_that_says_so_is_built_in(printed: dict[str, Any], builtin: bool) -> None:
    doc = {"role": "r", "db": "d", "roles": [], "privileges": [], **printed}
    assert role_from_directory(doc).is_builtin is builtin


def test_bare_role_names_in_a_directory_belong_to_the_database_of_their_holder() -> None:
    role = role_from_directory({"role": "r", "db": "d", "roles": ["read"], "privileges": []})
    assert role.roles == (RoleName("read", "d"),)
    user = user_from_directory(ALICE | {"roles": ["r1"], "inheritedRoles": ["r2"]})
    assert user.roles == (RoleName("r1", "shop"),)
    assert user.inherited_roles == (RoleName("r1", "shop"), RoleName("r2", "shop"))


def test_restrictions_of_the_user_and_of_each_role_are_kept_apart() -> None:
    own, inherited = [{"clientSource": ["10.0.0.1"]}], [[{"clientSource": ["10.0.0.2"]}], []]
    user = user_from_directory(
        ALICE | {"authenticationRestrictions": own, "inheritedAuthenticationRestrictions": inherited}
    )
    assert user.restrictions == (parse_restrictions(own), parse_restrictions(inherited[0]), ())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"user": 1}, "UserName must contain a string field named: user. But, has type int"),
        ({"db": 1}, "UserName must contain a string field named: db. But, has type int"),
        ({"userId": "x"}, "BSON field 'userId' is the wrong type 'string', expected type 'UUID'"),
        ({"roles": None}, "BSON field 'roles' is the wrong type 'null', expected type 'array'"),
        ({"credentials": 1}, "BSON field 'credentials' is the wrong type 'int', expected type 'object'"),
        (
            {"credentials": {"SCRAM-SHA-1": 1}},
            "BSON field 'credentials.SCRAM-SHA-1' is the wrong type 'int', expected type 'object'",
        ),
        (
            {"inheritedAuthenticationRestrictions": None},
            "BSON field 'inheritedAuthenticationRestrictions' is the wrong type 'null', expected type 'array'",
        ),
        (
            {"inheritedPrivileges": [1]},
            "BSON field 'privilege' is the wrong type 'int', expected type 'object'",
        ),
        (
            {"inheritedPrivileges": [{"actions": ["find"], "resource": 1}]},
            "BSON field 'resource' is the wrong type 'int', expected type 'object'",
        ),
    ],
)
def test_the_reason_why_a_document_is_no_user_is_for_the_audit_stream(
    change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CommandError) as caught:
        user_from_directory(ALICE | change)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("doc", "reason"),
    [
        (5, "BSON field 'role' is the wrong type 'int', expected type 'object'"),
        ({"role": 5, "db": "d"}, "RoleName must contain a string field named: role. But, has type int"),
        ({"role": "r", "db": 5}, "RoleName must contain a string field named: db. But, has type int"),
        (
            {"role": "r", "db": "d", "authenticationRestrictions": 5},
            "BSON field 'authenticationRestrictions' is the wrong type 'int', expected type 'array'",
        ),
    ],
)
def test_the_reason_why_a_document_is_no_role_is_for_the_audit_stream(doc: object, reason: str) -> None:
    with pytest.raises(CommandError) as caught:
        role_from_directory(doc)
    assert caught.value.errmsg == "The user directory holds a malformed role document"
    assert caught.value.reason == reason


@pytest.mark.parametrize("zeros", [14, 15])
def test_a_prefix_length_may_have_leading_zeros_up_to_sixteen_digits(zeros: int) -> None:
    text = "127.0.0.1/" + "0" * zeros + "8"
    (parsed,) = parse_restriction({"clientSource": [text]}).client_source or ()
    assert str(parsed) == "127.0.0.0/8"
    with pytest.raises(CommandError, match="Invalid length in CIDR string"):
        parse_restriction({"clientSource": ["127.0.0.1/" + "0" * 16 + "8"]})


def test_what_follows_a_privilege_that_is_not_understood_still_counts() -> None:
    docs = [{"resource": {"db": "t", "anyCollection": True}, "actions": ["find"]}, *NEWER]
    assert parse_privileges(docs, newer_upstream=True) == (Privilege(ON_C, frozenset({"find", "teleport"})),)
