"""One connection to an upstream server: opened, logged in, used for one request at a time.

In: an address, the service credential, whole messages. Out: whole replies. Must not know pools or clients.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import bson
import trio

from mongoguard import __version__
from mongoguard.authn.upstream_login import MIN_NONCE_BYTES, upstream_login
from mongoguard.errors import (
    CommandError,
    ProtocolError,
    UpstreamConnectionLost,
    UpstreamError,
    UpstreamUnavailable,
)
from mongoguard.server.ready_sockets import ReadySockets
from mongoguard.server.splicing import Pipe
from mongoguard.server.transport import (
    SocketTransport,
    TLSTransport,
    Transport,
    read_message,
    read_rest,
    shake_hands,
)
from mongoguard.server.upstream_uri import UpstreamAddress
from mongoguard.wire.compression import COMPRESSORS, compress_message, decompress_message
from mongoguard.wire.document import encode
from mongoguard.wire.framing import MessageReader
from mongoguard.wire.message import (
    MAX_MESSAGE_BYTES,
    OpCode,
    OpMsg,
    encode_op_msg,
    parse_message,
)

__all__ = ["UpstreamConnection", "decode_reply", "open_upstream_connection"]

CLIENT_METADATA: Mapping[str, Any] = {
    "application": {"name": "mongoguard"},
    "driver": {"name": "mongoguard", "version": __version__},
    "os": {"type": platform.system()},
}

T = TypeVar("T")

IN_THREAD_BYTES = 256 * 1024
"""(De)compressing more than this takes milliseconds, in which no other client would be served."""

_threads = trio.CapacityLimiter(2)
"""Long messages that are (de)compressed at a time: few, so that they cannot crowd out anything else."""

NEVER_COMPRESSED = tuple(
    name.encode() + b"\0"
    for name in (
        *("authenticate", "createUser", "hello", "isMaster"),
        *("ismaster", "saslContinue", "saslStart", "updateUser"),
    )
)
"""Commands that the specification "Wire Compression in Drivers" excepts: their length would tell of a secret."""

_COMPRESSED = OpCode.COMPRESSED.to_bytes(4, "little")
_BODY_SECTION = 20
_FIRST_NAME = 26
"""Where the body section's kind is, and, if that comes first, the name of the body's first field."""

BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


class UpstreamConnection:
    """A logged-in connection. `hello` is the server's answer when it was opened.

    `compressor`: the id of what both sides compress with; None for plain messages. `zlib_level`: how hard zlib tries.
    """

    __slots__ = (
        "_asked",
        "_is_watched",
        "_reader",
        "_transport",
        "address",
        "compressor",
        "hello",
        "idle_since",
        "on_news",
        "zlib_level",
    )

    def __init__(self, transport: Transport, address: str) -> None:
        """Take over a connected transport; `log_in` comes next."""
        self.address = address
        self.hello: Mapping[str, Any] = {}
        self.idle_since = 0.0
        self.compressor: int | None = None
        self.zlib_level = -1
        self.on_news: Callable[[], None] | None = None
        """Called when something has come for a request of `send_at_once`, and when this is closed."""
        self._asked = b""
        self._is_watched = False
        self._transport = transport
        self._reader = MessageReader(MAX_MESSAGE_BYTES)

    async def exchange(self, message: bytes, soon_secs: float = 0.0) -> bytes:
        """Send a request and receive its reply. `soon_secs`: how long to look for it before giving way.

        Raises `UpstreamConnectionLost`; the connection must then be closed, as it must when this is cancelled: the
        reply is still on its way. A reply to another request is treated like a lost connection.
        """
        self._asked = message[4:8]
        try:
            if self.compressor is not None:
                return await self._exchange_compressed(message, self.compressor, soon_secs)
            await self._transport.send_all(message)
            reply = await read_message(self._transport, self._reader, soon_secs)
        except BROKEN as error:
            raise UpstreamConnectionLost(f"{self.address}: {type(error).__name__}") from error
        except ProtocolError as error:
            raise UpstreamConnectionLost(f"{self.address} sent what is no message: {error}") from error
        return self._checked(reply)

    async def _exchange_compressed(self, message: bytes, compressor: int, soon_secs: float) -> bytes:
        sent = message
        if _may_be_compressed(message):
            compress = partial(compress_message, zlib_level=self.zlib_level)
            sent = await _in_thread_if_long(len(message), compress, message, compressor)
        await self._transport.send_all(sent)
        reply = self._checked(await read_message(self._transport, self._reader, soon_secs))
        if reply[12:16] != _COMPRESSED:
            return reply
        declared = int.from_bytes(reply[20:24], "little")
        plain, _ = await _in_thread_if_long(declared, decompress_message, reply, MAX_MESSAGE_BYTES)
        return plain

    # ---- the same in steps, for a task that sleeps meanwhile (server/quick_requests.py) ------------------------------

    def send_at_once(self, message: bytes, ready: ReadySockets, on_news: Callable[[], None]) -> int:
        """Send a request as far as it goes without waiting, and return how far; 0 also when the connection is lost."""
        self._asked = message[4:8]
        self.on_news = on_news
        if not self._is_watched:
            ready.watch(self._transport.fileno(), self._tell)
            self._is_watched = True
        try:
            return self._transport.send_now(message)
        except BROKEN:
            return 0

    def receive_at_once(self) -> bytes | None:
        """What has come; None when nothing has, b"" when the connection is lost."""
        try:
            return self._transport.receive_now()
        except BROKEN:
            return b""

    @property
    def hides_news(self) -> bool:
        """See `Transport`. Without TLS, what comes may be taken by `take_at_once`."""
        return self._transport.hides_news

    def take_at_once(self, pipe: Pipe, count: int) -> int:
        """Up to `count` of the bytes that have come, into that pipe: give them on at once.

        Raises BlockingIOError when nothing has come, `UpstreamConnectionLost` when the connection is lost.
        """
        try:
            taken = pipe.take(self._transport.fileno(), count)
        except BlockingIOError:
            raise
        except BROKEN as error:
            raise UpstreamConnectionLost(f"{self.address}: {type(error).__name__}") from error
        if not taken:
            raise UpstreamConnectionLost(f"{self.address} closed the connection")
        return taken

    def is_answer(self, reply: bytes) -> bool:
        """Whether a reply is to the request that was sent last."""
        return reply[8:12] == self._asked

    async def begin(self, message: bytes) -> bytes:
        """Send a request, and receive the first bytes of its reply, for `finish`. Raises `UpstreamConnectionLost`."""
        self._asked = message[4:8]
        try:
            await self._transport.send_all(message)
            return await self._transport.receive()
        except BROKEN as error:
            raise UpstreamConnectionLost(f"{self.address}: {type(error).__name__}") from error

    async def finish(self, unsent: bytes, received: bytes) -> bytes:
        """Send the rest of a request and receive the rest of its reply. Raises as `exchange` does."""
        try:
            if unsent:
                await self._transport.send_all(unsent)
                received = await self._transport.receive()
            reply = self._reader.receive(received) if received else None
            if reply is None and received:
                reply = await read_rest(self._transport, self._reader)
        except BROKEN as error:
            raise UpstreamConnectionLost(f"{self.address}: {type(error).__name__}") from error
        except ProtocolError as error:
            raise UpstreamConnectionLost(f"{self.address} sent what is no message: {error}") from error
        return self._checked(reply)

    async def receive_exactly(self, count: int) -> bytearray:
        """The next `count` bytes of a reply that has begun. Raises `UpstreamConnectionLost`."""
        room, filled = bytearray(count), 0
        try:
            while filled < count:
                with memoryview(room)[filled:] as rest:
                    received = await self._transport.receive_into(rest)
                if not received:
                    raise UpstreamConnectionLost(f"{self.address} closed the connection")
                filled += received
        except BROKEN as error:
            raise UpstreamConnectionLost(f"{self.address}: {type(error).__name__}") from error
        return room

    def _tell(self) -> None:
        if self.on_news is not None:
            self.on_news()

    def _checked(self, reply: bytes | None) -> bytes:
        if reply is None:
            raise UpstreamConnectionLost(f"{self.address} closed the connection")
        if not self.is_answer(reply) or self._reader.in_message:
            raise UpstreamConnectionLost(f"{self.address} answered another request")
        return reply

    async def ask(self, db: str, command: Mapping[str, Any]) -> dict[str, Any]:
        """Run a command of mongoguard's own; the answer may have ok: 0. Raises `UpstreamConnectionLost`."""
        return decode_reply(await self.exchange(encode_op_msg(1, 0, encode({**command, "$db": db}))))

    def is_usable(self) -> bool:
        """Whether an idle connection is still open: nothing may come on it unasked."""
        return not self._transport.has_news()

    def close(self) -> None:
        """Close at once; the server ends what runs on it."""
        self._transport.close()
        self._tell()


