"""State changes: replies which tell that a server is not what it was.

In: a reply's bytes. Out: a `StateChanged`, or None. Must not know the topology.
Source: the specification "Server Discovery And Monitoring", "not writable primary" and "node is recovering".
"""

from __future__ import annotations

from mongoguard.effects import StateChanged
from mongoguard.errors import CommandError, ProtocolError
from mongoguard.proxy.replies import begins_with_failure, parse_reply

__all__ = ["may_tell_state_change", "state_change_in"]

_NOT_PRIMARY = frozenset({10058, 10107, 13435})
_RECOVERING = frozenset({91, 189, 11600, 11602, 13436})
_STATE_CHANGES = _NOT_PRIMARY | _RECOVERING
_SHUTTING_DOWN = frozenset({91, 11600})

SHORT_REPLY_BYTES = 4096
"""Replies of writes are shorter than that; in longer ones nobody looks for a write concern error."""


def may_tell_state_change(reply: bytes) -> bool:
    """Whether a reply is worth a look; cheap for one that succeeds."""
    return begins_with_failure(reply) or (len(reply) <= SHORT_REPLY_BYTES and b"writeConcernError" in reply)


def state_change_in(reply: bytes, server: str) -> StateChanged | None:
    """What a reply says of its server, in its error or, where the command succeeded, in its write concern error."""
    try:
        body = parse_reply(reply).body
        code = body.number("code")
        if body.truthy("ok"):
            concern = body.document("writeConcernError")
            code = None if concern is None else concern.number("code")
        version = body.value("topologyVersion")
    except (CommandError, ProtocolError):
        return None
    if code not in _STATE_CHANGES:
        return None
    known = isinstance(version, dict) and isinstance(version.get("counter"), int)
    return StateChanged(server, code in _SHUTTING_DOWN, version if known else None)
