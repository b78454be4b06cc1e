"""The connections to one upstream server, taken per request.

In: messages to exchange. Out: replies. Must not know clients, other servers, or what a message means.

Nothing is pinned: a connection is held for one request only, so thousands of idle clients cost few sockets, and a slow
query never blocks a quick one (unless `maxPoolSize` says so). The last used connection is used first (LIFO). Few are
opened at a time ("Connection Monitoring And Pooling", maxConnecting): in a burst, most requests are served by a
connection that another one gives back meanwhile. Somebody calls `warm` and `trim` now and then, and there are
`minPoolSize` connections at least.
"""

from __future__ import annotations

import time
from collections import deque

import trio

from mongoguard.config.sections import Upstream as UpstreamSettings
from mongoguard.effects import RelayedReply
from mongoguard.errors import UpstreamUnavailable
from mongoguard.server.passing_on import PassedOn, Recipient, exchange_passing_on
from mongoguard.server.upstream_connection import UpstreamConnection, open_upstream_connection
from mongoguard.server.upstream_uri import UpstreamAddress

__all__ = ["PoolIsFull", "ServerPool"]

CHECK_IDLE_AFTER_SECS = 0.5
"""A connection that was idle for longer is looked at before it is used: the server may have gone in the meantime."""

SOON_SECS = 0.0003
"""A point read takes a server 0.1 ms; falling asleep and waking up for it takes as long again. The only request under
way therefore looks for its reply for this long before it gives way; other clients wait no longer than that for it."""

MAX_IDLE_SECS = 300
"""Idle connections are closed after this; a burst of clients must not hold sockets for ever."""

LEFT_ANSWER_SECS = 2.0
"""A server that has left the topology and takes no connection within that time is frozen: what waits for it is lost."""

MAX_CONNECTING = 2
"""Connections that are opened at a time, as drivers do: a login costs a server as much as hundreds of reads."""


class PoolIsFull(UpstreamUnavailable):
    """No connection became free within `waitQueueTimeoutMS`; the server itself is there."""


class _Waiter:
    """A request without a connection. When `event` is set it has one, or an error, or the turn to open one."""

    __slots__ = ("connection", "error", "event")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.connection: UpstreamConnection | None = None
        self.error: UpstreamUnavailable | None = None


