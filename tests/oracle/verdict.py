"""The verdict over a run: what was tried, what differs, what is meant, and what nobody has explained.

In: decisions. Out: a `Verdict`, which prints itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from mongoguard.model.names import UserName
from tests.oracle.accepted import ACCEPTED, Law, Row, accepted_by, everybody
from tests.oracle.offline import users_from_file, verdict_code
from tests.oracle.report import difference_table
from tests.oracle.run import Decision, offline_decision

__all__ = ["Verdict", "offline", "stale", "verdict"]


@dataclass(slots=True)
class Verdict:
    """`unexplained` must be empty."""

    decisions: int = 0
    refusals: int = 0
    unexplained: list[Decision] = field(default_factory=list)
    explained: Counter[Row | Law] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [f"{self.decisions} decisions, {self.refusals} of them refusals (13) by mongod"]
        lines += [f"{count:7} differ as meant: {row.what}" for row, count in self.explained.most_common()]
        lines.append(f"{len(self.unexplained):7} differ without explanation")
        return "\n".join([*lines, difference_table(self.unexplained)])


def stale(*verdicts: Verdict) -> list[str]:
    """Accepted rows that accepted nothing in any of these runs."""
    return [row.what for row in ACCEPTED if not any(found.explained[row] for found in verdicts)]


def verdict(decisions: Iterable[Decision], *, also: Iterable[Decision] = ()) -> Verdict:
    """Judge a run. `also`: decisions of another run that tell what everybody is answered."""
    tried = list(decisions)
    answers = everybody([*tried, *also])
    found = Verdict()
    for decision in tried:
        found.decisions += 1
        found.refusals += decision.mongod.code == 13
        if decision.difference is not None:
            reason = accepted_by(decision, answers)
            if reason is None:
                found.unexplained.append(decision)
            else:
                found.explained[reason] += 1
    return found


def offline(decisions: Iterable[Decision]) -> list[Decision]:
    """The same subjects and cases decided from a users file, without a server, beside what mongod answered."""
    tried = list(decisions)
    users = users_from_file({d.subject.name: d.subject for d in tried}.values())
    return [
        offline_decision(d, *verdict_code(d.case, d.subject, users.get(UserName(d.subject.name, "admin"))))
        for d in tried
    ]
