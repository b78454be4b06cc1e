"""An explanation in plain words, for people.

In: an `Explanation`. Out: lines of text. Must not decide anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import assert_never

from mongoguard.cli.explanation import Explanation, Source, Step
from mongoguard.model.names import UserName
from mongoguard.model.privilege import AllOf, AnyActionInDatabase, AnyOf, NotHeld, Privilege

__all__ = ["as_text"]


def as_text(explanation: Explanation) -> str:
    """The verdict, the requirement with where each part comes from, and what to change."""
    verdict = "ALLOWED" if explanation.allowed else "DENIED"
    lines = [f"{explanation.command} on {explanation.db} for {explanation.user}: {verdict}"]
    if explanation.refusal:
        lines.append(f"  {explanation.refusal}")
    if explanation.requirement is not None:
        if explanation.requirement.requirement == AllOf(()):
            lines.append("  needs no privilege that has to be granted")
        else:
            lines += [f"  {line}" for line in _step(explanation.requirement, explanation.user)]
    lines += [f"  note: {note}" for note in explanation.notes]
    if not explanation.allowed and explanation.requirement is not None:
        lines += [f"  {line}" for line in _remedy(explanation)]
    return "\n".join(lines)


def _step(step: Step, user: UserName) -> Iterator[str]:
    match step.requirement:
        case Privilege(resource, actions):
            if step.lacking != actions:
                yield f"has {_privilege(Privilege(resource, actions - step.lacking))}"
                yield from _sources(step.sources, user)
            if step.lacking:
                yield f"lacks {_privilege(Privilege(resource, step.lacking))}"
        case AnyActionInDatabase(db):
            yield f"{'has' if step.holds else 'lacks'} any privilege on something in the database {db}"
            yield from _sources(step.sources, user)
        case NotHeld():
            yield "must not be met, and is not:" if step.holds else "must not be met, but is:"
            yield from _indented(line for part in step.parts for line in _step(part, user))
        case AllOf() | AnyOf():
            kind = "all of these" if isinstance(step.requirement, AllOf) else "at least one of these"
            yield f"needs {kind}, which is {'so' if step.holds else 'not so'}:"
            for part in step.parts:
                yield from _item(_step(part, user))
        case _:
            assert_never(step.requirement)


def _sources(sources: Iterable[Source], user: UserName) -> Iterator[str]:
    for source in sources:
        actions = ", ".join(sorted(source.actions))
        yield f"    {actions} by {json.dumps(source.resource.to_document())}"
        for path in source.paths:
            yield f"        {' -> '.join([str(user), *map(str, path)])}"


def _item(lines: Iterable[str]) -> Iterator[str]:
    """The first line as an item of a list, the others below it."""
    for number, line in enumerate(lines):
        yield f"  {'  ' if number else '- '}{line}"


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"    {line}" for line in lines)


def _remedy(explanation: Explanation) -> Iterator[str]:
    for verb, privileges in (("grant", explanation.missing), ("revoke", explanation.excess)):
        for privilege in privileges:
            yield f"to allow it, {verb} {_privilege(privilege)}"
    if explanation.suggestion is not None:
        yield f"smallest built-in role that would allow it: {explanation.suggestion}"
    elif explanation.missing:
        yield "no single built-in role would allow it; create one with these privileges"


def _privilege(privilege: Privilege) -> str:
    actions = ", ".join(sorted(privilege.actions)) or "any action"
    return f"{actions} on {json.dumps(privilege.resource.to_document())}"
