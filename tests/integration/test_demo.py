"""`mongoguard demo`: what it prints works as printed, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pymongo
import pytest
from pymongo.errors import OperationFailure

from tests.missing import require_mongod
from tests.servers import PROJECT, free_port, run_mongoguard
from tests.terminals import end_at_once, status_at_end


class Demo:
    """A running demo at a terminal, as a person starts it."""

    def __init__(self, temporary: Path) -> None:
        self.port = free_port()
        self.temporary = temporary
        environment = {**os.environ, "TMPDIR": str(temporary), "MONGOGUARD_MONGOD": str(require_mongod())}
        self.child: pexpect.spawn[str] = pexpect.spawn(
            sys.executable,
            ["-m", "mongoguard", "demo", "--port", str(self.port)],
            env=environment,
            cwd=str(PROJECT),
            encoding="utf-8",
            timeout=90,
            dimensions=(60, 240),
        )
        self.child.expect(r"mongoguard is listening on \S+ \(pid \d+\)")
        self.printed = str(self.child.before).replace("\r", "")

    def uri(self, user: str) -> str:
        """The connection string that was printed for a user."""
        found = re.search(rf"mongodb://{user}:\S+", self.printed)
        assert found is not None, self.printed
        return found.group()

    def client(self, user: str) -> pymongo.MongoClient[dict[str, Any]]:
        """A client as printed; it does not look long for a demo that has ended."""
        return pymongo.MongoClient(self.uri(user), serverSelectionTimeoutMS=2000)

    def interrupt(self) -> int | None:
        """Press Ctrl-C and wait for the end; the exit status."""
        self.child.sendintr()
        return status_at_end(self.child)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo; the last test of this module ends it."""
    running = Demo(tmp_path_factory.mktemp("demo"))
    yield running
    end_at_once(running.child)


def refused(call: Any) -> None:
    """The call must meet MongoDB's refusal."""
    with pytest.raises(OperationFailure) as caught:
        call()
    assert caught.value.code == 13, caught.value


def test_the_demos_users_may_what_is_printed(demo: Demo) -> None:
    with demo.client("alice") as alice:
        shop = alice.get_default_database()
        assert shop.name == "shop"
        shop.orders.insert_one({"item": "shelf", "total": 70})
        refused(lambda: list(alice.hr.salaries.find()))
    with demo.client("bob") as bob:
        assert list(bob.shop.orders.aggregate([{"$group": {"_id": "$status", "n": {"$sum": 1}}}]))
        refused(lambda: bob.shop.orders.delete_many({}))
    with demo.client("auditor") as auditor:
        assert list(auditor.shop.orders.find())
        refused(lambda: list(auditor.shop.orders.aggregate([{"$unionWith": "customers"}])))
    with demo.client("admin") as admin:
        assert admin.hr.salaries.count_documents({}) == 2


def test_the_demos_printed_commands_run(demo: Demo) -> None:
    line = next(line for line in demo.printed.splitlines() if "mongoguard explain" in line)
    done = run_mongoguard(*shlex.split(line)[1:])
    assert done.returncode == 0, done.stderr
    assert "DENIED" in done.stdout
    audit = next(line for line in demo.printed.splitlines() if "tail -f" in line).split()[-1]
    assert '"authCheck"' in Path(audit).read_text()


def test_a_second_demo_on_the_port_says_so(demo: Demo) -> None:
    done = run_mongoguard("demo", "--port", str(demo.port))
    assert done.returncode == 1
    assert f"port {demo.port} can't be used" in done.stderr
    assert "--port" in done.stderr


def test_ctrl_c_leaves_nothing_behind(demo: Demo) -> None:
    assert demo.child.pid is not None
    children = _children(demo.child.pid)
    assert len(children) == 1, "one mongod"
    assert list(demo.temporary.iterdir())
    with demo.client("alice") as alice:  # a client that is still connected
        alice.shop.orders.find_one()
        began = time.monotonic()
        assert demo.interrupt() == 0
        assert time.monotonic() - began < 10, "nobody waits for a demo to end"
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert list(demo.temporary.iterdir()) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", demo.port), 5)


def _mongods(pid: int) -> list[int]:
    """Not any child: a library may run `uname` while it is imported."""
    found = []
    for child in _children(pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{child}/comm").read_text().strip() == "mongod":
                found.append(child)
    return found


def test_sigterm_while_mongod_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "MONGOGUARD_MONGOD": str(require_mongod())}
    process = subprocess.Popen(
        [sys.executable, "-m", "mongoguard", "demo", "--port", str(free_port())],
        env=environment,
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 30
    while not (children := _mongods(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert children
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert b"Traceback" not in errors
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert list(tmp_path.iterdir()) == []


def test_without_a_mongod_the_demo_says_how_to_get_one(tmp_path: Path) -> None:
    done = run_mongoguard("demo", "--port", str(free_port()), "--mongod", str(tmp_path / "mongod"))
    assert done.returncode == 1
    assert done.stderr == f"mongoguard: --mongod: there is no program {tmp_path}/mongod\n"


def _children(pid: int) -> list[int]:
    """The processes that a process started."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
