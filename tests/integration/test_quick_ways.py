"""The quick ways, all at once, against a real server: requests like earlier ones, long requests, and replies that go on
while they come; through small buffers, with clients that leave in the middle. Each reply is looked at to the last byte.
"""

from __future__ import annotations

import random
import signal
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bson import Binary, Int64

from tests.rawwire import MORE_TO_COME, RawConnection, op_msg, sequence_section
from tests.servers import Guard, password_of

READ, WRITTEN = "quick_ways", "quick_ways_written"
CLIENTS, VISITS, REQUESTS = 8, 3, 20
DOCUMENTS, KB = 300, 4
"""Of each client: 1.2 MB, which is more than the pipe and such sockets hold."""
BUFFERS = (150_000, 300_000)
"""Smaller than a segment of the loopback interface (64 kB), a window has TCP wait 0.2 s for each piece, whoever sends."""


@pytest.fixture
def filled(guard_standalone: Guard) -> Iterator[Guard]:
    with guard_standalone.upstream.client() as direct:
        for number in range(CLIENTS):
            direct.shop[READ].insert_many(
                [
                    {"_id": f"{number}/{i}", "of": number, "i": i, "x": filling(number, i)}
                    for i in range(DOCUMENTS)
                ]
            )
        direct.shop[READ].create_index([("of", 1), ("i", 1)])
        yield guard_standalone
        direct.shop[READ].drop()
        direct.shop[WRITTEN].drop()


