"""Incoming connections: from an accepted socket to a transport, and what is known of who is at its other end.

In: an accepted socket. Out: an `Incoming`, or `IncomingRefused`. Must not know what is spoken on it afterwards.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from mongoguard.authn.channel import Channel
from mongoguard.config.sections import Net
from mongoguard.errors import GuardError, ProtocolError
from mongoguard.model.restriction import Peer
from mongoguard.observe.access_messages import connection_refused, tls_handshake
from mongoguard.observe.event import AuditEvent
from mongoguard.server.arrivals import Arrival
from mongoguard.server.listener import peer_of
from mongoguard.server.proxy_header import true_peer
from mongoguard.server.tls import ListenerTLS, begins_tls, handshake_problem
from mongoguard.server.transport import SocketTransport, Transport

__all__ = ["NOTHING_CAME", "Incoming", "IncomingRefused", "receive_client"]

NOTHING_CAME = "no message came in time"
"""Said of whoever has not sent its first message when it should be there."""


class IncomingRefused(GuardError):
    """A connection that is not served; the text says why, for the log, and `event` for the audit stream."""

    def __init__(self, event: AuditEvent) -> None:
        """`event`: with the peer as far as it is known."""
        super().__init__(event.param["reason"])
        self.event = event


@dataclass(frozen=True, slots=True)
class Incoming:
    """A connection on which messages may begin. `peer` holds the client's true address.

    `first_message_by`: when the first message must have come (Trio's clock).
    """

    transport: Transport
    peer: Peer
    channel: Channel
    first_message_by: float


async def receive_client(
    sock: socket.socket,
    net: Net,
    tls: ListenerTLS | None,
    arrival: Arrival,
    wait_readable: Callable[[socket.socket], Awaitable[None]] = trio.lowlevel.wait_readable,
) -> Incoming:
    """Do what comes before the first message: the PROXY header, a look at the first bytes, the TLS handshake.

    All of it, and the first message, has `handshakeTimeoutSecs` together. `wait_readable` waits for the first bytes.

    Raises `IncomingRefused`, also for what does not come in time, `ArrivalRefused` for one too many of its address, and
    OSError for a client that has gone. `tls` is None when net.tls.mode is disabled.

    The socket is the caller's to close when this raises.
    """
    deadline = trio.current_time() + net.handshake_timeout_secs
    ends = peer_of(sock)
    if not net.proxy_protocol.trusts(ends.client):
        arrival.come_from(ends.client)
    peer = await _true_peer(sock, ends, net, deadline, wait_readable)
    arrival.come_from(peer.client)
    # Behind a balancer a Unix socket says nothing of the way that the client's bytes came.
    is_private = sock.family == socket.AF_UNIX and not peer.is_proxied
    if tls is not None and not is_private:
        if await _begins_tls(sock, peer, deadline):
            return await _encrypted(sock, peer, tls, deadline)
        if net.tls.mode == "requireTLS":
            problem = "the client speaks without TLS, which net.tls.mode requireTLS forbids"
            raise IncomingRefused(tls_handshake(peer, reason=problem))
    return Incoming(SocketTransport(sock), peer, Channel(is_private=is_private), deadline)


async def _begins_tls(sock: socket.socket, peer: Peer, deadline: float) -> bool:
    try:
        with trio.fail_at(deadline):
            return await begins_tls(sock)
    except trio.TooSlowError:
        raise IncomingRefused(connection_refused(peer, reason=NOTHING_CAME)) from None


async def _encrypted(sock: socket.socket, peer: Peer, tls: ListenerTLS, deadline: float) -> Incoming:
    try:
        with trio.fail_at(deadline):
            transport, certificate = await tls.shake_hands(sock)
    except trio.TooSlowError:
        problem = "the TLS handshake did not end in time"
        raise IncomingRefused(tls_handshake(peer, reason=problem)) from None
    except OSError as error:
        raise IncomingRefused(tls_handshake(peer, reason=handshake_problem(error))) from None
    return Incoming(transport, peer, Channel(is_private=True, certificate=certificate), deadline)


async def _true_peer(
    sock: socket.socket,
    ends: Peer,
    net: Net,
    deadline: float,
    wait_readable: Callable[[socket.socket], Awaitable[None]],
) -> Peer:
    try:
        with trio.CancelScope(deadline=deadline):
            await wait_readable(sock)
            return await true_peer(sock, ends, net.proxy_protocol)
    except ProtocolError as error:
        raise IncomingRefused(connection_refused(ends, reason=str(error))) from None
    trusted = net.proxy_protocol.trusts(ends.client)
    reason = "the PROXY header did not come in time" if trusted else NOTHING_CAME
    raise IncomingRefused(connection_refused(ends, reason=reason))
