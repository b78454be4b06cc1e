"""`mongoguard explain` against the running server: the same verdict for the same user, whichever directory knows it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml
from bson import json_util

from mongoguard.authn.scram import SCRAM_SHA_256, derive_credentials
from mongoguard.authz.role_graph import RoleGraph
from mongoguard.cli.explain import explain_with, held_by
from mongoguard.cli.explanation import parse_command
from mongoguard.config.loading import load_settings
from mongoguard.config.settings import Settings
from mongoguard.model.names import UserName
from mongoguard.model.user import User
from tests.rawwire import RawConnection
from tests.servers import Guard, password_of, run_mongoguard


def role(name: str, db: str = "admin") -> dict[str, str]:
    """A role's name as commands and files have it."""
    return {"role": name, "db": db}


def grants(db: str, collection: str, *actions: str) -> dict[str, Any]:
    """A privilege on a namespace."""
    return {"resource": {"db": db, "collection": collection}, "actions": list(actions)}


ROLES: list[dict[str, Any]] = [
    {"role": "xplReader", "privileges": [grants("shop", "xpl", "find")], "roles": []},
    {"role": "xplClerk", "privileges": [grants("shop", "xpl", "insert")], "roles": [role("xplReader")]},
    {"role": "xplChief", "privileges": [], "roles": [role("xplClerk")]},
    {"role": "xplRenamer", "privileges": [grants("shop", "", "renameCollectionSameDB")], "roles": []},
    {"role": "xplPeeper", "privileges": [grants("shop", "xplB", "find")], "roles": []},
    {"role": "xplMaker", "privileges": [grants("shop", "", "createCollection")], "roles": []},
]
USERS: dict[str, list[dict[str, str]]] = {
    "xplChief": [role("xplChief")],
    "xplReader": [role("read", "shop")],
    "xplNobody": [],
    "xplGhost": [role("xplNoSuchRole")],
    "xplRenamer": [role("xplRenamer")],
    "xplRenamerPeeper": [role("xplRenamer"), role("xplPeeper")],
    "xplMaker": [role("xplMaker")],
    "xplMakerPeeper": [role("xplMaker"), role("xplPeeper")],
    "xplAdmin": [role("userAdmin", "shop"), role("clusterMonitor")],
    "xplRoot": [role("root")],
}
VIEW = {"create": "xplB", "viewOn": "xplSecret", "pipeline": [{"$match": {}}]}
RENAME = {"renameCollection": "shop.xplA", "to": "shop.xplB"}
COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("shop", {"find": "xpl"}),
    ("shop", {"find": "xpl", "apiVersion": "2"}),
    ("shop", {"find": "xpl", "bogus": 1}),
    ("shop", {"find": {"$oid": "5f5f5f5f5f5f5f5f5f5f5f5f"}}),
    ("shop", {"insert": "xpl", "documents": [{"x": {"$numberLong": "1"}}]}),
    ("shop", {"update": "xpl", "updates": [{"q": {"n": 1}, "u": {"$set": {"n": 1}}, "upsert": True}]}),
    ("shop", {"aggregate": "xpl", "pipeline": [{"$out": "xplOut"}], "cursor": {}}),
    ("shop", {"aggregate": "xpl", "pipeline": [{"$unionWith": "xplB"}], "cursor": {}}),
    ("shop", {"explain": {"find": "xpl"}}),
    ("shop", {"listCollections": 1}),
    ("shop", {"listCollections": 1, "nameOnly": True, "authorizedCollections": True}),
    ("shop", {"usersInfo": 1}),
    ("shop", {"rolesInfo": 1}),
    ("shop", {"createRole": "read", "privileges": [], "roles": []}),
    ("shop", {"dropUser": "xplNoSuchUser"}),
    ("shop", {"serverStatus": 1}),
    ("shop", {"getParameter": 1, "logLevel": 1}),
    ("admin", {"getParameter": 1, "logLevel": 1}),
    ("admin", {"listDatabases": 1, "authorizedDatabases": False}),
    ("admin", {"listDatabases": 1}),
    ("admin", {"currentOp": 1}),
    ("admin", {"currentOp": 1, "$ownOps": True}),
    ("admin", {"killAllSessionsByPattern": [{"users": [{"user": "xplNobody", "db": "admin"}]}]}),
    ("admin", {"replSetHeartbeat": 1}),
    ("admin", {"invalidateUserCache": 1}),
    ("admin", {"ping": 1, "maxTimeMSOpOnly": 5}),
    ("admin", {"connectionStatus": 1}),
    ("admin", {"nonsense": 1}),
    ("shop", VIEW),
    ("admin", RENAME),
]


