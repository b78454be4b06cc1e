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

from tests.drivers.clients import WITNESSES, DriverClient
from tests.drivers.evidence import Overhearing, logged
from tests.servers import ChildServer, Guard, Mongod, connection_string, create_test_users

__all__ = [
    "AS_MONGOS",
    "Comparison",
    "Guarded",
    "Uris",
    "compare",
    "deployments",
    "print_table",
    "run_client",
]

AS_MONGOS = frozenset({"exhaust"})
"""What drivers themselves refuse in front of a mongos."""

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
    balanced: bool = False
    lacks: frozenset[str] = frozenset()
    """Parts that can't be had there."""

    def overheard_uris(self, direct: str, through: str) -> tuple[str, str]:
        """Connection strings of the limited user by way of two relays, compressed. The driver must not leave them."""
        options = {"authSource": "admin", "compressors": "zlib"}
        stay = {"directConnection": "true"}
        return (
            connection_string(direct, USER, None, {**options, **stay}),
            connection_string(through, USER, None, {**options, **(self.options if self.balanced else stay)}),
        )

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
            Guarded("replica set as mongos", "set", replica_set, guards[1], {}, lacks=AS_MONGOS),
            Guarded("replica set", "set", replica_set, guards[2], {"replicaSet": "rs0"}),
            Guarded("load balanced", "set", replica_set, guards[1], {"loadBalanced": "true"}, balanced=True),
        )
    finally:
        for server in servers:
            server.kill()


def compare(client: DriverClient, deployment: Guarded, prefix: Path, home: Path) -> Comparison:
    """Run it at both ends."""
    with (
        Overhearing(deployment.mongod.port) as direct_relay,
        Overhearing(deployment.guard.port) as guard_relay,
    ):
        ends = zip(
            deployment.uris(),
            deployment.uris("not-the-password"),
            deployment.overheard_uris(direct_relay.address, guard_relay.address),
            (direct_relay, guard_relay),
            strict=True,
        )
        direct, through = (
            _run_with_witnesses(client, deployment, prefix, home, Uris(*uris), relay) for *uris, relay in ends
        )
    wanted = client.parts | (client.set_parts if deployment.kind == "set" else frozenset())
    wanted -= _lacking(client, deployment)
    return Comparison(
        client.name,
        direct.get("version", "?"),
        deployment.name,
        _summary(direct),
        _summary(through),
        tuple(_differences(direct, through, wanted)),
    )


@dataclass(frozen=True, slots=True)
class Uris:
    """The connection strings of one end: with the right password, a wrong one, and by way of a relay."""

    right: str
    wrong: str
    overheard: str


def _lacking(client: DriverClient, deployment: Guarded) -> frozenset[str]:
    """Parts that the client can't do there; it leaves them out directly, too."""
    return deployment.lacks | ((client.balanced or frozenset()) if deployment.balanced else frozenset())


def _run_with_witnesses(
    client: DriverClient, deployment: Guarded, prefix: Path, home: Path, uris: Uris, relay: Overhearing
) -> dict[str, str]:
    """What it printed, and what the server and the relay have seen of it."""
    with logged(deployment.mongod, "shop") as seen:
        parts = run_client(client, uris, deployment, prefix, home)
    return {**parts, "witnesses": ", ".join(sorted(seen | relay.heard))}


def run_client(
    client: DriverClient, uris: Uris, deployment: Guarded, prefix: Path, home: Path
) -> dict[str, str]:
    """What it printed, part by part; `exit status` and `output` instead of silence when it failed."""
    arguments = client.arguments(prefix)
    if client.name == "mongosh":
        arguments = [arguments[0], uris.right, *arguments[1:]]
    else:
        arguments += [uris.right, uris.wrong, deployment.kind]
    environment = {
        "HOME": str(home),
        "DRIVER_DEPLOYMENT": deployment.kind,
        "DRIVER_LACKS": ",".join(_lacking(client, deployment)),
        "DRIVER_URI": uris.right,
        "DRIVER_WRONG_URI": uris.wrong,
        "DRIVER_OVERHEARD_URI": uris.overheard,
        "DRIVER_ADMIN_URI": deployment.mongod.uri(directConnection="true"),
    }
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
    except subprocess.TimeoutExpired as expired:
        printed = expired.stdout.decode(errors="replace") if expired.stdout else ""
        return {"exit status": f"none after {TIMEOUT_SECONDS:.0f} s", "output": printed[-500:]}
    parts = dict(line.split(": ", 1) for line in done.stdout.splitlines() if _PART.match(line))
    if done.returncode:
        parts["exit status"] = str(done.returncode)
        parts["output"] = (done.stdout[-500:] + done.stderr[-1500:]).strip()
    return parts


def _summary(parts: Mapping[str, str]) -> str:
    return "failed" if "exit status" in parts else f"{len(parts) - 2} parts"


def _differences(
    direct: Mapping[str, str], through: Mapping[str, str], wanted: frozenset[str]
) -> Iterator[str]:
    for part in sorted(direct.keys() | through.keys()):
        if direct.get(part) != through.get(part):
            yield f"{part}: direct {direct.get(part)!r}, through {through.get(part)!r}"
    for part in sorted(wanted - direct.keys()):
        yield f"{part}: not there directly"
    needed = {witness for part in wanted for witness in WITNESSES.get(part, ())}
    for witness in sorted(needed - set(direct["witnesses"].split(", "))):
        yield f"nobody has seen directly: {witness}"
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
