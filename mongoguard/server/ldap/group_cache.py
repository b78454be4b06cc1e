"""What the directory said of users' groups, and how old that is.

In: groups by user name, the time. Out: an answer that may be used, or none. Must not ask anybody.

One number governs: an answer is used for `staleness_secs` after it was asked for, never longer. It is asked for again
after `refresh_secs`, a third of that unless configured, so two thirds remain for a directory that does not answer.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from mongoguard.authn.ldap.role_mapping import DnRoles, GroupRoles
from mongoguard.model.user import User

__all__ = ["GroupAnswer", "GroupCache"]

MAX_GROUPS_KEPT = 200_000
"""Group names of all users together, 20 to 40 MB; a user whose groups are forgotten is asked about again."""

RETRY_SECS = 5.0
"""After a question that was not answered, the next one about the same user waits so long, if it can."""


@dataclass(slots=True, eq=False)
class GroupAnswer:
    """A user's groups. The rest is made of them when it is needed, and kept while what it was made of is the same.

    `named_as_dns` gave `outcome`; `base` is the user as the base directory knows somebody with these roles, `user` the
    same without asserted roles, so that whoever refreshes it asks about the groups, too.
    """

    groups: tuple[str, ...]
    time: float
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

    def usable(self, name: str, now: float) -> GroupAnswer | None:
        """The answer, if it is not too old for any use."""
        answer = self._answers.get(name)
        if answer is None or now - answer.time >= self.staleness_secs:
            return None
        self._answers.move_to_end(name)
        return answer

    def is_due(self, name: str, now: float) -> bool:
        """Whether the directory should be asked again."""
        answer = self.usable(name, now)
        return answer is None or (now - answer.time >= self.refresh_secs and now >= answer.retry_at)

    def keep(self, name: str, groups: tuple[str, ...], asked_at: float) -> GroupAnswer:
        """Remember an answer; what was made of an equal one is taken over."""
        answer = self._answers.get(name)
        if answer is not None and answer.groups == groups:
            answer.time, answer.retry_at = asked_at, 0.0
            self._answers.move_to_end(name)
            return answer
        self.forget(name)
        answer = self._answers[name] = GroupAnswer(groups, asked_at)
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
