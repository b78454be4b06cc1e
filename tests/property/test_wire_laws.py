"""Laws of the wire room: bytes become what they say or an error, and nothing else; splices change what they name."""

import contextlib
import datetime
import itertools
import struct
import time

import bson
import pytest
from bson.codec_options import CodecOptions, DatetimeConversion
from hypothesis import example, given
from hypothesis import strategies as st

from mongoguard.errors import CommandError, ProtocolError
from mongoguard.wire.compression import decompress_message
from mongoguard.wire.document import BSONError, Document, encode_element
from mongoguard.wire.message import OpMsg, parse_message
from mongoguard.wire.splice import Splice, splice_message
from tests.rawwire import (
    NOOP,
    OP_COMPRESSED,
    OP_MSG,
    OP_QUERY,
    SNAPPY,
    ZLIB,
    ZSTD,
    compressed,
    header,
    message,
    op_msg,
    sequence_section,
)
from tests.unit.wire.cases import CASES, document_of, element, nested

OPTIONS: CodecOptions[dict[str, object]] = CodecOptions(
    document_class=dict, tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8).filter(
    lambda name: not name.startswith("$")  # bson reads {$ref: …} as a class of its own
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    texts,
    st.binary(max_size=10),
    st.datetimes(timezones=st.just(datetime.UTC)).map(
        lambda d: d.replace(microsecond=d.microsecond // 1000 * 1000)
    ),
    st.binary(min_size=12, max_size=12).map(bson.ObjectId),
    st.tuples(st.binary(max_size=10), st.integers(128, 255)).map(lambda b: bson.Binary(*b)),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)).map(lambda t: bson.Timestamp(*t)),
    names.map(lambda pattern: bson.Regex(pattern, 2)),
    st.decimals(-1_000_000_000, 1_000_000_000, places=3).map(bson.Decimal128),
    texts.map(bson.Code),
    st.sampled_from([bson.MinKey(), bson.MaxKey()]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(names, inner, max_size=4),
        st.tuples(texts, st.dictionaries(names, inner, max_size=3)).map(lambda code: bson.Code(*code)),
    ),
    max_leaves=12,
)
documents = st.dictionaries(names, values, max_size=6)


@given(documents)
def test_an_encodable_document_decodes_as_bson_decodes_it(document: dict[str, object]):
    data = bson.encode(document)
    view = Document(data)
    assert view.decode() == bson.decode(data, OPTIONS)
    assert list(view) == list(document)
    assert view.raw == data


@given(documents, documents, st.data())
def test_a_repeated_name_is_refused_wherever_it_stands(one: dict[str, object], more: dict[str, object], data):
    if not one:
        return
    name = data.draw(st.sampled_from(list(one)))
    more.pop(name, None)
    for other in one:
        more.pop(other, None)
    twice = document_of(bson.encode(more)[4:-1], encode_element(name, None), base=one)
    with pytest.raises(BSONError) as refused:
        Document(twice)
    assert refused.value.code == 40413


def _mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """Damaged copies: bytes changed, removed, repeated."""

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        out = bytearray(data)
        for position, removed, inserted in edits:
            start = position % (len(out) + 1)
            out[start : start + removed] = inserted
        return bytes(out)

    return st.lists(
        st.tuples(st.integers(0, 2000), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=4
    ).map(apply)


payloads = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([case.data[16:] for case in CASES]).flatmap(_mutations),
)


@given(st.one_of(st.sampled_from([OP_MSG, OP_QUERY]), st.integers(-(2**31), 2**31 - 1)), payloads)
def test_a_framed_message_is_a_message_or_refused(opcode: int, payload: bytes):
    data = header(16 + len(payload), opcode) + payload
    try:
        parsed = parse_message(data)
    except (CommandError, ProtocolError):
        return
    if not isinstance(parsed, OpMsg):
        assert 20 <= parsed.query.start < parsed.query.end <= len(data)
        return
    spans = [(parsed.body.start, parsed.body.end), *(s for spans in parsed.sequences.values() for s in spans)]
    spans.sort()
    assert spans[0][0] >= 21
    assert spans[-1][1] <= parsed.end <= len(data)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def _use_everything(document: Document) -> None:
    for name in document:
        document.string(name)
        document.number(name)
        document.boolean(name)
        document.truthy(name)
        document.binary(name)
        document.value(name)
        document.documents(name)
        document.strings(name)


