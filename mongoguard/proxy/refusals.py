"""Refusals: what a command that is not done says, to the client and to the audit stream.

In: an error and the decision or the command behind it; the upstream's failed reply. Out: errors that carry more, and
replies that tell a client nothing of what was added to its command. Must not know sessions.

A server prints the command that it refuses, with the user and the roles that the relay named in it. mongod 6.0.5 does
so with code 13 only (7,500 malformed commands were tried); other servers may with others, so every failed reply is
searched for what was added.
"""

from __future__ import annotations

from typing import Any

from mongoguard.authz.authorization_session import Decision
from mongoguard.command.command import Command
from mongoguard.command.printing import not_authorized
from mongoguard.command.spec import CommandRow, Handling
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.proxy.identity import Identity
from mongoguard.proxy.replies import parse_reply
from mongoguard.proxy.transactions import TRANSACTION_ENDS
from mongoguard.wire.document import Document, encode
from mongoguard.wire.message import encode_op_msg, request_id_of

__all__ = ["RefusedError", "in_own_words", "is_refusal", "retry_labels"]

_IMPERSONATION = b"$impersonated"
_KEPT = ("ok", "errmsg", "code", "codeName", "errorLabels", "operationTime", "$clusterTime")
"""What a reworded reply keeps, in this order: drivers go by codes, labels and times. The rest may quote the command."""


class RefusedError(CommandError):
    """A refusal that carries the decision it was made from, for the audit event.

    `explain`: tell the client too, in `errInfo`, what is missing (the setting `explainDenials`).
    """

    def __init__(self, error: CommandError, decision: Decision, *, explain: bool) -> None:
        """Word it as `error`."""
        super().__init__(error.code, error.errmsg, reason=error.reason)
        self.decision = decision
        if explain:
            self.err_info = {"missing": [p.to_document() for p in decision.missing]}
            if decision.excess:
                self.err_info["excess"] = [p.to_document() for p in decision.excess]


def is_refusal(row: CommandRow, error: CommandError) -> bool:
    """Whether an error belongs into the audit stream as a denied check. Logins have events of their own."""
    if error.code == ErrorCode.UNAUTHORIZED or isinstance(error, RefusedError):
        return True
    return bool(error.reason) and row.handling is not Handling.LOCAL


def retry_labels(body: Document) -> tuple[str, ...]:
    """The error labels that a mongos of this age puts on 6 HostUnreachable, so that drivers go on by their own rules.

    How a commit ended that is asked for again is unknown: who took its transaction for undone would do it twice. A
    driver looks at the label of getMore for change streams alone; without it these end where they could be resumed.
    """
    name = next(iter(body.fields), "")
    if name == "getMore":
        return ("ResumableChangeStreamError",)
    if body.boolean("autocommit") is False and name not in TRANSACTION_ENDS:
        return ("TransientTransactionError",)
    return ("RetryableWriteError",) if "txnNumber" in body.fields else ()


def in_own_words(message: bytes, command: Command, identity: Identity) -> tuple[bytes, CommandError | None]:
    """A failed reply, reworded when its text tells what the relay added. `command` is the client's, without splices.

    A refusal becomes the one that mongoguard itself would have made; it comes along, with its reason, for the audit
    event. Any other text becomes a general one.
    """
    if parse_reply(message).body.number("code") == ErrorCode.UNAUTHORIZED:
        errmsg = not_authorized(command).errmsg
        refusal = CommandError(
            ErrorCode.UNAUTHORIZED, errmsg, reason="the upstream refuses it to the service user"
        )
        return _reworded(message, errmsg), refusal
    if _IMPERSONATION in message or identity.printed_digest in message:
        return _reworded(message, f"{command.name} failed on the upstream server"), None
    return message, None


def _reworded(message: bytes, errmsg: str) -> bytes:
    body = parse_reply(message).body
    document: dict[str, Any] = {name: body.value(name) for name in _KEPT if name in body}
    document["errmsg"] = errmsg
    response_to = int.from_bytes(message[8:12], "little", signed=True)
    return encode_op_msg(request_id_of(message), response_to, encode(document))
