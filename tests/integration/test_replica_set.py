"""A replica set of three behind mongoguard: reads go where the client says, writes to the primary, whoever that is."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
import pytest
from bson import Binary, Int64
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import Nearest, PrimaryPreferred, Secondary, SecondaryPreferred
from pymongo.write_concern import WriteConcern

from tests.rawwire import RawConnection
from tests.replica_sets import Member, ReplicaSetOfThree
from tests.servers import Client, Guard, password_of


@pytest.fixture(scope="module", autouse=True)
def _orders(replica_set_of_three: ReplicaSetOfThree, guard_of_three: Guard) -> None:
    with replica_set_of_three.client() as client:
        client.shop.orders.insert_many([{"_id": i} for i in range(500)])
    replica_set_of_three.wait_until_replicated()


def wait_until(condition: Callable[[], Any], seconds: float) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


class Reads:
    """Which members a block of reads went to: each read has a comment, which their profilers keep."""

    def __init__(self, deployment: ReplicaSetOfThree, db: str = "shop") -> None:
        self._deployment = deployment
        self._db = db
        self.comment = uuid.uuid4().hex

    def __enter__(self) -> Reads:
        self._profile(2)
        return self

    def __exit__(self, *_: object) -> None:
        self._profile(0)

    def _profile(self, level: int) -> None:
        for member in self._deployment.members:
            with member.direct() as client:
                client[self._db].command("profile", level)

    @property
    def served(self) -> dict[Member, int]:
        """How many commands with the comment each member served, without those that served none."""
        counts: Counter[Member] = Counter()
        for member in self._deployment.members:
            with member.direct(readPreference="nearest") as client:
                query = {
                    "$or": [{"command.comment": self.comment}, {"originatingCommand.comment": self.comment}]
                }
                counts[member] = client[self._db]["system.profile"].count_documents(query)
        return {member: count for member, count in counts.items() if count}


@pytest.fixture
def app(guard_of_three: Guard) -> Iterator[Client]:
    with guard_of_three.client("app") as client:
        yield client


def find(client: Client, preference: Any, comment: str, times: int = 10) -> None:
    orders = client.shop.orders.with_options(read_preference=preference)
    for number in range(times):
        assert orders.find_one({"_id": number}, comment=comment) == {"_id": number}


# ---- where reads go -------------------------------------------------------------------------------------------------


def test_each_mode_is_served_by_the_members_it_names(three_members: ReplicaSetOfThree, app: Client) -> None:
    primary, secondaries = three_members.primary(), set(three_members.secondaries())
    for preference, allowed in (
        (pymongo.ReadPreference.PRIMARY, {primary}),
        (PrimaryPreferred(), {primary}),
        (Secondary(), secondaries),
        (SecondaryPreferred(), secondaries),
        (Nearest(), {primary, *secondaries}),
    ):
        with Reads(three_members) as reads:
            find(app, preference, reads.comment, 30)
        served = reads.served
        assert set(served) <= allowed, preference
        assert sum(served.values()) == 30
        assert len(served) == len(allowed) or preference == Nearest(), f"the load is not spread: {preference}"


def test_tag_sets_are_tried_in_their_order(three_members: ReplicaSetOfThree, app: Client) -> None:
    chosen = three_members.secondaries()[0]
    tags = {"member": str(chosen.number)}
    with Reads(three_members) as reads:
        find(app, Secondary(tag_sets=[tags]), reads.comment)
        find(app, Nearest(tag_sets=[{"member": "none"}, tags]), reads.comment)
    assert reads.served == {chosen: 20}


def test_no_member_with_such_tags_is_an_error_as_mongos_words_it(
    three_members: ReplicaSetOfThree, tmp_path: Any
) -> None:
    guard = Guard(tmp_path, three_members, {"upstream": {"serverSelectionTimeoutMS": 2000}})
    guard.start().wait()
    try:
        with guard.client("app") as client:
            preference = Secondary(tag_sets=[{"dc": "moon"}])
            orders = client.shop.orders.with_options(read_preference=preference)
            with pytest.raises(
                OperationFailure, match="Could not find host matching read preference"
            ) as failed:
                orders.find_one()
            assert failed.value.code == 133
            assert 'tags: [ { dc: "moon" } ]' in str(failed.value)
            orders = client.shop.orders.with_options(
                read_preference=SecondaryPreferred(tag_sets=[{"dc": "moon"}])
            )
            assert orders.find_one() is not None, "the primary has no need of tags"
    finally:
        guard.stop()


def test_max_staleness_lets_fresh_members_through(three_members: ReplicaSetOfThree, app: Client) -> None:
    with Reads(three_members) as reads:
        find(app, Secondary(max_staleness=90), reads.comment)
    assert set(reads.served) <= set(three_members.secondaries())


def test_a_cursor_stays_on_its_member(three_members: ReplicaSetOfThree, app: Client) -> None:
    for _ in range(5):
        with Reads(three_members) as reads:
            orders = app.shop.orders.with_options(read_preference=Secondary())
            assert len(list(orders.find({}, batch_size=50, comment=reads.comment))) == 500
        assert len(reads.served) == 1
        assert sum(reads.served.values()) == 11


def test_a_cursor_on_a_secondary_can_be_killed(three_members: ReplicaSetOfThree, app: Client) -> None:
    orders = app.shop.orders.with_options(read_preference=Secondary())
    with orders.find({}, batch_size=2) as cursor:
        next(cursor)
        assert cursor.cursor_id
        killed = app.shop.command({"killCursors": "orders", "cursors": [Int64(cursor.cursor_id)]})
        assert killed["cursorsKilled"] == [cursor.cursor_id]


READS: list[dict[str, Any]] = [
    {"find": "orders", "limit": 1},
    {"count": "orders"},
    {"distinct": "orders", "key": "_id"},
    {"aggregate": "orders", "pipeline": [{"$limit": 1}], "cursor": {}},
    {
        "aggregate": "orders",
        "pipeline": [{"$lookup": {"from": "x", "pipeline": [], "as": "x"}}],
        "cursor": {},
    },
    {"listCollections": 1},
    {"listIndexes": "orders"},
    {"dbStats": 1},
    {"collStats": "orders"},
    {"explain": {"find": "orders"}},
]
WRITES: list[dict[str, Any]] = [
    {"insert": "made", "documents": [{}]},
    {"update": "made", "updates": [{"q": {}, "u": {"$set": {"x": 1}}}]},
    {"delete": "made", "deletes": [{"q": {}, "limit": 1}]},
    {"findAndModify": "made", "query": {}, "update": {"$set": {"x": 2}}},
    {"aggregate": "orders", "pipeline": [{"$limit": 1}, {"$out": "made_out"}], "cursor": {}},
    {"aggregate": "orders", "pipeline": [{"$limit": 1}, {"$merge": {"into": "made_out"}}], "cursor": {}},
    {"createIndexes": "made", "indexes": [{"key": {"x": 1}, "name": "x"}]},
    {"explain": {"update": "made", "updates": [{"q": {}, "u": {"$set": {"x": 1}}}]}},
]


@pytest.mark.parametrize("command", READS, ids=str)
def test_a_read_runs_on_a_secondary(
    three_members: ReplicaSetOfThree, guard_of_three: Guard, command: dict[str, Any]
) -> None:
    assert where(three_members, guard_of_three, command) <= set(three_members.secondaries())


@pytest.mark.parametrize("command", WRITES, ids=str)
def test_what_writes_runs_on_the_primary_whatever_the_preference(
    three_members: ReplicaSetOfThree, guard_of_three: Guard, command: dict[str, Any]
) -> None:
    assert where(three_members, guard_of_three, command) == {three_members.primary()}


def where(deployment: ReplicaSetOfThree, guard: Guard, command: dict[str, Any]) -> set[Member]:
    """The members whose count of that command grows when a client sends it to secondaries."""
    name = next(iter(command))

    def counts() -> dict[Member, int]:
        found = {}
        for member in deployment.members:
            with member.direct() as client:
                metrics = client.admin.command("serverStatus")["metrics"]["commands"]
                found[member] = metrics[name]["total"]
        return found

    with RawConnection(guard.address) as raw:
        raw.log_in("root", password_of("root"))
        before = counts()
        reply = raw.command("shop", {**command, "$readPreference": {"mode": "secondary"}})
        assert reply["ok"] == 1, reply
        after = counts()
    noise = {"find", "aggregate", "update", "count"}  # members send these to each other too
    grown = {member for member in deployment.members if after[member] > before[member]}
    if name in noise and len(grown) > 1:
        return where(deployment, guard, command)
    return grown


@pytest.mark.parametrize(
    ("preference", "code"),
    [
        ("secondary", 14),
        ({}, 4),
        ({"mode": "sideways"}, 2),
        ({"mode": "secondary", "maxStalenessSeconds": 1}, 160),
        ({"mode": "primary", "tags": [{"dc": "east"}]}, 2),
        ({"mode": "secondary", "hedge": {"enabled": 1}}, 14),
    ],
)
def test_a_malformed_read_preference_is_refused_as_by_mongod(
    three_members: ReplicaSetOfThree, guard_of_three: Guard, preference: Any, code: int
) -> None:
    command = {"find": "orders", "$readPreference": preference}
    replies = []
    for address in (guard_of_three.address, three_members.primary().address):
        with RawConnection(address) as raw:
            raw.log_in("app", password_of("app"))
            replies.append(raw.command("shop", command))
    guarded, direct = replies
    assert guarded["code"] == direct["code"] == code
    assert guarded["errmsg"] == direct["errmsg"]


def test_who_may_not_read_may_not_read_from_a_secondary(guard_of_three: Guard) -> None:
    with guard_of_three.client("nobody") as client:
        orders = client.shop.orders.with_options(read_preference=Secondary())
        with pytest.raises(OperationFailure, match="not authorized on shop to execute command"):
            orders.find_one()


def test_the_real_user_is_named_on_a_secondary_too(three_members: ReplicaSetOfThree, app: Client) -> None:
    comment = uuid.uuid4().hex
    # mongod forgets effectiveUsers of an operation that loads the database's stored functions: the first one
    for _ in range(20):
        app.shop.orders.with_options(read_preference=Secondary()).find_one({"$where": "true"})
    slow = app.shop.orders.with_options(read_preference=Secondary())
    thread = threading.Thread(
        target=lambda: list(slow.find({"$where": "sleep(100) || true"}, comment=comment).limit(30))
    )
    thread.start()

    def operations() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for member in three_members.secondaries():
            with member.direct(readPreference="nearest") as client:
                stages = [{"$currentOp": {"allUsers": True}}, {"$match": {"command.comment": comment}}]
                found += client.admin.aggregate(stages)
        return found

    seen: list[dict[str, Any]] = []
    assert wait_until(lambda: seen.extend(operations()) or seen, 10)
    thread.join()
    assert seen[0]["effectiveUsers"] == [{"user": "app", "db": "admin"}]
    assert seen[0]["runBy"] == [{"user": "mongoguard", "db": "admin"}]


def test_the_uris_own_read_preference_is_for_reads_of_clients_that_name_none(
    three_members: ReplicaSetOfThree, guard_of_three: Guard, tmp_path: Any
) -> None:
    uri = f"{three_members.upstream_uri}&readPreference=secondary"
    own = Guard(tmp_path, three_members, {"upstream": {"uri": uri}})
    own.start().wait()
    try:
        with own.client("app") as client, Reads(three_members) as reads:
            for number in range(10):
                assert client.shop.orders.find_one({"_id": number}, comment=reads.comment)
            assert set(reads.served) <= set(three_members.secondaries())
            client.shop.own.insert_one({"_id": 1})
            with client.start_session() as session, session.start_transaction():
                assert client.shop.own.find_one({"_id": 1}, session=session) == {"_id": 1}
            for number in range(5):
                find(client, PrimaryPreferred(), f"{reads.comment}-{number}", 1)
    finally:
        own.stop()


# ---- sessions -------------------------------------------------------------------------------------------------------


def test_a_session_reads_its_own_writes_on_secondaries(app: Client) -> None:
    """Causal consistency: afterClusterTime makes the secondary wait."""
    counters = app.shop.get_collection(
        "counters", write_concern=WriteConcern("majority"), read_concern=ReadConcern("majority")
    )
    with app.start_session(causal_consistency=True) as session:
        for number in range(30):
            counters.replace_one({"_id": 1}, {"n": number}, upsert=True, session=session)
            from_secondary = counters.with_options(read_preference=Secondary())
            assert from_secondary.find_one({"_id": 1}, session=session)["n"] == number


def test_a_snapshot_session_reads_from_secondaries(app: Client) -> None:
    with app.start_session(snapshot=True) as session:
        orders = app.shop.orders.with_options(read_preference=Secondary())
        assert orders.count_documents({}, session=session) == orders.count_documents({}, session=session)


def test_a_transaction_runs_on_the_primary_and_reads_what_it_wrote(app: Client) -> None:
    with app.start_session() as session, session.start_transaction():
        app.shop.in_transaction.insert_one({"_id": 1}, session=session)
        assert app.shop.in_transaction.find_one({"_id": 1}, session=session)
        session.abort_transaction()
    assert app.shop.in_transaction.find_one() is None


def test_a_transaction_that_names_a_secondary_is_answered_by_the_primary_as_directly(
    three_members: ReplicaSetOfThree, guard_of_three: Guard
) -> None:
    replies = []
    for address in (guard_of_three.address, three_members.primary().address):
        with RawConnection(address) as raw:
            raw.log_in("app", password_of("app"))
            session = {"id": Binary(uuid.uuid4().bytes, 4)}
            reply = raw.command(
                "shop",
                {
                    "find": "orders",
                    "lsid": session,
                    "txnNumber": Int64(1),
                    "startTransaction": True,
                    "autocommit": False,
                    "$readPreference": {"mode": "secondary"},
                },
            )
            replies.append(reply["ok"])
            raw.command(
                "admin",
                {"abortTransaction": 1, "lsid": session, "txnNumber": Int64(1), "autocommit": False},
            )
    assert replies[0] == replies[1]


# ---- fail-over ------------------------------------------------------------------------------------------------------


class Applications:
    """Threads that work through mongoguard as applications do, with retryWrites and retryReads.

    Writers insert one document after the other and want a majority to have it; readers read from the primary. How soon a
    majority has a write after a fail-over is mongod's affair, so it is by the readers that recovery is timed.
    """

    def __init__(self, guard: Guard, collection: str, count: int = 3) -> None:
        self.acknowledged: list[list[str]] = [[] for _ in range(count)]
        self.reads = [0] * count
        self.errors: list[Exception] = []
        self.wrong: list[object] = []
        self._guard = guard
        self._collection = collection
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, args=(number,))
            for number in range(count)
            for work in (self._write, self._read)
        ]

    def __enter__(self) -> Applications:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads), "an application hangs"

    def _write(self, number: int) -> None:
        with self._guard.client("app", w="majority") as client:
            collection = client.shop[self._collection]
            for sequence in itertools.count():
                if self._stop.is_set():
                    return
                name = f"{number}-{sequence}"
                with self._noting_errors():
                    if collection.insert_one({"_id": name}).inserted_id != name:
                        self.wrong.append(name)
                    self.acknowledged[number].append(name)

    def _read(self, number: int) -> None:
        with self._guard.client("app") as client:
            while not self._stop.is_set():
                wanted = self.reads[number] % 500
                with self._noting_errors():
                    found = client.shop.orders.find_one({"_id": wanted})
                    if found != {"_id": wanted}:
                        self.wrong.append((wanted, found))
                    self.reads[number] += 1

    @contextlib.contextmanager
    def _noting_errors(self) -> Iterator[None]:
        try:
            yield
        except PyMongoError as error:
            self.errors.append(error)

    def read_on(self, seconds: float) -> bool:
        """Whether every reader gets on within that time."""
        return _grows(lambda: self.reads, seconds)

    def write_on(self, seconds: float) -> bool:
        """Whether every writer gets on within that time."""
        return _grows(lambda: [len(names) for names in self.acknowledged], seconds)


def _grows(counts: Callable[[], list[int]], seconds: float) -> bool:
    before = list(counts())
    return wait_until(lambda: all(now > then for now, then in zip(counts(), before, strict=True)), seconds)


MAJORITY_SECS = 40.0
"""A secondary that fetched from a frozen member takes mongod ten seconds and more to look for another one."""


def check(deployment: ReplicaSetOfThree, applications: Applications, collection: str) -> None:
    """Every acknowledged write is there, once; nothing was answered wrongly."""
    assert applications.wrong == []
    with deployment.client(readConcernLevel="majority") as client:
        there = Counter(one["_id"] for one in client.shop[collection].find())
    acknowledged = {name for names in applications.acknowledged for name in names}
    assert acknowledged <= set(there)
    assert set(there.values()) <= {1}


def test_applications_do_not_notice_a_step_down(
    three_members: ReplicaSetOfThree, guard_of_three: Guard
) -> None:
    with Applications(guard_of_three, "step_down") as applications:
        assert applications.write_on(MAJORITY_SECS)
        for _ in range(2):
            old = three_members.step_down()
            assert three_members.primary() is not old
            assert applications.read_on(5), applications.errors
            assert applications.write_on(MAJORITY_SECS), applications.errors
    check(three_members, applications, "step_down")
    assert applications.errors == []
    assert "internal error" not in guard_of_three.log


def test_applications_get_on_within_5_s_of_a_new_primary_after_a_crash(
    three_members: ReplicaSetOfThree, guard_of_three: Guard
) -> None:
    with Applications(guard_of_three, "crash") as applications:
        assert applications.write_on(MAJORITY_SECS)
        old = three_members.primary()
        old.kill()
        assert three_members.primary() is not old
        assert applications.read_on(5), applications.errors
        assert applications.write_on(MAJORITY_SECS), applications.errors
    three_members.heal()
    check(three_members, applications, "crash")
    assert applications.errors == [], "the drivers' retries are enough"
    assert "internal error" not in guard_of_three.log


def test_applications_get_on_within_5_s_of_a_new_primary_when_the_old_one_is_frozen(
    three_members: ReplicaSetOfThree, guard_of_three: Guard
) -> None:
    """What waits for the frozen server is lost, as by a crash: no client hangs until it is thawed."""
    with Applications(guard_of_three, "frozen") as applications:
        assert applications.write_on(MAJORITY_SECS)
        old = three_members.primary()
        old.freeze()
        try:
            assert wait_until(lambda: new_primary(three_members, old), 30)
            assert applications.read_on(5), applications.errors
            assert applications.write_on(MAJORITY_SECS), applications.errors
        finally:
            old.thaw()
    three_members.heal()
    check(three_members, applications, "frozen")
    assert "internal error" not in guard_of_three.log


def new_primary(deployment: ReplicaSetOfThree, old: Member) -> bool:
    """Whether another member than `old` is the primary."""
    others = [member.state() for member in deployment.members if member is not old]
    return any(state is not None and state["isWritablePrimary"] for state in others)


def test_reads_from_secondaries_go_on_without_a_primary(
    three_members: ReplicaSetOfThree, guard_of_three: Guard, app: Client
) -> None:
    find(app, SecondaryPreferred(), "warm", 1)
    primary, killed = three_members.primary(), three_members.secondaries()[0]
    primary.kill()
    killed.kill()
    for preference in (Secondary(), SecondaryPreferred(), PrimaryPreferred(), Nearest()):
        began = time.monotonic()
        find(app, preference, "no primary", 20)
        assert time.monotonic() - began < 5


def test_without_a_primary_users_are_known_and_log_in_as_directly(
    three_members: ReplicaSetOfThree, guard_of_three: Guard, app: Client
) -> None:
    find(app, SecondaryPreferred(), "warm", 1)
    with three_members.client() as client:  # known to no worker yet
        client.admin.command("createUser", "late", pwd=password_of("late"), roles=["clusterMonitor"])
    three_members.wait_until_replicated()
    primary, killed = three_members.primary(), three_members.secondaries()[0]
    primary.kill()
    killed.kill()
    time.sleep(6)  # longer than an answer about a user is taken for new
    began = time.monotonic()
    find(app, SecondaryPreferred(), "no primary", 5)
    assert time.monotonic() - began < 5, "reads do not wait for an answer about their user"
    began = time.monotonic()
    with guard_of_three.client("late", readPreference="secondary") as late:
        status = late.admin.command("connectionStatus")
        assert status["authInfo"]["authenticatedUsers"] == [{"user": "late", "db": "admin"}]
        with pytest.raises(OperationFailure) as refused:
            late.shop.orders.find_one()
    assert refused.value.code == 13
    assert time.monotonic() - began < 12
    with (
        guard_of_three.client("late", "wrong", readPreference="secondary") as stranger,
        pytest.raises(OperationFailure) as failed,
    ):
        stranger.admin.command("connectionStatus")
    assert failed.value.code == 18


def test_a_secondary_that_is_killed_costs_readers_nothing(
    three_members: ReplicaSetOfThree, guard_of_three: Guard, app: Client
) -> None:
    killed = three_members.secondaries()[0]
    find(app, Secondary(), "before", 20)
    killed.kill()
    began = time.monotonic()
    find(app, Secondary(), "after", 50)
    assert time.monotonic() - began < 5
