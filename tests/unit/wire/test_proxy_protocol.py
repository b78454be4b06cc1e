import struct
from ipaddress import ip_address

import google_crc32c
import pytest

from mongoguard.errors import ProtocolError
from mongoguard.wire.proxy_protocol import (
    MAX_V1_BYTES,
    MAX_V2_BYTES,
    ProxyHeader,
    begins_header,
    bytes_wanted,
    may_begin_header,
    parse_proxy_header,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = bytes([192, 0, 2, 7]) + bytes([192, 0, 2, 1]) + struct.pack(">HH", 40001, 27017)
V6 = ip_address("2001:db8::7").packed + ip_address("2001:db8::1").packed + struct.pack(">HH", 40001, 27017)
UNIX = b"/client".ljust(108, b"\0") + b"/server".ljust(108, b"\0")
V4_HEADER = ProxyHeader(True, ip_address("192.0.2.7"), ip_address("192.0.2.1"), 40001, 27017)
V6_HEADER = ProxyHeader(True, ip_address("2001:db8::7"), ip_address("2001:db8::1"), 40001, 27017)
NAMELESS = ProxyHeader(False)
LOCAL, PROXY = 0x20, 0x21


def v2(content=V4, command=PROXY, family=0x11, length=None):
    size = len(content) if length is None else length
    return SIGNATURE + bytes([command, family]) + struct.pack(">H", size) + content


def tlv(kind, value):
    return struct.pack(">BH", kind, len(value)) + value


def with_checksum(content=V4, family=0x11, after=b"", error=0):
    blank = v2(content + tlv(3, bytes(4)) + after, family=family)
    value = google_crc32c.value(blank) ^ error
    return v2(content + tlv(3, struct.pack(">I", value)) + after, family=family)


def read(stream):
    """The header at the beginning of a stream, and what is left of the stream, read as the shell does."""
    data = b""
    while wanted := bytes_wanted(data):
        chunk = stream[len(data) : len(data) + wanted]
        assert chunk, "the stream ended within the header"
        data += chunk
    return parse_proxy_header(data), stream[len(data) :]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 40001 27017\r\n", V4_HEADER),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 40001 27017\r\n", V6_HEADER),
        (b"PROXY TCP6 2001:DB8:0:0:0:0:0:7 2001:db8::1 40001 27017\r\n", V6_HEADER),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 40001 27017\r\n", V4_HEADER),
        (
            b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
            ProxyHeader(True, ip_address("0.0.0.0"), ip_address("255.255.255.255"), 0, 65535),
        ),
        (b"PROXY UNKNOWN\r\n", NAMELESS),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", NAMELESS),
        (b"PROXY UNKNOWN whatever a balancer likes\r\n", NAMELESS),
        (v2(), V4_HEADER),
        (v2(V6, family=0x21), V6_HEADER),
        (v2(UNIX, family=0x31), ProxyHeader(True)),
        (v2(b"", family=0), NAMELESS),
        (v2(b"", LOCAL, 0), NAMELESS),
        (v2(V4, LOCAL, 0x11), NAMELESS),
        (v2(b"anything", LOCAL, 0x77), NAMELESS),
        (v2(V4 + tlv(5, b"unique id") + tlv(4, b"") + tlv(0xEA, b"\1vpce-1")), V4_HEADER),
        (v2(tlv(4, bytes(100)), family=0), NAMELESS),
        (v2(V4 + tlv(4, bytes(MAX_V2_BYTES - 16 - 12 - 3))), V4_HEADER),
        (with_checksum(), V4_HEADER),
        (with_checksum(after=tlv(5, b"id")), V4_HEADER),
        (with_checksum(V6, 0x21), V6_HEADER),
        (with_checksum(b"", 0), NAMELESS),
    ],
)
def test_a_header_is_read_and_nothing_behind_it_is_taken(data, expected):
    assert read(data) == (expected, b"")
    behind = b"\x16\x03\x01 or a message" * 400
    assert read(data + behind) == (expected, behind)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP4 192.0.2.7 192.0.2.1 40001\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 40001 27017 \r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 40001 27017 1\r\n",
        b"PROXY TCP4  192.0.2.7 192.0.2.1 40001 27017\r\n",
        b"PROXY TCP4\t192.0.2.7 192.0.2.1 40001 27017\r\n",
        b"PROXY tcp4 192.0.2.7 192.0.2.1 40001 27017\r\n",
        b"PROXY TCP4 192.0.2.07 192.0.2.1 40001 27017\r\n",
        b"PROXY TCP4 192.0.2 192.0.2.1 40001 27017\r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.1 40001 27017\r\n",
        b"PROXY TCP4 0xC0.0.2.7 192.0.2.1 40001 27017\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 40001 27017\r\n",
        b"PROXY TCP6 192.0.2.7 192.0.2.1 40001 27017\r\n",
        b"PROXY TCP6 fe80::1%eth0 2001:db8::1 40001 27017\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 040001 27017\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 27017\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 -1 27017\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 +1 27017\r\n",
        b"PROXY TCP4 localhost 192.0.2.1 40001 27017\r\n",
        b"PROXY UDP4 192.0.2.7 192.0.2.1 40001 27017\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 40001 27017\n\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 40001 27017\rX\r\n",
        b"PROXY TCP4 \xd9\xa1.0.2.7 192.0.2.1 40001 27017\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY UNKNOWN \n\r\n",
        b"PROXY   \r\n      \r\n",
        b"PROXY UNKNOWN ".ljust(MAX_V1_BYTES - 1, b"x") + b"\r\n",
        b"PROXY UNKNOWN ".ljust(100_000, b"x"),
        b"proxy TCP4 192.0.2.7 192.0.2.1 40001 27017\r\n",
        b"PROXZ TCP4 192.0.2.7 192.0.2.1 40001 27017\r\n",
        b"\x35\x00\x00\x00 a message, say",
        b"\x16\x03\x01\x02\x00 TLS, say    ",
        b"\0" * 16,
        v2(command=0x11),
        v2(command=0x31),
        v2(command=0x22),
        v2(command=0x01),
        v2(family=0x12),
        v2(family=0x01),
        v2(family=0x10),
        v2(V6, family=0x22),
        v2(UNIX, family=0x32),
        v2(family=0x41),
        v2(V4, family=0x21),
        v2(V4[:11]),
        v2(b""),
        v2(UNIX[:-1], family=0x31),
        v2(V4 + b"\4"),
        v2(V4 + b"\4\0"),
        v2(V4 + b"\4\0\1"),
        v2(V4 + tlv(4, b"x")[:-1]),
        v2(b"\4", family=0),
        v2(V4 + tlv(3, b"123")),
        v2(V4 + tlv(3, b"12345")),
        v2(V4 + tlv(3, b"")),
        with_checksum(error=1),
        with_checksum(error=0x80000000),
        with_checksum(after=tlv(3, bytes(4))),
        v2(V4 + tlv(4, bytes(MAX_V2_BYTES - 16 - 12 - 2))),
        v2(length=65535),
        SIGNATURE[:-1] + b"\r" + v2()[12:],
    ],
)
def test_what_is_no_header_to_the_letter_is_refused(data):
    with pytest.raises(ProtocolError):
        read(data + bytes(16))


