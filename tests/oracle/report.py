"""Differences as a table for people.

In: decisions that differ. Out: text, one line for each kind of difference of each case, with the subjects that see it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tests.oracle.run import Answer, Decision, Difference

__all__ = ["difference_table"]

_MOST_SUBJECTS = 4
_WIDTH = 150


def difference_table(decisions: Iterable[Decision]) -> str:
    """A line for each (kind, case, answers), the most dangerous kind first; empty when there is none."""
    groups: dict[tuple[Difference, str, str, str], list[str]] = defaultdict(list)
    for decision in decisions:
        kind = decision.difference
        assert kind is not None, "a decision without a difference has no place in the table"
        key = (kind, decision.case.name, _shown(decision.mongod, kind), _shown(decision.mongoguard, kind))
        groups[key].append(decision.subject.name)
    order = list(Difference)
    lines = []
    for (kind, case, mongod, mongoguard), subjects in sorted(
        groups.items(), key=lambda g: (order.index(g[0][0]), g[0][1])
    ):
        some = ", ".join(subjects[:_MOST_SUBJECTS])
        more = f" and {len(subjects) - _MOST_SUBJECTS} more" if len(subjects) > _MOST_SUBJECTS else ""
        lines += [f"{kind}: {case}", f"    mongod      {mongod}", f"    mongoguard  {mongoguard}"]
        lines.append(f"    as {some}{more}")
    return "\n".join(lines)


def _shown(answer: Answer, kind: Difference) -> str:
    text = answer.result if kind is Difference.RESULT else answer.errmsg
    limit = 600 if kind in (Difference.WORDS, Difference.RESULT) else _WIDTH
    return f"{answer.code} {text[:limit]}" if answer.code or text else "ok"
