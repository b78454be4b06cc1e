"""The differential rig: mongod 6.0.5 directly and through mongoguard decide alike, case by case.

The table is tests/oracle/cases, the subjects are tests/oracle/subjects.py; differences that are meant are rows of
tests/oracle/accepted.py. Some of it is tried through a mongoguard with a users file, too. `tox -e oracle` tries more
cases with each subject, all of them on both directories, and random ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from mongoguard.command import requires_crud
from tests.oracle.accepted import ACCEPTED, Row
from tests.oracle.cases.case import cases
from tests.oracle.deployment import Sides, all_sides
from tests.oracle.differences_page import PAGE, with_decisions
from tests.oracle.plan import Directory, Trial, ci_plan, partly_on_file
from tests.oracle.run import Answer, Decision, Difference, compare, run
from tests.oracle.subjects import Subject
from tests.oracle.verdict import offline, stale, verdict

SHARE = 0.05
"""Of the cases, for each built-in role; some subjects try all of them. About 30,000 decisions, in a minute; `tox -e oracle` tries all of them."""
AT_LEAST = 10_000

SHARE_ON_FILE = 0.12
"""Of those, on the file directory. About 5,000 decisions: that both directories decide alike is mostly shown offline."""
AT_LEAST_ON_FILE = 3_000

ON_C = {"resource": {"db": "t", "collection": "c"}}


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    with all_sides(tmp_path_factory.mktemp("oracle")) as started:
        yield started


@pytest.fixture(scope="module")
def all_decisions(sides: Sides) -> Sequence[Decision]:
    trials = partly_on_file(ci_plan(SHARE), SHARE_ON_FILE)
    sides.add_subjects(trials)
    return list(run(sides, trials))


@pytest.fixture(scope="module")
def decisions(all_decisions: Sequence[Decision]) -> Sequence[Decision]:
    return [decision for decision in all_decisions if decision.directory == Directory.UPSTREAM]


@pytest.fixture(scope="module")
def decisions_on_file(all_decisions: Sequence[Decision]) -> Sequence[Decision]:
    return [decision for decision in all_decisions if decision.directory == Directory.FILE]


@pytest.mark.slow
def test_every_decision_is_mongods_or_differs_for_a_reason(decisions: Sequence[Decision]) -> None:
    found = verdict(decisions)
    assert not found.unexplained, str(found)
    assert found.decisions >= AT_LEAST
    assert AT_LEAST / 2 < found.refusals < found.decisions - AT_LEAST / 2, "the table must try both answers"


@pytest.mark.slow
def test_every_accepted_difference_is_still_one(
    decisions: Sequence[Decision], decisions_on_file: Sequence[Decision]
) -> None:
    assert not stale(verdict(decisions), verdict(decisions_on_file, also=decisions))


@pytest.mark.slow
def test_every_decision_with_a_users_file_is_mongods_or_differs_for_a_reason(
    decisions: Sequence[Decision], decisions_on_file: Sequence[Decision]
) -> None:
    found = verdict(decisions_on_file, also=decisions)
    assert not found.unexplained, str(found)
    assert found.decisions >= AT_LEAST_ON_FILE
    assert AT_LEAST_ON_FILE / 4 < found.refusals < found.decisions - AT_LEAST_ON_FILE / 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("actions", "difference"),
    [([], Difference.REFUSES), (["find"], None), (["find", "insert"], Difference.ALLOWS)],
)
def test_a_users_file_that_grants_something_else_would_be_found(
    sides: Sides, actions: list[str], difference: Difference | None
) -> None:
    reader = Subject(f"reader beside {actions}", (), ({**ON_C, "actions": ["find"]},))
    about = cases("t", [{"find": "c", "limit": 1}, {"insert": "c", "documents": [{"_id": 1}]}])
    trial = Trial(reader, tuple(about), tuple(Directory))
    sides.add_subjects([trial])
    other = ({**ON_C, "actions": actions},) if actions else ()
    sides.file_guard.serve_subjects([replace(reader, privileges=other)])
    found = {(d.directory, d.difference) for d in run(sides, [trial])}
    assert found == {(Directory.UPSTREAM, None), (Directory.FILE, None), (Directory.FILE, difference)}


@pytest.mark.slow
def test_a_users_file_gives_the_same_decisions_without_a_server(decisions: Sequence[Decision]) -> None:
    found = verdict(offline(decisions), also=decisions)
    assert not found.unexplained, str(found)


@pytest.mark.slow
def test_a_requirement_that_is_too_small_would_be_found(
    decisions: Sequence[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    about = [d for d in decisions if "bypass" in d.case.name]
    monkeypatch.setattr(requires_crud, "BYPASS", frozenset())
    found = verdict(offline(about), also=decisions).unexplained
    assert {d.difference for d in found} == {Difference.ALLOWS}


@pytest.mark.parametrize(
    ("mongod", "mongoguard", "difference"),
    [
        (Answer(13, "no"), Answer(13, "no"), None),
        (Answer(13, "no"), Answer(13, "other"), Difference.WORDS),
        (Answer(13, "no"), Answer(0), Difference.ALLOWS),
        (Answer(13, "no"), Answer(26, "run", relayed=True), Difference.ALLOWS),
        (Answer(13, "no"), Answer(72, "of its own"), Difference.CODE),
        (Answer(0), Answer(13, "no"), Difference.REFUSES),
        (Answer(0), Answer(72, "of its own"), Difference.ERROR),
        (Answer(0), Answer(26, "none left", relayed=True), None),
        (Answer(0), Answer(9, "upstream", relayed=True), Difference.ERROR),
        (Answer(0, result="a"), Answer(0, result="b", relayed=True), Difference.RESULT),
        (Answer(0, result="a"), Answer(0, result="a", relayed=True), None),
    ],
)
def test_answers_are_compared(mongod: Answer, mongoguard: Answer, difference: Difference | None) -> None:
    assert compare(mongod, mongoguard) == difference


@pytest.mark.parametrize("mongod", [Answer(0), Answer(11, "no such user", relayed=True), Answer(13, "no")])
def test_what_a_users_file_refuses_about_users_is_accepted_nowhere_else(mongod: Answer) -> None:
    (info,) = cases("t", [{"usersInfo": 1}])
    (find,) = cases("t", [{"find": "c"}])
    on_file = Decision(Subject("a"), info, mongod, Answer(115, "read from a file"), Directory.FILE)
    others = [
        replace(on_file, directory=Directory.UPSTREAM),
        replace(on_file, case=find),
        replace(on_file, mongoguard=Answer(115, "the upstream's own", relayed=True)),
        replace(on_file, mongoguard=Answer(72, "read from a file")),
    ]
    relayed = [Decision(Subject("root"), case, Answer(0), Answer(0, relayed=True)) for case in (info, find)]
    assert verdict([on_file], also=relayed).unexplained == []
    assert verdict(others, also=relayed).unexplained == others


def test_a_row_that_accepts_nothing_in_any_run_is_stale() -> None:
    find = Decision(Subject("a"), cases("t", [{"help: true": 1}])[0], Answer(0), Answer(13, "no"))
    (accepted,) = verdict([find]).explained
    assert isinstance(accepted, Row)
    assert accepted.what in stale()
    assert accepted.what not in stale(verdict([]), verdict([find]))


def test_the_differences_in_the_documentation_are_the_accepted_ones() -> None:
    page = PAGE.read_text()
    assert page == with_decisions(page), "python -m tests.oracle.differences_page"
    assert all(row.reason for row in ACCEPTED)
