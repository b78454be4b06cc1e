"""`mongoguard check`: each step with OK, WARN or FAIL."""

import contextlib

import pytest

from mongoguard.cli.main import main
from mongoguard.errors import UpstreamUnavailable

SERVICE = {
    "authenticatedUsers": [{"user": "mongoguard", "db": "admin"}],
    "authenticatedUserPrivileges": [{"resource": {"anyResource": True}, "actions": ["find"]}],
}


class PlayedUpstream:
    def __init__(self, impersonation="$impersonatedUsers", hello=None, login=None, users=None):
        self.hello = hello or {}
        self.build_info = {"version": "6.0.5"}
        self.impersonation = impersonation
        self.login = SERVICE if login is None else login
        self.users = {"ok": 1, "users": []} if users is None else users

    async def ask(self, db, command):
        assert db == "admin"
        return {"ok": 1, "authInfo": self.login} if "connectionStatus" in command else self.users


@pytest.fixture
def check(monkeypatch, capsys, tmp_path):
    def run(upstream, config="", uri="mongodb://u:p@127.0.0.1"):
        @contextlib.asynccontextmanager
        async def open_upstream(_settings):
            if isinstance(upstream, Exception):
                raise upstream
            yield upstream

        monkeypatch.setattr("mongoguard.server.upstream.open_upstream", open_upstream)
        path = tmp_path / "m.yaml"
        path.write_text(f"upstream: {{uri: '{uri}'}}\n{config}")
        status = main(["check", "-f", str(path)])
        return status, capsys.readouterr().out.replace(f"{tmp_path}/", "").splitlines()

    return run


def test_a_sound_deployment_is_all_ok(check):
    status, lines = check(PlayedUpstream())
    assert status == 0
    assert lines == [
        "OK    configuration m.yaml",
        "OK    upstream answers: a standalone server, version 6.0.5",
        "OK    the upstream takes the real user's name with each command ($impersonatedUsers)",
        "OK    logged in upstream as mongoguard@admin",
        "OK    the upstream's user directory can be read, credentials and privileges included",
    ]


@pytest.mark.parametrize(
    ("hello", "kind"), [({"setName": "rs0"}, "replica set rs0"), ({"msg": "isdbgrid"}, "a sharded cluster")]
)
def test_the_kind_of_deployment_is_named(check, hello, kind):
    assert f"OK    upstream answers: {kind}, version 6.0.5" in check(PlayedUpstream(hello=hello))[1]


@pytest.mark.parametrize(
    ("upstream", "part"),
    [
        (PlayedUpstream(impersonation="none"), "refuses impersonation"),
        (PlayedUpstream(login={}), "logs nobody in"),
        (
            PlayedUpstream(
                login={
                    **SERVICE,
                    "authenticatedUserPrivileges": [{"actions": ["advanceClusterTime", "anyAction", "find"]}],
                }
            ),
            "holds advanceClusterTime, anyAction, which",
        ),
    ],
)
def test_what_works_and_is_not_right_is_a_warning(check, upstream, part):
    status, lines = check(upstream)
    assert status == 0
    (warning,) = [line for line in lines if line.startswith("WARN")]
    assert part in warning


def test_a_directory_that_can_not_be_read_fails(check):
    status, lines = check(PlayedUpstream(users={"ok": 0, "errmsg": "not authorized"}))
    assert status == 1
    assert lines[-1] == "FAIL  the upstream's user directory can't be read: not authorized"


def test_an_upstream_that_does_not_answer_fails(check):
    status, lines = check(UpstreamUnavailable("no server for mongodb://u:c4n4ry@h"))
    assert status == 1
    assert lines[-1] == "FAIL  upstream: no server for mongodb://<secret>@h"


def test_a_bug_is_not_a_finding(check):
    with pytest.raises(ZeroDivisionError):
        check(ZeroDivisionError())


def test_warnings_of_the_configuration_are_listed(check):
    status, lines = check(PlayedUpstream(), "security: {authorization: disabled}")
    assert status == 0
    assert lines[1].startswith("WARN  security.authorization is disabled")


def test_files_that_can_not_be_written_fail(check, tmp_path):
    audit = f"auditLog: {{destination: file, path: {tmp_path}/audit.json}}\n"
    log = f"systemLog: {{destination: file, path: {tmp_path}/no/guard.log}}\n"
    status, lines = check(PlayedUpstream(), audit + log)
    assert status == 1
    assert "OK    auditLog.path audit.json can be written" in lines
    assert "FAIL  systemLog.path no/guard.log can't be written" in lines
    assert not (tmp_path / "audit.json").exists()


def test_the_users_file_is_read(check, tmp_path):
    (tmp_path / "users.yaml").write_text("users: [{user: a, db: $external, roles: [{role: gone, db: shop}]}]")
    config = f"security: {{userDirectory: file, userFile: {tmp_path}/users.yaml}}"
    status, lines = check(PlayedUpstream(users={"ok": 0}), config)
    assert status == 0
    assert "OK    security.userFile users.yaml: 1 users" in lines
    assert any(line.startswith("WARN") and "gone@shop" in line for line in lines)


def test_a_users_file_that_can_not_be_read_fails(check, tmp_path):
    config = f"security: {{userDirectory: file, userFile: {tmp_path}/users.yaml}}"
    assert check(PlayedUpstream(), config)[0] == 1
    (tmp_path / "users.yaml").write_bytes(b"\xff")
    status, lines = check(PlayedUpstream(), config)
    assert status == 1
    assert "FAIL  security.userFile: not a UTF-8 text file" in lines
