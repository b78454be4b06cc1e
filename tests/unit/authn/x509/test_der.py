"""DER: one reading of every octet."""

import pytest

from mongoguard.authn.x509.der import SEQUENCE, UTF8_STRING, DerError, DerReader, object_identifier


def test_elements_are_taken_in_order():
    reader = DerReader(bytes.fromhex("0c0161 3003 0c0162".replace(" ", "")))
    assert reader.take(UTF8_STRING) == b"a"
    assert reader.enter(SEQUENCE).take() == b"b"
    assert reader.tag is None
    reader.finish()


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_a_length_in_its_shortest_form_is_read(length):
    octets = b"" if length < 128 else length.to_bytes((length.bit_length() + 7) // 8, "big")
    head = bytes([0x0C, length]) if length < 128 else bytes([0x0C, 0x80 | len(octets)]) + octets
    assert DerReader(head + bytes(length)).take() == bytes(length)


@pytest.mark.parametrize(
    "octets",
    [
        "",  # nothing
        "0c",  # no length
        "0c02 61",  # truncated
        "0c80 6100 00",  # indefinite
        "0c81 01 61",  # long form of a short length
        "0c82 0081" + "00" * 129,  # leading zero
        "0c85 0000000001 61",  # five octets
        "0cff",  # reserved
        "0c81",  # length missing
        "0c84 ffffffff",  # far too long
        "1f81 01 61",  # long tag
        "3001 61",  # another type
    ],
)
def test_anything_else_is_refused(octets):
    with pytest.raises(DerError):
        DerReader(bytes.fromhex(octets)).take(0x1F if octets.startswith("1f") else UTF8_STRING)


def test_what_is_left_over_is_refused():
    reader = DerReader(bytes.fromhex("0c0161 00"))
    reader.take()
    with pytest.raises(DerError, match="follows"):
        reader.finish()


@pytest.mark.parametrize(
    ("octets", "dotted"),
    [
        ("550403", "2.5.4.3"),
        ("2b0601040182 8e29020101", "1.3.6.1.4.1.34601.2.1.1"),
        ("00", "0.0"),
        ("8837", "2.999"),
    ],
)
def test_an_object_identifier_is_read(octets, dotted):
    assert object_identifier(bytes.fromhex(octets)) == dotted


@pytest.mark.parametrize("octets", ["", "80", "5580", "558001", "55" + "ff" * 11 + "01"])
def test_an_object_identifier_of_another_form_is_refused(octets):
    with pytest.raises(DerError):
        object_identifier(bytes.fromhex(octets))
