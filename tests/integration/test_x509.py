"""Signing in by certificate through the proxy, with the drivers that people use: pymongo, mongosh and Node."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pymongo
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from pymongo.errors import AutoReconnect, ConnectionFailure, OperationFailure, ServerSelectionTimeoutError

from mongoguard.authn.x509.subject import read_subject
from tests.certificates import CLIENT, load
from tests.missing import require_program
from tests.node_clients import NodeClients
from tests.pki import AWKWARD_SUBJECTS, Pki
from tests.rawwire import op_msg
from tests.servers import PROJECT, Client, Guard, Mongod, run_mongoguard

SHOP = [{"role": "readWrite", "db": "shop"}]
SMOKE = {"role": "dbOwner", "db": "x509_smoke"}
"""What the smoke test of the Node driver needs: it drops its database at the end."""


@pytest.fixture(scope="module")
def known(standalone: Mongod, pki: Pki) -> Mongod:
    """`standalone` with the users that the certificates name; who carries roles is not one of them."""
    with standalone.client() as root:
        for name in [pki.client_name, *(awkward.mongod for awkward in AWKWARD_SUBJECTS.values())]:
            root["$external"].command("createUser", name, roles=[*SHOP, SMOKE])
        for name in ("looks like a member", "mongod"):
            full = f"CN={name},OU=servers,O=mongoguard tests"
            root["$external"].command("createUser", full, roles=[{"role": "root", "db": "admin"}])
        root["$external"].command("createUser", "CN=short-lived,OU=clients,O=mongoguard tests", roles=SHOP)
    return standalone


class TLSGuard(Guard):
    """mongoguard with TLS, and clients for it."""

    def __init__(self, directory: Path, upstream: Mongod, pki: Pki, **settings: Any) -> None:
        self.pki = pki
        self.audit_path = directory / "audit.json"
        tls = {
            "mode": "requireTLS",
            "certificateKeyFile": str(pki.member),
            "CAFile": str(pki.ca),
            "CRLFile": str(pki.crl),
            **settings.pop("tls", {}),
        }
        net = {"tls": tls, "handshakeTimeoutSecs": 2, **settings.pop("net", {})}
        audit = {"destination": "file", "path": str(self.audit_path)}
        super().__init__(directory, upstream, {"net": net, "auditLog": audit, **settings})

    def tls_uri(self, certificate: Path | None, host: str = "localhost", **options: str) -> str:
        """A connection string for a client that shows this certificate."""
        chosen = {"tls": "true", "tlsCAFile": str(self.pki.ca), "serverSelectionTimeoutMS": "2000"}
        if certificate is not None:
            chosen["tlsCertificateKeyFile"] = str(certificate)
        return f"mongodb://{host}:{self.port}/?{urlencode({**chosen, **options})}"

    def x509_uri(self, certificate: Path, **options: str) -> str:
        """The same, to log in by it."""
        return self.tls_uri(certificate, authMechanism="MONGODB-X509", authSource="$external", **options)

    def x509_client(self, certificate: Path, **options: str) -> Client:
        """A PyMongo client that logs in by certificate."""
        return pymongo.MongoClient(self.x509_uri(certificate, **options))

    def events(self, atype: str) -> list[dict[str, Any]]:
        """The audit messages of one kind."""
        lines = self.audit_path.read_text().splitlines() if self.audit_path.exists() else []
        return [event for event in map(json.loads, lines) if event["atype"] == atype]

    def wait_for_event(self, atype: str, reason: str) -> dict[str, Any]:
        """The first audit message of that kind whose reason holds these words."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for event in self.events(atype):
                if reason in event["param"].get("reason", ""):
                    return event
            time.sleep(0.02)
        raise AssertionError(f"no {atype} because of {reason!r}: {self.events(atype)[-5:]}")

    def wait_for_log(self, words: str) -> None:
        """Return when the log holds these words."""
        deadline = time.monotonic() + 10
        while words not in self.log:
            assert time.monotonic() < deadline, self.log[-2000:]
            time.sleep(0.02)


