"""Texts with placeholders, as MongoDB's LDAP options write them: `{USER}`, `{0}`, and `{{` `}}` for braces.

In: an option's text and the placeholders that mean something there. Out: its pieces. Must not know where a value
lands, so it puts none in: `dn_template.py` and `filter_template.py` do, each with its own escaping.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Piece", "Pieces", "Placeholder", "marked", "marker", "read_template", "unmarked"]

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_MARKER = re.compile(r"qz([0-9]+)zq")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """Where a value goes; `name` is what stood between the braces."""

    name: str


Piece: TypeAlias = "str | Placeholder"
Pieces: TypeAlias = tuple[Piece, ...]


def read_template(text: str, names: Collection[str]) -> Pieces:
    """Literal texts and placeholders in turn. Raises `ValueError` for a placeholder not in `names`, or a lone brace."""
    pieces: list[Piece] = []
    literal = ""
    at = 0
    for token in _TOKEN.finditer(text):
        literal += text[at : token.start()]
        at = token.end()
        if token[0] in ("{{", "}}"):
            literal += token[0][0]
        elif token[1] in names:
            pieces += [*([literal] if literal else []), Placeholder(token[1])]
            literal = ""
        else:
            known = ", ".join(f"{{{name}}}" for name in sorted(names)) or "none"
            raise ValueError(
                f"'{token[0]}' at character {token.start() + 1} is no placeholder here (there are: {known}; "
                "a brace itself is written twice)"
            )
    literal += text[at:]
    return (*pieces, literal) if literal else tuple(pieces)


def marker(index: int) -> str:
    """A word that stands for piece `index` while a template's syntax is checked: letters no escape can swallow."""
    return f"qz{index}zq"


def marked(pieces: Sequence[Piece], mark: Callable[[int], str] = marker) -> str:
    """The template as a text with a marker for each placeholder."""
    return "".join(piece if isinstance(piece, str) else mark(i) for i, piece in enumerate(pieces))


def unmarked(text: str, pieces: Sequence[Piece]) -> Pieces:
    """The pieces of a part of `marked(pieces)`."""
    parts = _MARKER.split(text)
    return tuple(pieces[int(part)] if i % 2 else part for i, part in enumerate(parts) if i % 2 or part)
