"""PyMongo, sync and async, through mongoguard on a real standalone mongod and a real replica set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import gridfs
import pytest
from pymongo import AsyncMongoClient, DeleteOne, InsertOne, MongoClient, UpdateOne, WriteConcern
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from tests.servers import Guard

UNAUTHORIZED = 13


@pytest.fixture
def shop(guard: Guard) -> Iterator[Database[dict[str, Any]]]:
    """The database shop as the user app (readWrite@shop), emptied."""
    with guard.upstream.client() as direct:
        direct.drop_database("shop")  # with whatever other tests left, views too
    with guard.client("app") as client:
        yield client.shop


@pytest.fixture
def as_reader(guard: Guard) -> Iterator[Database[dict[str, Any]]]:
    """The database shop as the user reader (read@shop)."""
    with guard.client("reader") as client:
        yield client.shop


def refused(call: Any) -> OperationFailure:
    """The refusal that a call must meet."""
    with pytest.raises(OperationFailure) as caught:
        call()
    assert caught.value.code == UNAUTHORIZED, caught.value
    return caught.value


def test_crud_is_allowed_to_read_write(shop: Database[dict[str, Any]]) -> None:
    orders = shop.orders
    orders.insert_one({"_id": 1, "item": "tea", "n": 2})
    orders.insert_many([{"_id": i, "item": "nut", "n": i} for i in range(2, 10)])
    assert orders.find_one({"_id": 1}) == {"_id": 1, "item": "tea", "n": 2}
    assert orders.update_many({"item": "nut"}, {"$inc": {"n": 1}}).modified_count == 8
    assert orders.replace_one({"_id": 50}, {"item": "new"}, upsert=True).upserted_id == 50
    assert orders.find_one_and_update({"_id": 1}, {"$set": {"n": 3}}, return_document=True)["n"] == 3  # type: ignore[index]
    assert orders.find_one_and_delete({"_id": 50})["item"] == "new"  # type: ignore[index]
    assert orders.count_documents({}) == 9
    assert orders.estimated_document_count() == 9
    assert sorted(orders.distinct("item")) == ["nut", "tea"]
    assert orders.delete_many({"item": "nut"}).deleted_count == 8
    with pytest.raises(DuplicateKeyError):
        orders.insert_one({"_id": 1})


def test_a_reader_reads_and_every_write_is_refused(
    shop: Database[dict[str, Any]], as_reader: Database[dict[str, Any]]
) -> None:
    shop.orders.insert_one({"_id": 1, "n": 1})
    orders = as_reader.orders
    assert orders.find_one({"_id": 1}) == {"_id": 1, "n": 1}
    assert orders.count_documents({}) == 1
    for call in (
        lambda: orders.insert_one({"_id": 2}),
        lambda: orders.insert_many([{"_id": 2}, {"_id": 3}]),
        lambda: orders.update_one({"_id": 1}, {"$set": {"n": 2}}),
        lambda: orders.update_one({"_id": 9}, {"$set": {"n": 2}}, upsert=True),
        lambda: orders.delete_one({"_id": 1}),
        lambda: orders.find_one_and_delete({"_id": 1}),
        lambda: orders.drop(),
        lambda: orders.create_index("n"),
        lambda: orders.rename("stolen"),
        lambda: orders.aggregate([{"$out": "copy"}]),
        lambda: orders.aggregate([{"$merge": {"into": "copy"}}]),
        lambda: orders.bulk_write([InsertOne({"_id": 5})]),
        lambda: as_reader.create_collection("new"),
        lambda: as_reader.client.drop_database("shop"),
    ):
        refused(call)
    assert shop.orders.find_one() == {"_id": 1, "n": 1}
    assert shop.list_collection_names() == ["orders"]


def test_a_user_of_one_collection_reads_that_collection_only(
    guard: Guard, shop: Database[dict[str, Any]]
) -> None:
    shop.orders.insert_one({"_id": 1})
    shop.customers.insert_one({"_id": 1})
    with guard.client("orders_only") as client:
        assert client.shop.orders.find_one() == {"_id": 1}
        refused(lambda: client.shop.customers.find_one())
        refused(lambda: client.shop.orders.aggregate([{"$unionWith": "customers"}]))
        refused(
            lambda: client.shop.orders.aggregate(
                [{"$facet": {"a": [{"$lookup": {"from": "customers", "pipeline": [], "as": "c"}}]}}]
            )
        )


def test_aggregation_with_lookup_and_out_runs(shop: Database[dict[str, Any]]) -> None:
    shop.orders.insert_many([{"_id": i, "customer": i % 3, "total": i} for i in range(30)])
    shop.customers.insert_many([{"_id": i, "name": f"c{i}"} for i in range(3)])
    pipeline: list[dict[str, Any]] = [
        {"$lookup": {"from": "customers", "localField": "customer", "foreignField": "_id", "as": "who"}},
        {"$unwind": "$who"},
        {"$group": {"_id": "$who.name", "sum": {"$sum": "$total"}}},
        {"$out": "totals"},
    ]
    shop.orders.aggregate(pipeline)
    assert shop.totals.count_documents({}) == 3
    assert shop.totals.find_one({"_id": "c0"})["sum"] == sum(range(0, 30, 3))  # type: ignore[index]
    refused(lambda: shop.orders.aggregate([{"$out": {"db": "elsewhere", "coll": "stolen"}}]))
    refused(lambda: shop.orders.aggregate([{"$merge": {"into": {"db": "elsewhere", "coll": "stolen"}}}]))


def test_bulk_writes_are_carried_out_and_report_their_errors(shop: Database[dict[str, Any]]) -> None:
    result = shop.orders.bulk_write(
        [InsertOne({"_id": i}) for i in range(5000)]
        + [UpdateOne({"_id": 1}, {"$set": {"a": 1}}), DeleteOne({"_id": 2})],
        ordered=False,
    )
    assert (result.inserted_count, result.modified_count, result.deleted_count) == (5000, 1, 1)
    with pytest.raises(BulkWriteError) as caught:
        shop.orders.bulk_write([InsertOne({"_id": 1}), InsertOne({"_id": 9001})], ordered=False)
    assert caught.value.details["nInserted"] == 1


def test_a_cursor_of_many_batches_is_read_to_its_end(shop: Database[dict[str, Any]]) -> None:
    shop.orders.insert_many([{"_id": i, "pad": "x" * 1000} for i in range(3000)])
    assert [d["_id"] for d in shop.orders.find(batch_size=100).sort("_id")] == list(range(3000))
    assert len(list(shop.orders.aggregate([{"$match": {}}], batchSize=7))) == 3000
    with shop.orders.find(batch_size=2) as cursor:
        next(cursor)  # closed early: killCursors


def test_messages_of_many_megabytes_pass(shop: Database[dict[str, Any]]) -> None:
    pad = "y" * (15 * 1024 * 1024)
    shop.orders.insert_one({"_id": 1, "pad": pad})
    shop.orders.insert_many([{"_id": i, "pad": pad[: 5 * 1024 * 1024]} for i in range(2, 11)])
    assert shop.orders.find_one({"_id": 1})["pad"] == pad  # type: ignore[index]
    assert sum(len(d["pad"]) for d in shop.orders.find({"_id": {"$gt": 1}})) == 9 * 5 * 1024 * 1024


def test_indexes_are_made_listed_and_dropped(
    shop: Database[dict[str, Any]], as_reader: Database[dict[str, Any]]
) -> None:
    shop.orders.insert_one({"a": 1})
    assert shop.orders.create_index([("a", 1)]) == "a_1"
    assert set(as_reader.orders.index_information()) == {"_id_", "a_1"}
    refused(lambda: as_reader.orders.drop_index("a_1"))
    shop.orders.drop_index("a_1")
    assert set(shop.orders.index_information()) == {"_id_"}


def test_gridfs_stores_and_reads_files(
    shop: Database[dict[str, Any]], as_reader: Database[dict[str, Any]]
) -> None:
    content = bytes(range(256)) * 8192
    file_id = gridfs.GridFS(shop).put(content, filename="f")
    assert gridfs.GridFS(as_reader).get(file_id).read() == content
    refused(lambda: gridfs.GridFS(as_reader).put(b"no", filename="g"))


def test_unacknowledged_writes_are_done_if_allowed_and_dropped_if_not(
    shop: Database[dict[str, Any]], as_reader: Database[dict[str, Any]]
) -> None:
    shop.orders.insert_one({"_id": 0})
    silent = WriteConcern(w=0)
    shop.orders.with_options(write_concern=silent).insert_one({"_id": 1})
    shop.orders.with_options(write_concern=silent).insert_many([{"_id": 2}, {"_id": 3}])
    assert shop.orders.count_documents({}) == 4  # in order, on the same connection
    as_reader.orders.with_options(write_concern=silent).insert_one({"_id": 4})
    assert as_reader.orders.count_documents({}) == 4  # the connection lives on, nothing was written


def test_sessions_are_used_and_ended(shop: Database[dict[str, Any]]) -> None:
    with shop.client.start_session(causal_consistency=True) as session:
        shop.orders.insert_one({"_id": 1}, session=session)
        assert shop.orders.find_one({}, session=session) == {"_id": 1}
    shop.client.admin.command("endSessions", [])
    assert shop.client.admin.command("refreshSessions", [])["ok"] == 1


def test_a_transaction_commits_and_another_aborts(guard_replica_set: Guard) -> None:
    with guard_replica_set.client("app") as client:
        orders = client.shop.orders
        client.shop.drop_collection("orders")
        orders.insert_one({"_id": 0})
        with client.start_session() as session:
            with session.start_transaction():
                orders.insert_one({"_id": 1}, session=session)
                assert orders.count_documents({}, session=session) == 2
                assert orders.find_one({"_id": 1}) is None
            with session.start_transaction():
                orders.insert_one({"_id": 2}, session=session)
                session.abort_transaction()
            assert (
                session.with_transaction(lambda s: orders.insert_one({"_id": 3}, session=s).inserted_id) == 3
            )
        assert [d["_id"] for d in orders.find().sort("_id")] == [0, 1, 3]


def test_a_refused_write_does_not_abort_the_transaction(guard_replica_set: Guard) -> None:
    with guard_replica_set.client("app") as client, client.start_session() as session:
        client.shop.drop_collection("orders")
        client.shop.orders.insert_one({"_id": 0})
        session.start_transaction()
        client.shop.orders.insert_one({"_id": 1}, session=session)
        refused(lambda: client.elsewhere.t.insert_one({"_id": 1}, session=session))
        session.commit_transaction()
        assert client.shop.orders.count_documents({}) == 2


def test_a_change_stream_tells_of_changes(guard_replica_set: Guard) -> None:
    with guard_replica_set.client("app") as client:
        client.shop.drop_collection("orders")
        client.shop.create_collection("orders")
        with client.shop.orders.watch(max_await_time_ms=500) as stream:
            client.shop.orders.insert_one({"_id": 1})
            change = next(stream)
            assert change["fullDocument"] == {"_id": 1}
            token = stream.resume_token
        client.shop.orders.insert_one({"_id": 2})
        with client.shop.orders.watch(resume_after=token) as stream:
            assert next(stream)["documentKey"] == {"_id": 2}
        refused(lambda: client.watch().__enter__())
        refused(lambda: client.elsewhere.watch().__enter__())


def test_a_user_sees_only_the_databases_it_has_rights_in(
    guard: Guard, shop: Database[dict[str, Any]]
) -> None:
    shop.orders.insert_one({})
    with guard.client() as root:
        root.elsewhere.t.insert_one({})
        assert {"admin", "elsewhere", "shop"} <= set(root.list_database_names())
    for user in ("app", "reader", "orders_only"):
        with guard.client(user) as client:
            assert client.list_database_names() == ["shop"]
            (only,) = client.list_databases()
            assert only["name"] == "shop"
            assert only["sizeOnDisk"] > 0
    with guard.client("nobody") as client:
        assert client.list_database_names() == []
        refused(lambda: client.admin.command("listDatabases", authorizedDatabases=False))


def test_a_user_sees_only_the_collections_it_has_rights_on(
    guard: Guard, shop: Database[dict[str, Any]]
) -> None:
    for i in range(150):
        shop.create_collection(f"c{i}")
    shop.orders.insert_one({})
    with guard.client("orders_only") as client:
        assert client.shop.list_collection_names(authorizedCollections=True) == ["orders"]
        refused(lambda: client.shop.list_collection_names())
        refused(lambda: list(client.shop.list_collections()))
    assert len(shop.list_collection_names()) == 151


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_both_scram_mechanisms_log_in_and_a_wrong_password_does_not(guard: Guard, mechanism: str) -> None:
    with guard.client("app", authMechanism=mechanism) as client:
        assert client.admin.command("connectionStatus")["authInfo"]["authenticatedUsers"] == [
            {"user": "app", "db": "admin"}
        ]
    for user, password in (("app", "wrong"), ("no such user", "x"), ("app", "App-pw")):
        with guard.client(user, password, authMechanism=mechanism) as client:
            with pytest.raises(OperationFailure, match=r"Authentication failed") as caught:
                client.admin.command("ping")
            assert caught.value.code == 18


def test_whoever_has_one_mechanism_only_logs_in_without_naming_it(guard: Guard) -> None:
    """A driver that is told no mechanism begins with SCRAM-SHA-256 in its hello, which also asks for the user's."""
    mechanisms = ("SCRAM-SHA-1", "SCRAM-SHA-256")
    with guard.client() as root:
        try:
            for mechanism in mechanisms:
                root.admin.command(
                    "createUser", mechanism, pwd=f"{mechanism}-pw", roles=[], mechanisms=[mechanism]
                )
            for mechanism in mechanisms:
                with guard.client(mechanism) as client:
                    assert client.admin.command("ping")["ok"] == 1.0
                other = mechanisms[mechanism == mechanisms[0]]
                with (
                    guard.client(mechanism, authMechanism=other) as client,
                    pytest.raises(OperationFailure, match=r"Authentication failed"),
                ):
                    client.admin.command("ping")
        finally:
            for mechanism in mechanisms:
                root.admin.command("dropUser", mechanism)


