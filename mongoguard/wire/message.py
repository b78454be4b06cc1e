"""Messages: OP_MSG, OP_QUERY, OP_REPLY between bytes and values.

In: one whole framed message. Out: an `OpMsg` or `OpQuery` whose documents are views into those bytes; and replies as
bytes. Must not know what a command means.
Source: the MongoDB wire protocol page and the OP_MSG specification; refusals measured on mongod 6.0.5.

What mongod answers by closing the connection raises `ProtocolError`; what it answers with an error document raises
`CommandError`. There is no third way: bytes that are not understood never become a message.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import google_crc32c

from mongoguard.errors import CommandError, ErrorCode, ProtocolError
from mongoguard.wire.document import Document, DuplicateFieldError
from mongoguard.wire.native import native_spans

__all__ = [
    "HEADER_SIZE",
    "MAX_BSON_OBJECT_BYTES",
    "MAX_MESSAGE_BYTES",
    "MessageFlag",
    "OpCode",
    "OpMsg",
    "OpQuery",
    "ReplyFlag",
    "encode_op_msg",
    "encode_op_reply",
    "parse_message",
    "request_id_of",
]

HEADER_SIZE = 16
MAX_MESSAGE_BYTES = 48_000_000
"""maxMessageSizeBytes of every server since 3.6; mongod closes the connection on a longer message."""
MAX_BODY_FIELDS = 10_000
"""Fields in the body of a message: the longest commands (getParameter by names) have some hundred."""
MAX_SEQUENCES = 16
"""Document sequences in a message; no command takes more than two (bulkWrite)."""
MAX_SEQUENCE_DOCUMENTS = 100_000
"""maxWriteBatchSize of every server."""
MAX_BSON_OBJECT_BYTES = 16 * 1024 * 1024 + 16 * 1024
"""maxBsonObjectSize plus the 16 KiB that a command may need around a document of that size."""

_header = struct.Struct("<iiii")
_int32 = struct.Struct("<i")
_uint32 = struct.Struct("<I")
_reply_head = struct.Struct("<iqii")

_UNKNOWN_REQUIRED_FLAGS = 0xFFFC
"""Bits 2-15: a peer that sets one needs something of us that we don't know, so nothing of its message is safe."""


class OpCode(IntEnum):
    """The opcodes of the wire protocol, with those that 5.1 removed."""

    REPLY = 1
    UPDATE = 2001
    INSERT = 2002
    RESERVED = 2003
    QUERY = 2004
    GET_MORE = 2005
    DELETE = 2006
    KILL_CURSORS = 2007
    COMPRESSED = 2012
    MSG = 2013


class MessageFlag(IntFlag):
    """OP_MSG flag bits. Bits 0-15 are required to be understood, bits 16-31 may be ignored."""

    CHECKSUM_PRESENT = 1
    MORE_TO_COME = 2
    EXHAUST_ALLOWED = 1 << 16


class ReplyFlag(IntFlag):
    """OP_REPLY flag bits."""

    QUERY_FAILURE = 2
    AWAIT_CAPABLE = 8


@dataclass(slots=True)
class OpMsg:
    """One OP_MSG. `body` is the kind-0 section; `sequences` maps identifiers to (start, end) spans in `data`.

    `end` is where the sections end: the length of `data`, or four less when a checksum follows.
    """

    data: bytes
    request_id: int
    flags: int
    body: Document
    sequences: Mapping[str, Sequence[tuple[int, int]]]
    end: int

    @property
    def more_to_come(self) -> bool:
        """The sender wants no reply."""
        return bool(self.flags & 2)

    @property
    def exhaust_allowed(self) -> bool:
        """The sender takes several replies, if the receiver wants to send them."""
        return bool(self.flags & 0x10000)


@dataclass(slots=True)
class OpQuery:
    """One OP_QUERY: `namespace` is the full collection name, `query` its document."""

    data: bytes
    request_id: int
    namespace: str
    query: Document


def request_id_of(data: bytes) -> int:
    """The request id of a framed message."""
    return int(_int32.unpack_from(data, 4)[0])


def parse_message(data: bytes) -> OpMsg | OpQuery:
    """Parse one framed message of a client.

    Raises `ProtocolError` for what ends the connection (other opcodes, unknown required flags, a wrong checksum),
    `CommandError` for what is answered.
    """
    op_code = _int32.unpack_from(data, 12)[0]
    if op_code == OpCode.MSG:
        return _parse_op_msg(data)
    if op_code == OpCode.QUERY:
        return _parse_op_query(data)
    raise ProtocolError(f"opcode {op_code} is not served")


def encode_op_msg(request_id: int, response_to: int, body: bytes, flags: int = 0) -> bytes:
    """An OP_MSG of one kind-0 section."""
    return b"".join(
        (_header.pack(21 + len(body), request_id, response_to, OpCode.MSG), _uint32.pack(flags), b"\0", body)
    )


def encode_op_reply(request_id: int, response_to: int, document: bytes, flags: int) -> bytes:
    """An OP_REPLY of one document, the answer to an OP_QUERY."""
    head = _header.pack(36 + len(document), request_id, response_to, OpCode.REPLY)
    return head + _reply_head.pack(flags, 0, 0, 1) + document


