"""The supervisor: starts the worker processes of a server, replaces those that crash, and is their way to each other.

In: a configuration, signals. Out: workers on the same addresses, until a signal ends them. Must not see a client's
bytes. What must be one for all workers is here: what changed users mean (`crossing.py`), and the configuration.

Signals mean what they mean to an only process (`serving.py`).
"""

from __future__ import annotations

import logging
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio
from bson import ObjectId

from mongoguard.config.loading import ConfigTexts, read_config
from mongoguard.config.reloadable import reload_settings
from mongoguard.config.settings import Settings
from mongoguard.errors import ConfigError, GuardError
from mongoguard.server.app import Order
from mongoguard.server.crossing import Crossing
from mongoguard.server.directory import read_users_text
from mongoguard.server.draining import DRAIN_SECS
from mongoguard.server.link import Answerer, Fields
from mongoguard.server.listener import close_listeners, open_listeners
from mongoguard.server.pid_file import pid_file
from mongoguard.server.prepared_reload import NotReloaded
from mongoguard.server.reloading import Reloading, tell_not_reloaded, tell_reloaded
from mongoguard.server.serving import END_SIGNALS, SIGNALS, listening_line
from mongoguard.server.shared_counts import SharedCounts, make_shared_memory, tell_status
from mongoguard.server.worker_process import WorkerProcess, start_worker_process

__all__ = ["supervise"]

log = logging.getLogger(__name__)

STEADY_SECS = 5.0
"""A worker that has served for so long and then ends has crashed by something that came, and not by its start."""

MAX_EARLY_ENDS = 5
"""Ends in a row before that, while the server starts: a sixth would be no other. Once all have served, workers are
replaced however often: somebody kills them, or something that comes does, and clients of the others lose nothing."""

FIRST_PAUSE_SECS, MAX_PAUSE_SECS = 0.5, 2.0
"""Pauses between early ends double: whatever ends workers again and again must not have the machine to itself, and who
waits for a worker waits for little more than its start."""

RETRY_START_SECS = 1.0
"""Before a worker is started again that could not start while others serve: the upstream is away, perhaps."""

END_GRACE_SECS = DRAIN_SECS + 15.0
"""After the order to end: the draining, and the time that a worker has for its audit log."""

HURRIED_GRACE_SECS = 12.0
"""After the second one: the time for the audit log alone."""

PREPARE_SECS = 60.0
"""For reading a users file and the files of TLS: thousands of users take seconds."""

COMMIT_SECS = 5.0
"""For using what is prepared, which is done at once: a worker that does not is ended and replaced."""


class WorkersKeepEnding(GuardError):
    """Workers end as soon as they are started; the text says how."""


@dataclass(frozen=True, slots=True)
class _Configuration:
    """What workers are told of the configuration. `texts` are those in use, `users` is the users file's text."""

    texts: ConfigTexts
    users: str | None
    generation: int = 0


async def supervise(
    texts: ConfigTexts,
    settings: Settings,
    workers: int,
    command: Sequence[str],
    announce: Callable[[str], None] = print,
) -> None:
    """Run the server until SIGTERM or SIGINT. `command` starts a worker, `announce` gets one line when all accept.

    Raises as `serve` does, and `GuardError` when workers keep ending.
    """
    for warning in settings.warnings():
        log.warning("%s", warning)
    listeners = open_listeners(settings.net)
    try:
        with pid_file(settings.process_management.pid_file_path):
            users = _users_text(settings)
            supervisor = Supervisor(_Configuration(texts, users), settings, listeners, workers, command)
            await supervisor.run(announce)
    finally:
        close_listeners(listeners)


def _users_text(settings: Settings) -> str | None:
    path = settings.security.user_file
    return None if path is None else read_users_text(path)


