"""Replies: documents of our own, and the little that is read in a relayed reply.

In: values, errors, or the upstream's reply bytes. Out: reply bodies, or a cursor's id and namespace. Must not know
users.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mongoguard.errors import CommandError, code_name
from mongoguard.wire.document import INT64, Document, encode
from mongoguard.wire.message import OpMsg, parse_message

__all__ = [
    "OpenedCursor",
    "cursor_in_reply",
    "error_body",
    "error_code_in_reply",
    "error_document",
    "ok_body",
    "parse_reply",
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


def cursor_in_reply(message: bytes) -> OpenedCursor | None:
    """The cursor that a reply shows, if any. Skips over the batch by its length."""
    cursor = parse_reply(message).body.document("cursor")
    if cursor is None or cursor.type_of("id") != INT64:
        return None
    return OpenedCursor(int(cursor.number("id") or 0), cursor.string("ns") or "")


def error_code_in_reply(message: bytes) -> int:
    """0 for a reply with ok: 1, else its error code (1 InternalError when it has none)."""
    body = parse_reply(message).body
    return 0 if body.truthy("ok") else int(body.number("code") or 1)