def test_users_made_through_mongoguard_log_in_at_once_and_lose_their_rights_at_once(guard: Guard) -> None:
    with guard.client() as root:
        root.shop.orders.insert_one({})
        root.shop.command("createUser", "temp", pwd="temp-pw", roles=["read"])
        try:
            with guard.client("temp", authSource="shop") as temp:
                assert temp.shop.orders.find_one() is not None
                root.shop.command("revokeRolesFromUser", "temp", roles=["read"])
                refused(lambda: temp.shop.orders.find_one())
                root.shop.command("grantRolesToUser", "temp", roles=["readWrite"])
                temp.shop.orders.insert_one({})
                refused(lambda: temp.shop.command("createUser", "evil", pwd="x", roles=["dbOwner"]))
        finally:
            root.shop.command("dropUser", "temp")
        with guard.client("temp", authSource="shop") as gone, pytest.raises(OperationFailure) as caught:
            gone.shop.orders.find_one()
        assert caught.value.code == 18


def test_a_dropped_user_is_logged_out_on_live_connections(guard: Guard) -> None:
    with guard.client() as root:
        root.shop.command("createUser", "temp", pwd="temp-pw", roles=["read"])
        with guard.client("temp", authSource="shop") as temp:
            temp.shop.orders.find_one()
            root.shop.command("dropUser", "temp")
            with pytest.raises(OperationFailure) as caught:
                temp.shop.orders.find_one()
            assert (caught.value.code, "requires authentication" in str(caught.value)) == (13, True)


