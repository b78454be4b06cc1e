"""Pieces: a request that comes in several chunks, collected while the client's task sleeps.

In: chunks as they come. Out: the whole message, or everything so far for who waits with a deadline. Must not know what
is in it but its length.
"""

from __future__ import annotations

from mongoguard.wire.message import HEADER_SIZE

__all__ = ["Pieces", "begin_pieces"]

MAX_COLLECTED_BYTES = 256 * 1024
"""Longer messages are the task's: reading and deciding them is done in a thread."""


class Pieces:
    """A message that has begun and is not whole."""

    __slots__ = ("_missing", "_pieces")

    def __init__(self, first: bytes, missing: int) -> None:
        """See `begin_pieces`."""
        self._pieces = [first]
        self._missing = missing

    def add(self, piece: bytes) -> bool:
        """The next piece. Whether there is nothing more to come of this message."""
        self._pieces.append(piece)
        self._missing -= len(piece)
        return self._missing <= 0

    def joined(self) -> bytes:
        """Everything that has come: one whole message, unless it is not whole or something follows it."""
        return b"".join(self._pieces)


def begin_pieces(first: bytes, max_message_bytes: int) -> Pieces | None:
    """A message whose first bytes these are; None when its length is not known yet, or not one to be collected."""
    length = int.from_bytes(first[:4], "little")
    if len(first) < HEADER_SIZE or not len(first) < length <= min(max_message_bytes, MAX_COLLECTED_BYTES):
        return None
    return Pieces(first, length - len(first))
