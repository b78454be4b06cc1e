"""`security.userDirectory: file`: users and roles of a file, and nothing of the upstream's own users."""

from __future__ import annotations

import base64
import hashlib
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from bson import Binary, Int64
from pymongo.errors import OperationFailure

from mongoguard.authn.scram import SCRAM_SHA_1, SCRAM_SHA_256, ScramMechanism, derive_credentials
from tests.rawwire import RawConnection
from tests.servers import PROJECT, Guard, Mongod, password_of, run_mongoguard

ITERATIONS = 10_000


def mongoguard_user(*arguments: str, password: str) -> list[dict[str, Any]]:
    """What `mongoguard user` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "mongoguard", "user", *arguments],
        input=f"{password}\n",
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
    )
    assert password not in done.stdout + done.stderr
    entries: list[dict[str, Any]] = yaml.safe_load(done.stdout)
    return entries


def credentials(mechanism: ScramMechanism, user: str) -> dict[str, Any]:
    """Credentials of one mechanism, with a salt that is fixed."""
    made = derive_credentials(mechanism, user, password_of(user), bytes(mechanism.salt_bytes), ITERATIONS)
    binary = {"salt": made.salt, "storedKey": made.stored_key, "serverKey": made.server_key}
    return {
        "iterationCount": made.iteration_count,
        **{key: base64.b64encode(value).decode() for key, value in binary.items()},
    }


def user(name: str, *roles: Any, db: str = "admin", sha1: bool = False, **fields: Any) -> dict[str, Any]:
    """An entry of the file."""
    known = {"SCRAM-SHA-256": credentials(SCRAM_SHA_256, name)}
    if sha1:
        known["SCRAM-SHA-1"] = credentials(SCRAM_SHA_1, name)
    return {"user": name, "db": db, "credentials": known, "roles": list(roles), **fields}


def shop(role: str) -> dict[str, str]:
    """A built-in role on shop."""
    return {"role": role, "db": "shop"}


ROLES: list[dict[str, Any]] = [
    {
        "role": "ordersReader",
        "db": "admin",
        "privileges": [{"resource": {"db": "shop", "collection": "orders"}, "actions": ["find"]}],
    },
    {
        "role": "clerk",
        "db": "admin",
        "privileges": [{"resource": {"db": "shop", "collection": "notes"}, "actions": ["insert"]}],
        "roles": ["ordersReader"],
    },
    {
        "role": "elsewhere",
        "db": "admin",
        "roles": [shop("readWrite")],
        "authenticationRestrictions": [{"clientSource": ["10.1.2.3"]}],
    },
    {
        "role": "here",
        "db": "admin",
        "roles": [shop("read")],
        "authenticationRestrictions": [{"clientSource": ["127.0.0.0/8"], "serverAddress": ["127.0.0.1"]}],
    },
]


def standard_users() -> list[dict[str, Any]]:
    """Who the file knows at first."""
    return [
        user("both", shop("read"), sha1=True),
        user("clerk", "clerk"),
        user("away", "elsewhere"),
        user("near", "here"),
        user("nowhere", shop("read"), authenticationRestrictions=[{"clientSource": ["192.0.2.0/24"]}]),
        user("boss", "root"),
        user("app", db="admin"),
        user("missing", "noSuchRole", shop("read")),
        user("local", "read", db="shop"),
    ]


class FileGuard(Guard):
    """mongoguard with a users file that tests write."""

    def __init__(self, directory: Path, upstream: Mongod) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.users_path = directory / "users.yaml"
        self.write(standard_users())
        security = {"userDirectory": "file", "userFile": str(self.users_path)}
        super().__init__(directory, upstream, {"security": security})

    def write(self, users: list[dict[str, Any]], roles: list[dict[str, Any]] | None = None) -> None:
        """Write the file anew."""
        self.users_path.write_text(
            yaml.safe_dump({"users": users, "roles": ROLES if roles is None else roles})
        )

    def reload(self, told: str = "SIGHUP: the users file is reloaded") -> None:
        """Send SIGHUP and wait until the log has told what came of it."""
        before = self.log.count(told)
        self.send_signal(signal.SIGHUP)
        assert within(10, lambda: self.log.count(told) > before), self.log[-2000:]


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def file_guard(guard_standalone: Guard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileGuard]:
    """In front of a mongod that has users of its own: `guard_standalone` serves those."""
    with guard_standalone.client() as root:
        root.shop.orders.drop()
        root.shop.orders.insert_one({"_id": 1})
    guard = FileGuard(tmp_path_factory.mktemp("file_guard"), guard_standalone.upstream)
    try:
        guard.start().wait()
        yield guard
    finally:
        assert guard.stop() == 0
        assert "Traceback" not in guard.log


@pytest.fixture
def users(file_guard: FileGuard) -> Iterator[list[dict[str, Any]]]:
    """The users, to change and write; afterwards the file is as it was."""
    yield standard_users()
    file_guard.write(standard_users())
    file_guard.reload()


def code_of(raw: RawConnection, command: dict[str, Any], db: str = "shop") -> int:
    """The error code of a command, 0 when it works."""
    reply = raw.command(db, command)
    return 0 if reply["ok"] else int(reply["code"])


FIND, INSERT = {"find": "orders"}, {"insert": "orders", "documents": [{}]}


# ---- logging in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
def test_a_user_of_the_file_logs_in_with_each_mechanism_it_has(file_guard: FileGuard, mechanism: str) -> None:
    with file_guard.client("both", authMechanism=mechanism) as client:
        assert client.shop.orders.find_one() == {"_id": 1}
        with pytest.raises(OperationFailure) as refused:
            client.shop.orders.insert_one({})
        assert refused.value.code == 13


def test_a_user_of_the_file_does_not_log_in_with_a_mechanism_it_has_not(file_guard: FileGuard) -> None:
    with (
        file_guard.client("clerk", authMechanism="SCRAM-SHA-1") as client,
        pytest.raises(OperationFailure) as refused,
    ):
        client.admin.command("connectionStatus")
    assert refused.value.code == 18


@pytest.mark.parametrize(("name", "password"), [("both", "wrong"), ("stranger", "stranger-pw")])
def test_a_wrong_password_and_an_unknown_user_are_refused_alike(
    file_guard: FileGuard, name: str, password: str
) -> None:
    with file_guard.client(name, password) as client, pytest.raises(OperationFailure) as refused:
        client.admin.command("connectionStatus")
    assert (refused.value.code, (refused.value.details or {})["errmsg"]) == (18, "Authentication failed.")


def test_what_mongoguard_user_prints_logs_in(file_guard: FileGuard, users: list[dict[str, Any]]) -> None:
    entries = mongoguard_user("--name", "made", "--role", "read@shop", password="made-ü-pw")
    file_guard.write([*users, *entries])
    file_guard.reload()
    with file_guard.client("made", "made-ü-pw") as client:
        assert client.shop.orders.find_one() == {"_id": 1}
    with file_guard.client("made", "made-u-pw") as client, pytest.raises(OperationFailure, match="failed"):
        client.shop.orders.find_one()


def test_a_user_of_another_database_than_admin_logs_in_there(file_guard: FileGuard) -> None:
    with file_guard.client("local", authSource="shop") as client:
        assert client.shop.orders.find_one() == {"_id": 1}
        status = client.admin.command("connectionStatus")["authInfo"]
        assert status["authenticatedUsers"] == [{"user": "local", "db": "shop"}]
    with file_guard.client("local", authSource="admin") as client, pytest.raises(OperationFailure):
        client.shop.orders.find_one()


# ---- roles and restrictions -----------------------------------------------------------------------------------------


def test_a_role_brings_what_it_inherits_and_no_more(file_guard: FileGuard) -> None:
    with file_guard.client("clerk") as client:
        assert client.shop.orders.find_one() == {"_id": 1}
        client.shop.notes.insert_one({})
        for refused in (client.shop.notes.find_one, lambda: client.shop.orders.insert_one({})):
            with pytest.raises(OperationFailure) as error:
                refused()
            assert error.value.code == 13
        status = client.admin.command({"connectionStatus": 1, "showPrivileges": True})["authInfo"]
    assert {r["role"] for r in status["authenticatedUserRoles"]} == {"clerk", "ordersReader"}
    assert {(p["resource"]["collection"], *p["actions"]) for p in status["authenticatedUserPrivileges"]} == {
        ("orders", "find"),
        ("notes", "insert"),
    }


def test_a_role_that_does_not_exist_grants_nothing(file_guard: FileGuard) -> None:
    with file_guard.client("missing") as client:
        assert client.shop.orders.find_one() == {"_id": 1}
        with pytest.raises(OperationFailure):
            client.other.orders.find_one()
    assert "does not exist and grants nothing" in file_guard.log


@pytest.mark.parametrize(("name", "allowed"), [("near", True), ("away", False), ("nowhere", False)])
def test_restrictions_of_users_and_roles_say_from_where_one_logs_in(
    file_guard: FileGuard, name: str, allowed: bool
) -> None:
    with file_guard.client(name) as client:
        if allowed:
            assert client.shop.orders.find_one() == {"_id": 1}
            return
        with pytest.raises(OperationFailure) as refused:
            client.shop.orders.find_one()
    assert refused.value.code == 18


# ---- the upstream's own users ---------------------------------------------------------------------------------------


def test_users_of_the_upstream_do_not_log_in(file_guard: FileGuard) -> None:
    for name in ("root", "reader", "mongoguard"):
        with file_guard.client(name) as client, pytest.raises(OperationFailure) as refused:
            client.admin.command("connectionStatus")
        assert refused.value.code == 18


def test_a_user_of_the_file_gets_nothing_of_the_upstreams_user_of_that_name(
    file_guard: FileGuard, guard_standalone: Guard
) -> None:
    """app@admin has readWrite on shop upstream; in the file it has no role."""
    lsid = {"id": Binary(uuid.uuid4().bytes, 4)}
    with RawConnection(guard_standalone.address) as theirs, RawConnection(file_guard.address) as ours:
        for raw in (theirs, ours):
            raw.log_in("app", password_of("app"))
        assert code_of(theirs, {**FIND, "lsid": lsid}) == 0
        for command in (FIND, INSERT, {"listCollections": 1}):
            assert code_of(ours, {**command, "lsid": lsid}) == 13
        status = ours.command("admin", {"connectionStatus": 1, "showPrivileges": True})["authInfo"]
        assert (status["authenticatedUserRoles"], status["authenticatedUserPrivileges"]) == ([], [])


@pytest.fixture
def namesakes(file_guard: FileGuard) -> Iterator[tuple[RawConnection, RawConnection]]:
    """app@admin of the upstream, logged in there, and app@admin of the file."""
    with RawConnection(file_guard.upstream.address) as theirs, RawConnection(file_guard.address) as ours:
        for raw in (theirs, ours):
            raw.log_in("app", password_of("app"))
        yield theirs, ours


@pytest.fixture
def boss(file_guard: FileGuard) -> Iterator[RawConnection]:
    """A user of the file with every right of root."""
    with RawConnection(file_guard.address) as raw:
        raw.log_in("boss", password_of("boss"))
        yield raw


def opened(raw: RawConnection, lsid: dict[str, Any]) -> Int64:
    """A cursor of that session."""
    reply = raw.command("shop", {"find": "orders", "batchSize": 0, "lsid": lsid})
    assert reply["ok"] == 1, reply
    return Int64(reply["cursor"]["id"])


def lives(raw: RawConnection, cursor: Int64, lsid: dict[str, Any]) -> bool:
    """Whether the cursor gives more."""
    reply = raw.command("shop", {"getMore": cursor, "collection": "orders", "lsid": lsid})
    assert reply["ok"] == 1 or reply["code"] in (43, 237), reply
    return bool(reply["ok"])


def session_ids(raw: RawConnection, stage: str, options: dict[str, Any], *more: Any) -> set[bytes]:
    """The ids that a list of sessions gives."""
    db, source = ("config", "system.sessions") if stage == "$listSessions" else ("admin", 1)
    pipeline = [{stage: options}, *more]
    reply = raw.command(db, {"aggregate": source, "pipeline": pipeline, "cursor": {"batchSize": 10_000}})
    assert reply["ok"] == 1, reply
    return {bytes(one["_id"]["id"]) for one in reply["cursor"]["firstBatch"]}


APP = {"user": "app", "db": "admin"}
ME = {"users": [APP]}
NESTED = {"$unionWith": {"coll": "system.sessions", "pipeline": [{"$listSessions": ME}]}}


def new_session() -> dict[str, Any]:
    """An lsid nobody has used."""
    return {"id": Binary(uuid.uuid4().bytes, 4)}


def digest(user: str, db: str) -> Binary:
    """The `uid` of that user's sessions."""
    return Binary(hashlib.sha256(f"{user}@{db}".encode()).digest(), 0)


