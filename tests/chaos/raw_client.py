"""Clients without a driver, for what drivers never do: pipelining, coming and going, leaving in mid-command.

In: where to connect to, and a seed. Out: events. They send bytes with `tests.rawwire` and check each reply themselves.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import struct
import threading
from collections.abc import Iterable
from typing import Any

from tests.chaos.driver_client import READ_FIELDS, ClientPlan, database_of
from tests.chaos.events import TROUBLE, Breach, Report
from tests.chaos.ledger import Ledger
from tests.chaos.tls import connect_raw
from tests.rawwire import ConnectionEnded, Message, RawConnection, op_msg
from tests.servers import password_of

__all__ = [
    "WAIT_SECS",
    "Churner",
    "Leaver",
    "Pipeliner",
    "RawClient",
    "Trouble",
    "check_ok",
    "log_in",
    "reply_to",
]

WAIT_SECS = 1.5
"""How long these clients wait for bytes."""

LONG_SECS = 40
"""How long the work takes that nobody waits for: it must be gone long before it would have ended by itself."""

PIPELINED = 8
"""Requests sent at once, before any reply is read."""


class Trouble(ConnectionEnded):
    """An error reply that a deployment in trouble may give."""


def check_ok(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply, when it is ok. Raises `Trouble` or `Breach`."""
    if reply.get("ok") != 1:
        text = f"{reply.get('code')} {reply.get('errmsg')}"
        raise (Trouble if reply.get("code") in TROUBLE else Breach)(text)
    return reply


def reply_to(request_id: int, message: Message) -> dict[str, Any]:
    """The document of a message, when it is the reply to that request."""
    if message.response_to != request_id:
        raise Breach(
            f"a reply to {message.response_to} where {request_id} is next: {str(message.document)[:300]}"
        )
    return message.document


def log_in(raw: RawConnection, user: str) -> None:
    """SCRAM. Raises `Trouble` when the deployment can't be asked, `Breach` when the right password is refused."""
    try:
        raw.log_in(user, password_of(user))
    except AssertionError as error:
        reply = error.args[0] if error.args else None
        if isinstance(reply, dict):
            check_ok(reply)
        raise Breach(f"a login went wrong: {error}") from error


class RawClient:
    """What these clients have in common."""

    def __init__(self, plan: ClientPlan, report: Report, stop: threading.Event) -> None:
        """Prepare; `run` is the thread's."""
        self._plan = plan
        self._report = report
        self._stop = stop
        self._random = random.Random(f"{plan.seed}/{plan.name}")
        self._ledger = Ledger(plan.name)
        self._tokens = itertools.count(1)
        self._rounds = 0

    def run(self) -> None:
        """The whole life of this client."""
        raise NotImplementedError

    @property
    def _database(self) -> str:
        return database_of(self._plan.name)

    def _find(self, number: int, token: str, database: str = "") -> dict[str, Any]:
        return {
            "find": "documents",
            "filter": {"_id": number},
            "projection": {**READ_FIELDS, "echo": {"$literal": token}},
            "$db": database or self._database,
        }

    def _connection(self) -> RawConnection:
        return connect_raw(self._plan.address, WAIT_SECS, self._plan.options)

    def _insert(self, raw: RawConnection) -> None:
        number = self._ledger.new_number()
        document = self._ledger.try_insert(number)
        concern = {"w": "majority", "wtimeout": 2000} if self._plan.replica_set else {"w": 1, "j": True}
        command = {"insert": "documents", "documents": [document], "writeConcern": concern}
        request_id = 1000 + next(self._tokens)
        message = raw.exchange(op_msg({**command, "$db": self._database}, request_id=request_id))
        reply = check_ok(reply_to(request_id, message))
        errors = [error.get("code") for error in reply.get("writeErrors", [])]
        if errors and all(code in TROUBLE for code in errors):
            raise Trouble(str(reply["writeErrors"]))
        if errors or reply.get("n") != 1:
            raise Breach(f"an insert was answered with {reply}")
        if "writeConcernError" in reply:
            raise Trouble(str(reply["writeConcernError"]))
        self._ledger.inserted(number)

    def _any_known(self) -> int:
        return self._random.choice(sorted(self._ledger.there | self._ledger.open))


