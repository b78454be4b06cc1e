"""Where audit events go: one JSON line each, in order, on standard output or in a file.

In: `AuditEvent`s. Out: lines. Must not know what the events mean.

The promise is that nothing is dropped while the process lives: `write` returns once its line is in a bounded queue,
and waits while the queue is full. A disk that is full, or a pipe that nobody reads, therefore stops the clients and
not the audit. One task takes the lines out in batches and writes them in a thread of its own, so that a slow disk
never stops the event loop. At shutdown what is queued is written, within a bounded grace.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from mongoguard.config.sections import AuditLog
from mongoguard.errors import ConfigError
from mongoguard.observe.event import AuditEvent, to_json

__all__ = [
    "AuditSink",
    "CountingSink",
    "DiscardingSink",
    "LineOutput",
    "LineSink",
    "TakingTurns",
    "open_audit_sink",
]

QUEUE_LINES = 1024
"""Lines that wait in memory: at 8 KB at most some 8 MB, and a second's work of a busy proxy."""
BATCH_BYTES = 262_144
"""Bytes for one write call: large enough that a thread's round trip (about 50 us) is spread over many lines."""
RETRY_SECS = 1.0
"""Between two attempts on an output that fails: a disk is freed by people, not within milliseconds."""
FLUSH_GRACE_SECS = 10.0
"""How long shutdown waits for the output; service managers kill after 90 s (systemd) or 10 s more (containers)."""

_log = logging.getLogger("mongoguard.audit")


class AuditSink(Protocol):
    """What the rest of the shell sees of a sink."""

    async def write(self, event: AuditEvent) -> None:
        """Return once the event is taken and will be written; wait while the sink can't keep up."""

    def take(self, event: AuditEvent) -> bool:
        """Whether the event is taken, and will be written; not when that has to be waited for."""

    def reopen(self) -> None:
        """Open the file by its name again (after rotation, on SIGUSR1). Returns at once."""


class DiscardingSink:
    """The sink of a configuration without an auditLog section."""

    async def write(self, event: AuditEvent) -> None:
        """Nothing is written."""

    def take(self, event: AuditEvent) -> bool:  # noqa: ARG002  (there is nowhere to write it)
        """Nothing is written."""
        return True

    def reopen(self) -> None:
        """There is no file."""


class CountingSink:
    """Another sink, and how many refusals of commands have gone into it, whether or not it writes them."""

    def __init__(self, sink: AuditSink) -> None:
        """There have been none."""
        self.refused = 0
        self._sink = sink

    async def write(self, event: AuditEvent) -> None:
        """See `AuditSink`."""
        await self._sink.write(event)
        self._count(event)

    def take(self, event: AuditEvent) -> bool:
        """See `AuditSink`."""
        is_taken = self._sink.take(event)
        if is_taken:
            self._count(event)
        return is_taken

    def reopen(self) -> None:
        """See `AuditSink`."""
        self._sink.reopen()

    def _count(self, event: AuditEvent) -> None:
        self.refused += event.atype == "authCheck" and event.result != 0


class Output(Protocol):
    """Where bytes go; called from one thread at a time, may block, raises OSError."""

    def write(self, data: bytes) -> int:
        """Write some of the bytes, at least one; how many."""

    def reopen(self) -> None:
        """Open by name again; on an error the old file stays in use."""

    def close(self) -> None:
        """Let go."""


class LineOutput:
    """A file opened for appending (created for its owner only), or standard output when `path` is None."""

    def __init__(self, path: str | None) -> None:
        """Open it. Raises OSError."""
        self._path = path
        self._fd = 1 if path is None else _open_append(path)

    def write(self, data: bytes) -> int:
        """One write call: short when the disk fills up."""
        return os.write(self._fd, data)

    def reopen(self) -> None:
        """The new file is open before the old one is let go. Standard output has nothing to reopen."""
        if self._path is None:
            return
        old, self._fd = self._fd, _open_append(self._path)
        os.close(old)

    def close(self) -> None:
        """Close the file; standard output belongs to the process."""
        if self._path is not None:
            os.close(self._fd)


class TakingTurns:
    """An output that several processes write to, one at a time, so that a line is never inside of another one.

    A line that is written in part (a disk that is full) keeps the turn until its rest is written. The turn is a lock of
    the process's own (fcntl(2)), which ends with it.
    """

    def __init__(self, output: Output, turns: int) -> None:
        """`turns` is a descriptor of any file that all these processes have open, and never close."""
        self._output = output
        self._turns = turns
        self._in_line = False

    def write(self, data: bytes) -> int:
        """See `Output`."""
        if not self._in_line:
            fcntl.lockf(self._turns, fcntl.LOCK_EX)
        try:
            written = self._output.write(data)
            self._in_line = data[written - 1 : written] != b"\n"
        finally:
            if not self._in_line:
                fcntl.lockf(self._turns, fcntl.LOCK_UN)
        return written

    def reopen(self) -> None:
        """See `Output`. A line that is half in the old file is written whole into the new one."""
        self._output.reopen()

    def close(self) -> None:
        """See `Output`."""
        self._output.close()


