"""mongoguard as the other tests start it, and the clients' smoke scripts through it: what passes on mongod passes here."""

from __future__ import annotations

import pytest
from pymongo.errors import OperationFailure

from tests.node_clients import NodeClients
from tests.rawwire import RawConnection
from tests.servers import TEST_USERS, Guard, password_of


@pytest.mark.parametrize("user", ["root", *TEST_USERS])
def test_every_test_user_logs_in(guard: Guard, user: str) -> None:
    with guard.client(user) as client:
        status = client.admin.command("connectionStatus")
    assert status["authInfo"]["authenticatedUsers"] == [{"user": user, "db": "admin"}]


def test_a_wrong_password_is_refused(guard: Guard) -> None:
    with guard.client("app", "wrong") as client, pytest.raises(OperationFailure) as refused:
        client.admin.command("ping")
    assert refused.value.code == 18


def test_the_raw_client_logs_in_and_proves_the_server(guard: Guard) -> None:
    with RawConnection(guard.address) as raw:
        assert raw.command("shop", {"find": "orders"})["code"] == 13
        raw.log_in("reader", password_of("reader"))
        assert raw.command("shop", {"find": "orders"})["ok"] == 1
        assert raw.command("shop", {"insert": "orders", "documents": [{}]})["code"] == 13


def test_a_role_on_one_collection_opens_that_collection_alone(guard: Guard) -> None:
    with guard.client("orders_only") as client:
        client.shop.orders.find_one()
        with pytest.raises(OperationFailure) as refused:
            client.shop.customers.find_one()
    assert refused.value.code == 13


def test_the_node_driver_smoke_passes_as_root(guard: Guard, node_clients: NodeClients) -> None:
    found = node_clients.node("node_smoke.js", guard.uri(), "node_guarded")
    assert found["cursors"] == 1000
    assert found["unacknowledged"] is True
    if guard.upstream.replica_set:
        assert found["transactions"] == [6, 4]
        assert found["changeStream"] == "insert"


def test_the_mongosh_script_passes_as_root(guard: Guard, node_clients: NodeClients) -> None:
    uri = guard.uri(authSource="admin").replace("/?", "/mongosh_guarded?")
    found = node_clients.mongosh_file(uri, "mongosh_smoke.js")
    assert found["prices"] == [4, 4]
    assert found["user"] == ["root"]


def test_mongosh_answers_at_a_terminal(guard: Guard, node_clients: NodeClients) -> None:
    terminal = node_clients.mongosh_terminal(guard.uri("reader", authSource="admin").replace("/?", "/shop?"))
    try:
        assert "shop" in terminal.run("db.getName()")
        assert "reader" in terminal.run("db.runCommand({connectionStatus: 1}).authInfo")
        assert "not authorized" in terminal.run("db.orders.insertOne({})")
        assert terminal.close() == 0
    finally:
        terminal.kill()


def test_the_server_ends_in_good_order_on_sigterm(guard: Guard) -> None:
    other = Guard(guard.directory / "other", guard.upstream).start().wait()
    assert other.stop() == 0
    assert "listening on" in other.log
