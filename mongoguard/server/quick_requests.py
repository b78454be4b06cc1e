"""Quick requests: what a client asks while its task sleeps.

In: a client's transport and session, the upstream's pools, the ready sockets. Out: replies, sent; and what is left to
the task: whatever is not one short message, one decision, one short reply. Must not decide anything: deciding is
`ClientSession`'s, whose flow is run here as the pump runs it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import trio

from mongoguard.effects import Effect, Flow, Now, Relay, RelayedReply
from mongoguard.errors import ProtocolError
from mongoguard.proxy.client_session import ClientSession
from mongoguard.server.between_tasks import Begun, BetweenTasks, Owner, is_plain, is_whole
from mongoguard.server.looking import SOON_SECS
from mongoguard.server.passing_on import PassedOn, Progress, begin_passing_on
from mongoguard.server.pieces import Pieces, begin_pieces
from mongoguard.server.ready_sockets import ReadySockets
from mongoguard.server.transport import CHUNK_BYTES, Transport
from mongoguard.server.upstream import ServerPool, Upstream
from mongoguard.server.upstream_connection import UpstreamConnection

__all__ = ["FinishExchange", "QuickRequests"]


@dataclass(frozen=True, slots=True)
class FinishExchange(Effect[RelayedReply]):
    """Send the rest of a request upstream and receive the rest of its reply."""

    pool: ServerPool
    connection: UpstreamConnection
    sent_at: float
    unsent: bytes = b""
    received: bytes = b""
    passed_on: PassedOn | None = None


@dataclass(slots=True)
class _Exchange:
    """A request that was sent upstream, and what its reply is for.

    `passed_on`: the reply, when it goes on to the client while it comes.
    """

    flow: Flow[bytes | None]
    pool: ServerPool
    connection: UpstreamConnection
    sent_at: float
    documents_pass: bool
    looked: bool
    passed_on: PassedOn | None = None


class QuickRequests(BetweenTasks):
    """One client's."""

    __slots__ = ("_exchange", "_has_more", "_pieces", "_ready", "_upstream")

    def __init__(
        self,
        ready: ReadySockets,
        transport: Transport,
        session: ClientSession,
        upstream: Upstream,
        owner: Owner,
    ) -> None:
        """Serve nothing yet."""
        super().__init__(transport, session, owner)
        self._ready = ready
        self._upstream = upstream
        self._has_more = False
        self._pieces: Pieces | None = None  # of a request that has not come whole yet
        self._exchange: _Exchange | None = None  # whose reply is waited for

    async def serve(self) -> bytes | Begun:
        """Serve requests until there is something for the task: bytes as `Transport.receive` gives them, or a request.

        Raises OSError, and what a flow raises. When cancelled, a request under way is given up as the pump does it.
        """
        self._ready.watch(self._transport.fileno(), self._request_came)
        if self._transport.hides_news:
            self._ready.call_again(self._request_came)
        return await self._sleep()

    def _give_up(self, raise_cancel: object) -> trio.lowlevel.Abort:
        aborted = super()._give_up(raise_cancel)
        self._abandon()
        return aborted

    def _abandon(self) -> None:
        """Leave the request under way, if there is one."""
        exchange, self._exchange, self._pieces = self._exchange, None, None
        if exchange is not None:
            exchange.connection.on_news = None
            exchange.pool.drop(exchange.connection)  # closing it is what makes the server stop the work
            exchange.flow.close()

    # ---- the client's side ------------------------------------------------------------------------------------------

    def _request_came(self) -> None:
        if self._task is None or self._exchange is not None:
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
        if not is_whole(data) or not is_plain(data):
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

    def _advance(self, flow: Flow[bytes | None], answer: object, passed_on: PassedOn | None = None) -> None:
        """Run it up to its reply, or to what it must wait for. `passed_on`: the reply that it is given, if that went on
        as it came: a flow that asks once more after that can only fail, which the task does.
        """
        try:
            effect = flow.send(answer)
            while type(effect) is Now:
                effect = flow.send(time.time())
            is_under_way = type(effect) is Relay and passed_on is None and self._relay(flow, effect)
        except StopIteration as stop:
            self._reply(stop.value, passed_on)
        except Exception as error:  # noqa: BLE001  (the connection's end, with the words for it, is the task's)
            self._fail(error)
        else:
            if not is_under_way:
                self._hand_over(Begun(flow, effect, passed_on=passed_on))

    def _reply(self, reply: bytes | None, passed_on: PassedOn | None) -> None:
        if passed_on is not None:
            try:
                reply = passed_on.rest(reply)
            except ProtocolError as error:
                self._fail(error)
                return
        if self._send(reply) and (self._has_more or self._transport.hides_news):
            self._ready.call_again(self._request_came)

    # ---- the upstream's side ----------------------------------------------------------------------------------------

    def _relay(self, flow: Flow[bytes | None], effect: Relay) -> bool:
        """Whether the request is on its way; if not, nothing was done."""
        pool = self._upstream.pool_at_once(effect)
        connection = None if pool is None else pool.take_at_once()
        if pool is None or connection is None:
            return False
        sent_at = time.monotonic()
        try:
            count = connection.send_at_once(effect.message, self._ready, self._reply_came)
        except BaseException:
            connection.on_news = None
            pool.drop(connection)
            raise
        if count != len(effect.message):
            connection.on_news = None
            rest = FinishExchange(pool, connection, sent_at, effect.message[count:])
            self._hand_over(Begun(flow, rest))
            return True
        looks = pool.in_use == 1 and self._ready.looking.is_next()
        self._exchange = _Exchange(flow, pool, connection, sent_at, effect.documents_pass, looks)
        if looks:
            self._ready.look_for(SOON_SECS)
        return True

    def _reply_came(self) -> None:
        try:
            if self._exchange is not None:
                self._take_reply(self._exchange)
        except Exception as error:  # noqa: BLE001  (as in `_request_came`)
            self._abandon()
            self._fail(error)

    def _take_reply(self, exchange: _Exchange) -> None:
        if exchange.passed_on is not None:
            self._go_on(exchange, exchange.passed_on, exchange.passed_on.go_on())
            return
        data = exchange.connection.receive_at_once()
        if data is None:
            return
        if is_whole(data) and exchange.connection.is_answer(data):
            self._answered(exchange, data)
            return
        if exchange.documents_pass:
            exchange.passed_on = begin_passing_on(self._transport, exchange.connection, data)
        if exchange.passed_on is None:
            self._finish_in_task(exchange, received=data)
        else:
            self._go_on(exchange, exchange.passed_on, exchange.passed_on.begin(data))

    def _go_on(self, exchange: _Exchange, passed_on: PassedOn, progress: Progress) -> None:
        if progress is Progress.TURN:
            self._ready.call_again(self._reply_came)
        elif progress is Progress.CLIENT:
            self._finish_in_task(exchange)
        elif progress is Progress.NOTHING and passed_on.reply.shortened is not None:
            self._answered(exchange, passed_on.reply.shortened)

    def _answered(self, exchange: _Exchange, reply: bytes) -> None:
        pool = exchange.pool
        if pool.in_use == 1:
            self._ready.looking.took(exchange.looked, time.monotonic() - exchange.sent_at)
        pool.give_back(exchange.connection, exchange.sent_at)
        self._end_exchange(exchange)
        self._advance(exchange.flow, RelayedReply(reply, pool.address), exchange.passed_on)

    def _finish_in_task(self, exchange: _Exchange, received: bytes = b"") -> None:
        self._end_exchange(exchange)
        effect = FinishExchange(
            exchange.pool,
            exchange.connection,
            exchange.sent_at,
            received=received,
            passed_on=exchange.passed_on,
        )
        self._hand_over(Begun(exchange.flow, effect, passed_on=exchange.passed_on))

    def _end_exchange(self, exchange: _Exchange) -> None:
        self._exchange = None
        exchange.connection.on_news = None
