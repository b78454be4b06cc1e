"""Passing on: the documents of a long reply go to the client while they come from the server.

In: the client's transport, the server's connection, the first bytes of a reply. Out: how far it has come; its end is
held back for `rest`. Must not know flows or pools.
"""

from __future__ import annotations

from enum import Enum

import trio

from mongoguard.errors import UpstreamConnectionLost
from mongoguard.server.splicing import Pipe, pipe
from mongoguard.server.transport import CHUNK_BYTES, Transport
from mongoguard.server.upstream_connection import UpstreamConnection
from mongoguard.wire.long_reply import LongReply, begin_long_reply

__all__ = ["PassedOn", "Progress", "Recipient", "begin_passing_on", "exchange_passing_on"]

MAX_MOVES = 4
"""How often more of a long reply goes on before others have their turn. Each is what has come by then: some 0.1 MB,
which costs 20 µs, and what a pipe holds at most (1 MB)."""


class Progress(Enum):
    """What a long reply waits for."""

    SERVER = "more of it has not come yet"
    TURN = "others have their turn first"
    CLIENT = "the client does not take more now, or the end comes in pieces"
    NOTHING = "it has come whole"


class PassedOn:
    """One reply of which a part is sent, so that nothing but the rest of it may follow."""

    __slots__ = ("_connection", "_pipe", "_transport", "_unsent", "reply")

    def __init__(
        self, transport: Transport, connection: UpstreamConnection, reply: LongReply, pipe: Pipe
    ) -> None:
        """See `begin_passing_on`."""
        self.reply = reply
        self._transport = transport
        self._connection = connection
        self._pipe = pipe
        self._unsent: list[bytes | memoryview] = []
        """Documents that came and that the client has not taken, a pipe's at most; none while `go_on` is called."""

    def begin(self, first: bytes) -> Progress:
        """The reply's first bytes have come. Raises OSError when the client is gone, and as `go_on`."""
        documents = self.reply.take(first)
        unsent = documents[self._transport.send_now(documents) :]
        if unsent:
            self._unsent.append(unsent)
            return Progress.CLIENT
        return self.go_on()

    def go_on(self) -> Progress:
        """Something has come. Raises OSError when the client is gone, `UpstreamConnectionLost` when the server is."""
        for _ in range(MAX_MOVES):
            missing = self.reply.documents_missing
            if not missing:
                return self._receive_end()
            try:
                count = self._connection.take_at_once(self._pipe, missing)
            except BlockingIOError:
                return Progress.SERVER
            self.reply.passed(count)
            unsent = self._pipe.give(self._transport.fileno())
            if unsent:
                self._unsent.append(unsent)
                return Progress.CLIENT
        return Progress.TURN

    def _receive_end(self) -> Progress:
        data = self._connection.receive_at_once()
        if data is None:
            return Progress.SERVER
        self.reply.take(data)
        # In pieces, or the connection is lost: both are seen by who waits for the rest.
        return Progress.CLIENT if self.reply.shortened is None else Progress.NOTHING

    async def finish(self) -> bytes:
        """Send the documents as the client takes them, while the server waits; then receive the end.

        Returns the reply without its documents. Raises `UpstreamConnectionLost`, and what sending raises.
        """
        while self._unsent or self.reply.documents_missing:
            for documents in self._unsent:
                await self._transport.send_all(documents)
            self._unsent.clear()
            await trio.lowlevel.checkpoint()  # neither sending nor receiving need have waited
            if self.reply.documents_missing:
                piece = await self._connection.receive_exactly(min(self.reply.documents_missing, CHUNK_BYTES))
                self._unsent.append(self.reply.take(piece))
        if self.reply.bytes_missing:
            self.reply.take(await self._connection.receive_exactly(self.reply.bytes_missing))
        assert self.reply.shortened is not None  # nothing is missing
        if not self._connection.is_usable():
            raise UpstreamConnectionLost("the upstream sent more than one reply")
        return self.reply.shortened

    def rest(self, reply: bytes | None) -> bytes:
        """What is left to send when the flow has returned `reply`. Raises `ProtocolError` if that is another one."""
        return self.reply.end_of(reply)


def begin_passing_on(transport: Transport, connection: UpstreamConnection, first: bytes) -> PassedOn | None:
    """For a reply whose first bytes came and are still to be given to `begin`; None when it is to come whole first."""
    if transport.hides_news or connection.hides_news or not connection.is_answer(first):
        return None
    reply = begin_long_reply(first)
    if reply is None:
        return None
    try:
        return PassedOn(transport, connection, reply, pipe())
    except OSError:  # too many files are open, and none is needed to receive it whole
        return None


class Recipient:
    """A client that a long reply may go on to, for a task. `passed_on` is the reply that did."""

    __slots__ = ("passed_on", "transport")

    def __init__(self, transport: Transport, passed_on: PassedOn | None = None) -> None:
        """Its transport; no other reply may go on behind one that did."""
        self.transport = transport
        self.passed_on = passed_on

    def takes_from(self, connection: UpstreamConnection) -> bool:
        """Whether the next reply of this connection may go on."""
        return self.passed_on is None and not (
            self.transport.hides_news or connection.hides_news or connection.compressor is not None
        )

    def rest(self, reply: bytes | None) -> bytes | None:
        """What is left to send when the flow has returned `reply`. Raises as `PassedOn.rest`."""
        return reply if self.passed_on is None else self.passed_on.rest(reply)


async def exchange_passing_on(connection: UpstreamConnection, message: bytes, recipient: Recipient) -> bytes:
    """Send a request and receive its reply; of one that goes on meanwhile, what is left without its documents.

    Raises `UpstreamConnectionLost`, and what sending to the client raises.
    """
    first = await connection.begin(message)
    passed_on = begin_passing_on(recipient.transport, connection, first)
    if passed_on is None:
        return await connection.finish(b"", first)
    recipient.passed_on = passed_on
    passed_on.begin(first)
    return await passed_on.finish()
