"""The localhost exception and `authorization: disabled`, on real servers: decided on mongoguard's peer, not on mongod's.

Every case runs on the plain mongod too, where its exception is open.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
import yaml
from bson import Binary, Int64

from tests.rawwire import RawConnection
from tests.servers import Guard, Mongod, connection_string, init_upstream, password_of

BOSS: dict[str, Any] = {"createUser": "boss", "pwd": password_of("boss"), "roles": ["root"]}
NOT_AUTHORIZED, NEEDS_LOGIN = "not authorized on", "requires authentication"


class Bare(Mongod):
    """A mongod without users, and without access control where `auth` is false."""

    def __init__(self, directory: Path, *, auth: bool) -> None:
        super().__init__(directory)
        self.auth = auth

    def _spawn(self, arguments: Any, environment: Any = None) -> None:
        super()._spawn([a for a in arguments if self.auth or a != "--auth"], environment)

    def _initialize(self, client: Any) -> None:
        """Nobody is created."""


def with_service_user(mongod: Bare) -> Bare:
    """The service user as the only user: an administrator made by mongod's own exception makes it, and goes."""
    with mongod.client(None) as client:
        client.admin.command("createUser", "root", pwd=password_of("root"), roles=["root"])
    init_upstream(mongod)
    with mongod.client() as root:
        root.admin.command("dropUser", "root")
    return mongod


BYPASS = {"enableLocalhostAuthBypass": True}


def guard_of(directory: Path, mongod: Bare, **settings: Any) -> Guard:
    """mongoguard in front of it, on two loopback addresses."""
    if not mongod.auth:
        mongod.upstream_uri = connection_string(mongod.address, None, None, {})
    return Guard(directory, mongod, {"net": {"bindIp": "127.0.0.1,127.0.0.2"}, **settings})


@pytest.fixture(scope="module")
def upstreams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Bare]]:
    """Three bare servers, booting side by side."""
    names = {"auth": True, "open": False, "plain": True}
    servers = {name: Bare(tmp_path_factory.mktemp(name), auth=auth) for name, auth in names.items()}
    try:
        for server in servers.values():
            server.start()
        for server in servers.values():
            server.wait()
        yield servers
    finally:
        for server in servers.values():
            server.kill()


def emptied(mongod: Bare) -> Bare:
    """Without users but the service's, and without roles but its role."""
    if mongod.upstream_uri is None and mongod.auth:
        return with_service_user(mongod)
    uri = mongod.upstream_uri if mongod.auth else mongod.uri(None)
    with pymongo.MongoClient[dict[str, Any]](uri) as service:
        service.admin["system.users"].delete_many({"user": {"$ne": "mongoguard"}})
        service.admin["system.roles"].delete_many({"role": {"$ne": "mongoguardService"}})
    return mongod


@pytest.fixture(params=["auth", "open"])
def bare(request: pytest.FixtureRequest, upstreams: dict[str, Bare]) -> Bare:
    """A mongod with --auth whose only user is the service user, and one without --auth and without any user."""
    return emptied(upstreams[request.param])


@pytest.fixture
def guard(bare: Bare, tmp_path: Path) -> Iterator[Guard]:
    """Started anew for each test: the exception closes for ever."""
    guard = guard_of(tmp_path / "guard", bare, setParameter=BYPASS)
    try:
        yield guard.start().wait()
    finally:
        assert guard.stop() == 0
        assert "Traceback" not in guard.log


# ---- what it grants -------------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("shop", {**BOSS, "roles": []}),
    ("admin", {**BOSS, "roles": [{"role": "read", "db": "shop"}]}),
    ("admin", {**BOSS, "authenticationRestrictions": []}),
    ("$external", {"createUser": "CN=boss", "roles": ["read"]}),
    ("admin", {"createRole": "r", "privileges": [], "roles": []}),
    ("admin", {"updateUser": "mongoguard", "pwd": "x"}),
    ("admin", {"dropUser": "mongoguard"}),
    ("admin", {"usersInfo": 1}),
    ("shop", {"insert": "c", "documents": [{}]}),
    ("shop", {"find": "c"}),
    ("admin", {"find": "system.users"}),
    ("admin", {"serverStatus": 1}),
    ("admin", {"shutdown": 1}),
    ("admin", {"currentOp": 1}),
    ("admin", {"currentOp": 1, "$ownOps": True}),
    ("admin", {"killOp": 1, "op": 1}),
    *(
        ("admin", {"aggregate": 1, "pipeline": pipeline, "cursor": {}})
        for pipeline in (
            [{"$currentOp": {"allUsers": True}}],
            [{"$currentOp": {}}, {"$unionWith": {"coll": "x", "pipeline": []}}],
            [{"$currentOp": {}}, {"$lookup": {"from": "x", "as": "y", "pipeline": []}}],
            [{"$currentOp": {}}, {"$out": "x"}],
            [{"$listLocalSessions": {}}],
            [],
        )
    ),
    ("admin", {"endSessions": []}),
    ("admin", {"listCollections": 1, "nameOnly": True, "authorizedCollections": True}),
    ("admin", {"find": "c", "lsid": {"id": Binary(b"x" * 16, 4)}}),
]
ANSWERED: list[tuple[str, dict[str, Any], int]] = [
    ("admin", {"createUser": "boss", "pwd": "x"}, 40414),
    ("admin", {"grantRolesToUser": "stranger", "roles": ["root"]}, 11),
    ("admin", {"replSetGetStatus": 1}, 76),
    ("shop", {"replSetGetStatus": 1}, 13),
    ("admin", {"listDatabases": 1}, 0),
    ("admin", {"features": 1}, 0),
    ("admin", {"logout": 1}, 0),
]


