"""Users apart from each other: sessions, transactions, cursors, operations.

Upstream all of them are one service user, so what mongod does by itself mongoguard must do here. The rules are mongod's:
most tests run on the plain mongod too.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bson
import pytest
from bson import Binary, Int64, Timestamp
from pymongo.errors import OperationFailure

from tests.rawwire import ConnectionEnded, RawConnection
from tests.servers import Client, Guard, Mongod, password_of

UNAUTHORIZED = 13
RIVAL = "rival"
"""A second user with the same rights as app."""


@contextmanager
def logged_in(server: Guard | Mongod, user: str) -> Iterator[RawConnection]:
    """A connection of that user."""
    with RawConnection(server.address) as raw:
        raw.log_in(user, password_of(user))
        yield raw


def create_rival(root: Client) -> None:
    """Create the second user unless it is there already."""
    with contextlib.suppress(OperationFailure):
        root.admin.command(
            "createUser", RIVAL, pwd=password_of(RIVAL), roles=[{"role": "readWrite", "db": "shop"}]
        )


@pytest.fixture
def guarded(guard: Guard) -> Guard:
    """mongoguard, the collection iso of ten documents, and the users app and rival."""
    with guard.client() as root:
        create_rival(root)
        root.shop.iso.drop()
        root.shop.iso.insert_many([{"_id": i} for i in range(10)])
    return guard


@pytest.fixture(params=["mongod", "mongoguard"])
def server(request: pytest.FixtureRequest, guarded: Guard) -> Guard | Mongod:
    """The same deployment, without mongoguard and through it."""
    return guarded.upstream if request.param == "mongod" else guarded


def new_session() -> dict[str, Any]:
    """An lsid nobody has used."""
    return {"id": Binary(uuid.uuid4().bytes, 4)}


def digest(user: str) -> Binary:
    """The owner's mark that mongod puts into an lsid."""
    return Binary(hashlib.sha256(f"{user}@admin".encode()).digest(), 0)


def open_cursor(raw: RawConnection, **fields: Any) -> Int64:
    """A cursor over shop.iso with documents left."""
    reply = raw.command("shop", {"find": "iso", "batchSize": 2, **fields})
    assert reply["ok"] == 1, reply
    assert reply["cursor"]["id"], reply
    return Int64(reply["cursor"]["id"])


def get_more(raw: RawConnection, cursor_id: int, **fields: Any) -> dict[str, Any]:
    """A getMore on shop.iso."""
    return raw.command("shop", {"getMore": Int64(cursor_id), "collection": "iso", "batchSize": 2, **fields})


# ---- cursors --------------------------------------------------------------------------------------------------------


def test_a_cursor_serves_its_owner_on_any_connection(server: Guard | Mongod) -> None:
    with logged_in(server, "app") as first, logged_in(server, "app") as second:
        cursor = open_cursor(first)
        assert [d["_id"] for d in get_more(first, cursor)["cursor"]["nextBatch"]] == [2, 3]
        assert [d["_id"] for d in get_more(second, cursor)["cursor"]["nextBatch"]] == [4, 5]


def test_a_cursor_serves_nobody_else(server: Guard | Mongod) -> None:
    with logged_in(server, "app") as owner, logged_in(server, RIVAL) as rival:
        cursor = open_cursor(owner)
        refused = get_more(rival, cursor)
        assert (refused["code"], refused["errmsg"]) == (
            UNAUTHORIZED,
            f"cursor id {cursor} was not created by the authenticated user",
        )
        assert get_more(owner, cursor)["ok"] == 1, "the refusal leaves it to its owner"


def test_not_even_root_reads_another_users_cursor(server: Guard | Mongod) -> None:
    with logged_in(server, "app") as owner, logged_in(server, "root") as root:
        cursor = open_cursor(owner)
        assert get_more(root, cursor)["code"] == UNAUTHORIZED


def test_an_unknown_cursor_is_not_found(server: Guard | Mongod) -> None:
    with logged_in(server, "app") as raw:
        refused = get_more(raw, 123456789)
        assert (refused["code"], refused["codeName"]) == (43, "CursorNotFound")
        assert refused["errmsg"] == "cursor id 123456789 not found"


def test_a_cursor_that_was_read_to_its_end_is_not_found(server: Guard | Mongod) -> None:
    with logged_in(server, "app") as raw:
        cursor = open_cursor(raw)
        reply = raw.command("shop", {"getMore": cursor, "collection": "iso"})
        assert (reply["cursor"]["id"], len(reply["cursor"]["nextBatch"])) == (0, 8)
        assert get_more(raw, cursor)["code"] == 43


