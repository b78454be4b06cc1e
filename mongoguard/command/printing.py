"""A command as mongod prints it in refusals, and the refusal itself.

In: a `Command`. Out: text. Must not know privileges. Secrets are printed as "xxx", document sequences not at all.
Source: measured on mongod 6.0.5; tests/integration compares the texts with a real server's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from mongoguard.command.catalog import find_row
from mongoguard.command.command import Command
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.wire.document import ARRAY, DOCUMENT, Document, Element

__all__ = ["MAX_PRINTED", "not_authorized", "print_command", "print_element"]

MAX_PRINTED = 65_536
"""Characters of a printed command; the rest is cut. mongod prints all of it, which an error reply of ours must not."""
MAX_OPENED_BYTES = 128 * 1024
"""Longer documents and arrays are not opened for the text, which would mostly be cut, and cost milliseconds."""
_MAX_DEPTH = 100
_COUNTED = {"insert": "documents", "update": "updates", "delete": "deletes"}
_OWN_WORDS = {
    "listDatabases": "Insufficient permissions to list all databases",
    # refused only for naming another user's sessions
    **dict.fromkeys(
        ("endSessions", "killSessions", "refreshSessions"),
        "Unauthorized to set user digest in LogicalSessionId",
    ),
}
"""Commands that mongod refuses while it runs them, in words of their own."""
_OLD_BINARY_SUBTYPE = 2
_UUID_SUBTYPE = 4
_ENCRYPTED_SUBTYPE = 6

_double = struct.Struct("<d").unpack_from
_int32 = struct.Struct("<i").unpack_from
_int64 = struct.Struct("<q").unpack_from
_timestamp = struct.Struct("<II").unpack_from


def not_authorized(command: Command) -> CommandError:
    """13 Unauthorized with the text that mongod gives when a command's privileges are missing."""
    own_words = _OWN_WORDS.get(command.name)
    if own_words is not None:
        return CommandError(ErrorCode.UNAUTHORIZED, own_words)
    return CommandError(
        ErrorCode.UNAUTHORIZED, f"not authorized on {command.db} to execute command {print_command(command)}"
    )


def print_command(command: Command) -> str:
    """The command's body as mongod prints it, secret arguments and long batches left out."""
    row = find_row(command.name)
    secret = frozenset() if row is None else row.secret_fields
    counted = _COUNTED.get(command.name)
    printer = _Printer(command.body.data)
    for name, element in command.body.fields.items():
        printer.separate(name)
        if name in secret:
            printer.add('"xxx"')
        elif name == counted and element[0] == ARRAY:
            size = _count(command, name)
            printer.add(str(size)) if size > 1 else printer.value(element, 1)
        else:
            printer.value(element, 1)
    return printer.text()


def print_element(body: Document, name: str) -> str:
    """One field as mongod prints it: `op: 1.5`."""
    printer = _Printer(body.data)
    printer.separate(name)
    printer.value(body.fields[name], 1)
    return printer.fragment()


def _count(command: Command, name: str) -> int:
    """How many documents a write carries; 0 for a damaged array, which must not turn a refusal into another error."""
    try:
        return command.document_count(name) or 0
    except CommandError:
        return 0


class _Printer:
    """Collects a document's text up to MAX_PRINTED characters."""

    __slots__ = ("_data", "_left", "_parts")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._parts: list[str] = []
        self._left = MAX_PRINTED

    def add(self, text: str) -> None:
        self._parts.append(text if len(text) <= self._left else text[: max(self._left, 0)])
        self._left -= len(text)

    def separate(self, name: str | None) -> None:
        self.add(", " if self._parts else "")
        self.add("" if name is None else f"{name}: ")

    def text(self) -> str:
        inner = self.fragment()
        if self._left < 0:
            return f"{{ {inner}..."
        return f"{{ {inner} }}" if inner else "{}"

    def fragment(self) -> str:
        return "".join(self._parts)

    def value(self, element: Element, depth: int) -> None:
        if element[0] in (DOCUMENT, ARRAY):
            self._container(element, depth)
        else:
            self.add(_scalar(self._data, element))

    def _container(self, element: Element, depth: int) -> None:
        is_array = element[0] == ARRAY
        opening, closing = ("[ ", " ]") if is_array else ("{ ", " }")
        if element[3] - element[2] > MAX_OPENED_BYTES:
            self.add(f"{opening}...{closing}")
            return
        try:
            view = Document(self._data, element[2], element[3], depth)
        except CommandError:  # what the upstream would refuse is not worth a refusal of another kind
            self.add("...")
            return
        if not view.fields:
            self.add(opening[0] + closing[1])
            return
        if depth > _MAX_DEPTH:
            self.add(f"{opening}...{closing}")
            return
        self.add(opening)
        for position, (name, child) in enumerate(view.fields.items()):
            if self._left < 0:
                return
            self.add(", " if position else "")
            self.add("" if is_array else f"{name}: ")
            self.value(child, depth + 1)
        self.add(closing)


