"""What PyMongo can do beyond CRUD, 3.11 to the newest; smoke.py runs it. Each part prints one line, as all programs do.

What makes a server fail once is told to the deployment itself, as its administrator (DRIVER_ADMIN_URI): the tested user
may not.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
from pymongo import CursorType, MongoClient, ReadPreference
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

__all__ = ["every_deployment", "of_a_set", "refusal", "say"]


def say(part: str, *found: Any) -> None:
    """One line of the result."""
    print(f"{part}: {' '.join(str(value) for value in found)}")


@contextlib.contextmanager
def failing_once(command: str) -> Iterator[None]:
    """The server closes the connection on which the command comes, once."""
    with MongoClient(os.environ["DRIVER_ADMIN_URI"]) as admin:
        data = {"failCommands": [command], "closeConnection": True}
        before = admin.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=data)
        try:
            yield
        finally:
            after = admin.admin.command("configureFailPoint", "failCommand", mode="off")
        # what came too late to fail has shown nothing
        assert after["count"] > before["count"], f"{command} has not failed"


def refusal(call: Callable[[], Any]) -> Any:
    """The code of the error, or that there was none."""
    try:
        call()
    except OperationFailure as error:
        return error.code
    except PyMongoError as error:
        return type(error).__name__
    return "allowed"


def every_deployment(db: Any) -> None:
    """What a standalone server can do, too."""
    tailable(db)
    compression_and_exhaust()
    if pymongo.version_tuple >= (3, 12):
        stable_api()


def of_a_set(client: Any, uri: str, db: Any) -> None:
    """What a replica set adds."""
    retries(uri, db)
    with_transaction(client, db)
    refused_in_a_transaction(client, db)
    resumed(client, db)
    causal(client, db)
    if pymongo.version_tuple >= (3, 12):
        snapshot(client, db)


def tailable(db: Any) -> None:
    """A cursor that waits at the end of a capped collection, and goes on when there is more."""
    capped = db.create_collection("smoke_capped", capped=True, size=100_000)
    capped.insert_one({"_id": 1})
    cursor = capped.find(cursor_type=CursorType.TAILABLE_AWAIT).max_await_time_ms(5000)
    first = next(cursor)["_id"]
    writer = threading.Timer(0.3, capped.insert_one, [{"_id": 2}])
    writer.start()
    say("tailable", first, next(cursor)["_id"], cursor.alive)
    writer.join()
    cursor.close()


def compression_and_exhaust() -> None:
    """Over a relay that says whether messages were compressed, and replies came unasked."""
    with MongoClient(os.environ["DRIVER_OVERHEARD_URI"]) as client:
        numbers = client.shop.smoke_numbers
        say("compression", len(list(numbers.find(batch_size=100))))
        # 3.11 asks for it with OP_QUERY, which mongod 6.0 has no more
        if "exhaust" not in os.environ["DRIVER_LACKS"] and pymongo.version_tuple >= (4,):
            cursor = numbers.find(cursor_type=CursorType.EXHAUST, batch_size=50)
            say("exhaust", sum(document["_id"] for document in cursor))


def stable_api() -> None:
    """Strict: what is in the API works, what is not is refused (323), and so is what the user may not (13)."""
    from pymongo.server_api import ServerApi

    api = ServerApi("1", strict=True, deprecation_errors=True)
    with MongoClient(os.environ["DRIVER_URI"], server_api=api) as client:
        capped = client.shop.smoke_capped
        found = capped.find_one({"_id": 1})["_id"]
        refused = refusal(lambda: capped.distinct("_id"))
        say("stable API", found, refused, refusal(lambda: client.vault.secrets.find_one()))


def retries(uri: str, db: Any) -> None:
    """A read and a write are tried again when the connection is lost; without retryable writes the write is lost."""
    kept = db.smoke_retries
    with failing_once("insert"):
        kept.insert_one({"_id": 1})
    with failing_once("find"):
        found = kept.find_one({"_id": 1})["_id"]
    with MongoClient(uri, retryWrites=False) as client, failing_once("insert"):
        try:
            client.shop.smoke_retries.insert_one({"_id": 2})
            lost = "written"
        except ConnectionFailure as error:
            lost = type(error).__name__
    say("retries", kept.count_documents({}), found, lost)


def with_transaction(client: Any, db: Any) -> None:
    """Called again when a write was lost, committed again when the commit was, and never when the callback fails."""
    db.smoke_accounts.drop()
    db.create_collection("smoke_accounts")
    calls: list[int] = []

    def move(session: Any) -> None:
        calls.append(1)
        db.smoke_accounts.insert_one({"_id": len(calls)}, session=session)

    with client.start_session() as own:
        with failing_once("insert"):
            own.with_transaction(move)
        tried = len(calls)
        with failing_once("commitTransaction"):
            own.with_transaction(move)
        say(
            "with transaction",
            tried,
            len(calls),
            [one["_id"] for one in db.smoke_accounts.find().sort("_id", 1)],
        )


def refused_in_a_transaction(client: Any, db: Any) -> None:
    """What the user may not do in one is refused with 13, as outside; with the rest of it both ends do the same."""
    with client.start_session() as own:
        own.start_transaction()
        db.smoke_accounts.insert_one({"_id": "before"}, session=own)
        read = refusal(lambda: client.vault.secrets.find_one({}, session=own))
        write = refusal(lambda: client.vault.secrets.insert_one({}, session=own))
        end = refusal(own.commit_transaction)
    say("denied in a transaction", read, write, end, db.smoke_accounts.count_documents({"_id": "before"}))


def resumed(client: Any, db: Any) -> None:
    """A stream whose connection is lost goes on where it was; of another database there is none."""
    with db.smoke_watched.watch(max_await_time_ms=500) as stream:
        db.smoke_watched.insert_one({"_id": 1})
        first = next(stream)["documentKey"]["_id"]
        with failing_once("getMore"):
            db.smoke_watched.insert_one({"_id": 2})
            second = next(stream)["documentKey"]["_id"]
    watched = refusal(lambda: client.vault.secrets.watch(max_await_time_ms=10).try_next())
    say("resumed", first, second, watched)


def causal(client: Any, db: Any) -> None:
    """A session reads its own majority write, wherever it reads."""
    strong = db.get_collection(
        "smoke_causal",
        read_concern=ReadConcern("majority"),
        write_concern=WriteConcern("majority"),
        read_preference=ReadPreference.SECONDARY_PREFERRED,
    )
    with client.start_session(causal_consistency=True) as own:
        strong.insert_one({"_id": 1}, session=own)
        found = strong.find_one({}, session=own)
        say("causal", found["_id"], own.operation_time is not None, own.cluster_time is not None)


def snapshot(client: Any, db: Any) -> None:
    """A snapshot session sees one moment, and may not write."""
    strong = db.get_collection("smoke_snapshot", write_concern=WriteConcern("majority"))
    strong.insert_many([{"_id": n} for n in range(10)])
    with client.start_session(snapshot=True) as own:
        before = strong.count_documents({}, session=own)
        strong.delete_many({})
        again = len(list(strong.find({}, session=own, batch_size=3)))
        denied = refusal(lambda: client.vault.secrets.find_one({}, session=own))
        say("snapshot", before, again, strong.count_documents({}), denied)
