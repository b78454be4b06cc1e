"""One connection to an upstream server: opened, logged in, used for one request at a time.

In: an address, the service credential, whole messages. Out: whole replies. Must not know pools or clients.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from typing import Any

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
from mongoguard.server.transport import SocketTransport, TLSTransport, Transport, read_message, shake_hands
from mongoguard.server.upstream_uri import UpstreamAddress
from mongoguard.wire.document import encode
from mongoguard.wire.framing import MessageReader
from mongoguard.wire.message import MAX_MESSAGE_BYTES, OpMsg, encode_op_msg, parse_message

__all__ = ["UpstreamConnection", "decode_reply", "open_upstream_connection"]

CLIENT_METADATA: Mapping[str, Any] = {
    "application": {"name": "mongoguard"},
    "driver": {"name": "mongoguard", "version": __version__},
    "os": {"type": platform.system()},
}

BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


class UpstreamConnection:
    """A logged-in connection. `hello` is the server's answer when it was opened."""

    __slots__ = ("_reader", "_transport", "address", "hello", "idle_since")

    def __init__(self, transport: Transport, address: str) -> None:
        """Take over a connected transport; `log_in` comes next."""
        self.address = address
        self.hello: Mapping[str, Any] = {}
        self.idle_since = 0.0
        self._transport = transport
        self._reader = MessageReader(MAX_MESSAGE_BYTES)

    async def exchange(self, message: bytes, soon_secs: float = 0.0) -> bytes:
        """Send a request and receive its reply. `soon_secs`: how long to look for it before giving way.

        Raises `UpstreamConnectionLost`; the connection must then be closed, as it must when this is cancelled: the
        reply is still on its way. A reply to another request is treated like a lost connection.
        """
        try:
            await self._transport.send_all(message)
            reply = await read_message(self._transport, self._reader, soon_secs)
        except BROKEN as error:
            raise UpstreamConnectionLost(f"{self.address}: {type(error).__name__}") from error
        except ProtocolError as error:
            raise UpstreamConnectionLost(f"{self.address} sent what is no message: {error}") from error
        if reply is None:
            raise UpstreamConnectionLost(f"{self.address} closed the connection")
        if reply[8:12] != message[4:8] or self._reader.in_message:
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
            connection.hello = await connection.ask("admin", {"hello": 1, "client": CLIENT_METADATA})
            await _log_in(connection, upstream)
            return connection
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, trio.TooSlowError):
            raise UpstreamUnavailable(f"{address} did not answer within {within_secs:g} s") from error
        if isinstance(error, (UpstreamError, *BROKEN)):
            raise UpstreamUnavailable(f"{address}: {_reason(error)}") from error
        raise


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
