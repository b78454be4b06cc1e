"""Open transactions, as far as the end of a process must know of them: a connection that carries one is kept longer.

In: commands that were answered. Out: whether a connection carries an open transaction, and what aborts those. Must not
know upstreams: whether the server still holds the transaction is the server's to say.
Source: the specification "Transactions": every command of a transaction has `autocommit: false`. A mongos that ends
aborts what is open, too: its locks would be held for transactionLifetimeLimitSeconds.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from mongoguard.command.command import Command
from mongoguard.effects import Relay
from mongoguard.proxy.identity import Identity
from mongoguard.proxy.relaying import message_for_upstream, session_id
from mongoguard.proxy.replies import begins_with_failure
from mongoguard.wire.document import Document, encode_element
from mongoguard.wire.message import OpMsg, encode_op_msg, parse_message

__all__ = ["TRANSACTION_ENDS", "CarriedTransactions", "OpenTransactions"]

MAX_OPEN = 65_536
"""More than a mongod takes at a time; those that were begun first are forgotten, and may be closed at the end."""

MAX_CARRIED = 1_024
"""Sessions of one connection that are remembered; drivers' pools have far fewer at a time."""

_SHARED = ("lsid", "txnNumber", "apiVersion", "apiStrict", "apiDeprecationErrors")
"""What all commands of a transaction must say alike; a server refuses another version of the API in the middle."""

TRANSACTION_ENDS = frozenset({"commitTransaction", "abortTransaction"})
"""The commands that end a transaction."""


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """One of a session's. `number` and `elements` (what its commands share) are BSON elements as they came."""

    number: bytes
    elements: bytes
    identity: Identity
    session_id: bytes

    @property
    def abort(self) -> Relay:
        """abortTransaction, as the one who has opened it."""
        elements = b"".join(
            (
                encode_element("abortTransaction", 1),
                self.elements,
                encode_element("autocommit", False),
                encode_element("$db", "admin"),
            )
        )
        document = (len(elements) + 5).to_bytes(4, "little") + elements + b"\0"
        message = parse_message(encode_op_msg(1, 0, document))
        assert isinstance(message, OpMsg)
        return Relay(message_for_upstream(message, self.identity), transaction=self.session_id)


class OpenTransactions:
    """Those of all connections of one process, by the session that they are in."""

    __slots__ = ("sessions",)

    def __init__(self) -> None:
        """There are none."""
        self.sessions: OrderedDict[str, OpenTransaction] = OrderedDict()

    @property
    def aborts(self) -> list[Relay]:
        """What aborts them all, for the end of the process. Of one that has ended unseen, the server says so."""
        return [transaction.abort for transaction in self.sessions.values()]


class CarriedTransactions:
    """Those that one connection has carried a command of. They may end on another connection."""

    __slots__ = ("_open", "_own")

    def __init__(self, all_open: OpenTransactions) -> None:
        """None yet."""
        self._open = all_open.sessions
        self._own: set[str] = set()

    def note(self, identity: Identity, command: Command, reply: bytes) -> None:
        """A command with `autocommit` was answered. One that failed has ended its transaction, as on mongod."""
        lsid, number = session_id(command.body), _elements(command.body, ("txnNumber",))
        if lsid is None or not number or command.body.boolean("autocommit") is not False:
            return
        session = f"{lsid.hex()} {identity.name}"
        if command.name in TRANSACTION_ENDS or begins_with_failure(reply):
            self._open.pop(session, None)
            self._own.discard(session)
            return
        known = self._open.get(session)
        if known is None or known.number != number:
            self._open[session] = OpenTransaction(number, _elements(command.body, _SHARED), identity, lsid)
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


def _elements(body: Document, names: tuple[str, ...]) -> bytes:
    return b"".join(
        body.data[element.start : element.end] for name in names if (element := body.fields.get(name))
    )
