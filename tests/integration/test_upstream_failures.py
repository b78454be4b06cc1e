"""The upstream fails, hangs or comes back: clients get an error in time, never silence, and nobody restarts mongoguard."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo
import pytest
import yaml
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from tests.rawwire import ConnectionEnded, RawConnection, op_msg
from tests.servers import (
    Client,
    Guard,
    Mongod,
    create_test_users,
    free_port,
    init_upstream,
    password_of,
    run_mongoguard,
)

SELECTION_MS = 10_000
"""A crashed mongod is back after that on a busy machine, at the second of a driver's two tries at the latest."""


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """A replica set of one and mongoguard in front of it, of this module's own: they are killed."""
    directory = tmp_path_factory.mktemp("fragile")
    mongod = Mongod(directory / "mongod", replica_set="rs0")
    try:
        mongod.start().wait()
        create_test_users(mongod)
        with mongod.client() as direct:
            direct.shop.orders.insert_many([{"_id": i} for i in range(10)])
        guard = Guard(directory / "guard", mongod, {"upstream": {"serverSelectionTimeoutMS": SELECTION_MS}})
        try:
            yield guard.start().wait()
        finally:
            guard.stop()
            assert "internal error" not in guard.log
            assert "Traceback" not in guard.log
    finally:
        mongod.kill()


@contextmanager
def in_background(call: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run `call` beside the block; afterwards the list holds its result or error, and how long it took."""
    result: list[Any] = []

    def run() -> None:
        began = time.monotonic()
        try:
            found = call()
        except Exception as error:
            found = error
        result.extend((found, time.monotonic() - began))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield result
    finally:
        thread.join(60)
        assert not thread.is_alive(), "the client hangs"


SLOW = {"find": "orders", "filter": {"$where": "sleep(1000) || true"}, "comment": "slow"}
"""Takes 10 s over the ten orders."""


def operations(direct: Client) -> list[dict[str, Any]]:
    """The slow queries that run upstream."""
    stages: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True}},
        {"$match": {"command.comment": "slow"}},
    ]
    return list(direct.admin.aggregate(stages))


def wait_until(condition: Callable[[], Any], seconds: float) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def works_again(guard: Guard, seconds: float) -> bool:
    """Whether a new client gets an answer within that time."""

    def works() -> bool:
        with contextlib.suppress(PyMongoError), guard.client("app", retryWrites="false") as client:
            client.shop.orders.update_one({"_id": 1}, {"$inc": {"n": 1}})
            return True
        return False

    return wait_until(works, seconds)


def test_a_server_that_was_killed_while_idle_is_told_in_seconds_and_found_again(fragile: Guard) -> None:
    with fragile.client("app", retryReads="false", retryWrites="false") as client:
        client.shop.orders.find_one()
        fragile.upstream.kill()
        began = time.monotonic()
        for call in (client.shop.orders.find_one, lambda: client.shop.orders.insert_one({})):
            with pytest.raises((AutoReconnect, OperationFailure)) as failed:
                call()
            if isinstance(failed.value, OperationFailure):
                assert failed.value.code in {6, 91}
                assert str(fragile.upstream.port) not in str(failed.value), (
                    "the network behind is not told of"
                )
        assert "a command was not sent: " in fragile.log
        assert time.monotonic() - began < 2 * SELECTION_MS / 1000 + 5
        fragile.upstream.start().wait()
        assert wait_until(lambda: _answers(client), 5), "the old client works again"
    assert works_again(fragile, 5)


def _answers(client: Client) -> bool:
    with contextlib.suppress(PyMongoError):
        return client.shop.orders.find_one({"_id": 1}) is not None
    return False


def test_a_retryable_write_succeeds_across_a_crash(fragile: Guard) -> None:
    with fragile.client("app") as client:
        client.shop.crash.drop()
        client.shop.crash.insert_one({"_id": "before"})
        fragile.upstream.kill()
        with in_background(lambda: client.shop.crash.insert_one({"_id": "during"}).inserted_id) as result:
            fragile.upstream.start().wait()
        assert result[0] == "during"
        assert client.shop.crash.count_documents({}) == 2, "written once"


def test_a_server_that_is_killed_in_mid_command_ends_the_command(fragile: Guard) -> None:
    def query() -> Any:
        with fragile.client("app", retryReads="false") as client:
            return client.shop.command(SLOW)

    with in_background(query) as result:
        with fragile.upstream.client() as direct:
            assert wait_until(lambda: operations(direct), 10)
        fragile.upstream.kill()
    assert isinstance(result[0], AutoReconnect | OperationFailure), result
    assert result[1] < 15
    fragile.upstream.start().wait()
    assert works_again(fragile, 5)


def test_a_connection_in_mid_command_is_closed_with_its_upstream(fragile: Guard) -> None:
    """A reply could not tell whether the command ran: what drivers' retry rules are written for is a lost connection."""
    with RawConnection(fragile.address) as raw:
        raw.log_in("app", password_of("app"))

        def query() -> Any:
            return raw.command("shop", SLOW)

        with in_background(query) as result:
            with fragile.upstream.client() as direct:
                assert wait_until(lambda: operations(direct), 10)
            fragile.upstream.kill()
    assert isinstance(result[0], ConnectionEnded), result
    fragile.upstream.start().wait()
    assert works_again(fragile, 5)


def test_a_transaction_that_lost_its_server_may_be_tried_again(fragile: Guard) -> None:
    with fragile.client("app") as client, client.start_session() as session:
        session.start_transaction()
        client.shop.orders.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)
        fragile.upstream.kill()
        with pytest.raises(PyMongoError) as failed:
            client.shop.orders.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)
        assert failed.value.has_error_label("TransientTransactionError"), failed.value
    fragile.upstream.start().wait()
    assert works_again(fragile, 5)


