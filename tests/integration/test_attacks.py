"""Attacks that got through once, put to both deployments: what a stranger or a user with few rights must not gain.

Each attack has its twin on the plain mongod: mongoguard must not tell or allow more.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from bson import Binary, Int64
from pymongo.errors import OperationFailure

from tests.rawwire import RawConnection
from tests.servers import Guard, Mongod, password_of

UNAUTHORIZED = 13
CONVERSION_FAILURE = 241
PEEPER = "peeper"
"""A user who may find in shop.visible, and in nothing else."""
EVERY_NAME_IN_AN_ERROR = {"$expr": {"$toInt": "$name"}}


@pytest.fixture
def guarded(guard: Guard) -> Guard:
    """mongoguard, the collections visible and hidden of shop, the database vault, and peeper."""
    with guard.client() as root:
        resource = {"db": "shop", "collection": "visible"}
        for command, name, fields in (
            (
                "createRole",
                "peeping",
                {"privileges": [{"resource": resource, "actions": ["find"]}], "roles": []},
            ),
            ("createUser", PEEPER, {"pwd": password_of(PEEPER), "roles": ["peeping"]}),
        ):
            with contextlib.suppress(OperationFailure):  # made by the test before
                root.admin.command(command, name, **fields)
        for db, collection in (("shop", "visible"), ("shop", "hidden"), ("vault", "gold")):
            root[db][collection].replace_one({"_id": 1}, {"_id": 1}, upsert=True)
    return guard


@pytest.fixture(params=["mongod", "mongoguard"])
def server(request: pytest.FixtureRequest, guarded: Guard) -> Guard | Mongod:
    """The same deployment, without mongoguard and through it."""
    return guarded.upstream if request.param == "mongod" else guarded


@pytest.fixture
def peeper(server: Guard | Mongod) -> Iterator[RawConnection]:
    """A connection of that user."""
    with RawConnection(server.address) as raw:
        raw.log_in(PEEPER, password_of(PEEPER))
        yield raw


# ---- names that one may not see ---------------------------------------------------------------------------------


def collections_listed(raw: RawConnection, **fields: Any) -> dict[str, Any]:
    return raw.command(
        "shop", {"listCollections": 1, "nameOnly": True, "authorizedCollections": True, **fields}
    )


def test_an_error_in_the_filter_of_list_databases_names_no_other_database(peeper: RawConnection) -> None:
    reply = peeper.command("admin", {"listDatabases": 1, "filter": EVERY_NAME_IN_AN_ERROR})
    assert reply["code"] == CONVERSION_FAILURE
    assert "'shop'" in reply["errmsg"]


def test_an_error_that_only_a_hidden_database_raises_is_not_raised(peeper: RawConnection) -> None:
    fails_for_vault = {"$expr": {"$cond": [{"$eq": ["$name", "vault"]}, {"$toInt": "$name"}, True]}}
    reply = peeper.command("admin", {"listDatabases": 1, "nameOnly": True, "filter": fails_for_vault})
    assert [d["name"] for d in reply["databases"]] == ["shop"]


def test_an_error_in_the_filter_of_list_collections_names_no_other_collection(peeper: RawConnection) -> None:
    reply = collections_listed(peeper, filter=EVERY_NAME_IN_AN_ERROR)
    assert reply["code"] == CONVERSION_FAILURE
    assert "'visible'" in reply["errmsg"]


@pytest.mark.parametrize("guess", ["hidden", "no such collection"])
def test_a_cursor_over_collections_does_not_tell_how_many_more_there_are(
    peeper: RawConnection, guess: str
) -> None:
    reply = collections_listed(peeper, filter={"name": {"$in": ["visible", guess]}}, cursor={"batchSize": 1})
    assert [c["name"] for c in reply["cursor"]["firstBatch"]] == ["visible"]
    assert reply["cursor"]["id"] == 0


def test_who_may_see_a_name_is_shown_it_by_the_same_filters(server: Guard | Mongod) -> None:
    with server.client() as root:
        names = {d["name"] for d in root.list_databases(filter={"name": {"$in": ["shop", "vault"]}})}
        assert names == {"shop", "vault"}
        assert "hidden" in root.shop.list_collection_names(filter={"name": {"$regex": "^h"}})


# ---- sessions of strangers ----------------------------------------------------------------------------------------


def test_a_stranger_leaves_no_session_in_the_server(server: Guard | Mongod, guarded: Guard) -> None:
    named = [uuid.uuid4().bytes for _ in range(5)]
    with RawConnection(server.address) as raw:
        for session in named:
            lsid = {"id": Binary(session, 4)}
            assert raw.command("admin", {"listCommands": 1, "lsid": lsid})["ok"] == 1
    with guarded.upstream.client() as root:
        known = root.admin.aggregate([{"$listLocalSessions": {"allUsers": True}}])
        assert not {bytes(s["_id"]["id"]) for s in known} & set(named)


# ---- logins that began before a change ------------------------------------------------------------------------------


def test_what_the_upstream_refuses_does_not_tell_what_was_added(guarded: Guard) -> None:
    """The service user may not do what `internal` allows; the upstream prints the command that it refuses."""
    with guarded.client() as root, contextlib.suppress(OperationFailure):
        root.admin.command("createUser", "machine", pwd=password_of("machine"), roles=["__system"])
    with RawConnection(guarded.address) as raw:
        raw.log_in("machine", password_of("machine"))
        lsid = {"id": Binary(uuid.uuid4().bytes, 4)}
        reply = raw.command("shop", {"find": "visible", "term": Int64(1), "lsid": lsid})
        assert (reply["code"], reply["codeName"]) == (UNAUTHORIZED, "Unauthorized")
        assert reply["errmsg"].startswith("not authorized on shop to execute command { find: ")
        for added in ("impersonated", "$audit", "uid", "__system"):
            assert added not in str(reply)
        assert list(reply)[:4] == ["ok", "errmsg", "code", "codeName"]


def begin_login(raw: RawConnection, user: str) -> tuple[str, str]:
    """The client's bare first message, and the server's answer."""
    first = f"n={user},r={base64.b64encode(secrets.token_bytes(18)).decode()}"
    start = {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "options": {"skipEmptyExchange": True}}
    reply = raw.command("admin", {**start, "payload": f"n,,{first}".encode()})
    assert reply["ok"] == 1, reply
    return first, bytes(reply["payload"]).decode()


def finish_login(raw: RawConnection, password: str, first: str, challenge: str) -> dict[str, Any]:
    fields = dict(part.split("=", 1) for part in challenge.split(","))
    salt, iterations = base64.b64decode(fields["s"]), int(fields["i"])
    key = hmac.digest(
        hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations), b"Client Key", "sha256"
    )
    without_proof = f"c=biws,r={fields['r']}"
    signed = f"{first},{challenge},{without_proof}".encode()
    signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
    payload = f"{without_proof},p={proof}".encode()
    return raw.command("admin", {"saslContinue": 1, "conversationId": 1, "payload": payload})


@pytest.mark.parametrize("is_second_login", [False, True])
def test_a_login_held_open_over_a_revocation_gains_nothing(guarded: Guard, is_second_login: bool) -> None:
    user = f"sleeper{int(is_second_login)}"
    with guarded.client() as root, RawConnection(guarded.address) as raw:
        root.admin.command("createUser", user, pwd="pw", roles=["peeping"])
        try:
            if is_second_login:
                raw.log_in(user, "pw")
                assert raw.command("shop", {"find": "visible"})["ok"] == 1
            begun = begin_login(raw, user)
            root.admin.command("revokeRolesFromUser", user, roles=["peeping"])
            finish_login(raw, "pw", *begun)
            assert raw.command("shop", {"find": "visible"})["code"] == UNAUTHORIZED
        finally:
            root.admin.command("dropUser", user)


# ---- time and memory ----------------------------------------------------------------------------------------------


def test_a_command_with_many_names_is_decided_in_passing(guarded: Guard) -> None:
    """Each name once cost a pass over all of them, and nobody else was served for minutes."""
    with RawConnection(guarded.address, timeout=60) as raw:
        raw.log_in(PEEPER, password_of(PEEPER))
        names = {"usersInfo": [{"user": "u", "db": f"d{i}"} for i in range(50_000)]}
        assert raw.command("admin", names)["code"] == UNAUTHORIZED
        allowed = raw.command("shop", {"find": "visible"})
        assert allowed["ok"] == 1
