"""Incoming connections: from an accepted socket to a transport, and what is known of who is at its other end.

In: an accepted socket. Out: an `Incoming`, or `IncomingRefused`. Must not know what is spoken on it afterwards.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

import trio

from mongoguard.authn.channel import Channel
from mongoguard.config.sections import Net
from mongoguard.errors import GuardError, ProtocolError
from mongoguard.model.restriction import Peer
from mongoguard.server.listener import peer_of
from mongoguard.server.proxy_header import true_peer
from mongoguard.server.transport import SocketTransport, Transport

__all__ = ["Incoming", "IncomingRefused", "receive_client"]


class IncomingRefused(GuardError):
    """A connection that is not served; the text says why, for the log and the audit stream."""

    def __init__(self, peer: Peer, reason: str) -> None:
        """`peer`: as far as it is known."""
        super().__init__(reason)
        self.peer = peer


@dataclass(frozen=True, slots=True)
class Incoming:
    """A connection on which messages may begin. `peer` holds the client's true address."""

    transport: Transport
    peer: Peer
    channel: Channel


async def receive_client(sock: socket.socket, net: Net) -> Incoming:
    """Do what comes before the first message. Raises `IncomingRefused`, and OSError for a client that has gone, or
    whose first bytes do not come within `handshakeTimeoutSecs`.

    The socket is the caller's to close when this raises.
    """
    peer = await _true_peer(sock, net)
    # Behind a balancer a Unix socket says nothing of the way that the client's bytes came.
    is_private = sock.family == socket.AF_UNIX and not peer.is_proxied
    return Incoming(SocketTransport(sock), peer, Channel(is_private=is_private))


async def _true_peer(sock: socket.socket, net: Net) -> Peer:
    ends = peer_of(sock)
    try:
        with trio.fail_after(net.handshake_timeout_secs):
            return await true_peer(sock, ends, net.proxy_protocol)
    except ProtocolError as error:
        raise IncomingRefused(ends, str(error)) from None
    except trio.TooSlowError:
        raise TimeoutError("its first bytes did not come in time") from None
