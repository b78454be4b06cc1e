"""From a command and its row to what it needs: the one entry for the flow.

In: a `CommandRow`, a `Command`, the `Asker`. Out: a `Requirement`. Checks that every argument is one that the row
understands, then asks the row. Must not know who may what. The generic arguments are `generic.generic_requirement`'s,
because their denial has a text of its own.
"""

from __future__ import annotations

from mongoguard.command.arguments import unknown_field
from mongoguard.command.command import Command
from mongoguard.command.generic import GENERIC_FIELDS, INTERNAL_FIELDS
from mongoguard.command.requires import INTERNAL, all_of
from mongoguard.command.spec import Asker, CommandRow, Handling
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.privilege import Requirement

__all__ = ["check_row", "known_fields", "requirement_of"]


def check_row(row: CommandRow) -> None:
    """Raise `CommandError` 115 for a command that is never done, with the reason that the row gives."""
    if row.handling is Handling.REFUSED:
        raise CommandError(
            ErrorCode.COMMAND_NOT_SUPPORTED, f"{row.name} is not supported: {row.refusal}", reason=row.refusal
        )


def requirement_of(row: CommandRow, command: Command, asker: Asker) -> Requirement:
    """What running the command needs, its generic arguments apart.

    Raises `CommandError` where mongod fails to parse before it checks privileges, and for everything that the row does
    not understand.
    """
    check_row(row)
    if command.sequences and not row.sequences.issuperset(command.sequences):
        (name, *_) = (name for name in command.sequences if name not in row.sequences)
        raise unknown_field(row.name, name)
    if (
        row.fields is not None
        and not command.body.fields.keys() <= row.fields
        and _is_between_servers(row, command)
    ):
        return all_of([row.requires(command, asker), INTERNAL])
    return row.requires(command, asker)


def _is_between_servers(row: CommandRow, command: Command) -> bool:
    """Whether an argument is one that only servers send; raises 40415 for one that nobody knows."""
    known = row.fields or frozenset()
    for name in command.body.fields:
        if name not in known and name not in row.internal_fields and name not in INTERNAL_FIELDS:
            raise unknown_field(row.name, name)
    return not row.internal_fields.isdisjoint(command.body.fields.keys() - known)


def known_fields(*own: str) -> frozenset[str]:
    """A row's own arguments together with the generic ones: what a command may carry without a second look."""
    return GENERIC_FIELDS | frozenset(own)
