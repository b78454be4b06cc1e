"""The audit log of a running mongoguard: MongoDB's messages, one JSON line each, nothing secret, nothing dropped."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from tests.rawwire import RawConnection, op_msg, sequence_section
from tests.servers import Guard, password_of

FIELDS = ["atype", "ts", "local", "remote", "users", "roles", "param", "result"]
APP = [{"user": "app", "db": "admin"}]


class AuditLog:
    """What was written to the file since it was last asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = 0

    def skip(self) -> None:
        """Forget what is there now."""
        time.sleep(0.2)  # the writer may still be at it
        self._seen = self.path.stat().st_size

    def events(self) -> list[dict[str, Any]]:
        """All whole lines since `skip`."""
        text = self.path.read_bytes()[self._seen :].decode("ascii")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, atype: str, matches: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event of that kind; AssertionError after 5 s without one."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for event in self.events():
                if event["atype"] == atype and matches(event):
                    return event
            time.sleep(0.02)
        raise AssertionError(f"no {atype} event among {self.events()[-10:]}")


@pytest.fixture(scope="module")
def audited(
    guard_replica_set: Guard, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Guard, AuditLog]]:
    """A mongoguard of its own with an audit log that holds successes too."""
    directory = tmp_path_factory.mktemp("audited")
    settings = {
        "auditLog": {"destination": "file", "format": "JSON", "path": str(directory / "audit.json")},
        "setParameter": {"auditAuthorizationSuccess": True},
        "systemLog": {"verbosity": 5},
    }
    guard = Guard(directory, guard_replica_set.upstream, settings)
    try:
        yield guard.start().wait(), AuditLog(directory / "audit.json")
    finally:
        assert guard.stop() == 0
        assert "internal error" not in guard.log
        assert "Traceback" not in guard.log


@pytest.fixture
def guard_and_log(audited: tuple[Guard, AuditLog]) -> tuple[Guard, AuditLog]:
    """The same, with the log of this test only."""
    audited[1].skip()
    return audited


def test_a_login_and_its_end_are_written(guard_and_log: tuple[Guard, AuditLog]) -> None:
    guard, log = guard_and_log
    with RawConnection(guard.address) as raw:
        raw.log_in("app", password_of("app"))
        event = log.wait_for("authenticate", lambda e: e["result"] == 0)
        assert list(event) == FIELDS
        assert event["param"] == {"user": "app", "db": "admin", "mechanism": "SCRAM-SHA-256"}
        assert event["users"] == APP
        assert {"role": "readWrite", "db": "shop"} in event["roles"]
        assert (event["local"]["ip"], event["local"]["port"]) == ("127.0.0.1", guard.port)
        assert event["remote"]["ip"] == "127.0.0.1"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", event["ts"]["$date"])
    left = log.wait_for("logout", lambda e: e["param"]["initialUsers"] == APP)
    assert list(left) == FIELDS
    assert (left["param"]["reason"], left["param"]["updatedUsers"]) == ("Client has disconnected", [])
    assert left["param"]["loginTime"]["$date"] <= left["ts"]["$date"]


def test_a_logout_on_request_is_written_once(guard_and_log: tuple[Guard, AuditLog]) -> None:
    guard, log = guard_and_log
    with RawConnection(guard.address) as raw:
        raw.log_in("app", password_of("app"))
        assert raw.command("admin", {"logout": 1})["ok"] == 1
        log.wait_for("logout", lambda e: e["param"]["reason"] != "Client has disconnected")
        assert raw.command("shop", {"find": "orders"})["code"] == 13
    time.sleep(0.3)
    assert [e["atype"] for e in log.events()].count("logout") == 1


@pytest.mark.parametrize(("user", "password"), [("app", "canary-pw"), ("no such user", "canary-pw")])
def test_a_failed_login_is_written_without_the_password(
    guard_and_log: tuple[Guard, AuditLog], user: str, password: str
) -> None:
    guard, log = guard_and_log
    with guard.client(user, password) as client, pytest.raises(OperationFailure):
        client.admin.command("ping")
    event = log.wait_for("authenticate", lambda e: e["result"] == 18)
    assert (event["param"]["user"], event["param"]["db"]) == (user, "admin")
    assert (event["users"], event["roles"]) == ([], [])
    assert "canary" not in json.dumps(log.events())


