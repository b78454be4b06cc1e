"""Sessions: whose they are is told by their digest; malformed ones are refused in mongod's words."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from bson import Binary, Int64

from mongoguard.command.generic import check_transaction_fields, generic_denied, generic_requirement
from mongoguard.command.sessions import (
    SessionId,
    check_lsid,
    names_foreign_session,
    session_uid,
    sessions_named,
)
from mongoguard.command.spec import Asker
from mongoguard.errors import CommandError
from mongoguard.model.names import UserName
from mongoguard.model.privilege import NOTHING, Requirement
from tests.unit.command.commands import ALICE, cluster, command, required

UUID = Binary(b"u" * 16, 4)
OWN = hashlib.sha256(b"alice@shop").digest()
FOREIGN = b"x" * 32


def lsid(value: Any) -> SessionId | None:
    return check_lsid(command({"ping": 1, "lsid": value}).body)


def refusal(read: Any, *arguments: Any) -> tuple[int, str]:
    with pytest.raises(CommandError) as caught:
        read(*arguments)
    return caught.value.code, caught.value.errmsg


def test_a_digest_is_that_of_the_name() -> None:
    assert session_uid(UserName("alice", "shop")) == OWN


def test_a_plain_session_says_nothing_more_than_none() -> None:
    assert check_lsid(command({"ping": 1}).body) is None
    assert lsid({"id": UUID}) is None
    assert lsid(None) is None


def test_a_session_with_a_digest_is_read() -> None:
    assert lsid({"id": UUID, "uid": OWN}) == SessionId(b"u" * 16, OWN)
    assert lsid({"uid": OWN, "id": UUID}) == SessionId(b"u" * 16, OWN)
    assert lsid({"id": UUID, "uid": None}) == SessionId(b"u" * 16)


PATH = "BSON field 'OperationSessionInfo.lsid"


@pytest.mark.parametrize(
    ("value", "code", "errmsg"),
    [
        (5, 14, f"{PATH}' is the wrong type 'int', expected type 'object'"),
        (b"x" * 25, 14, f"{PATH}' is the wrong type 'binData', expected type 'object'"),
        ({}, 40414, f"{PATH}.id' is missing but a required field"),
        ({"id": None}, 40414, f"{PATH}.id' is missing but a required field"),
        ({"id": 5}, 14, f"{PATH}.id' is the wrong type 'int', expected type 'binData'"),
        ({"id": b"u" * 16}, 14, f"{PATH}.id' is the wrong binData type 'general', expected type 'UUID'"),
        (
            {"id": Binary(b"u" * 16, 3)},
            14,
            f"{PATH}.id' is the wrong binData type 'UUID (deprecated)', expected type 'UUID'",
        ),
        (
            {"id": Binary(b"u" * 16, 99)},
            14,
            f"{PATH}.id' is the wrong binData type 'unknown', expected type 'UUID'",
        ),
        (
            {"id": Binary(b"u" * 15, 4)},
            207,
            "uuid must be a 16-byte binary field with UUID (4) subtype",
        ),
        (
            {"id": Binary(b"u" * 17, 4)},
            207,
            "uuid must be a 16-byte binary field with UUID (4) subtype",
        ),
        ({"id": UUID, "x": 1}, 40415, f"{PATH}.x' is an unknown field."),
        ({"id": UUID, "uid": 5}, 14, f"{PATH}.uid' is the wrong type 'int', expected type 'binData'"),
        ({"id": UUID, "uid": b"x" * 31}, 12, "Unsupported SHA256Block hash length: 31"),
        ({"id": UUID, "uid": b"x" * 33}, 12, "Unsupported SHA256Block hash length: 33"),
        ({"id": UUID, "txnNumber": Int64(1)}, 72, "Internal sessions are only allowed for internal clients"),
        ({"id": UUID, "txnUUID": UUID}, 72, "Internal sessions are only allowed for internal clients"),
    ],
)
def test_a_session_that_is_not_understood_is_refused(value: Any, code: int, errmsg: str) -> None:
    assert refusal(lsid, value) == (code, errmsg)


def test_an_id_of_the_plain_ones_size_with_another_subtype_is_read_in_full() -> None:
    assert refusal(lsid, {"id": Binary(b"u" * 16, 0)})[0] == 14
    assert refusal(lsid, {"ix": UUID})[0] == 40415


def test_a_session_is_foreign_when_its_digest_is_not_ones_own() -> None:
    assert not names_foreign_session(None, ALICE)
    assert not names_foreign_session(SessionId(b"u" * 16), ALICE)
    assert not names_foreign_session(SessionId(b"u" * 16, OWN), ALICE)
    assert names_foreign_session(SessionId(b"u" * 16, FOREIGN), ALICE)
    assert names_foreign_session(SessionId(b"u" * 16, OWN), Asker(UserName("alice", "other")))
    assert names_foreign_session(SessionId(b"u" * 16, OWN), Asker())


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("endSessions", "endSessions.endSessionsFromClient"),
        ("killSessions", "KillSessionsCmd.killSessions"),
        ("refreshSessions", "refreshSessions.refreshSessionsFromClient"),
    ],
)
def test_sessions_are_named_in_order_and_understood_or_refused(name: str, path: str) -> None:
    named = sessions_named(command({name: [{"id": UUID}, {"id": UUID, "uid": FOREIGN}]}))
    assert named == (SessionId(b"u" * 16), SessionId(b"u" * 16, FOREIGN))
    assert refusal(sessions_named, command({name: [{"id": UUID, "x": 1}]})) == (
        40415,
        f"BSON field '{path}.x' is an unknown field.",
    )
    assert refusal(sessions_named, command({name: [{"id": 5}]}))[0] == 14
    assert refusal(sessions_named, command({name: [5]})) == (
        14,
        f"BSON field '{path}.0' is the wrong type 'int', expected type 'object'",
    )


@pytest.mark.parametrize("name", ["endSessions", "killSessions", "refreshSessions"])
def test_nulls_among_sessions_are_passed_over_and_a_null_is_no_list(name: str) -> None:
    assert sessions_named(command({name: [None]})) == ()
    assert sessions_named(command({name: [None, {"id": UUID}]})) == (SessionId(b"u" * 16),)
    expected = (10065, f"invalid parameter: expected an object ({name})")
    assert refusal(sessions_named, command({name: None})) == expected


@pytest.mark.parametrize("name", ["endSessions", "killSessions", "refreshSessions"])
def test_a_null_does_not_hide_a_foreign_session_behind_it(name: str) -> None:
    assert required({name: [None, {"id": UUID, "uid": OWN}]}) == NOTHING
    assert required({name: [None, {"id": UUID, "uid": FOREIGN}]}) != NOTHING


ANYBODY, OTHERS = cluster("killAnySession"), cluster("killAnySession", "impersonate")
USERS = {"users": [{"user": "bob", "db": "shop"}]}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        *((value, ANYBODY) for value in (1, None, "x", {}, USERS, True)),
        *(([value], ANYBODY) for value in (1, None, [], [USERS], {}, {"bogus": 1}, {"uid": 1}, {"lsid": {}})),
        *(([value], OTHERS) for value in (USERS, {"users": 1}, {"users": None}, {"roles": []}, {"roles": 5})),
        *((value, OTHERS) for value in ([None, USERS], [5, USERS], [{"uid": 1}, USERS], [USERS, 5])),
    ],
    ids=lambda value: (
        {ANYBODY: "anybody", OTHERS: "others"}.get(value) if isinstance(value, type(OTHERS)) else str(value)
    ),
)
def test_killing_by_pattern_needs_its_privilege_before_the_patterns_are_understood(
    patterns: Any, expected: Requirement
) -> None:
    assert required({"killAllSessionsByPattern": patterns}, "admin") == expected


AUDIT: dict[str, Any] = {"$audit": {"$impersonatedUsers": []}}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, NOTHING),
        ({"lsid": {"id": UUID, "uid": OWN}}, NOTHING),
        ({"lsid": {"id": UUID, "uid": FOREIGN}}, cluster("impersonate")),
        (AUDIT, cluster("impersonate")),
        ({"$audit": {"$impersonatedUser": {}}}, cluster("impersonate")),
        ({"shardVersion": 1}, cluster("internal")),
        ({"shardVersion": 1, **AUDIT}, cluster("impersonate", "internal")),
        (
            {"shardVersion": 1, "lsid": {"id": UUID, "uid": FOREIGN}},
            cluster("impersonate", "internal"),
        ),
        ({"lsid": {"id": UUID, "uid": OWN}, "shardVersion": 1}, cluster("internal")),
    ],
)
def test_generic_arguments_need(more: dict[str, Any], expected: Requirement) -> None:
    assert generic_requirement(command({"ping": 1, **more}), ALICE) == expected


@pytest.mark.parametrize("name", ["$tenant", "$traceCtx", "expectPrefix", "versionContext"])
@pytest.mark.parametrize("more", [{}, AUDIT, {"shardVersion": 1}])
def test_arguments_that_are_never_relayed_are_refused_to_everybody(name: str, more: dict[str, Any]) -> None:
    assert refusal(generic_requirement, command({"ping": 1, name: 1, **more}), ALICE) == (
        72,
        "Multitenancy not enabled, cannot set $tenant in command body",
    )


@pytest.mark.parametrize(
    ("value", "code", "errmsg"),
    [
        (5, 14, "BSON field '$audit.$audit' is the wrong type 'int', expected type 'object'"),
        ({}, 40414, "BSON field '$audit.$impersonatedUsers' is missing but a required field"),
        (
            {"$impersonatedRoles": []},
            40414,
            "BSON field '$audit.$impersonatedUsers' is missing but a required field",
        ),
    ],
)
def test_impersonation_that_is_not_understood_is_refused(value: Any, code: int, errmsg: str) -> None:
    assert refusal(generic_requirement, command({"ping": 1, "$audit": value}), ALICE) == (code, errmsg)


@pytest.mark.parametrize(
    ("more", "code", "errmsg"),
    [
        ({"maxTimeMSOpOnly": 1}, 72, "Can not specify maxTimeMSOpOnly for non internal clients"),
        (
            {"mayBypassWriteBlocking": True},
            6317500,
            "Client is not properly authorized to propagate mayBypassWriteBlocking",
        ),
        (
            {"lsid": {"id": UUID, "uid": FOREIGN}},
            13,
            "Unauthorized to set user digest in LogicalSessionId",
        ),
        (AUDIT, 13, "Unauthorized use of impersonation metadata."),
        ({"shardVersion": 1}, 13, "an argument of this command is only for internal clients"),
        (
            {"lsid": {"id": UUID, "uid": OWN}, "shardVersion": 1},
            13,
            "an argument of this command is only for internal clients",
        ),
    ],
)
def test_a_denied_generic_argument_is_refused_in_mongods_words(
    more: dict[str, Any], code: int, errmsg: str
) -> None:
    denied = generic_denied(command({"ping": 1, **more}), ALICE)
    assert (denied.code, denied.errmsg) == (code, errmsg)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"txnNumber": Int64(1)}, 50889),
        ({"autocommit": False}, 263),
        ({"startTransaction": True}, 263),
        ({"lsid": {"id": 5}}, 14),
        ({"lsid": {}}, 40414),
    ],
)
def test_nobody_has_a_transaction_before_login(more: dict[str, Any], code: int) -> None:
    assert refusal(check_transaction_fields, command({"ping": 1, **more}))[0] == code


@pytest.mark.parametrize("more", [{}, {"lsid": {"id": UUID}}, {"lsid": 5}, {"lsid": None}])
def test_a_command_without_a_transaction_passes_before_login(more: dict[str, Any]) -> None:
    check_transaction_fields(command({"ping": 1, **more}))
