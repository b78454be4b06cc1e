"""The part in C accepts what the Python accepts, with the same result, and nothing else."""

from __future__ import annotations

import bson
import hypothesis.strategies as st
from hypothesis import HealthCheck, example, given, settings

from mongoguard.errors import CommandError
from mongoguard.wire import message, native
from mongoguard.wire.scanning import Element, scan_in_python

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.builds(bson.ObjectId, st.binary(min_size=12, max_size=12)),
    st.builds(bson.Regex, st.sampled_from(["", "a+"]), st.sampled_from(["", "i"])),
    st.builds(bson.Code, st.text(max_size=3), st.sampled_from([None, {}, {"a": 1}])),
    st.builds(bson.Timestamp, st.integers(0, 9), st.integers(0, 9)),
    st.just(bson.Decimal128("1.5")),
    st.just(bson.MinKey()),
    st.just(bson.MaxKey()),
)
DOCUMENTS = st.dictionaries(
    NAMES,
    st.one_of(VALUES, st.lists(VALUES, max_size=2), st.dictionaries(NAMES, VALUES, max_size=2)),
    max_size=4,
)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Valid bytes of which some are replaced, taken out or put in."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        data[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(damaged(DOCUMENTS.map(bson.encode)), st.integers(0, 8))
@example(b"\x00\x00\x00\x00\x08a\0\x02\0", 8)
@example(b"\x00\x00\x00\x00\x0ca\0\x01\0\0\0\0" + bytes(12) + b"\0", 8)
@example(b"\x00\x00\x00\x00\x05a\0\xff\xff\xff\x7f\0\0", 8)
@example(b"\x00\x00\x00\x00\x02a\0\xfc\xff\xff\x7f\0\0", 8)
@example(b"\x00\x00\x00\x00\x0ba\0b", 8)
def test_fields_are_the_same(data: bytes, max_fields: int) -> None:
    if native.native_scan is None or len(data) < 5:
        return
    try:
        expected = scan_in_python(data, 4, len(data) - 1, max_fields)
    except CommandError:
        expected = None
    found = native.native_scan(data, 4, len(data) - 1, max_fields, Element)
    assert found == expected
    assert found is None or list(found) == list(expected or ())


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(
    damaged(st.lists(DOCUMENTS.map(bson.encode), max_size=4).map(b"".join)),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_spans_are_the_same(data: bytes, before: int, behind: int) -> None:
    if native.native_spans is None:
        return
    everything, end = b"x" * before + data + b"y" * behind, before + len(data)
    try:
        expected = message._spans_in_python(everything, before, end)
    except CommandError:
        expected = None
    assert native.native_spans(everything, before, end, 100_000) == expected


@given(st.integers(0, 5), st.integers(0, 5))
def test_no_more_documents_than_allowed(count: int, limit: int) -> None:
    if native.native_spans is None:
        return
    data = b"\x05\0\0\0\0" * count
    found = native.native_spans(data, 0, len(data), limit)
    assert found == ([(i * 5, i * 5 + 5) for i in range(count)] if count <= limit else None)