@pytest.fixture(params=["plain", "auth", "open"])
def server(
    request: pytest.FixtureRequest, upstreams: dict[str, Bare], tmp_path: Path
) -> Iterator[Guard | Mongod]:
    """A plain mongod without users, and mongoguard in front of those of `bare`."""
    if request.param == "plain":
        yield upstreams["plain"]
        return
    guard = guard_of(tmp_path / "server", emptied(upstreams[request.param]), setParameter=BYPASS)
    try:
        yield guard.start().wait()
    finally:
        guard.stop()


def test_it_grants_nothing_but_the_first_user(server: Guard | Mongod) -> None:
    with RawConnection(server.address) as raw:
        for db, command in REFUSED:
            reply = raw.command(db, command)
            assert (reply.get("code"), NEEDS_LOGIN in reply["errmsg"]) == (13, False), (command, reply)
        for db, command, code in ANSWERED:
            reply = raw.command(db, command)
            assert reply.get("code", 0) == code, (command, reply)
        assert raw.command("admin", {"listDatabases": 1})["databases"] == []
        for options in ({}, {"allUsers": False}, {"idleConnections": True, "idleSessions": True}):
            for rest in ([], [{"$group": {"_id": None, "n": {"$sum": 1}}}], [{"$facet": {"a": []}}]):
                pipeline = [{"$currentOp": options}, *rest]
                reply = raw.command("admin", {"aggregate": 1, "pipeline": pipeline, "cursor": {}})
                shown = [{"a": []}] if rest and "$facet" in rest[0] else []
                assert reply["cursor"]["firstBatch"] == shown, (pipeline, reply)
        status = raw.command("admin", {"connectionStatus": 1, "showPrivileges": True})["authInfo"]
        assert not any(status.values()), status


# ---- until when -----------------------------------------------------------------------------------------------------


def test_the_first_user_ends_it_for_every_connection_and_for_ever(guard: Guard, bare: Bare) -> None:
    with RawConnection(guard.address) as first, RawConnection(guard.address) as second:
        assert second.command("admin", {"features": 1})["ok"] == 1
        assert first.command("admin", BOSS)["ok"] == 1
        for raw in (first, second):
            for command in ({"features": 1}, {**BOSS, "createUser": "boss2"}, {"logout": 1}):
                reply = raw.command("admin", command)
                assert (reply["code"], NEEDS_LOGIN in reply["errmsg"]) == (13, True), (command, reply)
        first.log_in("boss", password_of("boss"))
        assert first.command("shop", {"insert": "c", "documents": [{}]})["ok"] == 1
        emptied(bare)
        reply = second.command("admin", {**BOSS, "createUser": "boss3"})
        assert NEEDS_LOGIN in reply["errmsg"]


@pytest.mark.parametrize("made", ["user", "role"])
def test_a_user_or_role_made_elsewhere_ends_it(guard: Guard, bare: Bare, made: str) -> None:
    with RawConnection(guard.address) as raw:
        assert raw.command("admin", {"features": 1})["ok"] == 1
        with pymongo.MongoClient[dict[str, Any]](bare.upstream_uri) as service:
            if made == "user":
                service.shop.command("createUser", "anybody", pwd="x", roles=[])
            else:
                service.shop.command("createRole", "anything", privileges=[], roles=[])
        assert NEEDS_LOGIN in raw.command("admin", BOSS)["errmsg"]


def test_a_first_user_without_roles_locks_everybody_out(guard: Guard) -> None:
    with RawConnection(guard.address) as raw:
        assert raw.command("admin", {**BOSS, "roles": []})["ok"] == 1
        assert NEEDS_LOGIN in raw.command("admin", {**BOSS, "createUser": "boss2"})["errmsg"]
        raw.log_in("boss", password_of("boss"))
        assert NOT_AUTHORIZED in raw.command("admin", {**BOSS, "createUser": "boss2"})["errmsg"]


def test_the_service_user_does_not_log_in_through_the_exception(guard: Guard) -> None:
    with (
        guard.client("mongoguard", "mongoguard-pw") as client,
        pytest.raises(pymongo.errors.OperationFailure),
    ):
        client.admin.command("ping")


# ---- who has it -----------------------------------------------------------------------------------------------------


def test_a_client_from_any_loopback_address_has_it(guard: Guard) -> None:
    """Clients from elsewhere do not: tests/unit/proxy/test_localhost_exception.py, for servers here are on loopback."""
    with RawConnection(f"127.0.0.2:{guard.port}") as raw:
        assert raw.command("admin", BOSS)["ok"] == 1


