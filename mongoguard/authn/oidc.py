"""MONGODB-OIDC: a login by a token that an identity provider has signed.

In: the payloads of saslStart and saslContinue, BSON documents. Out: `Step`s, the last with the user and until when the
token holds; or a refusal, whose reason is for the audit event alone. Must not know HTTP or sockets. No part of a token
is in a text, an event, or a repr.
Source: the drivers' authentication specification (MONGODB-OIDC). Programs send `{jwt}` at once; people first say who
they are, `{n}` or `{}`, and are told where to get a token: `{issuer, clientId, requestScopes}`.

A token is worth as much as a password while it lasts, and it crosses as it is: the connection must be TLS or a Unix
socket. A token that is refused is no guess at anything, so it is not counted as one, or whoever replays an old token
could lock its owner out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mongoguard.authn.conversation import Expiry, ServerConversation, Step
from mongoguard.authn.logins import BeginConversation, LoginAttempt, wrong_database
from mongoguard.authn.oidc_provider import IdentityProvider, provider_for_name, provider_of_token
from mongoguard.authn.oidc_token import Claims, Token, TokenRefused, readable_text
from mongoguard.effects import FetchSigningKey, FetchUser, Flow, Now, perform
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.names import EXTERNAL_DB, RoleName, UserName
from mongoguard.model.user import UserRequest
from mongoguard.wire.document import BSONError, Document, encode

__all__ = ["OIDC", "OidcServerConversation", "oidc_logins"]

OIDC = "MONGODB-OIDC"

MAX_PRINCIPAL_BYTES = 512
"""UTF-8 bytes of a name: `sub` has at most 255 characters (OpenID Connect Core, section 2), an address 254."""
MAX_HINT_BYTES = 256
"""UTF-8 bytes of the name by which a person asks for its provider. It is matched on the event loop before anything is
proven: a usual matchPattern takes 2 ms for that many. No longer than `sub` and addresses are."""
MAX_GROUPS = 512
"""Groups of one token, each a role that is looked up; providers put at most 200 into a token."""
MAX_GROUP_BYTES = 1024
"""UTF-8 bytes of a group's name, which may be a distinguished name."""
MAX_LOGGED_BYTES = 256
"""UTF-8 bytes of a claim in an audit event; longer ones, and those that are no text, are left out."""


def oidc_logins(providers: Sequence[IdentityProvider]) -> Mapping[str, BeginConversation]:
    """The mechanism by its name, as `Logins.sasl` wants it; providers in the order of the configuration."""

    def begin(attempt: LoginAttempt) -> ServerConversation:
        if attempt.db != EXTERNAL_DB:
            raise wrong_database(OIDC, attempt.db)
        if not attempt.channel.is_private:
            # Not 18, after which drivers get another token and send it too.
            raise CommandError(
                ErrorCode.MECHANISM_UNAVAILABLE, f"{OIDC} is only served over TLS and on Unix sockets"
            )
        return OidcServerConversation(providers)

    return {OIDC: begin}


class OidcServerConversation:
    """The server side of one MONGODB-OIDC login."""

    is_guessable = False

    __slots__ = ("_asked", "_hint", "_name", "_providers")

    def __init__(self, providers: Sequence[IdentityProvider]) -> None:
        """Nobody has proven who it is yet."""
        self._providers = providers
        self._asked: IdentityProvider | None = None
        self._hint: str | None = None
        self._name: UserName | None = None

    @property
    def name(self) -> UserName | None:
        """Whose token it is, once its signature has held; what a client calls itself before that counts for nothing."""
        return self._name

    def step(self, payload: bytes) -> Flow[Step]:
        """Take the client's next message. Raises `CommandError` 18."""
        try:
            token, hint = _read(payload)
            if token is not None:
                return (yield from self._log_in(token))
            if self._asked is not None:
                raise TokenRefused("the second message has no token")
            return self._tell_provider(hint)
        except TokenRefused as refused:
            raise CommandError(
                ErrorCode.AUTHENTICATION_FAILED, "Authentication failed.", reason=str(refused)
            ) from None

    def _tell_provider(self, hint: str | None) -> Step:
        provider = provider_for_name(self._providers, hint)
        if provider is None:
            raise TokenRefused("no identity provider is configured for people with this name, or without one")
        self._asked, self._hint = provider, hint
        answer: dict[str, object] = {"issuer": provider.issuer, "clientId": provider.client_id}
        if provider.request_scopes:
            answer["requestScopes"] = list(provider.request_scopes)
        return Step(encode(answer))

    def _log_in(self, text: str) -> Flow[Step]:
        token = Token.parse(text)
        provider = self._provider_of(token)
        key = yield from perform(FetchSigningKey(provider.issuer, token.key_id))
        if key is None:
            raise TokenRefused(f"the identity provider {provider.issuer} publishes no key {token.key_id!r}")
        claims = token.proven(key)
        principal = claims.text(provider.principal_claim, MAX_PRINCIPAL_BYTES)
        name = self._name = provider.user_name(principal)
        expires = claims.check_dates((yield from perform(Now())))
        if self._hint is not None and self._hint != principal:
            raise TokenRefused("the token is not of the user who asked where to get one")
        user = yield from perform(FetchUser(UserRequest(name, _roles(provider, claims))))
        if user is None:
            raise TokenRefused("the token is right, and there is no such user on $external")
        return Step(b"", user, Expiry(expires, reauthenticates=True, key=key), _logged(provider, claims))

    def _provider_of(self, token: Token) -> IdentityProvider:
        issuer, audiences = token.issuer, token.audiences
        provider = provider_of_token(self._providers, issuer, audiences)
        if provider is None:
            raise TokenRefused(
                f"no identity provider, or more than one, has the token's issuer {issuer[:200]!r}"
                f" and one of its audiences {', '.join(audiences)[:200]!r}"
            )
        if self._asked is not None and provider is not self._asked:
            raise TokenRefused("the token is of another identity provider than the client was sent to")
        return provider


def _read(payload: bytes) -> tuple[str | None, str | None]:
    """(the token, None), or (None, the name that a person gave, if any). Raises `TokenRefused`."""
    try:
        document = Document(payload)
        if document.end != len(payload):
            raise TokenRefused("bytes follow the document of the payload")
        if set(document) == {"jwt"}:
            token = document.string("jwt")
            if not token:
                raise TokenRefused("the token is empty, or no string")
            return token, None
        if not set(document) <= {"n"}:
            raise TokenRefused("the payload is neither {jwt} nor {n} nor {}")
        hint = document.string("n") if "n" in document else None
    except BSONError:
        # Not "from" the error: it may quote.
        raise TokenRefused("the payload is no BSON document") from None
    if "n" in document:
        hint = readable_text(hint, "the name", MAX_HINT_BYTES)
    return None, hint


def _roles(provider: IdentityProvider, claims: Claims) -> tuple[RoleName, ...] | None:
    if provider.authorization_claim is None:
        return None
    groups = claims.texts(provider.authorization_claim, MAX_GROUPS, MAX_GROUP_BYTES)
    return tuple(dict.fromkeys(provider.role_name(group) for group in groups))


def _logged(provider: IdentityProvider, claims: Claims) -> dict[str, str]:
    found = {name: claims.values.get(name) for name in provider.log_claims}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, str) and len(value.encode(errors="replace")) <= MAX_LOGGED_BYTES
    }