class FileGuard(Guard):
    """mongoguard with the same users and roles in a file."""

    def __init__(self, directory: Path, upstream: Any) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "users.yaml"
        users = [entry(name, roles) for name, roles in USERS.items()]
        roles = [{"db": "admin", **definition} for definition in ROLES]
        path.write_text(yaml.safe_dump({"users": users, "roles": roles}))
        security = {"userDirectory": "file", "userFile": str(path)}
        super().__init__(directory, upstream, {"security": security})


def entry(name: str, roles: list[dict[str, str]]) -> dict[str, Any]:
    """A user of the file, with the password that every test user has."""
    salt = os.urandom(SCRAM_SHA_256.salt_bytes)
    made = derive_credentials(SCRAM_SHA_256, name, password_of(name), salt, 4096)
    keys = {"salt": made.salt, "storedKey": made.stored_key, "serverKey": made.server_key}
    encoded = {key: base64.b64encode(value).decode() for key, value in keys.items()}
    credentials = {SCRAM_SHA_256.name: {"iterationCount": made.iteration_count, **encoded}}
    return {"user": name, "db": "admin", "credentials": credentials, "roles": roles}


@pytest.fixture(scope="module")
def upstream_guard(guard_standalone: Guard) -> Iterator[Guard]:
    """The guarded standalone, which knows `USERS` and `ROLES`, also the user of a role that has gone."""
    with guard_standalone.client() as root:
        for definition in ROLES:
            root.admin.command(
                {"createRole": definition["role"], **{k: definition[k] for k in ("privileges", "roles")}}
            )
        root.admin.command("createRole", "xplNoSuchRole", privileges=[], roles=[])
        for name, roles in USERS.items():
            root.admin.command("createUser", name, pwd=password_of(name), roles=roles)
    yield guard_standalone
    with guard_standalone.client() as root:
        for name in USERS:
            root.admin.command("dropUser", name)
        for definition in (*ROLES, {"role": "xplNoSuchRole"}):
            root.admin.command("dropRole", definition["role"])


