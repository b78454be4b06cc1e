"""Link: questions and answers between a worker process and its supervisor.

In: a connected socket, and what answers the other end's questions. Out: the other end's answers. Must not know what is
asked. Documents are BSON, whose own length is the frame; each is read strictly, and a document that is too long, or no
question and no answer, ends the link: the other end is then as good as dead.

One end must not be able to end the other, whatever it sends: a supervisor serves the other workers, too. A question
that is not understood is refused, an answer that is not understood is none, and each document gives others their turn.
"""

from __future__ import annotations

import itertools
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import bson
import trio

from mongoguard.errors import CommandError, GuardError
from mongoguard.wire.document import Document

__all__ = ["NOT_UNDERSTOOD", "Answerer", "AnswererAtOnce", "Fields", "Link", "LinkLost", "LinkRefused"]

log = logging.getLogger(__name__)

MAX_DOCUMENT_BYTES = 96 * 1024 * 1024
"""The longest is a configuration with its users file, which has 64 MB at most."""

MAX_FROM_WORKER_BYTES = 4 * 1024 * 1024
"""What a supervisor reads: questions and answers about a thousand cursors, which others wait for in the meantime."""

MAX_WAITING_BYTES = 2 * MAX_DOCUMENT_BYTES
"""Of documents that the other end does not take: it is frozen, and somebody's deadline will end it."""

MAX_QUESTIONS = 1024
"""Questions of the other end that are answered at a time; it waits with more."""

NOT_UNDERSTOOD = (KeyError, ValueError, TypeError)
"""What reading fields raises that are not those of the question."""

NO_QUESTION = "a question of another process is not understood: %s"

STEP_SECS = 1.0
"""Deadlines for answers pass in steps of so long. A process that is stopped, or whose machine is suspended, finds its
deadlines passed when it goes on, before it has looked at what has come: so it loses one step of them, and no more."""

Fields: TypeAlias = Mapping[str, Any]
Answerer: TypeAlias = Callable[[dict[str, Any]], Awaitable[Fields]]
AnswererAtOnce: TypeAlias = Callable[[dict[str, Any]], Fields]


class LinkLost(GuardError):
    """There is no other end any more."""


class LinkRefused(GuardError):
    """The other end says no; the text says why."""


class _Question:
    """One that waits for its answer. `take` gets the answer when it comes, also when nobody waits any more."""

    __slots__ = ("answer", "answered", "take")

    def __init__(self, take: Callable[[Fields], None] | None) -> None:
        self.answered = trio.Event()
        self.answer: dict[str, Any] | None = None
        self.take = take


