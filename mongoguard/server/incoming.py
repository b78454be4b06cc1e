"""Incoming connections: from an accepted socket to a transport, and what is known of who is at its other end.

In: an accepted socket. Out: an `Incoming`, or `IncomingRefused`. Must not know what is spoken on it afterwards.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from mongoguard.authn.channel import Channel
from mongoguard.errors import GuardError
from mongoguard.model.restriction import Peer
from mongoguard.server.listener import peer_of
from mongoguard.server.transport import SocketTransport, Transport

__all__ = ["Incoming", "IncomingRefused", "receive_client"]


class IncomingRefused(GuardError):
    """A connection that is not served; the text says why, for the log and the audit stream."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A connection on which messages may begin. `peer` holds the client's true address."""

    transport: Transport
    peer: Peer
    channel: Channel


async def receive_client(sock: socket.socket) -> Incoming:
    """Do what comes before the first message. Raises `IncomingRefused`, and OSError for a client that has gone.

    The socket is the caller's to close when this raises.
    """
    peer = peer_of(sock)
    return Incoming(SocketTransport(sock), peer, Channel(is_private=sock.family == socket.AF_UNIX))