def test_a_cursor_of_a_session_is_read_in_that_session_only(server: Guard | Mongod) -> None:
    own, other = new_session(), new_session()
    with logged_in(server, "app") as raw:
        cursor = open_cursor(raw, lsid=own)
        for fields in ({}, {"lsid": other}):
            refused = get_more(raw, cursor, **fields)
            assert refused["code"] == UNAUTHORIZED, refused
            assert refused["errmsg"].startswith(f"Cursor session id ({uuid.UUID(bytes=own['id'])}")
            assert "is not the same as the operation context's session id (" in refused["errmsg"]
        assert get_more(raw, cursor, lsid=own)["ok"] == 1


def test_a_cursor_without_a_session_is_not_read_in_one(server: Guard | Mongod) -> None:
    with logged_in(server, "app") as raw:
        cursor = open_cursor(raw)
        refused = get_more(raw, cursor, lsid=new_session())
        assert refused["code"] == UNAUTHORIZED
        assert refused["errmsg"].startswith("Cursor session id (none) is not the same as")
        assert get_more(raw, cursor)["ok"] == 1


def test_a_cursor_is_read_on_its_own_collection_only(server: Guard | Mongod) -> None:
    with logged_in(server, "app") as raw:
        cursor = open_cursor(raw)
        refused = raw.command("shop", {"getMore": cursor, "collection": "orders"})
        assert (refused["code"], refused["errmsg"]) == (
            UNAUTHORIZED,
            "Requested getMore on namespace 'shop.orders', but cursor belongs to a different namespace shop.iso",
        )
        assert get_more(raw, cursor)["ok"] == 1


def test_own_cursors_are_killed_and_unknown_ones_are_not_found(server: Guard | Mongod) -> None:
    with logged_in(server, "app") as raw:
        cursor, unknown = open_cursor(raw), Int64(123456789)
        reply = raw.command("shop", {"killCursors": "iso", "cursors": [unknown, cursor]})
        assert reply["ok"] == 1
        assert (reply["cursorsKilled"], reply["cursorsNotFound"]) == ([cursor], [unknown])
        assert (reply["cursorsAlive"], reply["cursorsUnknown"]) == ([], [])
        assert get_more(raw, cursor)["code"] == 43


def test_a_strangers_cursor_is_not_killed_and_neither_is_ones_own_beside_it(server: Guard | Mongod) -> None:
    with logged_in(server, "app") as owner, logged_in(server, RIVAL) as rival:
        cursor, rivals = open_cursor(owner), open_cursor(rival)
        for ids in ([cursor], [rivals, cursor], [Int64(5), cursor]):
            refused = rival.command("shop", {"killCursors": "iso", "cursors": ids})
            assert refused["code"] == UNAUTHORIZED, refused
            assert refused["errmsg"].startswith(
                'not authorized on shop to execute command { killCursors: "iso"'
            )
        assert get_more(owner, cursor)["ok"] == 1
        assert get_more(rival, rivals)["ok"] == 1


def test_who_may_kill_any_cursor_kills_a_strangers(server: Guard | Mongod) -> None:
    with logged_in(server, "app") as owner, logged_in(server, "root") as root:
        cursor = open_cursor(owner)
        reply = root.command("shop", {"killCursors": "iso", "cursors": [cursor]})
        assert reply["cursorsKilled"] == [cursor]
        assert get_more(owner, cursor)["code"] == 43


def test_a_cursor_ends_with_the_right_that_opened_it(server: Guard | Mongod) -> None:
    with server.client() as root:
        root.admin.command(
            "createUser", "revoked", pwd=password_of("revoked"), roles=[{"role": "read", "db": "shop"}]
        )
        try:
            with logged_in(server, "revoked") as raw:
                cursor = open_cursor(raw)
                assert get_more(raw, cursor)["ok"] == 1
                root.admin.command("revokeRolesFromUser", "revoked", roles=[{"role": "read", "db": "shop"}])
                refused = get_more(raw, cursor)
                assert (refused["code"], refused["errmsg"]) == (
                    UNAUTHORIZED,
                    f"not authorized for getMore with cursor id {cursor}",
                )
        finally:
            root.admin.command("dropUser", "revoked")