@given(st.one_of(st.binary(max_size=60), documents.map(bson.encode).flatmap(_mutations)))
@example(document_of(element(0x13, b"a", b"\xff" * 16)))
@example(document_of(element(0x0F, b"a", b"\x0f\0\0\0\2\0\0\0f\0\5\0\0\0\0")))
@example(nested(300))
def test_bytes_are_a_document_or_a_bson_error(data: bytes):
    try:
        document = Document(data)
        read = document.decode()
        _use_everything(document)
    except BSONError:
        return
    assert list(read) == list(bson.decode(document.raw, OPTIONS))


@given(st.one_of(st.binary(max_size=60), documents.map(bson.encode).flatmap(_mutations)), st.integers(0, 3))
def test_each_accessor_alone_gives_a_value_or_a_bson_error(data: bytes, start: int):
    try:
        document = Document(data, start)
    except BSONError:
        return
    for name in document:
        for read in (
            document.string,
            document.number,
            document.boolean,
            document.truthy,
            document.binary,
            document.value,
            document.documents,
            document.strings,
        ):
            try:
                read(name)
            except BSONError:
                continue


bodies = documents.map(lambda d: {"find": "x", **d, "lsid": {"id": b"i"}, "$db": "d"})


@given(
    bodies,
    st.lists(documents, max_size=3),
    st.dictionaries(names, scalars, max_size=3),
    st.sampled_from([0, 1, 2, 3, 1 << 16]),
    st.booleans(),
    st.data(),
)
def test_a_splice_changes_what_it_names_and_nothing_else(
    body: dict[str, object],
    rows: list[dict[str, object]],
    appended: dict[str, object],
    flags: int,
    first: bool,
    data: st.DataObject,
):
    for name in body:
        appended.pop(name, None)
    sequence = sequence_section("rows", rows)
    body.pop("rows", None)
    raw = op_msg(body, before=sequence, flags=flags) if first else op_msg(body, sequence, flags=flags)
    parsed = parse_message(raw)
    assert isinstance(parsed, OpMsg)
    replaced = data.draw(st.dictionaries(st.sampled_from(list(body)), scalars, max_size=3))
    splices: list[Splice] = [
        (parsed.body.fields[name].start, parsed.body.fields[name].end, encode_element(name, replaced[name]))
        for name in body
        if name in replaced
    ]
    after = parse_message(splice_message(parsed, splices, bson.encode(appended)[4:-1]))
    assert isinstance(after, OpMsg)
    assert after.flags == 0
    assert after.end == len(after.data)
    assert after.request_id == parsed.request_id
    assert after.body.raw == bson.encode({**body, **replaced, **appended})
    assert [after.data[a:b] for spans in after.sequences.values() for a, b in spans] == [
        raw[a:b] for spans in parsed.sequences.values() for a, b in spans
    ]


streams = st.one_of(
    st.binary(max_size=60),
    st.tuples(st.sampled_from(CASES), st.sampled_from([NOOP, SNAPPY, ZLIB, ZSTD]))
    .map(lambda pair: compressed(pair[0].data, pair[1])[16:])
    .flatmap(_mutations),
)


@given(streams, st.sampled_from([16, 100, 4096]))
def test_decompressing_gives_the_declared_size_or_a_protocol_error(payload: bytes, limit: int):
    try:
        out, _compressor = decompress_message(message(OP_COMPRESSED, payload), limit)
    except ProtocolError:
        return
    assert struct.unpack_from("<i", out)[0] == len(out) == 16 + struct.unpack_from("<i", payload, 4)[0]
    assert len(out) <= limit


def _seconds(data: bytes) -> float:
    start = time.process_time()
    with contextlib.suppress(CommandError, ProtocolError):
        parse_message(data)
    return time.process_time() - start


def _tiny_elements(count: int) -> bytes:
    return op_msg(document_of(*(element(0x0A, b"%x" % i, b"") for i in range(count))))


def _empty_documents(count: int) -> bytes:
    return op_msg({"insert": "x", "$db": "d"}, sequence_section("documents", [document_of()] * count))


@pytest.mark.parametrize("build", [_tiny_elements, _empty_documents])
def test_parsing_takes_time_in_proportion_to_the_message(build):
    small, large = build(10_000), build(80_000)
    # Eight times the elements may take eight times as long; a quadratic reader would take sixty-four times.
    assert min(_seconds(large) for _ in range(3)) < 24 * max(min(_seconds(small) for _ in range(3)), 0.005)


@pytest.mark.parametrize("filling", [0x00, 0x01, 0x03, 0x0B, 0x10, 0x7F, 0xFF])
def test_a_megabyte_of_one_byte_is_refused_at_once(filling: int):
    assert _seconds(message(OP_MSG, bytes(4) + bytes([filling]) * 1_000_000)) < 0.5
    assert _seconds(op_msg(document_of(bytes([filling]) * 1_000_000))) < 0.5
