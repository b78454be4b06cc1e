"""TCP servers that do what a broken or hostile one does, whatever protocol the client speaks. For bad-input tests."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
import threading
from enum import StrEnum
from pathlib import Path
from types import TracebackType

from tests.servers import free_port

__all__ = ["ToxicServer", "Toxin"]

DRIP_SECONDS = 0.2
"""Between two octets of a dripping answer."""


class Toxin(StrEnum):
    """What happens to a client that has connected."""

    SILENCE = "reads and never answers"
    DRIP = "sends the answer one octet at a time, again and again"
    RESET = "resets the connection when the client has sent something"
    CLOSE = "closes the connection at once"
    ANSWER = "sends the answer to whatever was sent, and closes"


class ToxicServer:
    """A server of one toxin on `port`, in threads of the test's own process; with a certificate it begins with TLS."""

    def __init__(self, toxin: Toxin, *, answer: bytes = b"\x00", certificate: Path | None = None) -> None:
        """Prepare a server; `start()` follows, or `with`."""
        self.port = free_port()
        self.received = bytearray()
        """Everything that clients have sent (decrypted): what must not be in it is what they leaked."""
        self.connections = 0
        """How many were accepted so far."""
        self._toxin = toxin
        self._answer = answer
        self._stopping = threading.Event()
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._listener: socket.socket | None = None

    def start(self) -> ToxicServer:
        """Listen."""
        self._stopping.clear()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def wait(self) -> ToxicServer:
        """It listens from `start()` on."""
        return self

    def stop(self) -> None:
        """Close the port and every connection."""
        self._stopping.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
            self._listener.close()
            self._listener = None

    def __enter__(self) -> ToxicServer:
        """Start it."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with raw, contextlib.suppress(OSError):
            raw.settimeout(0.1)
            if self._context is None:
                self._poison(raw)
                return
            raw.settimeout(10)
            with self._context.wrap_socket(raw, server_side=True) as encrypted:
                encrypted.settimeout(0.1)
                self._poison(encrypted)

    def _poison(self, connection: socket.socket) -> None:
        match self._toxin:
            case Toxin.SILENCE:
                while self._read(connection):
                    pass
            case Toxin.DRIP:
                for octet in itertools.cycle(self._answer):
                    connection.sendall(bytes([octet]))
                    if self._stopping.wait(DRIP_SECONDS):
                        return
            case Toxin.RESET:
                self._read(connection)
                # SO_LINGER with no time: close() sends RST
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case Toxin.ANSWER:
                self._read(connection)
                connection.sendall(self._answer)
            case Toxin.CLOSE:
                pass

    def _read(self, connection: socket.socket) -> bool:
        """Read once; False when the client has gone or the server stops."""
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                octets = connection.recv(65_536)
                self.received += octets
                return bool(octets)
        return False
