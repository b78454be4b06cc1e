"""loadBalanced=true: drivers that never monitor, and keep cursors and transactions on one connection."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymongo
import pytest
from pymongo.errors import ConfigurationError, OperationFailure

from tests.balancers import BALANCER, HAProxy
from tests.node_clients import NodeClients
from tests.rawwire import RawConnection
from tests.servers import Guard, Mongod, connection_string, password_of

DB = "balanced"


@pytest.fixture
def developer(guard: Guard) -> Iterator[str]:
    """A user who may read, write and drop the database DB, and nothing else."""
    with guard.client() as root:
        roles = [{"role": role, "db": DB} for role in ("readWrite", "dbAdmin")]
        root.admin.command("createUser", "balanced", pwd=password_of("balanced"), roles=roles)
        try:
            yield "balanced"
        finally:
            root.admin.command("dropUser", "balanced")
            root.drop_database(DB)


@pytest.fixture(scope="module")
def balancer(guard_replica_set: Guard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HAProxy]:
    """In front of the replica set's mongoguard, in TCP mode."""
    server = HAProxy(tmp_path_factory.mktemp("haproxy"), guard_replica_set.address)
    try:
        yield server.start().wait()
    finally:
        server.stop()


def options_for(guard: Guard) -> dict[str, str]:
    """A standalone takes no retryable writes, and a driver behind a balancer does not see that it is one."""
    return {"loadBalanced": "true", **({} if guard.upstream.replica_set else {"retryWrites": "false"})}


def use(uri: str, *, transactions: bool) -> None:
    """Writes, cursors of many batches at the same time, and transactions."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        collection = client[DB].things
        collection.insert_many([{"_id": number} for number in range(500)])
        with ThreadPoolExecutor(8) as threads:
            reads = [threads.submit(lambda: len(list(collection.find(batch_size=20)))) for _ in range(16)]
            assert [read.result() for read in reads] == [500] * 16
        assert len(list(collection.aggregate([{"$match": {}}], batchSize=7))) == 500
        collection.find(batch_size=5).next()  # an open cursor that nobody reads
        if transactions:
            with client.start_session() as session:
                session.with_transaction(
                    lambda s: [
                        collection.insert_one({"_id": "in"}, session=s),
                        list(collection.find(session=s, batch_size=50)),
                    ]
                )
                assert collection.find_one({"_id": "in"}, session=session) == {"_id": "in"}
                session.start_transaction()
                collection.insert_one({"_id": "aborted"}, session=session)
                session.abort_transaction()
            assert collection.find_one({"_id": "aborted"}) is None
        collection.drop()


def test_a_driver_behind_a_balancer_may_do_what_it_may_without(guard: Guard, developer: str) -> None:
    use(guard.uri(developer, **options_for(guard)), transactions=bool(guard.upstream.replica_set))


def test_a_driver_behind_a_balancer_may_not_do_more(guard: Guard) -> None:
    with guard.client("reader", **options_for(guard)) as client:
        with pytest.raises(OperationFailure) as refused:
            client.shop.orders.insert_one({})
        assert refused.value.code == 13


def test_haproxy_may_stand_between(guard_replica_set: Guard, balancer: HAProxy) -> None:
    front = balancer.front("none")
    with guard_replica_set.client() as root:
        root.admin.command(
            "createUser", "behind", pwd=password_of("behind"), roles=[{"role": "readWrite", "db": DB}]
        )
        try:
            use(connection_string(front, "behind", None, {"loadBalanced": "true"}), transactions=True)
            with pymongo.MongoClient(
                connection_string(front, "behind", None, {"loadBalanced": "true"})
            ) as client:
                assert client.admin.command("whatsmyuri")["you"].startswith(f"{BALANCER}:")
        finally:
            root.admin.command("dropUser", "behind")
            root.drop_database(DB)


def test_node_works_behind_a_balancer(guard_replica_set: Guard, node_clients: NodeClients) -> None:
    with guard_replica_set.client() as root:
        roles = [{"role": role, "db": "balanced_node"} for role in ("readWrite", "dbAdmin")]
        root.admin.command("createUser", "balanced_node", pwd=password_of("balanced_node"), roles=roles)
        try:
            uri = guard_replica_set.uri("balanced_node", loadBalanced="true")
            found = node_clients.node("node_smoke.js", uri, "balanced_node")
            assert (found["crud"], found["cursors"], found["transactions"]) == (2, 1000, [6, 4])
            assert found["changeStream"] == "insert"
        finally:
            root.admin.command("dropUser", "balanced_node")
            root.drop_database("balanced_node")


@pytest.mark.parametrize("options", [{"loadBalanced": "true"}, {}], ids=["balanced", "mongos"])
def test_what_node_makes_of_two_lost_transactions_is_nodes_own(
    guard_replica_set: Guard, replica_set: Mongod, node_clients: NodeClients, options: dict[str, str]
) -> None:
    """The second error gets no label, directly neither: the first has made the pool's connections stale.

    docs/differences.md tells it of the users of this driver.
    """
    direct, through = (
        node_clients.node("node_two_lost.js", uri, replica_set.uri(directConnection="true"), "two_lost")
        for uri in (replica_set.uri(), guard_replica_set.uri(**options))
    )
    assert direct["labelled"] == [True, False]
    assert through == direct


def test_every_connection_finds_the_same_service(guard: Guard) -> None:
    found = set()
    for _ in range(5):
        with RawConnection(guard.address) as raw:
            found.add(raw.command("admin", {"hello": 1, "loadBalanced": True})["serviceId"])
            assert "serviceId" not in raw.command("admin", {"hello": 1})
    assert len(found) == 1


def test_mongod_itself_serves_no_balanced_driver(standalone: Mongod) -> None:
    """What a driver says when there is no serviceId: the tests above would notice its loss."""
    with standalone.client(loadBalanced="true") as client, pytest.raises(ConfigurationError):
        client.admin.command("ping")
