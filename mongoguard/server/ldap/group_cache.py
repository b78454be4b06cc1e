"""What the directory said of users' groups, and how old that is.

In: groups by user name, the time. Out: an answer that may be used, or none; the users whose last answer holds no
longer. Must not ask anybody.

One number governs: an answer is used for `staleness_secs` after it was asked for, never longer. It is asked for again
after `refresh_secs`, a third of that unless configured, so two thirds remain for a directory that does not answer.

A session keeps what was made of an answer, and looks at no clock. So whoever keeps sessions must be told when the
answer ends, is replaced by another, or is forgotten: see `withdrawn`.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from dataclasses import dataclass

from mongoguard.authn.ldap.role_mapping import DnRoles, GroupRoles
from mongoguard.model.user import User

__all__ = ["GroupAnswer", "GroupCache"]

MAX_GROUPS_KEPT = 200_000
"""Group names of all users together, 20 to 40 MB; a user whose groups are forgotten is asked about again."""

RETRY_SECS = 5.0
"""After a question that was not answered, the next one about the same user waits so long, if it can."""

LAST_SECS = 0.1
"""The last moments of an answer are not used: in them its sessions are told that it ends."""


@dataclass(slots=True, eq=False)
class GroupAnswer:
    """A user's groups, asked for at `time`. They must not be used from `end` on, which is put off when the directory
    gives them again. The rest is made of them when it is needed, and kept while what it was made of is the same.

    `named_as_dns` gave `outcome`; `base` is the user as the base directory knows somebody with these roles, `user` the
    same without asserted roles, so that whoever refreshes it asks about the groups, too.
    """

    groups: tuple[str, ...]
    time: float
    end: float
    retry_at: float = 0.0
    named_as_dns: DnRoles | None = None
    outcome: GroupRoles | None = None
    base: User | None = None
    user: User | None = None


class GroupCache:
    """Answers by user name; the least recently used are forgotten first."""

    def __init__(self, staleness_secs: float, refresh_secs: float) -> None:
        """Start empty."""
        self.staleness_secs = staleness_secs
        self.refresh_secs = refresh_secs
        self._answers: OrderedDict[str, GroupAnswer] = OrderedDict()
        self._kept = 0
        # One entry a name, of an end that may have been put off since: at most a name for everybody who had an answer
        # within the last `staleness_secs`.
        self._ends: list[tuple[float, str]] = []
        self._scheduled: set[str] = set()
        self._withdrawn: set[str] = set()

    def usable(self, name: str, now: float) -> GroupAnswer | None:
        """The answer, if it is not too old for any use."""
        answer = self._answers.get(name)
        if answer is None or now >= answer.end:
            return None
        self._answers.move_to_end(name)
        return answer

    def is_due(self, name: str, now: float) -> bool:
        """Whether the directory should be asked again."""
        answer = self.usable(name, now)
        return answer is None or (now - answer.time >= self.refresh_secs and now >= answer.retry_at)

    @property
    def next_withdrawal(self) -> float:
        """No answer ends before that time; infinite when there is none. Those that are gone already do not count."""
        return self._ends[0][0] if self._ends else math.inf

    def withdrawn(self, now: float) -> frozenset[str]:
        """The users whose answer has ended, was forgotten, or is no longer the same, since this was last asked."""
        while self.next_withdrawal <= now:
            _, name = heapq.heappop(self._ends)
            self._scheduled.discard(name)
            answer = self._answers.get(name)
            if answer is not None and answer.end <= now:
                self.forget(name)
            elif answer is not None:
                self._schedule(name, answer.end)
        names, self._withdrawn = frozenset(self._withdrawn), set()
        return names

    def keep(self, name: str, groups: tuple[str, ...], asked_at: float) -> GroupAnswer:
        """Remember an answer; what was made of an equal one is taken over."""
        end = asked_at + self.staleness_secs - LAST_SECS
        answer = self._answers.get(name)
        if answer is not None and answer.groups == groups:
            answer.time, answer.end, answer.retry_at = asked_at, end, 0.0
            self._answers.move_to_end(name)
            return answer
        self.forget(name)
        answer = self._answers[name] = GroupAnswer(groups, asked_at, end)
        self._schedule(name, end)
        self._kept += len(groups) + 1
        while self._kept > MAX_GROUPS_KEPT and len(self._answers) > 1:
            self.forget(next(iter(self._answers)))
        return answer

    def failed(self, name: str, now: float) -> None:
        """The directory did not answer: do not ask again at once."""
        answer = self._answers.get(name)
        if answer is not None:
            answer.retry_at = now + RETRY_SECS

    def forget(self, name: str) -> None:
        """The answer must not be used any more."""
        answer = self._answers.pop(name, None)
        if answer is not None:
            self._kept -= len(answer.groups) + 1
            self._withdrawn.add(name)

    def _schedule(self, name: str, end: float) -> None:
        if name not in self._scheduled:
            self._scheduled.add(name)
            heapq.heappush(self._ends, (end, name))
