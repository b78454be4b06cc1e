"""AuthenticationSession: who is logged in on one client connection, and the SASL state machine that gets there.

In: the bodies of saslStart, saslContinue, authenticate, logout and hello. Out: reply documents without `ok`, or
`CommandError`; audit events. Must not know sockets, other commands, or what the user may do.
Source: the measured behaviour of mongod 6.0.5: one identity per connection, one conversation at a time, its id is 1.

Where mongod differs, on purpose: a client is not told whether a user exists (see `scram`, and
`sasl_supported_mechs`), and a payload has a maximum size.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

from mongoguard.authn.channel import Channel
from mongoguard.authn.conversation import AuthenticationFailure, Expiry, ServerConversation, Step
from mongoguard.authn.hello_fields import speculative_attempt, supported_mechs_name
from mongoguard.authn.login_refusals import not_enabled, refusal_of, second_identity
from mongoguard.authn.logins import LoginAttempt, Logins
from mongoguard.authn.sasl_requests import Authenticate, Payload, SaslContinue, SaslStart, check_fields
from mongoguard.authn.scram import SCRAM_MECHANISMS
from mongoguard.authn.x509.login import X509_MECHANISM, log_in_by_certificate
from mongoguard.effects import (
    Emit,
    FetchUser,
    Flow,
    GiveConnection,
    Now,
    RandomBytes,
    SigningKey,
    TakeConnection,
    perform,
)
from mongoguard.errors import CommandError, ErrorCode, GuardError, UpstreamError
from mongoguard.model.names import EXTERNAL_DB, UserName
from mongoguard.model.restriction import Peer, restrictions_met
from mongoguard.model.user import User, UserRequest
from mongoguard.observe.event import AuditEvent
from mongoguard.wire.document import Document

__all__ = ["AuthenticationSession"]

CONVERSATION_ID = 1
"""The only one: a connection has at most one conversation, and a new saslStart replaces it."""

_NONE: Mapping[str, str] = {}

_ASKED_OF_EVERYBODY = (FetchUser, Now, RandomBytes)
"""Effects of a conversation that tell nothing of a credential: they are carried out for blocked names too."""


class _Blocked(AuthenticationFailure):
    """A login that was not looked at, because too many have failed before it."""


class _TooManyConnections(AuthenticationFailure):
    """A login whose credential was proven, by a user who may have no more connections."""


@dataclass(slots=True)
class _Attempt:
    """A login that is under way. `name` has an empty user until the client has said who it is."""

    name: UserName
    mechanism: str
    conversation: ServerConversation


class AuthenticationSession:
    """The logins of one client connection; `logins` is what all connections share, `channel` what this one proves."""

    __slots__ = ("_attempt", "_expiry", "_login_time", "_logins", "_peer", "_user", "channel")

    def __init__(self, logins: Logins, peer: Peer, channel: Channel) -> None:
        """Nobody is logged in."""
        self._logins = logins
        self._peer = peer
        self.channel = channel
        self._user: User | None = None
        self._expiry: Expiry | None = None
        self._login_time = 0.0
        self._attempt: _Attempt | None = None

    @property
    def user(self) -> User | None:
        """Who is logged in."""
        return self._user

    @property
    def expiry(self) -> Expiry | None:
        """Until when the proof of who is logged in holds; None when it has no end."""
        return self._expiry

    def withdraw_keys(self, keys: Collection[SigningKey], now: float) -> None:
        """A proof that one of these keys has signed holds no longer."""
        if self._expiry is not None and self._expiry.key in keys:
            self._expiry = replace(self._expiry, at=min(self._expiry.at, now))

    @property
    def login_under_way(self) -> bool:
        """Whether a conversation waits for the client's next message."""
        return self._attempt is not None

    def sasl_start(self, db: str, body: Document) -> Flow[dict[str, Any]]:
        """Begin a login on `db`. Ill-formed arguments leave a running conversation alone, anything else ends it."""
        return (yield from self._start(db, SaslStart.parse(body)))

    def sasl_continue(self, _db: str, body: Document) -> Flow[dict[str, Any]]:
        """Go on with the conversation; its database is the one of saslStart, whatever `$db` says here."""
        request = SaslContinue.parse(body)
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            raise CommandError(ErrorCode.PROTOCOL_ERROR, "No SASL session state found")
        if request.conversation_id != CONVERSATION_ID:
            mismatch = CommandError(ErrorCode.PROTOCOL_ERROR, "sasl: Mismatched conversation id")
            yield from self._audit_refusal(attempt.name, attempt.mechanism, mismatch)
            raise mismatch
        return (yield from self._advance(attempt, request.payload))

    def authenticate(self, db: str, body: Document) -> Flow[dict[str, Any]]:
        """The one-message login, by MONGODB-X509. It ends a running conversation, however it ends itself."""
        return (yield from self._authenticate(db, Authenticate.parse(body)))

    def speculative(
        self, hello: Document, supported: Collection[str] | None = None
    ) -> Flow[dict[str, Any] | None]:
        """The reply to hello's `speculativeAuthenticate`: None when absent, or when the attempt failed in any way.

        `supported`: what this hello is told of the user's mechanisms. A client that asks has no mechanism of its own
        and guesses one; if it is none of the user's, an answer (by decoy credentials, see `scram`) would keep the
        client from beginning anew with the right one.

        Raises `CommandError` (hello fails) when the field is no object, empty, or names another command.
        """
        attempt = speculative_attempt(hello)
        if attempt is None:
            return None
        command, body = attempt
        try:
            if command == "saslStart":
                start = SaslStart.parse(body, speculative=True)
                if supported is not None and start.mechanism in SCRAM_MECHANISMS.keys() - set(supported):
                    return None
                return (yield from self._start(_database(body), start))
            request = Authenticate.parse(body, speculative=True)
            db = body.string("db")
            return (yield from self._authenticate(EXTERNAL_DB if db is None else db, request))
        except CommandError:
            return None

    def sasl_supported_mechs(self, hello: Document) -> Flow[list[str] | None]:
        """The reply to hello's `saslSupportedMechs`: None when the field is absent; raises `CommandError`.

        mongod leaves the field out for users that do not exist, which tells who does. Here such a user, and one that
        the directory can't be asked about, has every enabled mechanism. `$external` users have no password: always
        the empty list.
        """
        name = supported_mechs_name(hello)
        if name is None:
            return None
        enabled = [mechanism for mechanism in SCRAM_MECHANISMS if mechanism in self._logins.sasl]
        if name.db == EXTERNAL_DB:
            return []
        try:
            user = yield from perform(FetchUser(UserRequest(name)))
        except UpstreamError:
            user = None
        if user is None:
            return enabled
        return [mechanism for mechanism in enabled if mechanism in user.credentials]

    def logout(self, db: str, body: Document) -> Flow[dict[str, Any]]:
        """Log out the user of database `db`; on another database nothing happens, as in mongod."""
        check_fields("logout", body, {})
        if self._user is not None and self._user.name.db == db:
            yield from self.log_out("Logging out on user request")
        return {}

    def log_out(self, reason: str) -> Flow[None]:
        """Forget who is logged in, and say so in the audit stream; nothing happens when nobody is."""
        user, self._user, self._expiry = self._user, None, None
        if user is None:
            return
        if self._logins.limits_connections:
            yield from perform(GiveConnection(self))
        login_time = datetime.fromtimestamp(self._login_time, UTC)
        param = {
            "reason": reason,
            "initialUsers": [{"user": user.name.user, "db": user.name.db}],
            "updatedUsers": [],
            "loginTime": login_time,
        }
        yield from perform(Emit(AuditEvent("logout", self._peer, (user.name,), user.roles, param)))

    def refresh(self, fresh: User | None) -> Flow[User | None]:
        """Take over what the directory says now about the logged-in user; the answer is who is logged in afterwards.

        Logged out when the user was dropped (also when made again: its id is another), or when it has got a
        restriction that this connection does not meet. Another user's record logs out too.
        """
        if self._user is None:
            return None
        if fresh is None or (fresh.name, fresh.user_id) != (self._user.name, self._user.user_id):
            yield from self.log_out("User has been dropped")
        elif not restrictions_met(fresh.restrictions, self._peer):
            yield from self.log_out("Authentication restrictions are no longer met")
        else:
            self._user = fresh
        return self._user

    def _start(self, db: str, request: SaslStart) -> Flow[dict[str, Any]]:
        self._attempt = None
        name, mechanism = UserName("", db), request.mechanism
        try:
            conversation = self._conversation(db, request)
        except CommandError as refusal:
            yield from self._audit_refusal(name, mechanism, refusal)
            raise
        return (yield from self._advance(_Attempt(name, mechanism, conversation), request.payload))

    def _conversation(self, db: str, request: SaslStart) -> ServerConversation:
        begin = self._logins.sasl.get(request.mechanism)
        if begin is None:
            raise not_enabled(request.mechanism)
        return begin(LoginAttempt(db, request, self._peer, self.channel))

    def _advance(self, attempt: _Attempt, payload: Payload) -> Flow[dict[str, Any]]:
        """One message of the conversation: it goes on, ends in a login, or is over, refused and audited."""
        conversation = attempt.conversation
        try:
            step = yield from self._step(conversation, payload.content)
            attempt.name = conversation.name or attempt.name
            if step.user is None:
                self._attempt = attempt
            else:
                yield from self._log_in(step.user, step, attempt)
        except (AuthenticationFailure, UpstreamError, CommandError) as error:
            name = conversation.name or attempt.name
            if conversation.is_guessable:
                yield from self._count(name, error)
            refusal = refusal_of(error)
            yield from self._audit_refusal(name, attempt.mechanism, refusal)
            raise refusal from None
        return {
            "conversationId": CONVERSATION_ID,
            "done": step.user is not None,
            "payload": payload.answer(step.answer),
        }

    def _step(self, conversation: ServerConversation, payload: bytes) -> Flow[Step]:
        """The conversation's next step, but no look at a credential while logins of its name are blocked.

        Such a login goes on until the step that would end it, as with a wrong password: a block shows nothing of the
        user. Nor is anybody outside asked, who may count failed logins too, and lock the account for good.
        """
        yield from self._refuse_if_blocked(conversation)
        step = conversation.step(payload)
        resume = partial(step.send, None)
        try:
            while True:
                effect = resume()
                if not isinstance(effect, _ASKED_OF_EVERYBODY):
                    yield from self._refuse_if_blocked(conversation)
                try:
                    resume = partial(step.send, (yield effect))
                except GuardError as error:
                    resume = partial(step.throw, error)
        except StopIteration as stop:
            return cast("Step", stop.value)
        finally:
            step.close()

    def _refuse_if_blocked(self, conversation: ServerConversation) -> Flow[None]:
        if conversation.is_guessable and conversation.name is not None:
            yield from self._check_block(conversation.name, (yield from perform(Now())))

    def _check_block(self, name: UserName, now: float) -> Flow[None]:
        block = yield from self._logins.block(name, self._peer.client, now)
        if block is not None:
            secs = math.ceil(block.secs)
            raise _Blocked(f"too many failed logins: blocked for {secs} s ({block.scope})")

    def _count(self, name: UserName, error: Exception) -> Flow[None]:
        """A failed proof, but neither one that a block refused, nor a login that could not be decided.

        Nor one connection too many: clients that reconnect in a loop would lock their own user out for longer.
        """
        if isinstance(error, AuthenticationFailure) and not isinstance(error, _Blocked | _TooManyConnections):
            now = yield from perform(Now())
            yield from self._logins.count(name, self._peer.client, now, is_failure=True)

    def _log_in(self, user: User, step: Step, attempt: _Attempt) -> Flow[None]:
        """The credential is proven: one identity per connection, then the restrictions, then the login.

        Failures are counted under the name that the client gave. They are looked at again: others may have failed while
        this login was under way.
        """
        now = yield from perform(Now())
        is_guessable = attempt.conversation.is_guessable
        if is_guessable:
            yield from self._check_block(attempt.name, now)
        yield from self._admit(user, attempt.mechanism, step.expiry, now, step.claims)
        if is_guessable:
            yield from self._logins.count(attempt.name, self._peer.client, now, is_failure=False)

    def _admit(
        self, user: User, mechanism: str, expiry: Expiry | None, now: float, claims: Mapping[str, str] = _NONE
    ) -> Flow[None]:
        if self._user is not None and self._user.name != user.name:
            raise second_identity(self._user.name, user.name)
        if not restrictions_met(user.restrictions, self._peer):
            raise AuthenticationFailure("authentication restrictions are not met")
        if self._user is None and not (yield from self._has_a_place(user.name)):
            raise _TooManyConnections("net.maxConnectionsPerUser is reached")
        param: dict[str, Any] = {"user": user.name.user, "db": user.name.db, "mechanism": mechanism}
        if claims:
            param["claims"] = claims
        yield from perform(Emit(AuditEvent("authenticate", self._peer, (user.name,), user.roles, param)))
        # Last: were the event not taken, nobody would be logged in.
        self._user, self._login_time, self._expiry = user, now, expiry

    def _has_a_place(self, name: UserName) -> Flow[bool]:
        return not self._logins.limits_connections or (yield from perform(TakeConnection(name, self)))

    def _authenticate(self, db: str, request: Authenticate) -> Flow[dict[str, Any]]:
        mechanism = request.mechanism
        if not mechanism:
            raise CommandError(ErrorCode.BAD_VALUE, "Auth mechanism not specified")
        if mechanism == X509_MECHANISM and self._logins.x509:
            return (yield from self._authenticate_by_certificate(db, request.user))
        if mechanism in self._logins.sasl:
            refusal = CommandError(ErrorCode.BAD_VALUE, f"Unsupported mechanism: {mechanism}")
        else:
            refusal = not_enabled(mechanism)
        yield from self._audit_refusal(UserName(request.user, db), mechanism, refusal)
        raise refusal

    def _authenticate_by_certificate(self, db: str, claimed: str) -> Flow[dict[str, Any]]:
        """No failures are counted and no block is looked at: a certificate can't be guessed, and whoever fails on
        purpose under its owner's name (by a password, say) must not keep the owner out.
        """
        self._attempt = None
        try:
            user, expiry = yield from log_in_by_certificate(self.channel, db, claimed)
            yield from self._admit(user, X509_MECHANISM, expiry, (yield from perform(Now())))
        except (AuthenticationFailure, UpstreamError, CommandError) as error:
            refusal = refusal_of(error)
            certificate = self.channel.certificate
            name = claimed if certificate is None else certificate.subject
            yield from self._audit_refusal(UserName(name, db), X509_MECHANISM, refusal)
            raise refusal from None
        return {"dbname": user.name.db, "user": user.name.user}

    def _audit_refusal(self, name: UserName, mechanism: str, refusal: CommandError) -> Flow[None]:
        """`users` and `roles` are of who was logged in before: a failed attempt does not log out."""
        before = self._user
        event = AuditEvent(
            atype="authenticate",
            peer=self._peer,
            users=() if before is None else (before.name,),
            roles=() if before is None else before.roles,
            param={
                "user": name.user,
                "db": name.db,
                "mechanism": mechanism,
                "reason": refusal.reason or refusal.errmsg,
            },
            result=refusal.code,
        )
        yield from perform(Emit(event))


def _database(body: Document) -> str:
    db = body.string("db")
    if not db:
        raise CommandError(ErrorCode.BAD_VALUE, "a speculative attempt needs a database")
    return db
