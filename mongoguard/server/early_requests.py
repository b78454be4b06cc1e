"""Early requests: what a client asks until it has logged in, while its task sleeps.

In: a client's transport and session, and answers to effects that need no waiting. Out: replies, sent; and what is left
to the task: whatever is not one short message that is answered here and now. Must not decide anything: deciding is
`ClientSession`'s. Nothing is relayed from here.

A login is three or four such messages, and Trio's tasks cost more than the messages do. But many clients may log in at
once, when a server has failed over. So the early take turns: in each round, when all sockets of quick requests that
are ready have been served, one early client is. A running command waits for one message of a login, not for two
hundred.
"""

from __future__ import annotations

import math
import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import trio

from mongoguard.effects import Effect, Emit, FetchUser, Flow, Now, RandomBytes
from mongoguard.errors import ProtocolError
from mongoguard.proxy.client_session import ClientSession
from mongoguard.server.between_tasks import Begun, BetweenTasks, Owner, is_plain, is_whole
from mongoguard.server.directory import UserDirectory
from mongoguard.server.ready_sockets import ENDED, Call, ReadySockets
from mongoguard.server.sinks import AuditSink
from mongoguard.server.transport import Transport

__all__ = ["AnswersAtOnce", "EarlyRequests", "EarlySockets", "answers_at_once", "until_it_waits"]

MAX_EARLY_BYTES = 16 * 1024
"""A hello with everything that drivers put into it has 1 KB, and no login message of SCRAM more. Longer ones are read,
and where that takes long answered, elsewhere."""

AnswersAtOnce: TypeAlias = Mapping[type[Effect[Any]], Callable[[Any], "tuple[Any] | None"]]
"""What answers an effect without waiting: the answer, in a tuple of one, or None where it can't be had so."""

_WATCHED = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET


def answers_at_once(directory: UserDirectory, sink: AuditSink) -> AnswersAtOnce:
    """What this process can answer without asking anybody."""
    return {
        Emit: lambda effect: (None,) if sink.take(effect.event) else None,
        FetchUser: lambda effect: directory.at_hand(effect.request),
        Now: lambda _effect: (time.time(),),
        RandomBytes: lambda effect: (os.urandom(effect.count),),
    }


def until_it_waits(flow: Flow[Any], answers: AnswersAtOnce) -> Effect[Any]:
    """Run a flow up to the first effect that must be waited for, which is returned.

    Raises StopIteration with the flow's value when there is none, and what the flow raises.
    """
    effect = flow.send(None)
    while True:
        at_once = answers.get(type(effect))
        answer = None if at_once is None else at_once(effect)
        if answer is None:
            return effect
        effect = flow.send(answer[0])


class EarlySockets:
    """The sockets of all early clients, in an epoll of their own: one of them is served in each round."""

    def __init__(self, ready: ReadySockets) -> None:
        """Watch nothing yet."""
        self._ready = ready
        self._epoll = select.epoll()
        self._calls: dict[int, Call] = {}
        self._again: dict[int, None] = {}  # in order, each once
        self._prefers_again = False
        self._has_turn = False
        ready.watch(self._epoll.fileno(), self._something_came)

    def watch(self, descriptor: int, call: Call) -> None:
        """Call that function each time something comes, and soon if something has come already; `forget` must follow.

        It must not block. It may be called when there is nothing.
        """
        self._epoll.register(descriptor, _WATCHED)
        self._calls[descriptor] = call

    async def wait_readable(self, sock: socket.socket) -> None:
        """Return when something has come, or the end of the connection, and it is this one's turn.

        Must be cancelled before the socket is closed.
        """
        descriptor, task = sock.fileno(), trio.lowlevel.current_task()
        waits = True

        def wake() -> None:
            nonlocal waits
            if waits:
                waits = False
                trio.lowlevel.reschedule(task)

        def give_up(_raise_cancel: object) -> trio.lowlevel.Abort:
            nonlocal waits
            waits = False
            return trio.lowlevel.Abort.SUCCEEDED

        self.watch(descriptor, wake)
        try:
            await trio.lowlevel.wait_task_rescheduled(give_up)
        finally:
            self.forget(descriptor)

    def look_again(self, descriptor: int) -> None:
        """Call its function once more, when it is its turn: of more that has come, the socket may tell nothing."""
        self._again[descriptor] = None
        self._something_came()

    def forget(self, descriptor: int) -> None:
        """Before the socket is closed, or watched elsewhere."""
        self._again.pop(descriptor, None)
        if self._calls.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def _something_came(self) -> None:
        if not self._has_turn:
            self._has_turn = True
            self._ready.call_again(self._serve_one)

    def _serve_one(self) -> None:
        descriptor = self._next()
        self._has_turn = descriptor is not None
        if descriptor is None:
            return
        self._ready.call_again(self._serve_one)  # first of all: what is called may raise
        call = self._calls.get(descriptor)
        if call is not None:
            call()

    def _next(self) -> int | None:
        # In turns: neither may keep the other waiting for as long as there is more.
        self._prefers_again = not self._prefers_again
        if self._again and self._prefers_again:
            return self._next_again()
        for descriptor, kinds in self._epoll.poll(0, 1):
            if kinds & ENDED:  # perhaps together with a last request: of its end the socket tells only now
                self._again[descriptor] = None
            return descriptor
        return self._next_again() if self._again else None

    def _next_again(self) -> int:
        descriptor = next(iter(self._again))
        del self._again[descriptor]
        return descriptor


