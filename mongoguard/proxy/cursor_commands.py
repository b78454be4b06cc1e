"""getMore and killCursors: only for those whom mongod would let.

In: a command that names cursors, and the session that sent it. Out: the reply. Must not know sockets.
Source: measured on mongod 6.0.5. A cursor that the table does not know is not known to the client either: it is never
relayed, because upstream it might be anybody's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bson import Int64, Timestamp

from mongoguard.command.command import Command
from mongoguard.command.printing import not_authorized
from mongoguard.effects import CursorClaim, FindCursors, Flow, KeptCursor, Relay, perform
from mongoguard.errors import CommandError, ErrorCode, UpstreamUnavailable
from mongoguard.model.action_type import ActionType
from mongoguard.model.names import Namespace
from mongoguard.model.privilege import AnyOf, Privilege
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from mongoguard.proxy.cursors import CursorEntry, SessionKey
from mongoguard.proxy.narrowing import keep_authorized_collections
from mongoguard.proxy.reading import read_command
from mongoguard.proxy.refusals import retry_labels
from mongoguard.proxy.relaying import Narrowing, session_id
from mongoguard.proxy.replies import cursor_in_reply, error_code_in_reply, ok_body, parse_reply
from mongoguard.wire.document import Document, encode, encode_element
from mongoguard.wire.message import OpMsg, encode_op_msg, parse_message

if TYPE_CHECKING:
    from mongoguard.proxy.client_session import ClientSession

__all__ = ["abandon_stream", "get_more", "kill_cursors"]

MAX_SOUGHT = 1_000
"""Ids of one killCursors that other workers are asked for; a driver kills its cursors a few at a time."""

MAX_NAMESPACE_BYTES = 255
"""mongod's limit ("MongoDB Limits and Thresholds"). No worker has a cursor of a longer one, and none is asked."""

_KILL_ANY_CURSOR = frozenset({ActionType.KILL_ANY_CURSOR})
_KILL_ANYBODYS = Privilege(CLUSTER, _KILL_ANY_CURSOR)


def get_more(session: ClientSession, message: OpMsg, command: Command) -> Flow[bytes]:
    """Relay a getMore of the cursor's owner to the server that holds it. Its row has checked the arguments' types."""
    body = command.body
    cursor_id = int(body.number("getMore") or 0)
    collection = body.string("collection") or ""
    if not collection:
        raise CommandError(ErrorCode.INVALID_NAMESPACE, "Collection names cannot be empty")
    claim = _claim(
        session,
        not session.settings.authorization_enabled,  # then a cursor is everybody's, as in mongod
        str(Namespace(command.db, collection)),
        session_id(body),
    )
    entry = session.cursors.find(cursor_id) or (yield from _find_to_read(session, body, cursor_id, claim))
    entry.check(claim)
    if not session.authorization.authorize(entry.requirement).allowed:
        raise CommandError(ErrorCode.UNAUTHORIZED, f"not authorized for getMore with cursor id {cursor_id}")
    passes = not entry.only_authorized
    reply = (yield from session.relay(message, server=entry.server, documents_pass=passes)).message
    opened = cursor_in_reply(reply)
    if opened is None:
        if error_code_in_reply(reply) == ErrorCode.CURSOR_NOT_FOUND:
            session.cursors.remove(cursor_id)
        return reply
    if opened.cursor_id == 0:
        session.cursors.remove(cursor_id)
    else:
        session.streaming.go_on()
    if entry.only_authorized:
        return keep_authorized_collections(reply, command.db, session.authorization)
    return reply


def abandon_stream(session: ClientSession) -> Flow[None]:
    """The client has left: end the cursor whose batches would have followed. mongod does so too."""
    if session.streaming.next_request is None:
        return
    message = parse_message(session.streaming.next_request)
    assert isinstance(message, OpMsg)  # a stream consists of OP_MSG only
    command = read_command(message)
    if command.name != "getMore":
        return
    entry = session.cursors.find(int(command.body.number("getMore") or 0))
    if entry is None:
        return
    session.cursors.remove(entry.cursor_id)
    namespace = Namespace.parse(entry.namespace)
    body = encode(
        {"killCursors": namespace.collection, "cursors": [Int64(entry.cursor_id)], "$db": namespace.db}
    )
    yield from perform(Relay(encode_op_msg(session.request_id(), 0, body), entry.server))


def _claim(
    session: ClientSession, of_anybody: bool, namespace: str | None = None, key: SessionKey = None
) -> CursorClaim:
    return CursorClaim(None if session.user is None else session.user.name, of_anybody, namespace, key)


def _find_to_read(
    session: ClientSession, body: Document, cursor_id: int, claim: CursorClaim
) -> Flow[CursorEntry]:
    """The entry of a cursor that this table does not know. Raises mongod's refusal if nobody has it for the reader."""
    for kept in (yield from _fetch(session, body, [cursor_id], claim)):
        raise CommandError(ErrorCode.UNAUTHORIZED, kept.errmsg)
    entry = session.cursors.find(cursor_id)
    if entry is None:
        raise CommandError(ErrorCode.CURSOR_NOT_FOUND, f"cursor id {cursor_id} not found")
    return entry