def test_a_change_made_directly_upstream_holds_within_the_interval(guard: Guard) -> None:
    # a name of its own: that "temp" does not exist may still be remembered from another test
    with guard.upstream.client() as direct, guard.client() as root:
        direct.shop.command("createUser", "temp2", pwd="temp2-pw", roles=["read"])
        try:
            root.shop.orders.insert_one({})
            with guard.client("temp2", authSource="shop") as temp:
                assert temp.shop.orders.find_one() is not None
                direct.shop.command("revokeRolesFromUser", "temp2", roles=["read"])
                deadline = time.monotonic() + 10
                while time.monotonic() < deadline:
                    try:
                        temp.shop.orders.find_one()
                    except OperationFailure as error:
                        assert error.code == UNAUTHORIZED
                        return
                    time.sleep(0.25)
                pytest.fail("the revoked role still held after 10 s")
        finally:
            direct.shop.command("dropUser", "temp2")


def test_the_async_client_does_the_same(guard: Guard) -> None:
    async def run() -> None:
        async with AsyncMongoClient(guard.uri("app")) as client:
            orders = client.shop.async_orders
            await orders.delete_many({})
            await orders.insert_many([{"_id": i} for i in range(500)])
            found = [d["_id"] async for d in orders.find(batch_size=50).sort("_id")]
            assert found == list(range(500))
            results = await asyncio.gather(*(orders.find_one({"_id": i}) for i in range(200)))
            assert [r["_id"] for r in results if r] == list(range(200))
            with pytest.raises(OperationFailure) as caught:
                await client.elsewhere.t.find_one()
            assert caught.value.code == UNAUTHORIZED

    asyncio.run(run())


@pytest.mark.parametrize("compressor", ["zlib", "snappy", "zstd"])
def test_compressed_traffic_is_served_and_checked(guard: Guard, compressor: str) -> None:
    with guard.client("app", compressors=compressor) as client:
        client.shop.packed.drop()
        client.shop.packed.insert_many([{"_id": i, "pad": "z" * 2000} for i in range(500)])
        assert len(list(client.shop.packed.find(batch_size=100))) == 500
        refused(lambda: client.elsewhere.t.find_one())


def test_hello_names_no_upstream_host(guard: Guard) -> None:
    with MongoClient(guard.uri("app")) as client:
        hello = client.admin.command("hello")
        assert str(guard.upstream.port) not in str(hello)
        assert not {"hosts", "me", "primary", "setName"} & set(hello)
        assert ("msg" in hello) == (guard.upstream.replica_set is not None)
