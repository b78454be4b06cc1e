"""Scanning BSON: one level of a document, strictly, without decoding a value.

In: bytes and where a document is claimed to be. Out: its fields' types and offsets. Must not know messages or commands.
Source: bsonspec.org, version 1.1.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mongoguard.errors import CommandError, ErrorCode
from mongoguard.wire.native import native_scan

__all__ = [
    "ARRAY",
    "BINARY",
    "BOOL",
    "CODE_WITH_SCOPE",
    "DECIMAL128",
    "DOCUMENT",
    "DOUBLE",
    "INT32",
    "INT64",
    "MAX_FIELDS",
    "NULL",
    "OBJECT_ID",
    "STRING",
    "TIMESTAMP",
    "TYPE_NAMES",
    "BSONError",
    "DuplicateFieldError",
    "Element",
    "document_end",
    "scan",
    "scan_in_python",
    "string_size",
]

DOUBLE, STRING, DOCUMENT, ARRAY, BINARY, OBJECT_ID, BOOL, NULL = (
    0x01,
    0x02,
    0x03,
    0x04,
    0x05,
    0x07,
    0x08,
    0x0A,
)
INT32, TIMESTAMP, INT64, DECIMAL128 = 0x10, 0x11, 0x12, 0x13
CODE_WITH_SCOPE = 0x0F

TYPE_NAMES: dict[int, str] = {
    0x01: "double",
    0x02: "string",
    0x03: "object",
    0x04: "array",
    0x05: "binData",
    0x06: "undefined",
    0x07: "objectId",
    0x08: "bool",
    0x09: "date",
    0x0A: "null",
    0x0B: "regex",
    0x0C: "dbPointer",
    0x0D: "javascript",
    0x0E: "symbol",
    0x0F: "javascriptWithScope",
    0x10: "int",
    0x11: "timestamp",
    0x12: "long",
    0x13: "decimal",
    0x7F: "maxKey",
    0xFF: "minKey",
}
"""BSON type byte -> the alias that mongod's error texts use."""

MAX_FIELDS = 100_000
"""Fields of one document, or elements of one array, that are opened here: maxWriteBatchSize of every server. Scanning
takes about 0.3 µs a field, and 250 bytes of memory."""

_int32 = struct.Struct("<i").unpack_from

# Size of a value by its type byte: >= 0 fixed, -1 int32 total length (documents), -2 int32 + that many bytes
# (strings), -3 binary, -4 regex (two cstrings), -5 dbPointer (string + 12), -6 unknown type.
_SIZES: list[int] = [-6] * 256
for _types, _size in (
    ((0x06, 0x0A, 0x7F, 0xFF), 0),
    ((0x08,), 1),
    ((0x10,), 4),
    ((0x01, 0x09, 0x11, 0x12), 8),
    ((0x07,), 12),
    ((0x13,), 16),
    ((0x03, 0x04, 0x0F), -1),
    ((0x02, 0x0D, 0x0E), -2),
    ((0x05,), -3),
    ((0x0B,), -4),
    ((0x0C,), -5),
):
    for _type in _types:
        _SIZES[_type] = _size


class BSONError(CommandError):
    """The bytes are not the BSON that mongod would accept; it answers such a command with 22 InvalidBSON."""

    def __init__(self, errmsg: str, code: int = ErrorCode.INVALID_BSON) -> None:
        """Say what is wrong with the bytes, never what they hold."""
        super().__init__(code, errmsg)


class DuplicateFieldError(BSONError):
    """A document has the same key twice."""

    def __init__(self, name: str) -> None:
        """Remember the key: mongod names it in its text (40413)."""
        super().__init__(f"BSON field '{name}' is a duplicate field", 40413)
        self.name = name


class Element(NamedTuple):
    """One field in place: its type byte, and offsets of the element, of its value, and of its end."""

    type: int
    start: int
    value: int
    end: int


def document_end(data: bytes, start: int, limit: int) -> int:
    """Where the document that starts at `start` ends, at or before `limit`. Raises `BSONError`."""
    if limit - start < 5:
        raise BSONError("invalid bson: a document needs at least 5 bytes")
    length: int = _int32(data, start)[0]
    end = start + length
    if length < 5 or end > limit:
        raise BSONError("invalid bson length")
    if data[end - 1]:
        raise BSONError("invalid bson: a document does not end with a zero byte")
    return end


def scan(data: bytes, position: int, last: int, max_fields: int) -> dict[str, Element]:
    """The fields between `position` and `last` (the offset of the terminating zero byte). Raises `BSONError`."""
    if native_scan is not None:
        found: dict[str, Element] | None = native_scan(data, position, last, max_fields, Element)
        if found is not None:
            return found
    return scan_in_python(data, position, last, max_fields)


def scan_in_python(data: bytes, position: int, last: int, max_fields: int) -> dict[str, Element]:
    """As `scan`, which asks this where there is no part in C, and about everything that it does not accept."""
    fields: dict[str, Element] = {}
    sizes, find, new = _SIZES, data.find, tuple.__new__
    while position < last:
        kind = data[position]
        nul = find(0, position + 1, last)
        if nul < 0:
            raise BSONError("invalid bson: a field name runs past the document")
        value = nul + 1
        size = sizes[kind]
        end = value + (size if size >= 0 else _variable_size(data, kind, size, value, last))
        if end > last:
            raise BSONError("invalid bson: a value runs past the document")
        try:
            name = data[position + 1 : nul].decode()
        except UnicodeDecodeError:
            raise BSONError("invalid bson: a field name is not UTF-8") from None
        if name in fields:
            raise DuplicateFieldError(name)
        if len(fields) >= max_fields:
            raise BSONError(f"a document has more than {max_fields} fields", ErrorCode.INVALID_LENGTH)
        if kind == BOOL and data[value] > 1:
            raise BSONError("invalid bson: a bool is neither 0 nor 1")
        fields[name] = new(Element, (kind, position, value, end))  # as Element(…), without its Python call
        position = end
    return fields


def _variable_size(data: bytes, kind: int, rule: int, value: int, last: int) -> int:
    """Size of a value whose length is written in it; the caller checks that it ends inside the document."""
    if rule == -4:
        return _regex_size(data, value, last)
    if rule == -6:
        raise BSONError(f"unrecognized BSON type {kind}")
    if last - value < 4:
        raise BSONError("invalid bson: a length runs past the document")
    length: int = _int32(data, value)[0]
    if rule == -1:
        if length < (5 if kind != 0x0F else 14) or value + length > last or data[value + length - 1]:
            raise BSONError("invalid bson: a nested document has a bad length")
        return length
    if rule == -3:
        if length < 0:
            raise BSONError("invalid bson: negative binary length")
        return length + 5
    if length < 1 or value + 4 + length > last or data[value + 3 + length]:
        raise BSONError("invalid bson: a string has a bad length")
    return length + 4 + (12 if rule == -5 else 0)


def _regex_size(data: bytes, value: int, last: int) -> int:
    pattern = data.find(0, value, last)
    options = data.find(0, pattern + 1, last) if pattern >= 0 else -1
    if options < 0:
        raise BSONError("invalid bson: a regex runs past the document")
    return options + 1 - value


def string_size(data: bytes, value: int, last: int) -> int:
    """Size of the string value at `value`, which must end before `last`. Raises `BSONError`."""
    return _variable_size(data, STRING, _SIZES[STRING], value, last)