def test_a_user_of_the_file_sees_its_own_sessions_and_not_those_of_the_upstreams_user_of_that_name(
    file_guard: FileGuard, namesakes: tuple[RawConnection, RawConnection]
) -> None:
    theirs, ours = namesakes
    lsids = new_session(), new_session()
    for raw, lsid in zip(namesakes, lsids, strict=True):
        assert raw.command("admin", {"connectionStatus": 1, "lsid": lsid})["ok"] == 1
        assert raw.command("admin", {"currentOp": 1, "$ownOps": True, "lsid": lsid})["ok"] == 1
    foreign, own = (bytes(lsid["id"]) for lsid in lsids)
    for options in ({}, ME, {"users": []}):
        assert own in session_ids(ours, "$listLocalSessions", options), options
        assert foreign not in session_ids(ours, "$listLocalSessions", options), options
        assert foreign in session_ids(theirs, "$listLocalSessions", options), options
        assert own not in session_ids(theirs, "$listLocalSessions", options), options
    with file_guard.upstream.client() as root:
        root.admin.command("refreshLogicalSessionCacheNow")
    for more in ((), (NESTED,)):
        assert own in session_ids(ours, "$listSessions", ME, *more)
        assert foreign not in session_ids(ours, "$listSessions", ME, *more)
        assert own not in session_ids(theirs, "$listSessions", ME, *more)
        assert foreign in session_ids(theirs, "$listSessions", ME, *more)


