"""mongosh through mongoguard, scripted and at a terminal: what a person types, and what they read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.node_clients import ClientFailed, MongoshTerminal, NodeClients
from tests.servers import Guard, Mongod


@pytest.fixture
def orders(guard: Guard) -> Guard:
    """The guard, with the collections orders and customers in shop."""
    with guard.upstream.client() as direct:
        direct.drop_database("shop")
        direct.shop.orders.insert_many([{"_id": 1, "item": "tea"}, {"_id": 2, "item": "nut"}])
        direct.shop.customers.insert_one({"_id": 1})
        direct.elsewhere.t.replace_one({"_id": 1}, {"_id": 1}, upsert=True)
    return guard


def shop(server: Guard | Mongod, user: str) -> str:
    """The connection string that opens shop."""
    return server.uri(user, authSource="admin").replace("/?", "/shop?")


def answer(clients: NodeClients, uri: str, expression: str) -> Any:
    """The value of a JavaScript expression."""
    return json.loads(clients.mongosh(uri, f"print(EJSON.stringify({expression}))"))


def test_a_script_works_as_the_user_who_may(orders: Guard, node_clients: NodeClients) -> None:
    found = answer(
        node_clients,
        shop(orders, "app"),
        "[db.orders.insertOne({_id: 3}).acknowledged, db.orders.countDocuments({}), db.getName(), "
        "db.orders.find().sort({_id: 1}).toArray().map(d => d._id)]",
    )
    assert found == [True, 3, "shop", [1, 2, 3]]


@pytest.mark.parametrize("user", ["reader", "orders_only"])
def test_show_dbs_and_show_collections_hold_what_the_user_may_see(
    orders: Guard, node_clients: NodeClients, user: str
) -> None:
    # What `show dbs` and `show collections` send: --eval takes JavaScript only.
    expression = (
        "[db.adminCommand({listDatabases: 1, nameOnly: true}).databases.map(d => d.name), "
        "db.runCommand({listCollections: 1, nameOnly: true, authorizedCollections: true})"
        ".cursor.firstBatch.map(c => c.name).sort()]"
    )
    expected = {"reader": [["shop"], ["customers", "orders"]], "orders_only": [["shop"], ["orders"]]}
    assert answer(node_clients, shop(orders, user), expression) == expected[user]


def test_show_collections_is_refused_to_who_has_nothing_there(
    orders: Guard, node_clients: NodeClients
) -> None:
    listing = "db.runCommand({listCollections: 1, nameOnly: true, authorizedCollections: true})"
    caught = f"try {{ {listing}; print('allowed') }} catch (e) {{ print(e.code) }}"
    guarded = node_clients.mongosh(shop(orders, "nobody"), caught)
    assert guarded == node_clients.mongosh(shop(orders.upstream, "nobody"), caught)


REFUSED = [
    "db.orders.insertOne({_id: 9, item: \"a 'quoted' text\"})",
    "db.orders.deleteMany({})",
    "db.orders.aggregate([{$out: 'copy'}])",
    "db.createUser({user: 'evil', pwd: 'canary-pw', roles: ['dbOwner']})",
    "db.getSiblingDB('elsewhere').t.find().toArray()",
    "db.adminCommand({shutdown: 1})",
    "db.adminCommand({noSuchCommand: 1})",
]


def test_refused_commands_print_what_mongod_prints(orders: Guard, node_clients: NodeClients) -> None:
    script = "\n".join(
        f"try {{ {command}; print('allowed') }} catch (e) {{ print(e.code + ' ' + e.codeName + ' ' + e.errmsg) }}"
        for command in REFUSED
    )
    plain = _without_ids(node_clients.mongosh(shop(orders.upstream, "reader"), script))
    guarded = _without_ids(node_clients.mongosh(shop(orders, "reader"), script))
    assert guarded == plain
    assert len(guarded) == len(REFUSED)
    assert "allowed" not in guarded
    assert "canary-pw" not in str(guarded)


def _without_ids(text: str) -> list[str]:
    """Session ids and cluster times differ from run to run; what comes before them tells enough."""
    return [line.partition(", lsid:")[0] for line in text.strip().splitlines()]


def test_a_refused_script_ends_with_a_status(guard_standalone: Guard, node_clients: NodeClients) -> None:
    with pytest.raises(ClientFailed, match=r"ended with 1:[^$]*not authorized on shop to execute command"):
        node_clients.mongosh(shop(guard_standalone, "reader"), "db.orders.drop()")


def test_a_wrong_password_ends_mongosh_with_a_status(
    guard_standalone: Guard, node_clients: NodeClients
) -> None:
    with pytest.raises(ClientFailed, match=r"MongoServerError: Authentication failed\."):
        node_clients.mongosh(guard_standalone.uri("app", "wrong"), "1")


# ---- at a terminal --------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(orders: Guard, node_clients: NodeClients) -> Iterator[MongoshTerminal]:
    """mongosh at a terminal, as app."""
    opened = node_clients.mongosh_terminal(orders.uri("app", authSource="admin"))
    try:
        yield opened
    finally:
        opened.kill()


def test_a_person_works_at_a_terminal(terminal: MongoshTerminal) -> None:
    assert "Using MongoDB" in terminal.greeting
    listed = terminal.run("show dbs")
    assert "shop" in listed
    assert "elsewhere" not in listed
    assert "admin" not in listed
    assert "switched to db shop" in terminal.run("use shop")
    listed = terminal.run("show collections")
    assert "orders" in listed
    assert "customers" in listed
    assert "acknowledged: true" in terminal.run("db.orders.insertOne({_id: 3, item: 'lamp'})")
    assert "lamp" in terminal.run("db.orders.find({_id: 3})")
    assert "modifiedCount: 1" in terminal.run("db.orders.updateOne({_id: 3}, {$set: {item: 'desk'}})")
    assert "deletedCount: 1" in terminal.run("db.orders.deleteOne({_id: 3})")
    assert "not authorized on elsewhere" in terminal.run("db.getSiblingDB('elsewhere').t.find()")
    assert "orders" in terminal.run("show tables"), "the terminal goes on after a refusal"
    assert terminal.close() == 0


def test_the_tab_key_completes_names_and_breaks_nothing(terminal: MongoshTerminal) -> None:
    terminal.run("use shop")
    assert "db.orders" in terminal.press("db.ord\t", r"db\.orders")
    assert "tea" in terminal.run(".find({_id: 1})")
    assert "42" in terminal.run("6 * 7")
    assert terminal.close() == 0


def test_the_tab_key_breaks_nothing_for_who_may_list_nothing(
    guard_standalone: Guard, node_clients: NodeClients
) -> None:
    terminal = node_clients.mongosh_terminal(shop(guard_standalone, "nobody"))
    try:
        assert "db.orders" not in terminal.press("db.ord\t", r"db\.ord")
        terminal.run("")
        assert "42" in terminal.run("6 * 7")
        assert terminal.close() == 0
    finally:
        terminal.kill()


def test_a_reader_at_a_terminal_reads_and_is_told_why_not_to_write(
    orders: Guard, node_clients: NodeClients
) -> None:
    terminal = node_clients.mongosh_terminal(shop(orders, "reader"))
    try:
        assert "tea" in terminal.run("db.orders.find()")
        told = terminal.run("db.orders.drop()")
        assert 'not authorized on shop to execute command { drop: "orders"' in told
        assert "tea" in terminal.run("db.orders.find()")
        assert terminal.close() == 0
    finally:
        terminal.kill()
