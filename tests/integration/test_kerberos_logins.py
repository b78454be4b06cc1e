"""GSSAPI through a running mongoguard: real tickets, the real driver, and hand-made clients that cheat."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from tests.kerberos import Kdc
from tests.missing import require_module
from tests.node_clients import NodeClients
from tests.rawwire import RawConnection
from tests.servers import Guard, Mongod, run_mongoguard

EXTRA = "pip install 'mongoguard-proxy[kerberos-test]', with gcc and libkrb5-dev"
NO_LAYER = b"\1\0\0\0"
READER = [{"role": "read", "db": "shop"}]
EXPIRING = "expiring@EXAMPLE.TEST"


class KerberosGuard(Guard):
    """mongoguard in the test realm, without a key in its own environment."""

    realm: Kdc

    def start(self) -> KerberosGuard:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.realm.environment.items():
                patch.setenv(name, value)
            patch.setenv("KRB5_CONFIG", str(_punctual(self.realm, self.directory)))
            super().start()
        return self

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the audit log holds."""
        return [json.loads(line) for line in (self.directory / "audit.json").read_text().splitlines()]

    def wait_for_event(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first such event; it is written before the client is answered, a logout soon after."""
        for _ in self._poll():
            for event in self.events:
                if wanted(event):
                    return event
        raise AssertionError("unreachable: _poll raises")


def _punctual(kdc: Kdc, directory: Path) -> Path:
    """Clocks may differ by one second only, so that a login ends when its ticket does."""
    path = directory / "krb5.conf"
    path.write_text(
        kdc.configuration.read_text().replace("[libdefaults]\n", "[libdefaults]\nclockskew = 1\n")
    )
    return path


@pytest.fixture(scope="module")
def kerberos_guard(
    kdc: Kdc, standalone: Mongod, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KerberosGuard]:
    require_module("gssapi", EXTRA)
    require_module("kerberos", EXTRA)
    directory = tmp_path_factory.mktemp("kerberos_guard")
    with standalone.client() as client:
        for name in ("alice@EXAMPLE.TEST", EXPIRING):
            client["$external"].command("createUser", name, roles=READER)
    guard = KerberosGuard(
        directory,
        standalone,
        {
            "setParameter": {"authenticationMechanisms": "SCRAM-SHA-256,GSSAPI"},
            "security": {"sasl": {"keytab": str(kdc.service_keytab)}},
            "auditLog": {"destination": "file", "path": str(directory / "audit.json")},
        },
    )
    guard.realm = kdc
    try:
        yield guard.start().wait()
    finally:
        guard.stop()


@pytest.fixture
def as_user(kdc: Kdc, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives this process, and so the driver, a user's ticket."""
    for name, value in kdc.environment.items():
        monkeypatch.setenv(name, value)

    def use(user: str) -> None:
        monkeypatch.setenv("KRB5CCNAME", f"FILE:{kdc.ticket(user)}")

    return use


def driver(guard: Guard, user: str, **options: Any) -> pymongo.MongoClient[dict[str, Any]]:
    return pymongo.MongoClient(
        "localhost",
        guard.port,
        username=user,
        authMechanism="GSSAPI",
        serverSelectionTimeoutMS=5000,
        **options,
    )


def connected_user(client: pymongo.MongoClient[dict[str, Any]]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = client.admin.command("connectionStatus")["authInfo"]["authenticatedUsers"]
    return found


def test_a_driver_logs_in_by_a_ticket_and_has_the_roles_of_the_user_on_external(
    kerberos_guard: KerberosGuard, as_user: Callable[[str], None]
) -> None:
    as_user("alice")
    with driver(kerberos_guard, "alice@EXAMPLE.TEST") as client:
        assert connected_user(client) == [{"user": "alice@EXAMPLE.TEST", "db": "$external"}]
        assert client.shop.orders.find_one({"absent": 1}) is None
        with pytest.raises(OperationFailure) as caught:
            client.shop.orders.insert_one({})
        assert caught.value.code == 13


def test_a_ticket_of_somebody_who_is_no_user_is_refused(
    kerberos_guard: KerberosGuard, as_user: Callable[[str], None]
) -> None:
    as_user("bob")
    with driver(kerberos_guard, "bob@EXAMPLE.TEST") as client, pytest.raises(OperationFailure) as caught:
        client.admin.command("ping")
    assert (caught.value.code, caught.value.details["errmsg"]) == (18, "Authentication failed.")
    event = kerberos_guard.wait_for_event(lambda e: e["param"].get("user") == "bob@EXAMPLE.TEST")
    assert event["param"]["reason"] == "the ticket is right, and there is no such user on $external"


@pytest.mark.parametrize("name", ["alice", "bob@EXAMPLE.TEST", "root", "alice@OTHER.TEST"])
def test_a_driver_that_gives_another_name_than_its_tickets_is_refused(
    kerberos_guard: KerberosGuard, as_user: Callable[[str], None], name: str
) -> None:
    as_user("alice")
    with driver(kerberos_guard, name) as client, pytest.raises(OperationFailure) as caught:
        client.admin.command("ping")
    assert caught.value.code == 18


def test_a_driver_without_a_ticket_does_not_get_in(
    kerberos_guard: KerberosGuard,
    as_user: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    as_user("alice")
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/none")
    with driver(kerberos_guard, "alice@EXAMPLE.TEST") as client, pytest.raises(PyMongoError):
        client.admin.command("ping")


def test_a_connection_ends_with_its_ticket_and_a_new_ticket_makes_a_new_one(
    kdc: Kdc, kerberos_guard: KerberosGuard, as_user: Callable[[str], None]
) -> None:
    kdc.add_principal("expiring", life_seconds=8)
    as_user("expiring")
    # A driver whose login fails waits for the next heartbeat, as with mongod: 10 s unless it says otherwise.
    options = {"maxPoolSize": 1, "retryReads": False, "heartbeatFrequencyMS": 500}
    with driver(kerberos_guard, EXPIRING, **options) as client:
        assert connected_user(client)
        with pytest.raises(AutoReconnect):
            _ping_for(client, 30)
        with pytest.raises(PyMongoError):
            client.admin.command("ping")
        kdc.limit_tickets("expiring", 3600)
        as_user("expiring")
        assert connected_user(client) == [{"user": EXPIRING, "db": "$external"}]
    events = [e for e in kerberos_guard.events if e["users"] and e["users"][0]["user"] == EXPIRING]
    assert [(e["atype"], e["result"]) for e in events[:2]] == [("authenticate", 0), ("logout", 0)]


def _ping_for(client: pymongo.MongoClient[dict[str, Any]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        client.admin.command("ping")
        time.sleep(0.1)


class HandMade:
    """A client whose every message a test chooses; payloads are base64 strings, as pymongo sends them, or binary."""

    def __init__(self, guard: Guard, kdc: Kdc, user: str, *, in_text: bool = False) -> None:
        gssapi = require_module("gssapi", EXTRA)
        self.wire = RawConnection(guard.address)
        self.in_text = in_text
        ticket = gssapi.Credentials(usage="initiate", store={"ccache": f"FILE:{kdc.ticket(user)}"})
        service = gssapi.Name("mongodb@localhost", gssapi.NameType.hostbased_service)
        self.context = gssapi.SecurityContext(name=service, creds=ticket, usage="initiate")
        self.ticket: bytes = self.context.step()

    def start(self, payload: bytes, db: str = "$external") -> dict[str, Any]:
        body = {"saslStart": 1, "mechanism": "GSSAPI", "payload": self._form(payload)}
        return self.wire.command(db, body)

    def go_on(self, payload: bytes) -> dict[str, Any]:
        body = {"saslContinue": 1, "conversationId": 1, "payload": self._form(payload)}
        return self.wire.command("$external", body)

    def get_offer(self) -> bytes:
        self.context.step(self.content(self.start(self.ticket)))
        offer = self.context.unwrap(self.content(self.go_on(b"")))
        assert not offer.encrypted
        return bytes(offer.message)

    def choose(self, choice: bytes, *, encrypted: bool = False) -> dict[str, Any]:
        return self.go_on(self.context.wrap(choice, encrypted).message)

    def content(self, reply: dict[str, Any]) -> bytes:
        assert isinstance(reply["payload"], str if self.in_text else bytes), reply
        return base64.b64decode(reply["payload"]) if self.in_text else reply["payload"]

    def _form(self, payload: bytes) -> str | bytes:
        return base64.b64encode(payload).decode() if self.in_text else payload

    def is_refused(self, reply: dict[str, Any]) -> bool:
        assert not reply["ok"], reply
        assert (reply["code"], reply["errmsg"]) == (18, "Authentication failed.")
        assert self.wire.command("shop", {"find": "orders"})["code"] == 13, "nobody is logged in"
        return True


@pytest.fixture
def hand_made(
    kerberos_guard: KerberosGuard, kdc: Kdc, as_user: Callable[[str], None]
) -> Iterator[Callable[..., HandMade]]:
    made: list[HandMade] = []

    def make(user: str = "alice", *, in_text: bool = False) -> HandMade:
        as_user(user)
        made.append(HandMade(kerberos_guard, kdc, user, in_text=in_text))
        return made[-1]

    yield make
    for client in made:
        client.wire.close()


@pytest.mark.parametrize("in_text", [False, True])
@pytest.mark.parametrize("authzid", [b"", b"alice@EXAMPLE.TEST"])
def test_payloads_are_answered_in_their_own_form(
    hand_made: Callable[..., HandMade], in_text: bool, authzid: bytes
) -> None:
    client = hand_made(in_text=in_text)
    assert client.get_offer() == NO_LAYER
    done = client.choose(NO_LAYER + authzid)
    assert (done["done"], client.content(done)) == (True, b"")
    assert client.wire.command("shop", {"find": "orders"})["ok"]


@pytest.mark.parametrize(
    "choice", [b"\1\0\0\0bob@EXAMPLE.TEST", b"\1\0\0\0root", b"\2\0\0\0", b"\4\0\xff\xff", b"", b"\1"]
)
def test_a_choice_of_another_name_or_layer_is_refused(
    hand_made: Callable[..., HandMade], choice: bytes
) -> None:
    client = hand_made()
    client.get_offer()
    assert client.is_refused(client.choose(choice))


def test_an_encrypted_choice_is_refused(hand_made: Callable[..., HandMade]) -> None:
    client = hand_made()
    client.get_offer()
    assert client.is_refused(client.choose(NO_LAYER, encrypted=True))


def test_a_choice_that_is_not_wrapped_or_cut_short_is_refused(hand_made: Callable[..., HandMade]) -> None:
    client = hand_made()
    client.get_offer()
    assert client.is_refused(client.go_on(NO_LAYER))
    client = hand_made()
    client.get_offer()
    assert client.is_refused(client.go_on(client.context.wrap(NO_LAYER, False).message[:-1]))


def test_a_ticket_that_was_used_and_a_choice_of_another_connection_are_refused(
    hand_made: Callable[..., HandMade],
) -> None:
    victim = hand_made()
    victim.get_offer()
    thief = hand_made("bob")
    assert thief.is_refused(thief.start(victim.ticket))
    thief.get_offer()
    choice = victim.context.wrap(NO_LAYER, False).message
    assert thief.is_refused(thief.go_on(choice))
    assert victim.go_on(choice)["done"]


def test_tokens_that_are_cut_short_or_empty_or_too_long_are_refused_and_nobody_else_notices(
    kerberos_guard: KerberosGuard, hand_made: Callable[..., HandMade]
) -> None:
    client = hand_made()
    for token in (b"", client.ticket[:1], client.ticket[:-1], client.ticket[:300], bytes(65_536)):
        assert client.is_refused(client.start(token))
    assert client.start(bytes(65_537))["code"] == 2
    client.get_offer()
    assert client.choose(NO_LAYER)["done"]
    with kerberos_guard.client() as root:
        assert root.admin.command("ping")["ok"]


@pytest.mark.parametrize("db", ["admin", "shop"])
def test_tickets_are_taken_on_external_alone(hand_made: Callable[..., HandMade], db: str) -> None:
    client = hand_made()
    assert client.start(client.ticket, db)["code"] == 334


def test_no_ticket_is_in_the_log_or_the_audit_log(
    kerberos_guard: KerberosGuard, hand_made: Callable[..., HandMade]
) -> None:
    client = hand_made(in_text=True)
    client.get_offer()
    client.choose(NO_LAYER)
    kerberos_guard.wait_for_event(lambda e: e["param"].get("mechanism") == "GSSAPI")
    written = kerberos_guard.log + (kerberos_guard.directory / "audit.json").read_text()
    assert base64.b64encode(client.ticket).decode()[30:80] not in written
    assert client.ticket.hex()[60:120] not in written


def test_a_keytab_that_is_not_there_is_told_at_the_start(standalone: Mongod, tmp_path: Path) -> None:
    require_module("gssapi", EXTRA)
    guard = Guard(
        tmp_path,
        standalone,
        {
            "setParameter": {"authenticationMechanisms": "GSSAPI"},
            "security": {"sasl": {"keytab": str(tmp_path / "missing")}},
        },
    )
    done = run_mongoguard("serve", "-f", str(guard.config_path))
    assert done.returncode == 2
    assert (
        f"security.sasl.keytab {tmp_path / 'missing'}: expected a keytab with a key of mongodb/*"
        in done.stderr
    )


def test_mongosh_logs_in_by_a_ticket(
    kerberos_guard: KerberosGuard, as_user: Callable[[str], None], node_clients: NodeClients
) -> None:
    as_user("alice")
    node_clients._environment |= {name: os.environ[name] for name in ("KRB5_CONFIG", "KRB5CCNAME")}
    uri = f"mongodb://alice%40EXAMPLE.TEST@localhost:{kerberos_guard.port}/shop?authMechanism=GSSAPI&authSource=%24external"
    script = "print(JSON.stringify(db.runCommand({connectionStatus: 1}).authInfo.authenticatedUsers))"
    assert "alice@EXAMPLE.TEST" in node_clients.mongosh(uri, script)
