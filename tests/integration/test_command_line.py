"""The commands other than `serve` against real servers, and `serve` where it must not start."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pymongo
import pytest
import yaml
from pymongo.errors import OperationFailure

from tests.servers import Guard, Mongod, password_of, run_mongoguard

OK, FAILED, USAGE = 0, 1, 2


def config_of(path: Path, upstream_uri: str, **sections: Any) -> str:
    """A configuration file; its path."""
    path.write_text(yaml.safe_dump({"upstream": {"uri": upstream_uri}, **sections}))
    return str(path)


# ---- check ----------------------------------------------------------------------------------------------------------


def test_check_lists_what_works(guard: Guard) -> None:
    done = run_mongoguard("check", "-f", str(guard.config_path))
    assert done.returncode == OK, done.stdout + done.stderr
    kind = "replica set rs0" if guard.upstream.replica_set else "a standalone server"
    assert f"OK    upstream answers: {kind}, version " in done.stdout
    assert "OK    logged in upstream as mongoguard@admin" in done.stdout
    assert "OK    the upstream's user directory can be read" in done.stdout
    assert "impersonated" in done.stdout
    assert "FAIL" not in done.stdout
    assert "WARN" not in done.stdout


def test_check_warns_of_a_service_user_with_too_many_rights(standalone: Mongod, tmp_path: Path) -> None:
    done = run_mongoguard("check", "-f", config_of(tmp_path / "c.yaml", standalone.uri()))
    assert done.returncode == OK
    assert "WARN" in done.stdout
    assert "logged in upstream as root@admin" in done.stdout
    assert password_of("root") not in done.stdout + done.stderr


def test_check_fails_where_the_upstream_refuses_the_login(standalone: Mongod, tmp_path: Path) -> None:
    uri = standalone.uri(password="canary-pw")
    done = run_mongoguard("check", "-f", config_of(tmp_path / "c.yaml", uri))
    assert done.returncode == FAILED
    assert "FAIL  upstream: " in done.stdout
    assert "Authentication failed" in done.stdout
    assert "canary" not in done.stdout + done.stderr


def test_check_fails_where_the_service_user_cannot_read_users(
    guard_standalone: Guard, tmp_path: Path
) -> None:
    uri = guard_standalone.upstream.uri("reader")
    done = run_mongoguard("check", "-f", config_of(tmp_path / "c.yaml", uri))
    assert done.returncode == FAILED
    assert "FAIL  the upstream's user directory can't be read" in done.stdout


# ---- explain --------------------------------------------------------------------------------------------------------


def explained(guard: Guard, user: str, command: str, db: str = "shop") -> dict[str, Any]:
    """`explain --json`."""
    done = run_mongoguard(
        *("explain", "-f", str(guard.config_path), "--user", f"{user}@admin"),
        *("--db", db, "--command", command, "--json"),
    )
    assert done.returncode == OK, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_explain_names_the_role_that_allows(guard_standalone: Guard) -> None:
    found = explained(guard_standalone, "app", '{"insert": "orders", "documents": [{}]}')
    assert found["allowed"] is True
    assert found["missing"] == []
    (granted,) = found["granted"]
    assert granted["resource"] == {"db": "shop", "collection": "orders"}
    assert granted["actions"] == ["insert"]
    assert granted["roles"] == [["readWrite@shop"]]


def test_explain_names_what_is_missing_and_who_has_it(guard_standalone: Guard) -> None:
    found = explained(guard_standalone, "reader", '{"delete": "orders", "deletes": [{"q": {}, "limit": 1}]}')
    assert found["allowed"] is False
    assert found["missing"] == [{"resource": {"db": "shop", "collection": "orders"}, "actions": ["remove"]}]
    assert found["smallestBuiltinRole"] == "readWrite@shop"


def test_explain_tells_people_the_same(guard_standalone: Guard) -> None:
    arguments = ("explain", "-f", str(guard_standalone.config_path), "--db", "shop", "--user")
    done = run_mongoguard(*arguments, "orders_only@admin", "--command", '{"find": "orders"}')
    assert done.returncode == OK
    assert "find on shop for orders_only@admin: ALLOWED" in done.stdout
    assert "ordersReader@admin" in done.stdout
    done = run_mongoguard(*arguments, "orders_only@admin", "--command", '{"find": "customers"}')
    assert done.returncode == OK
    assert "DENIED" in done.stdout
    assert 'lacks find on {"db": "shop", "collection": "customers"}' in done.stdout


@pytest.mark.parametrize(
    ("user", "command", "status", "told"),
    [
        ("nosuch@admin", '{"find": "orders"}', FAILED, "there is no user nosuch@admin"),
        ("app", '{"find": "orders"}', USAGE, "expected a name and its database"),
        ("app@admin", "{find", USAGE, "--command: expected a JSON object"),
        ("app@admin", '{"find": "a", "find": "b"}', USAGE, "a key is given twice"),
    ],
)
def test_explain_refuses_what_it_cannot_explain(
    guard_standalone: Guard, user: str, command: str, status: int, told: str
) -> None:
    done = run_mongoguard(
        *("explain", "-f", str(guard_standalone.config_path), "--user", user),
        *("--db", "shop", "--command", command),
    )
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("user", "db", "command"),
    [
        ("reader", "shop", {"insert": "explained", "documents": [{"_id": 1}]}),
        ("reader", "shop", {"aggregate": "explained", "pipeline": [{"$out": "x"}], "cursor": {}}),
        ("app", "shop", {"aggregate": "explained", "pipeline": [{"$out": "x"}], "cursor": {}}),
        ("orders_only", "shop", {"listCollections": 1, "nameOnly": True, "authorizedCollections": True}),
        ("app", "admin", {"serverStatus": 1}),
    ],
    ids=str,
)
def test_explain_says_what_serve_does(
    guard_standalone: Guard, user: str, db: str, command: dict[str, Any]
) -> None:
    said = explained(guard_standalone, user, json.dumps(command), db)["allowed"]
    with guard_standalone.client(user) as client:
        try:
            client[db].command(command)
        except OperationFailure as error:
            assert (error.code == 13) is not said, error
        else:
            assert said


# ---- init-upstream --------------------------------------------------------------------------------------------------


def test_init_upstream_can_be_run_again_and_keeps_the_password(standalone: Mongod) -> None:
    arguments = ("init-upstream", "--uri", standalone.uri(), "--user", "again", "--role", "againRole")
    first = run_mongoguard(*arguments)
    assert first.returncode == OK, first.stderr
    uri = first.stdout.strip().splitlines()[-1]
    second = run_mongoguard(*arguments)
    assert second.returncode == OK, second.stderr
    assert second.stdout.strip().splitlines()[-1] == uri.replace(
        uri.partition("again:")[2].partition("@")[0], "${MONGOGUARD_PASSWORD}"
    )
    with pymongo.MongoClient[dict[str, Any]](uri) as service:
        info = service.admin.command("connectionStatus", showPrivileges=True)["authInfo"]
    assert info["authenticatedUsers"] == [{"user": "again", "db": "admin"}]
    actions = {a for p in info["authenticatedUserPrivileges"] for a in p["actions"]}
    assert "impersonate" in actions
    assert not actions & {"anyAction", "advanceClusterTime", "bypassWriteBlockingMode"}
    third = run_mongoguard(*arguments, "--rotate-password")
    rotated = third.stdout.strip().splitlines()[-1]
    assert rotated != uri
    with pymongo.MongoClient[dict[str, Any]](rotated) as service:
        service.admin.command("ping")
    with pymongo.MongoClient[dict[str, Any]](uri) as service, pytest.raises(OperationFailure):
        service.admin.command("ping")


def test_init_upstream_needs_the_right_to_make_users(guard_standalone: Guard) -> None:
    done = run_mongoguard("init-upstream", "--uri", guard_standalone.upstream.uri("app"))
    assert done.returncode == FAILED
    assert "the server refused: not authorized on admin" in done.stderr
    assert password_of("app") not in done.stdout + done.stderr


def test_init_upstream_explains_a_bad_connection_string_without_repeating_it() -> None:
    done = run_mongoguard("init-upstream", "--uri", "mongo://root:canary-pw@nowhere")
    assert done.returncode == USAGE
    assert done.stderr == "mongoguard: --uri: expected a mongodb:// or mongodb+srv:// connection string\n"


# ---- what is wrong with a configuration -----------------------------------------------------------------------------

UP = {"upstream": {"uri": "mongodb://mongoguard:canary-pw@127.0.0.1:1"}}

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({**UP, "net": {"prot": 1}}, "net.prot: unknown key"),
    "a port out of range": ({**UP, "net": {"port": 70000}}, "net.port: expected a port number"),
    "an upstream that is no URI": (
        {"upstream": {"uri": "canary-host"}},
        "upstream.uri: expected a mongodb://",
    ),
    "an unset variable": (
        {"upstream": {"uri": "mongodb://${NO_SUCH_VARIABLE_HERE}@h"}},
        "upstream.uri: the environment variable NO_SUCH_VARIABLE_HERE is not set",
    ),
    "a bad option in the URI": (
        {"upstream": {"uri": "mongodb://u:canary-pw@127.0.0.1:1/?authMechanism=NOPE"}},
        "upstream.uri",
    ),
    "an audit log that can't be opened": (
        {**UP, "auditLog": {"destination": "file", "path": "/no/such/directory/audit.json"}},
        "auditLog.path",
    ),
    "a users file that is missing": (
        {**UP, "security": {"userDirectory": "file", "userFile": "/no/such/file"}},
        "security.userFile",
    ),
    "an address of another host": ({**UP, "net": {"bindIp": "192.0.2.1"}}, "net.bindIp"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration_is_told_in_a_sentence_that_names_the_key(
    guard_standalone: Guard, tmp_path: Path, name: str
) -> None:
    values, told = WRONG[name]
    if name in {"an audit log that can't be opened", "a users file that is missing"}:
        # found only once the upstream answers
        values = {**values, "upstream": {"uri": guard_standalone.upstream.upstream_uri}, "net": {"port": 0}}
    path = tmp_path / "mongoguard.yaml"
    path.write_text(yaml.safe_dump(values))
    done = run_mongoguard("serve", "-f", str(path))
    printed = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert done.returncode == USAGE, done.stderr
    assert len(printed) == 1, done.stderr
    assert told in printed[0]
    assert "canary" not in done.stderr + done.stdout


@pytest.mark.parametrize("text", ["a: [", "\0", "net: !!python/object:os.x {}"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mongoguard.yaml"
    path.write_text(text)
    done = run_mongoguard("check", "-f", str(path))
    assert done.returncode == USAGE, done.stderr
    assert done.stderr.startswith(f"mongoguard: {path}")
    assert "Traceback" not in done.stderr


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    done = run_mongoguard("serve", "-f", str(tmp_path / "nowhere.yaml"))
    assert done.returncode == USAGE
    assert done.stderr == f"mongoguard: {tmp_path}/nowhere.yaml: can't be read: No such file or directory\n"


def test_a_taken_port_ends_serve_with_a_sentence(guard_standalone: Guard, tmp_path: Path) -> None:
    assert guard_standalone.upstream.upstream_uri is not None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = config_of(tmp_path / "c.yaml", guard_standalone.upstream.upstream_uri, net={"port": port})
        done = run_mongoguard("serve", "-f", config)
    assert done.returncode == USAGE
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [(), ("nope",), ("serve",), ("demo", "--port", "0"), ("--nope",)])
def test_bad_usage_has_status_2(arguments: tuple[str, ...]) -> None:
    done = run_mongoguard(*arguments)
    assert done.returncode == USAGE
    assert "usage: mongoguard" in done.stderr