class Link:
    """One end. `run` must be running for anything to come or go."""

    def __init__(
        self,
        sock: socket.socket,
        answerers: Mapping[str, Answerer],
        at_once: Mapping[str, AnswererAtOnce] | None = None,
        *,
        max_sent: int = MAX_DOCUMENT_BYTES,
        max_received: int = MAX_DOCUMENT_BYTES,
    ) -> None:
        """Take over the socket; `answerers` by the kinds of questions. A `GuardError` of theirs is an answer, too.

        Those `at_once` answer in the order in which they are asked; the others take their time. A document of more
        than `max_received` bytes ends the link; one of more than `max_sent` is refused here, and never sent.
        """
        self._at_once = at_once or {}
        self._max_sent = max_sent
        self._max_received = max_received
        sock.setblocking(False)
        self._socket = sock
        self._answerers = answerers
        self._numbers = itertools.count(1)
        self._questions: dict[int, _Question] = {}
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._something_waits = trio.Event()
        self._lost = False

    async def run(self) -> None:
        """Serve until the other end is gone, breaks the rules, or `close` is called."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read(nursery)
                nursery.cancel_scope.cancel()
        except* (OSError, trio.ClosedResourceError, CommandError) as group:
            log.debug("a link is broken: %s", group.exceptions[0])
        finally:
            self.close()

    def close(self) -> None:
        """End it; whoever waits for an answer learns that there is none. May be called twice."""
        if self._lost:
            return
        self._lost = True
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        for question in self._questions.values():
            question.answered.set()
        self._questions.clear()

    def tell(self, kind: str, fields: Fields | None = None) -> None:
        """Say something; nobody answers."""
        self._send({"kind": kind, "number": 0, "fields": fields or {}})

    async def ask(
        self,
        kind: str,
        fields: Fields | None = None,
        *,
        within_secs: float,
        take: Callable[[Fields], None] | None = None,
    ) -> dict[str, Any]:
        """The answer. Raises `LinkLost`, `LinkRefused`, and `trio.TooSlowError` after that many seconds (`STEP_SECS`).

        `take` gets the answer the moment it comes, even if that is too late for whoever asked.
        """
        if self._lost:
            raise LinkLost("the process at the other end is gone")
        number, question = next(self._numbers), _Question(take)
        self._questions[number] = question
        try:
            self._send({"kind": kind, "number": number, "fields": fields or {}})
        except LinkRefused:
            del self._questions[number]
            raise
        try:
            await _wait_in_steps(question.answered, within_secs)
        finally:
            if take is None:
                self._questions.pop(number, None)
        if question.answer is None:
            raise LinkLost("the process at the other end is gone")
        refusal = question.answer.get("refusal")
        if refusal is not None:
            raise LinkRefused(str(refusal))
        return question.answer

    # ---- writing ----------------------------------------------------------------------------------------------------

    def _send(self, document: Fields) -> None:
        """Raises `LinkRefused` for what the other end would not read, and must not be ended by."""
        if self._lost:
            return
        try:
            data = bson.encode(document)
        except (bson.errors.BSONError, ValueError, OverflowError) as error:
            raise LinkRefused(f"what would be sent is no BSON: {type(error).__name__}") from error
        if len(data) > self._max_sent:
            raise LinkRefused("what would be sent is too long")
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self.close()
            return
        self._waiting.append(data)
        self._something_waits.set()

    async def _write(self) -> None:
        while True:
            await self._something_waits.wait()
            self._something_waits = trio.Event()
            while self._waiting:
                data = self._waiting.popleft()
                await self._write_all(memoryview(data))
                self._waiting_bytes -= len(data)

    async def _write_all(self, view: memoryview) -> None:
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)

    # ---- reading ----------------------------------------------------------------------------------------------------

    async def _read(self, nursery: trio.Nursery) -> None:
        places = trio.Semaphore(MAX_QUESTIONS)
        while (data := await self._next_document()) is not None:
            await trio.lowlevel.checkpoint()
            document = Document(data).decode()
            match document:
                case {"answers": int(number), "fields": dict(fields)}:
                    self._take_answer(int(number), fields)
                case {"kind": bson.Code()}:  # a str, too, but one that cannot be looked up
                    raise OSError("a question whose kind is no text")
                case {"kind": str(kind), "number": int(number), "fields": dict(fields)} if (
                    kind in self._at_once
                ):
                    self._answer_at_once(kind, int(number), fields)
                case {"kind": str(kind), "number": int(number), "fields": dict(fields)}:
                    await places.acquire()
                    nursery.start_soon(self._answer, kind, int(number), fields, places)
                case _:
                    raise OSError("a document that is no question and no answer")

    def _take_answer(self, number: int, fields: dict[str, Any]) -> None:
        question = self._questions.pop(number, None)
        if question is None:
            return
        question.answer = fields
        if question.take is not None and "refusal" not in fields:
            try:
                question.take(fields)
            except Exception as error:
                log.error("an answer of another process is not understood", exc_info=error)
                question.answer = {"refusal": "the answer is not understood"}
        question.answered.set()

    async def _answer(self, kind: str, number: int, fields: dict[str, Any], places: trio.Semaphore) -> None:
        answerer = self._answerers.get(kind)
        try:
            self._reply(number, _unknown(kind) if answerer is None else await answerer(fields))
        except GuardError as error:
            self._reply(number, _refusal(error))
        except Exception:
            log.exception(NO_QUESTION, kind)
            self._reply(number, {"refusal": f"not understood: {kind}"})
        finally:
            places.release()

    def _answer_at_once(self, kind: str, number: int, fields: dict[str, Any]) -> None:
        try:
            self._reply(number, self._at_once[kind](fields))
        except GuardError as error:
            self._reply(number, _refusal(error))
        except Exception:
            log.exception(NO_QUESTION, kind)
            self._reply(number, {"refusal": f"not understood: {kind}"})

    def _reply(self, number: int, answer: Fields) -> None:
        if number:
            self._send({"answers": number, "fields": answer})

    async def _next_document(self) -> bytes | None:
        """The bytes of the next document; None when the other end is gone."""
        head = await self._exactly(4)
        if head is None:
            return None
        length = int.from_bytes(head, "little")
        if not 5 <= length <= self._max_received:
            raise OSError("a document of a length that cannot be")
        rest = await self._exactly(length - 4)
        return None if rest is None else head + rest

    async def _exactly(self, count: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self._socket.recv(min(count - len(parts), 1 << 20))
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
                continue
            except ConnectionError:
                return None
            if not part:
                return None
            parts += part
        return bytes(parts)


async def _wait_in_steps(event: trio.Event, within_secs: float) -> None:
    left = within_secs
    while left > 0:
        with trio.move_on_after(min(left, STEP_SECS)):
            await event.wait()
            return
        left -= STEP_SECS
    raise trio.TooSlowError


def _unknown(kind: str) -> Fields:
    return {"refusal": f"no such question: {kind}"}


def _refusal(error: GuardError) -> Fields:
    return {"refusal": str(error).encode(errors="replace").decode()}  # it may name a file that is no text
