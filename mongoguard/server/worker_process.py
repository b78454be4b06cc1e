"""A worker process, as its supervisor sees it.

In: which worker it is, and what answers its questions. Out: a running process with a link to it. Must not know what is
asked, or what becomes of a worker that has ended.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import trio

from mongoguard.server.link import (
    MAX_FROM_WORKER_BYTES,
    Answerer,
    AnswererAtOnce,
    Fields,
    Link,
    LinkLost,
    LinkRefused,
)

__all__ = ["WorkerProcess", "start_worker_process"]

log = logging.getLogger(__name__)

END_SECS = 30.0
"""For a worker whose link has ended: it has nothing more to do than to write its audit log, within 10 s."""

LAST_WORDS_SECS = 1.0
"""For what a process has said before it ended to be read."""

PING_SECS = 2.0
"""Between a worker's sign of life and the next question for one."""

FROZEN_SECS = 10.0
"""A worker whose event loop does not answer for so long serves nobody either: it is killed, and replaced. The longest
that a loop is kept from its turn by a burst of work is a second or two; a machine that is three times slower has time
left, and the seconds are counted by the supervisor, which such a machine delays too. Clients that wait without a
deadline of their own wait for so long."""

START_SECS = 60.0
"""For a worker to serve: some seconds on a busy machine, and the time that the upstream may take to answer."""


class WorkerProcess:
    """One process. `generation` is that of the configuration that it uses."""

    def __init__(self, number: int, generation: int, process: trio.Process, sock: socket.socket) -> None:
        """Take over the supervisor's end of the link; `answer_with` must follow before `run`."""
        self.number = number
        self.generation = generation
        self.served = trio.Event()
        self._serves_since: float | None = None
        self.failure: tuple[list[str], int] | None = None
        """Why it could not start, in sentences, and with which exit status the command would end."""
        self._process = process
        self._socket = sock
        self.link: Link

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_serving(self) -> bool:
        """Whether it accepts clients now, and so may know something of users and cursors."""
        return self.served.is_set() and self._process.returncode is None

    @property
    def ended_by(self) -> str:
        """How it has ended, for the log."""
        status = self._process.returncode or 0
        return f"signal {-status}" if status < 0 else f"exit status {status}"

    @property
    def served_secs(self) -> float:
        """For how long it has served; 0 when it never did."""
        return 0.0 if self._serves_since is None else trio.current_time() - self._serves_since

    def serves(self) -> None:
        """It accepts clients from now on."""
        self._serves_since = trio.current_time()
        self.served.set()

    def answer_with(self, answerers: Mapping[str, Answerer], at_once: Mapping[str, AnswererAtOnce]) -> None:
        """Who answers its questions."""
        self.link = Link(self._socket, answerers, at_once, max_received=MAX_FROM_WORKER_BYTES)

    async def run(self, first: Fields) -> None:
        """Hand over its first instructions, and return when the process has ended. Ends it when cancelled."""
        link_ended = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_link, link_ended)
                self.link.tell("start", first)
                nursery.start_soon(self._watch)
                await self._process.wait()
                with trio.move_on_after(LAST_WORDS_SECS):
                    await link_ended.wait()
                nursery.cancel_scope.cancel()
        finally:
            self.link.close()
            self.kill()
            with trio.CancelScope(shield=True):
                await self._process.wait()

    async def ask(self, kind: str, fields: Fields | None = None, *, within_secs: float) -> Fields | None:
        """Its answer; None when there is none in time."""
        try:
            return await self.link.ask(kind, fields, within_secs=within_secs)
        except (LinkLost, LinkRefused, trio.TooSlowError):
            return None

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._process.returncode is None:
            self._process.kill()

    async def ended(self, within_secs: float) -> bool:
        """Whether it has ended in time."""
        with trio.move_on_after(within_secs):
            await self._process.wait()
        return self._process.returncode is not None

    async def _keep_link(self, ended: trio.Event) -> None:
        await self.link.run()
        ended.set()
        await trio.sleep(END_SECS)
        self.kill()

    async def _watch(self) -> None:
        with trio.move_on_after(START_SECS):
            await self.served.wait()
        if not self.served.is_set():
            log.error("worker %d (pid %d) does not begin to serve, and is ended", self.number, self.pid)
            self.kill()
        while self.is_serving:
            await trio.sleep(PING_SECS)
            try:
                await self.link.ask("ping", within_secs=FROZEN_SECS)
            except trio.TooSlowError:
                log.error(
                    "worker %d (pid %d) has not answered for %.0f s: it is stopped, or hangs; it is killed, and its"
                    " clients lose their connections",
                    self.number,
                    self.pid,
                    FROZEN_SECS,
                )
                self.kill()
                return
            except (LinkLost, LinkRefused):
                return


async def start_worker_process(
    command: Sequence[str], number: int, generation: int, descriptors: Sequence[int]
) -> WorkerProcess:
    """Start the command, which gets the number of its end of the link as its last argument, and inherits `descriptors`.

    Nothing of the configuration is in its arguments or its environment.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        process = await trio.lowlevel.open_process(
            [*command, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno(), *descriptors],
            env={**os.environ, "PYTHONPATH": _module_path()},
        )
    return WorkerProcess(number, generation, process, ours)


def _module_path() -> str:
    """Where this process finds modules: the worker must not find others, nor look into its working directory."""
    return os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)
