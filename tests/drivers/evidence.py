"""What a client really sent, by other witnesses than itself: the server's log, and a relay that reads along.

In: the deployment a client is run against. Out: names of features, the same at both ends. A driver that forgets an option
without a word, or a proxy that takes it off on the way, would print what is expected and show nothing here.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.servers import Mongod

__all__ = ["Overhearing", "features_of", "logged", "read_along"]

_OP_COMPRESSED, _OP_MSG = 2012, 2013
_ZLIB = 2
_MORE_TO_COME = 2
_SECONDS = 60.0


def _stream_stage(command: Mapping[str, Any]) -> Mapping[str, Any]:
    first: object = next(iter(command.get("pipeline") or ()), {})
    return (first.get("$changeStream") or {}) if isinstance(first, Mapping) else {}


def _concern(command: Mapping[str, Any]) -> Mapping[str, Any]:
    """The read concern of a command outside of transactions."""
    return {} if "txnNumber" in command else command.get("readConcern") or {}


_SEEN: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "retryable write": lambda command: "txnNumber" in command and "autocommit" not in command,
    "transaction": lambda command: command.get("autocommit") is False,
    "afterClusterTime": lambda command: "afterClusterTime" in _concern(command),
    "snapshot": lambda command: _concern(command).get("level") == "snapshot",
    "tailable": lambda command: bool(command.get("tailable") and command.get("awaitData")),
    "resumed stream": lambda command: bool(
        _stream_stage(command).keys() & {"resumeAfter", "startAfter", "startAtOperationTime"}
    ),
    "strict API": lambda command: command.get("apiVersion") == "1" and command.get("apiStrict") is True,
}
"""Feature -> whether a command, as mongod got it, has it."""


@contextlib.contextmanager
def logged(mongod: Mongod, db: str) -> Iterator[set[str]]:
    """While it lasts the server logs every command on `db`; the set holds the features found, at the end.

    The profiler would not do: it leaves out the aggregate that opens a change stream.
    """
    seen: set[str] = set()
    with mongod.client() as root:
        before = root.admin.command("profile", 0, slowms=-1)["slowms"]
        start = mongod.log_path.stat().st_size
        try:
            yield seen
        finally:
            root.admin.command("profile", 0, slowms=before)
    with mongod.log_path.open("rb") as log:
        log.seek(start)
        for line in log:
            seen |= features_of(line, db)


def features_of(line: bytes, db: str) -> set[str]:
    """The features of the command that a line of mongod's log tells of, if it is one on that database."""
    if b'"Slow query"' not in line:
        return set()
    told: Mapping[str, Any] = json.loads(line)["attr"]
    command = told.get("command")
    # what is too long for a line is cut, and a text then
    if not isinstance(command, dict) or not str(told.get("ns")).startswith(f"{db}."):
        return set()
    return {name for name, has in _SEEN.items() if has(command)}


def read_along(opcode: int, body: bytes, *, replies: bool) -> set[str]:
    """What a message shows; `body` is what follows its header."""
    heard = set()
    if opcode == _OP_COMPRESSED:
        heard.add("compressed replies" if replies else "compressed requests")
        opcode, _, compressor = struct.unpack_from("<iiB", body)
        body = zlib.decompress(body[9:]) if compressor == _ZLIB else body[9:]
    # a hello that streams is unasked, too
    if replies and opcode == _OP_MSG and body[0] & _MORE_TO_COME and b"\x03cursor\0" in body[:64]:
        heard.add("unasked batches")
    return heard


class Overhearing:
    """A TCP relay on a loopback port to one server; `heard` names what went over it.

    Threads of its own; a connection ends when either side ends it, all of them with `close()`.
    """

    def __init__(self, target_port: int) -> None:
        self.heard: set[str] = set()
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Overhearing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it and its connections."""
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target, _SECONDS)
                server.settimeout(None)
                self._sockets += (client, server)
                for source, sink, replies in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._relay, args=(source, sink, replies), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, replies: bool) -> None:
        try:
            with source.makefile("rb") as stream:
                while len(header := stream.read(16)) == 16:
                    length, _, _, opcode = struct.unpack("<iiii", header)
                    body = stream.read(length - 16)
                    self.heard.update(read_along(opcode, body, replies=replies))
                    sink.sendall(header + body)
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)
