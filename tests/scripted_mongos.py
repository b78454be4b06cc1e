"""A scripted mongos: no mongos binary can be had where the tests run.

It speaks as one in what a driver or a proxy goes by: its hello says `msg: "isdbgrid"` and names no replica set; it knows
only the cursors and the transactions that were opened through it, and refuses others as mongos does (43, 251); it hands
out a `recoveryToken`. All else it sends to one mongod, a connection for each of its clients.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import bson
import pymongo

from tests.servers import ROOT, Client, Mongod, connection_string, free_port, init_upstream

__all__ = ["ScriptedCluster", "ScriptedMongos"]

_HELLO = {"hello", "isMaster", "ismaster"}
_OF_A_REPLICA_SET = {
    *("hosts", "passives", "arbiters", "setName", "setVersion", "primary", "me", "electionId", "lastWrite"),
    *("secondary", "tags", "topologyVersion"),
}
RECOVERY_TOKEN = {"recoveryShardId": "scripted-shard"}


class ScriptedMongos:
    """One mongos in front of `mongod`, in threads of the test's own process."""

    def __init__(self, mongod: Mongod) -> None:
        """Prepare it; `start()` follows."""
        self.port = free_port()
        self.commands: list[Mapping[str, Any]] = []
        """Everything but hello and logins that it was asked for, in order."""
        self._mongod = mongod
        self._cursors: set[int] = set()
        self._transactions: set[tuple[bytes, int]] = set()
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> ScriptedMongos:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def kill(self) -> None:
        """Close the port and every connection, and forget what was open, as by a crash."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
            self._listener.close()
            self._listener = None
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._cursors.clear()
        self._transactions.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self._mongod.port)) as behind,
        ):
            self._sockets |= {client, behind}
            try:
                while (request := _read(client)) is not None:
                    client.sendall(self._answer(request, behind))
            finally:
                self._sockets -= {client, behind}

    def _answer(self, request: bytes, behind: socket.socket) -> bytes:
        command = _command(request)
        name = next(iter(command))
        if name not in _HELLO | {"saslStart", "saslContinue"}:
            self.commands.append(command)
        refusal = self._refusal(name, command)
        if refusal is not None:
            return _reply(request, refusal)
        behind.sendall(request)
        reply = _read(behind)
        if reply is None:
            raise OSError("the mongod behind has closed the connection")
        document = _document(reply)
        if name in _HELLO:
            shown = {key: value for key, value in document.items() if key not in _OF_A_REPLICA_SET}
            return _reply(request, {**shown, "msg": "isdbgrid"}, as_op_reply=_is_old(reply))
        cursor = document.get("cursor")
        if isinstance(cursor, dict) and cursor.get("id"):
            self._cursors.add(int(cursor["id"]))
        if command.get("autocommit") is False and document.get("ok"):
            return _reply(request, {**document, "recoveryToken": RECOVERY_TOKEN})
        return reply

    def _refusal(self, name: str, command: Mapping[str, Any]) -> dict[str, Any] | None:
        if name == "getMore" and command["getMore"] not in self._cursors:
            return _error(43, "CursorNotFound", f"cursor id {command['getMore']} not found")
        if command.get("autocommit") is False:
            key = bytes(command["lsid"]["id"]), int(command["txnNumber"])
            if command.get("startTransaction"):
                self._transactions.add(key)
            elif key not in self._transactions and "recoveryToken" not in command:
                return {
                    **_error(251, "NoSuchTransaction", "not opened here"),
                    "errorLabels": ["TransientTransactionError"],
                }
        return None


class ScriptedCluster:
    """Several scripted mongos in front of one mongod that is a replica set; a `Deployment` of tests/servers.py."""

    def __init__(self, mongod: Mongod, count: int = 2) -> None:
        """Prepare them; the service user is made in the mongod itself."""
        self.routers = tuple(ScriptedMongos(mongod) for _ in range(count))
        uri = init_upstream(mongod)
        login = uri.partition("://")[2].rpartition("@")[0]
        self.upstream_uri: str | None = f"mongodb://{login}@{self._addresses}/?authSource=admin"

    @property
    def _addresses(self) -> str:
        return ",".join(router.address for router in self.routers)

    def uri(self, user: str | None = ROOT, password: str | None = None, **options: str) -> str:
        """A connection string that names all of them."""
        return connection_string(self._addresses, user, password, options)

    def client(self, user: str | None = ROOT, password: str | None = None, **options: str) -> Client:
        """A PyMongo client of the cluster itself."""
        return pymongo.MongoClient(self.uri(user, password, **options))

    def __enter__(self) -> ScriptedCluster:
        """Start them."""
        for router in self.routers:
            router.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop them."""
        for router in self.routers:
            router.kill()


def _error(code: int, name: str, text: str) -> dict[str, Any]:
    return {"ok": 0.0, "errmsg": text, "code": code, "codeName": name}


def _read(sock: socket.socket) -> bytes | None:
    """One whole message; None at the end of the stream."""
    data = bytearray()
    wanted = 4
    while len(data) < wanted:
        chunk = sock.recv(wanted - len(data))
        if not chunk:
            return None
        data += chunk
        if len(data) == 4:
            wanted = int.from_bytes(data, "little")
    return bytes(data)


def _is_old(message: bytes) -> bool:
    return int.from_bytes(message[12:16], "little") == 1


def _command(request: bytes) -> dict[str, Any]:
    if int.from_bytes(request[12:16], "little") == 2004:  # OP_QUERY: flags, name, two numbers, the query
        start = request.index(0, 20) + 9
        return bson.decode(request[start : start + int.from_bytes(request[start : start + 4], "little")])
    position = 20
    while request[position]:  # a document sequence: not needed here
        position += 1 + int.from_bytes(request[position + 1 : position + 5], "little")
    start = position + 1
    return bson.decode(request[start : start + int.from_bytes(request[start : start + 4], "little")])


def _document(reply: bytes) -> dict[str, Any]:
    return bson.decode(reply[36:] if _is_old(reply) else reply[21:])


def _reply(request: bytes, document: Mapping[str, Any], *, as_op_reply: bool = False) -> bytes:
    body = bson.encode(document)
    head, opcode = (bytes(16) + b"\1\0\0\0", 1) if as_op_reply else (bytes(5), 2013)
    size = 16 + len(head) + len(body)
    numbers = (size, 1, int.from_bytes(request[4:8], "little"), opcode)
    return b"".join(number.to_bytes(4, "little") for number in numbers) + head + body
