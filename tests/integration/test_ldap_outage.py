"""A directory that goes away and comes back, changes while users are logged in, and many logins at once."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import OperationFailure, PyMongoError

from tests.ldap_guard import LdapGuard, ldap_settings, running
from tests.ldap_servers import Slapd
from tests.pki import Pki
from tests.servers import Client, Mongod, password_of

READ = [{"role": "read", "db": "shop"}]


@pytest.fixture(scope="module")
def directory(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """A slapd that these tests may kill."""
    server = Slapd(tmp_path_factory.mktemp("killed"), pki)
    try:
        server.start().wait()
        yield server
    finally:
        server.kill()


def settings(directory: Slapd, staleness: int, **more: Any) -> dict[str, Any]:
    table = {directory.group_dn("dba"): READ, directory.group_dn("developers"): READ}
    return ldap_settings(
        directory, roleMapping=table, userCacheStalenessSecs=staleness, **{"timeoutMS": 1000, **more}
    )


@pytest.fixture
def make_guard(standalone: Mongod, directory: Slapd, tmp_path: Path) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def make(staleness: int, **more: Any) -> LdapGuard:
            guard = LdapGuard(tmp_path, standalone, settings(directory, staleness, **more))
            return stack.enter_context(running(guard))

        yield make


def find(client: Client) -> None:
    client.shop.orders.find_one()


def one_connection(guard: LdapGuard, user: str) -> Client:
    """A client that has logged in, and keeps that connection."""
    client = guard.login(user, maxPoolSize=1, retryReads=False)
    find(client)
    return client


def logins_of(guard: LdapGuard, user: str) -> int:
    return sum(
        e["atype"] == "authenticate" and not e["result"] and e["param"]["user"] == user
        for e in guard.events()
    )


class Load:
    """Commands of some users, one after the other, until stopped; `errors` holds what failed, and when."""

    def __init__(self, clients: list[Client]) -> None:
        self.errors: list[str] = []
        self.commands = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(client,)) for client in clients]

    def _run(self, client: Client) -> None:
        while not self._stop.wait(0.02):
            try:
                find(client)
                self.commands += 1
            except PyMongoError as error:
                self.errors.append(f"{time.monotonic():.1f}: {error}")

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_directory_that_comes_back_within_the_bound_loses_no_session(make_guard, directory, how):
    guard = make_guard(24)
    users = ["alice", "grace", "bob", "dave"]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(one_connection(guard, user)) for user in users]
        with Load(clients) as load:
            time.sleep(1)
            if how == "killed":
                directory.kill()
            else:
                directory.freeze()
            time.sleep(11)  # their answers are due after 8 s, and must not be used after 24 s
            code, reason = guard.refused("kim")
            assert code == 6
            assert str(directory.tls_port) in reason
            with guard.client() as root:
                root.admin.command("ping")
            if how == "killed":
                directory.start().wait()
            else:
                directory.thaw()
            time.sleep(16)  # past the bound of the answers from before
        assert load.errors == []
        assert load.commands > 200
        assert [logins_of(guard, user) for user in users] == [1, 1, 1, 1]
        assert "users keep their last groups" in guard.log


def refusal_within(client: Client, secs: float, changed: float) -> tuple[int, str]:
    """How a user's commands end who was changed, or whose directory was lost, at that moment: what the directory said
    before is that old at least, so no command that is sent `secs` later is served.
    """
    while True:
        sent = time.monotonic()
        try:
            find(client)
        except OperationFailure as error:
            return error.code or 0, str(error)
        assert sent < changed + secs, f"a command was served {sent - changed:.2f} s later"
        time.sleep(0.05)


def served_within(client: Client, secs: float, changed: float) -> None:
    """Return when a command is served; each one is that is sent `secs` after the change or later."""
    while True:
        sent = time.monotonic()
        with contextlib.suppress(OperationFailure):
            find(client)
            return
        assert sent < changed + secs, f"a command was refused {sent - changed:.2f} s later"
        time.sleep(0.05)


def test_a_directory_that_stays_away_keeps_nobody_in_and_a_session_goes_on_when_it_is_back(
    make_guard, directory
):
    guard = make_guard(6)
    begun = time.monotonic()
    with one_connection(guard, "alice") as client, one_connection(guard, "bob") as other:
        directory.kill()
        lost = time.monotonic()
        try:
            code, text = refusal_within(client, 6, lost)
            assert time.monotonic() > begun + 5.9, "an answer is used to its end"
            assert code == 6
            assert "cannot reach the user directory" in text
            assert refusal_within(other, 6, lost)[0] == 6
        finally:
            directory.start().wait()
        # A server that failed is not passed over when all of them have.
        served_within(client, 3, time.monotonic())
        served_within(other, 3, time.monotonic())
        assert logins_of(guard, "alice") == logins_of(guard, "bob") == 1


def test_a_user_who_leaves_a_group_loses_its_roles_on_a_live_connection_within_the_setting(
    make_guard, directory
):
    guard = make_guard(9)
    with one_connection(guard, "grace") as client, one_connection(guard, "alice") as other:
        directory.remove_member("dba", directory.dn_of("grace"))
        try:
            assert refusal_within(client, 9, time.monotonic())[0] == 13
            find(other)
        finally:
            directory.add_member("dba", directory.dn_of("grace"))
        served_within(client, 9, time.monotonic())


def test_a_user_who_is_deleted_is_logged_out_within_the_setting(make_guard, directory):
    guard = make_guard(9)
    directory.add_person("leaver")
    directory.add_member("dba", directory.dn_of("leaver"))
    with one_connection(guard, "leaver") as client:
        directory.delete(directory.dn_of("leaver"))
        assert refusal_within(client, 9, time.monotonic())[0] == 13
    # The sink has taken the event before the client is answered, and writes it when it comes to it.
    deadline = time.monotonic() + 30
    while not any(e["atype"] == "logout" and "dropped" in e["param"]["reason"] for e in guard.events()):
        assert time.monotonic() < deadline, "no logout event"
        time.sleep(0.05)


def test_two_hundred_logins_at_once_open_a_connection_each_and_the_pool(make_guard, directory):
    guard = make_guard(90, timeoutMS=20_000)
    users = ["alice", "grace", "bob", "dave"]
    before = directory.connections_accepted
    barrier = threading.Barrier(200)

    def login(number: int) -> None:
        barrier.wait()
        with guard.login(
            users[number % 4], serverSelectionTimeoutMS=120_000, connectTimeoutMS=60_000
        ) as client:
            find(client)

    with ThreadPoolExecutor(200) as threads:
        list(threads.map(login, range(200)))
    opened = directory.connections_accepted - before
    assert 200 <= opened <= 204
    threads_of_guard = len(list(Path(f"/proc/{guard.pid}/task").iterdir()))
    assert threads_of_guard < 40
    assert directory.connections_open <= 4


def test_wrong_passwords_at_once_do_not_hold_up_right_ones(make_guard, directory):
    guard = make_guard(90)
    stop = threading.Event()

    def guess() -> None:
        while not stop.is_set():
            with guard.login("bob", "wrong") as client, contextlib.suppress(PyMongoError):
                find(client)

    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(guess)
        try:
            for _ in range(5):
                began = time.monotonic()
                with guard.login("alice") as client:
                    find(client)
                assert time.monotonic() - began < 5
        finally:
            stop.set()


def test_the_service_is_never_bound_on_a_users_connection(make_guard, directory):
    """After a failed bind a connection would be nobody's, and find nothing for anybody."""
    guard = make_guard(90)
    before = len(directory.log)
    for _ in range(3):
        guard.refused("alice", "wrong")
        assert guard.roles("alice") == {"read@shop"}
    binds = re.findall(r'conn=(\d+) op=\d+ BIND dn="([^"]+)" method', directory.log[before:])
    service = {number for number, dn in binds if dn == directory.service_dn}
    users = [number for number, dn in binds if dn == directory.dn_of("alice")]
    assert len(users) == len(set(users)) == 6, "each password has a connection of its own"
    assert service.isdisjoint(users)
    assert password_of("alice") not in guard.log
