"""Long replies: the documents of a cursor's batch may go on while they come; what follows them is held back.

In: a reply's bytes, as they come. Out: which of them may go on, and the reply without its documents, for whoever must
read it before its end goes on. Must not know who may read what, nor sockets.

A server writes `{cursor: {firstBatch: [...], id: ..., ns: ...}, ok: 1}`: the lengths in the first bytes tell where the
batch ends, and what a proxy reads (the cursor's id) comes behind it.
"""

from __future__ import annotations

import struct

from mongoguard.errors import ProtocolError, UpstreamConnectionLost
from mongoguard.wire.message import MAX_MESSAGE_BYTES, OpCode

__all__ = ["LongReply", "begin_long_reply"]

MAX_END_BYTES = 16 * 1024
"""What may follow the batch: an id, a namespace, cluster times and a resume token, some hundred bytes."""

_PLAIN_OP_MSG = OpCode.MSG.to_bytes(4, "little") + bytes(5)
"""Opcode, no flags, and the kind of a body."""
_BODY, _CURSOR, _CURSOR_LENGTH, _BATCH_FIELD = 21, 25, 33, 37
_CURSOR_FIELD = b"\x03cursor\0"
_BATCH_FIELDS = (b"\x04firstBatch\0", b"\x04nextBatch\0")
_EMPTY_ARRAY = b"\5\0\0\0\0"
_int32 = struct.Struct("<i")


class LongReply:
    """One reply of which the beginning has come. `shortened` is the reply with an empty batch, once it has all come."""

    __slots__ = ("_batch", "_batch_end", "_end", "_head", "_received", "_size", "shortened")

    def __init__(self, head: bytes, size: int, batch: int, batch_end: int) -> None:
        """`head` is what comes before the batch. See `begin_long_reply`."""
        self.shortened: bytes | None = None
        self._head = head
        self._size = size
        self._batch = batch
        self._batch_end = batch_end
        self._received = 0
        self._end = b""

    @property
    def bytes_missing(self) -> int:
        """How many bytes of the reply have not come yet."""
        return self._size - self._received

    @property
    def documents_missing(self) -> int:
        """How many bytes of the batch have not come yet: all of them may go on unseen."""
        return max(0, self._batch_end - self._received)

    def passed(self, count: int) -> None:
        """That many bytes of the batch came, and went on."""
        self._received += count

    def take(self, chunk: bytes | bytearray) -> memoryview:
        """Those of the bytes that came next which may go on. Raises `UpstreamConnectionLost` for more than that."""
        if len(chunk) > self.bytes_missing:
            raise UpstreamConnectionLost("the upstream sent more than one reply")
        documents = memoryview(chunk)[: self.documents_missing]
        self._end += chunk[len(documents) :]
        self._received += len(chunk)
        if self._received == self._size:
            self.shortened = self._without_documents()
        return documents

    def end_of(self, reply: bytes | None) -> bytes:
        """What was held back, when `shortened` itself is what the client is to get.

        Raises `ProtocolError` for anything else: it would have been another reply, and a part of this one is sent.
        """
        if reply is None or reply is not self.shortened:
            raise ProtocolError("a reply was changed of which a part was sent")
        return self._end

    def _without_documents(self) -> bytes:
        head, less = bytearray(self._head), self._batch_end - self._batch - len(_EMPTY_ARRAY)
        for place in (0, _BODY, _CURSOR_LENGTH):
            _int32.pack_into(head, place, _int32.unpack_from(head, place)[0] - less)
        return b"".join((head, _EMPTY_ARRAY, self._end))


def begin_long_reply(first: bytes) -> LongReply | None:
    """A reply whose first bytes these are; None when it is whole, is not that of a cursor, or has a strange form.

    Nothing of `first` is taken yet.
    """
    if len(first) < 64 or first[12:21] != _PLAIN_OP_MSG or first[_CURSOR:_CURSOR_LENGTH] != _CURSOR_FIELD:
        return None
    size, body, cursor = (_int32.unpack_from(first, place)[0] for place in (0, _BODY, _CURSOR_LENGTH))
    cursor_end = _CURSOR_LENGTH + cursor
    if not len(first) < size <= MAX_MESSAGE_BYTES or _BODY + body != size or cursor < 5 or cursor_end >= size:
        return None
    for field in _BATCH_FIELDS:
        if first.startswith(field, _BATCH_FIELD):
            batch = _BATCH_FIELD + len(field)
            length = _int32.unpack_from(first, batch)[0]
            if length < 5 or batch + length >= cursor_end or size - (batch + length) > MAX_END_BYTES:
                return None
            return LongReply(first[:batch], size, batch, batch + length)
    return None
