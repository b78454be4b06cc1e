"""Several worker processes behind one address: what one knows, all know; what one loses, another one has."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import Binary, Int64
from pymongo.errors import OperationFailure, PyMongoError

from mongoguard.server.ready_sockets import STOPPED_SECS
from mongoguard.server.worker_process import FROZEN_SECS, PING_SECS
from tests.rawwire import ConnectionEnded, RawConnection, op_msg
from tests.servers import Guard, Mongod, password_of, run_mongoguard
from tests.workers import Crew, children_of, is_alive, within, workers_of

WORKERS = 3


def settings(**more: Any) -> dict[str, Any]:
    """A configuration with workers."""
    return {
        "workers": WORKERS,
        "security": {"userCacheInvalidationIntervalSecs": 3600},
        **more,
    }


@pytest.fixture(scope="module")
def crew_guard(guard_standalone: Guard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """Three workers. Users that were changed elsewhere are noticed after an hour: nothing comes to light by itself."""
    guard = Guard(tmp_path_factory.mktemp("crew"), guard_standalone.upstream, settings())
    try:
        yield guard.start().wait()
    finally:
        guard.stop()
        assert "Traceback" not in guard.log, guard.log[-4000:]


@pytest.fixture
def crew(crew_guard: Guard) -> Iterator[Crew]:
    """The three workers."""
    crew = Crew(crew_guard)
    yield crew
    crew.close()


@pytest.fixture
def temp_user(crew_guard: Guard) -> Iterator[str]:
    """A user who may read shop, and whom the test may change; made through mongoguard, or it might know an older one."""
    with crew_guard.client() as root:
        root.admin.command(
            "createUser", "temp", pwd=password_of("temp"), roles=[{"role": "read", "db": "shop"}]
        )
        root.shop.many.drop()
        root.shop.many.insert_many([{"_id": i} for i in range(50)])
        yield "temp"
        try:
            root.admin.command("dropUser", "temp")
        except OperationFailure as error:
            assert error.code == 11


FIND = {"find": "many", "batchSize": 2}


def open_cursor(raw: RawConnection) -> int:
    """A cursor with documents left."""
    reply = raw.command("shop", FIND)
    assert reply["ok"] == 1, reply
    return int(reply["cursor"]["id"])


def get_more(raw: RawConnection, cursor_id: int, **more: Any) -> dict[str, Any]:
    """The next batch."""
    return raw.command("shop", {"getMore": Int64(cursor_id), "collection": "many", "batchSize": 2, **more})


# ---- processes ------------------------------------------------------------------------------------------------------


def test_workers_share_one_address_and_the_supervisor_says_so_when_all_serve(crew: Crew) -> None:
    log = crew.guard.log
    assert sorted(crew.pids) == list(range(WORKERS))
    assert log.count("mongoguard is listening on") == 1
    assert log.rindex("serves", 0, log.index("listening on")) > 0
    for worker in crew.pids:
        assert crew.connect(worker, "reader").command("shop", {"ping": 1})["ok"] == 1
    assert crew.guard.pid not in crew.pids.values()


def test_no_secret_is_in_a_workers_arguments_or_environment(crew: Crew) -> None:
    uri = crew.guard.upstream.upstream_uri
    assert uri is not None
    password = uri.partition("://")[2].partition("@")[0].rpartition(":")[2]
    for pid in (crew.guard.pid, *crew.pids.values()):
        for name in ("cmdline", "environ"):
            assert password.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()


def test_a_second_mongoguard_does_not_join_the_address_silently(crew: Crew) -> None:
    for workers in (1, 2):
        path = crew.guard.directory / f"second{workers}.yaml"
        text = crew.guard.config_path.read_text()
        path.write_text(text.replace(f"workers: {WORKERS}", f"workers: {workers}"))
        path.chmod(0o600)
        done = run_mongoguard("serve", "-f", str(path))
        assert done.returncode == 2
        assert "Address already in use" in done.stderr
    assert crew.connect(0).command("admin", {"hello": 1})["ok"] == 1


# ---- users ----------------------------------------------------------------------------------------------------------


def test_a_role_revoked_on_one_worker_is_gone_on_the_next_command_of_all_with_their_cursors(
    crew: Crew, temp_user: str
) -> None:
    connections = [crew.connect(worker, temp_user) for worker in range(WORKERS)]
    cursors = [open_cursor(raw) for raw in connections]
    admin = crew.connect(0, "root")
    for _ in range(3):
        assert all(raw.command("shop", {"count": "many"})["ok"] == 1 for raw in connections)
        done = admin.command(
            "admin", {"revokeRolesFromUser": temp_user, "roles": [{"role": "read", "db": "shop"}]}
        )
        assert done["ok"] == 1
        for raw, cursor_id in zip(connections, cursors, strict=True):
            assert get_more(raw, cursor_id)["code"] == 13
            assert raw.command("shop", {"count": "many"})["code"] == 13
        granted = {"grantRolesToUser": temp_user, "roles": [{"role": "read", "db": "shop"}]}
        assert admin.command("admin", granted)["ok"] == 1


def test_a_user_dropped_on_one_worker_is_nobody_on_all_others(crew: Crew, temp_user: str) -> None:
    connections = [crew.connect(worker, temp_user) for worker in range(WORKERS)]
    assert all(raw.command("shop", {"count": "many"})["ok"] == 1 for raw in connections)
    assert crew.connect(1, "root").command("admin", {"dropUser": temp_user})["ok"] == 1
    for raw in connections:
        assert raw.command("shop", {"count": "many"})["code"] == 13
        status = raw.command("admin", {"connectionStatus": 1})
        assert status["authInfo"]["authenticatedUsers"] == []


@pytest.mark.parametrize(
    "removal",
    [
        {"delete": "system.users", "deletes": [{"q": {"user": "temp"}, "limit": 1}]},
        {"findAndModify": "system.users", "query": {"user": "temp"}, "update": {"$set": {"roles": []}}},
        {"applyOps": [{"op": "d", "ns": "admin.system.users", "o": {"_id": "admin.temp"}}]},
    ],
)
def test_a_right_taken_away_by_writing_into_the_users_collection_is_gone_on_all_workers(
    crew: Crew, temp_user: str, removal: dict[str, Any]
) -> None:
    connections = [crew.connect(worker, temp_user) for worker in range(WORKERS)]
    assert all(raw.command("shop", {"count": "many"})["ok"] == 1 for raw in connections)
    assert crew.connect(0, "root").command("admin", removal)["ok"] == 1
    for raw in connections:
        assert raw.command("shop", {"count": "many"})["code"] == 13


def test_a_worker_that_cannot_confirm_that_a_user_was_dropped_is_ended_before_the_answer(
    crew: Crew, temp_user: str
) -> None:
    victim = crew.connect(2, temp_user)
    assert victim.command("shop", {"count": "many"})["ok"] == 1
    admin = crew.connect(0, "root")
    frozen = crew.pids[2]
    os.kill(frozen, signal.SIGSTOP)
    try:
        assert admin.command("admin", {"dropUser": temp_user})["ok"] == 1
        assert not is_alive(frozen), "it would go on by what it knew as soon as it woke up"
    finally:
        if is_alive(frozen):
            os.kill(frozen, signal.SIGKILL)
    assert within(20, lambda: crew.pids[2] != frozen)
    with pytest.raises((ConnectionEnded, OSError)):
        victim.command("shop", {"count": "many"})


def test_a_user_dropped_while_a_worker_is_replaced_is_unknown_to_the_new_one(
    crew: Crew, temp_user: str
) -> None:
    first = crew.connect(1, temp_user)
    assert first.command("shop", {"count": "many"})["ok"] == 1
    admin = crew.connect(0, "root")
    killed = crew.pids[1]
    os.kill(killed, signal.SIGKILL)
    assert admin.command("admin", {"dropUser": temp_user})["ok"] == 1
    assert within(20, lambda: crew.pids[1] != killed)
    late = crew.connect(1)
    with pytest.raises(AssertionError, match="18"):
        late.log_in(temp_user, password_of(temp_user))


# ---- cursors --------------------------------------------------------------------------------------------------------


def test_a_cursor_is_read_on_through_every_worker(crew: Crew, temp_user: str) -> None:
    connections = [crew.connect(worker, temp_user) for worker in range(WORKERS)]
    cursor_id = open_cursor(connections[0])
    seen = []
    for turn in range(6):
        reply = get_more(connections[(turn + 1) % WORKERS], cursor_id)
        assert reply["ok"] == 1, reply
        seen += [document["_id"] for document in reply["cursor"]["nextBatch"]]
    assert seen == list(range(2, 14))


def test_a_stranger_on_another_worker_gets_neither_the_cursor_nor_keeps_it_from_its_owner(
    crew: Crew, temp_user: str
) -> None:
    owner, stranger = crew.connect(0, temp_user), crew.connect(1, "reader")
    cursor_id = open_cursor(owner)
    assert get_more(stranger, cursor_id)["code"] == 13
    assert stranger.command("shop", {"killCursors": "many", "cursors": [Int64(cursor_id)]})["code"] == 13
    assert get_more(owner, cursor_id, lsid={"id": Binary(b"x" * 16, 4)})["code"] == 13
    assert get_more(owner, cursor_id)["ok"] == 1


def test_a_cursor_stays_where_its_owner_left_it_when_a_stranger_asks_for_it(
    crew: Crew, temp_user: str
) -> None:
    owner, stranger = crew.connect(1, temp_user), crew.connect(2, "reader")
    cursor_id = open_cursor(owner)
    assert get_more(stranger, cursor_id)["code"] == 13
    assert stranger.command("shop", {"killCursors": "many", "cursors": [Int64(cursor_id)]})["code"] == 13
    asked = crew.pids[2]
    os.kill(asked, signal.SIGKILL)
    assert get_more(owner, cursor_id)["ok"] == 1, (
        "it was in the hands of the worker that the stranger came to"
    )
    assert within(20, lambda: crew.pids[2] != asked)


def test_another_users_cursor_is_killed_through_another_worker_by_who_may(crew: Crew, temp_user: str) -> None:
    owner, root = crew.connect(0, temp_user), crew.connect(1, "root")
    cursor_id = open_cursor(owner)
    kill = {"killCursors": "many", "cursors": [Int64(cursor_id)]}
    assert root.command("shop", kill)["cursorsKilled"] == [cursor_id]
    assert get_more(owner, cursor_id)["code"] == 43


def test_a_cursor_is_killed_through_another_worker_and_then_known_to_none(crew: Crew, temp_user: str) -> None:
    first, second = crew.connect(0, temp_user), crew.connect(2, temp_user)
    cursor_id = open_cursor(first)
    done = second.command("shop", {"killCursors": "many", "cursors": [Int64(cursor_id), Int64(12345)]})
    assert (done["cursorsKilled"], done["cursorsNotFound"]) == ([cursor_id], [12345])
    for raw in (first, second):
        assert get_more(raw, cursor_id)["code"] == 43


def test_the_status_line_counts_what_all_workers_have_done(crew: Crew, temp_user: str) -> None:
    before = status_of(crew.guard)
    for worker in range(WORKERS):
        raw = crew.connect(worker, temp_user)
        for _ in range(10):
            assert raw.command("shop", {"count": "many"})["ok"] == 1
        for _ in range(5):
            assert raw.command("shop", {"drop": "many"})["code"] == 13

    def counted() -> bool:
        now = status_of(crew.guard)
        return now["refused"] - before["refused"] == 5 * WORKERS and now["relayed"] >= (
            before["relayed"] + 10 * WORKERS
        )

    assert within(10, counted)


def status_of(guard: Guard) -> dict[str, int]:
    """What a new status line says."""
    lines = guard.log.count(STATUS)
    guard.send_signal(signal.SIGUSR2)
    assert within(10, lambda: guard.log.count(STATUS) > lines)
    line = [line for line in guard.log.splitlines() if STATUS in line][-1]
    found: dict[str, int] = json.loads(line)["attr"]
    return found


STATUS = '"msg": "status"'


def test_unknown_cursors_are_not_found_and_a_flood_of_them_disturbs_nobody(crew: Crew) -> None:
    flood, other = crew.connect(0, "reader"), crew.connect(1, "reader")
    many = {"killCursors": "many", "cursors": [Int64(i) for i in range(10_000, 30_000)]}
    assert len(flood.command("shop", many)["cursorsNotFound"]) == 20_000
    slowest = 0.0
    for number in range(200):
        assert get_more(flood, 99_000 + number)["code"] == 43
        begun = time.monotonic()
        assert other.command("shop", {"ping": 1})["ok"] == 1
        slowest = max(slowest, time.monotonic() - begun)
    assert slowest < 2


# ---- crashes --------------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_and_logged_and_nobody_waits_for_it(crew: Crew) -> None:
    before = crew.pids
    log_length = len(crew.guard.log)
    os.kill(before[0], signal.SIGKILL)
    assert_all_are_served(crew)
    assert within(20, lambda: crew.pids[0] != before[0])
    assert (
        f"worker 0 (pid {before[0]}) has ended by signal 9; another one is started"
        in crew.guard.log[log_length:]
    )
    assert {n: p for n, p in crew.pids.items() if n} == {n: p for n, p in before.items() if n}
    assert crew.connect(0, "reader").command("shop", {"ping": 1})["ok"] == 1


def assert_all_are_served(crew: Crew) -> None:
    """New connections, at once: each of them by a worker that lives."""
    opened = []
    try:
        for _ in range(20):
            opened.append(RawConnection(crew.guard.address, timeout=5))
            assert opened[-1].command("admin", {"hello": 1})["ok"] == 1
    finally:
        for raw in opened:
            raw.close()


def test_a_frozen_worker_is_replaced_and_nobody_waits_for_it(crew: Crew, temp_user: str) -> None:
    frozen, log_length = crew.pids[1], len(crew.guard.log)
    waiting, other = crew.connect(1, temp_user), crew.connect(0, temp_user)
    cursor_id = open_cursor(waiting)
    os.kill(frozen, signal.SIGSTOP)
    assert_all_are_served(crew)
    begun = time.monotonic()
    assert get_more(other, cursor_id)["code"] == 6, "whoever knows it can't be asked"
    assert time.monotonic() - begun < 6
    waiting.send(op_msg({**FIND, "$db": "shop"}))
    with pytest.raises((ConnectionEnded, ConnectionError)):  # no deadline of its own (20 s) has passed
        waiting.receive()
    assert within(40, lambda: crew.pids[1] != frozen)
    assert not is_alive(frozen)
    log = crew.guard.log[log_length:]
    assert f"worker 1 (pid {frozen}) has not answered for 10 s: it is stopped, or hangs; it is killed" in log
    assert f"worker 1 (pid {frozen}) has ended by signal 9; another one is started" in log
    assert crew.connect(1, temp_user).command("shop", {"count": "many"})["ok"] == 1


def test_a_worker_that_was_frozen_for_a_while_goes_on_and_knows_what_changed_meanwhile(
    crew: Crew, temp_user: str
) -> None:
    """Rights are taken away while it is frozen, and it goes on before it is given up."""
    frozen = crew.pids[2]
    victims = [crew.connect(2, temp_user) for _ in range(3)]
    cursors = [open_cursor(victim) for victim in victims]
    admin = crew.connect(0, "root")
    os.kill(frozen, signal.SIGSTOP)
    try:
        revoke = {"revokeRolesFromUser": temp_user, "roles": [{"role": "read", "db": "shop"}], "$db": "admin"}
        admin.send(op_msg(revoke))
        assert admin.silent_for(1.5), "one worker has not confirmed"
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert admin.receive().document["ok"] == 1
    for victim, cursor_id in zip(victims, cursors, strict=True):
        assert victim.command("shop", {"count": "many"})["code"] == 13
        assert get_more(victim, cursor_id)["code"] == 13
    assert crew.pids[2] == frozen


@pytest.mark.parametrize("workers", [1, 2])
def test_rights_that_were_taken_away_elsewhere_while_it_was_stopped_are_not_used_when_it_goes_on(
    own_guard: Callable[..., Guard], crew_guard: Guard, temp_user: str, workers: int
) -> None:
    """The requests are there before it has had a chance to ask for its users again."""
    guard = own_guard(workers=workers, security={"userCacheInvalidationIntervalSecs": 1})
    connections = [RawConnection(guard.address) for _ in range(6)]
    for raw in connections:
        raw.log_in(temp_user, password_of(temp_user))
        assert raw.command("shop", {"count": "many"})["ok"] == 1
    stopped = [guard.pid] if workers == 1 else list(workers_of(guard).values())
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        with guard.upstream.client() as root:
            root.admin.command("revokeRolesFromUser", temp_user, roles=[{"role": "read", "db": "shop"}])
        time.sleep(STOPPED_SECS + 0.5)
        for raw in connections:
            raw.send(op_msg({"count": "many", "$db": "shop"}))
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert [raw.receive().document["code"] for raw in connections] == [13] * len(connections)
    for raw in connections:
        raw.close()


def test_when_all_processes_were_stopped_no_worker_is_taken_for_frozen(crew: Crew) -> None:
    """As on a machine that was suspended: the supervisor's deadlines have passed when it wakes up."""
    before, log_length = crew.pids, len(crew.guard.log)
    everybody = [crew.guard.pid, *before.values()]
    for pid in reversed(everybody):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(FROZEN_SECS + PING_SECS + 1)
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    assert_all_are_served(crew)
    time.sleep(PING_SECS)
    assert crew.pids == before
    assert "killed" not in crew.guard.log[log_length:]


