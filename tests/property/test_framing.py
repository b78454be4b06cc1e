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