def test_a_cursor_of_a_logged_out_connection_is_closed_to_it(server: Guard | Mongod) -> None:
    with logged_in(server, "app") as raw:
        cursor = open_cursor(raw)
        assert raw.command("admin", {"logout": 1})["ok"] == 1
        refused = get_more(raw, cursor)
        assert (refused["code"], refused["errmsg"]) == (13, "command getMore requires authentication")
        raw.log_in(RIVAL, password_of(RIVAL))
        assert get_more(raw, cursor)["code"] == UNAUTHORIZED


# ---- sessions and transactions --------------------------------------------------------------------------------------


@pytest.fixture(params=["mongod", "mongoguard"])
def set_server(request: pytest.FixtureRequest, guard_replica_set: Guard) -> Guard | Mongod:
    """A deployment that has transactions, without mongoguard and through it, with the users app and rival."""
    with guard_replica_set.client() as root:
        create_rival(root)
        root.shop.iso.drop()
        root.shop.create_collection("iso")
    return guard_replica_set.upstream if request.param == "mongod" else guard_replica_set


def in_transaction(lsid: dict[str, Any], *, start: bool = False, number: int = 1) -> dict[str, Any]:
    """The fields of a command in a transaction."""
    fields: dict[str, Any] = {"lsid": lsid, "txnNumber": Int64(number), "autocommit": False}
    return {**fields, "startTransaction": True} if start else fields


def insert(raw: RawConnection, key: str, lsid: dict[str, Any], *, start: bool = False) -> dict[str, Any]:
    """Insert a document in a transaction."""
    return raw.command(
        "shop", {"insert": "iso", "documents": [{"_id": key}], **in_transaction(lsid, start=start)}
    )


def commit(raw: RawConnection, lsid: dict[str, Any], command: str = "commitTransaction") -> dict[str, Any]:
    """End a transaction."""
    return raw.command("admin", {command: 1, **in_transaction(lsid)})


def stored(server: Guard | Mongod) -> list[str]:
    """The keys in shop.iso."""
    with server.client() as root:
        return sorted(d["_id"] for d in root.shop.iso.find())


@pytest.mark.parametrize("command", ["commitTransaction", "abortTransaction"])
def test_a_transaction_of_another_user_with_the_same_session_id_is_not_found(
    set_server: Guard | Mongod, command: str
) -> None:
    lsid = new_session()
    with logged_in(set_server, "app") as owner, logged_in(set_server, RIVAL) as rival:
        assert insert(owner, "owners", lsid, start=True)["ok"] == 1
        refused = commit(rival, lsid, command)
        assert (refused["code"], refused["codeName"]) == (251, "NoSuchTransaction")
        joined = insert(rival, "joined", lsid)
        assert (joined["code"], joined["codeName"]) == (251, "NoSuchTransaction")
        assert commit(owner, lsid)["ok"] == 1
    assert stored(set_server) == ["owners"]


def test_two_users_transactions_with_one_session_id_run_side_by_side(set_server: Guard | Mongod) -> None:
    lsid = new_session()
    with logged_in(set_server, "app") as first, logged_in(set_server, RIVAL) as second:
        assert insert(first, "first", lsid, start=True)["ok"] == 1
        assert insert(second, "second", lsid, start=True)["ok"] == 1
        assert commit(second, lsid, "abortTransaction")["ok"] == 1
        assert insert(first, "first-too", lsid)["ok"] == 1
        assert commit(first, lsid)["ok"] == 1
    assert stored(set_server) == ["first", "first-too"]


def test_a_transaction_goes_on_on_another_connection_of_its_user(set_server: Guard | Mongod) -> None:
    lsid = new_session()
    with logged_in(set_server, "app") as first, logged_in(set_server, "app") as second:
        assert insert(first, "first", lsid, start=True)["ok"] == 1
        assert insert(second, "second", lsid)["ok"] == 1
        assert commit(second, lsid)["ok"] == 1
    assert stored(set_server) == ["first", "second"]


@pytest.mark.parametrize("command", ["endSessions", "killSessions"])
def test_ending_a_session_id_ends_no_other_users_session(set_server: Guard | Mongod, command: str) -> None:
    lsid = new_session()
    with logged_in(set_server, "app") as owner, logged_in(set_server, RIVAL) as rival:
        assert insert(owner, "owners", lsid, start=True)["ok"] == 1
        assert rival.command("admin", {command: [lsid]})["ok"] == 1
        assert commit(owner, lsid)["ok"] == 1
    assert stored(set_server) == ["owners"]


