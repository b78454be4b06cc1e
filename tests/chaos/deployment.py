"""What a storm rages in: an upstream, mongoguard, a toxic relay on either side of it, and users for the clients."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.certificates import Authority
from tests.chaos.clients import RAW_CLIENTS, ClientProcess
from tests.chaos.driver_client import DRIVER_OPTIONS, ClientPlan, database_of
from tests.chaos.footprint import Footprint, footprint
from tests.chaos.tls import TLSMongod, connect_raw, driver_options, listener_settings
from tests.rawwire import ConnectionEnded
from tests.replica_sets import ReplicaSetOfThree
from tests.servers import ROOT, Guard, Mongod, init_upstream, password_of
from tests.toxic_relay import ToxicRelay

__all__ = ["BYSTANDERS", "RELAYED", "Chaos", "chaos_on_a_set", "chaos_on_a_standalone"]

BYSTANDERS = ("timeoutMS", "socketTimeoutMS", "pipeliner", "churner", "leaver", "rights")
"""The kinds of clients that speak to mongoguard without a relay between."""
RELAYED = ("timeoutMS", "socketTimeoutMS", "pipeliner")
"""The kinds of clients behind the relay."""

UP_AGAIN_SECS = 60.0
"""mongod's start after a crash, or an election, on a busy machine."""