class Pipeliner(RawClient):
    """Sends eight requests at once, a forbidden one among them, and checks that the replies are theirs, in order."""

    def run(self) -> None:
        """The whole life of this client."""
        while not self._stop.is_set():
            with contextlib.suppress(OSError), self._connection() as raw:
                if self._begins(raw):
                    while not self._stop.is_set() and self._round(raw):
                        self._stop.wait(0.03)
            self._stop.wait(0.1)

    def _begins(self, raw: RawConnection) -> bool:
        before = self._rounds
        with self._report.operation(self._plan.name, "login", 10 * WAIT_SECS):
            log_in(raw, self._plan.name)
            self._rounds += 1
        return self._rounds > before

    def _round(self, raw: RawConnection) -> bool:
        """Whether the connection may be used on: after anything unexpected, what comes next on it means nothing."""
        before = self._rounds
        with self._report.operation(self._plan.name, "pipeline", PIPELINED * WAIT_SECS):
            self._insert(raw)
            self._pipeline(raw)
            self._rounds += 1
        return self._rounds > before

    def _pipeline(self, raw: RawConnection) -> None:
        forbidden = self._random.randrange(PIPELINED)
        wanted: list[tuple[int, int, str]] = []
        requests = []
        for place in range(PIPELINED):
            request_id, number, token = 1000 + next(self._tokens), self._any_known(), ""
            token = f"{self._plan.name}-{request_id}"
            wanted.append((request_id, number, token))
            database = database_of(self._plan.forbidden) if place == forbidden else ""
            requests.append(op_msg(self._find(number, token, database), request_id=request_id))
        raw.send(b"".join(requests))
        self._check(wanted, (raw.receive() for _ in wanted), forbidden)

    def _check(self, wanted: list[tuple[int, int, str]], replies: Iterable[Message], forbidden: int) -> None:
        for place, (message, (request_id, number, token)) in enumerate(zip(replies, wanted, strict=True)):
            reply = reply_to(request_id, message)
            if place == forbidden:
                if reply.get("code") != 13 and reply.get("code") not in TROUBLE:
                    raise Breach(f"what is forbidden was answered with {str(reply)[:300]}")
                continue
            batch = check_ok(reply)["cursor"]["firstBatch"]
            if len(batch) > 1:
                raise Breach(f"{len(batch)} documents for one _id")
            self._ledger.check_read(number, batch[0] if batch else None, token)


class Churner(RawClient):
    """Connects, does little or nothing, and goes, in every way that a connection can end."""

    def run(self) -> None:
        """The whole life of this client."""
        while not self._stop.is_set():
            way = self._random.choice(
                [self._read_once, self._read_once, self._say_hello, self._leave_in_mid_message]
            )
            kind = "login" if way == self._read_once else "visit"
            with self._report.operation(self._plan.name, kind, 10 * WAIT_SECS), self._connection() as raw:
                way(raw)
            self._stop.wait(self._random.uniform(0.02, 0.1))

    def _read_once(self, raw: RawConnection) -> None:
        log_in(raw, self._plan.name)
        self._insert(raw)
        number, token = self._any_known(), f"{self._plan.name}-{next(self._tokens)}"
        request_id = 1000 + next(self._tokens)
        message = raw.exchange(op_msg(self._find(number, token), request_id=request_id))
        reply = check_ok(reply_to(request_id, message))
        batch = reply["cursor"]["firstBatch"]
        self._ledger.check_read(number, batch[0] if batch else None, token)

    def _say_hello(self, raw: RawConnection) -> None:
        check_ok(raw.command("admin", {"hello": 1}))

    def _leave_in_mid_message(self, raw: RawConnection) -> None:
        if self._random.random() < 0.5:
            log_in(raw, self._plan.name)
        request = op_msg({"find": "documents", "$db": self._database})
        raw.send(request[: self._random.randrange(1, len(request))])
        if self._random.random() < 0.5:
            reset(raw)


class Leaver(RawClient):
    """Starts work that takes long, and leaves without waiting for it."""

    def run(self) -> None:
        """The whole life of this client."""
        while not self._stop.is_set():
            with self._report.operation(self._plan.name, "leave", 10 * WAIT_SECS), self._connection() as raw:
                log_in(raw, self._plan.name)
                while len(self._ledger.there) < LONG_SECS and not self._stop.is_set():
                    self._insert(raw)
                # a second for each document: the server looks between two of them whether anybody still waits
                sleeping = {"$where": "sleep(1000) || true"}
                command = {"find": "documents", "filter": sleeping, "$db": self._database}
                raw.send(op_msg(command))
                self._stop.wait(self._random.uniform(0.05, 0.8))
                if self._random.random() < 0.5:
                    reset(raw)
            self._stop.wait(self._random.uniform(0.1, 0.5))


def reset(raw: RawConnection) -> None:
    """Make the end of this connection a reset (SO_LINGER with no time)."""
    raw._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
