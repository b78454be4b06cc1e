"""The plan: which subjects there are, and which cases each is tried with.

In: the case table, the subjects' table, the measured minimal sets. Out: `Trial`s. What a command needs is asked of the
catalogue here only to choose cases worth trying; whether that is right is what the trial finds out.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from mongoguard.model.privilege import AllOf, AnyActionInDatabase, AnyOf, NotHeld, Privilege, Requirement
from tests.oracle.cases import CASES, Case
from tests.oracle.cases.measured import MINIMAL_SETS
from tests.oracle.offline import held_actions, requirement_for
from tests.oracle.subjects import (
    KNOWN_ACTIONS,
    NOBODY,
    RESOURCES,
    Subject,
    built_in_role_subjects,
    hand_made_subjects,
    single_privilege_subject,
)

__all__ = ["Directory", "Trial", "ci_plan", "partly_on_file", "through_both", "trial_of"]

_SEED = 6_0_5
_MOST_CASES = 40
_TRIED_WITH_EVERYTHING = frozenset(
    {
        "impersonates",
        "kills sessions",
        "no roles",
        "reads profile",
        "views blind",
        "root@admin",
        "__system@admin",
    }
)
"""They tell what is refused to everybody, and what is done for nobody."""
_STRAY_CASES = 4
"""Cases that a single privilege has nothing to do with, tried with it all the same."""


class Directory(StrEnum):
    """Where a mongoguard has its users and roles from: `security.userDirectory`."""

    UPSTREAM = "upstream"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Trial:
    """One subject and the cases tried in its name, in this order, through a mongoguard of each of the directories."""

    subject: Subject
    cases: tuple[Case, ...]
    directories: tuple[Directory, ...] = (Directory.UPSTREAM,)


def trial_of(subject: Subject, cases: Sequence[Case]) -> Trial:
    """Without the cases that would do harm in these hands."""
    held = held_actions(subject)
    return Trial(
        subject,
        tuple(c for c in cases if not c.harmful or not (held & c.harmful or "anyAction" in held)),
    )


def ci_plan(share: float = 1.0) -> Iterator[Trial]:
    """Every case for nobody, for each built-in role, and for the hand-made combinations; single privileges and the
    minimal sets with the cases that they are about. `share` below 1 tries that part of the cases with each.
    """
    chosen = random.Random(_SEED)

    yield trial_of(NOBODY, CASES)
    for subject in (*built_in_role_subjects(), *hand_made_subjects()):
        whole = share >= 1 or subject.name in _TRIED_WITH_EVERYTHING
        yield trial_of(subject, [case for case in CASES if whole or chosen.random() < share])
    yield from (trial_of(subject, cases) for subject, cases in _single_privileges(chosen))
    yield from (trial_of(subject, cases) for subject, cases in _minimal_sets())


def through_both(trials: Iterable[Trial]) -> Iterator[Trial]:
    """The same trials on both directories."""
    return (replace(trial, directories=tuple(Directory)) for trial in trials)


def partly_on_file(trials: Iterable[Trial], share: float) -> list[Trial]:
    """The same trials, that part of their cases on the file directory, too.

    These come first: all servers have run the same commands, then, and give the same errors. Subjects with few cases
    would lose most of what they are about: those are tried whole on both directories, or on one.
    """
    chosen = random.Random(_SEED)
    on_both, on_one = [], []
    for trial in trials:
        if len(trial.cases) > _MOST_CASES + _STRAY_CASES:
            both = [case for case in trial.cases if chosen.random() < share]
        else:
            both = [*trial.cases] if chosen.random() < share else []
        on_both.append(Trial(trial.subject, tuple(both), tuple(Directory)))
        on_one.append(replace(trial, cases=tuple(case for case in trial.cases if case not in both)))
    return [trial for trial in (*on_both, *on_one) if trial.cases]


def _single_privileges(chosen: random.Random) -> Iterator[tuple[Subject, list[Case]]]:
    by_action: dict[str, list[Case]] = defaultdict(list)
    for case in CASES:
        for action in _actions(requirement_for(case, NOBODY)):
            by_action[action].append(case)
    for action in sorted(KNOWN_ACTIONS & by_action.keys()):
        about = by_action[action]
        for resource in RESOURCES:
            picked = about if len(about) <= _MOST_CASES else chosen.sample(about, _MOST_CASES)
            strays = chosen.sample(CASES, _STRAY_CASES)
            subject = single_privilege_subject(action, resource)
            yield subject, list({case.name: case for case in (*picked, *strays)}.values())


def _actions(requirement: Requirement | None) -> frozenset[str]:
    match requirement:
        case None:
            return frozenset()
        case Privilege(_, actions):
            return frozenset(str(action) for action in actions)
        case AllOf(parts) | AnyOf(parts):
            return frozenset().union(*map(_actions, parts))
        case NotHeld(part):
            return _actions(part)
        case AnyActionInDatabase():
            return frozenset({"listCollections"})


def _minimal_sets() -> Iterator[tuple[Subject, list[Case]]]:
    """Each measured minimal set, and the set without each of its actions."""
    by_name = {case.name: case for case in CASES}
    for name, privileges in MINIMAL_SETS.items():
        case = by_name[name]
        yield Subject(f"minimum for {name}", (), privileges), [case]
        for index, privilege in enumerate(privileges):
            for action in privilege["actions"]:
                fewer = [dict(p) for p in privileges]
                fewer[index]["actions"] = [a for a in privilege["actions"] if a != action]
                left = tuple(p for p in fewer if p["actions"])
                yield Subject(f"minimum for {name} without {action} ({index})", (), left), [case]
