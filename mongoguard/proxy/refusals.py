"""Refusals: what a command that is not done says, to the client and to the audit stream.

In: an error and the decision or the command behind it. Out: errors that carry more. Must not know sessions.
"""

from __future__ import annotations

from mongoguard.authz.authorization_session import Decision
from mongoguard.command.spec import CommandRow, Handling
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.wire.document import Document

__all__ = ["RefusedError", "is_refusal", "retry_labels"]


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
    """The error labels that a server of this age puts on a retryable error, so that drivers retry."""
    if body.boolean("autocommit") is False:
        return ("TransientTransactionError",)
    return ("RetryableWriteError",) if "txnNumber" in body.fields else ()
