"""Heeding: what a reply says to mongoguard itself, and in whose words it reaches the client.

In: a relayed message, how it was relayed, its reply. Out: the reply for the client, and effects: news of a server's
state, a refusal for the audit log. Must not know cursors or what was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mongoguard.command.catalog import find_row
from mongoguard.effects import Emit, Flow, Relay, RelayedReply, perform
from mongoguard.errors import CommandError, ErrorCode, NoServerForReadPreference, UpstreamUnavailable
from mongoguard.proxy.reading import read_command
from mongoguard.proxy.refusals import in_own_words, retry_labels
from mongoguard.proxy.replies import begins_with_failure
from mongoguard.proxy.state_change import as_mongos, may_tell_state_change, state_change_in
from mongoguard.wire.message import OpMsg

if TYPE_CHECKING:
    from mongoguard.proxy.client_session import ClientSession

__all__ = ["heed", "unavailable"]


def unavailable(message: OpMsg, error: UpstreamUnavailable) -> CommandError:
    """The answer to a message that could not be relayed: 133, or 6, which drivers retry."""
    if isinstance(error, NoServerForReadPreference):
        return CommandError(ErrorCode.FAILED_TO_SATISFY_READ_PREFERENCE, str(error))
    return CommandError(
        ErrorCode.HOST_UNREACHABLE,
        f"mongoguard cannot reach the upstream: {error.told}",
        labels=retry_labels(message.body),
    )


def heed(session: ClientSession, message: OpMsg, relay: Relay, reply: RelayedReply) -> Flow[RelayedReply]:
    """The reply as the client is to see it, after the shell was told what it says of its server."""
    if may_tell_state_change(reply.message):
        as_primary = relay.server is None and relay.read_preference is None
        change = state_change_in(reply.message, reply.server, asked_as_primary=as_primary)
        if change is not None:
            yield from perform(change)
        if session.deployment.finds_the_primary:
            reply = RelayedReply(as_mongos(reply.message), reply.server)
    if begins_with_failure(reply.message):
        return RelayedReply((yield from _reword(session, message, reply.message)), reply.server)
    return reply


def _reword(session: ClientSession, message: OpMsg, reply: bytes) -> Flow[bytes]:
    """A failed reply without what the relay added to the command; a refusal is the administrator's to know of."""
    command = read_command(message)
    row = find_row(command.name)
    reply, refusal = in_own_words(reply, command, session.identity)
    if row is not None and refusal is not None:
        yield from perform(Emit(session.auditor.refused(session.user, row, command, refusal)))
    return reply
