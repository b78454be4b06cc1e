"""Failed logins with real drivers: one mistyped password locks nobody out, guessing ends, and only the audit log says why."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from tests.node_clients import ClientFailed, NodeClients
from tests.rawwire import RawConnection
from tests.servers import Guard, password_of

NAMES = itertools.count()
LIMIT = 5


def _guard(upstream: Guard, directory: Any, limits: dict[str, int]) -> Iterator[Guard]:
    settings = {
        "security": {"loginLimits": limits},
        "auditLog": {"destination": "file", "path": str(directory / "audit.json")},
    }
    guard = Guard(directory, upstream.upstream, settings)
    try:
        yield guard.start().wait()
    finally:
        assert guard.stop() == 0
        assert "internal error" not in guard.log


@pytest.fixture(scope="module")
def by_default(guard_standalone: Guard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """A mongoguard with the limits that nobody has set."""
    yield from _guard(guard_standalone, tmp_path_factory.mktemp("limits_default"), {})


@pytest.fixture(scope="module")
def strict(guard_standalone: Guard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """One that blocks a user at an address after five failures, for two seconds."""
    limits = {"maxFailuresPerUserAndAddress": LIMIT, "blockSecs": 2}
    yield from _guard(guard_standalone, tmp_path_factory.mktemp("limits_strict"), limits)


@pytest.fixture
def user(guard_standalone: Guard) -> str:
    """Somebody whom nobody has failed to be."""
    name = f"limited{next(NAMES)}"
    with guard_standalone.client() as client:
        client.admin.command("createUser", name, pwd=password_of(name), roles=[])
    return name


def refusals(guard: Guard, user: str) -> list[str]:
    """The reasons in the audit log, oldest first."""
    time.sleep(0.2)  # the writer may still be at it
    lines = (guard.directory / "audit.json").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return [e["param"]["reason"] for e in events if e["param"].get("user") == user and e["result"]]


def attempt(guard: Guard, user: str, password: str) -> OperationFailure | None:
    """One try with PyMongo; None when it logs in."""
    with guard.client(user, password, serverSelectionTimeoutMS="5000") as client:
        try:
            client.admin.command("ping")
        except OperationFailure as error:
            return error
        return None


def test_pymongo_mistypes_once_and_then_logs_in_at_once(by_default: Guard, user: str) -> None:
    error = attempt(by_default, user, "mistyped")
    assert error is not None
    assert error.code == 18
    assert attempt(by_default, user, password_of(user)) is None


def test_mongosh_mistypes_once_and_then_logs_in_at_once(
    by_default: Guard, user: str, node_clients: NodeClients
) -> None:
    with pytest.raises(ClientFailed, match="Authentication failed"):
        node_clients.mongosh(by_default.uri(user, "mistyped"), "db.runCommand({ping: 1}).ok")
    script = "print(db.runCommand({ping: 1}).ok)"
    assert node_clients.mongosh(by_default.uri(user), script).strip().endswith("1")


def test_a_driver_that_tries_a_wrong_password_sixteen_times_locks_nobody_out(
    by_default: Guard, user: str
) -> None:
    """As the Java and Ruby drivers do in 8 s; twice, for a name that does not exist is tried with two mechanisms."""
    for _ in range(32):
        with RawConnection(by_default.address) as raw, pytest.raises(AssertionError, match="18"):
            raw.log_in(user, "mistyped")
    assert attempt(by_default, user, password_of(user)) is None


def test_forty_clients_that_log_in_at_once_with_the_right_password_all_do(strict: Guard, user: str) -> None:
    def one(_number: int) -> OperationFailure | None:
        return attempt(strict, user, password_of(user))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(40))) == [None] * 40


def test_guessing_ends_and_the_block_ends_too(strict: Guard, user: str) -> None:
    wrong = [attempt(strict, user, f"guess{number}") for number in range(LIMIT)]
    blocked = attempt(strict, user, password_of(user))
    assert None not in (*wrong, blocked)
    seen = {
        (error.code, str(error.details and error.details["errmsg"])) for error in (*wrong, blocked) if error
    }
    assert seen == {(18, "Authentication failed.")}, "the client can't tell a block from a wrong password"
    assert attempt(strict, "root", password_of("root")) is None, "others are not concerned"
    reasons = refusals(strict, user)
    assert ["too many failed logins" in reason for reason in reasons] == [False] * LIMIT + [True]
    assert reasons[-1] == "too many failed logins: blocked for 2 s (this user from this address)"
    deadline = time.monotonic() + 10
    while attempt(strict, user, password_of(user)) is not None:
        assert time.monotonic() < deadline, "the block does not end"
    # attempts during the block have not prolonged it, and the login has cleared the count
    assert [attempt(strict, user, "mistyped") is None for _ in range(LIMIT - 1)] == [False] * (LIMIT - 1)
    assert attempt(strict, user, password_of(user)) is None


def test_a_session_that_is_logged_in_survives_a_block(strict: Guard, user: str) -> None:
    with RawConnection(strict.address) as raw:
        raw.log_in(user, password_of(user))
        for _ in range(LIMIT + 1):
            with RawConnection(strict.address) as other, pytest.raises(AssertionError, match="18"):
                other.log_in(user, "guess")
        assert raw.command("admin", {"features": 1})["ok"] == 1


def test_a_user_that_does_not_exist_is_blocked_like_one_that_does(strict: Guard, user: str) -> None:
    for name in (user, f"{user}-nobody"):
        for _ in range(LIMIT + 1):
            error = attempt(strict, name, "guess")
            assert error is not None
            assert error.code == 18
        assert "too many failed logins" in refusals(strict, name)[-1]


def test_switched_off_nobody_is_ever_blocked(
    guard_standalone: Guard, user: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    off = {"maxFailuresPerUserAndAddress": 0, "maxFailuresPerAddress": 0, "maxFailuresPerUser": 0}
    for guard in _guard(guard_standalone, tmp_path_factory.mktemp("limits_off"), off):
        for _ in range(60):
            with RawConnection(guard.address) as raw, pytest.raises(AssertionError, match="18"):
                raw.log_in(user, "guess")
        assert attempt(guard, user, password_of(user)) is None
