"""The differential rig: mongod 6.0.5 directly and through mongoguard decide alike, case by case.

The table is tests/oracle/cases, the subjects are tests/oracle/subjects.py; differences that are meant are rows of
tests/oracle/accepted.py. `tox -e oracle` tries more cases with each subject, and random ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mongoguard.command import requires_crud
from tests.oracle.accepted import ACCEPTED
from tests.oracle.deployment import both_sides
from tests.oracle.differences_page import PAGE, with_decisions
from tests.oracle.plan import ci_plan
from tests.oracle.run import Answer, Decision, Difference, compare, run
from tests.oracle.verdict import offline, verdict

SHARE = 0.12
"""Of the cases, for each built-in role; some subjects try all of them. About 50,000 decisions, in two minutes."""
AT_LEAST = 10_000


@pytest.fixture(scope="module")
def decisions(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Decision]:
    trials = list(ci_plan(SHARE))
    with both_sides(tmp_path_factory.mktemp("oracle")) as sides:
        sides.add_subjects(trial.subject for trial in trials)
        return list(run(sides, trials))


@pytest.mark.slow
def test_every_decision_is_mongods_or_differs_for_a_reason(decisions: Sequence[Decision]) -> None:
    found = verdict(decisions)
    assert not found.unexplained, str(found)
    assert found.decisions >= AT_LEAST
    assert AT_LEAST / 2 < found.refusals < found.decisions - AT_LEAST / 2, "the table must try both answers"


@pytest.mark.slow
def test_every_accepted_difference_is_still_one(decisions: Sequence[Decision]) -> None:
    assert not verdict(decisions).stale


@pytest.mark.slow
def test_a_users_file_gives_the_same_decisions(decisions: Sequence[Decision]) -> None:
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


def test_the_differences_in_the_documentation_are_the_accepted_ones() -> None:
    page = PAGE.read_text()
    assert page == with_decisions(page), "python -m tests.oracle.differences_page"
    assert all(row.reason for row in ACCEPTED)
