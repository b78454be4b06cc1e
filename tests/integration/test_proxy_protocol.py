"""The client's true address behind a real HAProxy: restrictions, limits, audit, whatsmyuri; and headers from strangers.

The balancer is 127.0.0.9 and listens on 127.0.0.8; its clients are 127.0.0.1 (or ::1); mongoguard listens on 127.0.0.1.
"""

from __future__ import annotations

import itertools
import json
import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure

from tests.balancers import BALANCER, FRONT, HAProxy
from tests.pki import Pki
from tests.rawwire import RawConnection, op_msg
from tests.servers import Guard, connection_string, password_of

HEADERS = ("v1", "v2", "v6")
NAMES = itertools.count()
HELLO = op_msg({"hello": 1, "$db": "admin"})
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


class From(RawConnection):
    """A connection from a chosen address."""

    def __init__(self, source: str, address: str, timeout: float = 20.0) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout, (source, 0))
        self._request_ids = itertools.count(1)

    @property
    def source(self) -> tuple[str, int]:
        """Our own end."""
        host, port = self._socket.getsockname()[:2]
        return host, port


def v2_header(client: str, server: str, client_port: int = 40001) -> bytes:
    """A version 2 header without TLVs."""
    ends = [ip_address(client), ip_address(server)]
    content = b"".join(end.packed for end in ends) + struct.pack(">HH", client_port, 27017)
    return (
        SIGNATURE
        + bytes([0x21, 0x11 if ends[0].version == 4 else 0x21])
        + struct.pack(">H", len(content))
        + content
    )


