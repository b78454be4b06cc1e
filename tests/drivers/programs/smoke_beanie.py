"""What an application does with Beanie. Usage: smoke_beanie.py URI WRONG_URI set|standalone"""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from typing import Annotated

from beanie import BulkWriter, Document, Indexed, init_beanie
from features_async import every_deployment, of_a_set, refusal
from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError, OperationFailure


class Person(Document):
    """A model with a unique field."""

    name: Annotated[str, Indexed(unique=True)]
    born: int

    class Settings:
        """Where the models are kept."""

        name = "smoke_people"


async def main(uri: str, wrong_uri: str, deployment: str) -> None:
    """All parts, in order."""
    print(f"version: {version('beanie')}")
    client: AsyncMongoClient = AsyncMongoClient(uri, serverSelectionTimeoutMS=10_000)
    for name in await client.shop.list_collection_names():
        if name.startswith("smoke_"):
            await client.shop.drop_collection(name)
    await init_beanie(database=client.shop, document_models=[Person])
    await Person.insert_many([Person(name=f"p{n}", born=n) for n in range(300)])
    try:
        await Person(name="p1", born=0).insert()
    except DuplicateKeyError as error:
        print("duplicate:", error.code)
    await Person.find(Person.born < 10).update({"$inc": {"born": 1}})
    print(
        "crud:",
        (await Person.find_one(Person.name == "p1")).born,
        await Person.find(Person.born > 290).count(),
    )
    print("cursors:", len([person async for person in Person.find(batch_size=20)]))
    print("aggregation:", await Person.find(Person.born < 5).sum(Person.born))
    async with BulkWriter() as writer:
        await Person.find_one(Person.name == "p2").update({"$set": {"born": 7}}, bulk_writer=writer)
        await Person.find_one(Person.name == "p3").delete(bulk_writer=writer)
    print("bulk:", await Person.count())
    print("indexes:", sorted(await Person.get_pymongo_collection().index_information()))
    if deployment == "set":
        async with client.start_session() as session:
            async with await session.start_transaction():
                await Person(name="kept", born=0).insert(session=session)
            await session.start_transaction()
            await Person(name="lost", born=0).insert(session=session)
            await session.abort_transaction()
        print("transactions:", await Person.count())
    try:
        await client.vault.secrets.find_one()
    except OperationFailure as error:
        print("denied:", error.code, str(error)[:70])
    print("denied write:", await refusal(client.vault.secrets.insert_one({})))
    # Beanie leaves cursors, streams and sessions to PyMongo
    await client.shop.smoke_numbers.insert_many([{"_id": n} for n in range(500)])
    await every_deployment(AsyncMongoClient, client.shop)
    if deployment == "set":
        await of_a_set(AsyncMongoClient, client, client.shop)
    await client.close()
    async with AsyncMongoClient(wrong_uri, serverSelectionTimeoutMS=10_000) as client:
        try:
            await init_beanie(database=client.shop, document_models=[Person])
        except OperationFailure as error:
            print("wrong password:", error.code)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