def _open_append(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


class LineSink:
    """The queue, and the task (`run`) that empties it."""

    def __init__(self, output: Output, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since the epoch, for the events' `ts`."""
        self._output = output
        self._clock = clock
        self._send, self._receive = trio.open_memory_channel[bytes](QUEUE_LINES)
        self._scope = trio.CancelScope(shield=True)
        self._done = trio.Event()
        self._thread = trio.CapacityLimiter(1)
        self._reopen_wanted = False
        self._failing = False
        self._unwritten = 0

    async def write(self, event: AuditEvent) -> None:
        """Return once the line is queued. Raises `trio.ClosedResourceError` after `aclose`."""
        await self._send.send(self._line(event))

    def take(self, event: AuditEvent) -> bool:
        """Whether the line is queued: not while others wait for the queue. Raises `trio.ClosedResourceError`."""
        try:
            self._send.send_nowait(self._line(event))
        except trio.WouldBlock:
            return False
        return True

    def _line(self, event: AuditEvent) -> bytes:
        return to_json(event, self._clock()).encode() + b"\n"

    def reopen(self) -> None:
        """Done by the writer before its next write; an empty line wakes it when there is nothing to write."""
        self._reopen_wanted = True
        try:
            self._send.send_nowait(b"")
        except (trio.WouldBlock, trio.ClosedResourceError):
            return  # it is awake, or there is nobody left

    async def run(self) -> None:
        """Write until `aclose`. Shielded: a shutdown's cancellation must not lose what is queued."""
        with self._scope:
            async for line in self._receive:
                await self._write_batch(self._batch_from(line))
        self._done.set()

    async def aclose(self) -> None:
        """Take no more lines, write what is queued within FLUSH_GRACE_SECS, and say so when that was not enough."""
        self._send.close()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_GRACE_SECS):
            await self._done.wait()
        if self._done.is_set():
            self._output.close()
            return
        lines = self._unwritten + self._receive.statistics().current_buffer_used
        _log.error("Audit lines could not be written before shutdown", extra={"attr": {"lines": lines}})
        self._scope.cancel()

    def _batch_from(self, line: bytes) -> bytes:
        batch = bytearray(line)
        while len(batch) < BATCH_BYTES:
            try:
                batch += self._receive.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        return bytes(batch)

    async def _write_batch(self, batch: bytes) -> None:
        offset = 0
        while offset < len(batch) or self._reopen_wanted:
            self._unwritten = batch.count(b"\n", offset)
            if self._reopen_wanted and await self._reopen():
                # A line that is half in the old file is written whole into the new one.
                offset = batch.rfind(b"\n", 0, offset) + 1
            if offset < len(batch):
                offset += await self._write_some(batch[offset:])
        self._unwritten = 0

    async def _write_some(self, rest: bytes) -> int:
        try:
            written: int = await self._in_thread(lambda: self._output.write(rest))
        except OSError as error:
            if not self._failing:
                self._failing = True
                _log.error(
                    "The audit log can't be written; clients wait", extra={"attr": {"error": str(error)}}
                )
            await trio.sleep(RETRY_SECS)
            return 0
        if self._failing:
            self._failing = False
            _log.warning("The audit log can be written again")
        return written

    async def _reopen(self) -> bool:
        self._reopen_wanted = False
        try:
            await self._in_thread(self._output.reopen)
        except OSError as error:
            _log.error(
                "The audit log can't be opened again; the old file stays in use",
                extra={"attr": {"error": str(error)}},
            )
            return False
        return True

    async def _in_thread(self, work: Callable[[], int | None]) -> int:
        # Abandoned only when the grace at shutdown is over: a pipe that nobody reads would hold the process for ever.
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._thread) or 0


@asynccontextmanager
async def open_audit_sink(config: AuditLog | None, turns: int | None = None) -> AsyncIterator[AuditSink]:
    """The sink that `auditLog` describes, with its writer running; flushed and closed on leaving.

    `turns` is as for `TakingTurns`, when other processes write to the same place. Leave it after the last session has
    ended. Raises `ConfigError` when the file can't be opened.
    """
    if config is None:
        yield DiscardingSink()
        return
    try:
        output = LineOutput(config.path)
        sink = LineSink(output if turns is None else TakingTurns(output, turns))
    except OSError as error:
        raise ConfigError(f"auditLog.path: can't open {config.path}: {error.strerror}") from None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.run)
        try:
            yield sink
        finally:
            await sink.aclose()
