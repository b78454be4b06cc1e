"""The pump of one client connection: bytes in, a flow run, its effects carried out, bytes out.

In: an accepted socket. Out: nothing; the connection is served until it ends. Must not decide anything: deciding is
`ClientSession`'s.

Deadlines: a first message within `handshakeTimeoutSecs`; a begun message whole within `messageTimeoutSecs`; an
unauthenticated connection may be idle for `MAX_UNAUTHENTICATED_IDLE_SECS`; a reply that the client does not take is
given up by the transport. An authenticated client may be idle for ever, as in mongod; keep-alive notices the dead.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import trio

from mongoguard.authn.channel import ClientCertificate
from mongoguard.effects import (
    AskUpstream,
    AwaitTopologyChange,
    Effect,
    Emit,
    FetchUser,
    Flow,
    Now,
    RandomBytes,
    Relay,
    StateChanged,
)
from mongoguard.errors import (
    GuardError,
    ProtocolError,
    UpstreamConnectionLost,
    UpstreamError,
    UpstreamUnavailable,
)
from mongoguard.observe.access_messages import connection_refused
from mongoguard.proxy.client_session import ClientSession
from mongoguard.proxy.cursor_commands import abandon_stream
from mongoguard.server.between_tasks import Begun, is_plain
from mongoguard.server.early_requests import EarlyRequests, until_it_waits
from mongoguard.server.incoming import NOTHING_CAME
from mongoguard.server.passing_on import Recipient
from mongoguard.server.quick_requests import FinishExchange, QuickRequests
from mongoguard.server.ready_sockets import ready_sockets
from mongoguard.server.shell import Shell
from mongoguard.server.transport import Transport, read_rest
from mongoguard.wire.compression import compress_message, decompress_message
from mongoguard.wire.framing import MessageReader
from mongoguard.wire.message import MAX_MESSAGE_BYTES, OpCode

__all__ = ["MAX_UNAUTHENTICATED_IDLE_SECS", "ClientConnection"]

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_UNAUTHENTICATED_IDLE_SECS = 300
"""Drivers' monitors never log in, and send a hello every 10 s by default; this is the longest gap they may have."""

IN_THREAD_BYTES = 256 * 1024
"""Parsing, deciding or (de)compressing more than this takes milliseconds, in which no other client would be served."""

LOG_OUT_SECS = 10
"""How long the end of a connection may wait for an audit sink that can't keep up."""

_COMPRESSED = OpCode.COMPRESSED.to_bytes(4, "little")


