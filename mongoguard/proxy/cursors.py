"""The cursor table: which user opened which cursor, on which server.

In: cursors as replies show them, and getMore / killCursors that name one. Out: the entry, or mongod's refusal. Must not
know sockets or clocks: the shell calls `tick` once a minute.
Source: ownership rules measured on mongod 6.0.5. All cursors belong to one service user upstream, so this table is the
only thing that keeps users apart.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from mongoguard.effects import CursorClaim, KeptCursor
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.names import UserName
from mongoguard.model.privilege import Requirement

__all__ = ["CursorEntry", "CursorTable", "SessionKey"]

MAX_CURSORS = 200_000
"""Entries kept (about 0.5 kB each): more open cursors than a mongod survives. The least recently used goes first."""

MAX_IDLE_TICKS = 24 * 60
"""Minutes without a getMore after which an entry goes: mongod ends idle cursors after 10 minutes, `noCursorTimeout`
ones after 30 (with their session) or never; a day outlives all but abandoned ones."""

SessionKey: TypeAlias = bytes | None
"""The id of the logical session that a cursor was opened in; None outside a session."""


@dataclass(slots=True)
class CursorEntry:
    """One open cursor. `requirement` is what opening it needed, and is asked again for each getMore.

    `only_authorized` marks a listCollections whose batches must be filtered.
    """

    cursor_id: int
    owner: UserName | None
    namespace: str
    session: SessionKey
    server: str
    requirement: Requirement
    only_authorized: bool = False
    tick: int = 0

    def check(self, claim: CursorClaim) -> None:
        """Raise mongod's refusal (13) when this is not the claimant's; a getMore's must fit in every respect."""
        refusal = self.refusal_of(claim)
        if refusal is not None:
            raise CommandError(ErrorCode.UNAUTHORIZED, refusal)

    def refusal_of(self, claim: CursorClaim) -> str | None:
        """Why the claimant may not have it, in mongod's words; None when it is theirs."""
        if not claim.of_anybody and self.owner != claim.user:
            return f"cursor id {self.cursor_id} was not created by the authenticated user"
        if claim.namespace is None:
            return None
        if claim.namespace != self.namespace:
            return (
                f"Requested getMore on namespace '{claim.namespace}', but cursor belongs to a different namespace "
                f"{self.namespace}"
            )
        if claim.session != self.session:
            return (
                f"Cursor session id ({_printed(self.session)}) is not the same as the operation context's "
                f"session id ({_printed(claim.session)})"
            )
        return None


def _printed(session: SessionKey) -> str:
    """A session id as mongod prints it, without the digest of its owner; "none" outside a session."""
    return "none" if session is None else str(UUID(bytes=session))


class CursorTable:
    """All open cursors of this process, by id and server (ids are unique per server only)."""

    __slots__ = ("_entries", "_now", "has_siblings")

    def __init__(self, *, has_siblings: bool = False) -> None:
        """Start empty. `has_siblings`: other processes may know cursors that this table does not."""
        self.has_siblings = has_siblings
        self._entries: OrderedDict[int, CursorEntry] = OrderedDict()
        self._now = 0

    def __len__(self) -> int:
        """How many cursors are open."""
        return len(self._entries)

    def add(self, entry: CursorEntry) -> None:
        """Remember a cursor. An id that is known already is another server's: both would be ambiguous, so both go."""
        known = self._entries.get(entry.cursor_id)
        if known is not None and (known.server, known.namespace) != (entry.server, entry.namespace):
            del self._entries[entry.cursor_id]
            return
        entry.tick = self._now
        self._entries[entry.cursor_id] = entry
        if len(self._entries) > MAX_CURSORS:
            self._entries.popitem(last=False)

    def find(self, cursor_id: int) -> CursorEntry | None:
        """The entry, marked as used now; None for an unknown id."""
        entry = self._entries.get(cursor_id)
        if entry is not None:
            entry.tick = self._now
            with suppress(KeyError):  # long messages are decided in another thread: it may be gone by now
                self._entries.move_to_end(cursor_id)
        return entry

    def remove(self, cursor_id: int) -> None:
        """Forget a cursor that is exhausted, killed or unknown upstream."""
        self._entries.pop(cursor_id, None)

    def claim(self, cursor_id: int, claim: CursorClaim) -> CursorEntry | KeptCursor | None:
        """The entry, for another process's table, if it is the claimant's; None for an unknown id.

        Whoever hands the entry over removes it here.
        """
        entry = self._entries.get(cursor_id)
        if entry is None:
            return None
        refusal = entry.refusal_of(claim)
        return entry if refusal is None else KeptCursor(cursor_id, entry.namespace, refusal)

    def tick(self) -> None:
        """A minute has passed: forget what has been idle too long (oldest first, so this stops early)."""
        self._now += 1
        while self._entries:
            entry = next(iter(self._entries.values()))
            if self._now - entry.tick <= MAX_IDLE_TICKS:
                return
            self._entries.popitem(last=False)
