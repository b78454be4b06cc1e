"""Listeners: sockets that clients connect to.

In: addresses of the configuration. Out: accepted sockets, one by one. Must not know what is spoken on them.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import resource
import socket
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import trio

from mongoguard.config.sections import Net
from mongoguard.errors import ConfigError
from mongoguard.model.restriction import Address, Peer

__all__ = ["accept_for_ever", "close_listeners", "max_clients", "open_listeners", "peer_of"]

log = logging.getLogger(__name__)

CLIENTS_SHARE = 0.8
"""Of the file descriptors that the process may have, as mongod has it. The rest is for the upstream, or else those who
are served would wait for those who only hold a connection; strangers may take all that clients get."""

BACKLOG = 1024
"""Connections that wait to be accepted: a driver fleet that reconnects at once."""

OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
RETRY_ACCEPT_SECS = 0.1
"""After running out of file descriptors: soon enough to serve the next free one, late enough not to spin."""


def open_listeners(net: Net) -> list[socket.socket]:
    """Listening sockets for every address and path. Raises `ConfigError` naming the one that failed."""
    _allow_many_descriptors()
    listeners: list[socket.socket] = []
    try:
        for family, address in _tcp_addresses(net):
            listeners.append(_listen(family, (address[0], _port_of(listeners, net.port), *address[2:])))
        permissions = net.unix_domain_socket.file_permissions
        listeners.extend(_open_unix(path, permissions) for path in net.unix_socket_paths)
    except ConfigError:
        close_listeners(listeners)
        raise
    return listeners


def _allow_many_descriptors() -> None:
    """Every client is a file descriptor, and the limit that holds unasked is often 1,024: ask for all there may be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def max_clients() -> float:
    """How many connections of clients this process has room for."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if most == resource.RLIM_INFINITY else int(most * CLIENTS_SHARE)


def _port_of(listeners: list[socket.socket], port: int) -> int:
    """Port 0 means any free one, but the same one on every address."""
    return port or (int(listeners[0].getsockname()[1]) if listeners else 0)


def _tcp_addresses(net: Net) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    """Every address to listen on, once. A name like localhost may have an IPv6 address: that needs `net.ipv6`."""
    family = socket.AF_UNSPEC if net.ipv6 else socket.AF_INET
    addresses: dict[tuple[socket.AddressFamily, tuple[Any, ...]], None] = {}
    for host in net.tcp_hosts:
        try:
            found = socket.getaddrinfo(host, net.port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise ConfigError(f"net.bindIp: {host} cannot be resolved: {error.strerror or error}") from None
        addresses |= dict.fromkeys((one[0], one[4]) for one in found)
    return list(addresses)


def _listen(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"net.bindIp, net.port: cannot listen on {address[0]}:{address[1]}: {error.strerror or error}"
        ) from None
    return sock


def _open_unix(path: str, permissions: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(Path(path).stat().st_mode) and not _is_served(path):
                Path(path).unlink()  # left behind by a process that was killed
        old = os.umask(0o777 & ~permissions)
        try:
            sock.bind(path)
        finally:
            os.umask(old)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"net.unixDomainSocket: cannot listen on {path}: {error.strerror or error}"
        ) from None
    return sock


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0


def close_listeners(listeners: list[socket.socket], *, remove: bool = True) -> None:
    """Stop listening; `remove` the files of Unix sockets, unless they are another process's. Twice does nothing."""
    for sock in listeners:
        if sock.fileno() == -1:
            continue
        path = sock.getsockname() if sock.family == socket.AF_UNIX else ""
        with suppress(RuntimeError):  # no Trio loop runs any more, so nobody waits for it
            trio.lowlevel.notify_closing(sock)
        sock.close()
        if path and remove:
            Path(path).unlink(missing_ok=True)


async def accept_for_ever(
    listener: socket.socket,
    take: Callable[[socket.socket], None],
    hesitation_secs: Callable[[], float],
    wait_readable: Callable[[socket.socket], Awaitable[None]] = trio.lowlevel.wait_readable,
) -> None:
    """Hand each accepted socket to `take`, until the listener is closed or this is cancelled.

    Other processes may listen on the same socket; before each connection they are given that many seconds to take it.
    With another `wait_readable` than Trio's it must be cancelled before the listener is closed.
    """
    while True:
        try:
            await wait_readable(listener)
            secs = hesitation_secs()
            if secs:
                await trio.sleep(secs)
            sock, _ = listener.accept()
        except BlockingIOError:
            continue
        except trio.ClosedResourceError:
            return
        except OSError as error:
            if error.errno not in OUT_OF_RESOURCES:
                log.debug("a connection was gone before it was accepted: %s", error)
                await trio.lowlevel.checkpoint()
                continue
            log.error("cannot accept connections: %s", error.strerror)
            await trio.sleep(RETRY_ACCEPT_SECS)
            continue
        take(sock)


def peer_of(sock: socket.socket) -> Peer:
    """The two ends of an accepted socket. Raises OSError when the client has gone already."""
    if sock.family == socket.AF_UNIX:
        return Peer(None, None)
    client, server = sock.getpeername(), sock.getsockname()
    return Peer(_address(client[0]), _address(server[0]), client[1], server[1])


@lru_cache(maxsize=1024)  # fleets reconnect from where they were, and to few addresses of ours
def _address(text: str) -> Address:
    return ip_address(text.partition("%")[0])
