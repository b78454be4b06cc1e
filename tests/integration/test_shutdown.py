"""The end of a process: a second signal hurries it, and none of them kills it."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rawwire import ConnectionEnded, RawConnection
from tests.servers import Client, Guard, password_of

LONG = {"find": "orders", "filter": {"$where": "sleep(8000) || true"}, "comment": "long"}


@pytest.fixture
def ending(guard_standalone: Guard, tmp_path: Path) -> Iterator[Guard]:
    """A mongoguard to be ended, with a pid file."""
    own = Guard(
        tmp_path / "ending",
        guard_standalone.upstream,
        {"processManagement": {"pidFilePath": str(tmp_path / "pid")}},
    )
    try:
        yield own.start().wait()
    finally:
        own.kill()


def within(seconds: float, condition: Any) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def runs(direct: Client) -> bool:
    """Whether the long command has begun."""
    stages: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True}},
        {"$match": {"command.comment": "long"}},
    ]
    return bool(list(direct.admin.aggregate(stages)))


def takes_no_connections(guard: Guard) -> bool:
    """Whether its port is closed."""
    try:
        socket.create_connection(("127.0.0.1", guard.port), 5).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_draining_at_once(
    ending: Guard, tmp_path: Path, second: signal.Signals
) -> None:
    with ending.upstream.client() as direct, RawConnection(ending.address) as raw:
        direct.shop.orders.update_one({"_id": 1}, {"$setOnInsert": {"a": 1}}, upsert=True)
        raw.log_in("app", password_of("app"))
        ended: list[bool] = []

        def ask() -> None:
            try:
                raw.command("shop", LONG)
            except (ConnectionEnded, OSError):
                ended.append(True)

        thread = threading.Thread(target=ask)
        thread.start()
        assert within(10, lambda: runs(direct))
        ending.send_signal(signal.SIGTERM)
        assert within(10, lambda: takes_no_connections(ending))
        assert ending.running, "one signal lets commands finish"
        ending.send_signal(second)
        assert within(4, lambda: not ending.running), ending.log[-2000:]
        thread.join(10)
    assert ended == [True]
    assert ending.stop() == 0
    assert not (tmp_path / "pid").exists()
    assert "Traceback" not in ending.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_during_the_close_do_not_kill_it(
    ending: Guard, tmp_path: Path, number: signal.Signals
) -> None:
    with RawConnection(ending.address) as raw:
        raw.log_in("app", password_of("app"))
        ending.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 15
        while ending.running and time.monotonic() < deadline:
            ending.send_signal(number)
            time.sleep(0.001)
    assert ending.stop() == 0
    assert not (tmp_path / "pid").exists()
    assert "Traceback" not in ending.log
