"""A TCP relay that does to a connection what a bad network does: slow links, half-open sockets, resets in mid-message.

It stands between a client and a server, whatever protocol they speak, and runs in a thread of the test's own process
(one Trio loop for all connections). Whatever is said to it holds for the connections of that moment, and, where it says
so, for new ones too.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import TypeVar

import trio

from tests.servers import free_port

__all__ = ["Direction", "Link", "ToxicRelay"]

T = TypeVar("T")

CHUNK_BYTES = 64 * 1024
"""Read at once: a small message comes whole, so that a part of a chunk is the middle of a message."""

BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Direction(StrEnum):
    """Which way bytes go."""

    REQUESTS = "from the client to the server"
    REPLIES = "from the server to the client"


@dataclass(frozen=True, slots=True)
class Link:
    """How bytes travel in one direction. What is not said is not slowed down.

    Each chunk waits `latency_secs`, and goes in pieces of `piece_bytes` with `pause_secs` after each: 20,000 bytes and
    0.1 s are a link of 200 kB/s, one byte and 0.01 s are a dribble.
    """

    latency_secs: float = 0.0
    piece_bytes: int = CHUNK_BYTES
    pause_secs: float = 0.0


@dataclass(frozen=True, slots=True)
class _Break:
    """How a connection ends: after a part of the next chunk, or after so many bytes; by a reset or in good order."""

    direction: Direction
    bytes_left: int | None
    reset: bool


@dataclass(eq=False, slots=True)
class _Connection:
    client: trio.SocketStream
    server: trio.SocketStream | None = None
    half_open: bool = False
    ending: _Break | None = None
    is_reset: bool = False
    over: trio.Event = field(default_factory=trio.Event)


class ToxicRelay:
    """Relays connections to `target` ("host:port"); perfect until told otherwise. Use it with `with`."""

    def __init__(self, target: str) -> None:
        """Prepare a relay; `start()` follows, or `with`. `port` and `address` are known at once."""
        self.port = free_port()
        self.accepted = 0
        """How many connections came so far."""
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._links = {direction: Link() for direction in Direction}
        self._new_are_half_open = False
        self._connections: set[_Connection] = set()
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()

    @property
    def address(self) -> str:
        """host:port, where clients connect to."""
        return f"127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """How many are there now, half-open ones too."""
        return len(self._connections)

    def start(self) -> ToxicRelay:
        """Listen; returns when it does."""
        self._thread = threading.Thread(target=trio.run, args=(self._run,), daemon=True)
        self._thread.start()
        assert self._ready.wait(20), "the relay does not start"
        return self

    def stop(self) -> None:
        """Reset every connection and stop listening."""
        if self._thread is not None:
            self._in_loop(self._scope.cancel)
            self._thread.join(20)
            assert not self._thread.is_alive(), "the relay does not end"
            self._thread = None

    def __enter__(self) -> ToxicRelay:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- what a network does ----------------------------------------------------------------------------------------

    def slow_down(self, link: Link, *directions: Direction) -> None:
        """All connections, new ones too, have this link in these directions (in both when none is named)."""
        for direction in directions or Direction:
            self._links[direction] = link

    def leave_half_open(self, *, new_too: bool = False) -> int:
        """Nothing goes through any more, and nothing is closed: neither side learns that the other has gone.

        For the connections of now, for ever; `new_too`: also those that come before `heal()`. Says how many were hit.
        """

        def mark() -> int:
            self._new_are_half_open = new_too
            for connection in self._connections:
                connection.half_open = True
            return len(self._connections)

        return self._in_loop(mark)

    def reset_next_message(self, direction: Direction) -> int:
        """Each connection of now is reset in the middle of the next message in that direction; how many there are."""
        return self._end_all(_Break(direction, None, reset=True))

    def cut_after(self, direction: Direction, count: int, *, reset: bool = False) -> int:
        """Each connection of now ends after `count` more bytes in that direction; how many there are."""
        return self._end_all(_Break(direction, count, reset))

    def reset_all(self, *, half_open_only: bool = False) -> int:
        """Reset the connections of now, or those that are half-open; how many there were."""

        def end() -> int:
            chosen = [one for one in self._connections if one.half_open or not half_open_only]
            for connection in chosen:
                connection.is_reset = True
                connection.over.set()
            return len(chosen)

        return self._in_loop(end)

    def heal(self) -> None:
        """Links are perfect again, and new connections work. What is half-open stays so (`reset_all` ends it)."""

        def heal() -> None:
            self._new_are_half_open = False
            self._links.update({direction: Link() for direction in Direction})
            for connection in self._connections:
                connection.ending = None

        self._in_loop(heal)

    def _end_all(self, ending: _Break) -> int:
        def mark() -> int:
            for connection in self._connections:
                connection.ending = ending
            return len(self._connections)

        return self._in_loop(mark)

    def _in_loop(self, call: Callable[[], T]) -> T:
        """What changes connections is done where they are served, between two of their steps."""
        assert self._token is not None, "the relay is not running"
        return trio.from_thread.run_sync(call, trio_token=self._token)

    # ---- relaying ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1", backlog=512)
                self._ready.set()
                await trio.serve_listeners(self._serve, listeners, handler_nursery=nursery)

    async def _serve(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        connection = _Connection(client, half_open=self._new_are_half_open)
        self._connections.add(connection)
        try:
            if connection.half_open:
                await connection.over.wait()
                return
            connection.server = await trio.open_tcp_stream(*self._target)
            await self._relay(connection, connection.server)
        except BROKEN:
            connection.is_reset = True  # what happened on one side is told to the other
        except BaseException:
            connection.is_reset = True
            raise
        finally:
            self._connections.discard(connection)
            for stream in (client, connection.server):
                if stream is not None:
                    _close(stream, reset=connection.is_reset)

    async def _relay(self, connection: _Connection, server: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            pumps = [
                (Direction.REQUESTS, connection.client, server),
                (Direction.REPLIES, server, connection.client),
            ]
            ended: list[Direction] = []

            async def pump(direction: Direction, source: trio.SocketStream, sink: trio.SocketStream) -> None:
                try:
                    await self._pump(connection, direction, source, sink)
                except BROKEN:
                    connection.is_reset = True
                    await self._half_open_for_ever(connection)
                    connection.over.set()
                ended.append(direction)
                if len(ended) == len(pumps):
                    connection.over.set()

            for one in pumps:
                nursery.start_soon(pump, *one)
            await connection.over.wait()
            nursery.cancel_scope.cancel()

    async def _pump(
        self,
        connection: _Connection,
        direction: Direction,
        source: trio.SocketStream,
        sink: trio.SocketStream,
    ) -> None:
        while True:
            chunk = await source.receive_some(CHUNK_BYTES)
            await self._half_open_for_ever(connection)
            if not chunk:
                await sink.send_eof()
                return
            ending = connection.ending
            if ending is not None and ending.direction is direction:
                chunk, is_last = _until_break(connection, ending, chunk)
            else:
                is_last = False
            await self._send(direction, sink, chunk)
            if is_last:
                connection.is_reset = ending is not None and ending.reset
                connection.over.set()
                return

    async def _half_open_for_ever(self, connection: _Connection) -> None:
        if connection.half_open:
            await connection.over.wait()

    async def _send(self, direction: Direction, sink: trio.SocketStream, chunk: bytes) -> None:
        latency_secs = self._links[direction].latency_secs
        if latency_secs:
            await trio.sleep(latency_secs)
        sent = 0
        while sent < len(chunk):
            link = self._links[
                direction
            ]  # it may have healed: 64 kB in pieces of seven bytes take half a minute
            await sink.send_all(chunk[sent : sent + link.piece_bytes])
            sent += link.piece_bytes
            if link.pause_secs:
                await trio.sleep(link.pause_secs)


def _until_break(connection: _Connection, ending: _Break, chunk: bytes) -> tuple[bytes, bool]:
    """What of a chunk is still sent, and whether the connection ends there."""
    if ending.bytes_left is None:
        return chunk[: len(chunk) // 2], True
    if len(chunk) >= ending.bytes_left:
        return chunk[: ending.bytes_left], True
    connection.ending = _Break(ending.direction, ending.bytes_left - len(chunk), ending.reset)
    return chunk, False


def _close(stream: trio.SocketStream, *, reset: bool) -> None:
    if reset:
        # SO_LINGER with no time: close() sends RST
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()