@contextlib.contextmanager
def running(guard: TLSGuard) -> Iterator[TLSGuard]:
    """A started guard; nothing of it may have gone wrong at the end."""
    try:
        guard.start().wait()
        yield guard
    finally:
        status = guard.stop()
    assert status == 0
    assert "Traceback" not in guard.log


@pytest.fixture(scope="module")
def tls_guard(known: Mongod, pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TLSGuard]:
    """TLS is required, and a certificate too."""
    with running(TLSGuard(tmp_path_factory.mktemp("tls_guard"), known, pki)) as guard:
        yield guard


def status_of(client: Client) -> Mapping[str, Any]:
    info: Mapping[str, Any] = client.admin.command("connectionStatus")["authInfo"]
    return info


# ---- drivers --------------------------------------------------------------------------------------------------------


def test_pymongo_signs_in_by_certificate_and_does_what_its_user_may(tls_guard: TLSGuard, pki: Pki) -> None:
    with tls_guard.x509_client(pki.client) as client:
        found = status_of(client)
        assert found["authenticatedUsers"] == [{"user": pki.client_name, "db": "$external"}]
        documents = [{"_id": n, "text": "x" * 200_000} for n in range(40)]
        client.shop.certified.insert_many(documents)
        assert list(client.shop.certified.find().sort("_id")) == documents
        client.shop.certified.drop()
        with pytest.raises(OperationFailure, match="not authorized on other"):
            client.other.things.find_one()
    event = next(e for e in tls_guard.events("authenticate") if e["param"]["user"] == pki.client_name)
    assert (event["result"], event["param"]["mechanism"]) == (0, "MONGODB-X509")


@pytest.mark.parametrize("kind", AWKWARD_SUBJECTS)
def test_an_awkward_subject_signs_in_as_the_user_that_mongod_would_name(
    tls_guard: TLSGuard, pki: Pki, kind: str
) -> None:
    with tls_guard.x509_client(pki.awkward[kind]) as client:
        assert status_of(client)["authenticatedUsers"][0]["user"] == AWKWARD_SUBJECTS[kind].mongod


@pytest.mark.slow
def test_mongosh_signs_in_by_certificate(tls_guard: TLSGuard, pki: Pki, node_clients: NodeClients) -> None:
    script = "print(JSON.stringify(db.runCommand({connectionStatus: 1}).authInfo.authenticatedUsers))"
    printed = node_clients.mongosh(tls_guard.x509_uri(pki.client), script)
    assert json.loads(printed.strip().splitlines()[-1])[0]["user"] == pki.client_name


def test_node_signs_in_by_certificate(tls_guard: TLSGuard, pki: Pki, node_clients: NodeClients) -> None:
    assert node_clients.node("node_smoke.js", tls_guard.x509_uri(pki.client), "x509_smoke")["crud"] == 2


def test_a_password_works_over_tls_with_any_valid_certificate(tls_guard: TLSGuard, pki: Pki) -> None:
    uri = tls_guard.tls_uri(pki.client_like_member).replace("://", "://root:root-pw@")
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        assert status_of(client)["authenticatedUsers"][0]["user"] == "root"


