"""OP_QUERY: the handful of commands that a 6.0.5 server still takes over it, by which older drivers log in.

In: a parsed OP_QUERY. Out: an OP_REPLY. Must not know sockets. All of these are answered here: nothing that comes as
OP_QUERY is ever relayed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mongoguard.command.arguments import NOT_AN_OBJECT
from mongoguard.command.catalog import find_row
from mongoguard.command.command import Command
from mongoguard.command.read_preference import parse_read_preference
from mongoguard.effects import Flow
from mongoguard.errors import CommandError, ErrorCode, ProtocolError
from mongoguard.proxy.local_commands import NEVER_COMPRESSED, answer_here
from mongoguard.proxy.reading import check_database_name
from mongoguard.proxy.replies import error_body, ok_body
from mongoguard.wire.document import Document, encode
from mongoguard.wire.message import (
    MessageFlag,
    OpCode,
    OpQuery,
    ReplyFlag,
    encode_op_msg,
    encode_op_reply,
    request_id_of,
)

if TYPE_CHECKING:
    from mongoguard.proxy.client_session import ClientSession

__all__ = ["answer", "get_more_reply", "refusal_of_unparsed"]

_OP_MSG = OpCode.MSG.to_bytes(4, "little")

_SERVED = frozenset(
    {
        "_isSelf",
        "authenticate",
        "buildInfo",
        "buildinfo",
        "hello",
        "isMaster",
        "ismaster",
        "saslContinue",
        "saslStart",
    }
)
_ADVICE = (
    "The client driver may require an upgrade. "
    "For more details see https://dochub.mongodb.org/core/legacy-opcode-removal"
)
_NO_LONGER = 5739101
_EXHAUST = 64
"""The flag of a client that takes replies without end: of OP_QUERY, nothing that is left has more than one."""


def answer(session: ClientSession, message: OpQuery, compressed: bool) -> Flow[bytes]:
    """The OP_REPLY to an OP_QUERY. Raises `ProtocolError` for a compressed one of a command that must not be so."""
    db, dot, collection = message.namespace.partition(".")
    if not dot or collection != "$cmd":
        return _query_failure("OP_QUERY", session.request_id(), message.request_id)
    try:
        _check_head(message)
        body = ok_body((yield from _run(session, Command(_unwrapped(message.query), db), compressed)))
    except CommandError as error:
        body = error_body(error)
    return encode_op_reply(session.request_id(), message.request_id, body, ReplyFlag.AWAIT_CAPABLE)


def _check_head(message: OpQuery) -> None:
    """What mongod refuses before it looks for a command."""
    if int.from_bytes(message.data[16:20], "little") & _EXHAUST:
        raise CommandError(18527, f"The 'exhaust' OP_QUERY flag is invalid for commands: {message.namespace}")
    count = int.from_bytes(message.data[message.query.start - 4 : message.query.start], "little", signed=True)
    if count not in (1, -1):
        raise CommandError(16979, f"Bad numberToReturn ({count}) for $cmd type ns - can only be 1 or -1")


def refusal_of_unparsed(session: ClientSession, data: bytes, error: CommandError) -> bytes | None:
    """mongod answers a well-framed message with a bad body, unless its flags say that nobody listens."""
    if data[12:16] != _OP_MSG:
        return encode_op_reply(
            session.request_id(), request_id_of(data), error_body(error), ReplyFlag.AWAIT_CAPABLE
        )
    if data[16] & MessageFlag.MORE_TO_COME:
        return None
    return encode_op_msg(session.request_id(), request_id_of(data), error_body(error))


def get_more_reply(request_id: int, response_to: int) -> bytes:
    """The answer to an OP_GET_MORE."""
    return _query_failure("OP_GET_MORE", request_id, response_to)


def _run(session: ClientSession, command: Command, compressed: bool) -> Flow[dict[str, object]]:
    if "$db" in command.body:
        raise CommandError(40621, "$db is not allowed in OP_QUERY requests")
    if command.name not in _SERVED:
        raise CommandError(
            ErrorCode.UNSUPPORTED_OP_QUERY_COMMAND, f"Unsupported OP_QUERY command: {command.name}. {_ADVICE}"
        )
    check_database_name(command.db)
    row = find_row(command.name)
    assert row is not None  # every served name has a row (a unit test checks it)
    if compressed and row.name in NEVER_COMPRESSED:
        raise ProtocolError(f"{row.name} must not be compressed")
    yield from session.admit(row, command)
    return (yield from answer_here(session, row, command))


def _unwrapped(query: Document) -> Document:
    """Legacy drivers wrap a command with a read preference as {$query: {...}, $readPreference: ...}."""
    name = next(iter(query), "")
    if name not in ("$query", "query"):
        return query
    inner = query.document(name)
    if inner is None:
        raise CommandError(NOT_AN_OBJECT, f"invalid parameter: expected an object ({name})")
    parse_read_preference(query)  # whatever it says, all that is served here is answered here
    return inner


def _query_failure(op_code: str, request_id: int, response_to: int) -> bytes:
    document = {"$err": f"{op_code} is no longer supported. {_ADVICE}", "code": _NO_LONGER, "ok": 0.0}
    return encode_op_reply(request_id, response_to, encode(document), ReplyFlag.QUERY_FAILURE)
