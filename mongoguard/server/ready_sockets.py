"""Ready sockets: what comes on a watched socket is served inside of Trio's loop, without waking a task.

In: sockets, each with a function to call when something has come. Out: the calls. Must not know what they do.

A task that waits for a socket costs Trio some 25 µs each time: a system call that arms the socket, a turn of the
loop, a switch to the task. A relayed request waits twice. Here a socket is armed once in its life (edge-triggered), and
what is called is a function. `ReadySockets` is Trio's clock, because Trio asks its clock how long it may sleep when no
task is runnable: that is when watched sockets are served, for as long as nothing comes for Trio, whose own epoll is
watched too. While tasks are runnable, watched sockets get one look in each turn of Trio's loop. docs/adr/0009 has the
figures.
"""

from __future__ import annotations

import logging
import math
import select
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

import trio

from mongoguard.server.allocator import keep_freed_memory
from mongoguard.server.looking import Looking

__all__ = ["ENDED", "ReadySockets", "call_after_stops", "ready_sockets", "run_with_ready_sockets"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Call: TypeAlias = Callable[[], None]

MAX_EVENTS = 64
"""Sockets served in one look. The kernel gives the others their turn in the next, and Trio's own epoll too."""

STOPPED_SECS = 2.0
"""A server's loop turns twice a second at least: whoever did not for so long was stopped, or as good as that."""

_WATCHED = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
"""What tells of an end, once, perhaps together with a last request in front of it."""


class ReadySockets(trio.abc.Clock, trio.abc.Instrument):
    """Sockets that are served between the tasks. Everything here is called in the thread that Trio runs in."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._epoll = select.epoll()
        self._calls: dict[int, Call] = {}
        self._again: list[Call] = []
        self._trio = -1
        self._look_for_secs = 0.0
        self.looking = Looking()
        self._has_woken = False
        self._after_stop: Call | None = None
        self._seen_at = _time_with_suspension()

    @property
    def is_usable(self) -> bool:
        """Whether this version of Trio shows what is needed."""
        return self._trio != -1

    # ---- for those who have sockets ---------------------------------------------------------------------------------

    def watch(self, descriptor: int, call: Call) -> None:
        """Call that function each time something comes, and soon if something has come already.

        It must not block. It may be called when there is nothing.
        """
        if descriptor in self._calls:
            self._epoll.modify(descriptor, _WATCHED)  # tells again of what is there
        else:
            self._epoll.register(descriptor, _WATCHED)
        self._calls[descriptor] = call

    def forget(self, descriptor: int) -> None:
        """Before a socket is closed, watched or not."""
        if self._calls.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def call_again(self, call: Call) -> None:
        """Call that function after all sockets that are ready now: nobody is served twice before the others."""
        self._again.append(call)

    def call_after_stops(self, call: Call) -> None:
        """Call that function first of all when the process goes on after it was stopped for `STOPPED_SECS`."""
        self._after_stop = call

    def look_for(self, secs: float) -> None:
        """Before sleeping the next time, look for that long whether something comes."""
        self._look_for_secs = secs

    # ---- for Trio ---------------------------------------------------------------------------------------------------

    def start_clock(self) -> None:
        """See `trio.abc.Clock`."""
        try:
            self._trio = _epoll_of_trio()
        except AttributeError:
            log.warning(
                "Trio %s is not known here: requests are served by tasks, more slowly", trio.__version__
            )
            return
        self._epoll.register(self._trio, select.EPOLLIN)

    def current_time(self) -> float:
        """See `trio.abc.Clock`."""
        return time.perf_counter()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """See `trio.abc.Clock`: no task is runnable until `deadline`. Sleeps itself, so Trio need not."""
        if not self.is_usable:
            return deadline - time.perf_counter()
        while not self._look(deadline):
            pass
        return 0.0

    def before_io_wait(self, _timeout: float) -> None:
        """See `trio.abc.Instrument`. Trio is about to look at its own sockets, and will not sleep: see above."""
        if self.is_usable:
            self._look(-math.inf)

    def after_io_wait(self, _timeout: float) -> None:
        """See `trio.abc.Instrument`. What Trio has waited for is there, and no task has run yet."""
        self._notice_stop()

    def task_scheduled(self, _task: trio.lowlevel.Task) -> None:
        """See `trio.abc.Instrument`. A call has made a task runnable."""
        self._has_woken = True

    def after_run(self) -> None:
        """See `trio.abc.Instrument`."""
        self._epoll.close()

    def _look(self, deadline: float) -> bool:
        """Serve what is ready, sleeping until something is. Whether Trio has something to do, at `deadline` at last."""
        self._has_woken = False
        is_for_trio = False
        events = self._events(self._may_sleep(deadline))
        self._notice_stop()
        for descriptor, kinds in events:
            if descriptor == self._trio:
                is_for_trio = True
            else:
                call = self._calls.get(descriptor)
                if call is not None:  # another call may have forgotten it
                    self._serve(call)
                    if kinds & ENDED:
                        self._again.append(call)  # the end may be behind what was read, and is told only once
        again, self._again = self._again, []
        for call in again:
            self._serve(call)
        return is_for_trio or self._has_woken or time.perf_counter() >= deadline

    def _events(self, timeout: float) -> list[tuple[int, int]]:
        if timeout and self._look_for_secs:
            until = time.perf_counter() + self._look_for_secs
            self._look_for_secs = 0.0
            while time.perf_counter() < until:
                events = self._epoll.poll(0.0, MAX_EVENTS)
                if events:
                    return events
        return self._epoll.poll(timeout, MAX_EVENTS)

    def _notice_stop(self) -> None:
        before, self._seen_at = self._seen_at, _time_with_suspension()
        if self._seen_at - before > STOPPED_SECS and self._after_stop is not None:
            log.warning(
                "this process did not run for %.0f s: it was stopped, or the machine is too busy",
                self._seen_at - before,
            )
            self._after_stop()

    def _may_sleep(self, deadline: float) -> float:
        if self._again or deadline == -math.inf:
            return 0.0
        return -1.0 if deadline == math.inf else max(0.0, deadline - time.perf_counter())

    @staticmethod
    def _serve(call: Call) -> None:
        try:
            call()
        except Exception:
            # Raised, it would end Trio, and with it everybody's connection.
            log.exception("an internal error while a socket was served")


def _time_with_suspension() -> float:
    """Seconds that pass while the machine is suspended, too, as those of no other clock here do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _epoll_of_trio() -> int:
    """The descriptor of what the running Trio waits with. Raises AttributeError where Trio has it elsewhere."""
    runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner  # noqa: SLF001  (no public name; without it, tasks serve all)
    return runner.io_manager._epoll.fileno()  # noqa: SLF001


def ready_sockets() -> ReadySockets | None:
    """Those of the running Trio; None where it is not known, or runs by another clock, as in most tests."""
    clock = trio.lowlevel.current_clock()
    return clock if isinstance(clock, ReadySockets) and clock.is_usable else None


def call_after_stops(call: Call) -> None:
    """As `ReadySockets.call_after_stops`, of the running Trio; nothing where it has another clock."""
    clock = trio.lowlevel.current_clock()
    if isinstance(clock, ReadySockets):
        clock.call_after_stops(call)


def run_with_ready_sockets(work: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """`trio.run`, with `ready_sockets()` inside, for a process that relays."""
    keep_freed_memory()
    ready = ReadySockets()
    return trio.run(work, *arguments, clock=ready, instruments=[ready])
