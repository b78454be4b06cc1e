"""What one request costs mongoguard in CPU time, sockets and all, where everything else is kept out of the figure.

    python -m tests.benchmarks.hop [--json]

One process is mongoguard's side: the served connection, the flow, the pool, in the event loop that production has. A
forked one is both the client and the server behind, and answers at once. The figure is the CPU time of the first thread,
divided by the requests: what other programs do at that time changes it little, unlike a throughput. "tasks" is the way
that requests take which are not short and plain. Each figure is the best of several rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import bson
import trio

from mongoguard.effects import Relay, RelayedReply
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.proxy.client_session import ClientSession
from mongoguard.server.client_connection import ClientConnection
from mongoguard.server.ready_sockets import run_with_ready_sockets
from mongoguard.server.transport import SocketTransport
from mongoguard.server.upstream_connection import UpstreamConnection
from tests.playbook import SERVER, make_session, user_with
from tests.rawwire import document_section, message, sequence_section

ROUNDS = 3
WARM_UP = 50
OP_MSG = 2013
LSID = {"id": bson.Binary(bytes(16), 4)}
SHORT = [{"_id": i, "padding": "x" * 160} for i in range(1000)]
LONG = [{"_id": i, "padding": "x" * 1000} for i in range(1000)]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, its reply, and how many of them are a round."""

    request: bytes
    reply: bytes
    count: int


def _op_msg(body: Mapping[str, Any], *sections: bytes) -> bytes:
    data = message(OP_MSG, bytes(4) + document_section(body) + b"".join(sections))
    return data[:8] + data[4:8] + data[12:]  # a reply to itself, as the served side's request has the same id


def _cursor(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return {"cursor": {"firstBatch": documents, "id": bson.Int64(0), "ns": "shop.orders"}, "ok": 1.0}


FIND = {
    "find": "orders",
    "filter": {"_id": 5},
    "limit": 1,
    "singleBatch": True,
    "lsid": LSID,
    "$db": "shop",
}
INSERT = {"insert": "orders", "ordered": True, "lsid": LSID, "$db": "shop"}
EXCHANGES = {
    "1 document by _id (1 KiB)": Exchange(_op_msg(FIND), _op_msg(_cursor(LONG[:1])), 4000),
    "1,000 documents (1 MB)": Exchange(_op_msg(FIND), _op_msg(_cursor(LONG)), 300),
    "1,000 inserts (200 KB)": Exchange(
        _op_msg(INSERT, sequence_section("documents", SHORT)), _op_msg({"n": 1000, "ok": 1.0}), 400
    ),
}


class _Pool:
    """One connection; what a pool does around it costs next to nothing."""

    address = SERVER
    in_use = 1

    def __init__(self, connection: UpstreamConnection) -> None:
        self._connection = connection

    def take_at_once(self) -> UpstreamConnection:
        return self._connection

    def give_back(self, _connection: UpstreamConnection, _sent_at: float) -> None:
        return

    def drop(self, connection: UpstreamConnection) -> None:
        connection.close()

    async def finish(
        self, connection: UpstreamConnection, _sent_at: float, unsent: bytes, received: bytes
    ) -> RelayedReply:
        return RelayedReply(await connection.finish(unsent, received), SERVER)


class _Shell:
    """What a connection asks of the shell in these exchanges."""

    external: Mapping[Any, Any] = {}
    message_timeout_secs = 60.0
    threads = trio.CapacityLimiter(2)
    at_once: Mapping[Any, Any] = {}
    early = None

    def __init__(self, pool: _Pool) -> None:
        self.upstream = self
        self._pool = pool

    def pool_at_once(self, _relay: Relay) -> _Pool:
        return self._pool

    async def relay(self, data: bytes, *_: object) -> RelayedReply:
        return RelayedReply(await self._pool.take_at_once().exchange(data), SERVER)

    async def audit(self, _event: object) -> None:
        return


def measure(exchange: Exchange, run: Callable[[Callable[[], Awaitable[None]]], object]) -> float:
    """Microseconds of CPU a request; `run` runs the event loop."""
    client, served = _pair()
    upstream, behind = _pair()
    child = os.fork()
    if child == 0:  # pragma: no cover
        served.close()  # or it would not notice their end
        upstream.close()
        _peer(client, behind, exchange)
    client.close()
    behind.close()
    spent: list[float] = []

    async def serve() -> None:
        session = make_session(
            user_with({ResourcePattern.for_database("shop"): frozenset({"find", "insert"})})
        )
        _count(session, spent)
        shell: Any = _Shell(_Pool(UpstreamConnection(SocketTransport(upstream), SERVER)))
        by = trio.current_time() + 60
        await ClientConnection(SocketTransport(served), session, shell, lambda: None, by).serve()

    run(serve)
    os.waitpid(child, 0)
    upstream.close()
    return (time.thread_time() - spent[0]) / exchange.count * 1e6


def _count(session: ClientSession, spent: list[float]) -> None:
    """Start the clock after the warm-up."""
    handle, left = session.handle, [WARM_UP]

    def counting(data: bytes, compressed: bool = False) -> Any:
        left[0] -= 1
        if left[0] == 0:
            spent.append(time.thread_time())
        return handle(data, compressed)

    session.handle = counting  # type: ignore[method-assign]


def _peer(client: socket.socket, behind: socket.socket, exchange: Exchange) -> None:
    """The client and the server; ends the process."""
    try:
        for _ in range(WARM_UP + exchange.count):
            client.sendall(exchange.request)
            _receive(behind)
            behind.sendall(exchange.reply)
            _receive(client)
    finally:
        os._exit(0)


def _receive(sock: socket.socket) -> None:
    data = sock.recv(1 << 17)
    if not data:
        raise ConnectionError("the served side has ended")
    missing = int.from_bytes(data[:4], "little") - len(data)
    while missing > 0:
        missing -= len(sock.recv(1 << 20)) or missing


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for sock in (one, other):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


def _exchanges(count: int | None) -> Mapping[str, Exchange]:
    if count is None:
        return EXCHANGES
    return {name: Exchange(one.request, one.reply, count) for name, one in EXCHANGES.items()}


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.hop")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="(default %(default)s)")
    parser.add_argument("--requests", type=int, metavar="N", help="in a round; default: some seconds' worth")
    options = parser.parse_args()
    rows = {
        name: {
            "quick_us": min(measure(exchange, run_with_ready_sockets) for _ in range(options.rounds)),
            "tasks_us": min(measure(exchange, trio.run) for _ in range(options.rounds)),
        }
        for name, exchange in _exchanges(options.requests).items()
    }
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print("| CPU µs | quick | tasks |\n| --- | --: | --: |")
    for name, row in rows.items():
        print(f"| {name} | {row['quick_us']:.0f} | {row['tasks_us']:.0f} |")


if __name__ == "__main__":
    main()
