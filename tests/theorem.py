"""The theorem, as an oracle: what a client session may ever do with a message, whatever the message is.

`check_message` drives one message through a session and raises AssertionError when

* a `Relay` is asked for before an allowing decision on this very message (or for a command that needs no login), or, of
  commands with arguments that are not read, on an earlier one of the same user that needed the same;
* what is relayed is not the client's message with the documented splices;
* a message that says that nobody waits is answered, or anything but `ProtocolError` is raised.

What a command needs is asked of the catalogue again; whether the user holds it is evaluated by an evaluator that
shares nothing with mongoguard's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import bson

from mongoguard.authz.authorization_session import AuthorizationSession, Decision
from mongoguard.command.catalog import find_row
from mongoguard.command.generic import generic_requirement
from mongoguard.command.requirement import requirement_of
from mongoguard.command.sessions import IMPERSONATE
from mongoguard.command.spec import Asker, CommandRow
from mongoguard.effects import AskUpstream, Relay
from mongoguard.errors import ProtocolError
from mongoguard.model.privilege import NOTHING, Privilege, Requirement
from mongoguard.model.user import User
from mongoguard.proxy.client_session import ClientSession
from mongoguard.proxy.reading import read_command
from mongoguard.wire.document import Document
from mongoguard.wire.message import OpMsg, parse_message
from tests.playbook import Recorder, decoded
from tests.unit.command.commands import allowed

__all__ = ["CLIENT", "check_message"]

_EARLIER: WeakKeyDictionary[ClientSession, list[tuple[User, Requirement]]] = WeakKeyDictionary()
"""What each session has decided, and then relayed."""

NO_LOGIN_NEEDED = frozenset({"listCommands", "ping"})
"""The commands that are relayed without a privilege."""

NARROWED = {
    "aggregate": {"pipeline"},
    "currentOp": {"effectiveUsers"},
    "endSessions": {"endSessions"},
    "killCursors": {"cursors"},
    "killSessions": {"killSessions", "killAllSessionsByPattern"},
    "refreshSessions": {"refreshSessions"},
}
"""Command -> the arguments that a splice may change, besides lsid and $audit."""

CLIENT = b"\x03$client\0" + bson.encode({"application": {"name": "till"}})
"""What may be added for a session that was introduced by it."""


def check_message(
    session: ClientSession,
    data: bytes,
    *,
    compressed: bool = False,
    reply: Mapping[str, Any] | None = None,
    owns_operations: bool = False,
) -> Recorder:
    """Drive one framed message (16 bytes or more) through `session`; the upstream answers with `reply`.

    `owns_operations`: every operation that is asked about is one of the user who sends the message.
    """
    recorder = Recorder(reply=reply or {"ok": 1.0}, found=[{"opid": 1}] if owns_operations else [])
    order: list[Decision | Relay] = []
    asked: dict[int, Requirement] = {}
    user = session.user
    with _watched(order, asked):
        try:
            answer = recorder.run(_noting(session.handle(data, compressed), order))
        except ProtocolError:
            answer = None
    relays = [step for step in order if isinstance(step, Relay)]
    if relays:
        _check_decided(recorder, data, user, order, asked, _EARLIER.setdefault(session, []))
    for question in recorder.questions:
        if user is None:
            assert (question.db, question.command) == ("admin", {"listCommands": 1}), "asked for a stranger"
        else:
            _check_question(question, data, user)
    for relay in relays:
        _check_relayed(data, relay.message, user)
    if data[12:16] == b"\xdd\7\0\0" and len(data) > 16 and data[16] & 2:
        assert answer is None, "a message that wants no reply was answered"
    if answer is not None:
        document = decoded(answer)
        assert "ok" in document
        assert relays or answer[8:12] == data[4:8], "a reply to another message"
    _check_audited(recorder, data, order, answer)
    return recorder


def _check_audited(
    recorder: Recorder, data: bytes, order: list[Decision | Relay], answer: bytes | None
) -> None:
    """A refusal leaves one event, whoever is told of it."""
    events = [event for event in recorder.events if event.atype == "authCheck" and event.result]
    assert len(events) <= 1, "a refusal is audited more than once"
    own = bool(recorder.questions and recorder.found)
    if any(isinstance(step, Decision) and not step.allowed for step in order) and not own:
        assert events, "a refused decision is not audited"
    if answer is not None and _command(data) and answer[12:16] == b"\xdd\7\0\0":
        unauthorized = decoded(answer).get("code") == 13
        assert not unauthorized or events or any(isinstance(step, Relay) for step in order)


def _command(data: bytes) -> CommandRow | None:
    """The row of a message that reads as a command; None for anything else."""
    try:
        message = parse_message(data)
        return find_row(read_command(message).name) if isinstance(message, OpMsg) else None
    except Exception:
        return None


def _noting(flow: Any, order: list[Decision | Relay]) -> Any:
    """The same flow; its relays are noted among the decisions."""
    answer: Any = None
    try:
        while True:
            effect = flow.send(answer)
            if isinstance(effect, Relay):
                order.append(effect)
            answer = yield effect
    except StopIteration as stop:
        return stop.value


@contextmanager
def _watched(order: list[Decision | Relay], asked: dict[int, Requirement]) -> Iterator[None]:
    """While this lasts, every decision is noted with what it was about."""
    authorize = AuthorizationSession.authorize

    def noted(self: AuthorizationSession, requirement: Requirement) -> Decision:
        decision = authorize(self, requirement)
        asked[len(order)] = requirement
        order.append(decision)
        return decision

    AuthorizationSession.authorize = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        AuthorizationSession.authorize = authorize  # type: ignore[method-assign]


def _check_decided(
    recorder: Recorder,
    data: bytes,
    user: User | None,
    order: list[Decision | Relay],
    asked: Mapping[int, Requirement],
    earlier: list[tuple[User, Requirement]],
) -> None:
    message = parse_message(data)
    assert isinstance(message, OpMsg), "only an OP_MSG is ever relayed"
    command = read_command(message)
    row = find_row(command.name)
    assert row is not None
    asker = Asker() if user is None else Asker(user.name, frozenset((r.role, r.db) for r in user.roles))
    first = next(i for i, step in enumerate(order) if isinstance(step, Relay))
    decisions = [step for step in order[:first] if isinstance(step, Decision)]
    held = [] if user is None else [Privilege(p, a) for p, a in user.privileges.items()]
    generic = generic_requirement(command, asker)
    assert generic is NOTHING or (user is not None and allowed(generic, held)), "generic arguments not held"
    assert user is not None, "relayed for nobody"
    if row.name in NO_LOGIN_NEEDED:
        return
    own = requirement_of(row, command, asker)
    if decisions or not row.unread:
        assert own in [asked[i] for i in asked if i < first], "relayed without a decision on this command"
        earlier.append((user, own))
    else:
        assert (user, own) in earlier, "relayed without a decision on one like this"
    if recorder.questions and recorder.found:
        assert [decision.allowed for decision in decisions][-1:] == [False]
        return  # one's own operation may be killed without the privilege
    assert all(decision.allowed for decision in decisions), "relayed after a refusal"
    assert allowed(own, held), "relayed without the privileges"


def _check_question(question: AskUpstream, data: bytes, user: User) -> None:
    """The one question that is asked for a client's sake: whether the operation that killOp names is the user's."""
    message = parse_message(data)
    assert isinstance(message, OpMsg)
    assert next(iter(message.body)) == "killOp"
    assert question.db == "admin"
    stages = [{"$currentOp": {}}, {"$match": {"opid": message.body.number("op")}}, {"$limit": 1}]
    assert repr(question.command["pipeline"]) == repr(stages), "a question of the client's making"
    assert question.command["$audit"]["$impersonatedUsers"] == [{"user": user.name.user, "db": user.name.db}]
    assert set(question.command) == {"aggregate", "pipeline", "cursor", "$audit"}


def _check_relayed(data: bytes, sent: bytes, user: User | None) -> None:
    """The relayed message is the client's own but for the splices."""
    before, after = parse_message(data), parse_message(sent)
    assert isinstance(before, OpMsg)
    assert isinstance(after, OpMsg)
    assert after.flags == 0, "flags are relayed"
    assert after.request_id == before.request_id
    assert int.from_bytes(sent[8:12], "little") == 0
    assert int.from_bytes(sent[:4], "little") == len(sent)
    command = read_command(before)
    row = find_row(command.name)
    assert row is not None
    if "$client" not in before.body and "$client" in after.body:
        element = after.body.fields["$client"]
        assert after.body.data[element.start : element.end] == CLIENT, "another client is named"
        after.body.fields.pop("$client")
        assert user is not None, "a stranger names a client"
    may_change = NARROWED.get(row.name, set()) | {"lsid", "$audit"}
    assert _fields(before.body, may_change) == _fields(after.body, may_change), "an argument was changed"
    assert _sequences(before) == _sequences(after), "a sequence was changed"
    _check_identity(before.body, after.body, user)


def _fields(body: Document, without: set[str]) -> list[bytes]:
    return [body.data[e.start : e.end] for name, e in body.fields.items() if name not in without]


def _sequences(message: OpMsg) -> dict[str, list[bytes]]:
    return {name: [message.data[a:b] for a, b in spans] for name, spans in message.sequences.items()}


def _check_identity(before: Document, after: Document, user: User | None) -> None:
    """Upstream the sender's own name, unless the sender may impersonate."""
    held = [] if user is None else [Privilege(p, a) for p, a in user.privileges.items()]
    impersonates = user is not None and allowed(IMPERSONATE, held)
    lsid = after.document("lsid")
    assert (lsid is None) is (before.document("lsid") is None)
    if lsid is not None and not impersonates:
        digest = hashlib.sha256(b"" if user is None else str(user.name).encode()).digest()
        assert lsid.binary("uid") == (0, digest), "another user's session"
        client = before.document("lsid")
        assert client is not None
        assert lsid.binary("id") == client.binary("id")
    if user is not None and not impersonates:
        audit = after.document("$audit")
        assert audit is not None
        assert audit.value("$impersonatedUsers") == [{"user": user.name.user, "db": user.name.db}]
    if user is None:
        assert "$audit" not in after
