"""Laws of the link between a supervisor and its workers: whatever one end sends, the other end goes on."""

import datetime
import socket

import bson
import trio
from bson import Binary, Code, Decimal128, Int64, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from mongoguard.server.link import Link

VALUES = {
    "numbers": [1, 1.5, Int64(5), Decimal128("1.5")],
    "texts": ["é", Code("x"), Code("x", {"a": 1}), Regex("a", "i")],
    "bytes": [b"xx", Binary(bytes(16), 4), ObjectId(bytes(12))],
    "others": [None, True, MinKey(), Timestamp(1, 2), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)],
}
DOCUMENTS = [
    bson.encode({"kind": "ask", "number": 1, "fields": VALUES}),
    bson.encode({"kind": "ask at once", "number": 2, "fields": VALUES}),
    bson.encode({"answers": 1, "fields": VALUES}),
]


@st.composite
def damaged(draw):
    """A question or an answer with some bytes changed, cut out or put in; most have a length that is theirs."""
    data = bytearray(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(4, len(data) - 1))
        data[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=2))
    if draw(st.integers(0, 4)):
        data[:4] = len(data).to_bytes(4, "little")
    return bytes(data)


async def hear(data):
    """An end to which that comes; it is done in time, and raises nothing."""
    ours, theirs = socket.socketpair()

    async def ask(fields):
        await trio.lowlevel.checkpoint()
        return fields

    link = Link(ours, {"ask": ask}, {"ask at once": lambda fields: fields}, max_received=10_000)
    with theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with trio.fail_after(20):
            await link.run()
    assert ours.fileno() == -1


@given(damaged() | st.binary(max_size=200) | st.sampled_from(DOCUMENTS))
def test_nothing_that_comes_ends_more_than_the_link(data):
    trio.run(hear, data)
