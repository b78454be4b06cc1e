"""mongosh and the Node driver against a real mongod: the scripts pass there, so a failure elsewhere is not theirs."""

from __future__ import annotations

import pytest

from tests.node_clients import ClientFailed, NodeClients
from tests.servers import Mongod


def test_the_node_driver_smoke_passes_on_a_standalone_server(
    standalone: Mongod, node_clients: NodeClients
) -> None:
    found = node_clients.node("node_smoke.js", standalone.uri(), "node_direct")
    assert found["cursors"] == 1000
    assert found["unacknowledged"] is True
    assert "transactions" not in found


def test_the_node_driver_smoke_passes_on_a_replica_set(
    replica_set: Mongod, node_clients: NodeClients
) -> None:
    found = node_clients.node("node_smoke.js", replica_set.uri(), "node_direct")
    assert found["transactions"] == [6, 4]
    assert found["changeStream"] == "insert"


def test_the_node_driver_smoke_fails_without_a_login(standalone: Mongod, node_clients: NodeClients) -> None:
    with pytest.raises(ClientFailed, match="requires authentication"):
        node_clients.node("node_smoke.js", standalone.uri(user=None), "node_direct")


def test_the_mongosh_script_passes_on_a_standalone_server(
    standalone: Mongod, node_clients: NodeClients
) -> None:
    uri = standalone.uri(authSource="admin").replace("/?", "/mongosh_direct?")
    found = node_clients.mongosh_file(uri, "mongosh_smoke.js")
    assert found["prices"] == [4, 4]
    assert found["duplicate"] == 11000


def test_mongosh_evaluates_and_fails_with_an_exit_status(
    standalone: Mongod, node_clients: NodeClients
) -> None:
    assert node_clients.mongosh(standalone.uri(), "6 * 7").strip() == "42"
    with pytest.raises(ClientFailed, match="Authentication failed"):
        node_clients.mongosh(standalone.uri(password="wrong"), "db.hello()")


def test_mongosh_answers_at_a_terminal(standalone: Mongod, node_clients: NodeClients) -> None:
    terminal = node_clients.mongosh_terminal(standalone.uri())
    try:
        assert "Using MongoDB" in terminal.greeting
        assert "42" in terminal.run("6 * 7")
        assert "admin" in terminal.run("show dbs")
        assert "root" in terminal.run("db.runCommand({connectionStatus: 1}).authInfo")
        assert terminal.close() == 0
    finally:
        terminal.kill()
