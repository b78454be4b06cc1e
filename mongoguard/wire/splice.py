"""Splices: the only changes ever made to a client's message.

In: a parsed OP_MSG, replacements of byte ranges inside its body, and elements to append. Out: the message with exactly
those changes, lengths mended, no checksum, and no flag that would let the upstream answer otherwise than one reply per
request. Must not know why a splice is made (proxy/relaying.py does).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

from mongoguard.wire.document import Document
from mongoguard.wire.message import OpCode, OpMsg

__all__ = ["Splice", "append_to_document", "splice_message"]

Splice: TypeAlias = tuple[int, int, bytes]
"""Replace the bytes from offset `start` to offset `end` of the message (inside its body) by these bytes."""

_head = struct.Struct("<iiiiI").pack
_int32 = struct.Struct("<i").pack


def splice_message(message: OpMsg, splices: Sequence[Splice], appended: bytes) -> bytes:
    """The client's message with `splices` (in ascending order, not overlapping) and `appended` elements in its body.

    All flags are cleared: the checksum no longer fits; `moreToCome` would leave the upstream connection without a
    reply and the next request unordered; `exhaustAllowed` would let one request have many replies.
    """
    data, body = message.data, message.body
    delta = len(appended)
    for start, end, replacement in splices:
        delta += len(replacement) - (end - start)
    pieces = [
        _head(message.end + delta, message.request_id, 0, OpCode.MSG, 0),
        data[20 : body.start],
        _int32(body.end - body.start + delta),
    ]
    position = body.start + 4
    for start, end, replacement in splices:
        pieces += (data[position:start], replacement)
        position = end
    pieces += (data[position : body.end - 1], appended, data[body.end - 1 : message.end])
    return b"".join(pieces)


def append_to_document(document: Document, elements: bytes) -> bytes:
    """The document's bytes with elements added at its end."""
    size = document.end - document.start + len(elements)
    return b"".join((_int32(size), document.data[document.start + 4 : document.end - 1], elements, b"\0"))
