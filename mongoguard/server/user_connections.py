"""UserConnections: how many connections each user has, where net.maxConnectionsPerUser limits them.

In: who logs in and out, on which connection. Out: whether there is a place. Must not know connections or logins: they
are whatever stands for them. What is kept is bounded by the number of connections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from mongoguard.model.names import UserName

__all__ = ["UserConnections"]


class UserConnections:
    """The counted connections, by their holders. A holder counts for one user at most."""

    def __init__(self, limit: int) -> None:
        """There are none; `limit` may be changed, and takes no place back."""
        self.limit = limit
        self._held: dict[Hashable, UserName] = {}
        self._by_user: Counter[UserName] = Counter()

    def __len__(self) -> int:
        """How many are counted."""
        return len(self._held)

    def take(self, user: UserName, holder: Hashable) -> bool:
        """Count the holder for that user, and no longer for another; False when there are as many as there may be."""
        if self._held.get(holder) == user:
            return True
        if self._by_user[user] >= self.limit:
            return False
        self.give(holder)
        self._held[holder] = user
        self._by_user[user] += 1
        return True

    def give(self, holder: Hashable) -> None:
        """The holder counts for nobody any more."""
        user = self._held.pop(holder, None)
        if user is not None:
            self._by_user[user] -= 1
            if not self._by_user[user]:
                del self._by_user[user]

    def give_all(self, worker: int) -> None:
        """No holder `(worker, ...)` counts any more: that process has ended."""
        for holder in [h for h in self._held if isinstance(h, tuple) and h[0] == worker]:
            self.give(holder)
