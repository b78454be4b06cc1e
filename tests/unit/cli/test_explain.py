"""`mongoguard explain` as a command: a users file without a server, an upstream, text and JSON."""

import contextlib
import json
import pathlib

import pytest

from mongoguard.cli.main import main

USERS = """
users:
  - {user: alice, db: $external, roles: [{role: auditor, db: admin}]}
roles:
  - role: auditor
    db: admin
    privileges: [{resource: {db: shop, collection: orders}, actions: [find]}]
    roles: []
"""


@pytest.fixture
def file_config(tmp_path):
    (tmp_path / "users.yaml").write_text(USERS)
    path = tmp_path / "m.yaml"
    path.write_text(
        "upstream: {uri: 'mongodb://h'}\n"
        f"security: {{userDirectory: file, userFile: {tmp_path}/users.yaml}}"
    )
    return str(path)


def run(config, *arguments):
    return main(["explain", "-f", config, "--user", "alice@$external", "--db", "shop", *arguments])


def test_a_file_directory_needs_no_upstream(file_config, capsys):
    assert run(file_config, "--command", '{"find": "orders"}') == 0
    assert capsys.readouterr().out.splitlines() == [
        "find on shop for alice@$external: ALLOWED",
        '  has find on {"db": "shop", "collection": "orders"}',
        '      find by {"db": "shop", "collection": "orders"}',
        "          alice@$external -> auditor@admin",
    ]


def test_json_holds_the_same(file_config, capsys):
    assert run(file_config, "--command", '{"find": "customers"}', "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "user": "alice",
        "db": "$external",
        "command": "find",
        "commandDb": "shop",
        "allowed": False,
        "refusal": None,
        "requirement": {
            "kind": "privilege",
            "holds": False,
            "resource": {"db": "shop", "collection": "customers"},
            "actions": ["find"],
            "lacking": ["find"],
            "grantedBy": [],
        },
        "granted": [],
        "missing": [{"resource": {"db": "shop", "collection": "customers"}, "actions": ["find"]}],
        "excess": [],
        "smallestBuiltinRole": "read@shop",
        "notes": [],
    }


def test_without_authorization_everything_is_allowed(file_config, capsys):
    text = (
        pathlib.Path(file_config)
        .read_text()
        .replace("{userDirectory", "{authorization: disabled, userDirectory")
    )
    pathlib.Path(file_config).write_text(text)
    assert run(file_config, "--command", '{"find": "customers"}') == 0
    assert capsys.readouterr().out.startswith("find on shop for alice@$external: ALLOWED\n")


def test_an_unknown_user_is_a_failure(file_config, capsys):
    arguments = ["-f", file_config, "--user", "bob@admin", "--db", "shop", "--command", '{"ping": 1}']
    assert main(["explain", *arguments]) == 1
    assert capsys.readouterr().err == "mongoguard: there is no user bob@admin\n"


USER_DOCUMENT = {
    "_id": "admin.alice",
    "userId": b"0123456789abcdef",
    "user": "alice",
    "db": "admin",
    "credentials": {},
    "roles": [{"role": "auditor", "db": "admin"}],
    "inheritedRoles": [{"role": "auditor", "db": "admin"}],
    "inheritedPrivileges": [{"resource": {"db": "shop", "collection": "orders"}, "actions": ["find"]}],
    "authenticationRestrictions": [],
    "inheritedAuthenticationRestrictions": [],
}
ROLE_DOCUMENT = {
    "role": "auditor",
    "db": "admin",
    "isBuiltin": False,
    "roles": [],
    "inheritedRoles": [],
    "privileges": [{"resource": {"db": "shop", "collection": "orders"}, "actions": ["find"]}],
    "authenticationRestrictions": [],
}


@pytest.mark.parametrize("ok", [1, 0])
def test_an_upstream_directory_is_asked_for_the_user_and_the_roles(monkeypatch, tmp_path, capsys, ok):
    asked = []

    class Upstream:
        async def ask(self, db, command, *, prefers_primary=False):
            asked.append((db, next(iter(command))))
            if "usersInfo" in command:
                return {"ok": 1, "users": [USER_DOCUMENT]}
            return {"ok": ok, "roles": [ROLE_DOCUMENT], "errmsg": "not authorized"}

    @contextlib.asynccontextmanager
    async def open_upstream(_settings):
        yield Upstream()

    monkeypatch.setattr("mongoguard.server.upstream.open_upstream", open_upstream)
    (tmp_path / "m.yaml").write_text("upstream: {uri: 'mongodb://h'}")
    arguments = ["--user", "alice@admin", "--db", "shop", "--command", '{"find": "orders"}']
    status = main(["explain", "-f", str(tmp_path / "m.yaml"), *arguments])
    captured = capsys.readouterr()
    assert asked == [("admin", "usersInfo"), ("admin", "rolesInfo")]
    if ok:
        assert status == 0
        assert "alice@admin -> auditor@admin" in captured.out
    else:
        assert status == 1
        assert captured.err == "mongoguard: rolesInfo failed upstream: not authorized\n"
