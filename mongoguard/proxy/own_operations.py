"""Own operations: killOp without the action killop, for operations of the user who asks.

In: a killOp command and its user's identity. Out: whether the operation is that user's. Must not know sockets.
Source: measured on mongod 6.0.5: ending one's own operation needs no privilege, any other id needs killop. Upstream
every operation is the service user's; an upstream that takes impersonation shows `$currentOp` without `allUsers` as the
impersonated user sees it.
"""

from __future__ import annotations

from mongoguard.command.command import Command
from mongoguard.effects import AskUpstream, Flow, perform
from mongoguard.errors import UpstreamError
from mongoguard.proxy.identity import Identity
from mongoguard.wire.document import DOUBLE, INT32, INT64

__all__ = ["is_own_operation"]


def is_own_operation(command: Command, identity: Identity) -> Flow[bool]:
    """Whether `op` is the number of an operation that runs for that user now."""
    if not identity.audit or command.body.type_of("op") not in (INT32, INT64, DOUBLE):
        return False
    pipeline = [{"$currentOp": {}}, {"$match": {"opid": command.body.number("op")}}, {"$limit": 1}]
    ask = {"aggregate": 1, "pipeline": pipeline, "cursor": {}, "$audit": dict(identity.audit)}
    try:
        reply = yield from perform(AskUpstream("admin", ask))
    except UpstreamError:
        return False
    return bool(reply.get("ok") and reply["cursor"]["firstBatch"])
