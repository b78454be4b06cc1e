"""Quick requests: what a client asks while its task sleeps.

In: a client's transport and session, the upstream's pools, the ready sockets. Out: replies, sent; and what is left to
the task: whatever is not one short message, one decision, one short reply. Must not decide anything: deciding is
`ClientSession`'s, whose flow is run here as the pump runs it.

A request may be handed over to the task at any step, and goes on there exactly where it was: as the bytes that came, as
a flow with the effect that it has asked for, or as a reply of which a part is sent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import trio
from outcome import Error, Value

from mongoguard.effects import Effect, Flow, Now, Relay, RelayedReply
from mongoguard.errors import ProtocolError
from mongoguard.proxy.client_session import ClientSession
from mongoguard.server.looking import SOON_SECS
from mongoguard.server.passing_on import PassedOn, Progress, begin_passing_on
from mongoguard.server.pieces import Pieces, begin_pieces
from mongoguard.server.ready_sockets import ReadySockets
from mongoguard.server.transport import CHUNK_BYTES, Transport
from mongoguard.server.upstream import ServerPool, Upstream
from mongoguard.server.upstream_connection import UpstreamConnection
from mongoguard.wire.message import HEADER_SIZE, OpCode

__all__ = ["Begun", "FinishExchange", "Owner", "QuickRequests"]

_PLAIN_OP_MSG = OpCode.MSG.to_bytes(4, "little") + bytes(4)
"""Opcode and flags: no checksum, an answer is wanted, and only one."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A request for the task to finish: a flow and what it asks for, or, without one, the rest of its reply.

    `passed_on`: a reply of which only `unsent` and what was held back are left to send, once the flow has had it.
    """

    flow: Flow[bytes | None] | None
    effect: Effect[Any] | None = None
    unsent: bytes = b""
    passed_on: PassedOn | None = None


@dataclass(frozen=True, slots=True)
class FinishExchange(Effect[RelayedReply]):
    """Send the rest of a request upstream and receive the rest of its reply."""

    pool: ServerPool
    connection: UpstreamConnection
    sent_at: float
    unsent: bytes = b""
    received: bytes = b""
    passed_on: PassedOn | None = None


class Owner(Protocol):
    """The client connection."""

    busy_since: float | None

    @property
    def is_draining(self) -> bool:
        """Whether the request under way is the last one."""


class QuickRequests:
    """One client's."""

    __slots__ = (
        "_connection",
        "_documents_pass",
        "_flow",
        "_has_more",
        "_looked",
        "_owner",
        "_passed_on",
        "_pieces",
        "_pool",
        "_ready",
        "_sent_at",
        "_session",
        "_task",
        "_transport",
        "_upstream",
    )

    def __init__(
        self,
        ready: ReadySockets,
        transport: Transport,
        session: ClientSession,
        upstream: Upstream,
        owner: Owner,
    ) -> None:
        """Serve nothing yet."""
        self._ready = ready
        self._transport = transport
        self._session = session
        self._upstream = upstream
        self._owner = owner
        self._task: trio.lowlevel.Task | None = None
        self._has_more = False
        self._pieces: Pieces | None = None  # of a request that has not come whole yet
        self._flow: Flow[bytes | None] | None = None  # of the request whose reply is waited for
        self._pool: ServerPool | None = None
        self._connection: UpstreamConnection | None = None
        self._sent_at = 0.0
        self._looked = False
        self._documents_pass = False
        # Of the request whose reply is waited for, or was just answered:
        self._passed_on: PassedOn | None = None

    async def serve(self) -> bytes | Begun:
        """Serve requests until there is something for the task: bytes as `Transport.receive` gives them, or a request.

        Raises OSError, and what a flow raises. When cancelled, a request under way is given up as the pump does it.
        """
        self._task = trio.lowlevel.current_task()
        self._ready.watch(self._transport.fileno(), self._request_came)
        if self._transport.hides_news:
            self._ready.call_again(self._request_came)
        answer: bytes | Begun = await trio.lowlevel.wait_task_rescheduled(self._give_up)
        return answer

    def _give_up(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        self._abandon()
        return trio.lowlevel.Abort.SUCCEEDED

    def _abandon(self) -> None:
        """Leave the request under way, if there is one."""
        flow, connection, pool = self._flow, self._connection, self._pool
        self._flow = self._connection = self._pool = self._passed_on = self._pieces = None
        if connection is not None and pool is not None:
            connection.on_news = None
            pool.drop(connection)  # closing it is what makes the server stop the work
        if flow is not None:
            flow.close()

    def _hand_over(self, what: bytes | Begun) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._ready.wake(task, Value(what))

    def _fail(self, error: Exception) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._ready.wake(task, Error(error))

    # ---- the client's side ------------------------------------------------------------------------------------------

    def _request_came(self) -> None:
        if self._task is None or self._flow is not None:
            self._has_more = True
            return
        self._has_more = False
        try:
            data = self._receive()
            if data is not None:
                self._request(data)
        except Exception as error:  # noqa: BLE001  (nobody else would tell the task, and the client would wait for ever)
            self._abandon()
            self._fail(error)

    def _receive(self) -> bytes | None:
        data = self._transport.receive_now()
        while data and self._pieces is not None:
            if self._pieces.add(data):
                return self._taken_pieces(self._pieces)
            data = self._transport.receive_now()
        return data

    def _taken_pieces(self, pieces: Pieces) -> bytes:
        self._pieces = None
        return pieces.joined()

    def _request(self, data: bytes) -> None:
        # A full chunk may have left something behind it in the socket, which nobody would be told of again.
        self._has_more = len(data) >= CHUNK_BYTES
        if not _is_whole(data) or data[12:20] != _PLAIN_OP_MSG:
            # What is shorter than a chunk and not whole is a slow client's, or none of ours.
            self._pieces = begin_pieces(data, self._session.max_message_bytes) if self._has_more else None
            if self._pieces is None:
                self._hand_over(data)
            else:
                self._owner.busy_since = time.monotonic()
                self._ready.call_again(self._request_came)
            return
        self._owner.busy_since = time.monotonic()
        self._advance(self._session.handle(data), None)

    def leave_pieces_to_the_task(self) -> None:
        """A message that has not come whole yet is waited for with a deadline from now on."""
        if self._pieces is not None:
            self._owner.busy_since = None
            self._hand_over(self._taken_pieces(self._pieces))

    def _advance(self, flow: Flow[bytes | None], answer: object) -> None:
        try:
            effect = flow.send(answer)
            while type(effect) is Now:
                effect = flow.send(time.time())
            is_under_way = type(effect) is Relay and self._relay(flow, effect)
        except StopIteration as stop:
            self._reply(stop.value)
        except Exception as error:  # noqa: BLE001  (the connection's end, with the words for it, is the task's)
            self._fail(error)
        else:
            if not is_under_way:
                passed_on, self._passed_on = self._passed_on, None
                self._hand_over(Begun(flow, effect, passed_on=passed_on))

    def _reply(self, reply: bytes | None) -> None:
        if self._passed_on is not None:
            passed_on, self._passed_on = self._passed_on, None
            try:
                reply = passed_on.rest(reply)
            except ProtocolError as error:
                self._fail(error)
                return
        if reply is not None:
            try:
                count = self._transport.send_now(reply)
            except OSError as error:
                self._fail(error)
                return
            if count != len(reply):
                self._hand_over(Begun(None, unsent=reply[count:]))
                return
        self._owner.busy_since = None
        if self._owner.is_draining:
            self._hand_over(b"")
        elif self._has_more or self._transport.hides_news:
            self._ready.call_again(self._request_came)

    # ---- the upstream's side ----------------------------------------------------------------------------------------

    def _relay(self, flow: Flow[bytes | None], effect: Relay) -> bool:
        """Whether the request is on its way; if not, nothing was done."""
        # A flow that asks once more, after a part of a reply was sent, can only fail: the task does that.
        pool = None if self._passed_on is not None else self._upstream.pool_at_once(effect)
        connection = None if pool is None else pool.take_at_once()
        if pool is None or connection is None:
            return False
        self._sent_at = time.monotonic()
        try:
            count = connection.send_at_once(effect.message, self._ready, self._reply_came)
        except BaseException:
            connection.on_news = None
            pool.drop(connection)
            raise
        if count != len(effect.message):
            connection.on_news = None
            self._hand_over(
                Begun(flow, FinishExchange(pool, connection, self._sent_at, effect.message[count:]))
            )
            return True
        self._flow, self._pool, self._connection = flow, pool, connection
        self._documents_pass = effect.documents_pass
        self._looked = pool.in_use == 1 and self._ready.looking.is_next()
        if self._looked:
            self._ready.look_for(SOON_SECS)
        return True

    def _reply_came(self) -> None:
        try:
            self._take_reply()
        except Exception as error:  # noqa: BLE001  (as in `_request_came`)
            self._abandon()
            self._fail(error)

    def _take_reply(self) -> None:
        flow, pool, connection = self._flow, self._pool, self._connection
        if flow is None or pool is None or connection is None:
            return
        if self._passed_on is not None:
            self._pass_on(flow, pool, connection, self._passed_on)
            return
        data = connection.receive_at_once()
        if data is None:
            return
        if _is_whole(data) and connection.is_answer(data):
            self._answered(flow, pool, connection, data)
            return
        passed_on = begin_passing_on(self._transport, connection, data) if self._documents_pass else None
        if passed_on is None:
            self._finish_in_task(flow, FinishExchange(pool, connection, self._sent_at, received=data))
            return
        self._passed_on = passed_on
        self._pass_on(flow, pool, connection, passed_on, data)

    def _pass_on(
        self,
        flow: Flow[bytes | None],
        pool: ServerPool,
        connection: UpstreamConnection,
        passed_on: PassedOn,
        first: bytes | None = None,
    ) -> None:
        progress = passed_on.go_on() if first is None else passed_on.begin(first)
        if progress is Progress.TURN:
            self._ready.call_again(self._reply_came)
        elif progress is Progress.CLIENT:
            self._finish_in_task(flow, FinishExchange(pool, connection, self._sent_at, passed_on=passed_on))
        elif progress is Progress.NOTHING and passed_on.reply.shortened is not None:
            self._answered(flow, pool, connection, passed_on.reply.shortened)

    def _answered(
        self, flow: Flow[bytes | None], pool: ServerPool, connection: UpstreamConnection, reply: bytes
    ) -> None:
        if pool.in_use == 1:
            self._ready.looking.took(self._looked, time.monotonic() - self._sent_at)
        pool.give_back(connection, self._sent_at)
        self._end_exchange(connection)
        self._advance(flow, RelayedReply(reply, pool.address))

    def _finish_in_task(self, flow: Flow[bytes | None], effect: FinishExchange) -> None:
        self._end_exchange(effect.connection)
        passed_on, self._passed_on = self._passed_on, None
        self._hand_over(Begun(flow, effect, passed_on=passed_on))

    def _end_exchange(self, connection: UpstreamConnection) -> None:
        self._flow = self._pool = self._connection = None
        connection.on_news = None


def _is_whole(data: bytes) -> bool:
    return len(data) > HEADER_SIZE and int.from_bytes(data[:4], "little") == len(data)
