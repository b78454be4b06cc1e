"""Framing: a stream of bytes cut into messages.

In: chunks of bytes, cut anywhere. Out: whole messages (header included), one at a time. Must not know what is in them.
The result does not depend on where the stream was cut (tests/property/test_framing.py).
"""

from __future__ import annotations

from mongoguard.errors import ProtocolError
from mongoguard.wire.message import HEADER_SIZE

__all__ = ["MessageReader"]

MAX_ROOM_BYTES = 1024 * 1024
"""A message's memory is at most this, or as much again, ahead of what was received: a header that promises 48 MB costs
nothing."""


class MessageReader:
    """Collects received bytes until a message is whole.

    `max_message_bytes` may be changed at any time (it is small before login); it bounds what is kept in memory beside
    one received chunk. Bytes come by `receive`, or are written into `room` and told by `received`: a long message is
    then copied once instead of three times.
    """

    __slots__ = ("_buffer", "_filled", "max_message_bytes")

    def __init__(self, max_message_bytes: int) -> None:
        """Start empty."""
        self.max_message_bytes = max_message_bytes
        self._buffer = bytearray()  # bytes from _filled on are room, not yet received
        self._filled = 0

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and is not whole."""
        return self._filled > 0

    @property
    def bytes_missing(self) -> int:
        """At least this many bytes must come before `next_message` can have a message (1 or more)."""
        if self._filled < HEADER_SIZE:
            return HEADER_SIZE - self._filled
        return max(1, int.from_bytes(self._buffer[:4], "little", signed=True) - self._filled)

    def receive(self, data: bytes) -> bytes | None:
        """Take a chunk and return the first whole message, or None when more bytes are needed.

        Messages that arrived behind it are kept: ask `next_message` for them. Raises `ProtocolError` for a length
        that no message has; nothing may be read from the peer after that.
        """
        if not self._filled and len(data) >= HEADER_SIZE and self._length(data) == len(data):
            return data  # the common case: one whole message in one chunk, no copy
        del self._buffer[self._filled :]
        self._buffer += data
        self._filled = len(self._buffer)
        return self.next_message()

    def room(self) -> memoryview:
        """Where the next bytes of the message under way may be written: some of those missing, none of what follows.

        Release the view before the reader is used again; then tell `received`.
        """
        wanted = self._filled + min(self.bytes_missing, max(MAX_ROOM_BYTES, self._filled))
        if len(self._buffer) < wanted:
            # A new buffer and not a longer one: making one longer costs the kernel ten times as much as this copy.
            grown = bytearray(wanted)
            grown[: self._filled] = memoryview(self._buffer)[: self._filled]
            self._buffer = grown
        return memoryview(self._buffer)[self._filled : wanted]

    def received(self, count: int) -> bytes | None:
        """`count` bytes were written into `room`; returns and raises as `receive`."""
        self._filled += count
        return self.next_message()

    def next_message(self) -> bytes | None:
        """The next whole message among the bytes already received, or None. Raises as `receive`."""
        if self._filled < HEADER_SIZE:
            return None
        length = self._length(self._buffer)
        if self._filled < length:
            return None
        with memoryview(self._buffer) as view:
            message = bytes(view[:length])
        del self._buffer[:length]
        self._filled -= length
        return message

    def _length(self, data: bytes | bytearray) -> int:
        length = int.from_bytes(data[:4], "little", signed=True)
        if length < HEADER_SIZE or length > self.max_message_bytes:
            raise ProtocolError(
                f"a message length of {length} bytes is outside {HEADER_SIZE}..{self.max_message_bytes}"
            )
        return length
