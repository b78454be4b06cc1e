"""The PROXY header: what is written is read, however it is cut; what is random is refused in the one known way."""

from __future__ import annotations

import contextlib
import struct
from ipaddress import IPv4Address, IPv6Address

import google_crc32c
from hypothesis import given
from hypothesis import strategies as st

from mongoguard.errors import ProtocolError
from mongoguard.wire.proxy_protocol import MAX_V2_BYTES, ProxyHeader, bytes_wanted, parse_proxy_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PORTS = st.integers(0, 65535)
ENDS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4), PORTS, PORTS),
    st.tuples(
        st.ip_addresses(v=6).filter(lambda a: a.ipv4_mapped is None),
        st.ip_addresses(v=6).filter(lambda a: a.ipv4_mapped is None),
        PORTS,
        PORTS,
    ),
)
TLVS = st.lists(
    st.tuples(st.integers(0, 255).filter(lambda kind: kind != 3), st.binary(max_size=40)), max_size=5
)


def v1(ends) -> bytes:
    family = b"TCP4" if isinstance(ends[0], IPv4Address) else b"TCP6"
    return b"PROXY %b %b %b %d %d\r\n" % (family, str(ends[0]).encode(), str(ends[1]).encode(), *ends[2:])


def v2(ends, tlvs, checksum: bool) -> bytes:
    family = 0x11 if isinstance(ends[0], IPv4Address) else 0x21
    content = ends[0].packed + ends[1].packed + struct.pack(">HH", *ends[2:])
    at = 16 + len(content) + 3
    if checksum:
        content += b"\3\0\4" + bytes(4)
    content += b"".join(struct.pack(">BH", kind, len(value)) + value for kind, value in tlvs)
    header = SIGNATURE + bytes([0x21, family]) + struct.pack(">H", len(content)) + content
    if checksum:
        header = header[:at] + struct.pack(">I", google_crc32c.value(header)) + header[at + 4 :]
    return header


def taken(stream: bytes, sizes) -> bytes:
    """What a reader takes of the stream when its socket gives it pieces of those sizes."""
    data, pieces = b"", iter(sizes)
    while wanted := bytes_wanted(data):
        size = min(wanted, next(pieces, wanted))
        chunk = stream[len(data) : len(data) + size]
        if not chunk:
            raise ProtocolError("the stream ended")
        data += chunk
    return data


@given(ENDS, TLVS, st.booleans(), st.booleans(), st.binary(max_size=40), st.lists(st.integers(1, 20)))
def test_what_is_written_is_read_however_it_is_cut_and_nothing_behind_it_is_taken(
    ends, tlvs, checksum, text, behind, sizes
) -> None:
    header = v1(ends) if text else v2(ends, tlvs, checksum)
    assert taken(header + behind, sizes) == header
    assert parse_proxy_header(header) == ProxyHeader(True, *ends)


@given(ENDS, TLVS, st.integers(0), st.integers(1, 255))
def test_a_checksum_notices_every_changed_byte(ends, tlvs, where, change) -> None:
    header = bytearray(v2(ends, tlvs, True))
    header[where % len(header)] ^= change
    with contextlib.suppress(ProtocolError):
        read = parse_proxy_header(taken(bytes(header), []))
        # The command LOCAL discards everything, and a changed type of the checksum leaves none.
        kind = 16 + (12 if isinstance(ends[0], IPv4Address) else 36)
        assert read == ProxyHeader(False) or where % len(header) in (13, 14, 15, kind, kind + 1, kind + 2)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(lambda rest: b"PROXY " + rest),
        st.binary(max_size=300).map(lambda rest: SIGNATURE + rest),
        st.text("PROXYTCP46 .:0123456789abcdef\r\n", max_size=120).map(
            lambda rest: b"PROXY " + rest.encode()
        ),
    ),
    st.lists(st.integers(1, 20)),
)
def test_random_bytes_are_a_header_or_a_protocol_error(stream, sizes) -> None:
    with contextlib.suppress(ProtocolError):
        header = taken(stream, sizes)
        assert len(header) <= MAX_V2_BYTES
        read = parse_proxy_header(header)
        assert (read.client is None) == (read.server is None)
        assert not isinstance(read.client, IPv6Address) or read.client.ipv4_mapped is None
