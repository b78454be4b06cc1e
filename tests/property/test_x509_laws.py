"""Certificates from strangers: whatever the octets are, there is one reading of them or an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongoguard.authn.x509.der import DerReader
from mongoguard.authn.x509.role_extension import read_roles
from mongoguard.authn.x509.subject import Subject, SubjectAttribute, read_subject
from mongoguard.model.names import RoleName
from tests.certificates import _der, roles_extension

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
values = st.binary(max_size=12).map(lambda octets: bytes(o for o in octets if 0x20 <= o != 0x7F))
kinds = st.sampled_from(["2.5.4.3", "2.5.4.10", "0.9.2342.19200300.100.1.25", "1.2.3.4.5"])
attributes = st.builds(SubjectAttribute, kinds, values)
rdns = st.lists(st.lists(attributes, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4).map(tuple)


def encoded_oid(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    octets = b""
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        octets += bytes(reversed(groups))
    return _der(0x06, octets)


def encoded(subject: Subject) -> bytes:
    """A TBSCertificate with that subject."""
    content = b"".join(
        _der(0x31, b"".join(_der(0x30, encoded_oid(a.type) + _der(0x0C, a.value)) for a in rdn))
        for rdn in subject.rdns
    )
    return _der(0x30, bytes.fromhex("a003020102 020101 3000 3000 3000") + _der(0x30, content))


def unescaped(name: str) -> Subject:
    """The subject behind a spelling: what mongod writes can be read in one way only."""
    found: list[tuple[SubjectAttribute, ...]] = []
    rdn: list[SubjectAttribute] = []
    kind, value, in_value, at = "", bytearray(), False, 0
    while at <= len(name):
        character = name[at : at + 1]
        if in_value and character in ("", ",", "+"):
            rdn.append(SubjectAttribute(_NUMBERS.get(kind, kind), bytes(value)))
            kind, value, in_value = "", bytearray(), False
            if character != "+":
                found.append(tuple(reversed(rdn)))
                rdn = []
        elif not in_value and character == "=":
            in_value = True
        elif not in_value:
            kind += character
        elif character == "\\" and name[at + 1] in "0123456789ABCDEF":
            value.append(int(name[at + 1 : at + 3], 16))
            at += 2
        elif character == "\\":
            value += name[at + 1].encode()
            at += 1
        else:
            value += character.encode()
        at += 1
    return Subject(tuple(reversed(found)))


_NUMBERS = {"CN": "2.5.4.3", "O": "2.5.4.10", "DC": "0.9.2342.19200300.100.1.25"}


@given(rdns)
def test_a_spelling_leads_back_to_its_subject(found: tuple[tuple[SubjectAttribute, ...], ...]) -> None:
    subject = Subject(found)
    assert str(subject).isascii()
    assert unescaped(str(subject)) == subject
    assert read_subject(encoded(subject)) == subject


@given(st.binary(max_size=200))
def test_any_octets_are_a_subject_or_an_error(octets: bytes) -> None:
    for whole in (octets, _der(0x30, bytes.fromhex("020101" + "3000" * 3) + _der(0x30, octets))):
        try:
            assert read_subject(whole).rdns
        except ValueError:
            continue


@given(rdns, st.data())
def test_a_subject_with_one_octet_changed_is_another_or_an_error(
    found: tuple[tuple[SubjectAttribute, ...], ...], data: st.DataObject
) -> None:
    octets = bytearray(encoded(Subject(found)))
    at = data.draw(st.integers(0, len(octets) - 1))
    octets[at] ^= data.draw(st.integers(1, 255))
    try:
        changed = read_subject(bytes(octets))
    except ValueError:
        return
    # What is not the subject may change unseen, and so may a text's type; never into a subject of other text.
    assert changed == Subject(found) or str(changed) != str(Subject(found))


@given(st.sets(st.tuples(names, names), min_size=1, max_size=5))
def test_roles_that_were_written_are_read(pairs: set[tuple[str, str]]) -> None:
    assert read_roles(roles_extension(*pairs).value) == tuple(sorted(RoleName(*pair) for pair in pairs))


@given(st.binary(max_size=100))
def test_any_octets_are_roles_or_an_error(octets: bytes) -> None:
    for whole in (octets, _der(0x31, octets), _der(0x31, _der(0x30, octets))):
        try:
            assert read_roles(whole)
        except ValueError:
            continue


@given(st.binary(max_size=60))
def test_what_is_read_as_der_is_its_one_encoding(octets: bytes) -> None:
    reader = DerReader(octets)
    try:
        tag = reader.tag
        content = reader.take()
        reader.finish()
    except ValueError:
        return
    assert tag is not None
    assert _der(tag, content) == octets


def test_the_law_would_notice_an_escape_that_is_missing() -> None:
    with pytest.raises(AssertionError):
        assert unescaped("CN=a,CN=b") == Subject(((SubjectAttribute("2.5.4.3", b"a,CN=b"),),))