HELD_SECS = 8
"""A deadline of 1.5 s, on a busy machine; less than any of mongoguard's own, which must not be what ends the wait."""


def test_a_stopped_server_holds_nobody_beyond_the_clients_own_deadline(fragile: Guard) -> None:
    with fragile.client("app") as client:
        client.shop.orders.find_one()
        fragile.upstream.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(PyMongoError) as failed, pymongo.timeout(1.5):
                client.shop.orders.find_one()
            assert failed.value.timeout
            assert time.monotonic() - began < HELD_SECS
            with RawConnection(fragile.address) as raw:
                assert raw.command("admin", {"hello": 1})["ok"] == 1, "what needs no upstream is answered"
        finally:
            fragile.upstream.send_signal(signal.SIGCONT)
        assert wait_until(lambda: _answers(client), 30)


KEPT_READY = 8
"""More than two mongoguards open to get to know a server."""


def test_connections_are_ready_from_the_start_and_again_after_a_crash(fragile: Guard, tmp_path: Path) -> None:
    settings = {"upstream": {"minPoolSize": KEPT_READY, "serverSelectionTimeoutMS": SELECTION_MS}}
    guard = Guard(tmp_path, fragile.upstream, settings).start().wait()

    def ready() -> bool:
        with contextlib.suppress(PyMongoError), fragile.upstream.client() as direct:
            return connections_of_mongoguard(direct) >= KEPT_READY
        return False

    try:
        assert wait_until(ready, 10)
        fragile.upstream.kill()
        fragile.upstream.start().wait()
        assert wait_until(ready, 20)
        guard.configure({"upstream": {**settings["upstream"], "minPoolSize": 0}})
        guard.send_signal(signal.SIGHUP)
        assert wait_until(lambda: "new values are in use of upstream.minPoolSize" in guard.log, 10)
    finally:
        guard.stop()
    assert works_again(fragile, 10)


def connections_of_mongoguard(direct: Client) -> int:
    """How many are open, whatever they do; the monitors' have another name."""
    stages: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True, "idleConnections": True}},
        {"$match": {"clientMetadata.application.name": "mongoguard"}},
    ]
    return len(list(direct.admin.aggregate(stages)))


