"""Driving authentication flows by hand: the answers that the shell would give, without a loop or a clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import bson

from mongoguard.authn.scram import SCRAM_MECHANISMS, derive_credentials
from mongoguard.authn.scram_client import ScramClientConversation, ScramPassword
from mongoguard.effects import Emit, FetchUser, Flow, Now, RandomBytes
from mongoguard.errors import DirectoryUnavailable, UpstreamUnavailable
from mongoguard.model.names import UserName
from mongoguard.model.restriction import AuthenticationRestriction
from mongoguard.model.user import User
from mongoguard.observe.event import AuditEvent
from mongoguard.wire.document import Document

__all__ = ["NOW", "Shell", "body", "client", "drive", "make_user"]

T = TypeVar("T")

NOW = 1_700_000_000.5
ITERATIONS = 4096


def drive(flow: Flow[T], answer: Callable[[Any], Any]) -> T:
    """Run a flow whose effects `answer` carries out; a `DirectoryUnavailable` of it is thrown into the flow."""
    try:
        effect = next(flow)
        while True:
            try:
                answered = answer(effect)
            except DirectoryUnavailable as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(answered)
    except StopIteration as stop:
        result: T = stop.value
        return result


@dataclass
class Shell:
    """Answers effects, and remembers what was asked and emitted."""

    users: dict[UserName, User] = field(default_factory=dict)
    directory_is_away: bool = False
    events: list[AuditEvent] = field(default_factory=list)
    fetched: list[UserName] = field(default_factory=list)
    drawn: int = 0

    def add(self, user: User) -> User:
        self.users[user.name] = user
        return user

    def run(self, flow: Flow[T]) -> T:
        answer: Any = None
        failure: UpstreamUnavailable | None = None
        try:
            while True:
                effect = flow.send(answer) if failure is None else flow.throw(failure)
                answer = failure = None
                match effect:
                    case FetchUser(request):
                        self.fetched.append(request.name)
                        answer = self.users.get(request.name)
                        if self.directory_is_away:
                            failure = UpstreamUnavailable("mongod.internal:27017 refused the connection")
                    case RandomBytes(count):
                        self.drawn += 1
                        answer = bytes([self.drawn % 256]) * count
                    case Now():
                        answer = NOW
                    case Emit(event):
                        self.events.append(event)
                    case _:
                        raise AssertionError(f"unexpected effect {effect!r}")
        except StopIteration as stop:
            result: T = stop.value
            return result

    @property
    def results(self) -> list[tuple[str, int]]:
        return [(event.atype, event.result) for event in self.events]


def make_user(
    user: str,
    db: str = "shop",
    password: str = "pencil",
    mechanisms: tuple[str, ...] = ("SCRAM-SHA-1", "SCRAM-SHA-256"),
    restrictions: tuple[tuple[AuthenticationRestriction, ...], ...] = (),
    user_id: bytes = b"id",
) -> User:
    credentials = {}
    for name in mechanisms:
        mechanism = SCRAM_MECHANISMS[name]
        salt = (user.encode() + b"." * 28)[: mechanism.salt_bytes]
        credentials[name] = derive_credentials(mechanism, user, password, salt, ITERATIONS)
    return User(UserName(user, db), user_id, credentials, restrictions=restrictions)


def client(
    user: str, password: str = "pencil", mechanism: str = "SCRAM-SHA-256", nonce: bytes = b"client-nonce"
) -> ScramClientConversation:
    return ScramClientConversation(ScramPassword(SCRAM_MECHANISMS[mechanism], user, password), nonce)


def body(**fields: Any) -> Document:
    return Document(bson.encode(fields))
