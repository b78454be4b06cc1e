"""Generic arguments: nobody borrows the service user's privileges through them."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from mongoguard.command.catalog import find_row
from mongoguard.command.generic import check_api_version, generic_denied, generic_requirement
from mongoguard.command.sessions import session_uid, sessions_named
from mongoguard.errors import CommandError
from mongoguard.model.names import UserName
from mongoguard.model.privilege import NOTHING, Requirement
from tests.unit.command.commands import ALICE, cluster, command

UUID = Binary(b"u" * 16, 4)
OWN = session_uid(UserName("alice", "shop"))


def need(**arguments: Any) -> Requirement:
    return generic_requirement(command({"ping": 1, **arguments}), ALICE)


def refused(**arguments: Any) -> int:
    with pytest.raises(CommandError) as error:
        need(**arguments)
    return error.value.code


@pytest.mark.parametrize("lsid", [{"id": UUID}, {"id": UUID, "uid": OWN}, {"id": UUID, "uid": None}, None])
def test_ones_own_session_needs_nothing(lsid: Any) -> None:
    assert need(lsid=lsid) == NOTHING


def test_another_users_session_needs_impersonate_and_is_refused_in_mongods_words() -> None:
    lsid = {"id": UUID, "uid": b"x" * 32}
    assert need(lsid=lsid) == cluster("impersonate")
    denied = generic_denied(command({"ping": 1, "lsid": lsid}), ALICE)
    assert (denied.code, denied.errmsg) == (13, "Unauthorized to set user digest in LogicalSessionId")


@pytest.mark.parametrize(
    ("lsid", "code"),
    [
        (5, 14),
        ({}, 40414),
        ({"id": 5}, 14),
        ({"id": Binary(b"x" * 16, 0)}, 14),
        ({"id": Binary(b"x" * 5, 4)}, 207),
        ({"id": UUID, "bogus": 1}, 40415),
        ({"id": UUID, "uid": 5}, 14),
        ({"id": UUID, "uid": b"xxx"}, 12),
        ({"id": UUID, "txnNumber": Int64(1)}, 72),
        ({"id": UUID, "txnUUID": UUID}, 72),
    ],
)
def test_a_malformed_session_is_refused(lsid: Any, code: int) -> None:
    assert refused(lsid=lsid) == code


def test_impersonation_metadata_needs_impersonate() -> None:
    audit: dict[str, Any] = {"$audit": {"$impersonatedUsers": [], "$impersonatedRoles": []}}
    assert need(**audit) == cluster("impersonate")
    assert (
        generic_denied(command({"ping": 1, **audit}), ALICE).errmsg
        == "Unauthorized use of impersonation metadata."
    )
    assert refused(**{"$audit": {}}) == 40414
    assert refused(**{"$audit": 5}) == 14


@pytest.mark.parametrize(
    "name",
    [
        "maxTimeMSOpOnly",
        "mayBypassWriteBlocking",
        "$configTime",
        "shardVersion",
        "coordinator",
        "$client",
        "$replData",
    ],
)
def test_arguments_between_servers_need_internal(name: str) -> None:
    assert need(**{name: 1}) == cluster("internal")


@pytest.mark.parametrize("name", ["$tenant", "expectPrefix"])
def test_arguments_that_change_what_a_namespace_means_are_refused(name: str) -> None:
    assert refused(**{name: 1}) == 72


@pytest.mark.parametrize("name", ["comment", "$clusterTime", "$readPreference", "maxTimeMS", "txnNumber"])
def test_what_drivers_send_needs_nothing(name: str) -> None:
    assert need(**{name: 1}) == NOTHING


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"apiVersion": "2"}, 322),
        ({"apiVersion": ""}, 322),
        ({"apiVersion": 1}, 14),
        ({"apiStrict": True}, 4886600),
        ({"apiDeprecationErrors": False}, 4886600),
        ({"apiVersion": "1", "apiStrict": 1}, 14),
        ({"apiVersion": "1", "apiStrict": True}, 323),
    ],
)
def test_a_wrong_api_version_is_refused(arguments: dict[str, Any], code: int) -> None:
    row = find_row("whatsmyuri")
    assert row is not None
    with pytest.raises(CommandError) as error:
        check_api_version(command({"whatsmyuri": 1, **arguments}), row)
    assert error.value.code == code


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"apiVersion": "1"},
        {"apiVersion": None},
        {"apiVersion": "1", "apiStrict": True, "apiDeprecationErrors": True},
    ],
)
def test_a_right_api_version_is_accepted(arguments: dict[str, Any]) -> None:
    row = find_row("find")
    assert row is not None
    check_api_version(command({"find": "c", **arguments}), row)


def test_sessions_named_by_a_command_are_read() -> None:
    (session,) = sessions_named(command({"endSessions": [{"id": UUID}]}))
    assert session.id == b"u" * 16
    assert session.uid is None
    with pytest.raises(CommandError):
        sessions_named(command({"endSessions": [{"id": 5}]}))
