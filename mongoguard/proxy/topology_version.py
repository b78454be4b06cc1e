"""topologyVersion and maxAwaitTimeMS of a hello: whether, and for how long, the client wants to wait for news.

In: the body of a hello, and this process's own version. Out: seconds to wait, or mongod's refusal. Must not know who
waits.
Source: "Server Discovery And Monitoring" (awaitable hello); codes and texts measured on mongod 6.0.5.
"""

from __future__ import annotations

import math
from typing import Any

from bson import Int64, ObjectId

from mongoguard.errors import CommandError, ErrorCode
from mongoguard.wire.document import (
    DECIMAL128,
    DOCUMENT,
    DOUBLE,
    INT32,
    INT64,
    NULL,
    OBJECT_ID,
    Document,
    encode_element,
)

__all__ = ["MAX_AWAIT_SECS", "MIN_STREAM_SECS", "AwaitableHello", "topology_version"]

MAX_AWAIT_SECS = 300.0
"""A longer wait ends here, as if it were over: drivers wait for heartbeatFrequencyMS (10 s by default), and whoever
does not log in may hold a connection for no longer without a word."""

MIN_STREAM_SECS = 0.5
"""Between two replies of a stream without news: the minimum of heartbeatFrequencyMS. A client asks for a stream once,
so a shorter wait would give it thousands of replies a second for nothing."""

_MAX_MS = 2**63 // 1_000_000
"""More milliseconds than that are no nanoseconds of 64 bits; mongod refuses them."""

_NUMBERS = (INT64, INT32, DECIMAL128, DOUBLE)


def topology_version(process_id: ObjectId, counter: int) -> dict[str, Any]:
    """As hello says it."""
    return {"processId": process_id, "counter": Int64(counter)}


class AwaitableHello:
    """The two arguments of a hello, checked. `is_awaiting`: both are there. `wait_secs`: how long it wants to wait."""

    __slots__ = ("_counter", "_process_id", "is_awaiting", "wait_secs")

    def __init__(self, body: Document) -> None:
        """Read them. Raises `CommandError` as mongod does, which says "hello" whatever the command's name."""
        self._process_id, self._counter = _client_version(body)
        milliseconds = _max_await_ms(body)
        if self._process_id is not None and milliseconds is None:
            raise CommandError(31368, "A request with a 'topologyVersion' must include 'maxAwaitTimeMS'")
        if self._process_id is None and milliseconds is not None:
            raise CommandError(31368, "A request with 'maxAwaitTimeMS' must include a 'topologyVersion'")
        if self._counter < 0:
            raise CommandError(31372, "topologyVersion must have a non-negative counter")
        if milliseconds is not None and milliseconds > _MAX_MS:
            raise CommandError(
                159, "Overflow casting from a lower-precision duration to a higher-precision duration"
            )
        self.is_awaiting = milliseconds is not None
        self.wait_secs = min((milliseconds or 0) / 1000, MAX_AWAIT_SECS)

    def knows(self, process_id: ObjectId, counter: int, *, of_replica_set: bool) -> bool:
        """Whether the client has seen what hello says now, so that it is to wait for something else.

        Raises `CommandError` when it claims to have seen more than there was.
        """
        if self._process_id != process_id or self._counter < counter:
            return False
        if self._counter > counter:
            raise CommandError(
                31382 if of_replica_set else 51764,
                f"Received a topology version with counter: {self._counter} which is greater than the server "
                f"topology version counter: {counter}",
            )
        return True

    @staticmethod
    def with_version(body: Document, version: dict[str, Any]) -> bytes:
        """The same hello for the next reply of a stream: of a client that has seen that version."""
        element = body.fields["topologyVersion"]
        inside = b"".join(
            (
                body.data[body.start + 4 : element.start],
                encode_element("topologyVersion", version),
                body.data[element.end : body.end],
            )
        )
        return (len(inside) + 4).to_bytes(4, "little") + inside


def _client_version(body: Document) -> tuple[ObjectId | None, int]:
    if body.type_of("topologyVersion") in (None, NULL):
        return None, 0
    path = "hello.topologyVersion"
    version = body.document("topologyVersion") if body.type_of("topologyVersion") == DOCUMENT else None
    if version is None:
        raise _wrong_type(path, body.type_name("topologyVersion"), "type 'object'")
    types = {"processId": (OBJECT_ID, "objectId"), "counter": (INT64, "long")}
    for field in version:
        if field not in types:
            raise CommandError(40415, f"BSON field '{path}.{field}' is an unknown field.")
        expected, expected_name = types[field]
        if version.type_of(field) not in (expected, NULL):
            raise _wrong_type(f"{path}.{field}", version.type_name(field), f"type '{expected_name}'")
    for field in types:
        if version.type_of(field) in (None, NULL):
            raise CommandError(40414, f"BSON field '{path}.{field}' is missing but a required field")
    return version.value("processId"), int(version.number("counter") or 0)


def _max_await_ms(body: Document) -> int | None:
    kind = body.type_of("maxAwaitTimeMS")
    if kind in (None, NULL):
        return None
    if kind not in _NUMBERS:
        raise _wrong_type(
            "hello.maxAwaitTimeMS",
            body.type_name("maxAwaitTimeMS"),
            "types '[long, int, decimal, double']",
        )
    given = body.number("maxAwaitTimeMS") or 0
    if math.isnan(given):
        return 0
    if given <= -1:
        shown = int(max(given, -(2**63)))
        raise CommandError(51024, f"BSON field 'maxAwaitTimeMS' value must be >= 0, actual value '{shown}'")
    return int(min(given, _MAX_MS + 1))


def _wrong_type(path: str, found: str, expected: str) -> CommandError:
    return CommandError(
        ErrorCode.TYPE_MISMATCH, f"BSON field '{path}' is the wrong type '{found}', expected {expected}"
    )
