"""Subjects spelled as mongod spells them (the awkward ones are held to a real mongod in tests/integration)."""

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from mongoguard.authn.x509.der import SEQUENCE, SET, DerReader
from mongoguard.authn.x509.subject import MAX_ATTRIBUTES, Subject, SubjectAttribute, read_subject
from tests.pki import AWKWARD_SUBJECTS, subject

CN = "2.5.4.3"


def spelled(*values: bytes, kind: str = CN) -> str:
    return str(Subject(tuple((SubjectAttribute(kind, value),) for value in values)))


@pytest.mark.parametrize("kind", AWKWARD_SUBJECTS)
def test_an_awkward_subject_is_spelled_as_mongod_spells_it(maker, kind):
    awkward = AWKWARD_SUBJECTS[kind]
    assert str(read_subject(maker.certificate(awkward.name).tbs_certificate_bytes)) == awkward.mongod


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # measured on mongod 6.0.5: it looks for a space at the end behind more than two written characters only
        (b"a ", "CN=a "),
        (b"ab ", "CN=ab\\ "),
        (b" ", "CN=\\ "),
        (b"  ", "CN=\\ \\ "),
        (b"#", "CN=\\#"),
        (b"# ", "CN=\\#\\ "),
        (b", ", "CN=\\,\\ "),
        (b"", "CN="),
        (b"a#b c", "CN=a#b c"),
        (b"\xc3\xa9", "CN=\\C3\\A9"),
        (b"a=b/c'd", "CN=a=b/c'd"),
    ],
)
def test_a_value_is_escaped_as_mongod_escapes_it(value, expected):
    assert spelled(value) == expected


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("2.5.4.97", "organizationIdentifier"),
        ("0.9.2342.19200300.100.1.3", "mail"),
        ("1.2.643.3.131.1.1", "INN"),
        ("1.3.6.1.5.5.7.9.4", "id-pda-countryOfCitizenship"),
        ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
        ("2.5.4.96", "2.5.4.96"),
        ("1.2.3.4.5", "1.2.3.4.5"),
    ],
)
def test_a_type_has_openssls_short_name_or_its_number(kind, name):
    assert spelled(b"x", kind=kind) == f"{name}=x"


def test_two_subjects_never_have_one_spelling():
    values = [b"a,CN=b", b"a", b"b", b"a+UID=b", b"a\\", b"a\\,CN=b", b"\\C3", b"\xc3", b" a", b"#a"]
    subjects = {spelled(v) for v in values} | {spelled(v, w) for v in values for w in values}
    assert len(subjects) == len(values) + len(values) ** 2


def attribute(text, kind=_ASN1Type.UTF8String, oid=NameOID.COMMON_NAME):
    return x509.NameAttribute(oid, text, _type=kind, _validate=False)


@pytest.mark.parametrize("kind", [_ASN1Type.PrintableString, _ASN1Type.IA5String, _ASN1Type.T61String])
def test_the_string_types_that_mongod_takes_are_read(maker, kind):
    certificate = maker.certificate(x509.Name([attribute("bob", kind)]))
    assert str(read_subject(certificate.tbs_certificate_bytes)) == "CN=bob"


@pytest.mark.parametrize("kind", [_ASN1Type.BMPString, _ASN1Type.UniversalString])
def test_a_string_type_that_mongod_drops_is_refused(maker, kind):
    certificate = maker.certificate(x509.Name([attribute("bob", kind)]))
    with pytest.raises(ValueError, match="no spelling"):
        read_subject(certificate.tbs_certificate_bytes)


@pytest.mark.parametrize("text", ["root\0.evil", "a\nb", "\x7f", "\x01"])
def test_a_control_character_is_refused(maker, text):
    certificate = maker.certificate(x509.Name([attribute(text)]))
    with pytest.raises(ValueError, match="control character"):
        read_subject(certificate.tbs_certificate_bytes)


def test_an_empty_subject_is_refused(maker):
    with pytest.raises(ValueError, match="empty"):
        read_subject(maker.certificate(x509.Name([])).tbs_certificate_bytes)


def test_a_subject_of_too_many_attributes_is_refused(maker):
    name = x509.Name([attribute("x")] * (MAX_ATTRIBUTES + 1))
    with pytest.raises(ValueError, match="attributes"):
        read_subject(maker.certificate(name).tbs_certificate_bytes)
    fits = read_subject(maker.certificate(x509.Name([attribute("x")] * MAX_ATTRIBUTES)).tbs_certificate_bytes)
    assert len(fits.rdns) == MAX_ATTRIBUTES


def test_what_follows_a_certificate_is_refused(maker):
    octets = maker.certificate(subject({"CN": "a"})).tbs_certificate_bytes
    with pytest.raises(ValueError, match="follows"):
        read_subject(octets + b"\0")


def test_a_certificate_of_version_1_has_no_version_and_is_read():
    """Built by hand: the builder makes version 3 only."""
    name = bytes.fromhex("300c310a3008060355040312" + "0131")
    body = bytes.fromhex("020101" + "3000" * 3) + name
    assert str(read_subject(bytes([SEQUENCE, len(body)]) + body)) == "CN=1"


def test_an_empty_rdn_is_refused():
    body = bytes.fromhex("020101" + "3000" * 3) + bytes([SEQUENCE, 2, SET, 0])
    with pytest.raises(ValueError, match="RDN"):
        read_subject(bytes([SEQUENCE, len(body)]) + body)
    assert DerReader(body).tag == 2