class EarlyRequests(BetweenTasks):
    """One client's."""

    __slots__ = ("_answers", "_descriptor", "_idle_secs", "_scope", "_sockets")

    def __init__(
        self,
        sockets: EarlySockets,
        transport: Transport,
        session: ClientSession,
        answers: AnswersAtOnce,
        owner: Owner,
        idle_secs: float,
    ) -> None:
        """Serve nothing yet. `idle_secs` is how long a client may be silent that has not logged in."""
        super().__init__(transport, session, owner)
        self._sockets = sockets
        self._answers = answers
        self._idle_secs = idle_secs
        self._descriptor = -1
        self._scope = trio.CancelScope()

    async def serve(self) -> bytes | Begun:
        """Serve requests until there is something for the task: bytes as `Transport.receive` gives them, or a request.

        What a client sends after its login is the task's, too. Raises OSError, what a flow raises, and `ProtocolError`
        for a client that was silent for too long.
        """
        self._descriptor = self._transport.fileno()
        self._sockets.watch(self._descriptor, self._request_came)
        try:
            if self._transport.hides_news:
                self._sockets.look_again(self._descriptor)
            with trio.CancelScope(deadline=trio.current_time() + self._idle_secs) as self._scope:
                return await self._sleep()
        finally:
            self._task = None
            self._sockets.forget(self._descriptor)
        raise ProtocolError("an unauthenticated connection was idle")

    def _request_came(self) -> None:
        if self._task is None:
            return
        try:
            data = self._transport.receive_now()
        except OSError as error:
            self._fail(error)
            return
        if data is None:
            return
        if self._session.user is not None or not _is_early(data, self._session.max_message_bytes):
            self._hand_over(data)
            return
        self._owner.busy_since = time.monotonic()
        self._answer(self._session.handle(data))

    def _answer(self, flow: Flow[bytes | None]) -> None:
        try:
            effect = until_it_waits(flow, self._answers)
        except StopIteration as stop:
            self._reply(stop.value)
        except Exception as error:  # noqa: BLE001  (the connection's end, with the words for it, is the task's)
            flow.close()
            self._fail(error)
        else:
            self._hand_over(Begun(flow, effect))

    def _reply(self, reply: bytes | None) -> None:
        if not self._send(reply):
            return
        has_logged_in = self._session.user is not None
        self._scope.deadline = math.inf if has_logged_in else trio.current_time() + self._idle_secs
        if self._transport.hides_news:
            self._sockets.look_again(self._descriptor)


def _is_early(data: bytes, max_message_bytes: int) -> bool:
    """Whether this is one whole message, plain and short; what is left in the socket behind it will be told of."""
    return len(data) <= min(MAX_EARLY_BYTES, max_message_bytes) and is_whole(data) and is_plain(data)
