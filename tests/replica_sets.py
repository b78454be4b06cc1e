"""A real replica set of three members on this machine: elections, step-downs, members that die, freeze and come back.

`ReplicaSetOfThree` is started as the servers of tests/servers.py are, and is a `Deployment` as mongod alone is. A test
that breaks it ends with `heal()`, which the fixture `three_members` of conftest.py does for it.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from tests.servers import ROOT, Client, Mongod, ServerDidNotStart, connection_string, password_of

__all__ = ["Member", "ReplicaSetOfThree"]

ELECTION_MS = 2000
"""How long the others wait before they elect: mongod's 10 s would make every test of a crash take as long. A step-down
hands over at once. A primary that a busy machine keeps from its heartbeats for longer loses its place."""
HEARTBEAT_MS = 500
HEAL_SECONDS = 60.0
"""Elections, a start after a crash and catching up, on a busy machine."""


class Member(Mongod):
    """One member. `number` is 0, 1 or 2; its tags are `{"member": number, "dc": "east"}` (`"west"` for number 2)."""

    def __init__(self, directory: Path, name: str, number: int, key: Path) -> None:
        super().__init__(
            directory / f"member{number}",
            replica_set=name,
            cache_gb="0.25",
        )
        self.number = number
        self._key = key

    @property
    def tags(self) -> dict[str, str]:
        """Its tags in the set's configuration."""
        return {"member": str(self.number), "dc": "west" if self.number == 2 else "east"}

    def wait(self) -> Member:
        """Return when it answers, whatever its state."""
        with self._unauthenticated() as client:
            self._wait_for(client)
        return self

    def direct(self, user: str | None = ROOT, **options: str) -> Client:
        """A client of this member alone, whatever its state; close it (`with`)."""
        return self.client(user, directConnection="true", **options)

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open and nothing answers, until `thaw()`."""
        self.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.send_signal(signal.SIGCONT)

    def state(self) -> dict[str, Any] | None:
        """Its answer to hello; None when it gives none within half a second."""
        uri = connection_string(self.address, None, None, {"directConnection": "true"})
        short: dict[str, Any] = {
            "serverSelectionTimeoutMS": 500,
            "connectTimeoutMS": 500,
            "socketTimeoutMS": 500,
        }
        with contextlib.suppress(PyMongoError), pymongo.MongoClient[dict[str, Any]](uri, **short) as client:
            return client.admin.command("hello")
        return None

    def _key_file(self) -> Path:
        return self._key


class ReplicaSetOfThree:
    """Three members with access control on; administrator root, password `password_of("root")`."""

    def __init__(self, directory: Path, name: str = "rs3") -> None:
        """Prepare the members; `start()` returns at once, `wait()` when there are a primary and two secondaries."""
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.upstream_uri: str | None = None
        key = directory / "keyfile"
        key.touch(0o600)
        key.write_text(secrets.token_hex(96))
        self.members = tuple(Member(directory, name, number, key) for number in range(3))
        self._initialized = False

    def start(self) -> ReplicaSetOfThree:
        """Start the three processes; `wait()` must follow before they are used."""
        for member in self.members:
            member.start()
        return self

    def wait(self) -> ReplicaSetOfThree:
        """Return when there are a primary and two secondaries; at the first time, set it up and create root."""
        for member in self.members:
            member.wait()
        if not self._initialized:
            self._initialize()
            self._initialized = True
        self._until(self._is_healthy, "it has no primary and two secondaries")
        return self

    def kill(self) -> None:
        """End all members as a crash does."""
        for member in self.members:
            member.kill()

    def uri(self, user: str | None = ROOT, password: str | None = None, **options: str) -> str:
        """A connection string that names the three; `password` defaults to `password_of(user)`."""
        addresses = ",".join(member.address for member in self.members)
        return connection_string(addresses, user, password, {"replicaSet": self.name, **options})

    def client(self, user: str | None = ROOT, password: str | None = None, **options: str) -> Client:
        """A PyMongo client of the set itself; close it (`with`)."""
        return pymongo.MongoClient(self.uri(user, password, **options))

    def at(self, address: str) -> Member:
        """The member with that host:port."""
        return next(member for member in self.members if member.address == address)

    def primary(self) -> Member:
        """The primary, as soon as there is one: it says so itself, and most of those say so that answer.

        Others go on naming one that has been killed until they notice.
        """
        found: list[Member] = []

        def is_agreed() -> bool:
            states = {
                m.address: state for m in self.members if m.running and (state := m.state()) is not None
            }
            named = [state.get("primary") for state in states.values()]
            found[:] = [
                self.at(address)
                for address, state in states.items()
                if state["isWritablePrimary"] and named.count(address) >= 2
            ]
            return bool(found)

        self._until(is_agreed, "no two members name the same primary")
        return found[0]

    def secondaries(self) -> list[Member]:
        """The members that are secondaries now."""
        return [
            m for m, state in zip(self.members, self._states(), strict=True) if state and state["secondary"]
        ]

    def step_down(self) -> Member:
        """The primary hands over to a secondary, and stays one for 10 s; returns the old primary at once."""
        old = self.primary()
        with old.direct() as client, contextlib.suppress(pymongo.errors.AutoReconnect):
            client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=8)
        return old

    def heal(self) -> None:
        """Whatever a test did: thaw, restart what has ended, and wait for a primary and two secondaries."""
        for member in self.members:
            if member.running:
                member.thaw()
            else:
                member.start()
        self.wait()

    def wait_until_replicated(self) -> None:
        """Return when all three have what was written before."""
        with self.client(w="3", wtimeoutMS="60000") as client:
            client.mongoguard_test.replicated.insert_one({})

    def _states(self) -> list[dict[str, Any] | None]:
        return [member.state() if member.running else None for member in self.members]

    def _is_healthy(self) -> bool:
        states = [state for state in self._states() if state is not None]
        return (
            len([s for s in states if s["isWritablePrimary"]]) == 1
            and len([s for s in states if s["secondary"]]) == 2
            and len({s.get("primary") for s in states}) == 1
        )

    def _initialize(self) -> None:
        """Through the localhost exception of the first member, which ends with the first user."""
        first = self.members[0]
        members = [{"_id": m.number, "host": m.address, "tags": m.tags} for m in self.members]
        timing = {
            "electionTimeoutMillis": ELECTION_MS,
            "heartbeatIntervalMillis": HEARTBEAT_MS,
        }
        with first.direct(None) as client:
            client.admin.command(
                "replSetInitiate", {"_id": self.name, "members": members, "settings": timing}
            )
            self._until(
                lambda: (first.state() or {}).get("isWritablePrimary"), "the first member is no primary"
            )
            client.admin.command("createUser", ROOT, pwd=password_of(ROOT), roles=["root"])

    def _until(self, condition: Callable[[], Any], otherwise: str) -> None:
        deadline = time.monotonic() + HEAL_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(f"{m.address}: {m.log[-1000:]}" for m in self.members)
                raise ServerDidNotStart(f"the replica set: {otherwise}; the ends of the logs:\n{logs}")
            time.sleep(0.05)
