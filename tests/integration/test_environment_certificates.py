"""The test certificates: that mongod, OpenSSL and Python take them for what their names say."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pymongo
import pytest
from pymongo.errors import OperationFailure

from tests.certificates import ROLES_OID, load
from tests.pki import AWKWARD_SUBJECTS, KEY_PASSWORD, Pki
from tests.servers import Mongod


@pytest.fixture(scope="module")
def tls_mongod(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A mongod whose users sign in by certificate; `client_name` of the pki is one of its users."""
    arguments = [
        *("--tlsMode", "preferTLS", "--tlsCertificateKeyFile", str(pki.member), "--tlsCAFile", str(pki.ca)),
        *("--tlsCRLFile", str(pki.crl), "--tlsAllowConnectionsWithoutCertificates"),
        *("--setParameter", "authenticationMechanisms=SCRAM-SHA-1,SCRAM-SHA-256,MONGODB-X509"),
    ]
    server = Mongod(tmp_path_factory.mktemp("tls_mongod"), arguments=arguments)
    try:
        server.start().wait()
        with server.client() as root:
            for name in [pki.client_name, *(awkward.mongod for awkward in AWKWARD_SUBJECTS.values())]:
                root["$external"].command("createUser", name, roles=[])
        yield server
    finally:
        server.kill()


def signed_in(server: Mongod, pki: Pki, certificate: Path) -> tuple[str, list[dict[str, str]]]:
    """Who mongod says the certificate's owner is, with which roles."""
    uri = server.uri(None, authMechanism="MONGODB-X509", serverSelectionTimeoutMS="2000")
    options = {"tls": True, "tlsCAFile": str(pki.ca), "tlsCertificateKeyFile": str(certificate)}
    with pymongo.MongoClient(uri, **options) as client:
        found = client.admin.command("connectionStatus")["authInfo"]
        return found["authenticatedUsers"][0]["user"], found["authenticatedUserRoles"]


@pytest.mark.parametrize("kind", AWKWARD_SUBJECTS)
def test_mongod_spells_an_awkward_subject_as_the_table_says(tls_mongod: Mongod, pki: Pki, kind: str) -> None:
    assert signed_in(tls_mongod, pki, pki.awkward[kind]) == (AWKWARD_SUBJECTS[kind].mongod, [])


def test_mongod_takes_the_plain_client_and_not_one_that_it_does_not_know(
    tls_mongod: Mongod, pki: Pki
) -> None:
    assert signed_in(tls_mongod, pki, pki.client) == (pki.client_name, [])
    with pytest.raises(OperationFailure, match="Could not find user"):
        signed_in(tls_mongod, pki, pki.short_lived_client(3600))


def test_mongod_reads_the_role_extension(tls_mongod: Mongod, pki: Pki) -> None:
    name, roles = signed_in(tls_mongod, pki, pki.client_roles)
    assert name == "CN=role carrier,OU=clients,O=mongoguard tests"
    assert sorted((role["role"], role["db"]) for role in roles) == [
        ("read", "reports"),
        ("readWrite", "shop"),
    ]
    assert load(pki.client_roles).extensions.get_extension_for_oid(ROLES_OID)


def test_mongod_takes_the_member_looking_client_for_a_member(tls_mongod: Mongod, pki: Pki) -> None:
    with pytest.raises(OperationFailure, match="cluster authentication"):
        signed_in(tls_mongod, pki, pki.client_like_member)


@pytest.mark.parametrize("kind", ["client_expired", "client_revoked", "client_untrusted"])
def test_mongod_drops_a_bad_client(tls_mongod: Mongod, pki: Pki, kind: str) -> None:
    with pytest.raises(pymongo.errors.ServerSelectionTimeoutError):
        signed_in(tls_mongod, pki, getattr(pki, kind))


def handshake(
    pki: Pki,
    server: Path,
    client: Path | None = None,
    *,
    host: str = "localhost",
    password: str | None = None,
) -> str:
    """The client certificate's common name as the server sees it, "" without one; raises what went wrong."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.ca))
    serving.load_cert_chain(server, password=password)
    serving.verify_mode = ssl.CERT_OPTIONAL
    connecting = ssl.create_default_context(cafile=str(pki.ca))
    if client is not None:
        connecting.load_cert_chain(client)
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        connecting.wrap_bio(theirs, ours, server_hostname=host),
        serving.wrap_bio(ours, theirs, server_side=True),
    )
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    subject = (ends[1].getpeercert() or {}).get("subject", ())
    return "".join(value for rdn in subject for name, value in rdn if name == "commonName")


def test_a_good_server_is_accepted_by_name_and_by_address(pki: Pki) -> None:
    assert handshake(pki, pki.server) == ""
    assert handshake(pki, pki.server, host="127.0.0.1") == ""
    assert handshake(pki, pki.server_with_password, password=KEY_PASSWORD) == ""
    assert handshake(pki, pki.server_without_ip) == ""
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        handshake(pki, pki.server_without_ip, host="127.0.0.1")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("server_expired", "certificate has expired"),
        ("server_wrong_host", "Hostname mismatch"),
        ("server_untrusted", "unable to get local issuer"),
        ("client", "unsuitable certificate purpose"),
    ],
)
def test_a_bad_server_is_refused_for_the_reason_in_its_name(pki: Pki, kind: str, why: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        handshake(pki, getattr(pki, kind))


def test_a_chained_client_is_accepted_with_its_intermediate_authority(pki: Pki) -> None:
    assert handshake(pki, pki.server, pki.client_chained) == "chained"
    assert handshake(pki, pki.server, pki.client) == "alice"
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(pki, pki.server, pki.client_untrusted)


def test_a_short_lived_client_is_good_now_and_ends_soon(pki: Pki) -> None:
    path = pki.short_lived_client(60)
    certificate = load(path)
    assert handshake(pki, pki.server, path) == "short-lived"
    assert 0 < (certificate.not_valid_after_utc - load(pki.server).not_valid_before_utc).days <= 1


def test_a_wrong_key_password_opens_nothing(pki: Pki) -> None:
    with pytest.raises(ssl.SSLError):
        handshake(pki, pki.server_with_password, password="wrong")


def test_every_path_of_the_folder_is_a_file(pki: Pki) -> None:
    paths = [value for value in vars(pki).values() if isinstance(value, Path)]
    assert len(paths) > 15
    assert all(path.exists() for path in paths)
    assert not [
        path
        for path in pki.directory.glob("**/*.pem")
        if b"PRIVATE" in path.read_bytes() and path.stat().st_mode & 0o077
    ]
