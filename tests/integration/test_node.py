"""The Node driver through mongoguard: an application with just the rights it needs, and its twin without them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pymongo.errors import OperationFailure

from tests.node_clients import ClientFailed, NodeClients
from tests.rawwire import MORE_TO_COME, RawConnection, op_msg
from tests.servers import Guard, password_of

DB = "node_app"


@pytest.fixture
def developer(guard: Guard) -> Iterator[str]:
    """A user who may read, write and drop the database DB, and nothing else."""
    with guard.client() as root:
        root.drop_database(DB)
        roles = [{"role": role, "db": DB} for role in ("readWrite", "dbAdmin")]
        root.admin.command("createUser", "developer", pwd=password_of("developer"), roles=roles)
        try:
            yield "developer"
        finally:
            root.admin.command("dropUser", "developer")
            root.drop_database(DB)


def test_an_application_needs_read_write_and_db_admin_of_its_own_database(
    guard: Guard, developer: str, node_clients: NodeClients
) -> None:
    found = node_clients.node("node_smoke.js", guard.uri(developer), DB)
    assert found["crud"] == 2
    assert found["cursors"] == 1000
    assert found["aggregation"] == 2
    assert found["bulkWrite"] == [1, 1, 1, 1]
    assert found["session"] == 1
    assert found["indexes"] == ["_id_", "name_1"]
    assert found["gridFS"] == 10
    assert found["unacknowledged"] is True
    assert found.get("transactions") == ([6, 4] if guard.upstream.replica_set else None)
    assert found.get("changeStream") == ("insert" if guard.upstream.replica_set else None)


@pytest.mark.parametrize("user", ["reader", "app", "nobody"])
def test_an_application_without_rights_on_its_database_is_refused(
    guard: Guard, node_clients: NodeClients, user: str
) -> None:
    with pytest.raises(ClientFailed, match=rf"not authorized on {DB} to execute command"):
        node_clients.node("node_smoke.js", guard.uri(user), DB)
    with guard.upstream.client() as direct:
        assert DB not in direct.list_database_names()


def test_a_wrong_password_is_told_as_mongod_tells_it(guard: Guard, node_clients: NodeClients) -> None:
    with pytest.raises(ClientFailed, match=r"MongoServerError: Authentication failed\.") as refused:
        node_clients.node("node_smoke.js", guard.uri("app", "not-the-password"), "shop")
    assert "code: 18" in str(refused.value)
    assert "not-the-password" not in str(refused.value)


def test_end_sessions_with_more_to_come_gets_no_reply_and_ends_the_session(guard: Guard) -> None:
    """How the Node driver says goodbye: an endSessions that nobody waits for."""
    with RawConnection(guard.address) as raw, guard.upstream.client() as direct:
        raw.log_in("app", password_of("app"))
        lsid = raw.command("admin", {"startSession": 1})["id"]
        assert raw.command("shop", {"find": "orders", "lsid": lsid})["ok"] == 1
        raw.send(op_msg({"endSessions": [lsid], "$db": "admin"}, flags=MORE_TO_COME, request_id=77))
        answer = raw.exchange(op_msg({"ping": 1, "$db": "admin"}, request_id=78))
        assert (answer.response_to, answer.document["ok"]) == (78, 1)
        direct.admin.command("refreshLogicalSessionCacheNow")  # what a server does every five minutes
        found = list(direct.admin.aggregate([{"$listLocalSessions": {"allUsers": True}}]))
        assert lsid["id"] not in [session["_id"]["id"] for session in found]


def test_a_user_made_without_roles_gets_nothing_from_the_driver(guard: Guard) -> None:
    with guard.client("nobody") as client, pytest.raises(OperationFailure) as refused:
        client[DB].t.find_one()
    assert refused.value.code == 13
