"""The listener's TLS context, made from the files that net.tls names.

In: the settings and the time. Out: a context with the policy for client certificates and what should be warned of, or
one `ConfigError` that names the key and the file. Must not know connections.

Sessions are not resumed where that can be had (no tickets): a resumed session checks neither the certificate's chain
nor the revocation lists.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from mongoguard.authn.channel import ClientCertificate
from mongoguard.authn.x509.certificate import CertificatePolicy
from mongoguard.authn.x509.membership import MemberAttributes, members_of_dn, members_of_subject
from mongoguard.authn.x509.subject import read_subject
from mongoguard.config.sections import SetParameter
from mongoguard.config.tls_section import TLS
from mongoguard.errors import ConfigError

__all__ = ["DAY_SECS", "LoadedTLS", "load_tls"]

DAY_SECS = 86_400

_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LoadedTLS:
    """Everything that a handshake needs, of one state of the files. `revoked`: serial numbers by their authority."""

    context: ssl.SSLContext
    policy: CertificatePolicy
    warnings: tuple[str, ...]
    revoked: Mapping[x509.Name, frozenset[int]]

    def revokes(self, certificate: ClientCertificate) -> bool:
        """Whether a revocation list names it. What no list is there for is not looked at: OpenSSL refuses that."""
        issuer = certificate.issuer
        return issuer is not None and certificate.serial in self.revoked.get(issuer, ())


def load_tls(tls: TLS, parameters: SetParameter, now: float) -> LoadedTLS:
    """Read all files; `now` is in seconds since the epoch. Raises `ConfigError`."""
    context = _new_context(tls, parameters)
    own = _load_own_certificate(context, tls)
    warn_before = now + parameters.tls_x509_expiration_warning_threshold_days * DAY_SECS
    warnings = list(_dates(own, now, warn_before))
    if tls.ca_file is not None:
        _load_authorities(context, tls.ca_file, tls.allow_connections_without_certificates)
        warnings += _unknown_authorities(context, parameters)
    lists: Sequence[x509.CertificateRevocationList] = ()
    if tls.crl_file is not None:
        lists = _load_revocation_lists(context, tls.crl_file)
        warnings += _out_of_date(lists, tls.crl_file, now)
    return LoadedTLS(context, _policy(own, tls, parameters), tuple(warnings), _revoked(lists))


def _new_context(tls: TLS, parameters: SetParameter) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = (
        ssl.TLSVersion.TLSv1_3 if "TLS1_2" in tls.disabled_protocols else ssl.TLSVersion.TLSv1_2
    )
    if "TLS1_3" in tls.disabled_protocols:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    if parameters.openssl_cipher_config is not None:
        try:
            context.set_ciphers(parameters.openssl_cipher_config)
        except ssl.SSLError:
            raise ConfigError(
                "setParameter.opensslCipherConfig: expected a cipher list in OpenSSL's form with at least one cipher"
                " that OpenSSL knows"
            ) from None
    return context


def _load_own_certificate(context: ssl.SSLContext, tls: TLS) -> x509.Certificate:
    path = tls.certificate_key_file or ""
    where = f"net.tls.certificateKeyFile: {path}"
    secret = tls.certificate_key_file_password
    password_asked = False

    def password() -> str:  # without it OpenSSL would ask at the terminal
        nonlocal password_asked
        password_asked = True
        return "" if secret is None else secret.reveal()

    content = _read(path, "net.tls.certificateKeyFile")
    try:
        context.load_cert_chain(path, password=password)
    except (OSError, ValueError) as error:
        if password_asked:
            raise ConfigError(_wrong_password(where, given=secret is not None)) from None
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{where}: the key is not the certificate's") from None
        raise ConfigError(f"{where}: expected a certificate and its private key in PEM form") from None
    try:
        return x509.load_pem_x509_certificates(content)[0]
    except ValueError:
        raise ConfigError(f"{where}: the certificate can't be read") from None


def _wrong_password(where: str, *, given: bool) -> str:
    if given:
        return f"net.tls.certificateKeyFilePassword: it does not open the key ({where})"
    return f"{where}: the key is encrypted, which needs net.tls.certificateKeyFilePassword"


def _load_authorities(context: ssl.SSLContext, path: str, certificates_are_optional: bool) -> None:
    _read(path, "net.tls.CAFile")
    try:
        context.load_verify_locations(cafile=path)
        found = context.cert_store_stats()["x509_ca"]
    except OSError:
        found = 0
    if not found:
        raise ConfigError(f"net.tls.CAFile: {path}: expected certificates of authorities in PEM form")
    context.verify_mode = ssl.CERT_OPTIONAL if certificates_are_optional else ssl.CERT_REQUIRED


def _unknown_authorities(context: ssl.SSLContext, parameters: SetParameter) -> Iterator[str]:
    known = {hashlib.sha256(der).digest() for der in context.get_ca_certs(binary_form=True)}
    for trusted in parameters.ca_trusts or ():
        if trusted not in known:
            yield (
                f"setParameter.tlsCATrusts: {trusted.hex()} is no certificate of net.tls.CAFile;"
                " it only counts for an intermediate authority that clients send along"
            )


def _load_revocation_lists(context: ssl.SSLContext, path: str) -> Sequence[x509.CertificateRevocationList]:
    content = _read(path, "net.tls.CRLFile")
    try:
        lists = [x509.load_pem_x509_crl(block) for block in _CRL.findall(content)]
        context.load_verify_locations(cafile=path)
    except (OSError, ValueError):
        lists = []
    if not lists:
        raise ConfigError(f"net.tls.CRLFile: {path}: expected revocation lists in PEM form")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return lists


def _revoked(lists: Iterable[x509.CertificateRevocationList]) -> Mapping[x509.Name, frozenset[int]]:
    revoked: dict[x509.Name, frozenset[int]] = {}
    for crl in lists:
        revoked[crl.issuer] = revoked.get(crl.issuer, frozenset()) | {one.serial_number for one in crl}
    return revoked


def _out_of_date(lists: Iterable[x509.CertificateRevocationList], path: str, now: float) -> Iterator[str]:
    return (
        f"net.tls.CRLFile: {path}: a list is out of date since {_day(ends)}: its authority's certificates are refused"
        for ends in (crl.next_update_utc for crl in lists)
        if ends is not None and ends.timestamp() <= now
    )


def _read(path: str, key: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{key}: can't read {path}: {error.strerror or error}") from None


def _dates(certificate: x509.Certificate, now: float, warn_before: float) -> Iterator[str]:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends.timestamp() <= now:
        yield f"net.tls.certificateKeyFile: the certificate has expired on {_day(ends)}: clients refuse it"
    elif ends.timestamp() < warn_before:
        yield f"net.tls.certificateKeyFile: the certificate expires on {_day(ends)}"
    if begins.timestamp() > now:
        yield f"net.tls.certificateKeyFile: the certificate is not valid before {_day(begins)}: clients refuse it"


def _day(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _policy(own: x509.Certificate, tls: TLS, parameters: SetParameter) -> CertificatePolicy:
    """Members are what mongod takes for them: who looks like its own certificate, unless clusterAuthX509 says more."""
    members = list(parameters.members)
    marks: frozenset[str] = frozenset()
    cluster = tls.cluster_auth_x509
    if cluster is None:
        members.append(_own_attributes(own))
    elif cluster.attributes is not None:
        members.append(members_of_dn(cluster.attributes))
    elif cluster.extension_value is not None:
        marks = frozenset({cluster.extension_value})
    return CertificatePolicy(parameters.ca_trusts, tuple(filter(None, members)), marks)


def _own_attributes(own: x509.Certificate) -> MemberAttributes:
    try:
        return members_of_subject(read_subject(own.tbs_certificate_bytes))
    except ValueError:  # a subject that is empty, or has no spelling: nobody looks like it
        return frozenset()
