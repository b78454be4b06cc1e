"""A client with a real driver: PyMongo in a thread of its own, one user, one database.

In: where to connect to, and a seed. Out: events. Every reply is checked by the client's ledger.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pymongo
from pymongo import CursorType
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from tests.chaos.events import Breach, Event, Outcome, Report
from tests.chaos.ledger import Ledger
from tests.servers import connection_string

__all__ = ["ClientPlan", "DriverClient", "database_of"]

Client: TypeAlias = "pymongo.MongoClient[dict[str, Any]]"

READ_FIELDS = {"owner": 1, "stamp": 1, "filling": 1}

NEWEST = 60
"""A query asks for so many of the newest documents: its batches are a few hundred kilobytes in all."""

RENEW_SESSION_EVERY = 200
"""Operations in one session: sessions begin and end during a storm too."""

DRIVER_OPTIONS: Mapping[str, tuple[Mapping[str, str], float]] = {
    # one deadline for an operation with all its retries
    "timeoutMS": ({"timeoutMS": "3000", "compressors": "zlib"}, 3.0),
    # deadlines of single steps: selection, connecting, four exchanges of a login, the exchange itself; and all again
    "socketTimeoutMS": (
        {
            "serverSelectionTimeoutMS": "3000",
            "connectTimeoutMS": "1500",
            "socketTimeoutMS": "1500",
            "waitQueueTimeoutMS": "1500",
        },
        24.0,
    ),
}
"""Two ways to set deadlines, and how long a command may take at most with each (seconds). One of them compresses."""


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """One client: its name is its user's. `forbidden` is another client, whose database it must never touch."""

    name: str
    kind: str
    address: str
    direct_address: str
    password: str
    forbidden: str
    replica_set: bool
    seed: int
    options: Mapping[str, str] = field(default_factory=dict)
    """What a driver's connection string needs beside, for mongoguard and for the upstream itself."""
    direct_options: Mapping[str, str] = field(default_factory=dict)


_STEPS = {"query": 20, "exhaust": 20, "transaction": 4, "watch": 12}
"""Operations of several commands: so many at most."""


def database_of(client: str) -> str:
    """The database that a client has for itself."""
    return f"chaos_{client}"


