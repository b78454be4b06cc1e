"""What an application does with PyMongo's asynchronous API or Motor. Usage: smoke_async.py URI WRONG_URI set|standalone"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import pymongo
from features_async import every_deployment, maybe, of_a_set, refusal
from pymongo.errors import DuplicateKeyError, OperationFailure


def _client_class(which: str) -> Any:
    if which == "motor":
        import motor
        from motor.motor_asyncio import AsyncIOMotorClient

        print(f"version: {motor.version} with PyMongo {pymongo.version}")
        return AsyncIOMotorClient
    from pymongo import AsyncMongoClient

    print(f"version: {pymongo.version}")
    return AsyncMongoClient


async def _documents(client: Any, db: Any) -> None:
    await db.smoke_people.insert_many(
        [{"_id": n, "name": name} for n, name in enumerate(("Ada", "Grace", "Edsger"))]
    )
    updated = await db.smoke_people.update_many({}, {"$set": {"seen": True}})
    print("crud:", updated.modified_count, await db.smoke_people.count_documents({"seen": True}))
    try:
        await db.smoke_people.insert_one({"_id": 1})
    except DuplicateKeyError as error:
        print("duplicate:", error.code)
    await db.smoke_numbers.insert_many([{"_id": n} for n in range(500)])
    print("cursors:", sum([1 async for _ in db.smoke_numbers.find().batch_size(50)]))
    many = await asyncio.gather(*(db.smoke_numbers.find_one({"_id": n}) for n in range(100)))
    print("at once:", [document["_id"] for document in many] == list(range(100)))
    totals = await maybe(db.smoke_numbers.aggregate([{"$group": {"_id": None, "sum": {"$sum": "$_id"}}}]))
    print("aggregation:", await totals.to_list(10))
    await db.smoke_people.create_index("name", unique=True)
    print("indexes:", sorted(await db.smoke_people.index_information()))
    done = await db.smoke_bulk.bulk_write([pymongo.InsertOne({"_id": 1}), pymongo.DeleteOne({"_id": 1})])
    print("bulk:", done.inserted_count, done.deleted_count)
    async with await maybe(client.start_session()) as session:
        await db.smoke_session.insert_one({"_id": 1}, session=session)
        print("session:", await db.smoke_session.count_documents({}, session=session))


async def _of_a_set(client: Any, db: Any) -> None:
    async with await maybe(client.start_session()) as session:
        async with await maybe(session.start_transaction()):
            await db.smoke_accounts.insert_one({"_id": "kept"}, session=session)
        await maybe(session.start_transaction())
        await db.smoke_accounts.insert_one({"_id": "lost"}, session=session)
        await session.abort_transaction()
    print("transactions:", [account["_id"] async for account in db.smoke_accounts.find()])
    async with await maybe(db.smoke_people.watch(max_await_time_ms=200)) as stream:
        # Motor opens the stream at the first look
        assert await stream.try_next() is None
        await db.smoke_people.insert_one({"_id": 10})
        print("change stream:", (await stream.next())["operationType"])


async def main(uri: str, wrong_uri: str, deployment: str) -> None:
    """All parts, in order."""
    make = _client_class(os.environ.get("SMOKE_ASYNC_API", "pymongo"))
    client = make(uri, serverSelectionTimeoutMS=10_000)
    db = client.shop
    for name in await db.list_collection_names():
        if name.startswith("smoke_"):
            await db.drop_collection(name)
    await _documents(client, db)
    if deployment == "set":
        await _of_a_set(client, db)
        await of_a_set(make, client, db)
    await every_deployment(make, db)
    try:
        await client.vault.secrets.find_one()
    except OperationFailure as error:
        print("denied:", error.code, str(error)[:70])
    print("denied write:", await refusal(client.vault.secrets.insert_one({})))
    await maybe(client.close())
    client = make(wrong_uri, serverSelectionTimeoutMS=10_000)
    try:
        await client.shop.smoke_people.find_one()
    except OperationFailure as error:
        print("wrong password:", error.code)
    await maybe(client.close())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
