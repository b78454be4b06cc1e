"""Transport: bytes over a socket, with as little between as Trio allows.

In: a connected socket, with or without TLS. Out: received chunks and messages, sent bytes. Must not
know what messages mean.

The socket is used directly, with `trio.lowlevel.wait_readable` where it would block. Trio's own streams add a
checkpoint, and so one more turn of the event loop, to every call that does not block: about 15 µs of the 60 that a
relayed request may cost. Fairness does not suffer: each request waits at least twice (for the client, for the
upstream), and each wait is a checkpoint.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

import trio

from mongoguard.server.ready_sockets import ready_sockets
from mongoguard.wire.framing import MessageReader

__all__ = [
    "CHUNK_BYTES",
    "STALLED_SECS",
    "SocketTransport",
    "TLSTransport",
    "Transport",
    "read_message",
    "read_rest",
    "shake_hands",
]

T = TypeVar("T")

CHUNK_BYTES = 64 * 1024
"""Bytes asked for when nothing is known: a point read fits many times, and the allocator keeps blocks of this size."""

STALLED_SECS = 600
"""A peer that takes not one byte for this long will not take the rest: what is kept for it is given up."""


class Transport(Protocol):
    """One connected peer. `receive` returns b"" at the end of the stream; all raise OSError, a Trio resource error, or
    `trio.TooSlowError` when the peer takes nothing any more.
    """

    async def receive(self) -> bytes:
        """The first chunk of a message: waits before it looks, for there is hardly ever anything yet."""

    def receive_soon(self, within_secs: float) -> bytes | None:
        """The next chunk if it comes within that time, without giving way to anything else; None if it does not."""

    async def receive_into(self, room: memoryview) -> int:
        """More of a message under way, written into `room`; 0 at the end of the stream. Looks before it waits."""

    async def send_all(self, data: bytes | memoryview) -> None:
        """Send everything."""

    async def wait_for_news(self) -> None:
        """Return when there is something to read, or the end of the stream; nothing is read."""

    hides_news: bool
    """Whether bytes may wait to be received that the socket tells nothing of any more."""

    def fileno(self) -> int:
        """The socket's descriptor; -1 when it is closed."""

    def receive_now(self) -> bytes | None:
        """What has come, as `receive`; None when nothing has."""

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what can be sent without waiting, and return how many bytes that were."""

    def has_news(self) -> bool:
        """Whether there is something to read (or the end of the stream) on an idle connection."""

    def peer_is_gone(self) -> bool:
        """Whether the peer has closed its end; bytes that wait are not read."""

    def close(self) -> None:
        """Close at once; tasks that wait on it wake up with an error. May be called twice."""


class SocketTransport:
    """A plain TCP or Unix socket."""

    __slots__ = ("_socket",)

    hides_news = False

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _keep_alive(sock)
        self._socket = sock

    async def receive(self) -> bytes:
        """See `Transport`."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(CHUNK_BYTES)
            except BlockingIOError:
                continue

    def receive_soon(self, within_secs: float) -> bytes | None:
        """See `Transport`."""
        deadline = time.perf_counter() + within_secs
        while True:
            try:
                return self._socket.recv(CHUNK_BYTES)
            except BlockingIOError:
                if time.perf_counter() > deadline:
                    return None

    async def receive_into(self, room: memoryview) -> int:
        """See `Transport`."""
        while True:
            try:
                return self._socket.recv_into(room)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)

    async def send_all(self, data: bytes | memoryview) -> None:
        """See `Transport`."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        view = memoryview(data)[sent:]
        while view:
            with trio.fail_after(STALLED_SECS):
                await trio.lowlevel.wait_writable(self._socket)
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                continue

    async def wait_for_news(self) -> None:
        """See `Transport`."""
        await trio.lowlevel.wait_readable(self._socket)

    def fileno(self) -> int:
        """See `Transport`."""
        return self._socket.fileno()

    def receive_now(self) -> bytes | None:
        """See `Transport`."""
        try:
            return self._socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return None

    def send_now(self, data: bytes | memoryview) -> int:
        """See `Transport`."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def has_news(self) -> bool:
        """See `Transport`."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def peer_is_gone(self) -> bool:
        """See `Transport`."""
        return _has_ended(self._socket.fileno())

    def close(self) -> None:
        """See `Transport`."""
        if self._socket.fileno() != -1:
            _tell_of_closing(self._socket)
            with suppress(OSError):
                self._socket.close()


class TLSTransport:
    """A TLS connection to a client or to the upstream; its handshake is done.

    The socket is Python's own, without Trio's stream: its records are decrypted into the place where a message grows.
    """

    __slots__ = ("_socket",)

    hides_news = True  # OpenSSL takes one record at a time, and may hold a part of it

    def __init__(self, sock: ssl.SSLSocket) -> None:
        """Take over a non-blocking socket."""
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _keep_alive(sock)
        self._socket = sock

    async def receive(self) -> bytes:
        """See `Transport`. At most one record, of which a piece may be left from the call before."""
        if not self._socket.pending():
            await trio.lowlevel.wait_readable(self._socket)
        return await _when_ready(self._socket, partial(self._socket.recv, CHUNK_BYTES))

    def receive_soon(self, within_secs: float) -> bytes | None:
        """Never: what comes on the socket is a record, which may hold no byte of a message."""

    async def receive_into(self, room: memoryview) -> int:
        """See `Transport`."""
        return await _when_ready(self._socket, partial(self._socket.recv_into, room))

    async def send_all(self, data: bytes | memoryview) -> None:
        """See `Transport`."""
        view = memoryview(data)
        while view:
            sent = await _when_ready(self._socket, partial(self._socket.send, view), STALLED_SECS)
            view = view[sent:]

    async def wait_for_news(self) -> None:
        """See `Transport`. A record that means nothing counts as news too."""
        if not self._socket.pending():
            await trio.lowlevel.wait_readable(self._socket)

    def fileno(self) -> int:
        """See `Transport`."""
        return self._socket.fileno()

    def receive_now(self) -> bytes | None:
        """See `Transport`."""
        try:
            return self._socket.recv(CHUNK_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def send_now(self, data: bytes | memoryview) -> int:
        """See `Transport`."""
        try:
            return self._socket.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def has_news(self) -> bool:
        """TLS may hold records that mean nothing (session tickets), so only the end of the stream counts."""
        return self.peer_is_gone()

    def peer_is_gone(self) -> bool:
        """See `Transport`."""
        return _has_ended(self._socket.fileno())

    def close(self) -> None:
        """See `Transport`. The peer is told (close_notify), but nobody waits for its answer."""
        if self._socket.fileno() != -1:
            _tell_of_closing(self._socket)
            with suppress(OSError, ValueError):
                self._socket.unwrap()
            with suppress(OSError):
                self._socket.close()


async def shake_hands(sock: ssl.SSLSocket) -> None:
    """The TLS handshake on a non-blocking socket. Raises OSError (`ssl.SSLError` among them); sets no deadline."""
    await _when_ready(sock, sock.do_handshake)


async def _when_ready(sock: ssl.SSLSocket, work: Callable[[], T], within_secs: float = math.inf) -> T:
    """Do something as soon as TLS can, which may have to read in order to write, and the other way round.

    Raises `trio.TooSlowError` when the socket is not ready within that time.
    """
    while True:
        try:
            return work()
        except ssl.SSLWantReadError:
            wait = trio.lowlevel.wait_readable
        except ssl.SSLWantWriteError:
            wait = trio.lowlevel.wait_writable
        with trio.fail_after(within_secs):
            await wait(sock)


async def read_message(transport: Transport, reader: MessageReader, soon_secs: float = 0.0) -> bytes | None:
    """The next whole message; None at the end of the stream. Raises as the transport and the reader do.

    `soon_secs`: how long to look for it before giving way to other tasks.
    """
    chunk = transport.receive_soon(soon_secs) if soon_secs else None
    if chunk is None:
        chunk = await transport.receive()
    message = reader.receive(chunk) if chunk else None
    return message if message is not None or not chunk else await read_rest(transport, reader)


async def read_rest(transport: Transport, reader: MessageReader) -> bytes | None:
    """The rest of a message that has begun; None at the end of the stream."""
    while True:
        with reader.room() as room:
            count = await transport.receive_into(room)
        if not count:
            return None
        message = reader.received(count)
        if message is not None:
            return message


def _tell_of_closing(sock: socket.socket) -> None:
    ready = ready_sockets()
    if ready is not None:
        ready.forget(sock.fileno())
    trio.lowlevel.notify_closing(sock)


def _has_ended(descriptor: int) -> bool:
    """Whether the peer has closed its end, or we ours. Asked of the kernel, so bytes that wait do not hide it."""
    if descriptor == -1:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)  # errors and hang-ups are told unasked
    return bool(poll.poll(0))


def _keep_alive(sock: socket.socket) -> None:
    """Notice a peer that vanished without a word: probes after 60 s of silence, dead after 6 unanswered, 10 s apart."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6)