def _scalar(data: bytes, element: Element) -> str:
    render = _RENDER.get(element[0])
    return render(data, element[2], element[3]) if render is not None else "?"


def _print_double(data: bytes, start: int, _end: int) -> str:
    text = format(_double(data, start)[0], ".16g")
    return text if "." in text else f"{text}.0"


def _cut(data: bytes, start: int, end: int, limit: int, keep: int) -> str:
    """A string's text; of a long one the first bytes, as mongod cuts it (a character cut in two is dropped)."""
    if end - start < limit:
        return data[start:end].decode(errors="replace")
    return data[start : start + keep].decode(errors="ignore") + "..."


def _print_string(data: bytes, start: int, end: int) -> str:
    return f'"{_cut(data, start + 4, end - 1, 160, 150)}"'


def _print_code(data: bytes, start: int, end: int) -> str:
    return _cut(data, start + 4, end - 1, 80, 70)


def _print_code_with_scope(data: bytes, start: int, end: int) -> str:
    size = _int32(data, start + 4)[0]
    code_end = start + 8 + size
    if size < 1 or code_end > end:
        return "..."
    scope = _Printer(data)
    scope.value(Element(DOCUMENT, code_end, code_end, end), 1)
    code = data[start + 8 : code_end - 1].decode(errors="replace")
    return f"CodeWScope( {code}, {scope.fragment()})"


def _print_binary(data: bytes, start: int, end: int) -> str:
    subtype, payload = data[start + 4], data[start + 5 : end]
    if subtype == _OLD_BINARY_SUBTYPE:  # repeats its length in front
        payload = payload[4:]
    if subtype == _ENCRYPTED_SUBTYPE:
        return '"###"'
    if subtype == _UUID_SUBTYPE and len(payload) == 16:
        text = payload.hex()
        return f'UUID("{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")'
    if len(payload) > 80:
        return f"BinData({subtype}, {payload[:70].hex().upper()}...)"
    return f"BinData({subtype}, {payload.hex().upper()})"


def _print_regex(data: bytes, start: int, end: int) -> str:
    pattern, _, options = data[start : end - 1].partition(b"\0")
    return f"/{pattern.decode(errors='replace')}/{options.decode(errors='replace')}"


def _print_timestamp(data: bytes, start: int, _end: int) -> str:
    increment, seconds = _timestamp(data, start)
    return f"Timestamp({seconds}, {increment})"


def _print_reference(data: bytes, start: int, end: int) -> str:
    return f"DBRef('{data[start + 4 : end - 13].decode(errors='replace')}',{data[end - 12 : end].hex()})"


def _print_decimal(data: bytes, start: int, end: int) -> str:
    from_bytes = b"\x13\0" + data[start:end]
    wrapped = (len(from_bytes) + 5).to_bytes(4, "little") + from_bytes + b"\0"
    return str(Document(wrapped).value(""))


_RENDER: dict[int, Callable[[bytes, int, int], str]] = {
    0x01: _print_double,
    0x02: _print_string,
    0x05: _print_binary,
    0x06: lambda *_: "undefined",
    0x07: lambda data, start, end: f"ObjectId('{data[start:end].hex()}')",
    0x08: lambda data, start, _end: "true" if data[start] else "false",
    0x09: lambda data, start, _end: f"new Date({_int64(data, start)[0]})",
    0x0A: lambda *_: "null",
    0x0B: _print_regex,
    0x0C: _print_reference,
    0x0D: _print_code,
    0x0E: _print_string,
    0x0F: _print_code_with_scope,
    0x10: lambda data, start, _end: str(_int32(data, start)[0]),
    0x11: _print_timestamp,
    0x12: lambda data, start, _end: str(_int64(data, start)[0]),
    0x13: _print_decimal,
    0x7F: lambda *_: "MaxKey",
    0xFF: lambda *_: "MinKey",
}