@pytest.fixture(scope="module")
def mongoguard(guard_standalone: Guard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """It trusts the balancer's address, and blocks a user at an address after three failed logins."""
    directory = tmp_path_factory.mktemp("behind")
    settings = {
        "net": {"proxyProtocol": {"trustedSources": [f"{BALANCER}/32"]}, "handshakeTimeoutSecs": 3},
        "security": {"loginLimits": {"maxFailuresPerUserAndAddress": 3}},
        "auditLog": {"destination": "file", "path": str(directory / "audit.json")},
    }
    guard = Guard(directory, guard_standalone.upstream, settings)
    try:
        yield guard.start().wait()
    finally:
        assert guard.stop() == 0
        assert "internal error" not in guard.log


@pytest.fixture(scope="module")
def balancer(mongoguard: Guard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HAProxy]:
    """In front of it."""
    server = HAProxy(tmp_path_factory.mktemp("haproxy"), mongoguard.address)
    try:
        yield server.start().wait()
    finally:
        server.stop()


@pytest.fixture
def new_user(mongoguard: Guard) -> Iterator[Any]:
    """Makes users that nobody has had, by name; the administrator connects without a balancer."""
    with mongoguard.client() as client:

        def make(**fields: Any) -> str:
            name = f"proxied{next(NAMES)}"
            client.admin.command("createUser", name, pwd=password_of(name), roles=[], **fields)
            return name

        yield make


def logs_in(address: str, user: str, password: str | None = None) -> bool:
    """With PyMongo; a refusal is the same 18 as ever."""
    options = {"directConnection": "true", "serverSelectionTimeoutMS": "5000"}
    with pymongo.MongoClient(connection_string(address, user, password, options)) as client:
        try:
            client.admin.command("ping")
        except OperationFailure as error:
            assert (error.code, error.details and error.details["errmsg"]) == (18, "Authentication failed.")
            return False
        return True


def events(guard: Guard, atype: str, **param: Any) -> list[dict[str, Any]]:
    """What the audit log holds of that kind, once it holds any; [] after 5 s."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        lines = (guard.directory / "audit.json").read_text().splitlines()
        found = [json.loads(line) for line in lines if f'"{atype}"' in line]
        wanted = [e for e in found if param.items() <= e["param"].items()]
        if wanted:
            return wanted
        time.sleep(0.02)
    return []


@pytest.mark.parametrize("kind", HEADERS)
def test_restrictions_are_about_the_true_client(balancer: HAProxy, new_user: Any, kind: str) -> None:
    true = "::1" if kind == "v6" else "127.0.0.1"
    allowed = new_user(authenticationRestrictions=[{"clientSource": [true]}])
    denied = new_user(authenticationRestrictions=[{"clientSource": [f"{BALANCER}/32"]}])
    assert logs_in(balancer.front(kind), allowed)
    assert not logs_in(balancer.front(kind), denied)


@pytest.mark.parametrize("kind", HEADERS)
def test_a_server_address_is_where_the_client_connected_to(
    balancer: HAProxy, new_user: Any, kind: str
) -> None:
    front = "::1" if kind == "v6" else FRONT
    allowed = new_user(authenticationRestrictions=[{"serverAddress": [front]}])
    denied = new_user(authenticationRestrictions=[{"serverAddress": ["127.0.0.1"]}])
    assert logs_in(balancer.front(kind), allowed)
    assert not logs_in(balancer.front(kind), denied)


@pytest.mark.parametrize("kind", HEADERS)
def test_whatsmyuri_and_the_audit_log_name_the_true_client(
    balancer: HAProxy, mongoguard: Guard, new_user: Any, kind: str
) -> None:
    user = new_user()
    with From("::1" if kind == "v6" else "127.0.0.2", balancer.front(kind)) as raw:
        raw.log_in(user, password_of(user))
        host, port = raw.source
        uri = f"[{host}]:{port}" if kind == "v6" else f"{host}:{port}"
        assert raw.command("admin", {"whatsmyuri": 1})["you"] == uri
        (event,) = events(mongoguard, "authenticate", user=user)
        assert event["remote"] == {"ip": host, "port": port}
        front_host, _, front_port = balancer.front(kind).rpartition(":")
        assert event["local"] == {"ip": front_host.strip("[]"), "port": int(front_port)}


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_a_blocked_address_is_the_true_clients(balancer: HAProxy, new_user: Any, kind: str) -> None:
    user = new_user()
    front = balancer.front(kind)

    def tries(source: str, password: str) -> bool:
        with From(source, front) as raw:
            try:
                raw.log_in(user, password)
            except AssertionError as error:
                assert "'code': 18" in str(error)
                return False
            return True

    assert [tries("127.0.0.2", "wrong") for _ in range(3)] == [False] * 3
    assert not tries("127.0.0.2", password_of(user)), "blocked: the right password is refused too"
    assert tries("127.0.0.3", password_of(user)), "another client behind the same balancer"


def test_health_checks_of_the_balancer_are_served_and_leave_no_trace(
    balancer: HAProxy, mongoguard: Guard
) -> None:
    """HAProxy checks each front every 200 ms: LOCAL (v2), UNKNOWN (v1), and nothing at all where no header is sent."""
    before = len(events(mongoguard, "connectionRefused"))
    time.sleep(1)
    assert logs_in(balancer.front("v1"), "app")
    assert logs_in(balancer.front("v2"), "app")
    assert len(events(mongoguard, "connectionRefused")) == before
    assert "DOWN" not in balancer.log


def test_a_trusted_source_without_a_header_is_refused(balancer: HAProxy, mongoguard: Guard) -> None:
    with From("127.0.0.1", balancer.front("none")) as raw:
        raw.send(HELLO)
        assert raw.is_closed_by_peer()
    reason = "the connection does not begin with a PROXY header"
    event = events(mongoguard, "connectionRefused", reason=reason)[-1]
    assert (event["remote"]["ip"], event["result"]) == (BALANCER, 17)
    with From("127.0.0.1", mongoguard.address) as raw:
        assert raw.exchange(HELLO).document["ok"] == 1, "without a balancer no header is needed"


@pytest.mark.parametrize("version", [1, 2])
def test_a_header_from_a_source_that_is_not_trusted_is_refused(
    mongoguard: Guard, new_user: Any, version: int
) -> None:
    """Somebody who can reach mongoguard itself says to be where the user may log in from."""
    user = new_user(authenticationRestrictions=[{"clientSource": ["127.0.0.1"]}])
    header = (
        v2_header("127.0.0.1", "127.0.0.1") if version == 2 else b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"
    )
    with From("127.0.0.6", mongoguard.address) as raw:
        raw.send(header + HELLO)
        assert raw.is_closed_by_peer()
    reason = "a PROXY header from a source that net.proxyProtocol.trustedSources does not name"
    assert events(mongoguard, "connectionRefused", reason=reason)[-1]["remote"]["ip"] == "127.0.0.6"
    with From("127.0.0.6", mongoguard.address) as raw, pytest.raises(AssertionError, match="18"):
        raw.log_in(user, password_of(user))


@pytest.mark.parametrize("version", [1, 2])
def test_a_client_behind_the_balancer_can_not_send_a_second_header(
    balancer: HAProxy, mongoguard: Guard, version: int
) -> None:
    header = v2_header("10.0.0.1", "10.0.0.2") if version == 2 else b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"
    with From("127.0.0.2", balancer.front("v2")) as raw:
        raw.send(header + HELLO)
        assert raw.is_closed_by_peer()
    with From(BALANCER, mongoguard.address) as raw:
        raw.send(v2_header("192.0.2.7", "192.0.2.1") + header + HELLO)
        assert raw.is_closed_by_peer()


@pytest.mark.parametrize("pause", [0.0, 0.005])
def test_a_header_and_the_first_message_come_in_one_piece_or_byte_by_byte(
    mongoguard: Guard, pause: float
) -> None:
    with From(BALANCER, mongoguard.address) as raw:
        stream = v2_header("192.0.2.7", "192.0.2.1", 4711) + HELLO
        for piece in [stream] if not pause else [bytes([byte]) for byte in stream]:
            raw.send(piece)
            time.sleep(pause)
        assert raw.receive().document["ok"] == 1
        assert raw.command("admin", {"whatsmyuri": 1})["you"] == "192.0.2.7:4711"


def test_a_header_that_stalls_ends_within_the_handshakes_deadline(mongoguard: Guard) -> None:
    with From(BALANCER, mongoguard.address, timeout=8) as raw:
        raw.send(v2_header("192.0.2.7", "192.0.2.1")[:20])
        began = time.monotonic()
        assert raw.is_closed_by_peer()
        assert 2 < time.monotonic() - began < 6


def test_a_proxied_client_is_refused_what_only_local_clients_may(
    guard_standalone: Guard, tmp_path: Path
) -> None:
    """shutdown without authorization: the header's 127.0.0.1 is some other host's."""
    settings = {
        "net": {"proxyProtocol": {"trustedSources": [BALANCER]}},
        "security": {"authorization": "disabled"},
    }
    guard = Guard(tmp_path, guard_standalone.upstream, settings)
    try:
        guard.start().wait()
        for header in (v2_header("127.0.0.1", "127.0.0.1"), SIGNATURE + b"\x20\0\0\0"):
            with From(BALANCER, guard.address) as raw:
                raw.send(header)
                reply = raw.command("admin", {"shutdown": 1})
                assert (reply["ok"], reply["code"]) == (0, 13)
                assert "must run from localhost" in reply["errmsg"]
    finally:
        guard.stop()


def test_a_header_comes_before_tls(guard_standalone: Guard, pki: Pki, tmp_path: Path) -> None:
    """The balancer passes TLS on as it is; PyMongo checks mongoguard's certificate by the balancer's address."""
    settings = {
        "net": {
            "proxyProtocol": {"trustedSources": [BALANCER]},
            "tls": {
                "mode": "requireTLS",
                "certificateKeyFile": str(pki.server),
                "CAFile": str(pki.ca),
                "allowConnectionsWithoutCertificates": True,
            },
        },
    }
    guard = Guard(tmp_path / "guard", guard_standalone.upstream, settings)
    proxy = HAProxy(tmp_path / "haproxy", guard.address)
    try:
        guard.start().wait()
        proxy.start().wait()
        for kind in ("v1", "v2"):
            options = {"tls": "true", "tlsCAFile": str(pki.ca), "tlsAllowInvalidHostnames": "true"}
            uri = connection_string(proxy.front(kind), "app", None, options)
            with pymongo.MongoClient(uri) as client:
                assert client.admin.command("whatsmyuri")["you"].startswith("127.0.0.1:")
            with From("127.0.0.1", proxy.front(kind)) as raw:
                raw.send(HELLO)
                assert raw.is_closed_by_peer(), "without TLS"
    finally:
        proxy.stop()
        guard.stop()
