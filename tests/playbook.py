"""Driving flows by hand: each effect is expected by name and answered, as the shell would, without a loop or a clock.

    Play(session).send(op_msg({"find": "orders", "$db": "shop"})).expect(Relay).answer(reply_of({...})).reply()

`Recorder` answers every effect by itself and remembers what was asked, for tests and fuzzing that ask for laws.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Generic, TypeVar

import bson
from bson import ObjectId

from mongoguard.authn.authentication_session import AuthenticationSession
from mongoguard.authn.channel import Channel
from mongoguard.authn.logins import Logins, scram_logins
from mongoguard.effects import (
    AskUpstream,
    AwaitTopologyChange,
    Effect,
    Emit,
    FetchUser,
    Flow,
    Now,
    RandomBytes,
    Relay,
    RelayedReply,
)
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.model.restriction import Peer
from mongoguard.model.user import User
from mongoguard.observe.event import AuditEvent
from mongoguard.proxy.client_session import ClientSession
from mongoguard.proxy.cursors import CursorTable
from mongoguard.proxy.deployment import Deployment, DeploymentView, Impersonation, PresentAs
from mongoguard.proxy.localhost_exception import LocalhostException
from mongoguard.proxy.settings import SessionSettings
from tests.rawwire import Message, message

__all__ = [
    "NOW",
    "PEER",
    "SERVER",
    "Play",
    "Recorder",
    "decoded",
    "logged_in",
    "make_session",
    "relayed",
    "reply_of",
    "user_with",
]

NOW = 1_700_000_000.0
SERVER = "mongod.internal:27017"
PEER = Peer(ip_address("192.0.2.7"), ip_address("192.0.2.1"), 40001, 27017)
HELLO = {
    "maxWireVersion": 17,
    "minWireVersion": 0,
    "maxBsonObjectSize": 16777216,
    "maxMessageSizeBytes": 48000000,
}
BUILD = {"version": "6.0.5", "maxBsonObjectSize": 16777216, "ok": 1.0, "$clusterTime": {"clusterTime": 1}}

T = TypeVar("T")
E = TypeVar("E", bound="Effect[Any]")


def user_with(
    privileges: Mapping[ResourcePattern, frozenset[str]] | None = None,
    name: UserName = UserName("alice", "shop"),  # noqa: B008  (a tuple)
    *,
    user_id: bytes = b"id",
    roles: tuple[RoleName, ...] = (RoleName("clerk", "shop"),),
) -> User:
    """A user who holds those privileges."""
    return User(name, user_id, roles=roles, inherited_roles=roles, privileges=privileges or {})


def make_session(
    user: User | None = None,
    *,
    settings: SessionSettings | None = None,
    cursors: CursorTable | None = None,
    present_as: PresentAs = PresentAs.STANDALONE,
    impersonation: Impersonation = Impersonation.USERS,
    hello: Mapping[str, Any] = HELLO,
    localhost_exception: bool = False,
    takes_client_metadata: bool = True,
) -> ClientSession:
    """A client session on which `user` has logged in already."""
    authentication = AuthenticationSession(
        Logins(scram_logins(["SCRAM-SHA-256"], b"k" * 32)), PEER, Channel()
    )
    if user is not None:
        authentication._user = user
    deployment = Deployment(
        hello,
        BUILD,
        present_as,
        impersonation,
        takes_client_metadata=takes_client_metadata,
        instance_id=ObjectId(b"i" * 12),
    )
    return ClientSession(
        peer=PEER,
        connection_id=7,
        authentication=authentication,
        deployment=DeploymentView(deployment),
        cursors=CursorTable() if cursors is None else cursors,
        settings=SessionSettings() if settings is None else settings,
        localhost_exception=LocalhostException(enabled=localhost_exception, service=UserName("svc", "admin")),
    )


def logged_in(session: ClientSession, user: User | None) -> ClientSession:
    """The same session after `user` has logged in on it (None: after a logout)."""
    session.authentication._user = user
    return session


def reply_of(document: Mapping[str, Any], response_to: int = 1, server: str = SERVER) -> RelayedReply:
    """An upstream's reply."""
    data = message(2013, b"\0\0\0\0\0" + bson.encode(document), 900)
    return RelayedReply(data[:8] + response_to.to_bytes(4, "little", signed=True) + data[12:], server)


