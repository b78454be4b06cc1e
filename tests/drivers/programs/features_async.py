"""What PyMongo's asynchronous API and Motor can do beyond CRUD; smoke_async.py and smoke_beanie.py run it.

What makes a server fail once is told to the deployment itself, as its administrator (DRIVER_ADMIN_URI): the tested user
may not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from pymongo import CursorType, MongoClient, ReadPreference
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.server_api import ServerApi
from pymongo.write_concern import WriteConcern

__all__ = ["every_deployment", "maybe", "of_a_set", "refusal"]


async def maybe(value: Any) -> Any:
    """Motor answers some calls at once that PyMongo wants awaited."""
    return await value if hasattr(value, "__await__") else value


@contextlib.asynccontextmanager
async def failing_once(command: str) -> AsyncIterator[None]:
    """The server closes the connection on which the command comes, once."""
    with MongoClient[Any](os.environ["DRIVER_ADMIN_URI"]) as admin:
        data = {"failCommands": [command], "closeConnection": True}
        before = admin.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=data)
        try:
            yield
        finally:
            after = admin.admin.command("configureFailPoint", "failCommand", mode="off")
        # what came too late to fail has shown nothing
        assert after["count"] > before["count"], f"{command} has not failed"


async def refusal(call: Awaitable[Any]) -> Any:
    """The code of the error, or that there was none."""
    try:
        await call
    except OperationFailure as error:
        return error.code
    except PyMongoError as error:
        return type(error).__name__
    return "allowed"


async def every_deployment(make: Any, db: Any) -> None:
    """What a standalone server can do, too. `make` makes a client."""
    capped = await db.create_collection("smoke_capped", capped=True, size=100_000)
    await capped.insert_one({"_id": 1})
    cursor = capped.find(cursor_type=CursorType.TAILABLE_AWAIT).max_await_time_ms(5000)
    first = (await anext(cursor))["_id"]
    waiting = asyncio.ensure_future(anext(cursor))
    await asyncio.sleep(0.3)
    await capped.insert_one({"_id": 2})
    print("tailable:", first, (await waiting)["_id"])
    await cursor.close()

    client = make(os.environ["DRIVER_OVERHEARD_URI"])
    numbers = client.shop.smoke_numbers
    print("compression:", await numbers.count_documents({}))
    if "exhaust" not in os.environ["DRIVER_LACKS"]:
        cursor = numbers.find(cursor_type=CursorType.EXHAUST, batch_size=50)
        print("exhaust:", sum([document["_id"] async for document in cursor]))
    await maybe(client.close())

    api = ServerApi("1", strict=True, deprecation_errors=True)
    client = make(os.environ["DRIVER_URI"], server_api=api)
    found = await client.shop.smoke_capped.find_one({"_id": 1})
    refused = await refusal(client.shop.smoke_capped.distinct("_id"))
    print("stable API:", found["_id"], refused, await refusal(client.vault.secrets.find_one()))
    await maybe(client.close())


async def of_a_set(make: Any, client: Any, db: Any) -> None:
    """What a replica set adds."""
    await _retries(make, db)
    await _with_transaction(client, db)
    await _refused_in_a_transaction(client, db)
    await _resumed(client, db)
    await _consistent(client, db)


async def _retries(make: Any, db: Any) -> None:
    async with failing_once("insert"):
        await db.smoke_retries.insert_one({"_id": 1})
    async with failing_once("find"):
        found = await db.smoke_retries.find_one({"_id": 1})
    once = make(os.environ["DRIVER_URI"], retryWrites=False)
    async with failing_once("insert"):
        try:
            await once.shop.smoke_retries.insert_one({"_id": 2})
            lost = "written"
        except ConnectionFailure as error:
            lost = type(error).__name__
    await maybe(once.close())
    print("retries:", await db.smoke_retries.count_documents({}), found["_id"], lost)


async def _with_transaction(client: Any, db: Any) -> None:
    calls: list[int] = []
    await db.create_collection("smoke_moved")

    async def move(session: Any) -> None:
        calls.append(1)
        await db.smoke_moved.insert_one({"_id": len(calls)}, session=session)

    async with await maybe(client.start_session()) as own:
        async with failing_once("insert"):
            await own.with_transaction(move)
        tried = len(calls)
        async with failing_once("commitTransaction"):
            await own.with_transaction(move)
    print(
        "with transaction:",
        tried,
        len(calls),
        [one["_id"] async for one in db.smoke_moved.find().sort("_id", 1)],
    )


async def _refused_in_a_transaction(client: Any, db: Any) -> None:
    async with await maybe(client.start_session()) as own:
        await maybe(own.start_transaction())
        await db.smoke_moved.insert_one({"_id": "before"}, session=own)
        read = await refusal(client.vault.secrets.find_one({}, session=own))
        write = await refusal(client.vault.secrets.insert_one({}, session=own))
        end = await refusal(own.commit_transaction())
    print(
        "denied in a transaction:", read, write, end, await db.smoke_moved.count_documents({"_id": "before"})
    )


async def _resumed(client: Any, db: Any) -> None:
    async with await maybe(db.smoke_watched.watch(max_await_time_ms=500)) as stream:
        await stream.try_next()  # Motor opens the stream at the first look
        await db.smoke_watched.insert_one({"_id": 1})
        first = await stream.next()
        async with failing_once("getMore"):
            await db.smoke_watched.insert_one({"_id": 2})
            second = await stream.next()

    async def elsewhere() -> None:
        async with await maybe(client.vault.secrets.watch(max_await_time_ms=10)) as strange:
            await strange.try_next()

    print("resumed:", first["documentKey"]["_id"], second["documentKey"]["_id"], await refusal(elsewhere()))


async def _consistent(client: Any, db: Any) -> None:
    majority = WriteConcern("majority")
    strong = db.get_collection(
        "smoke_causal",
        read_concern=ReadConcern("majority"),
        write_concern=majority,
        read_preference=ReadPreference.SECONDARY_PREFERRED,
    )
    async with await maybe(client.start_session(causal_consistency=True)) as own:
        await strong.insert_one({"_id": 1}, session=own)
        found = await strong.find_one({}, session=own)
        print("causal:", found["_id"], own.operation_time is not None, own.cluster_time is not None)
    strong = db.get_collection("smoke_snapshot", write_concern=majority)
    await strong.insert_many([{"_id": n} for n in range(10)])
    async with await maybe(client.start_session(snapshot=True)) as own:
        before = await strong.count_documents({}, session=own)
        await strong.delete_many({})
        again = len([one async for one in strong.find({}, session=own, batch_size=3)])
        denied = await refusal(client.vault.secrets.find_one({}, session=own))
        print("snapshot:", before, again, await strong.count_documents({}), denied)
