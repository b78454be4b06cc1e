"""Framing: a stream of bytes cut into messages.

In: chunks of bytes, cut anywhere. Out: whole messages (header included), one at a time. Must not know what is in them.
The result does not depend on where the stream was cut (tests/property/test_framing.py).
"""

from __future__ import annotations

from mongoguard.errors import ProtocolError
from mongoguard.wire.message import HEADER_SIZE

__all__ = ["MessageReader"]


class MessageReader:
    """Collects received bytes until a message is whole.

    `max_message_bytes` may be changed at any time (it is small before login); it bounds what is kept in memory beside
    one received chunk.
    """

    __slots__ = ("_buffer", "max_message_bytes")

    def __init__(self, max_message_bytes: int) -> None:
        """Start empty."""
        self.max_message_bytes = max_message_bytes
        self._buffer = bytearray()

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and is not whole."""
        return bool(self._buffer)

    @property
    def bytes_missing(self) -> int:
        """At least this many bytes must come before `next_message` can have a message (1 or more)."""
        buffer = self._buffer
        if len(buffer) < HEADER_SIZE:
            return HEADER_SIZE - len(buffer)
        return max(1, int.from_bytes(buffer[:4], "little", signed=True) - len(buffer))

    def receive(self, data: bytes) -> bytes | None:
        """Take a chunk and return the first whole message, or None when more bytes are needed.

        Messages that arrived behind it are kept: ask `next_message` for them. Raises `ProtocolError` for a length
        that no message has; nothing may be read from the peer after that.
        """
        if not self._buffer and len(data) >= HEADER_SIZE and self._length(data) == len(data):
            return data  # the common case: one whole message in one chunk, no copy
        self._buffer += data
        return self.next_message()

    def next_message(self) -> bytes | None:
        """The next whole message among the bytes already received, or None. Raises as `receive`."""
        buffer = self._buffer
        if len(buffer) < HEADER_SIZE:
            return None
        length = self._length(buffer)
        if len(buffer) < length:
            return None
        message = bytes(memoryview(buffer)[:length])
        del buffer[:length]
        return message

    def _length(self, data: bytes | bytearray) -> int:
        length = int.from_bytes(data[:4], "little", signed=True)
        if length < HEADER_SIZE or length > self.max_message_bytes:
            raise ProtocolError(
                f"a message length of {length} bytes is outside {HEADER_SIZE}..{self.max_message_bytes}"
            )
        return length