def _may_be_compressed(message: bytes) -> bool:
    """Not when it is one of the commands that may not be, nor when it does not begin with the body that tells."""
    return message[_BODY_SECTION] == 0 and not message.startswith(NEVER_COMPRESSED, _FIRST_NAME)


async def _in_thread_if_long(size: int, work: Callable[[bytes, int], T], message: bytes, argument: int) -> T:
    if size < IN_THREAD_BYTES:
        return work(message, argument)
    return await trio.to_thread.run_sync(work, message, argument, limiter=_threads)


def decode_reply(reply: bytes) -> dict[str, Any]:
    """The body of a reply to a command of mongoguard's own. Raises `UpstreamConnectionLost` when it is none."""
    try:
        parsed = parse_message(reply)
    except (ProtocolError, CommandError) as error:
        raise UpstreamConnectionLost("the upstream sent what is no reply") from error
    if not isinstance(parsed, OpMsg):
        raise UpstreamConnectionLost("the upstream sent what is no reply")
    # The server is trusted here: mongoguard asked it, and no client chose the answer's keys.
    return bson.decode(parsed.body.raw)


async def open_upstream_connection(
    address: str, upstream: UpstreamAddress, within_secs: float
) -> UpstreamConnection:
    """Connect, shake hands and log in within that many seconds. Raises `UpstreamUnavailable`."""
    connection: UpstreamConnection | None = None
    try:
        with trio.fail_after(within_secs):
            connection = UpstreamConnection(await _connect(address, upstream), address)
            hello: dict[str, Any] = {"hello": 1, "helloOk": True, "client": CLIENT_METADATA}
            if upstream.compressors:
                hello["compression"] = list(upstream.compressors)
            connection.hello = await connection.ask("admin", hello)
            await _log_in(connection, upstream)
            connection.compressor = _negotiated(connection.hello, upstream.compressors)
            connection.zlib_level = upstream.zlib_level
            return connection
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, trio.TooSlowError):
            raise UpstreamUnavailable(f"{address} did not answer within {within_secs:g} s") from error
        if isinstance(error, (UpstreamError, *BROKEN)):
            raise UpstreamUnavailable(f"{address}: {_reason(error)}") from error
        raise