def test_a_denial_is_written_with_what_was_missing(guard_and_log: tuple[Guard, AuditLog]) -> None:
    guard, log = guard_and_log
    with guard.client("reader") as client, pytest.raises(OperationFailure):
        client.shop.orders.insert_one({"_id": 1, "secret": "canary"})
    event = log.wait_for("authCheck", lambda e: e["result"] == 13)
    assert list(event) == FIELDS
    assert event["users"] == [{"user": "reader", "db": "admin"}]
    assert (event["param"]["command"], event["param"]["ns"]) == ("insert", "shop.orders")
    assert event["param"]["missing"] == [
        {"resource": {"db": "shop", "collection": "orders"}, "actions": ["insert"]}
    ]
    assert "canary" not in json.dumps(event)


def test_a_strangers_command_is_written(guard_and_log: tuple[Guard, AuditLog]) -> None:
    guard, log = guard_and_log
    with RawConnection(guard.address) as raw:
        raw.command("shop", {"find": "orders"})
    event = log.wait_for("authCheck", lambda e: e["result"] == 13)
    assert (event["users"], event["param"]["command"]) == ([], "find")


def test_what_was_allowed_is_written_when_asked_for(guard_and_log: tuple[Guard, AuditLog]) -> None:
    guard, log = guard_and_log
    with guard.client("app") as client:
        client.shop.orders.find_one({"name": "canary"})
    event = log.wait_for("authCheck", lambda e: e["param"]["command"] == "find")
    assert (event["result"], event["param"]["ns"], event["users"]) == (0, "shop.orders", APP)
    assert event["param"]["args"]["filter"] == {"name": "<string>"}


def test_user_management_is_written_without_passwords(guard_and_log: tuple[Guard, AuditLog]) -> None:
    guard, log = guard_and_log
    with guard.client() as root:
        admin = root.admin
        admin.command(
            "createRole",
            "auditedRole",
            privileges=[{"resource": {"db": "shop", "collection": ""}, "actions": ["find"]}],
            roles=[],
        )
        admin.command("createUser", "audited", pwd="canary-pw", roles=["auditedRole"])
        admin.command("grantRolesToUser", "audited", roles=[{"role": "read", "db": "shop"}])
        admin.command("updateUser", "audited", pwd="canary-pw2")
        admin.command("dropUser", "audited")
        admin.command("dropRole", "auditedRole")
        with pytest.raises(OperationFailure):
            admin.command("dropUser", "audited")
    made = log.wait_for("createUser", lambda e: e["result"] == 0)
    assert made["param"] == {
        "user": "audited",
        "db": "admin",
        "roles": [{"role": "auditedRole", "db": "admin"}],
    }
    assert made["users"] == [{"user": "root", "db": "admin"}]
    assert log.wait_for("createRole", lambda e: True)["param"]["privileges"] == [
        {"resource": {"db": "shop", "collection": ""}, "actions": ["find"]}
    ]
    assert log.wait_for("updateUser", lambda e: True)["param"]["passwordChanged"] is True
    for atype in ("grantRolesToUser", "dropUser", "dropRole"):
        assert log.wait_for(atype, lambda e: e["result"] == 0)["param"]["db"] == "admin"
    assert log.wait_for("dropUser", lambda e: e["result"] == 11)["param"]["user"] == "audited"
    assert "canary" not in log.path.read_text()


