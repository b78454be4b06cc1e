"""Runs a client twice, directly and through mongoguard, and compares what it found.

In: clients and deployments. Out: `Comparison`s and the table.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.drivers.clients import DriverClient
from tests.servers import ChildServer, Guard, Mongod, create_test_users

__all__ = ["Comparison", "Guarded", "compare", "deployments", "print_table", "run_client"]

USER = "app"
"""Of limited rights: readWrite on shop."""

TIMEOUT_SECONDS = 180.0
"""For one run of one client. The slowest (mongosh, Java) need about 5 s on an idle machine."""


_PART = re.compile(r"[A-Za-z ]+: ")
"""libmongoc prints its log, with the time, where the program prints."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A deployment, mongoguard in front of it, and what clients put into their connection strings."""

    name: str
    kind: str
    mongod: Mongod
    guard: Guard
    options: Mapping[str, str]

    def uris(self, password: str | None = None) -> tuple[str, str]:
        """Connection strings of the limited user, direct and through."""
        login = {"authSource": "admin"}
        return (
            self.mongod.uri(USER, password, **login),
            self.guard.uri(USER, password, **login, **self.options),
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one client found at both ends of one deployment."""

    client: str
    version: str
    deployment: str
    direct: str
    through: str
    differences: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether it ran, and found the same."""
        return not self.differences

    @property
    def line(self) -> str:
        """A line of progress."""
        return f"{self.client}, {self.deployment}: {'the same' if self.same else '; '.join(self.differences)}"


@contextlib.contextmanager
def deployments(folder: Path) -> Iterator[Sequence[Guarded]]:
    """A standalone server and a replica set, each with mongoguard as clients may see it."""
    standalone = Mongod(folder / "standalone").start()
    replica_set = Mongod(folder / "replica_set", replica_set="rs0").start()
    servers: list[ChildServer] = [standalone, replica_set]
    try:
        for mongod in (standalone, replica_set):
            create_test_users(mongod.wait())
        guards = (
            Guard(folder / "guard_standalone", standalone),
            Guard(folder / "guard_mongos", replica_set),
            Guard(folder / "guard_set", replica_set),
        )
        guards[2].configure({"net": {"presentAs": "replicaSet", "advertise": guards[2].address}})
        servers += [guard.start() for guard in guards]
        for guard in guards:
            guard.wait()
        yield (
            Guarded("standalone", "standalone", standalone, guards[0], {}),
            Guarded("replica set as mongos", "set", replica_set, guards[1], {}),
            Guarded("replica set", "set", replica_set, guards[2], {"replicaSet": "rs0"}),
        )
    finally:
        for server in servers:
            server.kill()


def compare(client: DriverClient, deployment: Guarded, prefix: Path, home: Path) -> Comparison:
    """Run it at both ends."""
    right, wrong = deployment.uris(), deployment.uris("not-the-password")
    direct, through = (
        run_client(client, uri, wrong_uri, deployment.kind, prefix, home)
        for uri, wrong_uri in zip(right, wrong, strict=True)
    )
    wanted = client.parts | (client.set_parts if deployment.kind == "set" else frozenset())
    return Comparison(
        client.name,
        direct.get("version", "?"),
        deployment.name,
        _summary(direct),
        _summary(through),
        tuple(_differences(direct, through, wanted)),
    )


def run_client(
    client: DriverClient, uri: str, wrong_uri: str, kind: str, prefix: Path, home: Path
) -> dict[str, str]:
    """What it printed, part by part; `exit status` and `output` instead of silence when it failed."""
    mongosh = client.name == "mongosh"
    arguments = client.arguments(prefix)
    arguments = [arguments[0], uri, *arguments[1:]] if mongosh else [*arguments, uri, wrong_uri, kind]
    environment = {"HOME": str(home), "DRIVER_DEPLOYMENT": kind, "DRIVER_WRONG_URI": wrong_uri}
    try:
        done = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment, **client.variables(prefix)},
        )
    except subprocess.TimeoutExpired:
        return {"exit status": f"none after {TIMEOUT_SECONDS:.0f} s"}
    parts = dict(line.split(": ", 1) for line in done.stdout.splitlines() if _PART.match(line))
    if done.returncode:
        parts["exit status"] = str(done.returncode)
        parts["output"] = (done.stdout[-500:] + done.stderr[-1500:]).strip()
    return parts


def _summary(parts: Mapping[str, str]) -> str:
    return "failed" if "exit status" in parts else f"{len(parts) - 1} parts"


def _differences(
    direct: Mapping[str, str], through: Mapping[str, str], wanted: frozenset[str]
) -> Iterator[str]:
    for part in sorted(direct.keys() | through.keys()):
        if direct.get(part) != through.get(part):
            yield f"{part}: direct {direct.get(part)!r}, through {through.get(part)!r}"
    for part in sorted(wanted - direct.keys()):
        yield f"{part}: not there directly"
    if "exit status" in direct:
        yield f"failed directly: {direct.get('output')}"


def print_table(found: Sequence[Comparison]) -> None:
    """client, version, deployment, direct, through, differences."""
    rows = [("client", "version", "deployment", "direct", "through", "differences")]
    rows += [
        (
            one.client,
            one.version,
            one.deployment,
            one.direct,
            one.through,
            "; ".join(one.differences) or "none",
        )
        for one in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]))