def test_a_user_of_the_file_does_not_end_sessions_of_the_upstreams_user_of_that_name(
    namesakes: tuple[RawConnection, RawConnection],
) -> None:
    theirs, ours = namesakes
    lsid = new_session()
    cursor = opened(theirs, lsid)
    with_digest = {**lsid, "uid": digest("app", "admin")}
    for command in ("killSessions", "endSessions", "refreshSessions"):
        for sessions in ([], [lsid], [with_digest]):
            assert ours.command("admin", {command: sessions})["ok"] == 1, (command, sessions)
    for refused in ({"killAllSessions": [APP]}, {"killAllSessionsByPattern": [{"uid": with_digest["uid"]}]}):
        assert code_of(ours, refused, "admin") == 13
    assert lives(theirs, cursor, lsid)


def test_ones_own_sessions_are_ended_by_the_digest_that_is_listed(
    namesakes: tuple[RawConnection, RawConnection],
) -> None:
    _theirs, ours = namesakes
    lsid = new_session()
    listed = {"aggregate": 1, "pipeline": [{"$listLocalSessions": ME}], "cursor": {"batchSize": 10_000}}
    found = ours.command("admin", {**listed, "lsid": lsid})["cursor"]["firstBatch"]
    (session,) = (one["_id"] for one in found if one["_id"]["id"] == lsid["id"])
    assert bytes(session["uid"]) == bytes(digest("app", "admin (users file)"))
    assert ours.command("admin", {"endSessions": [session]})["ok"] == 1
    assert ours.command("admin", {"killSessions": [session]})["ok"] == 1


