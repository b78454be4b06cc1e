"""What an application does with PyMongo, 3.11 to the newest. Usage: smoke.py URI WRONG_URI set|standalone

Prints a line for each part, in the form that all programs of this folder share: its name, a colon, what was found.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import pymongo
from features import every_deployment, of_a_set, refusal, say
from pymongo import DeleteOne, InsertOne, MongoClient, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure


def crud(db: Any) -> None:
    """Insert, update, delete, count, distinct, find-and-modify."""
    people = db.smoke_people
    people.insert_one({"_id": 1, "name": "Ada", "born": 1815})
    people.insert_many(
        [{"_id": 2, "name": "Grace", "born": 1906}, {"_id": 3, "name": "Edsger", "born": 1930}]
    )
    updated = people.update_one({"_id": 1}, {"$set": {"field": "mathematics"}}).modified_count
    found = people.find_one_and_update({"_id": 2}, {"$inc": {"born": 1}}, return_document=True)
    deleted = people.delete_one({"_id": 3}).deleted_count
    names = sorted(people.distinct("name"))
    say(
        "crud",
        updated,
        found["born"],
        deleted,
        people.count_documents({}),
        people.estimated_document_count(),
        names,
    )


def duplicate(db: Any) -> None:
    """A duplicate key: the code, and the text that names collection and key."""
    try:
        db.smoke_people.insert_one({"_id": 1})
    except DuplicateKeyError as error:
        say("duplicate", error.code, str(error).split(", full error")[0])


def cursors(db: Any) -> None:
    """A cursor over ten batches, and one that is left early."""
    db.smoke_numbers.insert_many([{"_id": n, "pad": "x" * 100} for n in range(500)])
    seen = [document["_id"] for document in db.smoke_numbers.find().sort("_id", 1).batch_size(50)]
    left = db.smoke_numbers.find().batch_size(5)
    next(left)
    left.close()
    say("cursors", len(seen), seen == list(range(500)))


def aggregation(db: Any) -> None:
    """$lookup and $group; $out."""
    db.smoke_orders.insert_many([{"_id": n, "person": 1 + n % 2, "total": n} for n in range(10)])
    pipeline: list[dict[str, Any]] = [
        {"$lookup": {"from": "smoke_people", "localField": "person", "foreignField": "_id", "as": "who"}},
        {"$unwind": "$who"},
        {"$group": {"_id": "$who.name", "total": {"$sum": "$total"}}},
        {"$sort": {"_id": 1}},
    ]
    totals = list(db.smoke_orders.aggregate(pipeline))
    db.smoke_orders.aggregate([*pipeline, {"$out": "smoke_totals"}])
    say("aggregation", totals, db.smoke_totals.count_documents({}))


def indexes(db: Any) -> None:
    """Make, list and drop an index."""
    db.smoke_people.create_index("name", unique=True)
    names = sorted(db.smoke_people.index_information())
    db.smoke_people.drop_index("name_1")
    say("indexes", names, sorted(db.smoke_people.index_information()))


def bulk(db: Any) -> None:
    """Mixed writes, and a batch of which one write fails."""
    done = db.smoke_bulk.bulk_write(
        [
            InsertOne({"_id": 1, "n": 1}),
            UpdateOne({"_id": 2}, {"$set": {"n": 2}}, upsert=True),
            UpdateOne({"_id": 1}, {"$inc": {"n": 1}}),
            DeleteOne({"_id": 2}),
        ]
    )
    say("bulk", done.inserted_count, done.upserted_count, done.modified_count, done.deleted_count)
    try:
        db.smoke_bulk.insert_many([{"_id": n} for n in range(3)], ordered=False)
    except BulkWriteError as error:
        say(
            "bulk errors",
            error.details["nInserted"],
            [wrong["code"] for wrong in error.details["writeErrors"]],
        )


def session(client: Any, db: Any) -> None:
    """Read one's own write in a session."""
    with client.start_session(causal_consistency=True) as own:
        db.smoke_session.insert_one({"_id": 1}, session=own)
        say("session", db.smoke_session.count_documents({}, session=own))


def transactions(client: Any, db: Any) -> None:
    """One that is committed, one that is aborted."""
    db.smoke_accounts.insert_many([{"_id": "a", "balance": 10}, {"_id": "b", "balance": 0}])
    with client.start_session() as own:

        def move(session: Any) -> None:
            db.smoke_accounts.update_one({"_id": "a"}, {"$inc": {"balance": -4}}, session=session)
            db.smoke_accounts.update_one({"_id": "b"}, {"$inc": {"balance": 4}}, session=session)

        own.with_transaction(move)
        own.start_transaction()
        db.smoke_accounts.delete_many({}, session=own)
        own.abort_transaction()
    say("transactions", [account["balance"] for account in db.smoke_accounts.find().sort("_id", 1)])


def change_stream(db: Any) -> None:
    """An event, and the next one after the stream is resumed."""
    with db.smoke_people.watch(max_await_time_ms=200) as stream:
        db.smoke_people.insert_one({"_id": 10})
        db.smoke_people.delete_one({"_id": 10})
        first = next(stream)
        token = stream.resume_token
    with db.smoke_people.watch(resume_after=token, max_await_time_ms=200) as stream:
        say("change stream", first["operationType"], next(stream)["operationType"])


def unacknowledged(db: Any) -> None:
    """A write that asks for no answer arrives all the same."""
    quick = db.get_collection("smoke_quick", write_concern=pymongo.WriteConcern(w=0))
    quick.insert_one({"_id": 1})
    waited = threading.Event()
    for _ in range(200):
        if db.smoke_quick.count_documents({}):
            break
        waited.wait(0.02)
    say("unacknowledged", db.smoke_quick.count_documents({}))


def denied(client: Any) -> None:
    """What the user may not read, and may not do."""
    try:
        client.vault.secrets.find_one({"a": 1})
    except OperationFailure as error:
        say("denied", error.code, str(error)[:80])
    try:
        client.admin.command("serverStatus")
    except OperationFailure as error:
        say("denied command", error.code, str(error)[:60])
    say("denied write", refusal(lambda: client.vault.secrets.insert_one({})))


def wrong_password(uri: str) -> None:
    """A wrong password is told as such."""
    with MongoClient(uri, serverSelectionTimeoutMS=10_000) as client:
        try:
            client.shop.smoke_people.find_one()
        except OperationFailure as error:
            say("wrong password", error.code, str(error).split(", full error")[0])


def main(uri: str, wrong_uri: str, deployment: str) -> None:
    """All parts, in order."""
    print(f"version: {pymongo.version}")
    with MongoClient(uri, serverSelectionTimeoutMS=10_000) as client:
        db = client.shop
        for name in db.list_collection_names():
            if name.startswith("smoke_"):
                db.drop_collection(name)
        crud(db)
        duplicate(db)
        cursors(db)
        aggregation(db)
        indexes(db)
        bulk(db)
        session(client, db)
        if deployment == "set":
            transactions(client, db)
            change_stream(db)
            of_a_set(client, uri, db)
        every_deployment(db)
        unacknowledged(db)
        denied(client)
        say("databases", client.list_database_names())
        say("collections", sorted(db.list_collection_names(filter={"name": {"$regex": "^smoke_"}})))
    wrong_password(wrong_uri)


if __name__ == "__main__":
    main(*sys.argv[1:4])
