"""Search filters as text (RFC 4515): escaping of values, and where the values of a filter are.

In: text, or octets such as a SID. Out: the escaped value; the assertions of a filter. Must not know what is searched
for, or where a value comes from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = [
    "FilterItem",
    "escape_filter_octets",
    "escape_filter_value",
    "read_filter",
    "unescape_filter_value",
]

_MAX_NESTING = 20
"""Filters inside filters: the reader calls itself."""

_TYPE = r"(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)"
_ITEM_HEAD = re.compile(
    rf"{_TYPE}(?:;[A-Za-z0-9-]+)*(?:[~<>]?=|(?::[Dd][Nn])?(?::{_TYPE})?:=)|(?::[Dd][Nn])?:{_TYPE}:="
)
_VALUE = re.compile(r"(?:[^()\\\0]|\\[0-9A-Fa-f]{2})*")

_ESCAPED = {ord(c): f"\\{ord(c):02x}" for c in "\\*()"} | {
    code: f"\\{code:02x}" for code in (*range(0x20), 0x7F)
}
"""RFC 4515 section 3 asks for `* ( ) \\` and NUL. The other controls are escaped too, so that a filter stays one line,
and cannot be cut short by a library that treats some of them as an end."""


def escape_filter_value(text: str) -> str:
    """`text` as an assertion value that matches only itself. Raises `ValueError` for lone surrogates."""
    text.encode()
    return text.translate(_ESCAPED)


def escape_filter_octets(octets: bytes) -> str:
    r"""`octets` as an assertion value, every one of them as `\xx`."""
    return "".join(f"\\{octet:02x}" for octet in octets)


@dataclass(frozen=True, slots=True)
class FilterItem:
    """One assertion of a filter: its value as written, and the index where that starts."""

    value: str
    start: int


def unescape_filter_value(text: str) -> str:
    """A value that `read_filter` accepted, without its escapes; raises `ValueError` when they are not UTF-8."""
    octets = re.sub(rb"\\([0-9A-Fa-f]{2})", lambda pair: bytes.fromhex(pair[1].decode()), text.encode())
    return octets.decode()


def read_filter(text: str) -> list[FilterItem]:
    """The assertions of a filter, from left to right; raises `ValueError` naming the position of what is wrong.

    Strict: no spaces between the parts, no empty `(&)` or `(|)`, and attribute descriptions as RFC 4512 has them.
    """
    items: list[FilterItem] = []
    end = _read(text, 0, items, 1)
    if end != len(text):
        raise _problem("the filter ends here, and more text follows", end)
    return items


def _read(text: str, at: int, items: list[FilterItem], depth: int) -> int:
    """Read the filter that starts at `at`; the index behind it."""
    if depth > _MAX_NESTING:
        raise _problem(f"filters are nested more than {_MAX_NESTING} deep", at)
    if text[at : at + 1] != "(":
        raise _problem("expected '('", at)
    at += 1
    if text[at : at + 1] in ("&", "|", "!"):
        is_not = text[at] == "!"
        at = _read(text, at + 1, items, depth + 1)
        while not is_not and text[at : at + 1] == "(":
            at = _read(text, at, items, depth + 1)
    else:
        head = _ITEM_HEAD.match(text, at)
        if head is None:
            raise _problem("expected an attribute and '='", at)
        value = _VALUE.match(text, head.end())
        assert value is not None  # _VALUE matches nothing, too
        items.append(FilterItem(value[0], head.end()))
        at = value.end()
    if text[at : at + 1] != ")":
        raise _problem(
            "expected ')' (in values '(', ')', '\\' and NUL are written \\28, \\29, \\5c, \\00)", at
        )
    return at + 1


def _problem(text: str, index: int) -> ValueError:
    return ValueError(f"{text} (at character {index + 1} of the filter)")
