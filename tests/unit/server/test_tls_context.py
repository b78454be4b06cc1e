"""The TLS context from files: each mistake is one sentence that names the key and the file."""

from __future__ import annotations

import datetime
import hashlib
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mongoguard.authn.x509.membership import members_of_dn
from mongoguard.config.secret import Secret
from mongoguard.config.sections import SetParameter
from mongoguard.config.tls_section import TLS
from mongoguard.errors import ConfigError
from mongoguard.server.tls_context import DAY_SECS, load_tls
from tests.certificates import DAY, SERVER
from tests.pki import KEY_PASSWORD, Pki

NEVER = SetParameter(tlsX509ExpirationWarningThresholdDays=0)


def load(pki: Pki, parameters: SetParameter = NEVER, **fields: object):
    wanted = {"mode": "requireTLS", "certificateKeyFile": str(pki.server), "CAFile": str(pki.ca), **fields}
    return load_tls(TLS.model_validate(wanted), parameters, time.time())


def problem(pki: Pki, parameters: SetParameter = NEVER, **fields: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(pki, parameters, **fields)
    return str(caught.value)


def test_certificates_are_asked_for_as_configured(pki):
    assert load(pki).context.verify_mode is ssl.CERT_REQUIRED
    optional = load(pki, allowConnectionsWithoutCertificates=True)
    assert optional.context.verify_mode is ssl.CERT_OPTIONAL
    without = load(pki, CAFile=None, allowConnectionsWithoutCertificates=True)
    assert without.context.verify_mode is ssl.CERT_NONE
    assert without.warnings == ()


def test_only_tls_1_2_and_1_3_are_spoken_and_each_can_be_disabled(pki):
    def versions(**fields):
        context = load(pki, **fields).context
        return context.minimum_version, context.maximum_version

    v12, v13, newest = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.MAXIMUM_SUPPORTED
    assert versions() == (v12, newest)
    assert versions(disabledProtocols="TLS1_0") == (v12, newest)
    assert versions(disabledProtocols="TLS1_2") == (v13, newest)
    assert versions(disabledProtocols="TLS1_3") == (v12, v12)


def test_sessions_are_not_resumed_by_tickets_and_not_renegotiated(pki):
    context = load(pki).context
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_ciphers_are_those_configured(pki):
    chosen = load(
        pki, SetParameter(opensslCipherConfig="ECDHE-ECDSA-AES256-GCM-SHA384")
    ).context.get_ciphers()
    assert [c["name"] for c in chosen if c["protocol"] == "TLSv1.2"] == ["ECDHE-ECDSA-AES256-GCM-SHA384"]
    assert problem(pki, SetParameter(opensslCipherConfig="NONSENSE")).startswith(
        "setParameter.opensslCipherConfig: expected a cipher list"
    )


def test_revocation_lists_are_checked(pki):
    assert not load(pki).context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    loaded = load(pki, CRLFile=str(pki.crl))
    assert loaded.context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    assert loaded.context.cert_store_stats()["crl"] == 1


def test_an_encrypted_key_is_opened_by_its_password(pki):
    path = str(pki.server_with_password)
    load(pki, certificateKeyFile=path, certificateKeyFilePassword=Secret(KEY_PASSWORD))
    load(pki, certificateKeyFilePassword=Secret("not needed"))
    assert problem(pki, certificateKeyFile=path) == (
        f"net.tls.certificateKeyFile: {path}: the key is encrypted, which needs net.tls.certificateKeyFilePassword"
    )
    for wrong in ("wrong", "x" * 2000):
        sentence = problem(pki, certificateKeyFile=path, certificateKeyFilePassword=Secret(wrong))
        assert sentence.startswith("net.tls.certificateKeyFilePassword: it does not open the key")
        assert wrong not in sentence


@pytest.mark.parametrize("key", ["certificateKeyFile", "CAFile", "CRLFile"])
def test_a_file_that_cannot_be_read_is_named(pki, key, tmp_path):
    for path, why in ((tmp_path / "none.pem", "No such file or directory"), (tmp_path, "Is a directory")):
        assert problem(pki, **{key: str(path)}) == f"net.tls.{key}: can't read {path}: {why}"


@pytest.mark.parametrize("key", ["certificateKeyFile", "CAFile", "CRLFile"])
@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_of_something_else_is_named(pki, key, content, tmp_path):
    path = tmp_path / "wrong.pem"
    path.write_bytes(content)
    assert problem(pki, **{key: str(path)}).startswith(f"net.tls.{key}: {path}: expected ")


def test_files_that_were_swapped_are_named(pki):
    assert problem(pki, CRLFile=str(pki.ca)).startswith("net.tls.CRLFile: ")
    assert problem(pki, CAFile=str(pki.crl)).startswith("net.tls.CAFile: ")
    assert problem(pki, CAFile=str(pki.client)).startswith("net.tls.CAFile: ")
    assert problem(pki, certificateKeyFile=str(pki.ca)).startswith("net.tls.certificateKeyFile: ")


def test_a_key_of_another_certificate_is_named(pki, tmp_path):
    path = tmp_path / "mixed.pem"
    key = pki.client.read_text().partition("-----BEGIN PRIVATE KEY-----")
    path.write_text(pki.server.read_text().partition("-----BEGIN PRIVATE KEY-----")[0] + key[1] + key[2])
    assert problem(pki, certificateKeyFile=str(path)) == (
        f"net.tls.certificateKeyFile: {path}: the key is not the certificate's"
    )


def test_a_certificate_that_ends_is_warned_of(pki):
    (expired,) = load(pki, certificateKeyFile=str(pki.server_expired)).warnings
    assert expired.startswith("net.tls.certificateKeyFile: the certificate has expired on ")
    (soon,) = load(pki, SetParameter()).warnings
    assert soon.startswith("net.tls.certificateKeyFile: the certificate expires on ")
    assert load(pki).warnings == ()
    later = TLS.model_validate(
        {"mode": "allowTLS", "certificateKeyFile": str(pki.server), "CAFile": str(pki.ca)}
    )
    (future,) = load_tls(later, NEVER, time.time() - 10 * DAY_SECS).warnings
    assert "is not valid before" in future


def test_a_revocation_list_out_of_date_is_warned_of(pki):
    old = pki.authority.revocation_list("old.crl", validity=(-30 * DAY, -DAY))
    (warning,) = load(pki, CRLFile=str(old)).warnings
    assert warning.startswith(f"net.tls.CRLFile: {old}: a list is out of date since ")


def test_a_trusted_authority_that_is_unknown_is_warned_of(pki):
    der = pki.authority.certificate.public_bytes(Encoding.DER)
    known = hashlib.sha256(der).hexdigest()
    trusts = [{"sha256": known, "roles": []}, {"sha256": "ab" * 32, "roles": []}]
    parameters = SetParameter(tlsCATrusts=trusts, tlsX509ExpirationWarningThresholdDays=0)
    (warning,) = load(pki, parameters).warnings
    assert warning.startswith("setParameter.tlsCATrusts: abab")
    assert load(pki, parameters).policy.ca_trusts == parameters.ca_trusts


def test_members_are_told_by_the_own_certificate_unless_configured(pki):
    assert load(pki, certificateKeyFile=str(pki.member)).policy.members == (
        members_of_dn("O=mongoguard tests,OU=servers"),
    )
    override = SetParameter(tlsX509ClusterAuthDNOverride="OU=old")
    assert members_of_dn("OU=old") in load(pki, override).policy.members
    attributes = load(pki, clusterAuthX509={"attributes": "O=Corp"}).policy
    assert (attributes.members, attributes.member_marks) == ((members_of_dn("O=Corp"),), frozenset())
    marked = load(pki, clusterAuthX509={"extensionValue": "cluster-1"}).policy
    assert (marked.members, marked.member_marks) == ((), {"cluster-1"})


def test_nobody_looks_like_a_certificate_without_a_subject(pki):
    path = pki.authority.issue(
        "nameless.pem",
        x509.Name([]),
        SERVER,
        extensions=[x509.SubjectAlternativeName([x509.DNSName("localhost")])],
        validity=(-DAY, datetime.timedelta(days=2)),
    )
    assert load(pki, certificateKeyFile=str(path)).policy.members == ()
