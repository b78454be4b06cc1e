"""The client's side of SCRAM: the twin of `ScramServerConversation`, for mongoguard's own logins upstream.

In: a password, a nonce drawn by the caller, the server's payloads. Out: the client's payloads. Must not know commands
or connections. No repr and no error shows the password, a key, a salt or a proof.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TypeVar

from mongoguard.authn.scram import ScramKeys, ScramMechanism, client_proof, derive_keys, server_signature
from mongoguard.authn.scram_messages import (
    ClientFinal,
    ClientFirst,
    ScramFormatError,
    ServerFinal,
    ServerFirst,
)
from mongoguard.errors import GuardError

__all__ = ["ScramClientConversation", "ScramClientError", "ScramPassword"]

M = TypeVar("M")

MIN_ITERATIONS = 4096
"""What RFC 5802 section 5.1 asks for and every driver enforces: fewer make a stolen message cheap to guess from."""
MAX_ITERATIONS = 10_000_000
"""Some seconds of CPU. mongod has no maximum; a server that asks for more would only stop this process."""


class ScramClientError(GuardError):
    """The server's side of the conversation is wrong: not what was asked, not fresh, or not the server it claims."""


class ScramPassword:
    """A user's password for one mechanism, and the keys last made from it.

    One object serves any number of logins. The keys of the last (salt, iterations) are kept, as drivers keep them:
    the iterations run once and not once per connection.
    """

    __slots__ = ("_derived", "_derived_for", "_password", "mechanism", "user")

    def __init__(self, mechanism: ScramMechanism, user: str, password: str) -> None:
        """Nothing is derived before the server names its salt."""
        self.mechanism = mechanism
        self.user = user
        self._password = password
        self._derived_for: tuple[bytes, int] | None = None
        self._derived: ScramKeys | None = None

    def keys(self, salt: bytes, iterations: int) -> ScramKeys:
        """The keys for that salt and count; milliseconds of CPU the first time. Raises `ValueError` as `saslprep`."""
        if self._derived is None or self._derived_for != (salt, iterations):
            self._derived = derive_keys(self.mechanism, self.user, self._password, salt, iterations)
            self._derived_for = (salt, iterations)
        return self._derived

    def __repr__(self) -> str:
        """The mechanism and the user, nothing secret."""
        return f"<ScramPassword {self.mechanism.name} of {self.user!r}>"


class ScramClientConversation:
    """One login: `first()`, then `final(…)`, then `verify(…)`. Raises `ScramClientError`.

    `nonce` is printable ASCII without a comma, from at least 18 random bytes of the caller.
    """

    __slots__ = ("_first", "_password", "_signature")

    def __init__(self, password: ScramPassword, nonce: bytes) -> None:
        """Prepare the first message."""
        self._password = password
        self._first = ClientFirst.of(password.user, nonce)
        self._signature: bytes | None = None

    def first(self) -> bytes:
        """The client's first payload."""
        return self._first.encode()

    def final(self, payload: bytes) -> bytes:
        """The proof, in answer to the server's first payload."""
        answer = _parsed(ServerFirst.parse, payload)
        nonce = self._first.nonce
        if not answer.nonce.startswith(nonce) or len(answer.nonce) == len(nonce):
            raise ScramClientError("the server's nonce does not extend the client's")
        if not MIN_ITERATIONS <= answer.iterations <= MAX_ITERATIONS:
            raise ScramClientError(
                f"the server asks for {answer.iterations} iterations;"
                f" {MIN_ITERATIONS} to {MAX_ITERATIONS} are accepted"
            )
        mechanism = self._password.mechanism
        try:
            keys = self._password.keys(answer.salt, answer.iterations)
        except ValueError as error:
            raise ScramClientError(f"the password can't be used: {error}") from None
        without_proof = ClientFinal.prefix(self._first.gs2_header, answer.nonce)
        auth_message = b",".join((self._first.bare, payload, without_proof))
        self._signature = server_signature(mechanism, keys.server_key, auth_message)
        proof = client_proof(mechanism, keys.client_key, auth_message)
        return ClientFinal(self._first.gs2_header, answer.nonce, proof, without_proof).encode()

    def verify(self, payload: bytes) -> None:
        """Check the server's own proof: only who has the user's credentials can make it."""
        signature = _parsed(ServerFinal.parse, payload).signature
        if self._signature is None or not hmac.compare_digest(signature, self._signature):
            raise ScramClientError("the server's signature is wrong: it does not know the user's credentials")


def _parsed(parse: Callable[[bytes], M], payload: bytes) -> M:
    try:
        return parse(payload)
    except ScramFormatError as error:
        raise ScramClientError(f"the server's message is malformed: {error}") from None