class DriverClient:
    """Does random operations until told to stop, then looks whether everything is there."""

    def __init__(self, plan: ClientPlan, report: Report, stop: threading.Event) -> None:
        """Prepare; `run` is the thread's."""
        self._plan = plan
        self._report = report
        self._stop = stop
        self._random = random.Random(f"{plan.seed}/{plan.name}")
        self._options, self._limit_secs = DRIVER_OPTIONS[plan.kind]
        self._ledger = Ledger(plan.name)
        self._tokens = itertools.count(1)
        concern = "majority" if plan.replica_set else "local"
        self._read_concern = ReadConcern(concern)
        # acknowledged is what outlives a kill -9: journaled, by a majority where there is one
        self._write_concern = (
            WriteConcern("majority", wtimeout=2000) if plan.replica_set else WriteConcern(1, j=True)
        )
        self._session: ClientSession | None = None
        operations: list[tuple[int, str, Callable[[Client], None]]] = [
            (10, "insert", self._insert),
            (10, "read", self._read),
            (4, "query", self._query),
            (4, "count", self._count),
            (4, "log", self._log),
            (1, "read log", self._read_log),
            (2, "insert many", self._insert_many),
            (3, "forbidden", self._forbidden),
            (1, "who am I", self._who_am_i),
            (1, "own operations", self._own_operations),
        ]
        if plan.replica_set:
            operations += [(2, "transaction", self._transaction), (1, "watch", self._watch)]
        else:
            operations.append((2, "exhaust", self._exhaust))
        self._operations = operations

    def run(self) -> None:
        """The whole life of this client."""
        with self._connect(self._plan.address, **self._plan.options) as client:
            while not self._stop.is_set():
                for _ in range(RENEW_SESSION_EVERY):
                    if self._stop.is_set():
                        break
                    self._one(client)
                    self._stop.wait(self._random.uniform(0.01, 0.04))
                self._end_session()
            self._settle(client, "settled")
        with self._connect(self._plan.direct_address, **self._plan.direct_options) as direct:
            self._settle(direct, "settled directly")

    def _connect(self, address: str, **options: str) -> Client:
        plan = self._plan
        if not plan.replica_set:
            # PyMongo 4.20 sends transaction numbers to a standalone server after a login that timed out, and is refused
            options["retryWrites"] = "false"
        return pymongo.MongoClient(
            connection_string(address, plan.name, plan.password, {**self._options, **options})
        )

    def _one(self, client: Client) -> None:
        weights = [weight for weight, _, _ in self._operations]
        ((_, kind, operation),) = self._random.choices(self._operations, weights)
        steps = _STEPS.get(kind, 1)
        with self._report.operation(self._plan.name, kind, self._limit_secs * steps):
            if self._session is None:
                self._session = client.start_session(causal_consistency=self._plan.replica_set)
            operation(client)

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.end_session()
            self._session = None

    def _collection(self, client: Client, name: str) -> Any:
        database = client[database_of(self._plan.name)]
        return database.get_collection(
            name, read_concern=self._read_concern, write_concern=self._write_concern
        )

    def _token(self) -> str:
        return f"{self._plan.name}-{next(self._tokens)}"

    # ---- operations -------------------------------------------------------------------------------------------------

    def _insert(self, client: Client) -> None:
        number = self._ledger.new_number()
        document = self._ledger.try_insert(number)
        done = self._collection(client, "documents").insert_one(document, session=self._session)
        if done.inserted_id != number or not done.acknowledged:
            raise Breach(f"inserted {done.inserted_id} instead of {number}")
        self._ledger.inserted(number)

    def _insert_many(self, client: Client) -> None:
        numbers = [self._ledger.new_number() for _ in range(5)]
        documents = [self._ledger.try_insert(number) for number in numbers]
        done = self._collection(client, "documents").insert_many(documents, session=self._session)
        if done.inserted_ids != numbers:
            raise Breach(f"inserted {done.inserted_ids} instead of {numbers}")
        for number in numbers:
            self._ledger.inserted(number)

    def _known(self) -> list[int]:
        known = sorted(self._ledger.there | self._ledger.open)
        return known[-NEWEST:]

    def _read(self, client: Client) -> None:
        known = self._known()
        if not known:
            return
        number, token = self._random.choice(known), self._token()
        found = self._collection(client, "documents").find_one(
            {"_id": number}, {**READ_FIELDS, "echo": {"$literal": token}}, session=self._session
        )
        self._ledger.check_read(number, found, token)

    def _query(self, client: Client) -> None:
        known = self._known()
        if known:
            self._read_range(client, known[0], known[-1], self._session)

    def _exhaust(self, client: Client) -> None:
        known = self._known()
        if known:
            self._read_range(client, known[0], known[-1], None, CursorType.EXHAUST)

    def _read_range(
        self,
        client: Client,
        first: int,
        last: int,
        session: ClientSession | None,
        cursor_type: int = CursorType.NON_TAILABLE,
    ) -> None:
        token = self._token()
        cursor = self._collection(client, "documents").find(
            {"_id": {"$gte": first, "$lte": last}},
            {**READ_FIELDS, "echo": {"$literal": token}},
            sort=[("_id", 1)],
            batch_size=7,
            cursor_type=cursor_type,
            session=session,
        )
        with cursor:
            self._ledger.check_range(first, last, cursor, token)

    def _watch(self, client: Client) -> None:
        """A change stream brings the inserts that follow, each once and in their order, wherever it has to be resumed."""
        documents = self._collection(client, "documents")
        wanted = [self._ledger.new_number() for _ in range(3)]
        found: list[int] = []
        with documents.watch(session=self._session, max_await_time_ms=200) as changes:
            for number in wanted:
                documents.insert_one(self._ledger.try_insert(number), session=self._session)
                self._ledger.inserted(number)
            for _ in range(8):
                change = changes.try_next()
                if change is not None:
                    found.append(self._ledger.check_change(change, database_of(self._plan.name)))
                if found[-1:] == wanted[-1:]:
                    break
        # Writes that nobody acknowledged may still come from before; what was acknowledged comes in order, and once.
        seen = [number for number in found if number in wanted]
        if seen != wanted[: len(seen)] or len(set(found)) < len(found):
            raise Breach(f"changes {found} of the inserts {wanted}")

    def _count(self, client: Client) -> None:
        self._ledger.try_count()
        found = self._collection(client, "state").find_one_and_update(
            {"_id": "counter"},
            {"$inc": {"value": 1}},
            return_document=pymongo.ReturnDocument.AFTER,
            session=self._session,
        )
        if found is None or found["owner"] != self._plan.name:
            raise Breach(f"another's counter: {found}")
        self._ledger.counted(found["value"])

    def _log(self, client: Client) -> None:
        number = self._ledger.new_number()
        self._ledger.try_log(number)
        done = self._collection(client, "state").update_one(
            {"_id": "log"}, {"$push": {"entries": number}}, session=self._session
        )
        if done.matched_count != 1:
            raise Breach(f"the log matched {done.matched_count} times")
        self._ledger.has_logged(number)

    def _read_log(self, client: Client, session: ClientSession | None = None) -> None:
        state = self._collection(client, "state")
        found = state.find_one({"_id": "log"}, session=session or self._session)
        if found is None or found["owner"] != self._plan.name:
            raise Breach(f"another's log: {str(found)[:200]}")
        self._ledger.check_log(found["entries"])

    def _transaction(self, client: Client) -> None:
        number = self._ledger.new_number()
        session = self._session
        assert session is not None
        with session.start_transaction(
            read_concern=ReadConcern("snapshot"), write_concern=self._write_concern
        ):
            for side in ("left", "right"):
                document = {"_id": number, "owner": self._plan.name}
                self._collection_in_transaction(client, side).insert_one(document, session=session)
            self._ledger.try_pair(
                number
            )  # from here on, what happens to the commit is not known without its answer
        self._ledger.has_paired(number)

    def _collection_in_transaction(self, client: Client, name: str) -> Any:
        return client[database_of(self._plan.name)][name]

    # ---- what it may not, and who it is -----------------------------------------------------------------------------

    def _forbidden(self, client: Client) -> None:
        others = client[database_of(self._plan.forbidden)]
        pipeline = [{"$out": {"db": others.name, "coll": "documents"}}]
        tries: list[Callable[[], Any]] = [
            lambda: others.documents.find_one({}, session=self._session),
            lambda: others.documents.insert_one({"owner": self._plan.name}, session=self._session),
            lambda: self._collection(client, "documents").aggregate(pipeline, session=self._session),
            lambda: client.admin.command("getLog", "global", session=self._session),
        ]
        try:
            found = self._random.choice(tries)()
        except OperationFailure as error:
            if error.code == 13:
                return
            raise
        raise Breach(f"what is forbidden was done: {str(found)[:300]}")

    def _who_am_i(self, client: Client) -> None:
        status = client.admin.command("connectionStatus", session=self._session)
        users = status["authInfo"]["authenticatedUsers"]
        if users != [{"user": self._plan.name, "db": "admin"}]:
            raise Breach(f"this connection is {users}")

    def _own_operations(self, client: Client) -> None:
        found = list(client.admin.aggregate([{"$currentOp": {}}], session=self._session))
        me = [{"user": self._plan.name, "db": "admin"}]
        # mongod forgets for moments whom it works for, and then knows an operation by its session alone.
        mine = hashlib.sha256(f"{self._plan.name}@admin".encode()).digest()
        others = [
            one for one in found if one.get("effectiveUsers") != me and one.get("lsid", {}).get("uid") != mine
        ]
        if others or not found:
            raise Breach(f"operations of others: {others}")

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _settle(self, client: Client, kind: str) -> None:
        """Everything is quiet now: look at everything, again and again until it is answered."""
        if self._session is not None:
            self._end_session()
        last = ""
        for _ in range(20):
            try:
                self._look_at_everything(client)
            except PyMongoError as error:
                last = str(error)
                if isinstance(error, OperationFailure) and error.code == 13:
                    self._end(kind, Outcome.BREACH, last)
                    return
                threading.Event().wait(0.5)
            except Breach as breach:
                self._end(kind, Outcome.BREACH, str(breach))
                return
            else:
                self._end(kind, Outcome.OK, f"{len(self._ledger.there)} documents")
                return
        self._end(kind, Outcome.BREACH, f"no answer after the storm: {last}")

    def _end(self, kind: str, outcome: Outcome, detail: str) -> None:
        self._report.add(Event(self._plan.name, kind, 0.0, 0.0, outcome, detail))

    def _look_at_everything(self, client: Client) -> None:
        ledger = self._ledger
        with client.start_session(causal_consistency=self._plan.replica_set) as session:
            numbers = ledger.there | ledger.open
            if numbers:
                self._read_range(client, min(numbers), max(numbers), session)
            self._read_log(client, session)
            state = self._collection(client, "state").find_one({"_id": "counter"}, session=session)
            if state is None:
                raise Breach("the counter is gone")
            ledger.check_counter(state["value"])
            strangers = self._collection(client, "documents").find_one(
                {"owner": {"$ne": self._plan.name}}, {"owner": 1}, session=session
            )
            if strangers is not None:
                raise Breach(f"somebody has written into another's database: {strangers}")
        if self._plan.replica_set:
            self._look_at_pairs(client)

    def _look_at_pairs(self, client: Client) -> None:
        with client.start_session() as session, session.start_transaction(ReadConcern("snapshot")):
            sides = [
                [one["_id"] for one in self._collection_in_transaction(client, side).find(session=session)]
                for side in ("left", "right")
            ]
        self._ledger.check_pairs(*sides)