@pytest.fixture
def own_guard(guard_standalone: Guard, tmp_path: Path) -> Iterator[Callable[..., Guard]]:
    """Guards with workers of their own, and settings."""
    started: list[Guard] = []

    def start(**more: Any) -> Guard:
        guard = Guard(tmp_path / f"own{len(started)}", guard_standalone.upstream, {"workers": 2, **more})
        started.append(guard)
        return guard.start().wait()

    yield start
    for guard in started:
        pids = list(workers_of(guard).values())
        guard.stop()
        assert within(10, lambda left=pids: not any(map(is_alive, left))), "a worker is left"


def test_a_worker_that_is_killed_as_soon_as_it_serves_is_replaced_each_time(
    own_guard: Callable[..., Guard],
) -> None:
    guard = own_guard()
    crew = Crew(guard)
    try:
        kept = crew.connect(0, "reader")
        for _ in range(6):
            before = guard.log.count("serves")
            os.kill(workers_of(guard)[1], signal.SIGKILL)
            assert within(40, lambda before=before: guard.log.count("serves") > before)
            assert kept.command("shop", {"find": "orders", "limit": 1})["ok"] == 1
    finally:
        crew.close()
    assert guard.log.count("has ended by signal 9; another one is started") == 6
    assert guard.stop() == 0