def test_no_value_of_a_document_or_login_is_in_any_log(guard_and_log: tuple[Guard, AuditLog]) -> None:
    """Refused and allowed commands full of canaries; then every file that mongoguard writes is searched."""
    guard, log = guard_and_log
    canary = {"name": "canary", "list": ["canary", {"deep": "canary"}]}
    bodies: list[dict[str, Any]] = [
        {"find": "orders", "filter": canary},
        {"insert": "orders", "documents": [canary]},
        {"update": "orders", "updates": [{"q": canary, "u": {"$set": canary}}]},
        {"delete": "orders", "deletes": [{"q": canary, "limit": 1}]},
        {"aggregate": "orders", "pipeline": [{"$match": canary}], "cursor": {}},
        {"findAndModify": "orders", "query": canary, "update": {"$set": canary}},
        {"distinct": "orders", "key": "name", "query": canary},
        {"count": "orders", "query": canary},
        {"createUser": "x", "pwd": "canary", "roles": [], "customData": canary},
        {"updateUser": "x", "pwd": "canary", "customData": canary},
        {"saslStart": 1, "mechanism": "PLAIN", "payload": b"\0canary\0canary"},
        {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": b"n,,n=app,r=canarycanary"},
        {"saslContinue": 1, "conversationId": 1, "payload": b"canary"},
        {"authenticate": 1, "mechanism": "MONGODB-CR", "user": "x", "key": "canary", "nonce": "canary"},
        {"copydb": 1, "key": "canary"},
        {"noSuchCommand": "canary", "pwd": "canary"},
        {"find": "orders", "filter": {}, "comment": "canary"},
    ]
    for user in (None, "reader", "app", "nobody"):
        with RawConnection(guard.address) as raw:
            if user:
                raw.log_in(user, password_of(user))
            for body in bodies:
                raw.command("shop", body)
            raw.command("shop", {"insert": "orders"}, sequence_section("documents", [canary]))
            raw.send(op_msg({"hello": 1, "$db": "admin", "client": {"application": {"name": "canary"}}}))
            raw.receive()
    log.wait_for("authCheck", lambda e: e["users"] == [{"user": "nobody", "db": "admin"}])
    time.sleep(0.3)
    for written in (log.path.read_text(), guard.log):
        assert "canary" not in written
        assert "-pw" not in written


def test_a_renamed_file_is_let_go_on_sigusr1(guard_and_log: tuple[Guard, AuditLog]) -> None:
    guard, log = guard_and_log
    renamed = log.path.with_suffix(".1")
    with guard.client("nobody") as client:
        with pytest.raises(OperationFailure):
            client.shop.before.find_one()
        log.wait_for("authCheck", lambda e: e["param"]["ns"] == "shop.before")
        log.path.rename(renamed)
        guard.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 5
        while not log.path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        new = AuditLog(log.path)
        with pytest.raises(OperationFailure):
            client.shop.after.find_one()
        new.wait_for("authCheck", lambda e: e["param"]["ns"] == "shop.after")
    assert "shop.after" not in renamed.read_text()
    assert "shop.before" not in log.path.read_text()
    assert log.path.stat().st_mode & 0o077 == 0, "an audit log is its owner's only"
    log.path.unlink()
    renamed.rename(log.path)
    guard.send_signal(signal.SIGUSR1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is missing: it stands for a full disk")
def test_a_full_disk_stops_clients_and_drops_nothing(
    guard_replica_set: Guard, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("full")
    path = directory / "audit.json"
    path.symlink_to("/dev/full")
    settings = {"auditLog": {"destination": "file", "format": "JSON", "path": str(path)}}
    guard = Guard(directory, guard_replica_set.upstream, settings).start().wait()
    sent = 3000
    try:
        with RawConnection(guard.address) as raw:
            raw.send(
                b"".join(op_msg({"find": f"c{i}", "$db": "shop"}, request_id=i + 1) for i in range(sent))
            )
            answered = 0
            while not raw.silent_for(1.5):
                assert raw.receive().document["code"] == 13
                answered += 1
            assert 0 < answered < sent, "clients wait for the audit log"
            with RawConnection(guard.address) as other:
                assert other.command("admin", {"ping": 1})["ok"] == 1, "what leaves no trace is served"
            path.unlink()
            path.touch(0o600)
            guard.send_signal(signal.SIGUSR1)
            for _ in range(sent - answered):
                assert raw.receive().document["code"] == 13
        assert guard.stop() == 0
        events = [json.loads(line) for line in path.read_text().splitlines()]
        found = [e["param"]["ns"] for e in events if e["atype"] == "authCheck"]
        assert found == [f"shop.c{i}" for i in range(sent)]
        assert "can't be written" in guard.log
    finally:
        guard.kill()


def test_without_the_section_nothing_is_written(guard_replica_set: Guard) -> None:
    with guard_replica_set.client("nobody") as client, pytest.raises(OperationFailure):
        client.shop.orders.find_one()
    assert sorted(p.name for p in guard_replica_set.directory.iterdir() if p.is_file()) == [
        "mongoguard.log",
        "mongoguard.yaml",
    ]
    assert "authCheck" not in guard_replica_set.log
