"""A client certificate that TLS has verified -> `ClientCertificate`: whose it is, until when, with which roles.

In: DER of the certificate and of its verified issuers, and a `CertificatePolicy`. Out: a value. Must not know TLS.

A certificate that nobody may log in with is a value too, with the reason: TLS has let it in, and other mechanisms are
still open to who holds it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509

from mongoguard.authn.channel import ClientCertificate
from mongoguard.authn.x509.membership import MemberAttributes, members_of_subject
from mongoguard.authn.x509.role_extension import MEMBERSHIP_OID, ROLES_OID, read_membership, read_roles
from mongoguard.authn.x509.subject import Subject, read_subject
from mongoguard.model.names import RoleName

__all__ = ["CertificatePolicy", "RolePattern", "read_client_certificate"]


@dataclass(frozen=True, slots=True)
class RolePattern:
    """Roles that an authority may grant: an empty `role` or `db` stands for any."""

    role: str
    db: str

    def covers(self, name: RoleName) -> bool:
        """Whether that role is one of them."""
        return self.role in ("", name.role) and self.db in ("", name.db)


@dataclass(frozen=True, slots=True)
class CertificatePolicy:
    """`ca_trusts`: SHA-256 of an authority's certificate -> the roles that it may grant; None: the role extension means
    nothing, as if it were not there. `members`: what certificates of the deployment's servers share, in their subject
    or by the mark in their membership extension.
    """

    ca_trusts: Mapping[bytes, tuple[RolePattern, ...]] | None = None
    members: tuple[MemberAttributes, ...] = ()
    member_marks: frozenset[str] = field(default_factory=frozenset)


class _Refused(Exception):
    """Nobody may log in with this certificate; the text is for the audit stream."""


def read_client_certificate(
    certificate: bytes, issuers: Sequence[bytes], policy: CertificatePolicy
) -> ClientCertificate:
    """`issuers`: the verified chain behind the certificate, its own issuer first; empty when TLS does not tell.

    Raises `ValueError` when the octets are no certificate at all.
    """
    try:
        parsed = x509.load_der_x509_certificate(certificate)
    except x509.InvalidVersion:
        raise ValueError("a certificate of an unknown version") from None
    not_after = parsed.not_valid_after_utc.timestamp()
    subject = ""
    issuer, serial = _issuer(parsed), parsed.serial_number
    try:
        found = _subject(parsed)
        subject = str(found)
        _check_membership(parsed, found, policy)
        roles = _roles(parsed, issuers, policy)
    except _Refused as refusal:
        return ClientCertificate(subject, not_after, refusal=str(refusal), issuer=issuer, serial=serial)
    return ClientCertificate(subject, not_after, roles, issuer=issuer, serial=serial)


def _issuer(certificate: x509.Certificate) -> x509.Name | None:
    try:
        return certificate.issuer
    except ValueError:
        return None


def _subject(certificate: x509.Certificate) -> Subject:
    try:
        return read_subject(certificate.tbs_certificate_bytes)
    except ValueError as error:
        raise _Refused(f"the certificate names nobody: {error}") from None


def _check_membership(certificate: x509.Certificate, subject: Subject, policy: CertificatePolicy) -> None:
    if policy.members and members_of_subject(subject) in policy.members:
        raise _Refused("the certificate looks like one of the deployment's own servers")
    if not policy.member_marks:
        return
    extension = _extension(certificate, MEMBERSHIP_OID)
    if extension is None:
        return
    try:
        mark = read_membership(extension)
    except ValueError as error:
        raise _Refused(f"the certificate's membership extension is malformed: {error}") from None
    if mark in policy.member_marks:
        raise _Refused("the certificate is marked as one of the deployment's own servers")


def _roles(
    certificate: x509.Certificate, issuers: Sequence[bytes], policy: CertificatePolicy
) -> tuple[RoleName, ...] | None:
    """The certificate's roles, all of them or none: one that its authority may not grant makes it worth nothing."""
    if policy.ca_trusts is None:
        return None
    extension = _extension(certificate, ROLES_OID)
    if extension is None:
        return None
    try:
        roles = read_roles(extension)
    except ValueError as error:
        raise _Refused(f"the certificate's role extension is malformed: {error}") from None
    grantable = _grantable(issuers, policy.ca_trusts)
    for role in roles:
        if not any(pattern.covers(role) for pattern in grantable):
            raise _Refused(f"the certificate's authority may not grant its role {role}")
    return roles


def _grantable(
    issuers: Sequence[bytes], trusts: Mapping[bytes, tuple[RolePattern, ...]]
) -> tuple[RolePattern, ...]:
    """What the nearest issuer that is listed may grant: an intermediate's own row counts before its root's."""
    for issuer in issuers:
        found = trusts.get(hashlib.sha256(issuer).digest())
        if found is not None:
            return found
    return ()


def _extension(certificate: x509.Certificate, oid: str) -> bytes | None:
    try:
        found = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(oid)).value
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise _Refused(f"the certificate's extensions can't be read ({type(error).__name__})") from None
    if not isinstance(found, x509.UnrecognizedExtension):
        raise _Refused("the certificate's extensions can't be read")
    return found.value
