"""Framing does not depend on where the stream was cut."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mongoguard.errors import ProtocolError
from mongoguard.wire.framing import MessageReader
from tests.rawwire import OP_MSG, header, message

messages = st.lists(st.binary(max_size=40).map(lambda payload: message(OP_MSG, payload)), max_size=8)
tails = st.one_of(
    st.just(b""),
    st.binary(max_size=30),
    st.integers(-(2**31), 2**31 - 1).map(lambda length: header(length, OP_MSG)),
)
LIMIT = 50


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(c for c in cuts if c <= len(stream))})
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def read(chunks: list[bytes]) -> tuple[list[bytes], bool]:
    """The messages of a stream, and whether it ended in an error."""
    reader = MessageReader(LIMIT)
    found: list[bytes] = []
    try:
        for chunk in chunks:
            one = reader.receive(chunk)
            while one is not None:
                found.append(one)
                one = reader.next_message()
    except ProtocolError:
        return found, True
    return found, False


def read_into_rooms(stream: bytes, chunks: list[int]) -> tuple[list[bytes], bool]:
    """As `read`, for a reader whose room is filled: `chunks` says by how much at a time, 0 for a chunk of its own."""
    reader = MessageReader(LIMIT)
    found: list[bytes] = []
    position = turn = 0
    try:
        while position < len(stream):
            size = chunks[turn % len(chunks)] if chunks else 1
            turn += 1
            if size:
                with reader.room() as room:
                    part = stream[position : position + min(size, len(room))]
                    room[: len(part)] = part
                one = reader.received(len(part))
            else:
                part = stream[position : position + 7]
                one = reader.receive(part)
            position += len(part)
            while one is not None:
                found.append(one)
                one = reader.next_message()
    except ProtocolError:
        return found, True
    return found, False


@given(messages, tails, st.lists(st.integers(0, 60), max_size=20))
def test_filling_the_readers_room_gives_the_same_messages(sent: list[bytes], tail: bytes, chunks: list[int]):
    stream = b"".join(sent) + tail
    assert read_into_rooms(stream, [c for c in chunks if c]) == read(
        [stream[i : i + 1] for i in range(len(stream))]
    )
    assert read_into_rooms(stream, chunks or [1]) == read_into_rooms(stream, [1])


@given(messages, tails, st.lists(st.integers(0, 400), max_size=30))
def test_any_cut_of_a_stream_gives_the_same_messages(sent: list[bytes], tail: bytes, cuts: list[int]):
    stream = b"".join(sent) + tail
    found = read([stream] if stream else [])
    assert read(cut(stream, cuts)) == found
    assert read([stream[i : i + 1] for i in range(len(stream))]) == found


@given(messages, st.lists(st.integers(0, 400), max_size=30))
def test_messages_come_out_as_they_went_in(sent: list[bytes], cuts: list[int]):
    expected = []
    for one in sent:
        if len(one) > LIMIT:
            assert read(cut(b"".join(sent), cuts)) == (expected, True)
            return
        expected.append(one)
    assert read(cut(b"".join(sent), cuts)) == (expected, False)


@given(st.binary(max_size=60))
def test_the_bytes_said_to_be_missing_are_really_missing(data: bytes):
    reader = MessageReader(LIMIT)
    try:
        reader.receive(data)
        while reader.next_message() is not None:
            pass
        missing = reader.bytes_missing
        assert missing >= 1
        if missing > 1:
            assert reader.receive(b"\0" * (missing - 1)) is None
    except ProtocolError:
        return
