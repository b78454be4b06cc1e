"""Clients that log in all at once, again and again, in a process of its own: what is measured beside them shares none.

    python -m tests.benchmarks.login_burst HOST:PORT COUNT

Says "ready" when the keys are derived, begins when a line comes on standard input, ends when that is closed, and then
prints how many logins there were. All clients of a burst connect and say hello before any reply is read.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from collections.abc import Generator, Mapping
from typing import Any

import bson

from mongoguard.authn.upstream_login import MIN_NONCE_BYTES, UpstreamCredential, upstream_login
from mongoguard.wire.message import encode_op_msg
from tests.benchmarks.clients import LeanClient, allow_descriptors
from tests.benchmarks.peers import USER
from tests.servers import password_of

__all__ = ["MECHANISM", "burst", "credential"]

MECHANISM = "SCRAM-SHA-256"
WAIT_SECS = 60.0
HEADER_BYTES = 21
"""Of a reply, before its only document: header, flags, kind of section."""


def credential() -> UpstreamCredential:
    """Who measures; keys are derived by the first login, and kept."""
    return UpstreamCredential(MECHANISM, USER, password_of(USER), "admin")


class _Client:
    """One connection and how far its login has come."""

    def __init__(self, address: str, by: UpstreamCredential) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), WAIT_SECS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._steps = _login(by)
        self._received = b""
        self._send(next(self._steps))

    def read(self) -> bool:
        """Take what has come; whether the login is done. Raises `ConnectionError` when the server closes."""
        more = self.socket.recv(65536)
        if not more:
            raise ConnectionError("the server closed a connection")
        self._received += more
        if len(self._received) < 4 or len(self._received) < int.from_bytes(self._received[:4], "little"):
            return False
        reply, self._received = self._received, b""
        try:
            self._send(self._steps.send(bson.decode(reply[HEADER_BYTES:])))
        except StopIteration:
            return True
        return False

    def _send(self, command: Mapping[str, Any]) -> None:
        self.socket.sendall(encode_op_msg(1, 0, bson.encode(command)))


def _login(by: UpstreamCredential) -> Generator[Mapping[str, Any], Mapping[str, Any], None]:
    yield {"hello": 1, "$db": "admin"}
    yield from upstream_login(by, os.urandom(MIN_NONCE_BYTES))


def burst(address: str, by: UpstreamCredential, count: int) -> None:
    """That many clients at once, from connecting to closing."""
    with contextlib.ExitStack() as stack:
        clients: dict[int, _Client] = {}
        poll = select.epoll()
        stack.callback(poll.close)
        for _ in range(count):
            client = _Client(address, by)
            stack.callback(client.socket.close)
            clients[client.socket.fileno()] = client
            poll.register(client.socket.fileno(), select.EPOLLIN)
        while clients:
            for descriptor, _event in poll.poll(WAIT_SECS) or _too_late():
                if clients[descriptor].read():
                    poll.unregister(descriptor)
                    del clients[descriptor]


def _too_late() -> list[tuple[int, int]]:
    raise TimeoutError(f"nothing came for {WAIT_SECS:.0f} s")


def main() -> int:
    """See the module."""
    address, count = sys.argv[1], int(sys.argv[2])
    allow_descriptors(4096)
    by = credential()
    with contextlib.closing(LeanClient(address)) as first:
        first.log_in(by)
    print("ready", flush=True)
    sys.stdin.readline()
    done = 0
    while not select.select([sys.stdin], [], [], 0.0)[0]:
        burst(address, by, count)
        done += count
    print(done, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
