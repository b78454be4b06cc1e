"""Several mongos behind mongoguard, each of which knows its own cursors and transactions only. The mongos are scripted."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymongo
import pytest
from pymongo.errors import PyMongoError

from tests.scripted_mongos import RECOVERY_TOKEN, ScriptedCluster
from tests.servers import Client, Guard, Mongod


@pytest.fixture
def cluster(replica_set: Mongod, guard_replica_set: Guard) -> Iterator[ScriptedCluster]:
    """Two scripted mongos; `guard_replica_set` has made the test users."""
    with ScriptedCluster(replica_set) as cluster:
        yield cluster


@pytest.fixture
def guard(cluster: ScriptedCluster, tmp_path: Any) -> Iterator[Guard]:
    found = Guard(tmp_path / "guard", cluster)
    try:
        yield found.start().wait()
    finally:
        found.stop()
        assert "internal error" not in found.log


@pytest.fixture
def app(guard: Guard) -> Iterator[Client]:
    with guard.client("app") as client:
        client.shop.sharded.drop()
        client.shop.sharded.insert_many([{"_id": number} for number in range(100)])
        yield client


def test_it_is_presented_as_a_mongos(app: Client) -> None:
    hello = app.admin.command("hello")
    assert hello["msg"] == "isdbgrid"
    assert "setName" not in hello


def test_requests_go_to_every_scripted_mongos(cluster: ScriptedCluster, app: Client) -> None:
    for number in range(60):
        app.shop.sharded.find_one({"_id": number})
    finds = [sum("find" in command for command in router.commands) for router in cluster.routers]
    assert min(finds) > 5, finds


def test_a_cursor_stays_on_its_scripted_mongos(app: Client) -> None:
    for _ in range(10):
        assert len(list(app.shop.sharded.find({}, batch_size=10))) == 100


def transfer(client: Client, number: int) -> None:
    """A transaction of several requests."""

    def work(session: Any) -> None:
        for step in range(4):
            client.shop.sharded.update_one({"_id": number}, {"$inc": {"n": 1}}, session=session)
            found = client.shop.sharded.find_one({"_id": number}, session=session)
            assert found["n"] % 4 == (step + 1) % 4

    with client.start_session() as session:
        session.with_transaction(work)


def in_transactions(cluster: ScriptedCluster) -> list[dict[bytes, int]]:
    """For each mongos, how many requests it had of which session's transactions."""
    found = []
    for router in cluster.routers:
        counts: dict[bytes, int] = {}
        for command in router.commands:
            if command.get("autocommit") is False:
                key = bytes(command["lsid"]["id"])
                counts[key] = counts.get(key, 0) + 1
        found.append(counts)
    return found


def test_a_transaction_stays_on_one_scripted_mongos_and_transactions_are_spread(
    cluster: ScriptedCluster, app: Client
) -> None:
    for number in range(20):
        with app.start_session() as session, session.start_transaction():
            for _ in range(3):
                app.shop.sharded.update_one({"_id": number}, {"$inc": {"n": 1}}, session=session)
    first, second = in_transactions(cluster)
    assert not first.keys() & second.keys(), "no session's transactions on both"
    commits = [c for router in cluster.routers for c in router.commands if "commitTransaction" in c]
    assert len(commits) == 20
    assert all(commit["recoveryToken"] == RECOVERY_TOKEN for commit in commits)


def test_several_mongoguards_choose_the_same_scripted_mongos_for_a_session(
    cluster: ScriptedCluster, guard: Guard, app: Client, tmp_path: Any
) -> None:
    """A session's next request may come in at another process."""
    other = Guard(tmp_path / "other", cluster)
    other.start().wait()
    try:
        uri = f"{guard.uri('app').replace(guard.address, f'{guard.address},{other.address}')}&localThresholdMS=10000"
        uri = uri.replace("/?&", "/?")
        # A driver pins a session to one mongos, so each half of the transactions goes through one of the two.
        with pymongo.MongoClient[dict[str, Any]](uri) as client:
            for number in range(20):
                transfer(client, number)
    finally:
        other.stop()
    first, second = in_transactions(cluster)
    assert not first.keys() & second.keys()


def test_when_a_scripted_mongos_is_killed_the_other_serves_all(cluster: ScriptedCluster, app: Client) -> None:
    with ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(transfer, app, number) for number in range(40)]
        jobs[5].result(30)
        cluster.routers[0].kill()
        for job in jobs:
            job.result(60)
    counts = [one["n"] for one in app.shop.sharded.find({"_id": {"$lt": 40}})]
    assert counts == [4] * 40, "every transaction ran once"
    for number in range(50):
        assert app.shop.sharded.find_one({"_id": number})


def test_a_transaction_that_lost_its_scripted_mongos_may_be_tried_again(
    cluster: ScriptedCluster, app: Client
) -> None:
    failed = 0
    for number in range(8):
        with app.start_session() as session:
            session.start_transaction()
            app.shop.sharded.update_one({"_id": number}, {"$inc": {"n": 1}}, session=session)
            if number == 3:
                cluster.routers[0].kill()
            try:
                app.shop.sharded.update_one({"_id": number}, {"$inc": {"n": 1}}, session=session)
                session.commit_transaction()
            except PyMongoError as error:
                assert error.has_error_label("TransientTransactionError"), error
                failed += 1
                session.abort_transaction()
    assert failed <= 2, "only what was open on the killed one"
