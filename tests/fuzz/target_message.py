"""Laws of the wire room's messages: framing, decompression and parsing of arbitrary bytes.

A framed message is a message, a CommandError or a ProtocolError; what is a message has its documents inside its own
bytes, apart from each other. What is decompressed has the size that it declared.
"""

from __future__ import annotations

import itertools

from mongoguard.errors import CommandError, ProtocolError
from mongoguard.wire.compression import decompress_message
from mongoguard.wire.framing import MessageReader
from mongoguard.wire.message import OpMsg, parse_message
from tests.rawwire import NOOP, OP_COMPRESSED, SNAPPY, ZLIB, ZSTD, compressed, op_msg
from tests.unit.wire.cases import CASES, PING

LIMIT = 4096

SEEDS = [
    *(case.data for case in CASES if len(case.data) <= LIMIT),
    *(compressed(op_msg(PING), compressor) for compressor in (NOOP, SNAPPY, ZLIB, ZSTD)),
    op_msg(PING) + op_msg(PING),
]


def check(data: bytes) -> None:
    """Read the stream at once and in two pieces; then look at each message."""
    messages = _framed([data])
    half = len(data) // 2
    assert _framed([data[:half], data[half:]]) == messages
    for message in messages:
        _check_message(message)


def _framed(chunks: list[bytes]) -> list[bytes]:
    reader = MessageReader(LIMIT)
    messages: list[bytes] = []
    try:
        for chunk in chunks:
            message = reader.receive(chunk)
            while message is not None:
                messages.append(message)
                message = reader.next_message()
    except ProtocolError:
        pass
    return messages


def _check_message(data: bytes) -> None:
    try:
        if int.from_bytes(data[12:16], "little") == OP_COMPRESSED:
            declared = int.from_bytes(data[20:24], "little")
            data, _compressor = decompress_message(data, LIMIT)
            assert len(data) == 16 + declared <= LIMIT
            assert int.from_bytes(data[:4], "little") == len(data)
        message = parse_message(data)
    except (CommandError, ProtocolError):
        return
    if not isinstance(message, OpMsg):
        assert message.query.end <= len(message.data)
        return
    spans = [
        (message.body.start, message.body.end),
        *(s for spans in message.sequences.values() for s in spans),
    ]
    spans.sort()
    assert spans[0][0] >= 21
    assert spans[-1][1] <= message.end
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
