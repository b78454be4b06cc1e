"""Own operations: killOp without the action killop, for operations of the user who asks.

In: a killOp command and its user's identity. Out: whether the operation is that user's. Must not know sockets.
Source: measured on mongod 6.0.5: ending one's own operation needs no privilege, any other id needs killop. Upstream
every operation is the service user's; an upstream that takes impersonation shows `$currentOp` without `allUsers` as the
impersonated user sees it.
"""

from __future__ import annotations

import math
from decimal import Decimal

from mongoguard.command.command import Command
from mongoguard.command.printing import print_element
from mongoguard.effects import AskUpstream, Flow, perform
from mongoguard.errors import CommandError, ErrorCode, UpstreamError
from mongoguard.proxy.identity import Identity
from mongoguard.wire.document import DECIMAL128, DOUBLE, INT32, INT64, Document

__all__ = ["is_own_operation"]


MIN_OPERATION, MAX_OPERATION = -(2**31), 2**31 - 1
"""Numbers of operations have 32 bits."""
_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1
_NUMBERS = (INT32, INT64, DOUBLE, DECIMAL128)


def is_own_operation(command: Command, identity: Identity) -> Flow[bool]:
    """Whether `op` is the number of an operation that runs for that user now.

    Raises `CommandError` 2 or 26823, as mongod words them, for a number that no operation has.
    """
    number = _operation(command)
    if not identity.audit or number is None:
        return False
    pipeline = [{"$currentOp": {}}, {"$match": {"opid": number}}, {"$limit": 1}]
    ask = {"aggregate": 1, "pipeline": pipeline, "cursor": {}, "$audit": dict(identity.audit)}
    try:
        reply = yield from perform(AskUpstream("admin", ask))
    except UpstreamError:
        return False
    return bool(reply.get("ok") and reply["cursor"]["firstBatch"])


def _operation(command: Command) -> int | None:
    """None for what is no number.

    mongod reads a number as a 64-bit integer, rounded and held to the limits, and takes it when both are equal as
    doubles: so 2**63 is "representable", and so is a decimal that is an integer but for its last digits.
    """
    body = command.body
    if body.type_of("op") not in _NUMBERS:
        return None
    number = float(body.number("op") or 0)
    integer = 0 if math.isnan(number) else _as_int64(_exactly(body))
    if number != float(integer):
        raise CommandError(
            ErrorCode.BAD_VALUE,
            'Expected field "op" to have a value exactly representable as a 64-bit integer, but found '
            f"{print_element(body, 'op')}",
        )
    if not MIN_OPERATION <= integer <= MAX_OPERATION:
        raise CommandError(26823, f"invalid op : {integer}. Op ID cannot be represented with 32 bits")
    return integer


def _exactly(body: Document) -> float | Decimal:
    if body.type_of("op") == DECIMAL128:
        exact: Decimal = body.value("op").to_decimal()
        return exact
    return body.number("op") or 0


def _as_int64(number: float | Decimal) -> int:
    """The nearest integer of 64 bits."""
    if (
        not _MIN_INT64 <= number <= _MAX_INT64
    ):  # before rounding, for a decimal of 6000 digits would take its time
        return _MAX_INT64 if number > 0 else _MIN_INT64
    return min(round(number), _MAX_INT64)
