"""Case: one command on one database, as it is sent to both sides.

In: plain values. Out: `Case`s with readable names. Must not know subjects, except that `SELF` stands for their name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bson import Decimal128, Int64

__all__ = ["SELF", "Case", "Result", "cases", "shell_text"]

SELF = "$self"
"""Wherever this string stands in a command, the subject's name is sent."""

_MAX_NAME = 150


class Result(StrEnum):
    """Which part of a successful reply must be the same on both sides."""

    NOTHING = ""
    """The decision only."""
    DATABASES = "databases"
    COLLECTIONS = "collections"
    USERS = "users"
    ROLES = "roles"
    STATUS = "status"
    """connectionStatus' authInfo."""


@dataclass(frozen=True, slots=True)
class Case:
    """`harmful`: actions whose holders must not run it. `sequence`: a field that is sent as a document sequence."""

    name: str
    db: str
    command: Mapping[str, Any] = field(hash=False)
    result: Result = Result.NOTHING
    harmful: frozenset[str] = frozenset()
    sequence: str = ""

    @property
    def command_name(self) -> str:
        """The first field."""
        return next(iter(self.command))

    @property
    def names_self(self) -> bool:
        """Whether the command is another one for every subject."""
        return SELF in repr(self.command)

    def command_for(self, name: str) -> Mapping[str, Any]:
        """The command that this subject sends."""
        if not self.names_self:
            return self.command
        done: dict[str, Any] = _replaced(self.command, name)
        return done


def _replaced(value: Any, name: str) -> Any:
    if type(value) is str:  # Code is a str, too
        return value.replace(SELF, name)
    if isinstance(value, Mapping):
        return {_replaced(key, name): _replaced(inner, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, name) for inner in value]
    return value


def shell_text(value: Any) -> str:
    """A value as one writes it in the shell, short."""
    for kinds, text in _SHELL:
        if isinstance(value, kinds):
            return text(value)
    return "null" if value is None else type(value).__name__


_SHELL: tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...] = (
    (Mapping, lambda v: "{" + ", ".join(f"{key}: {shell_text(inner)}" for key, inner in v.items()) + "}"),
    ((list, tuple), lambda v: "[" + ", ".join(map(shell_text, v)) + "]"),
    (bool, lambda v: "true" if v else "false"),
    (bytes, lambda v: f"BinData({getattr(v, 'subtype', 0)}, {len(v)} bytes)"),
    (str, lambda v: f"'{v}'"),
    (Int64, lambda v: f"NumberLong({v})"),
    (Decimal128, lambda v: f"NumberDecimal({v})"),
    ((int, float), str),
)


def cases(
    db: str,
    commands: Iterable[Mapping[str, Any]],
    *,
    result: Result = Result.NOTHING,
    harmful: str = "",
    sequence: str = "",
    more: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> list[Case]:
    """A case for each command, named by its text. `more` changes each command first (explain, options)."""
    made = []
    for given in commands:
        command = given if more is None else more(given)
        text = shell_text(command)
        if len(text) > _MAX_NAME:
            text = f"{text[:_MAX_NAME]}… {sum(text.encode()) % 10007}"
        suffix = f" ({sequence} as a sequence)" if sequence else ""
        made.append(Case(f"{db}: {text}{suffix}", db, command, result, frozenset(harmful.split()), sequence))
    return made