# ---- who is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("client_expired", "certificate has expired"),
        ("client_revoked", "certificate revoked"),
        ("client_untrusted", "unable to get local issuer"),
        ("server", "unsuitable certificate purpose"),
    ],
)
def test_a_bad_certificate_does_not_get_past_the_handshake(
    tls_guard: TLSGuard, pki: Pki, kind: str, why: str
) -> None:
    with tls_guard.x509_client(getattr(pki, kind)) as client, pytest.raises(ServerSelectionTimeoutError):
        client.admin.command("ping")
    event = tls_guard.wait_for_event("tlsHandshake", why)
    assert (event["result"], event["remote"]["ip"]) == (141, "127.0.0.1")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("client_roles", "no such user"),
        ("client_like_member", "looks like one of the deployment's own servers"),
        ("member", "looks like one of the deployment's own servers"),
    ],
)
def test_a_certificate_that_is_nobodys_is_refused_in_general_words(
    tls_guard: TLSGuard, pki: Pki, kind: str, why: str
) -> None:
    with tls_guard.x509_client(getattr(pki, kind)) as client, pytest.raises(OperationFailure) as refused:
        client.admin.command("ping")
    assert (refused.value.code, str(refused.value).partition(",")[0]) == (18, "Authentication failed.")
    assert tls_guard.wait_for_event("authenticate", why)["result"] == 18


def test_another_users_name_is_not_had_by_ones_own_certificate(tls_guard: TLSGuard, pki: Pki) -> None:
    uri = tls_guard.x509_uri(pki.client).replace("://", "://CN%3Dmongod,OU%3Dservers@")
    with pymongo.MongoClient[dict[str, Any]](uri) as client, pytest.raises(OperationFailure) as refused:
        client.admin.command("ping")
    assert "There is no x.509 client certificate matching the user." in str(refused.value)


def test_a_client_without_tls_or_without_a_certificate_is_not_served(tls_guard: TLSGuard) -> None:
    clear = f"mongodb://127.0.0.1:{tls_guard.port}/?serverSelectionTimeoutMS=1000"
    for uri in (clear, tls_guard.tls_uri(None)):
        with pymongo.MongoClient[dict[str, Any]](uri) as client, pytest.raises(ServerSelectionTimeoutError):
            client.admin.command("ping")
    tls_guard.wait_for_event("tlsHandshake", "speaks without TLS")
    tls_guard.wait_for_event("tlsHandshake", "peer did not return a certificate")


def test_stalled_handshakes_end_and_leave_the_others_alone(tls_guard: TLSGuard, pki: Pki) -> None:
    address = ("127.0.0.1", tls_guard.port)
    with contextlib.ExitStack() as open_ones:
        stalled = [open_ones.enter_context(socket.create_connection(address, 15)) for _ in range(50)]
        for number, one in enumerate(stalled):
            one.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[: 3 + number % 9])
        began = time.monotonic()
        with tls_guard.x509_client(pki.client) as client:
            client.admin.command("ping")
        assert time.monotonic() - began < 2
        for one in stalled:
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""
        assert time.monotonic() - began < 10
    tls_guard.wait_for_event("tlsHandshake", "did not end in time")


# ---- one port, both kinds -------------------------------------------------------------------------------------------


def test_both_kinds_of_client_share_the_port_where_that_is_allowed(
    known: Mongod, pki: Pki, tmp_path: Path
) -> None:
    tls = {"mode": "allowTLS", "allowConnectionsWithoutCertificates": True}
    with running(TLSGuard(tmp_path, known, pki, tls=tls)) as guard:
        with guard.client() as clear, guard.x509_client(pki.client) as encrypted:
            assert status_of(clear)["authenticatedUsers"][0]["user"] == "root"
            assert status_of(encrypted)["authenticatedUsers"][0]["user"] == pki.client_name
        nobody = guard.tls_uri(None, authMechanism="MONGODB-X509", authSource="$external")
        with pymongo.MongoClient[dict[str, Any]](nobody) as client, pytest.raises(OperationFailure) as none:
            client.admin.command("ping")
        assert "No verified subject name available from client" in str(none.value)
        clear_uri = f"mongodb://127.0.0.1:{guard.port}/?authMechanism=MONGODB-X509"
        with pymongo.MongoClient[dict[str, Any]](clear_uri) as client, pytest.raises(OperationFailure):
            client.admin.command("ping")


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_each_protocol_can_be_the_only_one(known: Mongod, pki: Pki, tmp_path: Path, version: str) -> None:
    only, other = ("TLS1_3", "TLSv1.3") if version == "TLSv1.2" else ("TLS1_2", "TLSv1.2")
    with running(TLSGuard(tmp_path, known, pki, tls={"disabledProtocols": only})) as guard:
        assert spoken(guard, pki.client) == version
        with pytest.raises(OSError, match=r"."):
            spoken(guard, pki.client, only=other)


