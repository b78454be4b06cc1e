"""net.presentAs: replicaSet: what drivers with replicaSet= in their connection string find, and how soon they hear."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import ServerSelectionTimeoutError
from pymongo.read_preferences import Nearest, PrimaryPreferred, Secondary, SecondaryPreferred

from tests.node_clients import NodeClients
from tests.rawwire import EXHAUST_ALLOWED, ConnectionEnded, RawConnection, op_msg
from tests.replica_sets import ReplicaSetOfThree
from tests.servers import (
    Client,
    Deployment,
    Guard,
    Mongod,
    connection_string,
    free_port,
    init_upstream,
    password_of,
)

ANNOUNCED_SECONDS = 5.0
"""After a client of mongod itself has heard of a change: far more than it takes, far less than drivers poll."""
ELECTION_SECONDS = 60.0


@contextmanager
def running(directory: Path, upstream: Deployment, advertise: Any = None, **settings: Any) -> Iterator[Guard]:
    """A mongoguard that is presented as a replica set; by default under its own address."""
    guard = Guard(directory, upstream)
    guard.configure({"net": {"presentAs": "replicaSet", "advertise": advertise or guard.address}, **settings})
    try:
        yield guard.start().wait()
    finally:
        status = guard.stop()
    assert status == 0
    assert "Traceback" not in guard.log


def refused_at_start(directory: Path, upstream: Deployment, settings: Mapping[str, Any]) -> str:
    guard = Guard(directory, upstream)
    guard.configure(settings)
    done = subprocess.run(
        [sys.executable, "-m", "mongoguard", "serve", "-f", str(guard.config_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def presented(guard_replica_set: Guard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """In front of the replica set of one."""
    with running(tmp_path_factory.mktemp("presented"), guard_replica_set.upstream) as guard:
        yield guard


# ---- one address for the whole set ----------------------------------------------------------------------------------


def test_a_driver_finds_a_primary_and_no_other_server(presented: Guard) -> None:
    with presented.client("app", replicaSet="rs0") as client:
        client.shop.present.insert_one({"x": 1})
        assert client.shop.present.count_documents({}) == 1
        client.shop.present.drop()
        servers = client.topology_description.server_descriptions()
        assert client.topology_description.topology_type_name == "ReplicaSetWithPrimary"
        assert [f"{host}:{port}" for host, port in servers] == [presented.address]


def test_transactions_sessions_and_change_streams_work(presented: Guard) -> None:
    with presented.client(replicaSet="rs0") as client, client.start_session() as session:
        client.shop.present.drop()
        with client.shop.present.watch() as changes:
            session.with_transaction(lambda s: client.shop.present.insert_one({"_id": 1}, session=s))
            assert changes.next()["documentKey"] == {"_id": 1}
        client.shop.present.drop()


@pytest.mark.parametrize(
    "preference",
    [
        PrimaryPreferred(),
        SecondaryPreferred(),
        SecondaryPreferred(max_staleness=120),
        Nearest(max_staleness=90),
    ],
    ids=lambda one: f"{one.name}-{one.max_staleness}",
)
def test_reads_with_a_mode_that_takes_the_primary_work(presented: Guard, preference: Any) -> None:
    with presented.client("app", replicaSet="rs0") as client:
        shop = client.get_database("shop", read_preference=preference)
        assert shop.present.find_one({"_id": "nothing"}) is None


def test_one_address_is_no_secondary_while_there_is_a_primary(presented: Guard) -> None:
    with presented.client("app", replicaSet="rs0", serverSelectionTimeoutMS="500") as client:
        shop = client.get_database("shop", read_preference=Secondary())
        with pytest.raises(ServerSelectionTimeoutError):
            shop.present.find_one()


def test_another_name_of_the_set_finds_nobody(presented: Guard) -> None:
    client = presented.client("app", replicaSet="rs1", serverSelectionTimeoutMS="500")
    with client, pytest.raises(ServerSelectionTimeoutError):
        client.shop.present.find_one()


def test_a_direct_connection_needs_no_name(presented: Guard) -> None:
    with presented.client("app", directConnection="true") as client:
        assert client.shop.present.find_one({"_id": "nothing"}) is None


def test_hello_names_nobody_but_the_advertised(presented: Guard) -> None:
    with RawConnection(presented.address) as raw:
        reply = raw.exchange(op_msg({"hello": 1, "$db": "admin"}))
        assert presented.upstream.address.encode() not in reply.payload  # type: ignore[attr-defined]
        hello = reply.document
        assert (hello["hosts"], hello["primary"], hello["me"]) == (
            [presented.address],
            *[presented.address] * 2,
        )
        assert hello["setName"] == "rs0"


def test_mongosh_and_node_connect_with_the_name_of_the_set(
    presented: Guard, node_clients: NodeClients
) -> None:
    uri = presented.uri("app", replicaSet="rs0", authSource="admin")
    assert "rs0" in node_clients.mongosh(uri, "print(db.hello().setName, db.hello().isWritablePrimary)")
    with presented.client() as root:
        roles = [{"role": role, "db": "present_node"} for role in ("readWrite", "dbAdmin")]
        root.admin.command("createUser", "node_dev", pwd=password_of("node_dev"), roles=roles)
        try:
            found = node_clients.node(
                "node_smoke.js", presented.uri("node_dev", replicaSet="rs0"), "present_node"
            )
            assert (found["crud"], found["transactions"]) == (2, [6, 4])
        finally:
            root.admin.command("dropUser", "node_dev")
            root.drop_database("present_node")


# ---- what can't be --------------------------------------------------------------------------------------------------


def test_a_standalone_is_no_replica_set(guard_standalone: Guard, tmp_path: Path) -> None:
    told = refused_at_start(
        tmp_path,
        guard_standalone.upstream,
        {"net": {"presentAs": "replicaSet", "advertise": "guard:1"}},
    )
    assert "net.presentAs: replicaSet: the upstream is no member of a replica set" in told


def test_a_proxy_per_member_must_name_its_own(replica_set: Mongod, tmp_path: Path) -> None:
    told = refused_at_start(
        tmp_path,
        replica_set,
        {
            "net": {"presentAs": "replicaSet", "advertise": {"another.internal:27017": "guard:1"}},
            "upstream": {"uri": direct_uri(replica_set, replica_set.address)},
        },
    )
    assert f"net.advertise: names no proxy for {replica_set.address}" in told


# ---- elections ------------------------------------------------------------------------------------------------------


def direct_uri(upstream: Deployment, address: str) -> str:
    """The service user's connection string to one member alone."""
    credentials = re.match(r"mongodb://(.*)@", init_upstream(upstream))
    assert credentials is not None
    return f"mongodb://{credentials[1]}@{address}/?directConnection=true"


