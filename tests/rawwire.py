"""A small blocking client that sends exactly the bytes it is told to: for attacks, and for what drivers never send.

It shares no code with mongoguard on purpose (BSON comes from PyMongo's bson, the rest is written here from MongoDB's
wire protocol specification), so that a mistake on one side is not repeated on the other.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import importlib
import itertools
import secrets
import socket
import struct
import sys
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import bson

__all__ = [
    "CHECKSUM_PRESENT",
    "EXHAUST_ALLOWED",
    "MORE_TO_COME",
    "NOOP",
    "OP_COMPRESSED",
    "OP_MSG",
    "OP_QUERY",
    "OP_REPLY",
    "SNAPPY",
    "ZLIB",
    "ZSTD",
    "ConnectionEnded",
    "Message",
    "RawConnection",
    "compressed",
    "crc32c",
    "document_section",
    "header",
    "message",
    "op_msg",
    "op_query",
    "sequence_section",
]

OP_REPLY, OP_QUERY, OP_COMPRESSED, OP_MSG = 1, 2004, 2012, 2013
CHECKSUM_PRESENT, MORE_TO_COME, EXHAUST_ALLOWED = 1 << 0, 1 << 1, 1 << 16
NOOP, SNAPPY, ZLIB, ZSTD = 0, 1, 2, 3
"""Compressor ids of OP_COMPRESSED."""

Document = Mapping[str, Any]


class ConnectionEnded(Exception):
    """The peer closed the connection before a whole message came."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the peer: the header's fields, and everything after the header."""

    request_id: int
    response_to: int
    opcode: int
    payload: bytes

    @property
    def flags(self) -> int:
        """flagBits of an OP_MSG, responseFlags of an OP_REPLY."""
        flags: int = struct.unpack_from("<I", self.payload)[0]
        return flags

    @property
    def document(self) -> dict[str, Any]:
        """The body of an OP_MSG, or the first document of an OP_REPLY. AssertionError for anything else."""
        if self.opcode == OP_MSG:
            assert self.payload[4] == 0, "the first section is no body"
            start = 5
        else:
            assert self.opcode == OP_REPLY, f"opcode {self.opcode} holds no document"
            start = 20
        length: int = struct.unpack_from("<i", self.payload, start)[0]
        return bson.decode(self.payload[start : start + length])

    def decompressed(self) -> Message:
        """The message inside an OP_COMPRESSED; itself when it is none."""
        if self.opcode != OP_COMPRESSED:
            return self
        opcode, _size, compressor = struct.unpack_from("<iiB", self.payload)
        return Message(self.request_id, self.response_to, opcode, _decompress(compressor, self.payload[9:]))


def header(length: int, opcode: int, request_id: int = 1, response_to: int = 0) -> bytes:
    """A message header; `length` is what messageLength claims, true or not."""
    return struct.pack("<iiii", length, request_id, response_to, opcode)


def message(opcode: int, payload: bytes, request_id: int = 1) -> bytes:
    """A header of the right length, and the payload."""
    return header(16 + len(payload), opcode, request_id) + payload


def document_section(body: Document | bytes) -> bytes:
    """A kind-0 section; bytes are taken as they are."""
    return b"\0" + (body if isinstance(body, bytes) else bson.encode(body))


def sequence_section(identifier: str, documents: Iterable[Document | bytes]) -> bytes:
    """A kind-1 section: an identifier and a sequence of documents."""
    content = identifier.encode() + b"\0"
    content += b"".join(one if isinstance(one, bytes) else bson.encode(one) for one in documents)
    return b"\1" + struct.pack("<i", len(content) + 4) + content


def op_msg(
    body: Document | bytes, *sections: bytes, flags: int = 0, request_id: int = 1, before: bytes = b""
) -> bytes:
    """An OP_MSG of a body and more sections (`before`: sections ahead of the body). CHECKSUM_PRESENT adds it."""
    payload = struct.pack("<I", flags) + before + document_section(body) + b"".join(sections)
    if not flags & CHECKSUM_PRESENT:
        return message(OP_MSG, payload, request_id)
    data = header(16 + len(payload) + 4, OP_MSG, request_id) + payload
    return data + struct.pack("<I", crc32c(data))


def op_query(
    body: Document | bytes,
    namespace: str = "admin.$cmd",
    *,
    flags: int = 0,
    request_id: int = 1,
    limit: int = -1,
) -> bytes:
    """An OP_QUERY, which carries the first hello of many drivers."""
    data = body if isinstance(body, bytes) else bson.encode(body)
    payload = struct.pack("<i", flags) + namespace.encode() + b"\0" + struct.pack("<ii", 0, limit) + data
    return message(OP_QUERY, payload, request_id)