class ServerPool:
    """The connections to one server."""

    def __init__(self, address: str, upstream: UpstreamAddress, settings: UpstreamSettings) -> None:
        """Start empty."""
        self.address = address
        self._upstream = upstream
        self._settings = settings
        self._idle: list[UpstreamConnection] = []
        self._in_use: set[UpstreamConnection] = set()
        self._closed = False
        self.answered = 0
        """How many requests the server has answered."""
        self._usual_secs = 0.0
        self._connecting = 0
        self._ahead = 0
        """How many of those that are being opened are for nobody in particular."""
        self._given = 0
        """How many were given to somebody who has not woken up yet."""
        self._waiting: deque[_Waiter] = deque()
        """Somebody waits only for those that are being opened, so that the end of one of them wakes it."""
        self._places = trio.CapacityLimiter(settings.max_pool_size) if settings.max_pool_size else None

    def change(self, settings: UpstreamSettings) -> None:
        """Other limits from now on. That of connections may change, but not come or go."""
        self._settings = settings
        if self._places is not None:
            self._places.total_tokens = settings.max_pool_size

    @property
    def in_use(self) -> int:
        """How many requests are under way: the "operationCount" of the specification "Server Selection"."""
        return len(self._in_use) + len(self._waiting)

    async def exchange(self, message: bytes, recipient: Recipient | None = None) -> bytes:
        """One request on one connection. Raises `UpstreamUnavailable` or `UpstreamConnectionLost`.

        `recipient`: whom a long reply may go on to; not where connections are counted, for slow clients could keep all.
        """
        if self._places is None:
            return await self._exchange(message, recipient)
        holder = object()
        try:
            with trio.fail_after(self._settings.wait_queue_timeout_ms / 1000):
                await self._places.acquire_on_behalf_of(holder)
        except trio.TooSlowError:
            raise PoolIsFull(
                f"all {self._settings.max_pool_size} connections to {self.address} are busy",
                told="all connections to the server are busy (upstream.maxPoolSize); try again later",
            ) from None
        try:
            return await self._exchange(message)
        finally:
            self._places.release_on_behalf_of(holder)

    async def _exchange(self, message: bytes, recipient: Recipient | None = None) -> bytes:
        connection = self._take_idle() or await self._another()
        is_alone = not self._in_use
        self._in_use.add(connection)
        sent = time.monotonic()
        try:
            if recipient is not None and recipient.takes_from(connection):
                reply = await exchange_passing_on(connection, message, recipient)
            else:
                soon_secs = SOON_SECS if is_alone and self._replies_soon else 0.0
                reply = await connection.exchange(message, soon_secs)
        except BaseException:
            self.drop(connection)  # cancelled too: the client went away
            raise
        self.give_back(connection, sent)
        return reply

    # ---- the same in steps, for a task that sleeps meanwhile (server/quick_requests.py) ------------------------------

    def take_at_once(self) -> UpstreamConnection | None:
        """An idle connection, for `give_back`, `drop` or `finish`.

        None when there is none, when places are counted, or when messages are compressed.
        """
        if self._places is not None or self._upstream.compressors:
            return None
        connection = self._take_idle()
        if connection is not None:
            self._in_use.add(connection)
        return connection

    def give_back(self, connection: UpstreamConnection, sent_at: float) -> None:
        """The connection's request has been answered."""
        self._in_use.discard(connection)
        self.answered += 1
        now = time.monotonic()
        self._usual_secs += (now - sent_at - self._usual_secs) / 8
        if self._closed or self._waiting:
            self.keep(connection)
        else:
            connection.idle_since = now
            self._idle.append(connection)

    def drop(self, connection: UpstreamConnection) -> None:
        """The connection's request is given up: closing it is what makes the server stop the work."""
        self._in_use.discard(connection)
        connection.close()

    async def finish(
        self, connection: UpstreamConnection, sent_at: float, unsent: bytes, received: bytes
    ) -> RelayedReply:
        """The rest of a request that was begun. Raises `UpstreamConnectionLost`."""
        try:
            reply = await connection.finish(unsent, received)
        except BaseException:
            self.drop(connection)
            raise
        self.give_back(connection, sent_at)
        return RelayedReply(reply, self.address)

    async def finish_long(
        self, connection: UpstreamConnection, sent_at: float, passed_on: PassedOn
    ) -> RelayedReply:
        """The rest of a reply of which a part went on to the client. Raises `UpstreamConnectionLost`."""
        try:
            reply = await passed_on.finish()
        except BaseException:
            self.drop(connection)
            raise
        self.give_back(connection, sent_at)
        return RelayedReply(reply, self.address)

    @property
    def _replies_soon(self) -> bool:
        """Whether this server has answered its last requests so soon that looking is cheaper than sleeping."""
        return self._usual_secs < SOON_SECS

    # ---- opening ----------------------------------------------------------------------------------------------------

    async def connect(self) -> UpstreamConnection:
        """A new connection, logged in. Raises `UpstreamUnavailable`."""
        return await open_upstream_connection(
            self.address, self._upstream, self._settings.connect_timeout_ms / 1000
        )

    def keep(self, connection: UpstreamConnection) -> None:
        """Give an unused connection to who waits for one, or keep it for the next request."""
        if self._closed:
            connection.close()
        elif self._waiting:
            waiter = self._waiting.popleft()
            waiter.connection = connection
            waiter.event.set()
            self._given += 1
        else:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)

    async def _another(self) -> UpstreamConnection:
        """A new connection, or one that is given back before there was a turn to open one."""
        if self._connecting < MAX_CONNECTING and self._ahead <= len(self._waiting):
            self._connecting += 1
            return await self._open()
        waiter = _Waiter()
        self._waiting.append(waiter)
        try:
            await waiter.event.wait()
        except BaseException:  # cancelled: what it was given meanwhile is somebody else's
            if not waiter.event.is_set():
                self._waiting.remove(waiter)
            elif waiter.connection is not None:
                self._given -= 1
                self.keep(waiter.connection)
            elif waiter.error is None:
                self._end_turn()
            raise
        if waiter.error is not None:
            raise UpstreamUnavailable(str(waiter.error), told=waiter.error.told) from waiter.error
        if waiter.connection is None:
            return await self._open()
        self._given -= 1
        return waiter.connection

    async def _open(self) -> UpstreamConnection:
        """Open one in one's turn, and pass the turn on."""
        try:
            return await self.connect()
        except UpstreamUnavailable as error:
            self._refuse_waiting(error)
            raise
        finally:
            self._end_turn()

    def _refuse_waiting(self, error: UpstreamUnavailable) -> None:
        """It would be the same for them, one connect timeout after the other: they look for another server."""
        while self._waiting:
            waiter = self._waiting.popleft()
            waiter.error = error
            waiter.event.set()

    def _end_turn(self) -> None:
        if len(self._waiting) > self._ahead:  # as many as are opened ahead will have those
            self._waiting.popleft().event.set()
        else:
            self._connecting -= 1

    # ---- kept ready -------------------------------------------------------------------------------------------------

    @property
    def lacks_connections(self) -> bool:
        """Whether there are fewer than `minPoolSize`, those that are being opened included."""
        there = len(self._idle) + len(self._in_use) + self._given + self._connecting
        return not self._closed and there < self._kept_ready

    @property
    def _kept_ready(self) -> int:
        # After a reload one of the two may wait for a restart.
        return min(self._settings.min_pool_size, self._settings.max_pool_size or self._settings.min_pool_size)

    async def warm(self) -> None:
        """Open connections until there are `minPoolSize`, one at a time: the other turn is left to requests.

        Ends sooner when requests need both; whoever calls this does so again. Raises `UpstreamUnavailable`.
        """
        while self.lacks_connections and self._connecting < MAX_CONNECTING:
            self._connecting += 1
            self._ahead += 1
            try:
                self.keep(await self.connect())
            except UpstreamUnavailable as error:
                self._refuse_waiting(error)
                raise
            finally:
                self._ahead -= 1
                self._end_turn()

    # ---- idle and closed --------------------------------------------------------------------------------------------

    def _take_idle(self) -> UpstreamConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if time.monotonic() - connection.idle_since < CHECK_IDLE_AFTER_SECS or connection.is_usable():
                return connection
            connection.close()
        return None

    def trim(self) -> None:
        """Close what has been idle for too long (the oldest are in front), and of what is kept ready the broken."""
        now, kept_ready = time.monotonic(), self._kept_ready
        if kept_ready:
            self._drop_broken()
        while self._idle and now - self._idle[0].idle_since > MAX_IDLE_SECS:
            if len(self._idle) + len(self._in_use) <= kept_ready:
                return
            self._idle.pop(0).close()

    def _drop_broken(self) -> None:
        """Of the idle ones that the server has closed; others would be opened in the middle of a request."""
        broken = {connection for connection in self._idle if not connection.is_usable()}
        for connection in broken:
            connection.close()
        if broken:
            self._idle = [connection for connection in self._idle if connection not in broken]

    def close(self, *, interrupt: bool) -> None:
        """Close idle connections now and the others after their request; `interrupt`: those at once too, as lost.

        A server that is gone breaks its connections itself; only one that is frozen would leave requests waiting.
        """
        self._closed = True
        for connection in [*self._idle, *(self._in_use if interrupt else ())]:
            connection.close()
        self._idle.clear()

    async def interrupt_if_frozen(self) -> None:
        """A server that left may finish what it does; one that takes no connection would keep clients for ever."""
        if not await self.still_answers(LEFT_ANSWER_SECS):
            self.close(interrupt=True)

    async def still_answers(self, within_secs: float) -> bool:
        """Whether the server takes a new connection and logs it in, in that time."""
        try:
            connection = await open_upstream_connection(self.address, self._upstream, within_secs)
        except UpstreamUnavailable:
            return False
        connection.close()
        return True
