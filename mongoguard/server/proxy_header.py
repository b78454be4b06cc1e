"""Reading the PROXY header off a new connection, before anything else on it.

In: an accepted socket, and whose headers are believed. Out: the client's true `Peer`. Must not know what comes behind
the header: not one byte of that is taken.
"""

from __future__ import annotations

import socket

import trio

from mongoguard.config.proxy_protocol_section import ProxyProtocol
from mongoguard.errors import ProtocolError
from mongoguard.model.restriction import Peer
from mongoguard.wire.proxy_protocol import (
    TELLING_BYTES,
    begins_header,
    bytes_wanted,
    may_begin_header,
    parse_proxy_header,
)

__all__ = ["true_peer"]

LOOK_AGAIN_SECS = 0.02
"""Until the second look at a first message of which less than four bytes have come: peeking can't wait for more. Each
later wait is twice as long: thousands of strangers who send one byte must not keep the event loop busy."""


async def true_peer(sock: socket.socket, peer: Peer, proxy_protocol: ProxyProtocol) -> Peer:
    """Who the client is; `peer` are the two ends of the socket. Waits for the first bytes of the connection.

    A trusted source must send a header, and nobody else may. Raises `ProtocolError`, and OSError for a peer that left
    without a word (as simple health checks do).
    """
    sock.setblocking(False)
    if not proxy_protocol.trusts(peer.client):
        await _check_no_header(sock)
        return peer
    header = parse_proxy_header(await _read_header(sock))
    if not header.names_client:
        return Peer(peer.client, peer.server, peer.client_port, peer.server_port, is_proxied=True)
    return Peer(header.client, header.server, header.client_port, header.server_port, is_proxied=True)


async def _read_header(sock: socket.socket) -> bytes:
    data = b""
    while wanted := bytes_wanted(data):
        try:
            chunk = sock.recv(wanted)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
            continue
        if not chunk and data:
            raise ProtocolError("the connection ended within its PROXY header")
        if not chunk:
            raise ConnectionAbortedError("the connection ended before its PROXY header")
        data += chunk
    return data


async def _check_no_header(sock: socket.socket) -> None:
    wait_secs = LOOK_AGAIN_SECS
    while True:
        try:
            data = sock.recv(TELLING_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
            continue
        if begins_header(data):
            raise ProtocolError(
                "a PROXY header from a source that net.proxyProtocol.trustedSources does not name"
            )
        if not data or not may_begin_header(data):
            return
        await trio.sleep(wait_secs)
        wait_secs *= 2