def _fetch(
    session: ClientSession, body: Document, ids: list[int], claim: CursorClaim
) -> Flow[tuple[KeptCursor, ...]]:
    """Have other workers hand over what they know and is the claimant's; those that they keep."""
    if not ids or not session.cursors.has_siblings or len(claim.namespace or "") > MAX_NAMESPACE_BYTES:
        return ()
    try:
        return (yield from perform(FindCursors(tuple(ids[:MAX_SOUGHT]), claim)))
    except UpstreamUnavailable as error:
        raise CommandError(ErrorCode.HOST_UNREACHABLE, str(error), labels=retry_labels(body)) from error


def _find_to_kill(session: ClientSession, command: Command) -> Flow[dict[int, CursorEntry | None]]:
    """The entries of the ids that a killCursors names. Raises its refusal if one of them is not the user's to kill."""
    ids = _cursor_ids(command.body)
    claim = _claim(session, of_anybody=session.authorization.authorize(_KILL_ANYBODYS).allowed)
    unknown = [cursor_id for cursor_id in ids if session.cursors.find(cursor_id) is None]
    kept = yield from _fetch(session, command.body, unknown, claim)
    if not all(_may_kill_in(session, one.namespace) for one in kept):
        raise not_authorized(command)
    known_elsewhere = [one.cursor_id for one in kept]
    yield from _fetch(session, command.body, known_elsewhere, replace(claim, of_anybody=True))
    entries = {cursor_id: session.cursors.find(cursor_id) for cursor_id in ids}
    for entry in entries.values():
        if entry is not None and entry.refusal_of(claim) and not _may_kill_in(session, entry.namespace):
            raise not_authorized(command)
    return entries


def kill_cursors(session: ClientSession, message: OpMsg, command: Command) -> Flow[bytes]:
    """Relay the ids that the table knows, to the servers that hold them; the others are not found."""
    body = command.body
    entries = yield from _find_to_kill(session, command)
    servers = sorted({entry.server for entry in entries.values() if entry is not None})
    outcome: dict[str, Any] = {
        "cursorsKilled": [],
        "cursorsNotFound": [],
        "cursorsAlive": [],
        "cursorsUnknown": [],
    }
    outcome["cursorsNotFound"] = [Int64(i) for i, entry in entries.items() if entry is None]
    times: dict[str, Any] = {}
    for server in servers:
        own = [Int64(i) for i, entry in entries.items() if entry is not None and entry.server == server]
        field = body.fields["cursors"]
        narrowed = Narrowing(splices=((field.start, field.end, encode_element("cursors", own)),))
        try:
            reply = (yield from session.relay(message, narrowed, server=server)).message
        except CommandError as error:
            if error.code != ErrorCode.HOST_UNREACHABLE:
                raise
            outcome["cursorsAlive"] += own  # its server does not answer; the others' are killed all the same
            continue
        if error_code_in_reply(reply):
            return reply
        _add_outcome(outcome, reply)
        _keep_newest(times, reply)
    for cursor_id in outcome["cursorsKilled"]:
        session.cursors.remove(int(cursor_id))
    return encode_op_msg(session.request_id(), message.request_id, ok_body(outcome | times))


def _may_kill_in(session: ClientSession, namespace: str) -> bool:
    """Whoever's they are. `namespace` is the cursor's own, not the one that the command names: that is the client's."""
    pattern = ResourcePattern.for_exact_namespace(*Namespace.parse(namespace))
    return session.authorization.authorize(
        AnyOf((_KILL_ANYBODYS, Privilege(pattern, _KILL_ANY_CURSOR)))
    ).allowed


def _add_outcome(outcome: dict[str, Any], reply: bytes) -> None:
    body = parse_reply(reply).body
    for name in outcome:
        outcome[name] += body.value(name) or []


def _keep_newest(times: dict[str, Any], reply: bytes) -> None:
    """Clients take the time of the cluster, and that of the operation, from every reply ("Causal Consistency")."""
    body = parse_reply(reply).body
    operation, cluster = body.value("operationTime"), body.value("$clusterTime")
    known_operation, known_cluster = times.get("operationTime"), times.get("$clusterTime")
    if isinstance(operation, Timestamp) and (known_operation is None or operation > known_operation):
        times["operationTime"] = operation
    time = cluster.get("clusterTime") if isinstance(cluster, dict) else None
    if isinstance(time, Timestamp) and (known_cluster is None or time > known_cluster["clusterTime"]):
        times["$clusterTime"] = cluster


def _cursor_ids(body: Document) -> list[int]:
    """The row has checked that it is an array of longs and nulls; mongod passes over the nulls."""
    array = body.array("cursors")
    numbers = [] if array is None else [array.number(index) for index in array]
    return [int(number) for number in numbers if number is not None]