def _negotiated(hello: Mapping[str, Any], wanted: tuple[str, ...]) -> int | None:
    """The id of the compressor wanted most that the server has too."""
    offered = hello.get("compression") or ()
    common = [name for name in wanted if name in offered]
    return next((one.id for one in COMPRESSORS.values() if one.name in common[:1]), None)


def _reason(error: BaseException) -> str:
    """In the words of whoever knows: Trio wraps the errors of TLS and of sockets in an exception without a text."""
    return str(error) or str(error.__cause__ or "") or type(error).__name__


async def _log_in(connection: UpstreamConnection, upstream: UpstreamAddress) -> None:
    if upstream.credential is None:
        return
    login = upstream_login(upstream.credential, os.urandom(MIN_NONCE_BYTES))
    try:
        command = next(login)
        while True:
            db = command.pop("$db")
            command = login.send(await connection.ask(db, command))
    except StopIteration:
        return


async def _connect(address: str, upstream: UpstreamAddress) -> Transport:
    if address.startswith("/"):
        unix = await trio.open_unix_socket(address)
        return SocketTransport(_detached(unix))
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    stream = await trio.open_tcp_stream(host, int(port))
    if upstream.tls is None:
        return SocketTransport(_detached(stream))
    tls = upstream.tls.wrap_socket(_detached(stream), do_handshake_on_connect=False, server_hostname=host)
    try:
        await shake_hands(tls)
    except BaseException:
        tls.close()
        raise
    return TLSTransport(tls)


def _detached(stream: trio.SocketStream) -> socket.socket:
    """The plain socket of a Trio stream, whose own wrapping is not needed any more."""
    plain = socket.socket(fileno=stream.socket.detach())
    plain.setblocking(False)
    return plain
