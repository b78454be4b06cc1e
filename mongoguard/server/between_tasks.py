"""Between the tasks: what serving a client has in common while its task sleeps, before its login and after.

In: a client's transport and session. Out: replies, sent; and to the task, when it is woken, what is left to do. Must
not know what a request asks for.

A request may be left to the task at any step, and goes on there exactly where it was: as the bytes that came, as a flow
with the effect that it has asked for, or as a reply of which a part is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import trio
from outcome import Error, Value

from mongoguard.effects import Effect, Flow
from mongoguard.proxy.client_session import ClientSession
from mongoguard.server.passing_on import PassedOn
from mongoguard.server.transport import Transport
from mongoguard.wire.message import HEADER_SIZE, OpCode

__all__ = ["Begun", "BetweenTasks", "Owner", "is_plain", "is_whole"]

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


class Owner(Protocol):
    """The client connection."""

    busy_since: float | None

    @property
    def is_draining(self) -> bool:
        """Whether the request under way is the last one."""


class BetweenTasks:
    """One client's requests while `_task` sleeps. It is None when nothing may be served."""

    __slots__ = ("_owner", "_session", "_task", "_transport")

    def __init__(self, transport: Transport, session: ClientSession, owner: Owner) -> None:
        """Serve nothing yet."""
        self._transport = transport
        self._session = session
        self._owner = owner
        self._task: trio.lowlevel.Task | None = None

    async def _sleep(self) -> bytes | Begun:
        """Until there is something for the task. Raises what `_fail` is told."""
        self._task = trio.lowlevel.current_task()
        answer: bytes | Begun = await trio.lowlevel.wait_task_rescheduled(self._give_up)
        return answer

    def _give_up(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _hand_over(self, what: bytes | Begun) -> None:
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, Value(what))

    def _fail(self, error: Exception) -> None:
        """The connection's end, with the words for it, is the task's."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, Error(error))

    def _send(self, reply: bytes | None) -> bool:
        """Send it, and end the request. Whether the next one may be served here."""
        if reply is not None:
            try:
                count = self._transport.send_now(reply)
            except OSError as error:
                self._fail(error)
                return False
            if count != len(reply):
                self._hand_over(Begun(None, unsent=reply[count:]))
                return False
        self._owner.busy_since = None
        if self._owner.is_draining:
            self._hand_over(b"")
            return False
        return True


def is_whole(data: bytes) -> bool:
    """Whether this is one message, and nothing else."""
    return len(data) > HEADER_SIZE and int.from_bytes(data[:4], "little") == len(data)


def is_plain(data: bytes) -> bool:
    """Whether a message is an OP_MSG that is answered once, without a checksum."""
    return data[12:20] == _PLAIN_OP_MSG
