"""The shape of a command: its field names and types, without the values that it carries.

In: a scanned view of the command's body. Out: plain values for JSON, no larger than asked for. Must not know what a
command means; which values may be shown is a table of top-level names here.

Why: an audit log is read by more people than the data. `{find: "users", filter: {ssn: "123-45-6789"}}` becomes
`{find: "users", filter: {ssn: "<string>"}}`; the whole body is fixed by its SHA-256 beside it, so that a client's
claim about what it sent can be checked later.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from mongoguard.errors import CommandError

__all__ = ["SECRET_FIELDS", "CommandDocument", "holds_secret", "shape"]

SHOWN_FIELDS = frozenset(
    {
        "$db",
        "allowDiskUse",
        "allowPartialResults",
        "authorizedCollections",
        "autocommit",
        "awaitData",
        "batchSize",
        "capped",
        "collection",
        "count",
        "dropTarget",
        "limit",
        "maxTimeMS",
        "mechanism",
        "multi",
        "nameOnly",
        "new",
        "noCursorTimeout",
        "ordered",
        "remove",
        "returnKey",
        "showRecordId",
        "singleBatch",
        "skip",
        "startTransaction",
        "tailable",
        "to",
        "txnNumber",
        "upsert",
        "user",
        "viewOn",
    }
)
"""Top-level arguments whose values (text, number or bool) are shown: names and switches, never documents."""

SECRET_FIELDS = frozenset(
    {
        "credentials",
        "jwt",
        "keyFile",
        "keyMaterial",
        "passwd",
        "password",
        "payload",
        "pwd",
        "secretAccessKey",
        "serverKey",
        "sessionToken",
        "speculativeAuthenticate",
        "storedKey",
        "token",
    }
)
"""Names whose value is a secret or made from one, at any level: neither shape nor type nor digest is told."""

_PAYLOAD_FIRST = frozenset({"logApplicationMessage", "authenticate", "saslStart", "saslContinue"})
"""Commands whose own field may hold a text of the client's."""

MAX_LEVELS = 5
"""Levels that are opened: command, pipeline, stage, stage's argument, expression. Deeper says less and costs more."""
MAX_ELEMENTS = 8
"""Elements of an array that are shown; of a thousand inserted documents the first ones say it all."""
MAX_SHOWN_TEXT = 120
"""A collection name has at most 235 bytes; what is longer than this is cut, as the line must stay readable."""


class CommandDocument(Protocol):
    """What is read of a document: the scanned view that `wire.document.Document` is, without importing it."""

    @property
    def raw(self) -> bytes:
        """The document's own bytes."""

    def __iter__(self) -> Iterator[str]:
        """Field names in order."""

    def type_name(self, name: str) -> str:
        """The alias of the field's BSON type."""

    def size_of(self, name: str) -> int:
        """Bytes of the field's value."""

    def string(self, name: str) -> str | None:
        """The field if it is a string."""

    def number(self, name: str) -> int | float | None:
        """The field if it is a number."""

    def boolean(self, name: str) -> bool | None:
        """The field if it is a bool."""

    def document(self, name: str) -> CommandDocument | None:
        """The field, scanned, if it is an object."""

    def array(self, name: str) -> CommandDocument | None:
        """The field, scanned, if it is an array."""

    def value(self, name: str) -> Any:
        """The field decoded; None when absent."""


MAX_OPENED_BYTES = 128 * 1024
"""Longer documents and arrays are not opened for their shape, most of which would be cut."""


class _Room:
    """How many more bytes of JSON may be written."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, value: Any) -> bool:
        """Count a name or value with its quotes, colon, brackets and comma; False when it doesn't fit any more."""
        self.left -= len(json.dumps(value)) + 4
        return self.left >= 0


_CUT = "<cut>"
_CUT_ROOM = 160
"""Kept free for the cut marks: MAX_LEVELS times `"...":"<cut>",`, and one `"<cut>",` for a value in each."""


def shape(body: CommandDocument, max_bytes: int) -> dict[str, Any]:
    """The command's fields with `<type>` for every value but the shown ones, in at most `max_bytes` of JSON.

    What doesn't fit is replaced by one `"...": "<cut>"` per open level; what is no BSON, by `<invalid>`.
    """
    room = _Room(max_bytes - _CUT_ROOM)
    result: dict[str, Any] = {}
    command = next(iter(body), "")
    for name in body:
        shown = name in SHOWN_FIELDS or (name == command and name not in _PAYLOAD_FIRST)
        value = _shown(body, name) if shown and name not in SECRET_FIELDS else None
        if not room.take(name) or (value is not None and not room.take(value)):
            result["..."] = _CUT
            break
        result[name] = value if value is not None else _value_shape(body, name, room, MAX_LEVELS - 1)
    return result


def holds_secret(body: CommandDocument) -> bool:
    """Whether a top-level argument is a secret: a digest over a password could be guessed from."""
    return any(name in SECRET_FIELDS for name in body)


def _shown(document: CommandDocument, name: str) -> Any:
    try:
        text = document.string(name)
    except CommandError:
        return "<invalid>"
    if text is not None:
        return text if len(text) <= MAX_SHOWN_TEXT else text[:MAX_SHOWN_TEXT] + "..."
    flag = document.boolean(name)
    if flag is not None:
        return flag
    number = document.number(name)
    # NaN and infinity have no JSON, and are no limit that a client means.
    return number if number is None or abs(number) <= 2**63 else None


def _value_shape(document: CommandDocument, name: str, room: _Room, levels: int) -> Any:
    if name in SECRET_FIELDS:
        return _fits("<secret>", room)
    if document.size_of(name) > MAX_OPENED_BYTES:
        return _fits(f"<{document.type_name(name)}>", room)
    try:
        inner, array = document.document(name), document.array(name)
    except CommandError:
        return _fits("<invalid>", room)
    if levels and inner is not None:
        return _object_shape(inner, room, levels)
    if levels and array is not None:
        return _array_shape(array, room, levels)
    return _fits(f"<{document.type_name(name)}>", room)


def _object_shape(document: CommandDocument, room: _Room, levels: int) -> Mapping[str, Any]:
    result: dict[str, Any] = {}
    for name in document:
        if not room.take(name):
            result["..."] = _CUT
            break
        result[name] = _value_shape(document, name, room, levels - 1)
    return result


def _array_shape(array: CommandDocument, room: _Room, levels: int) -> list[Any]:
    result: list[Any] = []
    keys = list(array)
    for key in keys[:MAX_ELEMENTS]:
        if not room.take(""):
            return [*result, _CUT]
        result.append(_value_shape(array, key, room, levels - 1))
    if len(keys) > MAX_ELEMENTS:
        result.append(_fits(f"<{len(keys) - MAX_ELEMENTS} more>", room))
    return result


def _fits(text: str, room: _Room) -> str:
    return text if room.take(text) else _CUT