class Chaos:
    """The deployment. `network` is the relay between mongoguard and a standalone upstream; drivers need `options`."""

    def __init__(
        self,
        directory: Path,
        upstream: Mongod | ReplicaSetOfThree,
        settings: Mapping[str, Any] | None = None,
        network: ToxicRelay | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare mongoguard and the relay in front of it; `started` follows."""
        self.directory = directory
        self.upstream = upstream
        self.network = network
        self._options = options or {}
        self.guard = Guard(directory / "guard", upstream, settings)
        self.access = ToxicRelay(self.guard.address)
        """The relay between some clients and mongoguard."""
        self._plans = 0
        self.doomed: list[ClientProcess] = []
        """Processes of clients that a fault has killed."""
        self.frozen_worker = 0
        """The process id of the worker that a fault has stopped."""

    @property
    def replica_set(self) -> ReplicaSetOfThree | None:
        """The upstream, when it is one."""
        return self.upstream if isinstance(self.upstream, ReplicaSetOfThree) else None

    @property
    def mongods(self) -> Sequence[Mongod]:
        """The upstream's processes."""
        return (self.upstream,) if isinstance(self.upstream, Mongod) else self.upstream.members

    @contextmanager
    def started(self) -> Iterator[Chaos]:
        """mongoguard and the relay run in the block."""
        with self.access:
            try:
                self.guard.start().wait()
                yield self
            finally:
                self.guard.stop()

    def footprint(self) -> Footprint:
        """What mongoguard holds now."""
        ports = [mongod.port for mongod in self.mongods]
        if self.network is not None:
            ports.append(self.network.port)
        return footprint(self.guard.pid, self.guard.port, ports)

    # ---- clients ----------------------------------------------------------------------------------------------------

    def plan(
        self, seed: int, direct: Iterable[str] = BYSTANDERS, relayed: Iterable[str] = RELAYED
    ) -> list[ClientPlan]:
        """Clients of these kinds with new users; each must never touch the database of the next."""
        self._plans += 1
        kinds = [(kind, self.guard.address) for kind in direct]
        kinds += [(kind, self.access.address) for kind in relayed]
        names = [f"c{self._plans}{'r' if i >= len(list(direct)) else 'd'}{i}" for i in range(len(kinds))]
        direct_address = ",".join(mongod.address for mongod in self.mongods)
        tls = {key: value for key, value in self._options.items() if key.startswith("tls")}
        direct_options = {"replicaSet": self.replica_set.name} if self.replica_set else tls
        plans = []
        for i, (kind, address) in enumerate(kinds):
            assert kind in DRIVER_OPTIONS or kind in RAW_CLIENTS
            plans.append(
                ClientPlan(
                    name=names[i],
                    kind=kind,
                    address=address,
                    direct_address=direct_address,
                    options=self._options,
                    direct_options=direct_options,
                    password=password_of(names[i]),
                    forbidden=names[(i + 1) % len(names)],
                    replica_set=self.replica_set is not None,
                    seed=seed,
                )
            )
        self._create_users(names)
        return plans

    def _create_users(self, names: Iterable[str]) -> None:
        with self.upstream.client(w="majority") as root:
            for name in names:
                database = database_of(name)
                roles = [{"role": "readWrite", "db": database}]
                root.admin.command("createUser", name, pwd=password_of(name), roles=roles)
                root[database].state.insert_many(
                    [
                        {"_id": "counter", "owner": name, "value": 0},
                        {"_id": "log", "owner": name, "entries": []},
                    ]
                )

    # ---- the upstream, asked directly ---------------------------------------------------------------------------------

    def wait_until_upstream_answers(self) -> float:
        """The moment (monotonic seconds) when a direct client's write was acknowledged again."""
        deadline = time.monotonic() + UP_AGAIN_SECS
        while time.monotonic() < deadline:
            for mongod in self.mongods:
                if mongod.running and self._answers(mongod):
                    return time.monotonic()
            time.sleep(0.05)
        raise AssertionError(f"the upstream itself does not answer within {UP_AGAIN_SECS:.0f} s")

    def _answers(self, mongod: Mongod) -> bool:
        address = mongod.address if self.network is None else self.network.address
        concern: dict[str, Any] = (
            {"w": "majority", "wtimeout": 1000} if self.replica_set else {"w": 1, "j": True}
        )
        command: dict[str, Any] = {"insert": "probes", "documents": [{}], "writeConcern": concern}
        with (
            contextlib.suppress(OSError, ConnectionEnded, AssertionError),
            connect_raw(address, 1.0, self._options) as raw,
        ):
            if raw.command("admin", {"hello": 1}).get("isWritablePrimary"):
                raw.log_in(ROOT, password_of(ROOT))
                reply = raw.command("chaos", command)
                return reply.get("n") == 1 and "writeConcernError" not in reply
        return False

    def wait_until_members_agree(self) -> None:
        """Return when all members have applied a write of the latest primary's: nobody has anything left to roll back."""
        if self.replica_set is not None:
            self.replica_set.wait_until_replicated()

    def operations_of(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """The operations in these clients' databases that the upstream's processes run now."""
        # By their databases: mongod forgets whom a command is run for while it loads stored functions for a $where.
        wanted = {database_of(name) for name in names}
        found = []
        for mongod in self.mongods:
            with mongod.client(directConnection="true") as root:
                running = root.admin.aggregate([{"$currentOp": {"allUsers": True}}])
                found += [one for one in running if str(one.get("ns")).partition(".")[0] in wanted]
        return found

    def connections_of_mongoguard(self) -> int:
        """How many connections the upstream's processes say mongoguard has."""
        count = 0
        for mongod in self.mongods:
            with mongod.client(directConnection="true") as root:
                stages: list[dict[str, Any]] = [
                    {"$currentOp": {"allUsers": True, "idleConnections": True}},
                    {"$match": {"clientMetadata.driver.name": "mongoguard"}},
                ]
                # A connection that runs nothing is one entry without an operation id of its own.
                count += len({one.get("connectionId") for one in root.admin.aggregate(stages)})
        return count


@contextmanager
def chaos_on_a_standalone(directory: Path, *, tls: bool = False) -> Iterator[Chaos]:
    """A standalone mongod behind a relay: its network fails, and it dies, freezes and starts again.

    With `tls`, clients and mongoguard, and mongoguard and mongod, speak TLS to each other, through the relays.
    """
    authority = Authority(directory / "certificates")
    mongod = TLSMongod(directory / "standalone", authority) if tls else Mongod(directory / "standalone")
    try:
        mongod.start().wait()
        with ToxicRelay(mongod.address) as network:
            uri = init_upstream(mongod).replace(mongod.address, network.address)
            # Shorter than a frozen upstream stays frozen, so that the monitors notice it.
            upstream = {"uri": f"{uri}{'&' if '?' in uri else '?'}connectTimeoutMS=2000"}
            settings: dict[str, Any] = {"upstream": {**upstream, "connectTimeoutMS": 2000}}
            if tls:
                settings["net"] = {"tls": listener_settings(authority)}
            options = driver_options(authority) if tls else {}
            with Chaos(directory, mongod, settings, network, options).started() as chaos:
                yield chaos
    finally:
        mongod.kill()


@contextmanager
def chaos_on_a_set(
    directory: Path, booting: ReplicaSetOfThree | None = None, *, as_set: bool = False
) -> Iterator[Chaos]:
    """A replica set of three members, which elect, freeze and die, behind a mongoguard of two workers, which die too.

    `booting` is a set that has been started already and is the storm's own; it is killed at the end. `as_set`: drivers
    have `replicaSet=` in their connection strings, and mongoguard is presented as such.
    """
    members = booting or ReplicaSetOfThree(directory / "set").start()
    try:
        members.wait()
        options = {"replicaSet": members.name} if as_set else {}
        chaos = Chaos(directory, members, {"workers": 2}, options=options)
        if as_set:
            presented = {"presentAs": "replicaSet", "advertise": chaos.guard.address}
            chaos.guard.configure({"workers": 2, "net": presented})
        with chaos.started():
            yield chaos
    finally:
        members.kill()