@pytest.fixture(scope="module")
def file_guard(guard_standalone: Guard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """The same users from a file."""
    guard = FileGuard(tmp_path_factory.mktemp("explain_file"), guard_standalone.upstream)
    try:
        yield guard.start().wait()
    finally:
        guard.stop()


@pytest.fixture(params=["upstream", "file"])
def guarded(request: pytest.FixtureRequest) -> Guard:
    """Each directory in turn."""
    found: Guard = request.getfixturevalue(f"{request.param}_guard")
    return found


@cache
def held(config: str, user: str) -> tuple[Settings, User, RoleGraph]:
    """What the directory says of that user: asked once, for it stays the same."""
    settings = load_settings(config)
    return settings, *trio.run(held_by, settings, UserName(user, "admin"))


def explained(guard: Guard, user: str, command: dict[str, Any], db: str = "shop") -> dict[str, Any]:
    """What `explain --json` prints."""
    settings, known, graph = held(str(guard.config_path), user)
    return explain_with(settings, known, graph, parse_command(json.dumps(command), db)).to_document()


@pytest.fixture
def collections(guarded: Guard) -> None:
    """What the commands of the table are about, made anew for each user."""
    with guarded.upstream.client() as direct:
        for name in ("xpl", "xplA", "xplB", "xplOut", "xplSecret"):
            direct.shop.drop_collection(name)
        direct.shop.xpl.insert_one({"_id": 1})
        direct.shop.xplA.insert_one({"_id": 1})


@pytest.mark.parametrize("user", USERS)
@pytest.mark.usefixtures("collections")
def test_explain_and_the_server_say_the_same(guarded: Guard, user: str) -> None:
    verdicts = set()
    with RawConnection(guarded.address) as raw:
        raw.log_in(user, password_of(user))
        for db, command in COMMANDS:
            said = explained(guarded, user, command, db)
            reply = raw.command(db, _decoded(command))
            if said["refusal"]:
                assert reply["ok"] == 0, (command, said, reply)
            else:
                refused = reply["ok"] == 0 and (reply["code"] == 13 or "non internal" in reply["errmsg"])
                assert refused is not said["allowed"], (command, said, reply)
            verdicts.add(said["allowed"])
    assert verdicts == {True, False}, "a table that is answered alike throughout proves little"


def _decoded(command: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json_util.loads(json.dumps(command))
    return found


@pytest.mark.parametrize(
    ("narrow", "wide", "db", "command"),
    [("xplRenamer", "xplRenamerPeeper", "admin", RENAME), ("xplMaker", "xplMakerPeeper", "shop", VIEW)],
    ids=["renameCollection", "view"],
)
def test_what_may_be_too_much_is_explained(
    guarded: Guard, narrow: str, wide: str, db: str, command: dict[str, Any]
) -> None:
    allowed, denied = explained(guarded, narrow, command, db), explained(guarded, wide, command, db)
    assert (allowed["allowed"], denied["allowed"]) == (True, False)
    assert "turn allowed into denied" in denied["notes"][0]
    assert '"xplPeeper@admin"' in json.dumps(denied["requirement"])


def test_the_path_is_named_from_the_user_to_the_role_that_grants(guarded: Guard) -> None:
    said = explained(guarded, "xplChief", {"find": "xpl"})
    (source,) = said["requirement"]["grantedBy"]
    assert source == {
        "resource": {"db": "shop", "collection": "xpl"},
        "actions": ["find"],
        "roles": [["xplChief@admin", "xplClerk@admin", "xplReader@admin"]],
    }
    said = explained(guarded, "xplReader", {"find": "xpl"})
    (source,) = said["requirement"]["grantedBy"]
    assert (source["resource"], source["roles"]) == ({"db": "shop", "collection": ""}, [["read@shop"]])


def test_both_directories_give_the_same_document(upstream_guard: Guard, file_guard: Guard) -> None:
    for user in USERS:
        for db, command in COMMANDS:
            from_upstream, from_file = (explained(g, user, command, db) for g in (upstream_guard, file_guard))
            if "security.userDirectory: file" in str(from_file["refusal"]):
                continue
            for document in (from_upstream, from_file):
                _sort_sources(document)
            assert from_upstream == from_file, (user, command)


def _sort_sources(value: Any) -> None:
    """The upstream shows a built-in role whole, the file's graph its parts; and what is held has no order."""
    if isinstance(value, dict):
        if "roles" in value and "actions" in value:
            value["roles"] = sorted({path[0] for path in value["roles"]})
        for part in value.values():
            _sort_sources(part)
        if "grantedBy" in value:
            value["grantedBy"].sort(key=json.dumps)
    elif isinstance(value, list):
        for part in value:
            _sort_sources(part)


def test_the_command_line_prints_that_document(guarded: Guard) -> None:
    done = run_mongoguard(
        *("explain", "-f", str(guarded.config_path), "--user", "xplChief@admin", "--db", "shop", "--json"),
        *("--command", '{"find": "xpl"}'),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == explained(guarded, "xplChief", {"find": "xpl"})


def test_a_users_file_is_explained_without_any_server(file_guard: Guard, tmp_path: Path) -> None:
    users = file_guard.config_path.parent / "users.yaml"
    config = tmp_path / "offline.yaml"
    config.touch(0o600)
    config.write_text(
        yaml.safe_dump(
            {
                "upstream": {"uri": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=60000"},
                "security": {"userDirectory": "file", "userFile": str(users)},
            }
        )
    )
    done = run_mongoguard(
        *("explain", "-f", str(config), "--user", "xplChief@admin", "--db", "shop"),
        *("--command", '{"find": "xpl"}'),
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "xplChief@admin -> xplChief@admin -> xplClerk@admin -> xplReader@admin" in done.stdout


def test_an_unknown_user_is_one_sentence(guarded: Guard) -> None:
    done = run_mongoguard(
        *("explain", "-f", str(guarded.config_path), "--user", "xplStranger@admin"),
        *("--db", "shop", "--command", '{"find": "xpl"}'),
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "mongoguard: there is no user xplStranger@admin\n"
