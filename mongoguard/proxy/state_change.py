"""State changes: replies which tell that a server is not what it was.

In: a reply's bytes. Out: a `StateChanged`, or None; and the reply as from a mongos. Must not know the topology.
Source: the specification "Server Discovery And Monitoring", "not writable primary" and "node is recovering"; what
mongos does with such errors of its shards (its parameter rewriteStateChangeErrors).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mongoguard.effects import StateChanged
from mongoguard.errors import CommandError, ErrorCode, ProtocolError, code_name
from mongoguard.proxy.replies import begins_with_failure, parse_reply
from mongoguard.wire.document import encode
from mongoguard.wire.message import encode_op_msg, request_id_of

__all__ = ["as_mongos", "may_tell_state_change", "state_change_in"]

_NOT_PRIMARY = frozenset({10058, 10107, 13435})
_RECOVERING = frozenset({91, 189, 11600, 11602, 13436})
_STATE_CHANGES = _NOT_PRIMARY | _RECOVERING
_SHUTTING_DOWN = frozenset({91, 11600})
_TOLD_BY_WORDS = (
    ("not master", "(NOT_PRIMARY)"),
    ("not primary", "(NOT_PRIMARY)"),
    ("node is recovering", "(NODE_IS_RECOVERING)"),
)

_BODY_FIELDS = 25
_DOCUMENTS = b"\x03cursor\0"
"""Where the body's first field is, and how a reply begins that shows documents."""

SHORT_REPLY_BYTES = 4096
"""Replies of writes are shorter than that; in longer ones nobody looks for their errors."""


def may_tell_state_change(reply: bytes) -> bool:
    """Whether a reply is worth a look; cheap for one that succeeds, and cheapest for one of documents."""
    if reply.startswith(_DOCUMENTS, _BODY_FIELDS):
        return False
    return begins_with_failure(reply) or (
        len(reply) <= SHORT_REPLY_BYTES
        and (b"\x03writeConcernError\0" in reply or b"\x04writeErrors\0" in reply)
    )


def state_change_in(reply: bytes, server: str, *, asked_as_primary: bool = True) -> StateChanged | None:
    """What a reply says of its server, in its error or, where the command succeeded, in its write concern error.

    That it is no primary is no news of a server which was asked because of a read preference: readers who ask
    secondaries for linearizable reads could otherwise keep everybody from reading there.
    """
    try:
        body = parse_reply(reply).body
        code = body.number("code")
        if body.truthy("ok"):
            concern = body.document("writeConcernError")
            code = None if concern is None else concern.number("code")
        version = body.value("topologyVersion")
    except (CommandError, ProtocolError):
        return None
    if code not in (_STATE_CHANGES if asked_as_primary else _RECOVERING):
        return None
    known = isinstance(version, dict) and isinstance(version.get("counter"), int)
    return StateChanged(server, code in _SHUTTING_DOWN, version if known else None)


def as_mongos(reply: bytes) -> bytes:
    """The reply with 6 HostUnreachable for errors that tell of a state change: drivers retry on either.

    They would take the others for the state of mongoguard itself, and wait until its hello says that it is well again.
    """
    try:
        body = parse_reply(reply).body
        document = body.decode()
    except (CommandError, ProtocolError):
        return reply
    rewritten = _unreachable(document) if not body.truthy("ok") else dict(document)
    if isinstance(errors := document.get("writeErrors"), list):
        rewritten["writeErrors"] = [_unreachable(one) if isinstance(one, dict) else one for one in errors]
    if isinstance(concern := document.get("writeConcernError"), dict):
        rewritten["writeConcernError"] = _unreachable(concern)
    if rewritten == document:
        return reply
    rewritten.pop("topologyVersion", None)
    response_to = int.from_bytes(reply[8:12], "little", signed=True)
    return encode_op_msg(request_id_of(reply), response_to, encode(rewritten))


def _unreachable(error: Mapping[str, Any]) -> dict[str, Any]:
    """An error document with another code, and without the words by which old drivers know a state change."""
    if error.get("code") not in _STATE_CHANGES:
        return dict(error)
    changed = {**error, "code": int(ErrorCode.HOST_UNREACHABLE)}
    if "codeName" in error:
        changed["codeName"] = code_name(ErrorCode.HOST_UNREACHABLE)
    if isinstance(text := error.get("errmsg"), str):
        for words, instead in _TOLD_BY_WORDS:
            text = text.replace(words, instead)
        changed["errmsg"] = text
    return changed
