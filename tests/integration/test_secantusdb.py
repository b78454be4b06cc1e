"""In front of a server that is not mongod: SecantusDB, a separate process, with mongoguard's own users and roles.

It speaks the protocol of 8.2, reads no `$audit` and keeps sessions by their ids alone, so what mongoguard does without
impersonation is all that keeps its users apart.
"""

from __future__ import annotations

import base64
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
import yaml
from bson import Binary
from pymongo import InsertOne
from pymongo.errors import BulkWriteError, ClientBulkWriteException, OperationFailure, PyMongoError

from mongoguard.authn.scram import SCRAM_SHA_256, derive_credentials
from tests.missing import require_program
from tests.rawwire import RawConnection
from tests.servers import ChildServer, Guard, connection_string, password_of

SERVICE = "mongoguard"


class SecantusDB(ChildServer):
    """A SecantusDB, which says that it is a replica set of one, with logins; the service user is its only user."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "secantusdb.log")
        self._binary = require_program(
            "secantusd-py", "pip install SecantusDB", [str(Path(sys.executable).parent)]
        )
        self.upstream_uri: str | None = connection_string(self.address, SERVICE, None, {})

    def start(self, *arguments: str) -> SecantusDB:
        data = str(self.directory / "data")
        config = self.directory / "secantusd.toml"
        config.touch()
        self._spawn(
            [
                *(self._binary, "--config", str(config), "--storage-path", data),
                *("--host", "127.0.0.1", "--port", str(self.port), "--cache-size", "128M", *arguments),
            ]
        )
        return self

    def wait(self) -> SecantusDB:
        with pymongo.MongoClient(self.uri(None, serverSelectionTimeoutMS="500")) as client:
            for _ in self._poll():
                with contextlib.suppress(PyMongoError):
                    client.admin.command("hello")
                    break
        return self

    def uri(self, user: str | None = SERVICE, password: str | None = None, **options: str) -> str:
        return connection_string(self.address, user, password, {"directConnection": "true", **options})

    def client(self, user: str | None = SERVICE, password: str | None = None, **options: str) -> Any:
        return pymongo.MongoClient(self.uri(user, password, **options))


def user(name: str, *roles: dict[str, str]) -> dict[str, Any]:
    """An entry of the users file."""
    made = derive_credentials(SCRAM_SHA_256, name, password_of(name), b"a salt of as many as 28 byte", 4096)
    binary = {"salt": made.salt, "storedKey": made.stored_key, "serverKey": made.server_key}
    credentials = {
        "iterationCount": made.iteration_count,
        **{key: base64.b64encode(value).decode() for key, value in binary.items()},
    }
    return {"user": name, "db": "admin", "credentials": {"SCRAM-SHA-256": credentials}, "roles": list(roles)}


USERS = [
    user("alice", {"role": "readWrite", "db": "shop"}),
    user("bob", {"role": "readWrite", "db": "shop"}),
    user("reader", {"role": "read", "db": "shop"}),
]


@pytest.fixture(scope="module")
def secantusdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecantusDB]:
    server = SecantusDB(tmp_path_factory.mktemp("secantusdb"))
    try:
        server.start().wait()
        with server.client(None) as client:
            client.admin.command("createUser", SERVICE, pwd=password_of(SERVICE), roles=["root"])
        server.stop()
        yield server.start("--auth").wait()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def guard(secantusdb: SecantusDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    directory = tmp_path_factory.mktemp("guard_secantusdb")
    users = directory / "users.yaml"
    users.write_text(yaml.safe_dump({"users": USERS}))
    security = {"userDirectory": "file", "userFile": str(users)}
    guard = Guard(directory, secantusdb, {"security": security})
    try:
        yield guard.start().wait()
    finally:
        guard.stop()


@pytest.fixture
def shop(guard: Guard) -> Iterator[Any]:
    with guard.client("alice") as client:
        for name in client.shop.list_collection_names():
            client.shop.drop_collection(name)
        yield client.shop


def code_of(call: Any) -> int | None:
    with pytest.raises(OperationFailure) as caught:
        call()
    return caught.value.code


def test_mongoguard_says_that_the_upstream_does_not_impersonate(guard: Guard) -> None:
    assert "the upstream refuses impersonation" in guard.log


def test_documents_are_written_read_changed_and_counted(shop: Any) -> None:
    shop.people.insert_many([{"_id": 1, "name": "Ada"}, {"_id": 2, "name": "Grace"}])
    assert shop.people.update_one({"_id": 1}, {"$set": {"seen": True}}).modified_count == 1
    assert shop.people.find_one_and_delete({"_id": 2}) == {"_id": 2, "name": "Grace"}
    assert list(shop.people.find()) == [{"_id": 1, "name": "Ada", "seen": True}]
    assert shop.people.count_documents({}) == 1
    assert code_of(lambda: shop.people.insert_one({"_id": 1})) == 11000
    with pytest.raises(BulkWriteError) as caught:
        shop.people.insert_many([{"_id": 1}, {"_id": 3}], ordered=False)
    assert caught.value.details["nInserted"] == 1
    shop.people.create_index("name", unique=True)
    assert "name_1" in shop.people.index_information()


def test_a_cursor_of_many_batches_is_read_to_its_end_and_another_closed(shop: Any) -> None:
    shop.numbers.insert_many([{"_id": n} for n in range(500)])
    assert [one["_id"] for one in shop.numbers.find().sort("_id", 1).batch_size(30)] == list(range(500))
    totals = shop.numbers.aggregate(
        [{"$group": {"_id": {"$mod": ["$_id", 100]}, "n": {"$sum": 1}}}], batchSize=10
    )
    assert sum(one["n"] for one in totals) == 500
    left = shop.numbers.find().batch_size(2)
    next(left)
    left.close()


def test_sessions_work_and_end(shop: Any) -> None:
    with shop.client.start_session() as session:
        shop.people.insert_one({"_id": 1}, session=session)
        assert shop.people.count_documents({}, session=session) == 1


def test_a_transaction_is_committed_and_another_aborted(shop: Any) -> None:
    with shop.client.start_session() as session:
        with session.start_transaction():
            shop.people.insert_one({"_id": 1}, session=session)
        session.start_transaction()
        shop.people.insert_one({"_id": 2}, session=session)
        session.abort_transaction()
    assert list(shop.people.find()) == [{"_id": 1}]


def test_a_change_stream_tells_of_changes(shop: Any) -> None:
    shop.create_collection("people")
    with shop.people.watch(max_await_time_ms=500) as stream:
        shop.people.insert_one({"_id": 1})
        assert next(stream)["documentKey"] == {"_id": 1}


def test_writes_to_several_collections_at_once_need_rights_in_each(shop: Any) -> None:
    """bulkWrite, which mongod has since 8.0."""
    client = shop.client
    done = client.bulk_write([InsertOne({"_id": 1}, "shop.one"), InsertOne({"_id": 2}, "shop.two")])
    assert done.inserted_count == 2
    with pytest.raises(ClientBulkWriteException) as caught:
        client.bulk_write([InsertOne({}, "shop.one"), InsertOne({}, "vault.two")])
    assert isinstance(caught.value.error, OperationFailure)
    assert caught.value.error.code == 13
    assert shop.one.count_documents({}) == 1


def test_a_reader_reads_and_is_refused_everything_else(guard: Guard, shop: Any) -> None:
    shop.people.insert_one({"_id": 1})
    with guard.client("reader") as client:
        assert client.shop.people.find_one() == {"_id": 1}
        assert code_of(lambda: client.shop.people.insert_one({})) == 13
        assert code_of(lambda: client.vault.secrets.find_one()) == 13
        assert code_of(lambda: client.shop.people.aggregate([{"$out": "stolen"}])) == 13
        assert code_of(lambda: client.admin.command("shutdown")) == 13
        assert code_of(lambda: client.admin.command("usersInfo", 1)) == 115
    assert shop.list_collection_names() == ["people"]


def test_the_upstreams_own_user_does_not_log_in_here_nor_ours_there(
    guard: Guard, secantusdb: SecantusDB
) -> None:
    with guard.client(SERVICE) as client:
        assert code_of(lambda: client.shop.command("ping")) == 18
    with guard.client("alice", "wrong") as client:
        assert code_of(lambda: client.shop.command("ping")) == 18
    with secantusdb.client("alice") as client:
        assert code_of(lambda: client.shop.people.find_one()) == 18


def test_one_user_neither_reads_nor_kills_the_cursor_of_another(guard: Guard, shop: Any) -> None:
    shop.numbers.insert_many([{"_id": n} for n in range(50)])
    opened = shop.command("find", "numbers", batchSize=2)["cursor"]
    with guard.client("bob") as client:
        assert code_of(lambda: client.shop.command("getMore", opened["id"], collection="numbers")) == 13
        killed = client.shop.command("killCursors", "numbers", cursors=[opened["id"]], check=False)
        assert not killed.get("cursorsKilled")
    rest = shop.command("getMore", opened["id"], collection="numbers")["cursor"]["nextBatch"]
    assert len(opened["firstBatch"]) + len(rest) == 50


def test_a_session_id_of_one_user_is_another_session_in_the_hands_of_another(guard: Guard) -> None:
    """SecantusDB knows a session by its id alone: mongoguard makes the id the user's own."""
    with RawConnection(guard.address) as alice, RawConnection(guard.address) as bob:
        alice.log_in("alice", password_of("alice"))
        bob.log_in("bob", password_of("bob"))
        session = {"id": Binary(b"one id, two user", 4)}
        assert alice.command("shop", {"insert": "numbers", "documents": [{} for _ in range(9)]})["ok"] == 1
        opened = alice.command("shop", {"find": "numbers", "batchSize": 1, "lsid": session})["cursor"]
        assert opened["id"]
        assert bob.command("admin", {"endSessions": [session]})["ok"] == 1
        more = {"getMore": opened["id"], "collection": "numbers", "lsid": session}
        assert bob.command("shop", more)["code"] == 13
        assert alice.command("shop", more)["ok"] == 1
