"""The differential rig: mongod 6.0.5 directly and through mongoguard decide alike, case by case.

The table is tests/oracle/cases, the subjects are tests/oracle/subjects.py; differences that are meant are rows of
tests/oracle/accepted.py. `tox -e oracle` tries more cases with each subject, and random ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.oracle.accepted import ACCEPTED
from tests.oracle.deployment import both_sides
from tests.oracle.differences_page import PAGE, with_decisions
from tests.oracle.plan import ci_plan
from tests.oracle.run import Decision, run
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


def test_the_differences_in_the_documentation_are_the_accepted_ones() -> None:
    page = PAGE.read_text()
    assert page == with_decisions(page), "python -m tests.oracle.differences_page"
    assert all(row.reason for row in ACCEPTED)
