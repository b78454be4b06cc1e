"""The test servers themselves: that they are what the other tests take them for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pymongo.errors import OperationFailure

from tests.missing import require_mongod
from tests.servers import PROJECT, Mongod, ServerDidNotStart, password_of


def test_the_standalone_server_asks_for_a_login(standalone: Mongod) -> None:
    with standalone.client(user=None) as client, pytest.raises(OperationFailure) as refused:
        client.shop.orders.find_one()
    assert refused.value.code == 13


def test_the_standalone_server_knows_root(standalone: Mongod) -> None:
    with standalone.client() as client:
        assert client.admin.command("connectionStatus")["authInfo"]["authenticatedUsers"] == [
            {"user": "root", "db": "admin"}
        ]
        assert "setName" not in client.admin.command("hello")


def test_a_wrong_password_is_refused(standalone: Mongod) -> None:
    with standalone.client(password="wrong") as client, pytest.raises(OperationFailure) as refused:
        client.admin.command("ping")
    assert refused.value.code == 18


def test_the_replica_set_commits_a_transaction(replica_set: Mongod) -> None:
    with replica_set.client() as client, client.start_session() as session:
        with session.start_transaction():
            client.environment.accounts.insert_one({"_id": 1}, session=session)
        assert client.environment.accounts.count_documents({}) == 1
        assert client.admin.command("hello")["setName"] == "rs0"
        client.drop_database("environment")


def test_a_server_keeps_its_data_over_a_restart_and_answers_nobody_after_stop(tmp_path: Path) -> None:
    require_mongod()
    server = Mongod(tmp_path).start().wait()
    with server.client() as client:
        client.environment.kept.insert_one({"_id": 1})
    first = server.pid
    server.restart()
    assert server.pid != first
    with server.client() as client:
        assert client.environment.kept.count_documents({}) == 1
    assert server.stop() == 0
    assert not server.running
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    require_mongod()
    server = Mongod(tmp_path, arguments=["--setParameter", "noSuchParameter=1"])
    with pytest.raises(ServerDidNotStart, match="noSuchParameter"):
        server.start().wait()


def test_a_connection_string_quotes_what_a_uri_may_not_hold(standalone: Mongod) -> None:
    name, password = "o'neil:1@x/y", "p%w d@/:"
    with standalone.client() as client:
        client.admin.command("createUser", name, pwd=password, roles=[])
    with standalone.client(name, password) as client:
        assert client.admin.command("ping")["ok"] == 1
    assert password_of("root") in standalone.uri()


def test_a_server_ends_with_the_test_run_however_that_ends(tmp_path: Path) -> None:
    require_mongod()
    script = (
        "import os, pathlib, signal; from tests.servers import PROJECT, Mongod; "
        f"server = Mongod(pathlib.Path({str(tmp_path)!r})).start(); "
        "print(server.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert _ends(int(done.stdout))


def _ends(pid: int) -> bool:
    """Whether the process is gone, or a zombie that nobody reaps, within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