def _parse_op_msg(data: bytes) -> OpMsg:
    size = len(data)
    if size < 20:  # header and flags
        raise ProtocolError("an OP_MSG is too short")
    flags: int = _uint32.unpack_from(data, 16)[0]
    if flags & _UNKNOWN_REQUIRED_FLAGS:
        raise ProtocolError("an OP_MSG has unknown required flags")
    end = size
    if flags & 1:  # checksumPresent; plain ints here: enum.Flag operators cost a microsecond each
        end = size - 4
        _check_crc32c(data, end)
    request_id: int = _int32.unpack_from(data, 4)[0]
    # Nearly every message is one body section that fills it; the general walk costs three times as much.
    if size >= 26 and data[20] == 0 and 21 + _int32.unpack_from(data, 21)[0] == end:
        return OpMsg(data, request_id, flags, _body(data, 21, end), {}, end)
    body, sequences = _sections(data, end)
    return OpMsg(data, request_id, flags, body, sequences, end)


def _check_crc32c(data: bytes, end: int) -> None:
    if end < 20 or google_crc32c.value(data[:end]) != _uint32.unpack_from(data, end)[0]:
        raise ProtocolError("an OP_MSG has a wrong checksum")


def _body(data: bytes, start: int, limit: int) -> Document:
    if limit - start > MAX_BSON_OBJECT_BYTES:
        _check_body_size(_int32.unpack_from(data, start)[0])  # before the scan: that is what costs
    try:
        return Document(data, start, limit, max_fields=MAX_BODY_FIELDS)
    except DuplicateFieldError as error:
        # mongod finds the repeated key when it reads the generic arguments, and words it so for every command.
        raise CommandError(
            40413, f"BSON field 'APIParametersFromClient.{error.name}' is a duplicate field"
        ) from None


def _check_body_size(size: int) -> None:
    if size > MAX_BSON_OBJECT_BYTES:
        raise CommandError(
            ErrorCode.BSON_OBJECT_TOO_LARGE,
            f"BSONObj size: {size} ({size:#x}) is invalid. Size must be between 0 and {MAX_BSON_OBJECT_BYTES}(16MB)",
        )


def _sections(data: bytes, end: int) -> tuple[Document, dict[str, list[tuple[int, int]]]]:
    """Walk the sections in whatever order they come."""
    body: Document | None = None
    sequences: dict[str, list[tuple[int, int]]] = {}
    position = 20
    while position < end:
        kind = data[position]
        if kind == 0:
            if body is not None:
                raise CommandError(40430, "Multiple body sections in message")
            body = _body(data, position + 1, end)
            position = body.end
        elif kind == 1:
            name, spans, position = _sequence(data, position + 1, end)
            if len(sequences) >= MAX_SEQUENCES:
                raise CommandError(ErrorCode.INVALID_LENGTH, "a message has too many document sequences")
            if name in sequences:
                raise CommandError(40431, f"Duplicate document sequence: {name}")
            sequences[name] = spans
        elif kind == 2:
            raise CommandError(ErrorCode.UNAUTHORIZED, "Unsupported Security Token provided")
        else:
            raise CommandError(40432, f"Unknown section kind {kind}")
    if body is None:
        raise CommandError(40587, "OP_MSG messages must have a body")
    for name in sequences:
        if name in body.fields:
            raise CommandError(40433, f"Duplicate field between body and document sequence {name}")
    return body, sequences


def _sequence(data: bytes, start: int, limit: int) -> tuple[str, list[tuple[int, int]], int]:
    """One kind-1 section: its identifier, the spans of its documents, and where it ends."""
    if limit - start < 5:
        raise CommandError(ErrorCode.OVERFLOW, "a document sequence is too short")
    end = start + _int32.unpack_from(data, start)[0]
    nul = data.find(0, start + 4, min(end, limit))
    if end > limit or end < start + 5 or nul < 0:
        raise CommandError(ErrorCode.OVERFLOW, "a document sequence does not fit its message")
    try:
        name = data[start + 4 : nul].decode()
    except UnicodeDecodeError:
        raise CommandError(ErrorCode.INVALID_BSON, "a document sequence's identifier is not UTF-8") from None
    return name, _spans(data, nul + 1, end), end


def _spans(data: bytes, position: int, end: int) -> list[tuple[int, int]]:
    """Where each document of a sequence begins and ends."""
    if native_spans is not None:
        found: list[tuple[int, int]] | None = native_spans(data, position, end, MAX_SEQUENCE_DOCUMENTS)
        if found is not None:
            return found
    return _spans_in_python(data, position, end)


def _spans_in_python(data: bytes, position: int, end: int) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    unpack = _int32.unpack_from
    while position < end:
        if end - position < 5:
            raise CommandError(ErrorCode.INVALID_BSON, "a document sequence ends inside a document")
        following = position + unpack(data, position)[0]
        if following < position + 5 or following > end or data[following - 1]:
            raise CommandError(ErrorCode.INVALID_BSON, "a document in a sequence has a bad length")
        if len(spans) >= MAX_SEQUENCE_DOCUMENTS:
            raise CommandError(
                ErrorCode.INVALID_LENGTH, f"Write batch sizes must be between 1 and {MAX_SEQUENCE_DOCUMENTS}."
            )
        spans.append((position, following))
        position = following
    return spans


def _parse_op_query(data: bytes) -> OpQuery:
    nul = data.find(0, 20)
    if nul < 0 or len(data) - nul < 14:
        raise ProtocolError("an OP_QUERY is too short")
    try:
        namespace = data[20:nul].decode()
    except UnicodeDecodeError:
        raise ProtocolError("an OP_QUERY names no UTF-8 collection") from None
    query = Document(data, nul + 9)
    if query.end != len(data) and Document(data, query.end).end != len(data):
        raise ProtocolError("bytes follow an OP_QUERY's documents")
    return OpQuery(data, request_id_of(data), namespace, query)
