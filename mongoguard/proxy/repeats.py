"""Repeats: requests that differ from one that was allowed only in values which no decision reads.

In: messages of one user, and those of them that were relayed. Out: the message for the upstream, when one like it was
relayed before. Must not know what is allowed: that was decided on the first of its kind.

Why this is sound: what a request needs is computed from its outline alone (nobody opens the values that
`CommandRow.unread` names), so equal outlines need the same; and this is kept with one user's rights, one view of the
deployment and one reading of the configuration, and goes with each of them. What is relayed is what was outlined, byte
by byte, with the same insertions as `message_for_upstream` makes (tests/property/test_repeat_laws.py compares the two
ways). docs/adr/0014.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from mongoguard.command.catalog import COMMANDS, find_row
from mongoguard.command.requirement import requirement_of
from mongoguard.effects import Flow, Relay, RelayedReply
from mongoguard.errors import CommandError, UpstreamUnavailable
from mongoguard.proxy.heeding import heed, unavailable
from mongoguard.proxy.reading import read_command
from mongoguard.proxy.replies import error_body, parse_reply, shows_exhausted_cursor
from mongoguard.proxy.state_change import may_tell_state_change
from mongoguard.wire.message import OpMsg, request_id_of
from mongoguard.wire.outline import inserted, outline_of

if TYPE_CHECKING:
    from mongoguard.proxy.client_session import ClientSession

__all__ = ["Repeat", "Repeats", "answer", "find_repeat", "learn"]

MAX_KNOWN = 64
"""Outlines kept for one connection, 512 bytes each at most: clients choose names, and so what is kept. An application
has a few dozen; a full set is cleared, which costs each of them one decision (20 µs) again."""

_NAME = 26
"""Where the name of the body's first field begins, if the body comes first."""

_ROUTED_OR_NAMED = frozenset({"$audit", "$client", "$readPreference", "autocommit"})
"""Arguments that change where a request goes, or what is inserted."""


def _names(fields: frozenset[str]) -> bytes:
    return b"".join(name.encode() + b"\0" for name in sorted(fields))


_UNREAD: Mapping[bytes, tuple[bytes, bytes, bool]] = {
    name.encode(): (_names(row.unread - row.sequences), _names(row.unread & row.sequences), row.opens_cursor)
    for row in COMMANDS.values()
    if row.unread
    for name in (row.name, *row.aliases)
}


Repeat: TypeAlias = tuple[bytes, bool]
"""What to relay, and whether its reply may open a cursor. As the outline, a plain tuple: each request makes both."""

_LONGEST_NAME = 1 + max(map(len, _UNREAD))
"""With its zero byte. What does not end within that is no name to be looked up, however long it is."""


class Repeats:
    """What one user of one connection may ask again. A session drops it with the user (`ClientSession._become`)."""

    __slots__ = ("_deployment", "_expiry", "_identity", "_known", "_settings")

    def __init__(self, session: ClientSession) -> None:
        """Know nothing yet."""
        self._deployment = session.deployment.current
        self._settings = session.settings
        self._expiry = session.authentication.expiry
        self._identity = session.identity
        self._known: set[bytes] = set()

    def are_of(self, session: ClientSession) -> bool:
        """Whether they were learned on this view of the deployment, with this configuration (an audit log may be asked
        for everything from now on), and on this login: another proof is another one.
        """
        return (
            self._deployment is session.deployment.current
            and self._settings is session.settings
            and self._expiry is session.authentication.expiry
        )

    def find(self, data: bytes) -> Repeat | None:
        """For a message like one that was relayed before; None for any other."""
        nul = data.find(0, _NAME, _NAME + _LONGEST_NAME)
        found = _UNREAD.get(data[_NAME:nul]) if nul > 0 else None
        if found is None:
            return None
        unread, sequence, opens_cursor = found
        outline = outline_of(data, unread, sequence)
        if outline is None or outline[0] not in self._known:
            return None
        identity = self._identity
        return inserted(data, outline, identity.uid_element, identity.appended), opens_cursor

    def learn(self, message: OpMsg) -> None:
        """A message is about to be relayed to the primary with nothing but its identity inserted."""
        fields = message.body.fields
        found = _UNREAD.get(next(iter(fields), "").encode())
        if found is None or not fields.keys().isdisjoint(_ROUTED_OR_NAMED):
            return
        outline = outline_of(message.data, *found[:2])
        if outline is None:
            return
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known.add(outline[0])


def find_repeat(session: ClientSession, data: bytes) -> Repeat | None:
    """For a message that needs no decision of its own: one like it was allowed to this user."""
    repeats = session.repeats
    if repeats is None or not session.is_settled or not repeats.are_of(session):
        return None
    return repeats.find(data)


def answer(session: ClientSession, data: bytes, repeat: Repeat) -> Flow[bytes]:
    """Relay it. It is read only when its reply is no plain success."""
    session.streaming.end()
    relayed, opens_cursor = repeat
    relay = Relay(relayed, documents_pass=opens_cursor)
    try:
        reply: RelayedReply = yield relay  # as `perform`, without a generator of its own
        message = reply.message
        if not may_tell_state_change(message) and (not opens_cursor or shows_exhausted_cursor(message)):
            return message
        return (yield from _answer_read(session, parse_reply(data), relay, reply))
    except UpstreamUnavailable as error:
        failure = unavailable(parse_reply(data), error)
    except CommandError as error:  # the server's reply can't be read
        failure = error
    return session.reply(request_id_of(data), error_body(failure))


def _answer_read(session: ClientSession, asked: OpMsg, relay: Relay, reply: RelayedReply) -> Flow[bytes]:
    """The rest of the page that a request travels down once it is relayed."""
    reply = yield from heed(session, asked, relay, reply)
    command = read_command(asked)
    row = find_row(command.name)
    assert row is not None  # or nothing like it was learned
    if not row.opens_cursor:
        return reply.message
    return session.remember_cursor(reply, row, command, requirement_of(row, command, session.asker))


def learn(session: ClientSession, message: OpMsg) -> None:
    """A message is about to be relayed as it is: those like it need no decision of their own."""
    if session.user is None or not session.identity.impersonates:  # or each lsid's id becomes another
        return
    if session.settings.audit_authorization_success or session.deployment.current.default_read_preference:
        return
    if session.repeats is None or not session.repeats.are_of(session):
        session.repeats = Repeats(session)
    session.repeats.learn(message)
