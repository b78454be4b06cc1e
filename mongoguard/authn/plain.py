"""PLAIN (RFC 4616): one message with a name and a password, which somebody else must judge.

In: a saslStart's payload. Out: a `Step` with the user, or `AuthenticationFailure`, whose text is for the audit event
alone. Must not know directories or sockets. No password is in a text, an event, or a repr.

The password crosses in the clear, so the connection itself must be private: TLS, or a Unix socket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mongoguard.authn.conversation import AuthenticationFailure, ServerConversation, Step
from mongoguard.authn.logins import BeginConversation, LoginAttempt, of_a_provider, wrong_database
from mongoguard.effects import CheckPassword, FetchUser, Flow, perform
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.names import EXTERNAL_DB, UserName
from mongoguard.model.user import UserRequest

__all__ = ["PLAIN", "PlainServerConversation", "plain_logins"]

PLAIN = "PLAIN"

MAX_NAME_BYTES = 10_000
"""UTF-8 bytes of a name: whose name is longer has no logical sessions, on which every driver depends."""

MAX_PASSWORD_BYTES = 4096
"""UTF-8 bytes of a password: directories take less, and hashing a long one is work for them."""


def plain_logins(reserved: Sequence[str] = ()) -> Mapping[str, BeginConversation]:
    """The mechanism by its name, as `Logins.sasl` wants it. `reserved`: see `of_a_provider`."""

    def begin(attempt: LoginAttempt) -> ServerConversation:
        if attempt.db != EXTERNAL_DB:
            raise wrong_database(PLAIN, attempt.db)
        if not attempt.channel.is_private:
            raise CommandError(
                ErrorCode.AUTHENTICATION_FAILED,
                "Authentication failed.",
                reason="PLAIN sends the password in clear, and this connection is neither TLS nor a Unix socket",
            )
        return PlainServerConversation(reserved)

    return {PLAIN: begin}


class PlainServerConversation:
    """The server side of one PLAIN login."""

    is_guessable = True

    __slots__ = ("_name", "_reserved")

    def __init__(self, reserved: Sequence[str] = ()) -> None:
        """Nobody has said who it is yet."""
        self._name: UserName | None = None
        self._reserved = reserved

    @property
    def name(self) -> UserName | None:
        """Who the client claims to be; None until it has said so."""
        return self._name

    def step(self, payload: bytes) -> Flow[Step]:
        """The one message. Raises `AuthenticationFailure`, and `CommandError` 18 for a reserved name."""
        user, password = self._read(payload)
        check = yield from perform(CheckPassword(user, password))
        if not check.accepted:
            raise AuthenticationFailure(check.reason)
        found = yield from perform(FetchUser(UserRequest(UserName(user, EXTERNAL_DB))))
        if found is None:
            raise AuthenticationFailure("the password is right, and there is no such user on $external")
        return Step(b"", found)

    def _read(self, payload: bytes) -> tuple[str, str]:
        """Name and password: `[authzid] NUL authcid NUL passwd`, without a NUL in any of them."""
        parts = payload.split(b"\0")
        if len(parts) != 3:
            raise AuthenticationFailure("a PLAIN message has exactly two NULs")
        authzid, authcid, passwd = parts
        if len(authcid) > MAX_NAME_BYTES:
            raise AuthenticationFailure(f"the user name is longer than {MAX_NAME_BYTES} bytes")
        try:
            user = authcid.decode()
        except UnicodeDecodeError:
            raise AuthenticationFailure("the user name is not UTF-8") from None
        if not user:
            raise AuthenticationFailure("the user name is empty")
        if (refusal := of_a_provider(user, self._reserved)) is not None:
            raise refusal
        self._name = UserName(user, EXTERNAL_DB)
        if authzid not in (b"", authcid):
            raise AuthenticationFailure("the client asks to act as another user than it logs in as")
        if len(passwd) > MAX_PASSWORD_BYTES:
            raise AuthenticationFailure(f"the password is longer than {MAX_PASSWORD_BYTES} bytes")
        if not passwd:
            raise AuthenticationFailure("the password is empty")
        try:
            return user, passwd.decode()
        except UnicodeDecodeError:
            # Not "from" the error, which holds the octets.
            raise AuthenticationFailure("the password is not UTF-8") from None
