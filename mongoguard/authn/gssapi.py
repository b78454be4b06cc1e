"""GSSAPI (RFC 4752): a Kerberos ticket, proof of the server, and the choice of no security layer, in three messages.

In: the payloads of a saslStart and two saslContinue. Out: `Step`s, the last with the user and until when the ticket
holds; or a refusal, whose reason is for the audit event alone. Must not know the Kerberos library, keytabs or sockets.

1. The client's AP-REQ is accepted; the AP-REP goes back.
2. The client's message is empty; the wrapped offer "no security layer" goes back.
3. The client wraps its choice, and the name that it wants to act as: its own, or none.

The last two are what makes a recorded login worthless: each server's AP-REP has a key of its own, without which
nobody can wrap the third message. So a client that asks for no AP-REP is refused.

A ticket that is refused is no guess at anything, so it is not counted as one, or whoever replays an old one could lock
its owner out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from mongoguard.authn.conversation import Expiry, ServerConversation, Step
from mongoguard.authn.logins import BeginConversation, LoginAttempt, of_a_provider, wrong_database
from mongoguard.effects import (
    AcceptGssToken,
    Effect,
    FetchUser,
    Flow,
    GssContext,
    GssMessage,
    GssRefusal,
    Now,
    UnwrapGssMessage,
    WrapGssMessage,
    perform,
)
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.names import EXTERNAL_DB, UserName
from mongoguard.model.user import UserRequest

T = TypeVar("T")

__all__ = ["GSSAPI", "GssapiServerConversation", "gssapi_logins"]

GSSAPI = "GSSAPI"

NO_SECURITY_LAYER = 1
"""The bit of RFC 4752 section 3.3; the others would put every message of the connection into a wrapping."""

OFFER = bytes((NO_SECURITY_LAYER, 0, 0, 0))
"""The layers that are offered, and the size of the largest wrapped message that is taken: 0 without a layer."""

MAX_NAME_BYTES = 10_000
"""UTF-8 bytes of a name: whose name is longer has no logical sessions, on which every driver depends."""

_WELL_KNOWN = "WELLKNOWN/"
"""Principals that are nobody (RFC 6111), such as the anonymous one of RFC 8062."""


def gssapi_logins(reserved: Sequence[str] = ()) -> Mapping[str, BeginConversation]:
    """The mechanism by its name, as `Logins.sasl` wants it. `reserved`: see `of_a_provider`."""

    def begin(attempt: LoginAttempt) -> ServerConversation:
        if attempt.db != EXTERNAL_DB:
            raise wrong_database(GSSAPI, attempt.db)
        return GssapiServerConversation(reserved)

    return {GSSAPI: begin}


class GssapiServerConversation:
    """The server side of one GSSAPI login. The context is dropped with it."""

    is_guessable = False

    __slots__ = ("_context", "_name", "_offered", "_reserved")

    def __init__(self, reserved: Sequence[str] = ()) -> None:
        """Nobody has shown a ticket yet."""
        self._reserved = reserved
        self._context: GssContext | None = None
        self._name: UserName | None = None
        self._offered = False

    @property
    def name(self) -> UserName | None:
        """Whose ticket it is; None until one was accepted."""
        return self._name

    def step(self, payload: bytes) -> Flow[Step]:
        """Take the client's next message. Raises `CommandError` 18."""
        if self._context is None:
            return (yield from self._accept(payload))
        if not self._offered:
            return (yield from self._offer(self._context, payload))
        return (yield from self._choose(self._context, payload))

    def _accept(self, token: bytes) -> Flow[Step]:
        if not token:
            raise _refused("the first message is empty: it must hold a Kerberos ticket")
        context = yield from _performed(AcceptGssToken(token))
        principal = _principal(context.initiator)
        if (refusal := of_a_provider(principal, self._reserved)) is not None:
            raise refusal
        self._name = UserName(principal, EXTERNAL_DB)
        if not context.is_mutual or not context.answer:
            raise _refused("the client asks for no proof of the server (mutual authentication)")
        self._context = context
        return Step(context.answer)

    def _offer(self, context: GssContext, payload: bytes) -> Flow[Step]:
        if payload:
            raise _refused("the second message is not empty")
        self._offered = True
        return Step((yield from _performed(WrapGssMessage(context.handle, OFFER))))

    def _choose(self, context: GssContext, payload: bytes) -> Flow[Step]:
        name = self._name
        assert name is not None  # set with the context
        _check_choice((yield from _performed(UnwrapGssMessage(context.handle, payload))), name)
        if (yield from perform(Now())) >= context.expires_at:
            raise _refused("the ticket has expired while the login was under way")
        user = yield from perform(FetchUser(UserRequest(name)))
        if user is None:
            raise _refused("the ticket is right, and there is no such user on $external")
        return Step(b"", user, Expiry(context.expires_at))


def _check_choice(message: GssMessage, name: UserName) -> None:
    """No security layer, and no other name. The three octets of a size mean nothing without a layer: some clients
    fill them.
    """
    if message.is_encrypted:
        raise _refused("the choice of the security layer is encrypted")
    if len(message.content) < len(OFFER):
        raise _refused("the choice of the security layer is shorter than 4 bytes")
    if message.content[0] != NO_SECURITY_LAYER:
        raise _refused("the client chooses a security layer that was not offered")
    if message.content[len(OFFER) :] not in (b"", name.user.encode()):
        raise _refused("the client asks to act as another user than it logs in as")


def _performed(effect: Effect[T | GssRefusal]) -> Flow[T]:
    answer = yield from perform(effect)
    if isinstance(answer, GssRefusal):
        raise _refused(answer.reason)
    return answer


def _principal(displayed: bytes) -> str:
    """A principal as a user's name: whole, with its realm and with the escapes that keep odd names apart."""
    if len(displayed) > MAX_NAME_BYTES:
        raise _refused(f"the principal is longer than {MAX_NAME_BYTES} bytes")
    try:
        name = displayed.decode()
    except UnicodeDecodeError:
        raise _refused("the principal is not UTF-8") from None
    if not name or name.startswith(_WELL_KNOWN):
        raise _refused("the ticket is anonymous")
    return name


def _refused(reason: str) -> CommandError:
    return CommandError(ErrorCode.AUTHENTICATION_FAILED, "Authentication failed.", reason=reason)
