"""Auditing: a session's commands as audit events.

In: who asked for which command, and what came of it. Out: `AuditEvent`s. Must not know sinks or sessions. An event is
made from the decision itself, not from a second look.
"""

from __future__ import annotations

from mongoguard.command.command import Command
from mongoguard.command.spec import CommandRow
from mongoguard.errors import CommandError
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.restriction import Peer
from mongoguard.model.user import User
from mongoguard.observe.access_messages import auth_check
from mongoguard.observe.event import AuditEvent
from mongoguard.observe.user_management_messages import USER_MANAGEMENT_COMMANDS, user_management
from mongoguard.proxy.refusals import RefusedError
from mongoguard.proxy.replies import error_code_in_reply

__all__ = ["Auditor"]


class Auditor:
    """Makes the events of one connection. `max_parameter_bytes` bounds what is shown of a command."""

    __slots__ = ("_max_parameter_bytes", "_peer")

    def __init__(self, peer: Peer, max_parameter_bytes: int) -> None:
        """Remember what all events share."""
        self._peer = peer
        self._max_parameter_bytes = max_parameter_bytes

    def allowed(self, user: User | None, row: CommandRow, command: Command) -> AuditEvent:
        """A check that was passed."""
        return self._check(user, row, command, None)

    def refused(
        self, user: User | None, row: CommandRow, command: Command, error: CommandError
    ) -> AuditEvent:
        """A check that was not; with what was missing when it was a decision."""
        return self._check(user, row, command, error)

    def user_management(
        self, user: User | None, row: CommandRow, command: Command, reply: bytes
    ) -> AuditEvent | None:
        """Users or roles were changed, or the upstream refused to; None for commands without a message of their own."""
        if row.name not in USER_MANAGEMENT_COMMANDS:
            return None
        users, roles = _who(user)
        result = error_code_in_reply(reply)
        return user_management(
            self._peer, users, roles, row.name, command.db, body=command.body, result=result
        )

    def _check(
        self, user: User | None, row: CommandRow, command: Command, error: CommandError | None
    ) -> AuditEvent:
        users, roles = _who(user)
        return auth_check(
            self._peer,
            users,
            roles,
            row.name,
            _namespace(command),
            body=command.body,
            result=0 if error is None else error.code,
            missing=error.decision.missing if isinstance(error, RefusedError) else (),
            reason="" if error is None else error.reason,
            max_bytes=self._max_parameter_bytes,
        )


def _who(user: User | None) -> tuple[tuple[UserName, ...], tuple[RoleName, ...]]:
    return ((), ()) if user is None else ((user.name,), user.inherited_roles or user.roles)


def _namespace(command: Command) -> str:
    try:
        target = command.target
    except CommandError:  # no UTF-8: an event without the name is better than none
        target = None
    return f"{command.db}.{target}" if target else command.db
