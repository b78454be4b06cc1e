"""`mongoguard user`: an entry that the users file takes, and no password anywhere."""

import io

import pytest
import yaml

from mongoguard.authn.scram import SCRAM_SHA_256, derive_credentials
from mongoguard.cli import user
from mongoguard.cli.main import main
from mongoguard.config.user_file import parse_user_file
from mongoguard.model.names import RoleName, UserName

PASSWORD = "c4n4ry pässword"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(monkeypatch, capsys, *arguments, stdin=PASSWORD + "\n"):
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    status = main(["user", *arguments])
    return status, capsys.readouterr()


def test_the_entry_is_one_that_the_users_file_takes(monkeypatch, capsys):
    status, captured = run(
        monkeypatch, capsys, "--name", "alice", "--role", "readWrite@shop", "--role", "read@hr"
    )
    assert status == 0
    assert "c4n4ry" not in captured.out + captured.err
    parsed = parse_user_file(yaml.safe_dump({"users": yaml.safe_load(captured.out)}), "f")
    alice = parsed.users[UserName("alice", "admin")]
    assert alice.roles == (RoleName("readWrite", "shop"), RoleName("read", "hr"))
    stored = alice.credentials["SCRAM-SHA-256"]
    assert stored == derive_credentials(SCRAM_SHA_256, "alice", PASSWORD, stored.salt, 15000)


def test_two_entries_for_one_password_differ():
    assert user.user_entry("a", "admin", [], "x") != user.user_entry("a", "admin", [], "x")


def test_an_empty_password_is_refused(monkeypatch, capsys):
    status, captured = run(monkeypatch, capsys, "--name", "alice", stdin="")
    assert status == 1
    assert captured.out == ""
    assert "empty" in captured.err


def test_a_database_that_can_not_have_users_is_refused(monkeypatch, capsys):
    status, captured = run(monkeypatch, capsys, "--name", "alice", "--db", "a.b")
    assert status == 2
    assert captured.out == ""


@pytest.mark.parametrize(("second", "status"), [("x", 0), ("y", 1)])
def test_a_password_from_the_terminal_is_asked_for_twice(monkeypatch, capsys, second, status):
    monkeypatch.setattr("sys.stdin", Terminal())
    answers = iter(["x", second])
    monkeypatch.setattr("getpass.getpass", lambda _prompt="": next(answers))
    assert main(["user", "--name", "alice"]) == status
    captured = capsys.readouterr()
    assert (captured.err == "mongoguard: the two passwords differ\n") is bool(status)