class Supervisor:
    """The processes of one server. A worker has a number, which its replacement has too; all accept from one socket."""

    def __init__(
        self,
        configuration: _Configuration,
        settings: Settings,
        listeners: list[socket.socket],
        count: int,
        command: Sequence[str],
    ) -> None:
        """Nothing is started yet."""
        self._started_with = self._configuration = configuration
        self._settings = settings
        self._listeners = listeners
        self._count = count
        self._command = command
        self._secret = secrets.token_bytes(32)
        self._service_id = ObjectId()
        self._memory = make_shared_memory(count)
        self._counts = SharedCounts(self._memory, count, None, self._secret)
        self._workers: dict[int, WorkerProcess] = {}
        self._crossing = Crossing(settings, self._workers)
        self._all_serve = trio.Event()
        self._ending = False
        self._hurry = trio.Event()
        self._reloading = Reloading(self._reload)

    async def run(self, announce: Callable[[str], None]) -> None:
        """Serve until a signal asks to end."""
        # As in serving.py: what is put back at the end must not kill what is being closed.
        for one in SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        with trio.open_signal_receiver(*SIGNALS) as signals:
            async with trio.open_nursery() as nursery:
                async with trio.open_nursery() as keepers:
                    nursery.start_soon(self._obey, signals, keepers.cancel_scope)
                    nursery.start_soon(self._reloading.keep_up)
                    nursery.start_soon(self._announce, announce)
                    for number in range(self._count):
                        keepers.start_soon(self._keep_worker, number)
                nursery.cancel_scope.cancel()

    async def _announce(self, announce: Callable[[str], None]) -> None:
        await self._all_serve.wait()
        announce(listening_line(self._listeners))

    # ---- workers ----------------------------------------------------------------------------------------------------

    async def _keep_worker(self, number: int) -> None:
        """Have a worker of that number, as long as the server runs."""
        early_ends = 0
        while not self._ending:
            worker = await self._run_worker(number)
            if self._is_ending():
                return
            if worker.failure is not None:
                await self._could_not_start(worker, *worker.failure)
                continue
            if worker.generation != self._configuration.generation:
                continue  # it was started with a configuration that has changed before it served
            self._crossing.worker_crashed()
            early_ends = 0 if worker.served_secs >= STEADY_SECS else early_ends + 1
            if early_ends >= MAX_EARLY_ENDS and not self._all_serve.is_set():
                raise WorkersKeepEnding(
                    f"worker {number} has ended {early_ends} times soon after its start, at last by {worker.ended_by}"
                )
            log.error(
                "worker %d (pid %d) has ended by %s; another one is started",
                number,
                worker.pid,
                worker.ended_by,
            )
            if early_ends > 1:
                await trio.sleep(min(FIRST_PAUSE_SECS * 2 ** (early_ends - 2), MAX_PAUSE_SECS))

    async def _run_worker(self, number: int) -> WorkerProcess:
        """Start a worker, and return when it has ended."""
        descriptors = [sock.fileno() for sock in self._listeners]
        generation = self._configuration.generation
        worker = await start_worker_process(self._command, number, generation, [*descriptors, self._memory])
        worker.answer_with(self._answerers(worker), self._crossing.at_once(worker))
        self._workers[number] = worker
        try:
            await worker.run(self._first_words(number, descriptors))
        finally:
            del self._workers[number]
            self._counts.clear(number)
            self._crossing.worker_ended(number)
        return worker

    def _first_words(self, number: int, descriptors: list[int]) -> Fields:
        return {
            "number": number,
            "workers": self._count,
            "listeners": descriptors,
            "counts": self._memory,
            "secret": self._secret,
            "serviceId": self._service_id,
            "startedWith": _texts_document(self._started_with.texts),
            "current": _texts_document(self._configuration.texts),
            "users": self._configuration.users,
            "exceptionClosed": self._crossing.exception_is_closed,
        }

    async def _could_not_start(self, worker: WorkerProcess, sentences: list[str], status: int) -> None:
        if not self._all_serve.is_set():
            kind = ConfigError if status == 2 else GuardError
            raise kind("\n".join(sentences))
        for sentence in sentences:
            log.error("worker %d can't start: %s", worker.number, sentence)
        await trio.sleep(RETRY_START_SECS)

    def _answerers(self, worker: WorkerProcess) -> Mapping[str, Answerer]:
        return {
            "ready": partial(self._worker_is_ready, worker),
            "failed": partial(self._worker_has_failed, worker),
            **self._crossing.answerers(worker),
        }

    async def _worker_is_ready(self, worker: WorkerProcess, _fields: dict[str, Any]) -> Fields:
        if worker.generation != self._configuration.generation:
            worker.kill()
            return {}
        worker.serves()
        log.info("worker %d (pid %d) serves", worker.number, worker.pid)
        if len(self._workers) == self._count and all(w.is_serving for w in self._workers.values()):
            self._all_serve.set()
        return {}

    async def _worker_has_failed(self, worker: WorkerProcess, fields: dict[str, Any]) -> Fields:
        worker.failure = [str(sentence) for sentence in fields["sentences"]], int(fields["status"])
        return {}

    def _is_ending(self) -> bool:
        return self._ending

    # ---- signals ----------------------------------------------------------------------------------------------------

    async def _obey(self, signals: AsyncIterator[int], keepers: trio.CancelScope) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                self._reloading.ask()
            elif number == signal.SIGUSR1:
                self._order(Order.REOPEN)
            elif number == signal.SIGUSR2:
                tell_status(len(self._workers), self._counts.of)
            elif number in END_SIGNALS:
                # Whoever is late is ended: cancelling the keepers kills their workers.
                keepers.deadline = trio.current_time() + (
                    HURRIED_GRACE_SECS if self._ending else END_GRACE_SECS
                )
                self._end()

    def _end(self) -> None:
        self._ending = True
        close_listeners(self._listeners)
        self._order(Order.END)

    def _order(self, order: Order) -> None:
        for worker in self._workers.values():
            worker.link.tell("order", {"order": str(order)})

    # ---- reloading --------------------------------------------------------------------------------------------------

    async def _reload(self) -> None:
        """Take over the configuration file as it is now: in every worker, or in none."""
        try:
            texts, wanted = await trio.to_thread.run_sync(read_config, self._settings.source)
            reload = reload_settings(self._settings, wanted)
            users = await trio.to_thread.run_sync(_read_users, reload.settings)
            parts = await self._prepare(texts, users)
        except NotReloaded as error:
            tell_not_reloaded(error.part, error)
        except ConfigError as error:
            tell_not_reloaded("the configuration", error)
        else:
            generation = self._configuration.generation + 1
            # Workers that are on their way with the old one are started anew when they say that they are ready.
            self._configuration = _Configuration(texts, users, generation)
            self._settings = reload.settings
            self._crossing.limits_changed(reload.settings)
            await self._commit(generation)
            tell_reloaded(parts, reload)

    async def _prepare(self, texts: ConfigTexts, users: str | None) -> list[str]:
        """What all workers have read. Raises `NotReloaded`; what others have prepared then is never used."""
        fields = {"wanted": _texts_document(texts), "users": users}
        answers: list[Fields | None] = []

        async def ask(worker: WorkerProcess) -> None:
            answer = await worker.ask("prepare", fields, within_secs=PREPARE_SECS)
            if worker.is_serving:  # who has ended meanwhile is replaced by one with the configuration of then
                answers.append(answer)

        async with trio.open_nursery() as nursery:
            for worker in self._serving():
                nursery.start_soon(ask, worker)
        parts: list[str] = []
        for answer in answers:
            if answer is None:
                raise NotReloaded("the configuration", ConfigError("a worker does not answer"))
            if "failed" in answer:
                raise NotReloaded(str(answer["failed"]), ConfigError(str(answer["reason"])))
            parts = list(answer["parts"])
        return parts

    async def _commit(self, generation: int) -> None:
        async def commit(worker: WorkerProcess) -> None:
            worker.generation = generation
            if await worker.ask("commit", within_secs=COMMIT_SECS) is None:
                worker.kill()
                await worker.ended(COMMIT_SECS)

        async with trio.open_nursery() as nursery:
            for worker in self._serving():
                nursery.start_soon(commit, worker)

    def _serving(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers.values() if worker.is_serving]


def _read_users(settings: Settings) -> str | None:
    try:
        return _users_text(settings)
    except ConfigError as error:
        raise NotReloaded("the users file", error) from None


def _texts_document(texts: ConfigTexts) -> Fields:
    # A list of pairs: a path may hold what the name of a field may not.
    return {"source": texts.source, "text": texts.text, "files": [list(pair) for pair in texts.files.items()]}