class Monitor:
    """A streaming hello, as a driver's monitor has it, with the time at which each reply came."""

    def __init__(self, address: str) -> None:
        self._raw = RawConnection(address, timeout=60)
        hello = self._raw.command("admin", {"hello": 1})
        body = {
            "hello": 1,
            "topologyVersion": hello["topologyVersion"],
            "maxAwaitTimeMS": 1_000,
            "$db": "admin",
        }
        self._raw.send(op_msg(body, flags=EXHAUST_ALLOWED))
        self._heard: list[tuple[float, dict[str, Any]]] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ConnectionEnded):
            while True:
                self._heard.append((time.monotonic(), self._raw.receive().document))

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.shut_down()
        self._thread.join()
        self._raw.close()

    def first(self, condition: Callable[[Mapping[str, Any]], Any], after: float = 0.0) -> float:
        """When the first reply came that meets the condition (monotonic seconds); waits for it."""
        deadline = time.monotonic() + ELECTION_SECONDS
        while time.monotonic() < deadline:
            for at, hello in list(self._heard):
                if at >= after and condition(hello):
                    return at
            time.sleep(0.01)
        raise AssertionError(f"no such hello; the last one: {self._heard[-1:]}")


def test_a_change_of_the_primary_is_announced_at_once(
    three_members: ReplicaSetOfThree, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        guard = stack.enter_context(running(tmp_path, three_members))
        old = three_members.primary()
        members = {m.address: stack.enter_context(Monitor(m.address)) for m in three_members.members}
        monitor = stack.enter_context(Monitor(guard.address))
        counter = monitor.first(lambda _: True) and version(guard)["counter"]
        three_members.step_down()
        lost = members[old.address].first(lambda hello: not hello["isWritablePrimary"])
        told = monitor.first(lambda hello: hello["topologyVersion"]["counter"] > counter)
        new = three_members.primary()
        assert new is not old
        found = members[new.address].first(lambda hello: hello["isWritablePrimary"], lost)
        told_again = monitor.first(lambda hello: hello["isWritablePrimary"], found)
        assert told - lost < ANNOUNCED_SECONDS
        assert told_again - found < ANNOUNCED_SECONDS
        print(
            f"told {(told - lost) * 1000:.1f} ms after a monitor of mongod, {(told_again - found) * 1000:.1f} ms"
        )


def version(guard: Guard) -> dict[str, Any]:
    with RawConnection(guard.address) as raw:
        found: dict[str, Any] = raw.command("admin", {"hello": 1})["topologyVersion"]
        return found


def test_writes_go_on_after_an_election(three_members: ReplicaSetOfThree, tmp_path: Path) -> None:
    with (
        running(tmp_path, three_members) as guard,
        guard.client("app", replicaSet=three_members.name) as client,
    ):
        client.shop.elected.insert_one({"_id": 0})
        three_members.step_down()
        for number in range(1, 30):
            client.shop.elected.insert_one({"_id": number})
        assert client.shop.elected.count_documents({}) == 30
        client.shop.elected.drop()


# ---- a proxy per member ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proxies(
    replica_set_of_three: ReplicaSetOfThree, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Guard]]:
    """Member's address -> the mongoguard in front of it."""
    three_members, directory = replica_set_of_three, tmp_path_factory.mktemp("proxies")
    ports = [free_port() for _ in three_members.members]
    advertise = {
        member.address: f"127.0.0.1:{port}" for member, port in zip(three_members.members, ports, strict=True)
    }
    with ExitStack() as stack:
        found = {}
        for member, port in zip(three_members.members, ports, strict=True):
            guard = Guard(directory / f"guard{member.number}", three_members)
            guard.port = port
            guard.configure(
                {
                    "net": {"port": port, "presentAs": "replicaSet", "advertise": advertise},
                    "upstream": {"uri": direct_uri(three_members, member.address)},
                }
            )
            stack.callback(guard.stop)
            found[member.address] = guard.start()
        for guard in found.values():
            guard.wait()
        yield found


