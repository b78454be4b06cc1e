"""What every mechanism's server side looks like to the SASL state machine.

In: nothing. Out: the protocol of a conversation, its steps, and its one failure. Must not know any mechanism.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mongoguard.effects import Flow, SigningKey
from mongoguard.errors import GuardError
from mongoguard.model.names import UserName
from mongoguard.model.user import User

__all__ = ["AuthenticationFailure", "Expiry", "ServerConversation", "Step"]


class AuthenticationFailure(GuardError):
    """The client did not prove who it is. The text is for the audit stream; the client is told nothing of it."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """Until when a proof holds (seconds since the epoch).

    Afterwards a client that can bring a newer proof on the same connection is asked to (391, `reauthenticates`); the
    connection of any other is closed, so that its driver begins anew. `key` is what the proof was signed with, where
    its issuer may withdraw that before.
    """

    at: float
    reauthenticates: bool = False
    key: SigningKey | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """The server's answer to one message. `user` is set when the conversation is over and the proof has held.

    `claims`: what else the proof says of the user, for the audit event; no part of a credential.
    """

    answer: bytes
    user: User | None = None
    expiry: Expiry | None = None
    claims: Mapping[str, str] = field(default_factory=dict)


class ServerConversation(Protocol):
    """The server side of one login attempt."""

    @property
    def is_guessable(self) -> bool:
        """Whether the proof comes down to a password. Then failures are counted, and too many of them block.

        Another proof can't be guessed, so no block protects it; and whoever fails on purpose under its owner's name (by
        a password) must not keep the owner out.
        """

    @property
    def name(self) -> UserName | None:
        """Who the client claims to be; None until it has said so."""

    def step(self, payload: bytes) -> Flow[Step]:
        """Take the client's next message. Raises `AuthenticationFailure`; the conversation is then over."""
