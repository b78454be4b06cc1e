"""The catalogue as a page: what every command and every stage needs.

In: the catalogue and the stage table. Out: Markdown for docs/commands.md. Must not write files.
Requirements are told for a command with nothing but its name, where that is enough to tell them.
"""

from __future__ import annotations

from typing import assert_never

import bson

from mongoguard.command.catalog import COMMANDS
from mongoguard.command.command import Command
from mongoguard.command.requirement import requirement_of
from mongoguard.command.spec import Asker, CommandRow, Handling
from mongoguard.command.stages import STAGES, StageRow
from mongoguard.errors import CommandError
from mongoguard.model.privilege import AllOf, AnyActionInDatabase, AnyOf, NotHeld, Privilege, Requirement
from mongoguard.model.resource_pattern import MatchType, ResourcePattern
from mongoguard.wire.document import Document

__all__ = ["commands_page", "describe"]

_DB, _COLLECTION = "db", "collection"
_SAMPLES: tuple[object, ...] = (_COLLECTION, f"{_DB}.{_COLLECTION}", 1)
_HANDLING = {Handling.RELAY: "relayed", Handling.LOCAL: "answered here", Handling.REFUSED: "refused"}


def commands_page() -> str:
    """The whole page."""
    commands = [_command_line(COMMANDS[name]) for name in sorted(COMMANDS, key=str.lower)]
    stages = [_stage_line(STAGES[name]) for name in sorted(STAGES, key=str.lower)]
    return "\n".join(
        [
            "# Commands and stages",
            "",
            "Made from the catalogue (`mongoguard.command.reference`). A command or stage that is not here is refused.",
            "",
            "| command | handled | since | needs |",
            "|---|---|---|---|",
            *commands,
            "",
            "| stage | since | needs |",
            "|---|---|---|",
            *stages,
            "",
        ]
    )


def _command_line(row: CommandRow) -> str:
    names = ", ".join(f"`{name}`" for name in (row.name, *row.aliases))
    admin = " (admin only)" if row.admin_only else ""
    return f"| {names}{admin} | {_HANDLING[row.handling]} | {row.since} | {_needs(row)} |"


def _needs(row: CommandRow) -> str:
    if row.handling is Handling.REFUSED:
        return row.refusal
    for sample in _SAMPLES:
        body = Document(bson.encode({row.name: sample, "$db": _DB}))
        try:
            return describe(requirement_of(row, Command(body, _DB), Asker()))
        except CommandError:
            continue
    text = (row.requires.__doc__ or "depends on its arguments").strip().split("\n\n")[0]
    return " ".join(text.split())


def _stage_line(row: StageRow) -> str:
    if row.refusal:
        return f"| `{row.name}` | {row.since} | refused: {row.refusal} |"
    text = (row.walk.__doc__ if row.walk is not None else "") or row.note
    if not text:
        text = "a privilege of its own" if row.is_source else "nothing beyond reading the collection"
    return f"| `{row.name}` | {row.since} | {' '.join(text.split())} |"


def describe(requirement: Requirement) -> str:
    """A requirement in words."""
    match requirement:
        case Privilege(resource, actions):
            return (
                f"{', '.join(f'`{action}`' for action in sorted(actions))} on {_describe_resource(resource)}"
            )
        case AllOf(parts):
            return " and ".join(_grouped(part) for part in parts) if parts else "nothing"
        case AnyOf(parts):
            return " or ".join(_grouped(part) for part in parts)
        case NotHeld(part):
            return f"not ({describe(part)})"
        case AnyActionInDatabase():
            return "any privilege in the database"
        case _:
            assert_never(requirement)


def _grouped(part: Requirement) -> str:
    text = describe(part)
    return f"({text})" if isinstance(part, AllOf | AnyOf) and part.parts else text


def _describe_resource(resource: ResourcePattern) -> str:
    match resource.match_type:
        case MatchType.CLUSTER:
            return "the cluster"
        case MatchType.ANY_RESOURCE:
            return "any resource"
        case MatchType.ANY_NORMAL:
            return "any normal resource"
        case MatchType.DATABASE:
            return "the database" if resource.db == _DB else f"the database {resource.db}"
        case _:
            if (resource.db, resource.collection) == (_DB, _COLLECTION):
                return "the collection"
            return f"{resource.db}.{resource.collection}"
