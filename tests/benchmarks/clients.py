"""Clients that log in by SCRAM-SHA-256 with keys that were derived once: what is measured is the server's work."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Mapping
from typing import Any

import bson

from mongoguard.authn.upstream_login import MIN_NONCE_BYTES, UpstreamCredential, upstream_login
from mongoguard.wire.message import encode_op_msg
from tests.benchmarks.loadgen import CannotMeasure

__all__ = ["LeanClient", "allow_descriptors"]


class LeanClient:
    """One blocking connection, without monitors and pools."""

    __slots__ = ("_socket",)

    def __init__(self, address: str) -> None:
        """Connect to host:port."""
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), 60.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_in(self, credential: UpstreamCredential) -> None:
        """hello and SCRAM-SHA-256; raises `UpstreamLoginError` when that is refused."""
        self.command("admin", {"hello": 1})
        login = upstream_login(credential, os.urandom(MIN_NONCE_BYTES))
        try:
            command = next(login)
            while True:
                db = command.pop("$db")
                command = login.send(self.command(db, command))
        except StopIteration:
            return

    def command(self, db: str, command: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to a command."""
        self._socket.sendall(encode_op_msg(1, 0, bson.encode({**command, "$db": db})))
        head = self._exactly(16)
        return bson.decode(self._exactly(int.from_bytes(head[:4], "little") - 16)[5:])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            more = self._socket.recv(count - len(received))
            if not more:
                raise CannotMeasure("the server closed a connection")
            received += more
        return received


def allow_descriptors(count: int) -> None:
    """Let this process and those that it starts have that many. Raises `CannotMeasure` where that is forbidden."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise CannotMeasure(f"{count} descriptors are needed and {hard} are allowed: ulimit -n {count}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
