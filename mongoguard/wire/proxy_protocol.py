"""The PROXY protocol's header, versions 1 and 2: what a balancer says of the client whose bytes follow.

In: the first bytes of a connection. Out: a `ProxyHeader`, or `ProtocolError`. Must not know sockets, nor whom to trust.
Source: HAProxy's "The PROXY protocol, versions 1 & 2".

Read strictly: one spelling of every address and port, lengths that fit, no datagrams, no second checksum.
`bytes_wanted` never asks for more than what surely belongs to the header, so that nothing of what follows it (TLS, or
a message) is ever taken.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

import google_crc32c

from mongoguard.errors import ProtocolError
from mongoguard.model.restriction import Address

__all__ = [
    "MAX_V1_BYTES",
    "MAX_V2_BYTES",
    "ProxyHeader",
    "begins_header",
    "bytes_wanted",
    "parse_proxy_header",
]

MAX_V1_BYTES = 107
"""The longest line that version 1 allows, with its end (CRLF)."""
MAX_V2_BYTES = 4096
"""A version 2 header: 232 bytes hold every address; the rest is for TLVs, of which a client's certificate in DER is the
longest that balancers send (about 2 KB)."""

TELLING_BYTES = 4
"""Bytes that tell a header from a message, whose length they would be: 1.5 GB, and 168 MB."""

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED = 16
_SHORTEST_V1 = len(b"PROXY UNKNOWN\r\n")

_V1_ADDRESSES = re.compile(
    rb"PROXY (TCP[46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]{1,5}) ([0-9]{1,5})\r\n"
)
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")

_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESS_BYTES = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}
_TLV_CRC32C = 0x03


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """Whom the balancer speaks for.

    `names_client` is false where it speaks for itself (its health checks), or knows no more than mongoguard does; the
    addresses are then to be ignored. With it, an address of None is a client on a Unix socket of the balancer.
    """

    names_client: bool
    client: Address | None = None
    server: Address | None = None
    client_port: int = 0
    server_port: int = 0


_NAMELESS = ProxyHeader(names_client=False)


def begins_header(data: bytes) -> bool:
    """Whether these are the first bytes of a header, and so not of a message."""
    return data[:TELLING_BYTES] in (_V1[:TELLING_BYTES], _V2[:TELLING_BYTES])


def may_begin_header(data: bytes) -> bool:
    """Whether there are too few bytes yet to tell."""
    return len(data) < TELLING_BYTES and (_V1.startswith(data) or _V2.startswith(data))


def bytes_wanted(data: bytes) -> int:
    """How many bytes, at least, are missing of the header that begins with `data`; 0 when it is whole.

    Raises `ProtocolError` as soon as it can't become a header.
    """
    if data.startswith(_V1[: len(data)]) and data[:1] != _V2[:1]:
        return _wanted_v1(data)
    if not data.startswith(_V2[: len(data)]):
        raise ProtocolError("the connection does not begin with a PROXY header")
    if len(data) < _V2_FIXED:
        return _V2_FIXED - len(data)
    length = _V2_FIXED + int(struct.unpack_from(">H", data, 14)[0])
    if length > MAX_V2_BYTES:
        raise ProtocolError(f"the PROXY header is longer than {MAX_V2_BYTES} bytes")
    return max(0, length - len(data))


def _wanted_v1(data: bytes) -> int:
    if data.endswith(b"\r\n"):
        return 0
    if b"\n" in data or b"\r" in data[:-1]:
        raise ProtocolError("the PROXY line ends in the wrong way")
    if len(data) >= MAX_V1_BYTES:
        raise ProtocolError(f"the PROXY line is longer than {MAX_V1_BYTES} bytes")
    return max(1 if data.endswith(b"\r") else 2, _SHORTEST_V1 - len(data))


def parse_proxy_header(data: bytes) -> ProxyHeader:
    """Read a whole header, of which `bytes_wanted` wants nothing more. Raises `ProtocolError`."""
    return _parse_v1(data) if data.startswith(_V1) else _parse_v2(data)


def _parse_v1(line: bytes) -> ProxyHeader:
    if _V1_UNKNOWN.fullmatch(line):
        return _NAMELESS
    match = _V1_ADDRESSES.fullmatch(line)
    if match is None:
        raise ProtocolError("the PROXY line is malformed")
    protocol, client, server, client_port, server_port = match.groups()
    kind = IPv4Address if protocol == b"TCP4" else IPv6Address
    try:
        # IPv4Address refuses leading zeros, which some read as octal.
        addresses = [_plain(kind(text.decode("ascii"))) for text in (client, server)]
    except ValueError:
        raise ProtocolError("an address in the PROXY line is malformed") from None
    return ProxyHeader(True, addresses[0], addresses[1], _port(client_port), _port(server_port))


def _port(digits: bytes) -> int:
    port = int(digits)
    if port > 65535 or digits != b"%d" % port:
        raise ProtocolError("a port in the PROXY line is malformed")
    return port


def _parse_v2(data: bytes) -> ProxyHeader:
    command, family = data[12], data[13]
    if command not in (_LOCAL, _PROXY):
        raise ProtocolError("the PROXY header has an unknown version or command")
    if command == _LOCAL:
        return _NAMELESS  # "the receiver must discard the protocol block including the family"
    if family not in _ADDRESS_BYTES:
        raise ProtocolError("the PROXY header is about no stream over IPv4, IPv6 or a Unix socket")
    end = _V2_FIXED + _ADDRESS_BYTES[family]
    if end > len(data):
        raise ProtocolError("the PROXY header is too short for its addresses")
    _check_tlvs(data, end)
    if family == _UNSPECIFIED:
        return _NAMELESS
    if family == _UNIX:
        return ProxyHeader(names_client=True)
    size = 4 if family == _TCP4 else 16
    client, server = data[16 : 16 + size], data[16 + size : 16 + 2 * size]
    ports = struct.unpack_from(">HH", data, 16 + 2 * size)
    return ProxyHeader(True, _plain(ip_address(client)), _plain(ip_address(server)), *ports)


def _plain(address: Address) -> Address:
    """A balancer that listens on both families names its IPv4 clients in IPv6: they are IPv4 clients."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _check_tlvs(data: bytes, start: int) -> None:
    """Every TLV ends where the header ends, or before; a checksum, where there is one, is right."""
    checksums: list[int] = []
    for kind, at, size in _tlvs(data, start):
        if kind == _TLV_CRC32C:
            if size != 4 or checksums:
                raise ProtocolError("the PROXY header's checksum is malformed, or there is more than one")
            checksums.append(at)
    for at in checksums:
        without = data[:at] + bytes(4) + data[at + 4 :]
        if google_crc32c.value(without) != struct.unpack_from(">I", data, at)[0]:
            raise ProtocolError("the PROXY header's checksum is wrong")


def _tlvs(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Each TLV's type, where its value begins, and how long it is."""
    while start < len(data):
        if start + 3 > len(data):
            raise ProtocolError("a TLV of the PROXY header is cut short")
        kind, size = struct.unpack_from(">BH", data, start)
        start += 3
        if start + size > len(data):
            raise ProtocolError("a TLV of the PROXY header is longer than the header")
        yield kind, start, size
        start += size
