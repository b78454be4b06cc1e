"""Open transactions, as far as the end of a process must know of them: a connection that carries one is kept longer.

In: commands that were answered. Out: whether a connection carries an open transaction. Must not know upstreams: whether
the server still holds the transaction is the server's to say.
Source: the specification "Transactions": every command of a transaction has `autocommit: false`.
"""

from __future__ import annotations

from collections import OrderedDict

from mongoguard.command.command import Command
from mongoguard.model.user import User
from mongoguard.proxy.relaying import session_id
from mongoguard.proxy.replies import begins_with_failure

__all__ = ["TRANSACTION_ENDS", "CarriedTransactions", "OpenTransactions"]

MAX_OPEN = 65_536
"""More than a mongod takes at a time; those that were begun first are forgotten, and may be closed at the end."""

MAX_CARRIED = 1_024
"""Sessions of one connection that are remembered; drivers' pools have far fewer at a time."""

TRANSACTION_ENDS = frozenset({"commitTransaction", "abortTransaction"})
"""The commands that end a transaction."""


class OpenTransactions:
    """Those of all connections of one process, by the session that they are in."""

    __slots__ = ("sessions",)

    def __init__(self) -> None:
        """There are none."""
        self.sessions: OrderedDict[str, None] = OrderedDict()


class CarriedTransactions:
    """Those that one connection has carried a command of. They may end on another connection."""

    __slots__ = ("_open", "_own")

    def __init__(self, all_open: OpenTransactions) -> None:
        """None yet."""
        self._open = all_open.sessions
        self._own: set[str] = set()

    def note(self, user: User | None, command: Command, reply: bytes) -> None:
        """A command with `autocommit` was answered. One that failed has ended its transaction, as on mongod."""
        lsid = session_id(command.body)
        if lsid is None or command.body.boolean("autocommit") is not False:
            return
        session = f"{lsid.hex()} {None if user is None else user.name}"
        if command.name in TRANSACTION_ENDS or begins_with_failure(reply):
            self._open.pop(session, None)
            self._own.discard(session)
            return
        self._open[session] = None
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
        if len(self._own) < MAX_CARRIED:
            self._own.add(session)

    def any_open(self) -> bool:
        """Whether one of them has not ended, on whatever connection."""
        self._own.intersection_update(self._open)
        return bool(self._own)

    def forget(self) -> None:
        """The connection has ended: nobody goes on with them here."""
        for session in self._own:
            self._open.pop(session, None)
        self._own.clear()