def test_the_longest_line_is_read_and_a_longer_one_is_refused_before_it_ends():
    longest = b"PROXY UNKNOWN ".ljust(MAX_V1_BYTES - 2, b"x")
    assert read(longest + b"\r\n") == (NAMELESS, b"")
    with pytest.raises(ProtocolError, match="longer than 107 bytes"):
        bytes_wanted(longest + b"xx")


def test_a_longer_header_is_refused_by_what_it_says_of_its_length():
    with pytest.raises(ProtocolError, match="longer than 4096 bytes"):
        bytes_wanted(v2(b"", length=MAX_V2_BYTES - 16 + 1))
    assert bytes_wanted(v2(b"", length=MAX_V2_BYTES - 16)) == MAX_V2_BYTES - 16


@pytest.mark.parametrize(
    "stream", [b"P\0", b"PROXY\0", b"\r\n\n", b"\rP", b"x", b"\0", SIGNATURE[:11] + b"!"]
)
def test_what_can_not_become_a_header_is_refused_at_its_first_wrong_byte(stream):
    bytes_wanted(stream[:-1])
    with pytest.raises(ProtocolError):
        bytes_wanted(stream)


def test_four_bytes_tell_a_header_from_a_message():
    for header in (b"PROXY TCP4 ", SIGNATURE):
        assert begins_header(header)
        assert begins_header(header[:4])
        assert not begins_header(header[:3])
        assert all(may_begin_header(header[:count]) for count in range(4))
        assert not may_begin_header(header[:4])
    for length in (16, 80, 0x0D, 0x0A0D, 48_000_000):
        message = struct.pack("<i", length) + bytes(12)
        assert not begins_header(message)
    assert may_begin_header(b"P")
    assert not may_begin_header(b"Px")
    assert not begins_header(b"\x16\x03\x01\x02")