def test_killing_ones_own_session_ends_its_transaction(set_server: Guard | Mongod) -> None:
    lsid = new_session()
    with logged_in(set_server, "app") as owner:
        assert insert(owner, "owners", lsid, start=True)["ok"] == 1
        assert owner.command("admin", {"killSessions": [lsid]})["ok"] == 1
        assert commit(owner, lsid)["code"] == 251
    assert stored(set_server) == []


def test_killing_all_of_ones_own_sessions_leaves_the_other_users(set_server: Guard | Mongod) -> None:
    lsid = new_session()
    with logged_in(set_server, "app") as owner, logged_in(set_server, RIVAL) as rival:
        assert insert(owner, "owners", lsid, start=True)["ok"] == 1
        assert insert(rival, "rivals", lsid, start=True)["ok"] == 1
        assert rival.command("admin", {"killSessions": []})["ok"] == 1
        assert commit(rival, lsid)["code"] == 251
        assert commit(owner, lsid)["ok"] == 1
    assert stored(set_server) == ["owners"]


def test_killing_a_session_by_its_owners_digest_needs_the_right(set_server: Guard | Mongod) -> None:
    lsid = new_session()
    with logged_in(set_server, "app") as owner, logged_in(set_server, RIVAL) as rival:
        assert insert(owner, "owners", lsid, start=True)["ok"] == 1
        named = {**lsid, "uid": digest("app")}
        for command in ("killSessions", "endSessions", "refreshSessions"):
            assert rival.command("admin", {command: [named]})["code"] == UNAUTHORIZED, command
        pattern = [{"uid": digest("app")}]
        assert rival.command("admin", {"killAllSessionsByPattern": pattern})["code"] == UNAUTHORIZED
        assert rival.command("admin", {"killAllSessions": []})["code"] == UNAUTHORIZED
        assert commit(owner, lsid)["ok"] == 1
    assert stored(set_server) == ["owners"]


# ---- forged marks ---------------------------------------------------------------------------------------------------


def test_a_session_of_another_users_digest_is_refused(server: Guard | Mongod) -> None:
    with logged_in(server, RIVAL) as rival:
        foreign = {**new_session(), "uid": digest("app")}
        refused = rival.command("shop", {"find": "iso", "lsid": foreign})
        assert (refused["code"], refused["codeName"]) == (UNAUTHORIZED, "Unauthorized")
        own = {**new_session(), "uid": digest(RIVAL)}
        assert rival.command("shop", {"find": "iso", "lsid": own})["ok"] == 1


@pytest.mark.parametrize("user", ["app", "root"])
def test_nobody_acts_as_another_user_by_audit_metadata(server: Guard | Mongod, user: str) -> None:
    forged = {"$impersonatedUsers": [{"user": "root", "db": "admin"}], "$impersonatedRoles": []}
    with logged_in(server, user) as raw:
        refused = raw.command("shop", {"find": "iso", "$audit": forged})
        assert (refused["ok"], refused["code"]) == (0, UNAUTHORIZED)
        assert raw.command("shop", {"find": "iso"})["ok"] == 1


@pytest.mark.parametrize("signature", ["unknown key", "known key", "none"])
def test_a_forged_cluster_time_moves_nothing(set_server: Guard | Mongod, signature: str) -> None:
    with logged_in(set_server, "app") as raw, set_server.client() as root:
        real = raw.command("admin", {"ping": 1})["$clusterTime"]
        ahead = Timestamp(real["clusterTime"].time + 1_000_000, 1)
        forged: dict[str, Any] = {"clusterTime": ahead}
        if signature != "none":
            key = real["signature"]["keyId"] if signature == "known key" else Int64(12345)
            forged["signature"] = {"hash": Binary(b"\1" * 20, 0), "keyId": key}
        refused = raw.command("shop", {"find": "iso", "$clusterTime": forged})
        assert refused["ok"] == 0, refused
        if signature == "unknown key":
            assert (refused["code"], refused["codeName"]) == (211, "KeyNotFound")
        now = root.admin.command("ping")["$clusterTime"]["clusterTime"]
        assert now.time < real["clusterTime"].time + 1000
        assert raw.command("shop", {"find": "iso", "$clusterTime": real})["ok"] == 1


# ---- operations -----------------------------------------------------------------------------------------------------