KILLS_OF_ONE: list[dict[str, Any]] = [
    {"killAllSessions": [APP]},
    {"killAllSessions": [{"user": "nobody", "db": "admin"}, APP]},
]


@pytest.mark.parametrize("command", KILLS_OF_ONE, ids=str)
def test_who_may_kill_sessions_kills_those_of_the_files_user(
    file_guard: FileGuard, users: list[dict[str, Any]], command: dict[str, Any]
) -> None:
    file_guard.write(changed(users, "app", roles=[shop("read")]))
    file_guard.reload()
    with (
        RawConnection(file_guard.upstream.address) as theirs,
        RawConnection(file_guard.address) as ours,
        RawConnection(file_guard.address) as boss,
    ):
        for raw, name in ((theirs, "app"), (ours, "app"), (boss, "boss")):
            raw.log_in(name, password_of(name))
        lsids = new_session(), new_session()
        foreign, own = opened(theirs, lsids[0]), opened(ours, lsids[1])
        assert code_of(boss, command, "admin") == 0
        assert not lives(ours, own, lsids[1])
        assert lives(theirs, foreign, lsids[0])


def test_who_may_kill_everybodys_sessions_kills_the_upstreams_users_too(
    boss: RawConnection, namesakes: tuple[RawConnection, RawConnection]
) -> None:
    theirs, _ours = namesakes
    lsid = new_session()
    cursor = opened(theirs, lsid)
    assert code_of(boss, {"killAllSessions": []}, "admin") == 0
    assert not lives(theirs, cursor, lsid)