@pytest.mark.parametrize("settings", [{}, {"setParameter": {"enableLocalhostAuthBypass": False}}], ids=str)
def test_it_is_off_unless_it_is_switched_on(bare: Bare, tmp_path: Path, settings: dict[str, Any]) -> None:
    guard = guard_of(tmp_path, bare, **settings)
    try:
        guard.start().wait()
        with RawConnection(guard.address) as raw:
            assert NEEDS_LOGIN in raw.command("admin", BOSS)["errmsg"]
    finally:
        guard.stop()


def test_a_users_file_has_no_first_user(bare: Bare, tmp_path: Path) -> None:
    users = tmp_path / "users.yaml"
    users.write_text(yaml.safe_dump({"users": [{"user": "CN=x", "db": "$external", "roles": []}]}))
    guard = guard_of(
        tmp_path, bare, setParameter=BYPASS, security={"userDirectory": "file", "userFile": str(users)}
    )
    try:
        guard.start().wait()
        with RawConnection(guard.address) as raw:
            for command in (BOSS, {"replSetGetStatus": 1}):
                assert NEEDS_LOGIN in raw.command("admin", command)["errmsg"]
    finally:
        guard.stop()


# ---- authorization: disabled ----------------------------------------------------------------------------------------


@pytest.fixture
def disabled(upstreams: dict[str, Bare], tmp_path: Path) -> Iterator[Guard]:
    """mongoguard without authorization, in front of a mongod without, which knows two users."""
    bare = emptied(upstreams["open"])
    with bare.client(None) as client:
        away = [{"clientSource": ["192.0.2.77"]}]
        client.admin.command("createUser", "nobody", pwd=password_of("nobody"), roles=[])
        client.admin.command(
            "createUser", "away", pwd=password_of("away"), roles=["root"], authenticationRestrictions=away
        )
    guard = guard_of(tmp_path / "disabled", bare, security={"authorization": "disabled"})
    try:
        yield guard.start().wait()
    finally:
        guard.stop()


@pytest.fixture(params=["mongod", "mongoguard"])
def without(request: pytest.FixtureRequest, disabled: Guard) -> Guard | Mongod:
    """The same deployment, without mongoguard and through it."""
    return disabled.upstream if request.param == "mongod" else disabled


def test_without_authorization_everything_is_allowed_to_everybody(without: Guard | Mongod) -> None:
    with RawConnection(without.address) as raw:
        for user in (None, "nobody"):
            if user is not None:
                raw.log_in(user, password_of(user))
            for db, command in (
                ("shop", {"insert": "c", "documents": [{}]}),
                ("shop", {"find": "c"}),
                ("admin", {"serverStatus": 1}),
                ("admin", {"currentOp": 1}),
                ("admin", {"usersInfo": 1}),
                ("admin", {"find": "system.users"}),
            ):
                assert raw.command(db, command)["ok"] == 1, command
        listed = raw.command("admin", {"listDatabases": 1, "nameOnly": True})["databases"]
        assert {"admin", "shop"} <= {d["name"] for d in listed}


def test_without_authorization_logins_are_still_verified(without: Guard | Mongod) -> None:
    with RawConnection(without.address) as raw, pytest.raises(AssertionError, match="Authentication failed"):
        raw.log_in("nobody", "wrong")
    with RawConnection(without.address) as raw:
        raw.log_in("nobody", password_of("nobody"))
        status = raw.command("admin", {"connectionStatus": 1})["authInfo"]
        assert status["authenticatedUsers"] == [{"user": "nobody", "db": "admin"}]


def test_without_authorization_restrictions_hold(without: Guard | Mongod) -> None:
    with RawConnection(without.address) as raw, pytest.raises(AssertionError, match="Authentication failed"):
        raw.log_in("away", password_of("away"))


def test_without_authorization_admin_commands_run_on_admin(without: Guard | Mongod) -> None:
    with RawConnection(without.address) as raw:
        reply = raw.command("shop", {"getParameter": 1, "logLevel": 1})
        assert (reply["code"], reply["errmsg"]) == (
            13,
            "getParameter may only be run against the admin database.",
        )


def test_without_authorization_a_cursor_serves_everybody(without: Guard | Mongod) -> None:
    with RawConnection(without.address) as first, RawConnection(without.address) as second:
        first.command("shop", {"insert": "many", "documents": [{}, {}, {}, {}]})
        second.log_in("nobody", password_of("nobody"))
        for opener, reader in ((first, second), (second, first)):
            cursor = opener.command("shop", {"find": "many", "batchSize": 1})["cursor"]["id"]
            more = {"getMore": Int64(cursor), "collection": "many", "batchSize": 1}
            assert reader.command("shop", more)["ok"] == 1
            assert reader.command("shop", {**more, "collection": "other"})["code"] == 13
            assert reader.command("shop", {"killCursors": "many", "cursors": [Int64(cursor)]})["ok"] == 1
