"""`mongoguard demo`: what it needs, what it prints, what it writes."""

import os
import signal
import socket

import pytest

from mongoguard.cli import demo, demo_mongod
from mongoguard.cli.demo_content import COLLECTIONS, DEMO_USERS, fill
from mongoguard.cli.demo_mongod import DemoMongod, find_mongod
from mongoguard.cli.errors import CommandFailed
from mongoguard.cli.main import main
from mongoguard.config.loading import load_settings
from mongoguard.config.secret import Secret


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.delenv("MONGOGUARD_MONGOD", raising=False)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr(demo_mongod, "_WHEEL", "no-such-wheel-is-installed")


def script(path, text="exit 3", mode=0o700):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


@pytest.mark.usefixtures("nothing_installed")
def test_mongod_is_looked_for_where_it_may_be(monkeypatch, tmp_path):
    with pytest.raises(CommandFailed, match="no mongod found: give --mongod PATH, or install one"):
        find_mongod(None)
    given, named, on_path = (script(tmp_path / name) for name in ("given", "named", "mongod"))
    monkeypatch.setattr("shutil.which", lambda _name: str(on_path))
    assert find_mongod(None) == on_path
    monkeypatch.setenv("MONGOGUARD_MONGOD", str(named))
    assert find_mongod(None) == named
    assert find_mongod(str(given)) == given


@pytest.mark.usefixtures("nothing_installed")
def test_a_mongod_that_is_named_and_missing_is_not_replaced(monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.which", lambda _name: "/bin/true")
    with pytest.raises(CommandFailed, match="--mongod: there is no program"):
        find_mongod(str(tmp_path / "no"))
    monkeypatch.setenv("MONGOGUARD_MONGOD", str(tmp_path / "no"))
    with pytest.raises(CommandFailed, match="MONGOGUARD_MONGOD: there is no program"):
        find_mongod(None)


def test_a_taken_port_is_one_sentence_and_status_1(capsys, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port), "--mongod", str(script(tmp_path / "m"))]) == 1
    assert capsys.readouterr().err == (
        f"mongoguard: port {port} can't be used: address already in use; give another one with --port\n"
    )


def test_a_mongod_that_ends_at_once_is_told_and_leaves_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    program = script(tmp_path / "m", "echo 'no such library'; exit 1", mode=0o600)
    assert main(["demo", "--port", str(free_port()), "--mongod", str(program)]) == 1
    assert "mongod ended at once: no such library" in capsys.readouterr().err
    assert list((tmp_path / "t").iterdir()) == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_sigterm_while_mongod_starts_ends_everything(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    pids = []

    def terminated(self, _client, *, writable):
        assert not writable
        pids.append(self._process.pid)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(DemoMongod, "_wait_for", terminated)
    before = signal.getsignal(signal.SIGTERM)
    program = script(tmp_path / "m", "exec sleep 600")
    assert main(["demo", "--port", str(free_port()), "--mongod", str(program)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "The demo has ended; nothing is left of it."
    assert list((tmp_path / "t").iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_the_configuration_it_writes_is_valid_and_holds_no_password(tmp_path):
    path = demo._write_config(tmp_path, 27018, "mongodb://mongoguard:c4n4ry@127.0.0.1:1/?replicaSet=demo")
    assert "c4n4ry" not in path.read_text()
    settings = load_settings(str(path))
    assert settings.net.port == 27018
    assert settings.upstream.uri.reveal().startswith("mongodb://mongoguard:")
    assert (tmp_path / "upstream-uri").stat().st_mode & 0o777 == 0o600
    assert settings.warnings() == ()


def test_the_introduction_has_a_connection_string_for_each_user(tmp_path):
    passwords = {name: Secret(f"{name}-pw") for name in ("admin", *DEMO_USERS)}
    text = demo._introduction(27018, passwords, tmp_path / "m.yaml")
    for name in passwords:
        assert f"mongodb://{name}:{name}-pw@127.0.0.1:27018/shop?authSource=admin" in text
    assert text.count(" denied ") == text.count(" allowed ") == 3
    assert f"mongoguard explain -f {tmp_path}/m.yaml" in text


def test_every_demo_user_and_collection_is_stored():
    class Played:
        def __init__(self):
            self.stored, self.commands = {}, []

        def __getitem__(self, db):
            server = self

            class Database:
                def __getitem__(self, name):
                    class Collection:
                        def insert_many(self, documents):
                            server.stored[db, name] = len(documents)

                    return Collection()

            return Database()

        @property
        def admin(self):
            return self

        def command(self, name, subject, **arguments):
            self.commands.append((name, subject, arguments.get("pwd")))

    played = Played()
    fill(played, {name: Secret(f"{name}-pw") for name in DEMO_USERS})
    assert played.stored == {(db, n): len(d) for db, cs in COLLECTIONS.items() for n, d in cs.items()}
    assert played.commands[1:] == [("createUser", name, f"{name}-pw") for name in DEMO_USERS]