def test_who_may_list_sessions_is_shown_those_of_the_files_user(
    boss: RawConnection, namesakes: tuple[RawConnection, RawConnection]
) -> None:
    lsids = new_session(), new_session()
    for raw, lsid in zip(namesakes, lsids, strict=True):
        assert raw.command("admin", {"currentOp": 1, "$ownOps": True, "lsid": lsid})["ok"] == 1
    found = session_ids(boss, "$listLocalSessions", ME)
    assert bytes(lsids[1]["id"]) in found
    assert bytes(lsids[0]["id"]) not in found
    assert {bytes(lsid["id"]) for lsid in lsids} <= session_ids(
        boss, "$listLocalSessions", {"allUsers": True}
    )


COMMANDS_ABOUT_USERS: list[dict[str, Any]] = [
    {"usersInfo": 1},
    {"rolesInfo": 1},
    {"createUser": "eve", "pwd": "x", "roles": []},
    {"updateUser": "app", "pwd": "x"},
    {"dropUser": "app"},
    {"dropAllUsersFromDatabase": 1},
    {"grantRolesToUser": "app", "roles": ["root"]},
    {"revokeRolesFromUser": "app", "roles": ["root"]},
    {"createRole": "r", "privileges": [], "roles": []},
    {"updateRole": "r", "roles": []},
    {"dropRole": "r"},
    {"dropAllRolesFromDatabase": 1},
    {"grantPrivilegesToRole": "r", "privileges": []},
    {"revokePrivilegesFromRole": "r", "privileges": []},
    {"grantRolesToRole": "r", "roles": ["root"]},
    {"revokeRolesFromRole": "r", "roles": ["root"]},
]


@pytest.mark.parametrize("command", COMMANDS_ABOUT_USERS, ids=lambda c: next(iter(c)))
def test_commands_about_users_are_refused_with_the_reason(
    file_guard: FileGuard, command: dict[str, Any]
) -> None:
    with RawConnection(file_guard.address) as raw:
        raw.log_in("boss", password_of("boss"))
        refused = raw.command("admin", command)
    assert (refused["code"], refused["codeName"]) == (115, "CommandNotSupported")
    assert "users and roles are read from a file" in refused["errmsg"]


# ---- reloading ------------------------------------------------------------------------------------------------------


def changed(users: list[dict[str, Any]], name: str, **fields: Any) -> list[dict[str, Any]]:
    """The users with one of them changed."""
    return [{**one, **fields} if one["user"] == name else one for one in users]