def decoded(reply: bytes) -> dict[str, Any]:
    """The document of an OP_MSG or OP_REPLY, read by another reader than mongoguard's own."""
    assert int.from_bytes(reply[:4], "little") == len(reply), "a reply's length is not its own"
    _length, request_id, response_to, opcode = struct.unpack_from("<iiii", reply)
    return Message(request_id, response_to, opcode, reply[16:]).document


def relayed(effect: Relay) -> dict[str, Any]:
    """The body of a relayed message."""
    return decoded(effect.message)


class Play:
    """One flow under way. `effect` is what it asks for now; None when it has ended."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session
        self.effect: Effect[Any] | None = None
        self.raw: bytes | None = None
        self._flow: Flow[bytes | None] | None = None

    def send(self, data: bytes, *, compressed: bool = False) -> Play:
        """A message comes from the client. Raises what `handle` raises."""
        self._flow = self.session.handle(data, compressed)
        self.effect, self.raw = None, None
        return self._step(None)

    def expect(self, kind: type[E]) -> Asked[E]:
        """The effect that is asked for now, which must be of that kind."""
        assert type(self.effect) is kind, f"expected {kind.__name__}, got {self.effect!r} / {self.raw!r}"
        return Asked(self, self.effect)

    def emitted(self) -> AuditEvent:
        """The event that is to be written now; it is."""
        asked = self.expect(Emit)
        asked.answer(None)
        return asked.effect.event

    def reply(self) -> dict[str, Any]:
        """The reply's document; the flow must have ended with one."""
        assert self.effect is None, f"still asking for {self.effect!r}"
        assert self.raw is not None, "there is no reply"
        return decoded(self.raw)

    def silence(self) -> None:
        """The flow must have ended without a reply."""
        assert self.effect is None, f"still asking for {self.effect!r}"
        assert self.raw is None, "there is a reply"

    def _step(self, answer: Any, error: Exception | None = None) -> Play:
        assert self._flow is not None
        try:
            self.effect = self._flow.send(answer) if error is None else self._flow.throw(error)
        except StopIteration as stop:
            self.effect, self.raw = None, stop.value
        return self


@dataclass(frozen=True)
class Asked(Generic[E]):
    """An effect that waits for its answer."""

    play: Play
    effect: E

    def answer(self, value: Any) -> Play:
        """Answer it; the flow goes on to its next effect or its end."""
        return self.play._step(value)

    def fail(self, error: Exception) -> Play:
        """Raise an error into the flow instead."""
        return self.play._step(None, error)


@dataclass
class Recorder:
    """Answers every effect, and keeps all of them.

    `reply` is what the upstream answers to whatever is relayed, `found` the documents that a question finds.
    """

    users: dict[UserName, User] = field(default_factory=dict)
    reply: Mapping[str, Any] = field(default_factory=lambda: {"ok": 1.0})
    found: list[dict[str, Any]] = field(default_factory=list)
    effects: list[Effect[Any]] = field(default_factory=list)

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its end. Raises what it raises."""
        answer: Any = None
        while True:
            try:
                effect = flow.send(answer)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]  # a generator's value is untyped in StopIteration
            self.effects.append(effect)
            answer = self._answer(effect)

    @property
    def relays(self) -> list[Relay]:
        """What was sent upstream."""
        return [effect for effect in self.effects if isinstance(effect, Relay)]

    @property
    def questions(self) -> list[AskUpstream]:
        """What the upstream was asked as the service user."""
        return [effect for effect in self.effects if isinstance(effect, AskUpstream)]

    @property
    def events(self) -> list[AuditEvent]:
        """What was written to the audit stream."""
        return [effect.event for effect in self.effects if isinstance(effect, Emit)]

    def _answer(self, effect: Effect[Any]) -> Any:
        match effect:
            case Relay():
                return reply_of(self.reply)
            case AskUpstream():
                return {"cursor": {"firstBatch": self.found, "id": 0, "ns": ""}, "ok": 1.0}
            case FetchUser(request):
                return self.users.get(request.name)
            case RandomBytes(count):
                return b"r" * count
            case Now():
                return NOW
            case Emit() | AwaitTopologyChange():
                return None
            case _:
                raise AssertionError(f"unknown effect {effect!r}")
