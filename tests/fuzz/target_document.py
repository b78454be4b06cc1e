"""Laws of wire.document: arbitrary bytes are a document or a BSONError; what is a document, bson reads alike."""

from __future__ import annotations

import contextlib
import datetime

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

from mongoguard.wire.document import MAX_FIELDS, BSONError, Document
from mongoguard.wire.native import native_scan
from mongoguard.wire.scanning import Element, scan_in_python
from tests.unit.wire.cases import CASES

_LENIENT: CodecOptions[dict[str, object]] = CodecOptions(
    document_class=dict, tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)

SEEDS = [
    bson.encode({"find": "orders", "filter": {"a": [1, 2.5, {"b": None}]}, "limit": 1, "$db": "shop"}),
    bson.encode({"u": "é", "b": b"\0\1", "t": True, "d": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)}),
    bson.encode({"o": bson.ObjectId(b"0" * 12), "r": bson.Regex("a", "i"), "n": bson.Int64(2**40)}),
    bson.encode({"c": bson.Code("f()", {"x": 1}), "m": bson.MinKey(), "d": bson.Decimal128("1.5")}),
    *(case.data[21:] for case in CASES if len(case.data) < 400),
]


def check(data: bytes) -> None:
    """Open everything, by every accessor; then compare the keys in order with bson's, which must read it too."""
    _same_in_c_and_python(data)
    try:
        document = Document(data)
    except BSONError:
        return
    for name in document:
        _read(document, name)
    try:
        document.decode()
    except BSONError:
        return
    assert list(document) == list(bson.decode(document.raw, _LENIENT))
    assert all(document.type_of(name) is not None for name in document)


def _same_in_c_and_python(data: bytes) -> None:
    if native_scan is None or len(data) < 5:
        return
    expected: dict[str, Element] | None = None
    with contextlib.suppress(BSONError):
        expected = scan_in_python(data, 4, len(data) - 1, MAX_FIELDS)
    assert native_scan(data, 4, len(data) - 1, MAX_FIELDS, Element) == expected


def _read(document: Document, name: str) -> None:
    for accessor in (
        document.string,
        document.number,
        document.boolean,
        document.truthy,
        document.binary,
        document.documents,
        document.strings,
        document.value,
    ):
        try:
            accessor(name)
        except BSONError:
            continue
