"""Replies: documents of our own, and the little that is read in a relayed reply.

In: values, errors, or the upstream's reply bytes. Out: reply bodies, or a cursor's id and namespace. Must not know
users.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mongoguard.errors import CommandError, code_name
from mongoguard.wire.document import INT64, encode
from mongoguard.wire.message import OpMsg, parse_message

__all__ = [
    "OpenedCursor",
    "begins_with_failure",
    "cursor_in_reply",
    "error_body",
    "error_code_in_reply",
    "error_document",
    "ok_body",
    "parse_reply",
    "shows_exhausted_cursor",
]


class OpenedCursor(NamedTuple):
    """What a reply says of a cursor; id 0 means that it is exhausted."""

    cursor_id: int
    namespace: str


def ok_body(fields: Mapping[str, Any]) -> bytes:
    """A successful reply: the fields, then ok: 1.0, as mongod orders them."""
    return encode({**fields, "ok": 1.0})


def error_document(error: CommandError) -> dict[str, Any]:
    """A failed reply, in mongod's field order."""
    document: dict[str, Any] = {
        "ok": 0.0,
        "errmsg": error.errmsg,
        "code": error.code,
        "codeName": code_name(error.code),
    }
    if error.labels:
        document["errorLabels"] = list(error.labels)
    if error.err_info is not None:
        document["errInfo"] = dict(error.err_info)
    return document


def error_body(error: CommandError) -> bytes:
    """A failed reply, encoded."""
    return encode(error_document(error))


def parse_reply(message: bytes) -> OpMsg:
    """The upstream's OP_MSG. Raises `ProtocolError` or `CommandError` when it is none."""
    parsed = parse_message(message)
    assert isinstance(parsed, OpMsg)  # an upstream answers OP_MSG with OP_MSG; parse_message saw the opcode
    return parsed


_NO_CURSOR_LEFT = OpenedCursor(0, "")
_CURSOR_FIELD = b"\x03cursor\0"
_BATCH_FIELDS = (b"\x04firstBatch\0", b"\x04nextBatch\0")
_ID_ZERO = b"\x12id\0" + bytes(8)


def cursor_in_reply(message: bytes) -> OpenedCursor | None:
    """The cursor that a reply shows, if any. Skips over the batch by its length."""
    if shows_exhausted_cursor(message):
        return _NO_CURSOR_LEFT
    cursor = parse_reply(message).body.document("cursor")
    if cursor is None or cursor.type_of("id") != INT64:
        return None
    return OpenedCursor(int(cursor.number("id") or 0), cursor.string("ns") or "")


def shows_exhausted_cursor(message: bytes) -> bool:
    """Whether this is `{cursor: {firstBatch: […], id: 0, …`: how a server begins most replies, seen without a scan."""
    if message[16:21] != b"\0\0\0\0\0" or message[25:33] != _CURSOR_FIELD:
        return False
    for field in _BATCH_FIELDS:
        if message.startswith(field, 37):
            batch = 37 + len(field)
            return message.startswith(_ID_ZERO, batch + int.from_bytes(message[batch : batch + 4], "little"))
    return False


_BODY_START = 16 + 4 + 1 + 4  # header, flags, the section's kind, the document's length
_FAILURES = (b"\x01ok\0" + bytes(8), b"\x03topologyVersion\0", b"\x04errorLabels\0")


def begins_with_failure(message: bytes) -> bool:
    """Whether the reply's first field is `ok: 0.0`: how a server begins every error document, seen without a scan.

    Or what then comes before it: `errorLabels`, when the client may try again, and `topologyVersion`, when the server
    has stepped down, recovers or shuts down (measured on mongod 6.0.5).
    Not so where a command failed with a result to show (applyOps): then the result comes first.
    """
    return message.startswith(_FAILURES, _BODY_START)


def error_code_in_reply(message: bytes) -> int:
    """0 for a reply with ok: 1, else its error code (1 InternalError when it has none)."""
    body = parse_reply(message).body
    return 0 if body.truthy("ok") else int(body.number("code") or 1)
