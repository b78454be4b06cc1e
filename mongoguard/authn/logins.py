"""Logins: the mechanisms that this process serves, and what all its connections share of them.

In: the configuration's mechanisms, each with a function that begins a conversation. Out: one frozen value for every
`AuthenticationSession`. Must not know sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mongoguard.authn.channel import Channel
from mongoguard.authn.conversation import ServerConversation
from mongoguard.authn.sasl_requests import SaslStart
from mongoguard.authn.scram import SCRAM_MECHANISMS, ScramMechanism, ScramServerConversation
from mongoguard.authn.throttle import Block, LoginLimits, LoginThrottle
from mongoguard.effects import CountLogin, FindLoginBlock, Flow, perform
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.names import EXTERNAL_DB, UserName
from mongoguard.model.restriction import Address, Peer

__all__ = ["BeginConversation", "LoginAttempt", "Logins", "of_a_provider", "scram_logins", "wrong_database"]

MIN_DECOY_KEY_BYTES = 16
"""A key that can be guessed would tell decoys from users."""


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """A saslStart: on which database, what it says, and the connection that it came on."""

    db: str
    start: SaslStart
    peer: Peer
    channel: Channel


BeginConversation = Callable[[LoginAttempt], ServerConversation]
"""Begins a login by one SASL mechanism. Raises `CommandError` where the mechanism is not served (here, or so)."""


@dataclass(frozen=True, slots=True)
class Logins:
    """`sasl`: mechanism name -> how a conversation begins, in the order in which they are offered. `throttle` counts
    the failed logins of all connections; None: they are counted for several processes, and the shell is asked. `x509`:
    whether MONGODB-X509, which is no SASL mechanism, is served too. `limits_connections`: whether the shell is asked
    for a place for each user's connection.
    """

    sasl: Mapping[str, BeginConversation] = field(default_factory=dict)
    throttle: LoginThrottle | None = field(default_factory=lambda: LoginThrottle(LoginLimits()))
    x509: bool = False
    limits_connections: bool = False

    def block(self, user: UserName, address: Address | None, now: float) -> Flow[Block | None]:
        """The block that a login meets now; None when it meets none."""
        if self.throttle is not None:
            return self.throttle.block(user, address, now)
        found = yield from perform(FindLoginBlock(user, address))
        return None if found is None else Block(*found)

    def count(self, user: UserName, address: Address | None, now: float, *, is_failure: bool) -> Flow[None]:
        """A login has failed or succeeded. Those that a block refused must not be told."""
        if self.throttle is None:
            yield from perform(CountLogin(user, address, is_failure))
        elif is_failure:
            self.throttle.failed(user, address, now)
        else:
            self.throttle.succeeded(user, address, now)


def scram_logins(mechanisms: Sequence[str], decoy_key: bytes) -> Mapping[str, BeginConversation]:
    """The SCRAM mechanisms of those names.

    `decoy_key` is a secret of the whole deployment (the same in every worker and after every restart, or decoy salts
    would change where real ones do not). Raises `ValueError` for other names, and for a short key.
    """
    unknown = [name for name in mechanisms if name not in SCRAM_MECHANISMS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no SCRAM mechanism")
    if len(decoy_key) < MIN_DECOY_KEY_BYTES:
        raise ValueError(f"the key of the decoy salts needs at least {MIN_DECOY_KEY_BYTES} bytes")
    return {name: _begins_scram(SCRAM_MECHANISMS[name], decoy_key) for name in mechanisms}


def _begins_scram(mechanism: ScramMechanism, decoy_key: bytes) -> BeginConversation:
    def begin(attempt: LoginAttempt) -> ServerConversation:
        if attempt.db == EXTERNAL_DB:
            raise wrong_database(mechanism.name, attempt.db)
        skip = attempt.start.skip_empty_exchange()
        return ScramServerConversation(mechanism, attempt.db, decoy_key, skip_empty_exchange=skip)

    return begin


def of_a_provider(name: str, prefixes: Sequence[str]) -> CommandError | None:
    """The refusal of a name that belongs to an identity provider's users; None for any other.

    `prefixes` are what such names begin with, slash included. Who may choose a name in another directory (a display
    name, a service principal) must not meet such a user in sessions, cursors, or a document on `$external`. It is no
    failed proof: counted, it would keep the token's owner out.
    """
    if not name.startswith(tuple(prefixes)):
        return None
    reason = "names that begin so are those of an identity provider's users, who log in by MONGODB-OIDC"
    return CommandError(ErrorCode.AUTHENTICATION_FAILED, "Authentication failed.", reason=reason)


def wrong_database(mechanism: str, db: str) -> CommandError:
    """mongod's answer to a mechanism on a database whose users it is not for."""
    return CommandError(
        ErrorCode.MECHANISM_UNAVAILABLE,
        f"Unsupported mechanism '{mechanism}' on authentication database '{db}'",
    )