def spoken(guard: TLSGuard, certificate: Path, only: str | None = None) -> str | None:
    """The protocol of a new connection."""
    context = ssl.create_default_context(cafile=str(guard.pki.ca))
    context.load_cert_chain(certificate)
    if only is not None:
        chosen = ssl.TLSVersion[only.replace(".", "_")]
        context.minimum_version = context.maximum_version = chosen
    with (
        socket.create_connection(("127.0.0.1", guard.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.sendall(op_msg({"ping": 1, "$db": "admin"}))
        assert secured.recv(100)
        return secured.version()


# ---- roles in the certificate ---------------------------------------------------------------------------------------


def trusts(authority: x509.Certificate, *roles: Mapping[str, str]) -> dict[str, Any]:
    digest = hashlib.sha256(authority.public_bytes(Encoding.DER)).hexdigest()
    return {"setParameter": {"tlsCATrusts": [{"sha256": digest, "roles": list(roles)}]}}


def test_roles_of_a_certificate_hold_where_its_authority_may_grant_them(
    known: Mongod, pki: Pki, tmp_path: Path
) -> None:
    settings = trusts(pki.authority.certificate, {"db": "shop"}, {"role": "read", "db": "reports"})
    with running(TLSGuard(tmp_path, known, pki, **settings)) as guard:
        with guard.x509_client(pki.client_roles) as client:
            roles = status_of(client)["authenticatedUserRoles"]
            assert sorted((r["role"], r["db"]) for r in roles) == [("read", "reports"), ("readWrite", "shop")]
            client.shop.by_certificate.insert_one({})
            client.shop.by_certificate.drop()
            assert client.reports.anything.find_one() is None
            with pytest.raises(OperationFailure, match="not authorized on reports"):
                client.reports.anything.insert_one({})
        with guard.x509_client(pki.client) as client:
            found = status_of(client)["authenticatedUserRoles"]
            assert sorted(found, key=str) == sorted([*SHOP, SMOKE], key=str)


def test_a_role_that_the_authority_may_not_grant_makes_the_login_fail(
    known: Mongod, pki: Pki, tmp_path: Path
) -> None:
    settings = trusts(pki.authority.certificate, {"db": "shop"})
    with running(TLSGuard(tmp_path, known, pki, **settings)) as guard:
        with guard.x509_client(pki.client_roles) as client, pytest.raises(OperationFailure) as refused:
            client.admin.command("ping")
        assert refused.value.code == 18
        guard.wait_for_event("authenticate", "may not grant its role read@reports")


# ---- time -----------------------------------------------------------------------------------------------------------


def test_a_session_ends_with_its_certificate(tls_guard: TLSGuard, pki: Pki) -> None:
    certificate = pki.short_lived_client(6)
    ends = load(certificate).not_valid_after_utc.timestamp()
    with tls_guard.x509_client(certificate, retryReads="false") as client:
        client.shop.things.find_one()
        assert time.time() < ends
        time.sleep(max(ends - time.time(), 0) + 0.3)
        with pytest.raises(ConnectionFailure):
            client.shop.things.find_one()
    event = tls_guard.wait_for_event("logout", "Client has disconnected")
    assert event
    tls_guard.wait_for_log("the credential of this login has expired")


def test_new_files_are_for_new_connections_and_live_ones_go_on_unless_they_are_revoked(
    known: Mongod, pki: Pki, tmp_path: Path
) -> None:
    server, crl = tmp_path / "server.pem", tmp_path / "list.crl"
    server.write_bytes(pki.server.read_bytes())
    crl.write_bytes(pki.crl.read_bytes())
    tls = {"certificateKeyFile": str(server), "CRLFile": str(crl)}
    twin = pki.authority.issue("client-twin.pem", load(pki.client).subject, CLIENT)
    with (
        running(TLSGuard(tmp_path, known, pki, tls=tls)) as guard,
        guard.x509_client(pki.client) as live,
        guard.x509_client(twin) as other,
    ):
        others = other.admin.command("whatsmyuri")["you"]
        before = live.admin.command("connectionStatus"), live.admin.command("whatsmyuri")["you"]
        assert seen(guard) == load(pki.server)

        server.write_text("half a file")
        guard.send_signal(signal.SIGHUP)
        guard.wait_for_log("SIGHUP: net.tls is not reloaded: net.tls.certificateKeyFile")
        assert seen(guard) == load(pki.server)

        server.write_bytes(pki.member.read_bytes())
        guard.send_signal(signal.SIGHUP)
        guard.wait_for_log("SIGHUP: net.tls is reloaded")
        assert seen(guard) == load(pki.member)
        after = live.admin.command("connectionStatus"), live.admin.command("whatsmyuri")["you"]
        assert after == before

        crl.write_bytes(revoking(pki, tmp_path).read_bytes())
        guard.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while guard.log.count("SIGHUP: net.tls is reloaded") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        guard.wait_for_event("logout", "The client's certificate has been revoked")
        with pytest.raises((AutoReconnect, ServerSelectionTimeoutError)):
            live.admin.command("ping")
        assert other.admin.command("whatsmyuri")["you"] == others
        with (
            guard.x509_client(pki.client) as late,
            pytest.raises((AutoReconnect, ServerSelectionTimeoutError)),
        ):
            late.admin.command("ping")
        guard.wait_for_event("tlsHandshake", "certificate revoked")


def revoking(pki: Pki, directory: Path) -> Path:
    """A list on which the plain client is, too; the authority forgets it at once."""
    before = pki.authority._revoked[:]
    pki.authority.revoke(pki.client)
    try:
        listed = pki.authority.revocation_list("with-client.crl")
        return listed.rename(directory / "with-client.crl")
    finally:
        pki.authority._revoked[:] = before


def seen(guard: TLSGuard) -> x509.Certificate:
    """The certificate that a new client sees."""
    context = ssl.create_default_context(cafile=str(guard.pki.ca))
    context.load_cert_chain(guard.pki.client)
    with (
        socket.create_connection(("127.0.0.1", guard.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        found = secured.getpeercert(binary_form=True)
        assert found is not None
        return x509.load_der_x509_certificate(found)


# ---- configuration --------------------------------------------------------------------------------------------------


def test_a_mistake_in_the_files_ends_the_start_with_one_sentence(
    known: Mongod, pki: Pki, tmp_path: Path
) -> None:
    guard = TLSGuard(
        tmp_path,
        known,
        pki,
        tls={"certificateKeyFile": str(pki.server_with_password), "certificateKeyFilePassword": "canary-pw"},
    )
    for command in ("serve", "check"):
        done = run_mongoguard(command, "-f", str(guard.config_path))
        assert done.returncode != 0
        told = done.stdout + done.stderr
        assert "net.tls.certificateKeyFilePassword: it does not open the key" in told
        assert "canary" not in told
        assert "Traceback" not in told


@pytest.mark.slow
def test_the_walk_through_of_the_documentation_leads_to_a_login(
    known: Mongod, pki: Pki, tmp_path: Path, node_clients: NodeClients
) -> None:
    page = (PROJECT / "docs" / "x509.md").read_text()
    making, naming = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)[:2]
    require_program("openssl", "install openssl")
    subprocess.run(["bash", "-euc", making], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    named = subprocess.run(
        ["bash", "-euc", naming], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60
    )
    command = re.search(r"runCommand\(\{createUser: \"(.*?)\"", page)
    assert command is not None
    name = command[1]
    assert named.stdout.strip() == f"subject={name}"
    with known.client() as root:
        root["$external"].command("createUser", name, roles=SHOP)
    tls = {"certificateKeyFile": "guard.pem", "CAFile": "ca.pem"}
    settings = {key: str(tmp_path / file) for key, file in tls.items()}
    with running(TLSGuard(tmp_path / "guard", known, pki, tls={**settings, "CRLFile": None})) as guard:
        uri = guard.x509_uri(tmp_path / "alice.pem", tlsCAFile=str(tmp_path / "ca.pem"))
        printed = node_clients.mongosh(uri, "db.runCommand({connectionStatus: 1}).authInfo")
        assert name in printed


# ---- spelling, held to a real mongod --------------------------------------------------------------------------------


def odd(text: str, kind: _ASN1Type = _ASN1Type.UTF8String, oid: str | None = None) -> x509.Name:
    """A subject of one attribute."""
    of = NameOID.COMMON_NAME if oid is None else x509.ObjectIdentifier(oid)
    unit = x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "odd")
    return x509.Name([unit, x509.NameAttribute(of, text, _type=kind, _validate=False)])


ODD_SUBJECTS: Mapping[str, x509.Name] = {
    "one character and a space": odd("a "),
    "two characters and a space": odd("ab "),
    "two spaces": odd("  "),
    "a number sign and a space": odd("# "),
    "a comma and a space": odd(", "),
    "TeletexString": odd("José", _ASN1Type.T61String),
    "PrintableString": odd("bob", _ASN1Type.PrintableString),
    "IA5String": odd("bob5", _ASN1Type.IA5String),
    "NumericString": odd("123", _ASN1Type.NumericString),
    "organizationIdentifier": odd("PSD", oid="2.5.4.97"),
    "mail": odd("m@x.org", oid="0.9.2342.19200300.100.1.3"),
    "telephoneNumber": odd("5551234", oid="2.5.4.20"),
    "unstructuredName": odd("host", oid="1.2.840.113549.1.9.2"),
    "countryOfCitizenship": odd("IS", oid="1.3.6.1.5.5.7.9.4"),
    "INN": odd("1", oid="1.2.643.3.131.1.1"),
    "a type without a name": odd("x", oid="2.5.4.96"),
}


@pytest.fixture(scope="module")
def tls_mongod(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A mongod that takes certificates itself."""
    arguments = [
        *("--tlsMode", "preferTLS", "--tlsCertificateKeyFile", str(pki.member), "--tlsCAFile", str(pki.ca)),
        "--tlsAllowConnectionsWithoutCertificates",
        *("--setParameter", "authenticationMechanisms=SCRAM-SHA-1,SCRAM-SHA-256,MONGODB-X509"),
    ]
    server = Mongod(tmp_path_factory.mktemp("x509_mongod"), arguments=arguments)
    try:
        yield server.start().wait()
    finally:
        server.kill()


@pytest.mark.parametrize("kind", [*ODD_SUBJECTS, *AWKWARD_SUBJECTS])
def test_mongod_itself_finds_the_user_under_our_spelling(tls_mongod: Mongod, pki: Pki, kind: str) -> None:
    if kind in AWKWARD_SUBJECTS:
        certificate = pki.awkward[kind]
    else:
        certificate = pki.authority.issue(f"odd-{kind.replace(' ', '-')}.pem", ODD_SUBJECTS[kind], CLIENT)
    name = str(read_subject(load(certificate).tbs_certificate_bytes))
    with tls_mongod.client() as root:
        root["$external"].command("createUser", name, roles=[])
    options = {"tls": "true", "tlsCAFile": str(pki.ca), "tlsCertificateKeyFile": str(certificate)}
    uri = tls_mongod.uri(None, authMechanism="MONGODB-X509", **options)
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        assert status_of(client)["authenticatedUsers"] == [{"user": name, "db": "$external"}]