def test_work_for_a_client_that_left_ends_upstream(fragile: Guard) -> None:
    with fragile.upstream.client() as direct:
        with RawConnection(fragile.address) as raw:
            raw.log_in("app", password_of("app"))
            raw.send(op_msg({**SLOW, "$db": "shop"}))
            assert wait_until(lambda: operations(direct), 10)
        assert wait_until(lambda: not operations(direct), 3), "mongod still works for nobody"


def test_sigterm_lets_a_command_finish_and_leaves_nothing_behind(fragile: Guard) -> None:
    directory = fragile.directory / "drained"
    pid_file = directory / "guard.pid"
    own = Guard(directory, fragile.upstream)
    own.configure(
        {
            "net": {"unixDomainSocket": {"enabled": True, "pathPrefix": str(directory)}},
            "processManagement": {"pidFilePath": str(pid_file)},
        }
    )
    own.start().wait()
    unix_socket = directory / f"mongodb-{own.port}.sock"
    assert unix_socket.is_socket()
    assert pid_file.read_text().strip() == str(own.pid)
    quick = {"find": "orders", "filter": {"$where": "sleep(200) || true"}, "comment": "slow"}
    with RawConnection(own.address) as raw, RawConnection(own.address) as idle:
        raw.log_in("app", password_of("app"))
        idle.log_in("app", password_of("app"))
        with in_background(lambda: raw.command("shop", quick)) as result:
            with fragile.upstream.client() as direct:
                assert wait_until(lambda: operations(direct), 10)
            own.send_signal(signal.SIGTERM)  # and no second one: that would not wait
            assert idle.is_closed_by_peer()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", own.port), 5)
        assert result[0]["ok"] == 1, result
    assert wait_until(lambda: not own.running, 15)
    assert own.stop() == 0
    assert not unix_socket.exists()
    assert not pid_file.exists()
    assert "Traceback" not in own.log


def test_a_unix_socket_serves_like_a_port(fragile: Guard) -> None:
    directory = fragile.directory / "unix"
    own = Guard(directory, fragile.upstream)
    own.configure({"net": {"unixDomainSocket": {"enabled": True, "pathPrefix": str(directory)}}})
    own.start().wait()
    try:
        path = quote(f"{directory}/mongodb-{own.port}.sock", safe="")
        uri = f"mongodb://reader:{password_of('reader')}@{path}"
        with pymongo.MongoClient[dict[str, Any]](uri) as client:
            assert client.shop.orders.find_one({"_id": 2}) == {"_id": 2}
            with pytest.raises(OperationFailure, match="not authorized on shop"):
                client.shop.orders.insert_one({})
            assert client.admin.command("whatsmyuri")["you"] == "anonymous unix socket"
    finally:
        assert own.stop() == 0


# ---- at start -------------------------------------------------------------------------------------------------------


def serve(fragile: Guard, uri: str, **upstream: Any) -> subprocess.CompletedProcess[str]:
    """Run `serve` with another upstream.uri, to its end."""
    config = fragile.directory / "other.yaml"
    config.write_text(yaml.safe_dump({"net": {"port": free_port()}, "upstream": {"uri": uri, **upstream}}))
    return run_mongoguard("serve", "-f", str(config))


def sentences(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was printed for people: the lines of standard error that are no log lines."""
    return [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("{")]


def test_an_upstream_that_is_not_there_at_start_ends_it_with_one_sentence(fragile: Guard) -> None:
    port = free_port()
    done = serve(fragile, f"mongodb://mongoguard:canary-pw@127.0.0.1:{port}", serverSelectionTimeoutMS=1000)
    assert done.returncode == 1
    (sentence,) = sentences(done)
    assert sentence.startswith("mongoguard: no upstream server takes writes")
    assert f"127.0.0.1:{port}" in sentence
    assert "canary-pw" not in done.stderr + done.stdout


def test_a_wrong_upstream_password_ends_it_with_one_sentence(fragile: Guard) -> None:
    uri = init_upstream(fragile.upstream)
    user = uri.partition("://")[2].partition(":")[0]
    host = uri.rpartition("@")[2]
    done = serve(fragile, f"mongodb://{user}:canary-pw@{host}")
    assert done.returncode == 1
    (sentence,) = sentences(done)
    assert "Authentication failed" in sentence
    assert "canary-pw" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
