"""SIGHUP takes over the configuration as a whole: all or nothing, in the only process and in every worker."""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mongoguard.authn.scram import SCRAM_SHA_256, derive_credentials
from tests.pki import Pki
from tests.rawwire import ConnectionEnded, RawConnection
from tests.servers import Guard, init_upstream, password_of
from tests.workers import Crew, within, workers_of

READ = {"role": "read", "db": "shop"}


def entry(name: str, *roles: Any) -> dict[str, Any]:
    """A user of the file."""
    made = derive_credentials(SCRAM_SHA_256, name, password_of(name), b"s" * SCRAM_SHA_256.salt_bytes, 5000)
    binary = {"salt": made.salt, "storedKey": made.stored_key, "serverKey": made.server_key}
    credential = {"iterationCount": 5000, **{k: base64.b64encode(v).decode() for k, v in binary.items()}}
    return {"user": name, "db": "admin", "credentials": {"SCRAM-SHA-256": credential}, "roles": list(roles)}


class ReloadedGuard(Guard):
    """mongoguard with a users file, and a configuration that tests change while it runs."""

    def __init__(self, directory: Path, guarded: Guard, workers: int, settings: Mapping[str, Any]) -> None:
        directory.mkdir()
        self.users_path = directory / "users.yaml"
        self.workers = workers
        self.settings = settings
        self.users(entry("ann", READ), entry("bob", READ))
        super().__init__(directory, guarded.upstream, self.wanted({}))

    def users(self, *users: Mapping[str, Any]) -> None:
        """Write the users file anew."""
        self.users_path.write_text(json.dumps({"users": list(users)}))  # YAML too, without aliases

    def wanted(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration with these sections beside those that each test needs."""
        result: dict[str, Any] = {"workers": self.workers}
        sections: dict[str, Any] = {
            "security": {"userDirectory": "file", "userFile": str(self.users_path)},
            **self.settings,
        }
        for name in {*sections, *more}:
            value = more.get(name, sections.get(name))
            both = isinstance(value, Mapping) and name in sections
            result[name] = {**sections[name], **value} if both else value
        return result

    def reload(self, told: str) -> str:
        """Send SIGHUP, and wait until the log says so; what was logged."""
        before = len(self.log)
        self.send_signal(signal.SIGHUP)
        assert within(30, lambda: told in self.log[before:]), self.log[before:]
        return self.log[before:]


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def workers(request: pytest.FixtureRequest) -> int:
    """How many processes serve."""
    return int(request.param)


@pytest.fixture
def guard(guard_standalone: Guard, tmp_path: Path, workers: int) -> Iterator[ReloadedGuard]:
    """One with a certificate that tests replace."""
    own = ReloadedGuard(tmp_path / "guard", guard_standalone, workers, {})
    try:
        yield own.start().wait()
    finally:
        own.stop()
        assert "Traceback" not in own.log


def connections(guard: Guard, workers: int, user: str | None) -> list[RawConnection]:
    """One to each process, logged in."""
    if workers == 1:
        raw = RawConnection(guard.address)
        raw.log_in(user or "", password_of(user or "")) if user else None
        return [raw]
    crew = Crew(guard)
    return [crew.connect(worker, user) for worker in range(workers)]


COUNT = {"count": "many"}


def test_every_process_uses_the_new_users_and_values_with_the_next_command(
    guard: ReloadedGuard, workers: int
) -> None:
    ann, bob = (connections(guard, workers, name) for name in ("ann", "bob"))
    assert all(raw.command("shop", COUNT)["ok"] == 1 for raw in (*ann, *bob))
    guard.users(entry("ann", READ))
    guard.configure(guard.wanted({"security": {"explainDenials": True}, "systemLog": {"verbosity": 1}}))
    told = guard.reload("SIGHUP: the users file is reloaded")
    assert "new values are in use of security.explainDenials, systemLog.verbosity" in told
    for raw in ann:
        assert raw.command("shop", COUNT)["ok"] == 1
        refused = raw.command("shop", {"insert": "many", "documents": [{"a": 1}]})
        assert refused["code"] == 13
        assert "errInfo" in refused, "security.explainDenials"
    for raw in bob:
        assert raw.command("shop", COUNT)["code"] == 13, "dropped from the file"
    for raw in (*ann, *bob):
        raw.close()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"net": {"maxIncomingConnections": 0}}, "the configuration is not reloaded"),
        ({"nett": {}}, "unknown key"),
        ({"net": {"maxIncomingConnections": 7}, "users": "users: ["}, "the users file is not reloaded"),
        ({"security": {"userFile": "/nosuch/users.yaml"}}, "the users file is not reloaded"),
    ],
    ids=["value", "key", "users", "path"],
)
def test_one_mistake_and_nothing_changes_in_any_process(
    guard: ReloadedGuard, workers: int, more: dict[str, Any], told: str
) -> None:
    raws = connections(guard, workers, "bob")
    broken = more.get("users")
    more = {name: value for name, value in more.items() if name != "users"}
    guard.users(entry("ann", READ))  # without bob
    if broken is not None:
        guard.users_path.write_text(broken)
    guard.configure(guard.wanted({**more, "security": {"explainDenials": True, **more.get("security", {})}}))
    log = guard.reload(told)
    assert "is reloaded" not in log
    for raw in raws:
        assert raw.command("shop", COUNT)["ok"] == 1
        refused = raw.command("shop", {"insert": "many", "documents": [{"a": 1}]})
        assert refused["code"] == 13
        assert "errInfo" not in refused
        raw.close()


def test_keys_that_need_a_restart_are_named_and_the_others_are_used(
    guard: ReloadedGuard, workers: int
) -> None:
    limit = 3
    wanted = guard.wanted({"net": {"maxIncomingConnections": limit}, "auditLog": {"destination": "console"}})
    wanted["net"]["port"] = guard.port + 1
    wanted["workers"] = 9
    guard.configure(wanted)
    told = guard.reload("SIGHUP: the configuration is reloaded")
    for key in ("auditLog", "net.port", "workers"):
        assert f"SIGHUP: {key} has a new value, which needs a restart; the old one stays in use" in told
    assert "new values are in use of net.maxIncomingConnections" in told
    opened = [RawConnection(guard.address) for _ in range(limit)]
    assert all(raw.command("admin", {"hello": 1})["ok"] == 1 for raw in opened)
    with RawConnection(guard.address) as one_more, pytest.raises((ConnectionEnded, OSError)):
        one_more.command("admin", {"hello": 1})
    for raw in opened:
        raw.close()


def test_a_worker_that_is_replaced_has_what_was_reloaded_and_no_more(
    guard_standalone: Guard, tmp_path: Path
) -> None:
    guard = ReloadedGuard(tmp_path / "guard", guard_standalone, 2, {})
    try:
        guard.start().wait()
        guard.users(entry("ann", READ))
        wanted = guard.wanted({"security": {"explainDenials": True}})
        wanted["net"] = {"presentAs": "mongos"}
        guard.configure(wanted)
        guard.reload("SIGHUP: the users file is reloaded")
        # Not told: nobody must use this.
        guard.users(entry("bob", READ))
        guard.config_path.write_text("nonsense: [")
        before = workers_of(guard)
        os.kill(before[1], signal.SIGKILL)
        assert within(30, lambda: workers_of(guard)[1] != before[1])
        crew = Crew(guard)
        late = crew.connect(1, "ann")
        assert late.command("shop", COUNT)["ok"] == 1
        assert "msg" not in late.command("admin", {"hello": 1}), "net.presentAs needs a restart"
        assert "errInfo" in late.command("shop", {"insert": "many", "documents": [{}]})
        with pytest.raises(AssertionError):
            crew.connect(1).log_in("bob", password_of("bob"))
        crew.close()
    finally:
        guard.stop()


@pytest.fixture
def tls_guard(
    guard_standalone: Guard, tmp_path: Path, workers: int, pki: Pki
) -> Iterator[tuple[ReloadedGuard, Path]]:
    """One with TLS, and the file of its certificate."""
    server = tmp_path / "server.pem"
    server.write_bytes(pki.server.read_bytes())
    tls = {"mode": "requireTLS", "certificateKeyFile": str(server), "CAFile": str(pki.ca)}
    tls["allowConnectionsWithoutCertificates"] = True
    own = ReloadedGuard(tmp_path / "guard", guard_standalone, workers, {"net": {"tls": tls}})
    try:
        yield own.start().wait(), server
    finally:
        own.stop()


def shown(guard: Guard) -> set[str]:
    """The certificates that new connections are shown."""
    return {ssl.get_server_certificate(("127.0.0.1", guard.port)) for _ in range(12)}


def test_a_certificate_and_users_are_taken_over_together_or_not_at_all(
    tls_guard: tuple[ReloadedGuard, Path], pki: Pki
) -> None:
    guard, server = tls_guard
    before = shown(guard)
    assert len(before) == 1
    server.write_bytes(pki.member.read_bytes())
    guard.users_path.write_text("users: [")
    guard.reload("SIGHUP: the users file is not reloaded")
    assert shown(guard) == before
    guard.users(entry("ann", READ))
    server.write_text("half a file")
    guard.reload("SIGHUP: net.tls is not reloaded: net.tls.certificateKeyFile")
    assert shown(guard) == before
    server.write_bytes(pki.member.read_bytes())
    guard.reload("SIGHUP: net.tls is reloaded")
    assert len(shown(guard)) == 1
    assert shown(guard) != before


def test_a_pool_is_made_larger_while_requests_wait_for_it(guard_standalone: Guard, tmp_path: Path) -> None:
    upstream = {"uri": init_upstream(guard_standalone.upstream), "maxPoolSize": 1}
    guard = ReloadedGuard(tmp_path / "guard", guard_standalone, 1, {"upstream": upstream})
    slow = {"find": "many", "filter": {"$where": "sleep(4000) || true"}, "limit": 1}
    try:
        with guard_standalone.client() as root:
            root.shop.many.update_one({"_id": 0}, {"$set": {"a": 1}}, upsert=True)
        guard.users(entry("ann", {"role": "readAnyDatabase", "db": "admin"}))
        guard.start().wait()
        (first,), (second,) = connections(guard, 1, "ann"), connections(guard, 1, "ann")
        with ThreadPoolExecutor(1) as threads:
            busy = threads.submit(first.command, "shop", slow)
            assert within(10, lambda: _is_running(guard_standalone, "many"))
            guard.configure(guard.wanted({"upstream": {**upstream, "maxPoolSize": 2}}))
            guard.reload("new values are in use of upstream.maxPoolSize")
            begun = time.monotonic()
            assert second.command("shop", COUNT)["ok"] == 1
            assert not busy.done(), f"it waited {time.monotonic() - begun:.1f} s for the only connection"
            assert busy.result(30)["ok"] == 1
        first.close()
        second.close()
    finally:
        guard.stop()


def _is_running(guarded: Guard, collection: str) -> bool:
    stages: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True}},
        {"$match": {"ns": f"shop.{collection}"}},
    ]
    with guarded.upstream.client() as direct:
        return bool(list(direct.admin.aggregate(stages)))
