"""BSON read in place: a strict scanner over raw bytes, and values taken out of it on request.

In: bytes that a peer sent. Out: `Document` views with each field's type and offsets, and Python values.
Must not know messages or commands.

Why not `bson.decode`: it keeps the last of two equal keys where a server may read the first, it accepts any depth, and
decoding costs ten times a scan. A `Document` refuses duplicate keys at every level that it opens, checks every length
against its parent, and counts its depth; what nobody opens is never decoded, and the upstream validates it.
Source: bsonspec.org, version 1.1; the depth limit is the server's (BSONDepth: 200 levels).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

from mongoguard.errors import CommandError, ErrorCode

__all__ = [
    "ARRAY",
    "BINARY",
    "BOOL",
    "DECIMAL128",
    "DOCUMENT",
    "DOUBLE",
    "INT32",
    "INT64",
    "MAX_DEPTH",
    "MAX_FIELDS",
    "NULL",
    "OBJECT_ID",
    "STRING",
    "TIMESTAMP",
    "TYPE_NAMES",
    "BSONError",
    "Document",
    "DuplicateFieldError",
    "Element",
    "encode",
    "encode_element",
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
_CODE_WITH_SCOPE = 0x0F

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

MAX_DEPTH = 200
"""Levels of nesting that a 6.0.5 server accepts in a command; one more is answered with 15 Overflow."""

MAX_FIELDS = 100_000
"""Fields of one document, or elements of one array, that are opened here: maxWriteBatchSize of every server. Scanning
takes about 0.3 µs a field, and 250 bytes of memory."""

_int32 = struct.Struct("<i").unpack_from
_int64 = struct.Struct("<q").unpack_from
_double = struct.Struct("<d").unpack_from

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

_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    document_class=dict, tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


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


class Document:
    """A view of one BSON document (or array) inside `data`, scanned one level deep.

    Iterating gives the field names in order. Raises `BSONError` for malformed bytes, for a depth of more than
    `MAX_DEPTH`, and `DuplicateFieldError` for a repeated key.
    """

    __slots__ = ("data", "depth", "end", "fields", "start")

    def __init__(
        self,
        data: bytes,
        start: int = 0,
        limit: int | None = None,
        depth: int = 0,
        max_fields: int = MAX_FIELDS,
    ) -> None:
        """Scan the document that starts at `start` and must end at or before `limit` (default: the end of data)."""
        if depth > MAX_DEPTH:
            raise BSONError("BSONObj exceeds maximum nested object depth", ErrorCode.OVERFLOW)
        self.data = data
        self.start = start
        self.depth = depth
        self.end = _document_end(data, start, len(data) if limit is None else limit)
        self.fields = _scan(data, start + 4, self.end - 1, max_fields)

    def __len__(self) -> int:
        """How many fields."""
        return len(self.fields)

    def __iter__(self) -> Iterator[str]:
        """Field names in order."""
        return iter(self.fields)

    def __contains__(self, name: object) -> bool:
        """Whether there is a field of that name."""
        return name in self.fields

    @property
    def raw(self) -> bytes:
        """The document's own bytes."""
        return self.data[self.start : self.end]

    def type_of(self, name: str) -> int | None:
        """The field's BSON type byte; None when absent."""
        element = self.fields.get(name)
        return None if element is None else element[0]

    def type_name(self, name: str) -> str:
        """The field's type as mongod's texts name it; "missing" when absent."""
        element = self.fields.get(name)
        return "missing" if element is None else TYPE_NAMES[element[0]]

    def size_of(self, name: str) -> int:
        """Bytes of the field's value; 0 when absent. What is long need not be opened to be described."""
        element = self.fields.get(name)
        return 0 if element is None else element[3] - element[2]

    def string(self, name: str) -> str | None:
        """The field's value if it is a string, else None."""
        element = self.fields.get(name)
        if element is None or element[0] != STRING:
            return None
        return _text(self.data, element[2] + 4, element[3] - 1)

    def number(self, name: str) -> int | float | None:
        """The field's value if it is an int, long, double (or decimal, rounded to a float), else None."""
        element = self.fields.get(name)
        if element is None:
            return None
        match element[0]:
            case 0x10:
                return int(_int32(self.data, element[2])[0])
            case 0x12:
                return int(_int64(self.data, element[2])[0])
            case 0x01:
                return float(_double(self.data, element[2])[0])
            case 0x13:
                return _decimal128_as_float(self.data[element[2] : element[3]])
            case _:
                return None

    def boolean(self, name: str) -> bool | None:
        """The field's value if it is a bool, else None."""
        element = self.fields.get(name)
        if element is None or element[0] != BOOL:
            return None
        return self.data[element[2]] != 0

    def truthy(self, name: str) -> bool:
        """The field as mongod's `trueValue` reads it: false when absent, null, undefined, false, or a zero number."""
        element = self.fields.get(name)
        if element is None or element[0] in (NULL, 0x06):
            return False
        if element[0] == BOOL:
            return self.data[element[2]] != 0
        number = self.number(name)
        return True if number is None else number != 0

    def binary(self, name: str) -> tuple[int, bytes] | None:
        """(subtype, bytes) if the field is binData, else None."""
        element = self.fields.get(name)
        if element is None or element[0] != BINARY:
            return None
        return self.data[element[2] + 4], self.data[element[2] + 5 : element[3]]

    def document(self, name: str) -> Document | None:
        """The field as a scanned view if it is an object, else None."""
        return self._view(name, DOCUMENT)

    def array(self, name: str) -> Document | None:
        """The field as a scanned view if it is an array, else None (its keys are whatever was sent, in order)."""
        return self._view(name, ARRAY)

    def documents(self, name: str) -> list[Document] | None:
        """The elements of an array of objects, each scanned; None when it is no array or an element is no object."""
        array = self.array(name)
        if array is None:
            return None
        views = [array.document(key) for key in array]
        return None if None in views else [v for v in views if v is not None]

    def strings(self, name: str) -> list[str] | None:
        """The elements of an array of strings; None when it is anything else."""
        array = self.array(name)
        if array is None:
            return None
        texts = [array.string(key) for key in array]
        return None if None in texts else [t for t in texts if t is not None]

    def value(self, name: str) -> Any:
        """The field decoded to a Python value by bson, strictly: duplicate keys and deep nesting are refused.

        None when absent. Costs a full decode: for small values that must be understood, not for payloads.
        """
        element = self.fields.get(name)
        if element is None:
            return None
        if element[0] in (DOCUMENT, ARRAY):
            view = Document(self.data, element[2], element[3], self.depth + 1)
            return view.decode() if element[0] == DOCUMENT else view.decode_array()
        if element[0] == _CODE_WITH_SCOPE:
            return self._code_with_scope(element)
        size = element[3] - element[1] + 5
        wrapped = size.to_bytes(4, "little") + self.data[element[1] : element[3]] + b"\0"
        return next(iter(_decode_bson(wrapped).values()))

    def decode(self) -> dict[str, Any]:
        """The whole document as a dict, strictly (see `value`)."""
        return {name: self.value(name) for name in self.fields}

    def decode_array(self) -> list[Any]:
        """The whole array as a list, strictly (see `value`)."""
        return [self.value(name) for name in self.fields]

    def _code_with_scope(self, element: Element) -> bson.Code:
        # bson would decode the scope with its own rules: the last of two equal keys, and any depth.
        text = element.value + 4
        scope = text + _variable_size(self.data, STRING, _SIZES[STRING], text, element.end)
        view = Document(self.data, scope, element.end, self.depth + 1)
        if view.end != element.end:
            raise BSONError("invalid bson: bytes follow the scope of a code")
        return bson.Code(_text(self.data, text + 4, scope - 1), view.decode())

    def _view(self, name: str, kind: int) -> Document | None:
        element = self.fields.get(name)
        if element is None or element[0] != kind:
            return None
        return Document(self.data, element[2], element[3], self.depth + 1)


