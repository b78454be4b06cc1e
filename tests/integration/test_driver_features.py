"""What drivers can do on a replica set, each feature tried directly and through mongoguard: both find the same.

mongoguard is tried as clients may see it: as mongos, which is the default in front of a replica set, and as the set.
Fail points are set on the server itself; they are told to fail what the tested user sends.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pymongo
import pytest
from gridfs import GridFSBucket
from pymongo import CursorType, InsertOne, ReadPreference
from pymongo.client_session import ClientSession
from pymongo.collation import Collation
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure, PyMongoError
from pymongo.monitoring import CommandListener
from pymongo.read_concern import ReadConcern
from pymongo.server_api import ServerApi
from pymongo.write_concern import WriteConcern

from tests.servers import Guard, Mongod

Client = pymongo.MongoClient[dict[str, Any]]
Feature = Callable[[Client], Any]


class Sent(CommandListener):
    """The names of the commands that were begun."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.documents: list[Mapping[str, Any]] = []

    def started(self, event: Any) -> None:
        """Remember a command."""
        self.names.append(event.command_name)
        self.documents.append(event.command)

    def succeeded(self, event: Any) -> None:
        """Nothing to remember."""

    def failed(self, event: Any) -> None:
        """Nothing to remember."""


class Twins:
    """A replica set and mongoguard in front of it; `both` runs a feature at either end."""

    def __init__(self, mongod: Mongod, guard: Guard, options: Mapping[str, str]) -> None:
        self.admin: Client = mongod.client()
        self._uris = mongod.uri("app"), guard.uri("app", **options)

    def both(self, feature: Feature, fail_point: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """What the feature found, which must be the same at both ends. Each begins with an empty database shop."""
        direct, through = self.each(feature, fail_point, **options)
        assert through == direct, f"direct {direct!r}, through {through!r}"
        return direct

    def each(self, feature: Feature, fail_point: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """What the feature found, first directly, then through mongoguard."""
        return [self._one(uri, feature, fail_point, options) for uri in self._uris]

    def _one(self, uri: str, feature: Feature, fail_point: Mapping[str, Any] | None, options: Any) -> Any:
        self.admin.drop_database("shop")
        # A driver that was told that its server shuts down waits for the next heartbeat, wherever it is connected to.
        options = {"serverSelectionTimeoutMS": 20_000, "heartbeatFrequencyMS": 500, **options}
        with pymongo.MongoClient(uri, **options) as client:
            client.shop.command("ping")
            with self._fails(fail_point):
                return feature(client)

    @contextlib.contextmanager
    def _fails(self, fail_point: Mapping[str, Any] | None) -> Iterator[None]:
        if fail_point is None:
            yield
            return
        fail_point = dict(fail_point)
        mode = {"times": fail_point.pop("times", 1)}
        self.admin.admin.command("configureFailPoint", "failCommand", mode=mode, data=fail_point)
        try:
            yield
        finally:
            self.admin.admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.fixture(scope="module")
def guard_as_set(
    guard_replica_set: Guard, replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guard]:
    guard = Guard(tmp_path_factory.mktemp("guard_as_set"), replica_set)
    guard.configure({"net": {"presentAs": "replicaSet", "advertise": guard.address}})
    try:
        yield guard.start().wait()
    finally:
        guard.stop()


@contextlib.contextmanager
def opened(mongod: Mongod, guard: Guard, options: Mapping[str, str]) -> Iterator[Twins]:
    made = Twins(mongod, guard, options)
    try:
        yield made
        made.admin.drop_database("shop")
    finally:
        made.admin.close()


@pytest.fixture(scope="module")
def twins_as_set(replica_set: Mongod, guard_as_set: Guard) -> Iterator[Twins]:
    with opened(replica_set, guard_as_set, {"replicaSet": "rs0"}) as made:
        yield made


@pytest.fixture(scope="module")
def twins_as_mongos(replica_set: Mongod, guard_replica_set: Guard) -> Iterator[Twins]:
    with opened(replica_set, guard_replica_set, {}) as made:
        yield made


@pytest.fixture(params=["mongos", "set"])
def twins(request: pytest.FixtureRequest) -> Twins:
    found: Twins = request.getfixturevalue(f"twins_as_{request.param}")
    return found


def outcome(call: Callable[[], Any]) -> tuple[Any, ...]:
    """What a call returned, or its error: class, code and labels."""
    try:
        return ("done", call())
    except OperationFailure as error:
        labels = [
            label
            for label in (
                "RetryableWriteError",
                "TransientTransactionError",
                "UnknownTransactionCommitResult",
            )
            if error.has_error_label(label)
        ]
        return (type(error).__name__, error.code, *labels)
    except PyMongoError as error:
        return (type(error).__name__,)


# ---- retries ----------------------------------------------------------------------------------------------------------

FAILURES: dict[str, dict[str, Any]] = {
    "the connection is closed": {"closeConnection": True},
    "there is no primary": {"errorCode": 10107, "errorLabels": ["RetryableWriteError"]},
    "the server shuts down": {"errorCode": 91, "errorLabels": ["RetryableWriteError"]},
    "a network timeout": {"errorCode": 89, "errorLabels": ["RetryableWriteError"]},
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_write_that_failed_once_is_tried_again(twins: Twins, failure: str) -> None:
    def feature(client: Client) -> Any:
        done = outcome(lambda: client.shop.features.insert_one({"_id": 1}).acknowledged)
        return done, client.shop.features.count_documents({})

    fail = {"failCommands": ["insert"], **FAILURES[failure]}
    assert twins.both(feature, fail) == (("done", True), 1)


@pytest.mark.parametrize("failure", FAILURES)
def test_a_read_that_failed_once_is_tried_again(twins: Twins, failure: str) -> None:
    def feature(client: Client) -> Any:
        return outcome(lambda: list(client.shop.features.find()))

    fail = {"failCommands": ["find"], **FAILURES[failure]}
    fail.pop("errorLabels", None)
    assert twins.both(feature, fail) == ("done", [])


STATE_CHANGES = ("there is no primary", "the server shuts down")
"""Errors by which a driver would take mongoguard itself for another server than it was (ADR 13)."""


def insert_and_count(client: Client) -> Any:
    """What came of an insert, and whether it was made."""
    write = outcome(lambda: client.shop.features.insert_one({"_id": 1}))
    return write, client.shop.features.count_documents({})


@pytest.mark.parametrize("failure", [name for name in FAILURES if name not in STATE_CHANGES])
def test_a_client_that_does_not_retry_is_told_what_mongod_tells(twins: Twins, failure: str) -> None:
    fail = {"failCommands": ["insert"], **FAILURES[failure]}
    (error, *_), documents = twins.both(insert_and_count, fail, retryWrites=False)
    assert error in {"AutoReconnect", "OperationFailure"}
    assert documents == 0


@pytest.mark.parametrize("failure", STATE_CHANGES)
def test_a_client_that_does_not_retry_is_told_of_a_fail_over_as_by_a_mongos(
    twins: Twins, failure: str
) -> None:
    fail = {"failCommands": ["insert"], **FAILURES[failure]}
    direct, through = twins.each(insert_and_count, fail, retryWrites=False)
    assert direct == (("NotPrimaryError",), 0)
    assert through == (("OperationFailure", 6, "RetryableWriteError"), 0)


def test_a_write_that_fails_twice_is_an_error(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        try:
            client.shop.features.insert_one({"_id": 1})
        except AutoReconnect:
            return client.shop.features.count_documents({})
        return None

    assert twins.both(feature, {"failCommands": ["insert"], "closeConnection": True, "times": 2}) == 0


def test_a_write_whose_answer_was_lost_is_not_done_twice(twins: Twins) -> None:
    """The write is done, and its write concern fails with an error that drivers retry."""

    def feature(client: Client) -> Any:
        collection = client.shop.features
        collection.insert_one({"_id": 1, "n": 0})
        collection.update_one({"_id": 1}, {"$inc": {"n": 1}})
        return collection.find_one()

    concern = {"code": 91, "errmsg": "shutting down", "errorLabels": ["RetryableWriteError"]}
    fail = {"failCommands": ["update"], "writeConcernError": concern}
    assert twins.both(feature, fail) == {"_id": 1, "n": 1}


# ---- transactions -----------------------------------------------------------------------------------------------------


def move(client: Client, calls: list[int]) -> Callable[[ClientSession], None]:
    """The callback of with_transaction; `calls` counts how often it was called."""

    def callback(session: ClientSession) -> None:
        calls.append(1)
        client.shop.features.update_one({"_id": "a"}, {"$inc": {"n": -1}}, upsert=True, session=session)
        client.shop.features.update_one({"_id": "b"}, {"$inc": {"n": 1}}, upsert=True, session=session)

    return callback


@pytest.mark.parametrize(
    ("fail", "calls"),
    [
        (
            {
                "failCommands": ["commitTransaction"],
                "errorCode": 251,
                "errorLabels": ["TransientTransactionError"],
            },
            2,
        ),
        ({"failCommands": ["update"], "errorCode": 112, "errorLabels": ["TransientTransactionError"]}, 2),
        ({"failCommands": ["update"], "closeConnection": True}, 2),
        ({"failCommands": ["commitTransaction"], "closeConnection": True}, 1),
        ({"failCommands": ["commitTransaction"], "errorCode": 91}, 1),
        (None, 1),
    ],
    ids=["commit aborted", "write conflict", "write lost", "commit lost", "commit at shutdown", "no failure"],
)
def test_with_transaction_tries_again_what_may_be_tried_again(
    twins: Twins, fail: dict[str, Any] | None, calls: int
) -> None:
    def feature(client: Client) -> Any:
        called: list[int] = []
        with client.start_session() as session:
            session.with_transaction(move(client, called))
        return len(called), sorted((one["_id"], one["n"]) for one in client.shop.features.find())

    assert twins.both(feature, fail) == (calls, [("a", -1), ("b", 1)])


def test_a_conflict_of_two_transactions_has_its_label(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        client.shop.features.insert_one({"_id": 1})
        with client.start_session() as one, client.start_session() as other:
            one.start_transaction()
            other.start_transaction()
            client.shop.features.update_one({"_id": 1}, {"$set": {"by": "one"}}, session=one)
            lost = outcome(
                lambda: client.shop.features.update_one({"_id": 1}, {"$set": {"by": "other"}}, session=other)
            )
            one.commit_transaction()
            aborted = outcome(lambda: client.shop.features.find_one({}, session=other))
        return lost, aborted, client.shop.features.find_one()

    lost, aborted, document = twins.both(feature)
    assert lost == ("OperationFailure", 112, "TransientTransactionError")
    assert aborted == ("OperationFailure", 251, "TransientTransactionError")
    assert document == {"_id": 1, "by": "one"}


def test_a_cursor_opened_in_a_transaction_is_read_in_it(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        client.shop.features.insert_many([{"_id": n} for n in range(50)])
        with client.start_session() as session, session.start_transaction():
            cursor = client.shop.features.find(session=session).batch_size(7)
            first = [next(cursor)["_id"] for _ in range(10)]
            client.shop.features.insert_one(
                {"_id": 1000}
            )  # outside of the transaction, which does not see it
            return first, [document["_id"] for document in cursor]

    assert twins.both(feature) == (list(range(10)), list(range(10, 50)))


# ---- consistency ------------------------------------------------------------------------------------------------------


def test_reads_of_a_causally_consistent_session_follow_its_writes(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        majority = client.shop.get_collection(
            "features", read_concern=ReadConcern("majority"), write_concern=WriteConcern("majority")
        )
        with client.start_session(causal_consistency=True) as session:
            majority.insert_one({"_id": 1}, session=session)
            seen = majority.find_one({}, session=session)
            return seen, session.operation_time is not None, session.cluster_time is not None

    sent = Sent()
    assert twins.both(feature, event_listeners=[sent]) == ({"_id": 1}, True, True)
    finds = [document for document in sent.documents if "find" in document]
    assert [("afterClusterTime" in find["readConcern"]) for find in finds] == [True, True]


def test_a_snapshot_session_sees_one_moment(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        majority = client.shop.get_collection("features", write_concern=WriteConcern("majority"))
        majority.insert_many([{"_id": n} for n in range(10)])
        with client.start_session(snapshot=True) as session:
            before = majority.count_documents({}, session=session)
            majority.delete_many({})
            found = len(list(majority.find({}, session=session).batch_size(3)))
            return (
                before,
                found,
                majority.count_documents({}),
                outcome(lambda: majority.insert_one({}, session=session)),
            )

    before, found, afterwards, write = twins.both(feature)
    assert (before, found, afterwards) == (10, 10, 0)
    assert write[0] != "done"


@pytest.mark.parametrize("mode", ["primary", "primaryPreferred", "secondaryPreferred", "nearest"])
def test_each_read_preference_that_the_primary_meets_reads(twins: Twins, mode: str) -> None:
    def feature(client: Client) -> Any:
        client.shop.features.insert_one({"_id": 1})
        return client.shop.features.find_one()

    assert twins.both(feature, readPreference=mode) == {"_id": 1}


def test_a_read_that_only_a_secondary_may_answer_finds_none(twins_as_set: Twins) -> None:
    """mongos looks for the secondary itself; what it says then is tested with the read preferences."""

    def feature(client: Client) -> Any:
        on_secondary = client.shop.features.with_options(read_preference=ReadPreference.SECONDARY)
        return outcome(on_secondary.find_one)

    found = twins_as_set.both(feature, serverSelectionTimeoutMS=1500)
    assert found == ("ServerSelectionTimeoutError",)


# ---- cursors that wait ------------------------------------------------------------------------------------------------


def test_a_change_stream_goes_on_where_its_cursor_was_killed(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        client.shop.create_collection("features")
        seen = []
        with client.shop.features.watch(max_await_time_ms=500) as stream:
            for n in range(3):
                client.shop.features.insert_one({"_id": n})
                seen.append(next(stream)["documentKey"]["_id"])
                client.shop.features.insert_one({"_id": n + 100})
                cursor = stream._cursor
                assert cursor is not None
                killed = twins.admin.shop.command("killCursors", "features", cursors=[cursor.cursor_id])
                seen.append(len(killed["cursorsKilled"]))
                seen.append(next(stream)["documentKey"]["_id"])
        return seen

    assert twins.both(feature) == [0, 1, 100, 1, 1, 101, 2, 1, 102]


@pytest.mark.parametrize("code", [43, 91, 133])
def test_a_change_stream_goes_on_after_an_error_of_its_get_more(twins: Twins, code: int) -> None:
    def feature(client: Client) -> Any:
        client.shop.create_collection("features")
        with client.shop.features.watch(max_await_time_ms=500) as stream:
            client.shop.features.insert_one({"_id": 1})
            return next(stream)["documentKey"]

    labels = ["ResumableChangeStreamError"]
    fail = {"failCommands": ["getMore"], "errorCode": code, "errorLabels": labels}
    assert twins.both(feature, fail) == {"_id": 1}


def test_change_streams_of_a_collection_show_the_document_and_begin_where_told(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        client.shop.create_collection("features", changeStreamPreAndPostImages={"enabled": True})
        begun = client.shop.command("ping")["operationTime"]
        client.shop.features.insert_one({"_id": 1})
        client.shop.features.update_one({"_id": 1}, {"$set": {"n": 1}})
        client.shop.features.drop()
        with client.shop.features.watch(
            full_document="updateLookup",
            full_document_before_change="whenAvailable",
            start_at_operation_time=begun,
            max_await_time_ms=300,
        ) as stream:
            return [
                (event["operationType"], event.get("fullDocumentBeforeChange"))
                for event in stream
                if event["operationType"] != "create"
            ]

    assert twins.both(feature) == [
        ("insert", None),
        ("update", {"_id": 1}),
        ("drop", None),
        ("invalidate", None),
    ]


def test_a_tailable_cursor_waits_for_what_is_written_later(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        tail = client.shop.create_collection("features", capped=True, size=100_000)
        tail.insert_many([{"_id": n} for n in range(5)])
        cursor = tail.find(cursor_type=CursorType.TAILABLE_AWAIT).max_await_time_ms(2000)
        first = [document["_id"] for document in cursor]  # ends when nothing came for two seconds
        alive = cursor.alive
        writer = threading.Timer(0.3, lambda: tail.insert_one({"_id": 5}))
        writer.start()
        later = next(cursor)["_id"]
        writer.join()
        cursor.close()
        return first, alive, later

    assert twins.both(feature) == ([0, 1, 2, 3, 4], True, 5)


def test_an_exhaust_cursor_brings_all_batches(twins_as_set: Twins) -> None:
    """PyMongo itself refuses exhaust cursors of a mongos."""

    def feature(client: Client) -> Any:
        client.shop.features.insert_many([{"_id": n} for n in range(1000)])
        cursor = client.shop.features.find(cursor_type=CursorType.EXHAUST, batch_size=50)
        seen = [document["_id"] for document in cursor]
        return seen == list(range(1000)), client.shop.features.count_documents({})

    assert twins_as_set.both(feature) == (True, 1000)


# ---- what is asked for in a command -----------------------------------------------------------------------------------


def test_the_stable_api_is_enforced_as_by_mongod(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        return (
            outcome(lambda: client.shop.features.insert_one({"_id": 1}).acknowledged),
            outcome(lambda: [one["_id"] for one in client.shop.features.aggregate([{"$match": {}}])]),
            outcome(lambda: client.shop.features.distinct("_id")),
            outcome(lambda: client.shop.features.find().max_time_ms(1000).hint("_id_").to_list()),
            outcome(lambda: client.shop.command("collStats", "features")),
            outcome(lambda: client.shop.command("create", "other", autoIndexId=False)),
        )

    found = twins.both(feature, server_api=ServerApi("1", strict=True, deprecation_errors=True))
    assert found[:2] == (("done", True), ("done", [1]))
    assert found[2] == found[4] == ("OperationFailure", 323)


def test_max_time_ends_a_command(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        client.shop.features.insert_many([{"_id": n} for n in range(3)])
        slow = {"$where": "sleep(2000) || true"}
        return (
            outcome(lambda: client.shop.features.find_one(slow, max_time_ms=50)),
            outcome(lambda: client.shop.command("count", "features", query=slow, maxTimeMS=50)),
        )

    assert twins.both(feature) == (("ExecutionTimeout", 50), ("ExecutionTimeout", 50))


def test_collation_hint_and_variables_are_passed_on(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        collection = client.shop.features
        collection.insert_many(
            [{"_id": n, "name": name} for n, name in enumerate(("ada", "Ada", "ADA", "Bob"))]
        )
        collection.create_index([("name", 1)], collation=Collation("en", strength=2))
        alike = collection.find({"name": "ada"}, collation=Collation("en", strength=2), hint="name_1")
        named = collection.find({"$expr": {"$eq": ["$name", "$$wanted"]}}, let={"wanted": "Bob"})
        return len(list(alike)), [one["_id"] for one in named]

    assert twins.both(feature) == (3, [3])


def test_an_explained_query_has_the_plan_that_mongod_has(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        client.shop.features.create_index("n")
        plan = client.shop.features.find({"n": {"$gt": 1}}).explain()["queryPlanner"]
        pipeline = client.shop.command(
            "explain",
            {"aggregate": "features", "pipeline": [{"$match": {"n": 1}}], "cursor": {}},
            verbosity="executionStats",
        )
        return (
            plan["winningPlan"]["inputStage"]["indexName"],
            plan["namespace"],
            sorted(pipeline.keys() & {"stages", "queryPlanner", "ok"}),
        )

    assert twins.both(feature)[:2] == ("n_1", "shop.features")


def test_out_and_merge_write_and_are_refused_elsewhere(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        client.shop.features.insert_many([{"_id": n, "n": n % 3} for n in range(30)])
        group = {"$group": {"_id": "$n", "sum": {"$sum": "$_id"}}}
        client.shop.features.aggregate([group, {"$out": "features_out"}])
        client.shop.features.aggregate(
            [group, {"$merge": {"into": "features_out", "whenMatched": "replace"}}]
        )
        return (
            client.shop.features_out.count_documents({}),
            outcome(
                lambda: client.shop.features.aggregate([group, {"$out": {"db": "vault", "coll": "stolen"}}])
            ),
            outcome(
                lambda: client.shop.features.aggregate(
                    [group, {"$merge": {"into": {"db": "vault", "coll": "stolen"}}}]
                )
            ),
        )

    assert twins.both(feature) == (3, ("OperationFailure", 13), ("OperationFailure", 13))


# ---- size -------------------------------------------------------------------------------------------------------------


def test_a_bulk_of_a_hundred_thousand_writes_is_done(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        writes = [InsertOne({"_id": n}) for n in range(100_000)]
        inserted = client.shop.features.bulk_write(writes, ordered=False).inserted_count
        try:
            client.shop.features.bulk_write(
                [InsertOne({"_id": n}) for n in range(99_990, 100_010)], ordered=False
            )
        except BulkWriteError as error:
            return (
                inserted,
                error.details["nInserted"],
                [wrong["index"] for wrong in error.details["writeErrors"]],
            )
        return None

    assert twins.both(feature) == (100_000, 10, list(range(10)))


def test_a_document_of_sixteen_megabytes_passes_and_a_larger_one_does_not(twins: Twins) -> None:
    largest = 16 * 1024 * 1024
    overhead = len(b"\x00\x00\x00\x00\x10_id\x00\x01\x00\x00\x00\x05b\x00\x00\x00\x00\x00\x00\x00")

    def feature(client: Client) -> Any:
        client.shop.features.insert_one({"_id": 1, "b": bytes(largest - overhead)})
        back = client.shop.features.find_one({"_id": 1})
        assert back is not None
        return len(back["b"]), outcome(
            lambda: client.shop.features.update_one({"_id": 1}, {"$set": {"c": 1}})
        )

    length, larger = twins.both(feature)
    assert length == largest - overhead
    assert larger[0] == "WriteError"
    assert larger[1] in {10334, 17419}


@pytest.mark.parametrize("compressor", ["zlib", "snappy", "zstd"])
def test_a_file_is_stored_and_read_in_pieces(twins: Twins, compressor: str) -> None:
    content = b"mongoguard" * 300_000

    def feature(client: Client) -> Any:
        bucket = GridFSBucket(client.shop)
        with bucket.open_upload_stream("file.bin", chunk_size_bytes=100_000) as stream:
            stream.write(content)
        chunks = client.shop.fs.chunks.count_documents({})
        with bucket.open_download_stream_by_name("file.bin") as stream:
            stream.seek(1_000_000)
            part = stream.read(10)
            stream.seek(0)
            whole = stream.read()
        bucket.rename_by_name("file.bin", "other.bin")
        bucket.delete_by_name("other.bin")
        return chunks, part, whole == content, client.shop.fs.chunks.count_documents({})

    assert twins.both(feature, compressors=compressor) == (30, b"mongoguard", True, 0)


def test_unacknowledged_writes_of_many_kinds_are_done_in_order(twins: Twins) -> None:
    def feature(client: Client) -> Any:
        quick = client.shop.get_collection("features", write_concern=WriteConcern(w=0))
        quick.insert_many([{"_id": n} for n in range(2000)], ordered=False)
        quick.update_one({"_id": 1}, {"$set": {"seen": True}})
        quick.delete_many({"_id": {"$gt": 1500}})
        # One connection (maxPoolSize): the answer to a later command means that those before it were done.
        return client.shop.features.count_documents({}), client.shop.features.find_one({"_id": 1})

    assert twins.both(feature, maxPoolSize=1) == (1501, {"_id": 1, "seen": True})