class ClientConnection:
    """One client. `busy_since` is when the request under way began (monotonic seconds), None between requests."""

    def __init__(
        self,
        transport: Transport,
        session: ClientSession,
        shell: Shell,
        arrived: Callable[[], None],
        first_message_by: float,
    ) -> None:
        """Take over an accepted connection; `arrived` is called after its first message, which is there by then."""
        self.session = session
        self.busy_since: float | None = None
        self._transport = transport
        self._shell = shell
        self._arrived = arrived
        self._first_message_by = first_message_by
        self._end_reason = "Client has disconnected"
        self._reader = MessageReader(session.max_message_bytes)
        self._scope = trio.CancelScope()
        self._is_told_to_end = False
        self._recipient: Recipient | None = None  # of the request under way, if that is a plain one
        ready = ready_sockets()
        self._quick = (
            None if ready is None else QuickRequests(ready, transport, session, shell.upstream, self)
        )
        self._early = (
            None
            if shell.early is None
            else EarlyRequests(
                shell.early, transport, session, shell.at_once, self, MAX_UNAUTHENTICATED_IDLE_SECS
            )
        )

    async def serve(self) -> None:
        """Serve until the client leaves, breaks the protocol, or is cancelled. Raises nothing of its own."""
        try:
            with self._scope:
                await self._serve()
        except ProtocolError as error:
            log.info("connection %d: closed: %s", self.session.connection_id, error)
        except UpstreamConnectionLost as error:
            log.warning("connection %d: closed with its upstream: %s", self.session.connection_id, error)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            log.debug("connection %d: broken", self.session.connection_id)
        except Exception:
            # Here an error of ours ends: this client's connection closes, no other notices.
            log.exception("connection %d: closed by an internal error", self.session.connection_id)
        finally:
            self._transport.close()
            await self._log_out()
            self._quick = self._early = None  # they know this one: it must not wait for the garbage collector

    def cancel(self) -> None:
        """End now, in mid-command too."""
        self._scope.cancel()

    def end_if_revoked(self, is_revoked: Callable[[ClientCertificate | None], bool]) -> None:
        """End now when the client's certificate does not count any more, whoever is logged in."""
        if is_revoked(self.session.authentication.channel.certificate):
            log.warning(
                "connection %d: closed: its client's certificate is revoked", self.session.connection_id
            )
            self._end_reason = "The client's certificate has been revoked"
            self.cancel()

    def drain(self) -> None:
        """End as soon as neither a request nor a transaction is under way."""
        self._is_told_to_end = True
        if self.busy_since is None and self.is_draining:
            self._scope.cancel()

    @property
    def is_draining(self) -> bool:
        """Whether the request under way is the last one."""
        return self._is_told_to_end and not self.session.transactions.any_open()

    def look_after(self) -> None:
        """A request has been under way for a while. It ends when its client has closed its end."""
        if self._transport.peer_is_gone():
            self.cancel()
        elif self._quick is not None:
            self._quick.leave_pieces_to_the_task()

    async def _serve(self) -> None:
        session = self.session
        message: bytes | Begun | None = await self._first_message()
        self._arrived()
        while message is not None:
            self.busy_since = time.monotonic()
            reply = await self._answer(message)
            if reply is not None:
                await self._transport.send_all(reply)
            if session.streaming.next_request is not None and isinstance(message, bytes):
                await self._stream(message)
            self.busy_since = None
            if self.is_draining:
                return
            message = await self._next_message()

    async def _stream(self, first: bytes) -> None:
        """Send the replies that follow that to `first`, one at a time: the next is made when the last one is sent."""
        while (request := self.session.streaming.next_request) is not None and not self.is_draining:
            self.busy_since = time.monotonic()
            reply = await self._carry_out(self.session.handle(request), len(request))
            if reply is None:
                return
            if first[12:16] == _COMPRESSED:
                reply = await self._in_thread_if_long(len(reply), compress_message, reply, first[24])
            await self._transport.send_all(reply)
            # Others have their turn: neither sending nor a quick upstream need have waited.
            await trio.lowlevel.checkpoint()

    async def _answer(self, data: bytes | Begun) -> bytes | None:
        self._recipient = None
        if isinstance(data, Begun):
            return await self._finish(data)
        if is_plain(data):
            self._recipient = Recipient(self._transport)
            return self._recipient.rest(await self._carry_out(self.session.handle(data), len(data)))
        if data[12:16] != _COMPRESSED:
            return await self._carry_out(self.session.handle(data), len(data))
        limit = min(self.session.max_message_bytes, MAX_MESSAGE_BYTES)
        declared = int.from_bytes(data[20:24], "little")
        message, compressor = await self._in_thread_if_long(declared, decompress_message, data, limit)
        reply = await self._carry_out(self.session.handle(message, compressed=True), len(message))
        if reply is None:
            return None
        return await self._in_thread_if_long(len(reply), compress_message, reply, compressor)

    async def _finish(self, begun: Begun) -> bytes | None:
        if begun.flow is None:
            return begun.unsent
        self._recipient = Recipient(self._transport, begun.passed_on)
        return self._recipient.rest(await self._carry_out(begun.flow, effect=begun.effect))

    # ---- reading ----------------------------------------------------------------------------------------------------

    async def _first_message(self) -> bytes | None:
        # Most often it has come: of most connections the first bytes were waited for, to see how they begin.
        chunk = self._transport.receive_now()
        message = self._reader.receive(chunk) if chunk else None
        if message is not None or chunk == b"":
            return message
        with trio.move_on_at(self._first_message_by):
            return await (self._read() if chunk is None else self._read_rest())
        self._transport.close()  # a sink that can't keep up must not hold it
        await self._shell.audit(connection_refused(self.session.peer, reason=NOTHING_CAME))
        raise ProtocolError(NOTHING_CAME)

    async def _next_message(self) -> bytes | Begun | None:
        """The next message, or what quick requests leave to do; None when the client has left."""
        self._reader.max_message_bytes = self.session.max_message_bytes
        message = self._reader.next_message()
        if message is not None:
            # Others have their turn: a chunk may hold a thousand messages.
            await trio.lowlevel.checkpoint()
            return message
        if self._reader.in_message:  # its beginning came with the message before
            return await self._read_rest()
        if self.session.user is not None:
            return await (self._read() if self._quick is None else self._serve_quickly(self._quick))
        if self._early is not None:
            return await self._serve_quickly(self._early)
        with trio.move_on_after(MAX_UNAUTHENTICATED_IDLE_SECS):
            return await self._read()
        raise ProtocolError("an unauthenticated connection was idle")

    async def _serve_quickly(self, quick: QuickRequests | EarlyRequests) -> bytes | Begun | None:
        chunk = await quick.serve()
        return chunk if isinstance(chunk, Begun) else await self._read_on(chunk)

    async def _read(self) -> bytes | None:
        return await self._read_on(await self._transport.receive())

    async def _read_on(self, chunk: bytes) -> bytes | None:
        if not chunk:
            return None
        # Somebody may have logged in or out while the task slept.
        self._reader.max_message_bytes = self.session.max_message_bytes
        message = self._reader.receive(chunk)
        return message if message is not None else await self._read_rest()

    async def _read_rest(self) -> bytes | None:
        with trio.move_on_after(self._shell.message_timeout_secs):
            return await read_rest(self._transport, self._reader)
        raise ProtocolError("a message did not arrive whole in time")

    async def _in_thread_if_long(
        self, size: int, work: Callable[[bytes, int], T], data: bytes, argument: int
    ) -> T:
        if size < IN_THREAD_BYTES:
            return work(data, argument)
        return await trio.to_thread.run_sync(work, data, argument, limiter=self._shell.threads)

    # ---- effects ----------------------------------------------------------------------------------------------------

    async def _carry_out(self, flow: Flow[T], size: int = 0, effect: Effect[Any] | None = None) -> T:
        """Run a flow; each effect it asks for is carried out, and only errors of ours are thrown into it.

        `size` is that of the message that the flow is about: reading and deciding a long one is done in a thread.
        `effect`: what a flow that was begun waits for.
        """
        try:
            if effect is not None:
                pass
            elif size < IN_THREAD_BYTES:
                effect = flow.send(None)
            else:
                done, outcome = await trio.to_thread.run_sync(_first_step, flow, limiter=self._shell.threads)
                if done:
                    return outcome  # type: ignore[no-any-return]  # the flow's value
                effect = outcome
            while True:
                try:
                    own = _OWN_EFFECTS.get(type(effect))
                    answer = await (
                        self._shell.external[type(effect)](effect) if own is None else own(self, effect)
                    )
                except UpstreamError as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # a generator's value is untyped in StopIteration
        finally:
            flow.close()

    async def _relay(self, effect: Relay) -> Any:
        try:
            return await self._shell.upstream.relay(
                effect.message,
                effect.server,
                effect.read_preference,
                effect.transaction,
                self._recipient if effect.documents_pass else None,
            )
        except UpstreamUnavailable as error:  # the client is not told which server it was
            log.info("connection %d: a command was not sent: %s", self.session.connection_id, error)
            raise
        finally:
            if (
                effect.changes_users
            ):  # also when the client left in mid-command: the change may have been made
                await self._shell.users_changed()

    async def _finish_exchange(self, effect: FinishExchange) -> Any:
        pool, connection, passed_on = effect.pool, effect.connection, effect.passed_on
        if passed_on is None:
            return await pool.finish(connection, effect.sent_at, effect.unsent, effect.received)
        return await pool.finish_long(connection, effect.sent_at, passed_on)

    async def _await_topology_change(self, effect: AwaitTopologyChange) -> None:
        """Cheap for thousands of monitors: one task and one deadline each, and no look at the socket twice a second."""
        deployment = self.session.deployment
        if deployment.counter != effect.counter:
            return
        with trio.move_on_after(effect.within_secs) as scope, deployment.telling(scope.cancel):
            self.busy_since = None  # a wait keeps nothing from ending
            await self._transport.wait_for_news()
            self.look_after()
            self.busy_since = (
                time.monotonic()
            )  # it has sent the next message already: from now on it is looked after
            await trio.sleep_forever()
        self.busy_since = time.monotonic()

    async def _state_changed(self, effect: StateChanged) -> None:
        self._shell.upstream.state_changed(effect)

    async def _ask_upstream(self, effect: AskUpstream) -> Any:
        return await self._shell.upstream.ask(effect.db, effect.command)

    async def _fetch_user(self, effect: FetchUser) -> Any:
        return await self._shell.directory.fetch(effect.request)

    async def _emit(self, effect: Emit) -> None:
        await self._shell.audit(effect.event)

    async def _now(self, _effect: Now) -> float:
        return time.time()

    async def _random_bytes(self, effect: RandomBytes) -> bytes:
        return os.urandom(effect.count)

    async def _log_out(self) -> None:
        """Leave a logout message in the audit stream for whoever was still logged in, and no cursor of a stream."""
        log_out = self.session.authentication.log_out(self._end_reason)
        await self._end_with(log_out, "no logout event", logging.WARNING)
        await self._end_with(abandon_stream(self.session), "the cursor of a stream was left", logging.INFO)

    async def _end_with(self, flow: Flow[None], failure: str, level: int) -> None:
        """A last flow, within `LOG_OUT_SECS` if it has to wait at all. Raises nothing."""
        try:
            waited_for = until_it_waits(flow, self._shell.at_once)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LOG_OUT_SECS):
                await self._carry_out(flow, effect=waited_for)
        except StopIteration:
            return
        except GuardError as error:
            log.log(level, "connection %d: %s: %s", self.session.connection_id, failure, error)
        except Exception:
            # Here as in `serve`: raised, it would end the clients' nursery, and with it everybody's connection.
            log.exception("connection %d: %s: an internal error", self.session.connection_id, failure)


_OWN_EFFECTS: Mapping[type[Effect[Any]], Callable[[ClientConnection, Any], Awaitable[Any]]] = {
    AskUpstream: ClientConnection._ask_upstream,  # noqa: SLF001  (one table for all connections)
    AwaitTopologyChange: ClientConnection._await_topology_change,  # noqa: SLF001
    Emit: ClientConnection._emit,  # noqa: SLF001
    FetchUser: ClientConnection._fetch_user,  # noqa: SLF001
    FinishExchange: ClientConnection._finish_exchange,  # noqa: SLF001
    Now: ClientConnection._now,  # noqa: SLF001
    RandomBytes: ClientConnection._random_bytes,  # noqa: SLF001
    Relay: ClientConnection._relay,  # noqa: SLF001
    StateChanged: ClientConnection._state_changed,  # noqa: SLF001
}
"""Of no connection, but of all: each would hold a method of itself for every effect."""


def _first_step(flow: Flow[Any]) -> tuple[bool, Any]:
    """(False, the first effect), or (True, the value of a flow that asks for none)."""
    try:
        return False, flow.send(None)
    except StopIteration as stop:  # must not leave a thread as an exception
        return True, stop.value