def encode(document: dict[str, Any]) -> bytes:
    """Encode values of our own making (never a client's document decoded and encoded again)."""
    return bson.encode(document)


def encode_element(name: str, value: Any) -> bytes:
    """One element's bytes (type, name, value), for a splice."""
    return bson.encode({name: value})[4:-1]


def _decimal128_as_float(data: bytes) -> float:
    decimal = bson.Decimal128.from_bid(data).to_decimal()
    return float("nan") if decimal.is_nan() else float(decimal)  # float() raises for a signaling NaN


def _decode_bson(data: bytes) -> dict[str, Any]:
    try:
        return bson.decode(data, _OPTIONS)
    except (bson.errors.BSONError, ValueError, OverflowError) as error:
        raise BSONError(f"a value could not be decoded: {type(error).__name__}") from error


def _document_end(data: bytes, start: int, limit: int) -> int:
    if limit - start < 5:
        raise BSONError("invalid bson: a document needs at least 5 bytes")
    length: int = _int32(data, start)[0]
    end = start + length
    if length < 5 or end > limit:
        raise BSONError("invalid bson length")
    if data[end - 1]:
        raise BSONError("invalid bson: a document does not end with a zero byte")
    return end


def _scan(data: bytes, position: int, last: int, max_fields: int) -> dict[str, Element]:
    """The fields between `position` and `last` (the offset of the terminating zero byte)."""
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


def _text(data: bytes, start: int, end: int) -> str:
    try:
        return data[start:end].decode()
    except UnicodeDecodeError:
        raise BSONError("invalid bson: a string is not UTF-8") from None
