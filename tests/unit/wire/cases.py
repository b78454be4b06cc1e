"""Messages of a client, and what parsing makes of each: one table for parsing, framing and fuzzing.

Put to a mongod 6.0.5, each is answered with the same code, or by closing; where a name says what mongod does instead,
mongoguard is the stricter one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import bson

from tests.rawwire import (
    CHECKSUM_PRESENT,
    EXHAUST_ALLOWED,
    MORE_TO_COME,
    OP_MSG,
    OP_QUERY,
    crc32c,
    document_section,
    header,
    message,
    op_msg,
    op_query,
    sequence_section,
)

__all__ = ["CASES", "CLOSED", "PING", "Case", "document_of", "element", "nested", "sequence_claiming"]

CLOSED = "closed"
"""The connection ends without a reply."""

PING: dict[str, Any] = {"ping": 1, "$db": "admin"}


@dataclass(frozen=True, slots=True)
class Case:
    """`answer`: None for a message that parses, the error code of its refusal, or CLOSED. `text`: part of the errmsg."""

    name: str
    data: bytes
    answer: int | str | None = None
    text: str = ""


def element(kind: int, name: bytes, value: bytes) -> bytes:
    """One BSON element, well-formed or not."""
    return bytes([kind]) + name + b"\0" + value


def document_of(*elements: bytes, base: dict[str, Any] | None = None) -> bytes:
    """A document of those elements behind the fields of `base`."""
    inner = bson.encode(base or {})[4:-1] + b"".join(elements)
    return struct.pack("<i", len(inner) + 5) + inner + b"\0"


def nested(levels: int, kind: int = 3) -> bytes:
    """An empty document inside that many others."""
    document = document_of()
    for _ in range(levels):
        document = document_of(element(kind, b"0", document))
    return document


def sequence_claiming(length: int, content: bytes) -> bytes:
    """A kind-1 section whose length says what it likes."""
    return b"\1" + struct.pack("<i", length) + content


def _int32(value: int) -> bytes:
    return struct.pack("<i", value)


def _ping_with(*elements: bytes) -> bytes:
    return op_msg(document_of(*elements, base=PING))


def _bare(*parts: bytes, flags: int = 0) -> bytes:
    return message(OP_MSG, struct.pack("<I", flags) + b"".join(parts))


def _bad_checksum() -> bytes:
    data = op_msg(PING, flags=CHECKSUM_PRESENT)
    return data[:-1] + bytes([data[-1] ^ 1])


def _checksum_of_nothing() -> bytes:
    """A message that is too short to hold a checksum behind its sections, whose checksum is right."""
    data = header(28, OP_MSG) + struct.pack("<I", CHECKSUM_PRESENT) + b"\0\0\0\0"
    return data + struct.pack("<I", crc32c(data))


def _query(*after: bytes, namespace: bytes = b"admin.$cmd") -> bytes:
    return message(OP_QUERY, _int32(0) + namespace + b"\0" + struct.pack("<ii", 0, -1) + b"".join(after))


def _claiming(difference: int) -> bytes:
    data = document_of(base=PING)
    return _int32(len(data) + difference) + data[4:]


_HELLO = bson.encode({"isMaster": 1})
_DOCUMENTS = sequence_section("documents", [{"_id": 1}, {"_id": 2}])
_INSERT: dict[str, Any] = {"insert": "orders", "$db": "shop"}
_EVERY_TYPE = (
    element(0x01, b"double", struct.pack("<d", 1.5)),
    element(0x02, b"string", _int32(2) + b"x\0"),
    element(0x03, b"object", document_of(element(0x0A, b"a", b""))),
    element(0x04, b"array", document_of(element(0x10, b"0", _int32(1)))),
    element(0x05, b"binData", _int32(3) + b"\0abc"),
    element(0x06, b"undefined", b""),
    element(0x07, b"objectId", b"o" * 12),
    element(0x08, b"false", b"\0"),
    element(0x08, b"true", b"\1"),
    element(0x09, b"date", struct.pack("<q", 1_700_000_000_000)),
    element(0x0A, b"null", b""),
    element(0x0B, b"regex", b"a.b\0i\0"),
    element(0x0C, b"dbPointer", _int32(2) + b"c\0" + b"p" * 12),
    element(0x0D, b"javascript", _int32(2) + b"f\0"),
    element(0x0E, b"symbol", _int32(2) + b"s\0"),
    element(0x0F, b"scope", _int32(4 + 6 + 5) + _int32(2) + b"f\0" + document_of()),
    element(0x10, b"int", _int32(-1)),
    element(0x11, b"timestamp", struct.pack("<II", 1, 2)),
    element(0x12, b"long", struct.pack("<q", -(2**40))),
    element(0x13, b"decimal", bson.Decimal128("1.10").bid),
    element(0x7F, b"maxKey", b""),
    element(0xFF, b"minKey", b""),
)

_ACCEPTED = (
    Case("a body alone", op_msg(PING)),
    Case("an empty body", op_msg({})),
    Case("a body before its sequence", op_msg(_INSERT, _DOCUMENTS)),
    Case("a sequence before its body", op_msg(_INSERT, before=_DOCUMENTS)),
    Case("a body between two sequences", op_msg(_INSERT, sequence_section("b", []), before=_DOCUMENTS)),
    Case("a sequence without documents", op_msg(_INSERT, sequence_section("documents", []))),
    Case("a sequence with an empty name", op_msg(_INSERT, sequence_section("", [{}]))),
    Case("a right checksum", op_msg(PING, flags=CHECKSUM_PRESENT)),
    Case("a right checksum behind a sequence", op_msg(_INSERT, _DOCUMENTS, flags=CHECKSUM_PRESENT)),
    Case("moreToCome", op_msg(PING, flags=MORE_TO_COME)),
    Case("exhaustAllowed", op_msg(PING, flags=EXHAUST_ALLOWED)),
    Case("every optional flag", op_msg(PING, flags=0xFFFF0000)),
    Case("every type of BSON", _ping_with(*_EVERY_TYPE)),
    Case("200 levels", _ping_with(element(3, b"a", nested(199)))),
    Case("201 levels that nobody opens (mongod opens them: 15)", _ping_with(element(3, b"a", nested(200)))),
    Case("an OP_QUERY", op_query({"isMaster": 1})),
    Case("an OP_QUERY with a field selector", _query(_HELLO, document_of())),
    Case("an OP_QUERY of a collection", op_query({"a": 1}, "shop.orders")),
)

_REFUSED = (
    Case("two bodies", op_msg(PING, document_section(PING)), 40430, "Multiple body sections in message"),
    Case(
        "the same sequence twice",
        op_msg(_INSERT, _DOCUMENTS, _DOCUMENTS),
        40431,
        "Duplicate document sequence: documents",
    ),
    Case("section kind 3", op_msg(PING, b"\3"), 40432, "Unknown section kind 3"),
    Case("section kind 255 first", op_msg(PING, before=b"\xff"), 40432, "Unknown section kind 255"),
    Case(
        "a sequence named like a field", op_msg({**_INSERT, "documents": []}, _DOCUMENTS), 40433, "documents"
    ),
    Case(
        "a sequence before the field it is named like",
        op_msg({**_INSERT, "documents": []}, before=_DOCUMENTS),
        40433,
        "Duplicate field between body and document sequence documents",
    ),
    Case("a security token", op_msg(PING, before=b"\2xyz"), 13, "Unsupported Security Token provided"),
    Case("a sequence without a body", _bare(_DOCUMENTS), 40587, "OP_MSG messages must have a body"),
    Case(
        "the same field twice",
        _ping_with(element(0x0A, b"x", b""), element(0x0A, b"x", b"")),
        40413,
        "BSON field 'APIParametersFromClient.x' is a duplicate field",
    ),
    Case(
        "$db twice", _ping_with(element(2, b"$db", _int32(2) + b"b\0")), 40413, "APIParametersFromClient.$db"
    ),
    Case(
        "a command twice",
        _ping_with(element(0x10, b"ping", _int32(1))),
        40413,
        "APIParametersFromClient.ping",
    ),
    Case("a body that claims 255 bytes", _bare(b"\0\xff\0\0\0\0\0"), 22),
    Case("a body that claims 4 bytes", _bare(b"\0\4\0\0\0\0\0"), 22),
    Case("a body that claims 0 bytes", _bare(b"\0\0\0\0\0\0\0"), 22),
    Case("a body that claims -1 bytes", _bare(b"\0" + _int32(-1) + b"\0\0"), 22),
    Case("a body that claims 2 GB", _bare(b"\0" + _int32(2**31 - 1) + b"\0\0"), 22),
    Case("a body that claims one byte less", op_msg(_claiming(-1)), 22),
    Case("a body that claims one byte more", op_msg(_claiming(1)), 22),
    Case("a body cut off after its kind", op_msg(PING, b"\0"), 40430),
    Case("a body behind a sequence, cut off", _bare(sequence_section("d", []), b"\0\5\0\0"), 22),
    Case("type 0x20", _ping_with(element(0x20, b"a", b"")), 22, "nrecognized BSON type 32"),
    Case("type 0", _ping_with(element(0, b"a", b"")), 22),
    Case("a field name without an end", op_msg(document_of(b"\x0aname")), 22),
    Case("an int cut off", op_msg(document_of(element(0x10, b"a", b"\1\0\0"))), 22),
    Case("an ObjectId cut off", op_msg(document_of(element(7, b"a", b"o" * 11))), 22),
    Case("a decimal cut off", op_msg(document_of(element(0x13, b"a", b"d" * 15))), 22),
    Case("a length cut off", op_msg(document_of(element(2, b"a", b"\1\0\0"))), 22),
    Case("a string of length 0", _ping_with(element(2, b"a", _int32(0) + b"\0")), 22),
    Case("a string of length -1", _ping_with(element(2, b"a", _int32(-1) + b"\0")), 22),
    Case("a string of 2 GB", _ping_with(element(2, b"a", _int32(2**31 - 1) + b"\0")), 22),
    Case("a string one byte too long", op_msg(document_of(element(2, b"a", _int32(3) + b"x\0"))), 22),
    Case("a string one byte too short", _ping_with(element(2, b"a", _int32(1) + b"x\0")), 22),
    Case("a string without its zero", _ping_with(element(2, b"a", _int32(1) + b"x")), 22),
    Case("a binary of length -1", _ping_with(element(5, b"a", _int32(-1) + b"\0")), 22),
    Case(
        "a binary that runs past its document",
        op_msg(document_of(element(5, b"a", _int32(4) + b"\0abc"))),
        22,
    ),
    Case("a nested document of 4 bytes", _ping_with(element(3, b"a", _int32(4) + b"\0")), 22),
    Case(
        "a nested document longer than its parent",
        op_msg(document_of(element(3, b"a", _int32(6) + b"\0"))),
        22,
    ),
    Case("a nested document without its zero", _ping_with(element(3, b"a", _int32(5) + b"\1")), 22),
    Case("a regex without an end", op_msg(document_of(element(0x0B, b"a", b"abc"))), 22),
    Case("a regex without options", op_msg(document_of(element(0x0B, b"a", b"abc\0i"))), 22),
    Case("a dbPointer cut off", op_msg(document_of(element(0x0C, b"a", _int32(2) + b"c\0" + b"p" * 11))), 22),
    Case(
        "a code with a scope of 13 bytes",
        op_msg(document_of(element(0x0F, b"a", _int32(13) + b"\0" * 9))),
        22,
    ),
    Case("bool 2", _ping_with(element(8, b"a", b"\2")), 22),
    Case("a field name that is not UTF-8 (mongod takes it)", _ping_with(element(0x0A, b"\xff", b"")), 22),
    Case("a zero byte inside a document", op_msg(document_of(b"\0")), 22),
    Case("a sequence of 3 bytes", op_msg(PING, b"\1\3\0\0"), 15),
    Case("a sequence past its message", op_msg(PING, sequence_claiming(1000, b"a\0")), 15),
    Case("a sequence of 2 GB", op_msg(PING, sequence_claiming(2**31 - 1, b"a\0")), 15),
    Case("a sequence of length 0", op_msg(PING, sequence_claiming(0, b"a\0")), 15),
    Case("a sequence of length -1", op_msg(PING, sequence_claiming(-1, b"a\0")), 15),
    Case("a sequence of length -2**31", op_msg(PING, sequence_claiming(-(2**31), b"a\0")), 15),
    Case("a sequence whose name has no end", op_msg(PING, sequence_claiming(6, b"ab")), 15),
    Case("a sequence whose name ends behind it", op_msg(PING, sequence_claiming(6, b"ab\0")), 15),
    Case(
        "a sequence whose name is not UTF-8 (mongod takes it)",
        op_msg(PING, sequence_claiming(6, b"\xff\0")),
        22,
    ),
    Case("a sequence that ends inside a length", op_msg(PING, sequence_claiming(10, b"a\0\5\0\0\0")), 22),
    Case("a document of 6 bytes in 5", op_msg(PING, sequence_claiming(11, b"a\0\6\0\0\0\0")), 22),
    Case("a document of 4 bytes in a sequence", op_msg(PING, sequence_claiming(11, b"a\0\4\0\0\0\0")), 22),
    Case(
        "a document of -5 bytes in a sequence",
        op_msg(PING, sequence_claiming(11, b"a\0\xfb\xff\xff\xff\0")),
        22,
    ),
    Case(
        "a document in a sequence without its zero", op_msg(PING, sequence_claiming(11, b"a\0\5\0\0\0\1")), 22
    ),
    Case("flags alone", _bare(), 40587, "OP_MSG messages must have a body"),
    Case("flags and a kind", _bare(b"\0"), 22),
    Case("an OP_MSG of 25 bytes", _bare(b"\0\5\0\0\0"), 22),
    Case("a checksum without a body", _checksum_of_nothing(), 22),
    Case("an OP_QUERY of a bad document", _query(document_of(element(0x20, b"a", b""))), 22),
    Case(
        "an OP_QUERY with a duplicate (mongod: 40413 or 352)",
        _query(document_of(element(10, b"x", b""), element(10, b"x", b""))),
        40413,
    ),
    Case("an OP_QUERY with two bytes behind it", _query(_HELLO, b"xx"), 22),
    Case("an OP_QUERY with a bad selector", _query(_HELLO, b"\6\0\0\0\0"), 22),
)

_CLOSING = (
    Case("a header alone", header(16, OP_MSG), CLOSED),
    Case("a header and half the flags", message(OP_MSG, b"\0\0"), CLOSED, "too short"),
    *(
        Case(f"required flag bit {bit}", op_msg(PING, flags=1 << bit), CLOSED, "flags")
        for bit in range(2, 16)
    ),
    Case("a wrong checksum", _bad_checksum(), CLOSED, "checksum"),
    Case(
        "a checksum flag without a checksum (mongod: 22)",
        op_msg(PING)[:16] + b"\1" + op_msg(PING)[17:],
        CLOSED,
        "checksum",
    ),
    *(
        Case(f"opcode {opcode}", message(opcode, b"\0" * 20), CLOSED, f"opcode {opcode} is not served")
        for opcode in (-1, 0, 1, 1000, 2001, 2002, 2003, 2005, 2006, 2007, 2010, 2011, 2012, 2014, 9999)
    ),
    Case("an OP_QUERY of 20 bytes", message(OP_QUERY, b"\0" * 4), CLOSED, "too short"),
    Case("an OP_QUERY without a document (mongod: 22)", _query(), CLOSED, "too short"),
    Case(
        "an OP_QUERY whose namespace has no end",
        message(OP_QUERY, b"\0" * 4 + b"a" * 40),
        CLOSED,
        "too short",
    ),
    Case(
        "an OP_QUERY of no UTF-8 collection (mongod: an OP_REPLY)",
        _query(_HELLO, namespace=b"\xff.$cmd"),
        CLOSED,
        "UTF-8",
    ),
    Case(
        "an OP_QUERY with a third document (mongod takes it)",
        _query(_HELLO, document_of(), document_of()),
        CLOSED,
        "follow",
    ),
)

CASES: tuple[Case, ...] = _ACCEPTED + _REFUSED + _CLOSING
