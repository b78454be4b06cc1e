"""Certificates for tests: an authority, and what it signs, as PEM files.

Made anew for each run (nothing to expire in the repository), with elliptic-curve keys, which take milliseconds.
`tests/pki.py` is the folder of all kinds that the `pki` fixture makes; this module knows how to make one.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["CLIENT", "DAY", "LOOPBACK", "SERVER", "Authority", "host_names", "load", "roles_extension"]

DAY = datetime.timedelta(days=1)
LOOPBACK = ("localhost", "127.0.0.1")
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)

Validity: TypeAlias = tuple[datetime.timedelta, datetime.timedelta]
CURRENT: Validity = (-DAY, DAY)
"""Begins and ends so long after now; a negative end is an expired certificate."""

ROLES_OID = x509.ObjectIdentifier("1.3.6.1.4.1.34601.2.1.1")
"""MongoDB's role extension (src/mongo/crypto/mongodbRoles in its source): SET OF SEQUENCE {role, db}, UTF8String both."""


class Authority:
    """A certificate authority whose files are in `directory`."""

    def __init__(
        self, directory: Path, name: str = "mongoguard test CA", *, issuer: Authority | None = None
    ) -> None:
        """Make its key and write its certificate to `ca_file`; without `issuer` it signs itself."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        self._issuer = issuer
        self._revoked: list[int] = []
        signer = issuer or self
        self.certificate = (
            _builder(self._name, signer._name, self._key.public_key(), signer._key.public_key(), CURRENT)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0 if issuer else 1), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .sign(signer._key, hashes.SHA256())
        )
        self.ca_file = directory / f"{name.replace(' ', '-')}.pem" if issuer else directory / "ca.pem"
        self.ca_file.write_bytes(_pem(self.certificate))

    def server(
        self,
        file_name: str = "server.pem",
        hosts: Sequence[str] = LOOPBACK,
        *,
        validity: Validity = CURRENT,
        password: str | None = None,
    ) -> Path:
        """A server's certificate for these host names and IPv4 addresses; the file holds its key too."""
        return self.issue(
            file_name,
            _subject("server"),
            SERVER,
            extensions=[host_names(hosts)],
            validity=validity,
            password=password,
        )

    def client(self, common_name: str, file_name: str = "client.pem") -> tuple[Path, str]:
        """A client's certificate (with its key), and its subject as MongoDB's X.509 users are named (RFC 2253)."""
        subject = _subject(common_name, unit="clients")
        return self.issue(file_name, subject, CLIENT), subject.rfc4514_string()

    def issue(
        self,
        file_name: str,
        subject: x509.Name,
        usages: Iterable[x509.ObjectIdentifier],
        *,
        extensions: Iterable[x509.ExtensionType] = (),
        validity: Validity = CURRENT,
        password: str | None = None,
    ) -> Path:
        """Sign a certificate; the file holds it, its key (encrypted under `password`), and an intermediate issuer.

        Raises `FileExistsError`: a folder is shared by all tests of a run, and none may change another's certificate.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, self._name, key.public_key(), self._key.public_key(), validity)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        chain = b"" if self._issuer is None else _pem(self.certificate)
        path = self._directory / file_name
        path.touch(0o600, exist_ok=False)
        path.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())) + _key_pem(key, password) + chain)
        return path

    def revoke(self, *certificates: Path) -> None:
        """Put certificates of this authority on its next revocation list."""
        self._revoked += [load(path).serial_number for path in certificates]

    def revocation_list(self, file_name: str = "ca.crl", *, validity: Validity = CURRENT) -> Path:
        """Write the list of what was revoked, as PEM."""
        now = _now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now + validity[0])
            .next_update(now + validity[1])
            .add_extension(_issuer_key(self._key.public_key()), critical=False)
            .add_extension(x509.CRLNumber(1 + len(self._revoked)), critical=False)
        )
        for serial in self._revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - DAY)
            builder = builder.add_revoked_certificate(entry.build())
        path = self._directory / file_name
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path


def load(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file."""
    return x509.load_pem_x509_certificates(path.read_bytes())[0]


def host_names(hosts: Sequence[str] = LOOPBACK) -> x509.SubjectAlternativeName:
    """The extension that makes a certificate good for these host names and IPv4 addresses."""
    return x509.SubjectAlternativeName([_general_name(host) for host in hosts])


def roles_extension(*roles: tuple[str, str]) -> x509.UnrecognizedExtension:
    """MongoDB's extension that grants these (role, database) pairs, written in DER by hand."""
    entries = sorted(_der(0x30, _der(0x0C, role.encode()) + _der(0x0C, db.encode())) for role, db in roles)
    return x509.UnrecognizedExtension(ROLES_OID, _der(0x31, b"".join(entries)))


def _der(tag: int, body: bytes) -> bytes:
    length = len(body)
    if length < 0x80:
        return bytes([tag, length]) + body
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + body


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    validity: Validity,
) -> x509.CertificateBuilder:
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + validity[0])
        .not_valid_after(now + validity[1])
        # Python 3.13's default context (VERIFY_X509_STRICT) asks for both
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_issuer_key(issuer_key), critical=False)
    )


def _issuer_key(key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey, password: str | None) -> bytes:
    encryption = (
        serialization.NoEncryption()
        if password is None
        else serialization.BestAvailableEncryption(password.encode())
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _subject(common_name: str, unit: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "mongoguard tests")]
    if unit is not None:  # mongod wants clients to differ from servers in O, OU or DC
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(IPv4Address(host))
    except ValueError:
        return x509.DNSName(host)