def filling(number: int, i: int) -> str:
    word = f"<{number}/{i}>"
    return word * (KB * 1000 // len(word))


class Visitor:
    """One client; what it asks and when it leaves is chance, the same in each run."""

    def __init__(self, guard: Guard, number: int) -> None:
        self.guard, self.number = guard, number
        self.chance = random.Random(number)
        self.written = 0
        self.request_id = 0
        self.session = {"id": Binary(bytes([number]) * 16, 4)}

    def visit_often(self) -> int:
        requests = 0
        for _ in range(VISITS):
            with RawConnection(self.guard.address, timeout=60) as raw:
                raw.log_in("app", password_of("app"))
                if self.chance.random() < 0.5:
                    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                        raw._socket.setsockopt(socket.SOL_SOCKET, option, self.chance.choice(BUFFERS))
                for _ in range(REQUESTS):
                    kinds = [self.read_one, self.read_ahead, self.read_many, self.write, self.count]
                    self.chance.choice(kinds)(raw)
                    requests += 1
                self.leave(raw)
        return requests

    def asked(self, body: dict[str, Any], *sections: bytes) -> bytes:
        """The same ids as every other client's: whoever mixes replies up is not saved by them."""
        self.request_id += 1
        whole = {**body, "lsid": self.session, "$db": "shop"}
        return op_msg(whole, *sections, request_id=self.request_id)

    def answer(self, raw: RawConnection, to: bytes) -> dict[str, Any]:
        reply = raw.receive()
        assert reply.response_to == struct.unpack_from("<i", to, 4)[0]
        assert len(reply.payload) == 5 + struct.unpack_from("<i", reply.payload, 5)[0], (
            "bytes behind the body"
        )
        assert reply.document["ok"] == 1, reply.document
        return reply.document

    def exchange(self, raw: RawConnection, request: bytes) -> dict[str, Any]:
        raw.send(request)
        return self.answer(raw, request)

    def find_one(self, i: int) -> bytes:
        return self.asked({"find": READ, "filter": {"_id": f"{self.number}/{i}"}, "limit": 1})

    def check_one(self, reply: dict[str, Any], i: int) -> None:
        (document,) = reply["cursor"]["firstBatch"]
        assert document == {
            "_id": f"{self.number}/{i}",
            "of": self.number,
            "i": i,
            "x": filling(self.number, i),
        }

    def read_one(self, raw: RawConnection) -> None:
        i = self.chance.randrange(DOCUMENTS)
        self.check_one(self.exchange(raw, self.find_one(i)), i)

    def read_ahead(self, raw: RawConnection) -> None:
        wanted = [self.chance.randrange(DOCUMENTS) for _ in range(3)]
        requests = [self.find_one(i) for i in wanted]
        raw.send(b"".join(requests))
        for i, request in zip(wanted, requests, strict=True):
            self.check_one(self.answer(raw, request), i)

    def find_many(self, batch: int) -> bytes:
        ordered = {"filter": {"of": self.number}, "sort": {"of": 1, "i": 1}}
        return self.asked({"find": READ, **ordered, "batchSize": batch})

    def read_many(self, raw: RawConnection) -> None:
        batch = self.chance.choice([5, 40, 150, 1000])
        cursor = self.exchange(raw, self.find_many(batch))["cursor"]
        documents = cursor["firstBatch"]
        while cursor["id"]:
            more = {"getMore": Int64(cursor["id"]), "collection": READ, "batchSize": batch}
            cursor = self.exchange(raw, self.asked(more))["cursor"]
            documents += cursor["nextBatch"]
        assert [one["i"] for one in documents] == list(range(DOCUMENTS))
        assert all(one["x"] == filling(self.number, one["i"]) for one in documents)

    def write(self, raw: RawConnection) -> None:
        count = self.chance.choice([1, 20, 60])
        documents = [
            {"_id": f"{self.number}/{self.written + i}", "of": self.number, "x": filling(self.number, i)}
            for i in range(count)
        ]
        request = self.asked({"insert": WRITTEN}, sequence_section("documents", documents))
        cut = self.chance.randrange(1, len(request))
        raw.send(request[:cut])
        if self.chance.random() < 0.3:
            time.sleep(0.002)
        raw.send(request[cut:])
        assert self.answer(raw, request)["n"] == count
        self.written += count

    def count(self, raw: RawConnection) -> None:
        request = self.asked({"count": WRITTEN, "query": {"of": self.number}})
        assert self.exchange(raw, request)["n"] == self.written

    def leave(self, raw: RawConnection) -> None:
        """In the middle of a long reply, or of a long request, which then is none."""
        if self.chance.random() < 0.5:
            raw.send(self.find_many(1000))
            raw._exactly(self.chance.choice([1, 100, 80_000, 500_000]))
        else:
            documents = [{"of": self.number, "x": filling(self.number, i)} for i in range(40)]
            request = self.asked({"insert": WRITTEN}, sequence_section("documents", documents))
            raw.send(request[: self.chance.choice([100, 70_000, len(request) - 1])])


def open_files(guard: Guard) -> int:
    return len(list(Path(f"/proc/{guard.pid}/fd").iterdir()))


def test_many_clients_with_long_messages_each_way_get_each_their_own(filled: Guard):
    seen, before = len(filled.log), open_files(filled)
    visitors = [Visitor(filled, number) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as threads:
        requests = list(threads.map(Visitor.visit_often, visitors))
    assert requests == [VISITS * REQUESTS] * CLIENTS
    with filled.upstream.client() as direct:
        for visitor in visitors:
            assert direct.shop[WRITTEN].count_documents({"of": visitor.number}) == visitor.written
    news = filled.log[seen:]
    assert "internal error" not in news, news[-3000:]
    assert "Traceback" not in news, news[-3000:]
    # A pool keeps a connection for each request that was under way at once; and there is a pipe.
    deadline = time.monotonic() + 30
    while open_files(filled) > before + CLIENTS + 2:
        assert time.monotonic() < deadline, "descriptors are kept for clients that have left"
        time.sleep(0.05)


def test_a_right_that_is_taken_away_is_missed_by_the_next_of_many_equal_reads(filled: Guard):
    with filled.upstream.client() as direct, filled.client("root") as root:
        direct.admin.command(
            "createUser", "leaver", pwd=password_of("leaver"), roles=[{"role": "read", "db": "shop"}]
        )
        try:
            with RawConnection(filled.address) as raw:
                raw.log_in("leaver", password_of("leaver"))
                for i in range(5):
                    assert raw.command("shop", {"find": READ, "filter": {"_id": i}})["ok"] == 1
                root.admin.command("revokeRolesFromUser", "leaver", roles=[{"role": "read", "db": "shop"}])
                assert raw.command("shop", {"find": READ, "filter": {"_id": 5}})["code"] == 13
        finally:
            direct.admin.command("dropUser", "leaver")


@pytest.mark.parametrize(
    ("user", "command", "flags"),
    [
        ("app", {"ping": 1, "$db": "admin"}, 0),
        (
            "app",
            {"insert": WRITTEN, "documents": [{}], "writeConcern": {"w": 0}, "$db": "shop"},
            MORE_TO_COME,
        ),
        (None, {"hello": 1, "$db": "admin"}, 0),
    ],
)
def test_a_client_that_leaves_with_its_last_request_leaves_no_connection(
    guard_standalone: Guard, user: str | None, command: dict[str, Any], flags: int
) -> None:
    with RawConnection(guard_standalone.address) as raw:
        if user is not None:
            raw.log_in(user, password_of(user))
        for _ in range(2):  # so that the next one is served quickly
            raw.send(op_msg(command, flags=flags))
            assert flags or raw.receive().document["ok"] == 1
        assert raw.command("admin", {"hello": 1})["ok"] == 1
        guard_standalone.send_signal(signal.SIGSTOP)  # so that it sees both at once
        try:
            raw.send(op_msg(command, flags=flags))
            raw.end_sending()
        finally:
            guard_standalone.send_signal(signal.SIGCONT)
        assert flags or raw.receive().document["ok"] == 1
        assert raw.is_closed_by_peer()
