"""Outlines: what requests have in common that differ only in values which nobody reads.

In: one framed message, and the names of the fields whose values do not matter. Out: its outline, and the message with
elements inserted where the outline says. Must not know why a value does not matter (command/spec.py does), nor what an
outline is kept for (proxy/repeats.py does).

Only where the part in C was built: in Python, an outline would cost as much as what it saves.
"""

from __future__ import annotations

from typing import TypeAlias

from mongoguard.wire.message import MAX_BSON_OBJECT_BYTES, MAX_SEQUENCE_DOCUMENTS
from mongoguard.wire.native import native_inserted, native_outline

__all__ = ["Outline", "inserted", "outline_of"]


Outline: TypeAlias = tuple[bytes, int, int]
"""A key, where the lsid is, where the body ends.

The key holds the types and names of all fields of the body in their order, and the values of those that are read: two
messages with the same key are told apart by unread values alone. The second number is where the value of a plain lsid
(`{id: UUID}`) begins, -1 without one; its id is not in the key.
"""


def outline_of(data: bytes, unread: bytes, sequence: bytes) -> Outline | None:
    """The outline of an OP_MSG without flags: a body that comes first, and at most one document sequence after it.

    `unread`: names of fields, each with a zero byte behind it, `sequence`: those of document sequences. None for every
    message that is not so plain, is not well-formed as `parse_message` has it, or has much that is read.
    """
    if native_outline is None:
        return None
    found: Outline | None = native_outline(
        data, unread, sequence, MAX_BSON_OBJECT_BYTES, MAX_SEQUENCE_DOCUMENTS
    )
    return found


def inserted(data: bytes, outline: Outline, uid: bytes, appended: bytes) -> bytes:
    """The message with the element `uid` at the end of its lsid, if it has one, and `appended` at the end of its body.

    As `splice_message` would make it. `outline` must be the message's own.
    """
    assert native_inserted is not None  # or there was no outline
    _key, lsid, body_end = outline
    made: bytes = native_inserted(data, lsid, body_end, uid, appended)
    return made