def compressed(inner: bytes, compressor: int = ZLIB, *, claimed_size: int | None = None) -> bytes:
    """An OP_COMPRESSED around a whole message; `claimed_size` lies about the size before compression."""
    _length, request_id, _response_to, opcode = struct.unpack_from("<iiii", inner)
    payload = inner[16:]
    size = len(payload) if claimed_size is None else claimed_size
    return message(
        OP_COMPRESSED,
        struct.pack("<iiB", opcode, size, compressor) + _compress(compressor, payload),
        request_id,
    )


class RawConnection:
    """A TCP connection to a MongoDB server or something like one. Use it with `with`."""

    def __init__(self, address: str, timeout: float = 20.0) -> None:
        """Connect to "host:port"; every wait ends after `timeout` seconds with `TimeoutError`."""
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout)
        self._request_ids = itertools.count(1)

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self._socket.sendall(data)

    def shut_down(self) -> None:
        """End the connection under a thread that reads from it, which then reads end of file."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def end_sending(self) -> None:
        """Close our half: the peer reads end of file after what was sent."""
        self._socket.shutdown(socket.SHUT_WR)

    def receive(self) -> Message:
        """Read one message. Raises `ConnectionEnded` when the peer closes first."""
        length, request_id, response_to, opcode = struct.unpack("<iiii", self._exactly(16))
        return Message(request_id, response_to, opcode, self._exactly(length - 16))

    def is_closed_by_peer(self) -> bool:
        """Whether the peer ends the connection without another byte (waits for it; TimeoutError when it stays open)."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def silent_for(self, seconds: float) -> bool:
        """Whether the peer neither sends anything nor hangs up for that long."""
        before = self._socket.gettimeout()
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(before)
        return False

    def exchange(self, data: bytes) -> Message:
        """Send these bytes and read one message."""
        self.send(data)
        return self.receive()

    def command(self, db: str, body: Document, *sections: bytes) -> dict[str, Any]:
        """Run a command with OP_MSG and return the reply, whatever its `ok`."""
        reply = self.exchange(op_msg({**body, "$db": db}, *sections, request_id=next(self._request_ids)))
        return reply.document

    def log_in(self, user: str, password: str, db: str = "admin") -> None:
        """SCRAM-SHA-256 (RFC 7677), ASCII passwords. AssertionError when the server refuses or can't prove itself."""
        nonce = base64.b64encode(secrets.token_bytes(18)).decode()
        first = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={nonce}"
        start = {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": f"n,,{first}".encode()}
        reply = self.command(db, {**start, "options": {"skipEmptyExchange": True}})
        assert reply["ok"] == 1, reply
        challenge = bytes(reply["payload"]).decode()
        fields = dict(part.split("=", 1) for part in challenge.split(","))
        salted = hashlib.pbkdf2_hmac(
            "sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"])
        )
        without_proof = f"c=biws,r={fields['r']}"
        signed = f"{first},{challenge},{without_proof}".encode()
        key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(key).digest(), signed)
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
        final = self.command(
            db,
            {
                "saslContinue": 1,
                "conversationId": reply["conversationId"],
                "payload": f"{without_proof},p={proof}".encode(),
            },
        )
        assert final["ok"] == 1, final
        expected = base64.b64encode(_hmac(_hmac(salted, b"Server Key"), signed)).decode()
        assert bytes(final["payload"]).decode() == f"v={expected}", (
            "the server can't prove that it knows the user"
        )
        assert final["done"] is True, final

    def _exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self._socket.recv(min(count - len(parts), 1 << 20))
            if not part:
                raise ConnectionEnded(f"after {len(parts)} of {count} bytes")
            parts += part
        return bytes(parts)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _crc32c_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901  (the polynomial division itself)
        table.append(value)
    return table


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), the checksum of OP_MSG."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _zstd() -> Any:
    return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def _compress(compressor: int, data: bytes) -> bytes:
    match compressor:
        case 1:
            import snappy

            return bytes(snappy.compress(data))
        case 2:
            return zlib.compress(data)
        case 3:
            return bytes(_zstd().compress(data))
        case _:
            return data


def _decompress(compressor: int, data: bytes) -> bytes:
    match compressor:
        case 1:
            import snappy

            return bytes(snappy.decompress(data))
        case 2:
            return zlib.decompress(data)
        case 3:
            return bytes(_zstd().decompress(data))
        case _:
            return data