@contextmanager
def slow_query(server: Guard | Mongod, direct: Client, user: str) -> Iterator[dict[str, Any]]:
    """A query of `user` that runs until the block ends; yields it as mongod lists it."""
    comment = f"slow {uuid.uuid4()}"

    def run() -> None:
        with logged_in(server, user) as raw, contextlib.suppress(ConnectionEnded):
            # mongod forgets effectiveUsers of an operation that loads the database's stored functions: the first one
            raw.command("shop", {"find": "iso", "filter": {"$where": "true"}})
            raw.command(
                "shop", {"find": "iso", "filter": {"$where": "sleep(500) || true"}, "comment": comment}
            )

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield _running(direct, comment)
    finally:
        for operation in _operations(direct, comment):
            direct.admin.command("killOp", op=operation["opid"])
        thread.join(20)
        assert not thread.is_alive()


def _running(direct: Client, comment: str) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = _operations(direct, comment)
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError("the slow query does not run")


def _operations(direct: Client, comment: str) -> list[dict[str, Any]]:
    stages: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True}},
        {"$match": {"command.comment": comment}},
    ]
    return list(direct.admin.aggregate(stages))


def test_mongod_names_the_real_user_of_an_operation_and_who_runs_it(guarded: Guard) -> None:
    service = [{"user": "mongoguard", "db": "admin"}]
    for _ in range(3):
        with guarded.upstream.client() as direct, slow_query(guarded, direct, "app") as operation:
            named = operation["effectiveUsers"], operation.get("runBy")
        if named[0] != service:  # mongod forgets the user of an operation that loads stored functions
            break
    assert named == ([{"user": "app", "db": "admin"}], service)


def _own_operations(raw: RawConnection) -> list[list[dict[str, Any]]]:
    """What a user sees by the command, and by the stage."""
    by_command = raw.command("admin", {"currentOp": 1, "$ownOps": True})
    by_stage = raw.command("admin", {"aggregate": 1, "pipeline": [{"$currentOp": {}}], "cursor": {}})
    assert (by_command["ok"], by_stage["ok"]) == (1, 1), (by_command, by_stage)
    return [by_command["inprog"], by_stage["cursor"]["firstBatch"]]


def test_a_user_sees_its_own_operations_only(server: Guard | Mongod) -> None:
    upstream = server.upstream if isinstance(server, Guard) else server
    with upstream.client() as direct, slow_query(server, direct, "app") as operation:
        with logged_in(server, "app") as own:
            for seen in _own_operations(own):
                assert operation["opid"] in [o["opid"] for o in seen]
        with logged_in(server, RIVAL) as rival:
            for seen in _own_operations(rival):
                assert operation["opid"] not in [o["opid"] for o in seen]
                assert {u["user"] for o in seen for u in o.get("effectiveUsers", [])} == {RIVAL}
        with logged_in(server, "root") as root:
            everybodys = root.command("admin", {"currentOp": 1})["inprog"]
            assert operation["opid"] in [o["opid"] for o in everybodys]


def test_everybodys_operations_need_the_right(server: Guard | Mongod) -> None:
    with logged_in(server, "app") as raw:
        assert raw.command("admin", {"currentOp": 1})["code"] == UNAUTHORIZED
        stage = {"$currentOp": {"allUsers": True}}
        reply = raw.command("admin", {"aggregate": 1, "pipeline": [stage], "cursor": {}})
        assert reply["code"] == UNAUTHORIZED


def test_a_user_does_not_end_another_users_operation(server: Guard | Mongod) -> None:
    upstream = server.upstream if isinstance(server, Guard) else server
    with upstream.client() as direct, slow_query(server, direct, "app") as operation:
        with logged_in(server, RIVAL) as rival:
            assert rival.command("admin", {"killOp": 1, "op": operation["opid"]})["code"] == UNAUTHORIZED
        assert _operations(direct, operation["command"]["comment"])
        with logged_in(server, "root") as root:
            assert root.command("admin", {"killOp": 1, "op": operation["opid"]})["ok"] == 1


def test_nobody_reads_the_service_users_login_or_the_upstreams_users(guarded: Guard) -> None:
    """What a client sees of itself is itself, never the identity that its commands run under."""
    with logged_in(guarded, "app") as raw:
        assert raw.command("admin", {"usersInfo": "mongoguard"})["code"] == UNAUTHORIZED
        for reply in (
            raw.command("admin", {"connectionStatus": 1, "showPrivileges": True}),
            raw.command("admin", {"usersInfo": "app"}),
            raw.command("admin", {"hello": 1}),
        ):
            assert reply["ok"] == 1
            assert b"mongoguard" not in bson.encode(reply)