def test_workers_that_end_before_the_server_serves_end_it_with_the_reason(
    guard_standalone: Guard, tmp_path: Path
) -> None:
    guard = Guard(tmp_path, guard_standalone.upstream, {"workers": 2}).start()
    deadline = time.monotonic() + 60
    while guard.running and time.monotonic() < deadline:
        for pid in children_of(guard.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    assert guard.stop() == 1
    assert re.search(
        r"mongoguard: worker [01] has ended 5 times soon after its start, at last by signal 9", guard.log
    )


def test_workers_end_with_a_supervisor_that_is_killed(own_guard: Callable[..., Guard]) -> None:
    guard = own_guard()
    pids = list(workers_of(guard).values())
    with RawConnection(guard.address) as raw:
        raw.log_in("reader", password_of("reader"))
        guard.kill()
        assert within(15, lambda: not any(map(is_alive, pids)))
        with pytest.raises((ConnectionEnded, OSError)):
            raw.command("shop", {"ping": 1})


@pytest.mark.parametrize(
    ("wrong", "status", "told"),
    [
        ({"auditLog": {"destination": "file", "path": "/nosuch/audit"}}, 2, "auditLog.path: can't open"),
        (
            {"upstream": {"uri": "mongodb://127.0.0.1:9/", "serverSelectionTimeoutMS": 200}},
            1,
            "no upstream server takes writes",
        ),
    ],
    ids=["configuration", "upstream"],
)
def test_what_a_worker_cannot_start_for_is_said_once_and_ends_all(
    guard_standalone: Guard, tmp_path: Path, wrong: dict[str, Any], status: int, told: str
) -> None:
    socket_path, pid_path = tmp_path / "guard.sock", tmp_path / "pid"
    guard = Guard(
        tmp_path,
        guard_standalone.upstream,
        {
            "workers": 3,
            "processManagement": {"pidFilePath": str(pid_path)},
            **wrong,
        },
    )
    text = guard.config_path.read_text().replace("bindIp: 127.0.0.1", f"bindIp: '127.0.0.1,{socket_path}'")
    guard.config_path.write_text(text)
    done = run_mongoguard("serve", "-f", str(guard.config_path))
    assert done.returncode == status, done.stderr
    assert done.stderr.count(told) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not socket_path.exists()
    assert not pid_path.exists()


# ---- the end --------------------------------------------------------------------------------------------------------


def test_the_end_leaves_no_process_no_socket_file_and_no_pid_file(
    guard_standalone: Guard, tmp_path: Path
) -> None:
    socket_path, pid_path = tmp_path / "guard.sock", tmp_path / "pid"
    guard = Guard(
        tmp_path / "guard",
        guard_standalone.upstream,
        {"workers": 2, "processManagement": {"pidFilePath": str(pid_path)}},
    )
    text = guard.config_path.read_text().replace("bindIp: 127.0.0.1", f"bindIp: '127.0.0.1,{socket_path}'")
    guard.config_path.write_text(text)
    guard.start().wait()
    pids = list(workers_of(guard).values())
    assert pid_path.read_text() == f"{guard.pid}\n"
    os.kill(pids[0], signal.SIGKILL)
    assert within(20, lambda: workers_of(guard)[0] != pids[0])
    pids = [*pids, *workers_of(guard).values()]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix:
        unix.connect(str(socket_path))
        assert guard.stop() == 0
    assert not any(map(is_alive, pids))
    assert not socket_path.exists()
    assert not pid_path.exists()
    assert "Traceback" not in guard.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_a_worker_means_nothing(crew: Crew, number: signal.Signals) -> None:
    pids = crew.pids
    with RawConnection(crew.guard.address) as raw:
        raw.log_in("reader", password_of("reader"))
        for pid in pids.values():
            os.kill(pid, number)
        assert raw.command("shop", {"ping": 1})["ok"] == 1
    assert crew.pids == pids
    assert all(map(is_alive, pids.values()))


# ---- limits for all together ----------------------------------------------------------------------------------------


def test_connections_are_limited_for_all_workers_together(own_guard: Callable[..., Guard]) -> None:
    guard = own_guard(net={"maxIncomingConnections": 6})
    opened: list[RawConnection] = []
    try:
        for _ in range(6):
            raw = RawConnection(guard.address)
            assert raw.command("admin", {"hello": 1})["ok"] == 1
            opened.append(raw)
        for _ in range(8):
            with RawConnection(guard.address) as raw, pytest.raises((ConnectionEnded, OSError)):
                raw.command("admin", {"hello": 1})
        os.kill(workers_of(guard)[0], signal.SIGKILL)
        assert within(20, lambda: guard.log.count("worker 0") >= 3)
        assert within(10, lambda: _is_served(guard)), "a crashed worker's connections count no more"
    finally:
        for raw in opened:
            raw.close()


def _is_served(guard: Guard) -> bool:
    try:
        with RawConnection(guard.address) as raw:
            return bool(raw.command("admin", {"hello": 1})["ok"] == 1)
    except (ConnectionEnded, OSError):
        return False


def test_failed_logins_are_counted_for_all_workers_together(own_guard: Callable[..., Guard]) -> None:
    guard = own_guard(security={"loginLimits": {"maxFailuresPerUserAndAddress": 4}})
    crew = Crew(guard)
    try:
        for turn in range(4):
            with pytest.raises(AssertionError):
                crew.connect(turn % 2).log_in("reader", "wrong")
        for worker in (0, 1):
            with pytest.raises(AssertionError):
                crew.connect(worker).log_in("reader", password_of("reader"))
        killed = crew.pids[1]
        os.kill(killed, signal.SIGKILL)
        assert within(20, lambda: crew.pids[1] != killed)
        with pytest.raises(AssertionError):
            crew.connect(1).log_in("reader", password_of("reader"))
        crew.connect(1, "app")
    finally:
        crew.close()


def test_a_users_connections_are_counted_for_all_workers_together(own_guard: Callable[..., Guard]) -> None:
    guard = own_guard(net={"maxConnectionsPerUser": 3})
    crew = Crew(guard)
    try:
        kept = [crew.connect(worker, "reader") for worker in (0, 1, 0)]
        for worker in (0, 1):
            with pytest.raises(AssertionError, match="Authentication failed"):
                crew.connect(worker).log_in("reader", password_of("reader"))
        crew.connect(1, "app")
        kept[1].close()
        assert within(10, lambda: _logs_in(crew, 0))
        killed = crew.pids[0]
        os.kill(killed, signal.SIGKILL)
        assert within(20, lambda: crew.pids[0] != killed)
        assert within(10, lambda: _logs_in(crew, 1)), "a crashed worker's connections count no more"
    finally:
        crew.close()


def _logs_in(crew: Crew, worker: int) -> bool:
    try:
        crew.connect(worker, "reader")
    except AssertionError:
        return False
    return True


# ---- drivers --------------------------------------------------------------------------------------------------------


def test_a_driver_with_a_pool_notices_nothing_of_workers(crew: Crew) -> None:
    with crew.guard.client() as client:
        for turn in range(20):
            client.shop.crossing.insert_many([{"turn": turn, "n": n} for n in range(20)])
            assert len(list(client.shop.crossing.find({"turn": turn}, batch_size=3))) == 20
        client.shop.crossing.drop()


def test_a_driver_goes_on_when_a_worker_is_killed(crew: Crew, standalone: Mongod) -> None:
    with crew.guard.client(serverSelectionTimeoutMS="15000") as client:
        client.shop.command("ping")
        killed = crew.pids[2]
        os.kill(killed, signal.SIGKILL)
        failures = 0
        for _ in range(50):
            try:
                client.shop.command("ping")
            except PyMongoError:
                failures += 1
        assert failures <= 2, "commands are not retried, but the pool is mended at once"
        assert within(20, lambda: crew.pids[2] != killed)
