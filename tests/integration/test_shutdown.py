"""The end of a process: a second signal hurries it, and none of them kills it."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import Binary, Int64

from mongoguard.server.draining import DRAIN_SECS
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


# ---- transactions ---------------------------------------------------------------------------------------------------


END_SECS = 40
"""For processes that have nothing to wait for any more, on a busy machine."""


class Transaction:
    """A transaction in a session of its own."""

    def __init__(self, raw: RawConnection, **more: Any) -> None:
        lsid = {"id": Binary(os.urandom(16), 4)}
        self._raw = raw
        self._fields = {"lsid": lsid, "txnNumber": Int64(1), "autocommit": False, **more}
        assert self.run(INSERT, startTransaction=True)["ok"] == 1

    def run(self, command: dict[str, Any], db: str = "shop", **more: Any) -> dict[str, Any]:
        """A command of it."""
        return self._raw.command(db, {**command, **self._fields, **more})


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def ending_replica_set(
    request: pytest.FixtureRequest, guard_replica_set: Guard, tmp_path: Path
) -> Iterator[Guard]:
    """A mongoguard to be ended, before a deployment with transactions."""
    own = Guard(tmp_path / "ending", guard_replica_set.upstream, {"workers": request.param})
    with guard_replica_set.upstream.client() as direct:
        # Transactions that another test has left open would let nobody drop anything for a minute.
        direct.admin.command("killAllSessions", [])
        direct.shop.drained.drop()
        direct.shop.create_collection("drained")
    try:
        yield own.start().wait()
    finally:
        own.kill()


INSERT = {"insert": "drained", "documents": [{"a": 1}]}


def transactions_left(guard: Guard) -> list[dict[str, Any]]:
    """Those that the upstream holds open in mongoguard's clients' sessions."""
    with guard.upstream.client() as direct:
        stages: list[dict[str, Any]] = [
            {"$currentOp": {"allUsers": True, "idleSessions": True}},
            {"$match": {"transaction.parameters.autocommit": False}},
        ]
        return list(direct.admin.aggregate(stages))


def test_an_open_transaction_is_finished_and_then_the_process_ends(ending_replica_set: Guard) -> None:
    guard = ending_replica_set
    with RawConnection(guard.address) as raw, RawConnection(guard.address) as idle:
        for one in (raw, idle):
            one.log_in("app", password_of("app"))
        transaction = Transaction(raw)
        guard.send_signal(signal.SIGTERM)
        assert idle.is_closed_by_peer()
        assert within(10, lambda: takes_no_connections(guard))
        assert transaction.run(INSERT)["ok"] == 1
        assert transaction.run({"commitTransaction": 1}, db="admin")["ok"] == 1
        assert raw.is_closed_by_peer()
        assert within(END_SECS, lambda: not guard.running), guard.log[-2000:]
    assert guard.stop() == 0
    with guard.upstream.client() as direct:
        assert direct.shop.drained.count_documents({}) == 2
    assert "Traceback" not in guard.log


def test_a_transaction_that_does_not_end_is_waited_for_no_longer_than_its_bound(
    ending_replica_set: Guard,
) -> None:
    guard = ending_replica_set
    with RawConnection(guard.address, 40) as raw:
        raw.log_in("app", password_of("app"))
        Transaction(raw)
        begun = time.monotonic()
        guard.send_signal(signal.SIGTERM)
        assert raw.is_closed_by_peer()
        assert time.monotonic() - begun > DRAIN_SECS - 1
        assert within(END_SECS, lambda: not guard.running)
    assert guard.stop() == 0
    assert not transactions_left(guard), "it holds no locks"


def test_a_second_signal_ends_an_open_transaction_at_once(ending_replica_set: Guard) -> None:
    guard = ending_replica_set
    with RawConnection(guard.address) as raw:
        raw.log_in("app", password_of("app"))
        Transaction(raw)
        Transaction(raw, apiVersion="1", apiStrict=True)
        guard.send_signal(signal.SIGTERM)
        assert within(10, lambda: takes_no_connections(guard))
        assert guard.running
        guard.send_signal(signal.SIGTERM)
        assert raw.is_closed_by_peer()
        assert within(END_SECS, lambda: not guard.running)
    assert guard.stop() == 0
    assert not transactions_left(guard)


@pytest.mark.parametrize("end", ["commitTransaction", "abortTransaction", "an error"])
def test_a_transaction_that_has_ended_keeps_nothing_open(ending_replica_set: Guard, end: str) -> None:
    guard = ending_replica_set
    with RawConnection(guard.address) as raw:
        raw.log_in("app", password_of("app"))
        transaction = Transaction(raw)
        if end == "an error":
            wrong = {"find": "drained", "filter": {"$nosuch": 1}}
            assert transaction.run(wrong)["ok"] == 0
        else:
            assert transaction.run({end: 1}, db="admin")["ok"] == 1
        begun = time.monotonic()
        guard.send_signal(signal.SIGTERM)
        assert raw.is_closed_by_peer()
        assert time.monotonic() - begun < DRAIN_SECS
        assert within(END_SECS, lambda: not guard.running)
    assert guard.stop() == 0
