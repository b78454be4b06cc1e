"""Own operations: killOp without the action killop, for operations of the user who asks.

In: a killOp command and its user's identity. Out: whether the operation is that user's. Must not know sockets.
Source: measured on mongod 6.0.5: ending one's own operation needs no privilege, any other id needs killop. Upstream
every operation is the service user's; an upstream that takes impersonation shows `$currentOp` without `allUsers` as the
impersonated user sees it.
"""

from __future__ import annotations

from mongoguard.command.command import Command
from mongoguard.effects import AskUpstream, Flow, perform
from mongoguard.errors import CommandError, ErrorCode, UpstreamError
from mongoguard.proxy.identity import Identity
from mongoguard.wire.document import DOUBLE, INT32, INT64

__all__ = ["is_own_operation"]


MIN_OPERATION, MAX_OPERATION = -(2**31), 2**31 - 1
"""Numbers of operations have 32 bits."""
_INT64 = 2.0**63


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
    """None for what is no number; a decimal is none here."""
    if command.body.type_of("op") not in (INT32, INT64, DOUBLE):
        return None
    number = command.body.number("op") or 0
    if isinstance(number, float) and not (number.is_integer() and abs(number) < _INT64):
        raise CommandError(
            ErrorCode.BAD_VALUE,
            'Expected field "op" to have a value exactly representable as a 64-bit integer, but found op: '
            f"{number}",
        )
    if not MIN_OPERATION <= number <= MAX_OPERATION:
        raise CommandError(26823, f"invalid op : {int(number)}. Op ID cannot be represented with 32 bits")
    return int(number)