def without(users: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The users without one of them."""
    return [one for one in users if one["user"] != name]


def test_a_role_added_and_taken_away_counts_for_live_connections(
    file_guard: FileGuard, users: list[dict[str, Any]]
) -> None:
    with RawConnection(file_guard.address) as raw, RawConnection(file_guard.address) as other:
        for one in (raw, other):
            one.log_in("both", password_of("both"))
            assert (code_of(one, FIND), code_of(one, INSERT)) == (0, 13)
        file_guard.write(changed(users, "both", roles=[shop("readWrite")]))
        assert code_of(raw, INSERT) == 13, "a file that nobody has reloaded changes nothing"
        file_guard.reload()
        assert [code_of(one, INSERT) for one in (raw, other)] == [0, 0]
        file_guard.write(changed(users, "both", roles=[]))
        file_guard.reload()
        assert [code_of(one, FIND) for one in (raw, other)] == [13, 13]
        assert code_of(raw, {"connectionStatus": 1}) == 0


def test_a_changed_role_counts_for_live_connections_of_who_inherits_it(
    file_guard: FileGuard, users: list[dict[str, Any]]
) -> None:
    with RawConnection(file_guard.address) as raw:
        raw.log_in("clerk", password_of("clerk"))
        assert code_of(raw, FIND) == 0
        file_guard.write(users, [{**ROLES[0], "privileges": []}, *ROLES[1:]])
        file_guard.reload()
        assert code_of(raw, FIND) == 13
        assert code_of(raw, {"insert": "notes", "documents": [{}]}) == 0


def test_a_removed_user_is_logged_out(file_guard: FileGuard, users: list[dict[str, Any]]) -> None:
    with RawConnection(file_guard.address) as raw, RawConnection(file_guard.address) as kept:
        raw.log_in("both", password_of("both"))
        kept.log_in("clerk", password_of("clerk"))
        file_guard.write(without(users, "both"))
        file_guard.reload()
        refused = raw.command("shop", FIND)
        assert (refused["code"], refused["errmsg"]) == (13, "command find requires authentication")
        assert raw.command("admin", {"connectionStatus": 1})["authInfo"]["authenticatedUsers"] == []
        assert code_of(kept, FIND) == 0
    with file_guard.client("both") as client, pytest.raises(OperationFailure, match="Authentication failed"):
        client.shop.orders.find_one()


def test_another_user_under_the_same_name_does_not_inherit_live_connections(
    file_guard: FileGuard, users: list[dict[str, Any]]
) -> None:
    with RawConnection(file_guard.address) as raw:
        raw.log_in("both", password_of("both"))
        file_guard.write(changed(users, "both", userId=str(uuid.uuid4())))
        file_guard.reload()
        assert code_of(raw, FIND) == 13


def test_a_restriction_added_logs_out_who_does_not_meet_it(
    file_guard: FileGuard, users: list[dict[str, Any]]
) -> None:
    with RawConnection(file_guard.address) as raw, RawConnection(file_guard.address) as kept:
        raw.log_in("both", password_of("both"))
        kept.log_in("clerk", password_of("clerk"))
        outside, inside = [{"clientSource": ["192.0.2.1"]}], [{"clientSource": ["127.0.0.1"]}]
        file_guard.write(
            changed(
                changed(users, "both", authenticationRestrictions=outside),
                "clerk",
                authenticationRestrictions=inside,
            )
        )
        file_guard.reload()
        assert code_of(raw, FIND) == 13
        assert code_of(kept, FIND) == 0


NOT_RELOADED = "SIGHUP: the users file is not reloaded"


@pytest.mark.parametrize(
    "broken",
    [
        "users: [",
        "",
        "users:\n- {user: both, db: admin, roles: []}\n",
        "users: []\nrols: []\n",
        "users:\n- {user: both, db: admin, password: canary-pw, roles: []}\n",
    ],
    ids=["no YAML", "empty", "no credentials", "unknown key", "a password"],
)
def test_a_broken_file_changes_nothing_and_is_logged(
    file_guard: FileGuard, users: list[dict[str, Any]], broken: str
) -> None:
    with RawConnection(file_guard.address) as raw:
        raw.log_in("both", password_of("both"))
        file_guard.users_path.write_text(broken)
        file_guard.reload(NOT_RELOADED)
        assert str(file_guard.users_path) in file_guard.log.splitlines()[-1]
        assert "canary" not in file_guard.log
        assert (code_of(raw, FIND), code_of(raw, INSERT)) == (0, 13)
    with file_guard.client("clerk") as client:
        assert client.shop.orders.find_one() == {"_id": 1}, "new logins work as before"


def test_a_file_that_is_gone_changes_nothing_and_is_logged(
    file_guard: FileGuard, users: list[dict[str, Any]]
) -> None:
    with RawConnection(file_guard.address) as raw:
        raw.log_in("both", password_of("both"))
        file_guard.users_path.unlink()
        file_guard.reload(NOT_RELOADED)
        assert code_of(raw, FIND) == 0
        file_guard.users_path.write_bytes(b"users: \xff\xfe")
        file_guard.reload(NOT_RELOADED)
        assert code_of(raw, FIND) == 0


def test_without_a_users_file_mongoguard_does_not_start(
    file_guard: FileGuard, standalone: Mongod, tmp_path: Path
) -> None:
    config = yaml.safe_load(file_guard.config_path.read_text())
    config["net"]["port"] = 0
    config["security"]["userFile"] = str(tmp_path / "none.yaml")
    path = tmp_path / "mongoguard.yaml"
    path.write_text(yaml.safe_dump(config))
    done = run_mongoguard("serve", "-f", str(path))
    assert done.returncode == 2
    (sentence,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert sentence.startswith(f"mongoguard: security.userFile: cannot read {tmp_path / 'none.yaml'}: ")
