"""Framing: whole messages out of chunks."""

import pytest

from mongoguard.errors import ProtocolError
from mongoguard.wire.framing import MAX_ROOM_BYTES, MessageReader
from tests.rawwire import OP_MSG, header, message
from tests.unit.wire.cases import CASES, Case

LIMIT = 48_000_000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_message_that_comes_byte_by_byte_is_the_message(case: Case):
    reader = MessageReader(LIMIT)
    for position in range(len(case.data) - 1):
        assert reader.receive(case.data[position : position + 1]) is None
        assert reader.in_message
    assert reader.bytes_missing == 1
    assert reader.receive(case.data[-1:]) == case.data
    assert not reader.in_message


def test_a_whole_message_in_one_chunk_is_not_copied():
    data = message(OP_MSG, b"x" * 10)
    assert MessageReader(LIMIT).receive(data) is data


def test_messages_that_come_together_are_given_one_by_one():
    one, two, three = (message(OP_MSG, bytes(n)) for n in (1, 0, 20))
    reader = MessageReader(LIMIT)
    assert reader.receive(one + two + three[:5]) == one
    assert reader.next_message() == two
    assert reader.next_message() is None
    assert reader.receive(three[5:]) == three
    assert reader.next_message() is None


def test_the_bytes_that_are_missing_are_known_with_the_header():
    reader = MessageReader(LIMIT)
    assert reader.bytes_missing == 16
    reader.receive(header(100, OP_MSG)[:10])
    assert reader.bytes_missing == 6
    reader.receive(header(100, OP_MSG)[10:])
    assert reader.bytes_missing == 84
    assert reader.in_message


@pytest.mark.parametrize("length", [16, 1000])
def test_a_length_within_the_limits_is_waited_for(length: int):
    data = header(length, OP_MSG) + bytes(length - 16)
    assert MessageReader(1000).receive(data) == data


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 15, 1001, 2**31 - 1])
@pytest.mark.parametrize("first", [16, 5], ids=["at once", "in pieces"])
def test_a_length_outside_the_limits_ends_the_connection(length: int, first: int):
    reader = MessageReader(1000)
    data = header(length, OP_MSG)
    with pytest.raises(ProtocolError) as closed:
        assert [reader.receive(chunk) for chunk in (data[:first], data[first:] + b"more")]
    assert str(length) in str(closed.value)


def test_a_bad_length_behind_a_good_message_ends_the_connection_after_it():
    good = message(OP_MSG, b"x")
    reader = MessageReader(1000)
    assert reader.receive(good + header(15, OP_MSG)) == good
    with pytest.raises(ProtocolError):
        reader.next_message()
    assert reader.bytes_missing >= 1


def test_the_limit_may_be_raised_and_lowered_between_messages():
    data = message(OP_MSG, bytes(100))
    reader = MessageReader(50)
    with pytest.raises(ProtocolError):
        reader.receive(data)
    reader = MessageReader(50)
    reader.max_message_bytes = len(data)
    assert reader.receive(data) == data
    reader.max_message_bytes = len(data) - 1
    with pytest.raises(ProtocolError):
        reader.receive(data)


def test_the_room_is_for_the_message_under_way_and_for_nothing_behind_it():
    data = message(OP_MSG, bytes(range(100)))
    reader = MessageReader(LIMIT)
    assert len(reader.room()) == 16
    assert reader.receive(data[:16]) is None
    with reader.room() as room:
        assert len(room) == 100
        room[:40] = data[16:56]
    assert reader.received(40) is None
    assert reader.bytes_missing == 60
    with reader.room() as room:
        room[:] = data[56:]
    assert reader.received(60) == data
    assert not reader.in_message
    assert reader.receive(data) is data


def test_a_header_that_promises_much_gets_little_room():
    reader = MessageReader(LIMIT)
    reader.receive(header(LIMIT, OP_MSG))
    assert len(reader.room()) == MAX_ROOM_BYTES
    assert len(reader._buffer) <= MAX_ROOM_BYTES + 16


def test_room_that_was_not_filled_is_no_part_of_a_message():
    data = message(OP_MSG, b"y" * 50)
    reader = MessageReader(LIMIT)
    assert reader.receive(data[:20]) is None
    with reader.room() as room:
        room[:2] = data[20:22]
    assert reader.received(2) is None
    assert reader.receive(data[22:] + data[:1]) == data
    assert reader.in_message
    assert reader.receive(data[1:]) == data