def set_client(proxies: Mapping[str, Guard], name: str, user: str = "app", **options: str) -> Client:
    """A client of the set as the proxies present it; its only seed is one of them."""
    seed = next(iter(proxies.values()))
    return pymongo.MongoClient(connection_string(seed.address, user, None, {"replicaSet": name, **options}))


def test_a_proxy_per_member_is_a_replica_set_to_drivers(
    three_members: ReplicaSetOfThree, proxies: dict[str, Guard]
) -> None:
    addresses = {guard.address for guard in proxies.values()}
    with set_client(proxies, three_members.name, w="3") as client:
        client.shop.mapped.insert_one({"_id": 1})
        primary = client.primary
        assert primary is not None
        assert f"{primary[0]}:{primary[1]}" == proxies[three_members.primary().address].address
        deadline = time.monotonic() + 20
        while len(client.secondaries) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert {f"{host}:{port}" for host, port in client.nodes} == addresses
        assert len(client.secondaries) == 2
        for preference in (
            Secondary(),
            Secondary(tag_sets=[{"dc": "west"}, {"dc": "east"}]),
            Nearest(max_staleness=90),
        ):
            shop = client.get_database("shop", read_preference=preference)
            assert shop.mapped.find_one() == {"_id": 1}
        client.shop.mapped.drop()


def test_drivers_follow_an_election_from_proxy_to_proxy(
    three_members: ReplicaSetOfThree, proxies: dict[str, Guard]
) -> None:
    with set_client(proxies, three_members.name) as client:
        client.shop.mapped.insert_one({"_id": 0})
        old = three_members.step_down()
        for number in range(1, 20):
            client.shop.mapped.insert_one({"_id": number})
        assert client.shop.mapped.count_documents({}) == 20
        primary = client.primary
        assert primary is not None
        assert f"{primary[0]}:{primary[1]}" != proxies[old.address].address
        client.shop.mapped.drop()


def test_a_proxy_whose_member_has_died_is_no_server_for_anything(
    three_members: ReplicaSetOfThree, proxies: dict[str, Guard]
) -> None:
    victim = three_members.secondaries()[0]
    with Monitor(proxies[victim.address].address) as monitor:
        victim.kill()
        monitor.first(lambda hello: not hello["secondary"] and not hello["isWritablePrimary"])
    with set_client(proxies, three_members.name) as client:
        client.shop.mapped.insert_one({"_id": 0})
        assert client.shop.mapped.find_one() == {"_id": 0}
        client.shop.mapped.drop()
