"""A lean client: one connection, logged in, that sends many prepared messages at once and reads their replies.

In: an address, a user whose SCRAM keys are known. Out: reply documents. Shares no code with mongoguard.
Every user of the rig has the same salt and password, so that PBKDF2 runs once a run and not once a login.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import itertools
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import bson

from tests.rawwire import ConnectionEnded, op_msg

__all__ = ["PASSWORD", "Connection", "credentials", "encode"]

PASSWORD = "rig"
_SALT = bytes(28)
_ITERATIONS = 5000
_TIMEOUT = 60.0


def encode(db: str, command: Mapping[str, Any]) -> bytes:
    """A command as an OP_MSG, `$db` last."""
    return op_msg({**command, "$db": db})


@functools.cache
def _keys(salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, iterations)
    return hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256")


def credentials() -> dict[str, Any]:
    """`credentials` of a user document: what createUser would store for `PASSWORD`."""
    client_key, server_key = _keys(_SALT, _ITERATIONS)
    return {
        "SCRAM-SHA-256": {
            "iterationCount": _ITERATIONS,
            "salt": base64.b64encode(_SALT).decode(),
            "storedKey": base64.b64encode(hashlib.sha256(client_key).digest()).decode(),
            "serverKey": base64.b64encode(server_key).decode(),
        }
    }


class Connection:
    """One connection to one side. Use it with `with`."""

    def __init__(self, address: str) -> None:
        """Connect to "host:port"."""
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), _TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = self._socket.makefile("rb").read
        self._nonces = itertools.count(1)

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, messages: Iterable[bytes]) -> None:
        """Send prepared messages; as many `receive` must follow."""
        self._socket.sendall(b"".join(messages))

    def receive(self) -> dict[str, Any]:
        """Read one reply. Raises `ConnectionEnded` when the server closes first."""
        header = self._read(16)
        if len(header) < 16:
            raise ConnectionEnded("no reply")
        (length,) = struct.unpack_from("<i", header)
        payload = self._read(length - 16)
        if len(payload) < length - 16:
            raise ConnectionEnded("half a reply")
        return bson.decode(payload[5:])

    def exchange(self, messages: Sequence[bytes]) -> list[dict[str, Any]]:
        """Send prepared messages and read their replies."""
        self.send(messages)
        return [self.receive() for _ in messages]

    def command(self, db: str, command: Mapping[str, Any]) -> dict[str, Any]:
        """Run one command; the reply, whatever its `ok`."""
        return self.exchange([encode(db, command)])[0]

    def log_in(self, user: str, db: str = "admin") -> None:
        """SCRAM-SHA-256 with `PASSWORD`. AssertionError when the server refuses or can't prove itself."""
        name = user.replace("=", "=3D").replace(",", "=2C")
        first = f"n={name},r=rig{next(self._nonces):08}"
        reply = self.command(
            db,
            {
                "saslStart": 1,
                "mechanism": "SCRAM-SHA-256",
                "payload": f"n,,{first}".encode(),
                "options": {"skipEmptyExchange": True},
            },
        )
        assert reply["ok"] == 1, f"{user}@{db}: {reply}"
        challenge = bytes(reply["payload"]).decode()
        fields = dict(part.split("=", 1) for part in challenge.split(","))
        client_key, server_key = _keys(base64.b64decode(fields["s"]), int(fields["i"]))
        unproven = f"c=biws,r={fields['r']}"
        signed = f"{first},{challenge},{unproven}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
        final = self.command(
            db,
            {
                "saslContinue": 1,
                "conversationId": reply["conversationId"],
                "payload": f"{unproven},p={proof}".encode(),
            },
        )
        assert final["ok"] == 1, f"{user}@{db}: {final}"
        expected = base64.b64encode(hmac.digest(server_key, signed, "sha256")).decode()
        assert bytes(final["payload"]).decode() == f"v={expected}", (
            "the server can't prove that it knows the user"
        )
