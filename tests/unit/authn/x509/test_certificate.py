"""Certificates read under a policy: roles that may be granted, and servers that are nobody's."""

import hashlib

import pytest
from cryptography import x509

from mongoguard.authn.x509.certificate import CertificatePolicy, RolePattern, read_client_certificate
from mongoguard.authn.x509.membership import members_of_dn, members_of_subject
from mongoguard.authn.x509.role_extension import MEMBERSHIP_OID, ROLES_OID
from mongoguard.authn.x509.subject import read_subject
from mongoguard.model.names import RoleName
from tests.certificates import _der, roles_extension
from tests.pki import client_subject, subject

ALICE = client_subject("alice")
ALICES_NAME = "CN=alice,OU=clients,O=mongoguard tests"
ROLES = roles_extension(("readWrite", "shop"), ("read", "reports"))
BOTH = (RoleName("read", "reports"), RoleName("readWrite", "shop"))
NOTHING = CertificatePolicy()


def extension(oid: str, value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


ANY_ROLE = RolePattern("", "")


def trusting(*authorities: bytes, patterns=(ANY_ROLE,)) -> CertificatePolicy:
    return CertificatePolicy({hashlib.sha256(one).digest(): tuple(patterns) for one in authorities})


def test_a_plain_certificate_has_a_name_and_an_end(maker):
    certificate = maker.certificate(ALICE)
    read = read_client_certificate(maker.der(ALICE), [maker.ca], NOTHING)
    assert (read.subject, read.roles, read.refusal) == (ALICES_NAME, None, "")
    assert abs(read.not_after - certificate.not_valid_after_utc.timestamp()) < 5


def test_the_role_extension_means_nothing_unless_asked_for(maker):
    for value in (ROLES, extension(ROLES_OID, b"rubbish")):
        read = read_client_certificate(maker.der(ALICE, value), [maker.ca], NOTHING)
        assert (read.roles, read.refusal) == (None, "")


def test_an_authority_grants_the_roles_that_it_may(maker):
    read = read_client_certificate(maker.der(ALICE, ROLES), [maker.ca], trusting(maker.ca))
    assert (read.roles, read.refusal) == (BOTH, "")
    without = read_client_certificate(maker.der(ALICE), [maker.ca], trusting(maker.ca))
    assert (without.roles, without.refusal) == (None, "")


@pytest.mark.parametrize(
    ("patterns", "granted"),
    [
        ([("", "")], True),
        ([("readWrite", ""), ("", "reports")], True),
        ([("readWrite", "shop"), ("read", "reports"), ("read", "x")], True),
        ([], False),
        ([("", "shop")], False),
        ([("read", "")], False),
        ([("readWrite", "reports"), ("read", "shop")], False),
    ],
)
def test_all_roles_of_a_certificate_must_be_grantable(maker, patterns, granted):
    policy = trusting(maker.ca, patterns=[RolePattern(*one) for one in patterns])
    read = read_client_certificate(maker.der(ALICE, ROLES), [maker.ca], policy)
    assert read.roles == (BOTH if granted else None)
    assert ("may not grant" in read.refusal) is not granted


@pytest.mark.parametrize("issuers", ["other", "nobody"])
def test_an_authority_that_is_not_listed_grants_nothing(maker, issuers):
    known = [maker.other_ca] if issuers == "other" else []  # a resumed session has no chain to show
    read = read_client_certificate(maker.der(ALICE, ROLES), known, trusting(maker.ca))
    assert "may not grant" in read.refusal
    assert read.roles is None


def test_the_nearest_listed_issuer_decides(maker):
    intermediate, root = maker.other_ca, maker.ca
    policy = CertificatePolicy(
        {hashlib.sha256(intermediate).digest(): (), hashlib.sha256(root).digest(): (ANY_ROLE,)}
    )
    assert read_client_certificate(maker.der(ALICE, ROLES), [intermediate, root], policy).refusal
    assert not read_client_certificate(maker.der(ALICE, ROLES), [root], policy).refusal


def test_a_malformed_role_extension_makes_a_certificate_worthless(maker):
    der = maker.der(ALICE, extension(ROLES_OID, b"rubbish"))
    read = read_client_certificate(der, [maker.ca], trusting(maker.ca))
    assert "malformed" in read.refusal
    assert read.subject == ALICES_NAME


MEMBER = subject({"DC": "org"}, {"O": "Corp"}, {"OU": "db"}, {"CN": "mongod-1"})


@pytest.mark.parametrize(
    "name",
    [
        MEMBER,
        subject({"OU": "db"}, {"CN": "anybody"}, {"DC": "org"}, {"O": "Corp"}),
        subject({"DC": "ORG"}, {"O": "corp"}, {"OU": "DB"}, {"CN": "x"}),
        subject({"DC": "org"}, {"O": "\uff23orp"}, {"OU": "db"}, {"CN": "in wide letters"}),
        subject({"O": "Corp", "OU": "db", "DC": "org"}),
    ],
)
def test_a_certificate_that_looks_like_a_members_is_refused(maker, name):
    policy = CertificatePolicy(members=(members_of_dn("O=Corp,OU=db,DC=org"),))
    read = read_client_certificate(maker.der(name), [maker.ca], policy)
    assert "looks like" in read.refusal


@pytest.mark.parametrize(
    "name",
    [
        subject({"O": "Corp"}, {"OU": "clients"}, {"DC": "org"}, {"CN": "mongod-1"}),
        subject({"O": "Corp"}, {"OU": "db"}, {"CN": "mongod-1"}),
        subject({"O": "Corp"}, {"OU": "db"}, {"DC": "org"}, {"OU": "clients"}),
        subject({"CN": "O=Corp,OU=db,DC=org"}),
    ],
)
def test_a_certificate_that_differs_from_a_members_is_not(maker, name):
    policy = CertificatePolicy(members=(members_of_dn("O=Corp,OU=db,DC=org"),))
    assert not read_client_certificate(maker.der(name), [maker.ca], policy).refusal


def test_members_are_told_by_a_dn_or_by_a_certificate_alike(maker):
    found = read_subject(maker.certificate(MEMBER).tbs_certificate_bytes)
    assert members_of_subject(found) == members_of_dn("CN=other, ou=DB, o=corp ,dc=Org")
    with pytest.raises(ValueError, match="none"):
        members_of_dn("CN=mongod-1")


def test_the_mark_of_members_is_refused_and_no_other(maker):
    policy = CertificatePolicy(member_marks=frozenset({"cluster-1"}))
    for mark, refused in ((b"cluster-1", True), (b"cluster-2", False)):
        der = maker.der(ALICE, extension(MEMBERSHIP_OID, _der(0x0C, mark)))
        assert bool(read_client_certificate(der, [maker.ca], policy).refusal) is refused
    unreadable = maker.der(ALICE, extension(MEMBERSHIP_OID, b"rubbish"))
    assert "malformed" in read_client_certificate(unreadable, [maker.ca], policy).refusal
    assert not read_client_certificate(maker.der(ALICE), [maker.ca], policy).refusal


def test_a_certificate_without_a_spelling_names_nobody(maker):
    read = read_client_certificate(maker.der(x509.Name([])), [maker.ca], NOTHING)
    assert read.subject == ""
    assert "names nobody" in read.refusal


@pytest.mark.parametrize("names", ["3002a300", "3004a502a000"])  # x400Address, ediPartyName
def test_alternative_names_of_kinds_that_nobody_reads_are_a_refusal_and_no_error_of_ours(maker, names):
    odd = maker.der(ALICE, extension("2.5.29.17", bytes.fromhex(names)))
    read = read_client_certificate(odd, [maker.ca], trusting(maker.ca))
    assert "can't be read" in read.refusal
    assert not read_client_certificate(odd, [maker.ca], NOTHING).refusal


def test_a_certificate_of_an_unknown_version_is_no_certificate(maker):
    der = maker.der(ALICE)
    version = b"\xa0\x03\x02\x01"
    with pytest.raises(ValueError, match="version"):
        read_client_certificate(der.replace(version + b"\x02", version + b"\x05", 1), [maker.ca], NOTHING)


def test_octets_that_are_no_certificate_are_an_error():
    with pytest.raises(ValueError, match=r"."):
        read_client_certificate(b"rubbish", [], NOTHING)
