"""explain: the requirement of the command inside it.

In: an explain command. Out: what running the inner command would need. Must not know rows by name: the lookup is given.
"""

from __future__ import annotations

from collections.abc import Callable

from mongoguard.command.arguments import wrong_type
from mongoguard.command.command import Command
from mongoguard.command.generic import generic_requirement
from mongoguard.command.requirement import requirement_of
from mongoguard.command.requires import all_of
from mongoguard.command.spec import Asker, CommandRow, Requires
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.privilege import Requirement

__all__ = ["EXPLAINABLE", "explain_requires"]

EXPLAINABLE = frozenset(
    {"aggregate", "count", "delete", "distinct", "find", "findAndModify", "mapReduce", "update"}
)
"""Canonical names of what a server explains."""

_ENUM = ("queryPlanner", "executionStats", "allPlansExecution")


def explain_requires(find_row: Callable[[str], CommandRow | None]) -> Requires:
    """The `Requires` of explain, with the catalogue's lookup."""

    def requires(command: Command, asker: Asker) -> Requirement:
        inner = _inner_command(command)
        row = find_row(inner.name)
        if row is None:
            raise CommandError(
                ErrorCode.COMMAND_NOT_FOUND, f"Explain failed due to unknown command: {inner.name}"
            )
        if row.name not in EXPLAINABLE:
            raise CommandError(ErrorCode.ILLEGAL_OPERATION, f"Cannot explain cmd: {inner.name}")
        _check_verbosity(command)
        return all_of([requirement_of(row, inner, asker), generic_requirement(inner, asker)])

    return requires


def _inner_command(command: Command) -> Command:
    body = command.body.document(command.name)
    if body is None:
        raise wrong_type("explain", command.body, command.name, "'object'")
    inner = Command(body, command.db)
    if "$db" in body:
        db = body.string("$db")
        if db is None:
            raise CommandError(13111, f"wrong type for field ($db) {body.type_name('$db')} != string")
        if db != command.db:
            raise CommandError(
                ErrorCode.INVALID_NAMESPACE,
                f"Mismatched $db in explain command. Expected {command.db} but got {db}",
            )
    return inner


def _check_verbosity(command: Command) -> None:
    if "verbosity" not in command.body:
        return
    text = command.body.string("verbosity")
    if text is None:
        raise wrong_type("explain", command.body, "verbosity", "'string'")
    if text not in _ENUM:
        raise CommandError(
            ErrorCode.BAD_VALUE,
            f"Enumeration value '{text}' for field 'explain.verbosity' is not a valid value.",
        )
