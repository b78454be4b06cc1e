"""SCRAM-SHA-1 and SCRAM-SHA-256: keys, stored credentials, and the server's side of a login.

In: a client's payloads, and the user as the directory knows it. Out: answers, and the proven user. Must not know
commands, connections or where users are stored.
Sources: RFC 5802, RFC 7677; the manual's "SCRAM" page; details measured on mongod 6.0.5.

A login costs a handful of HMACs here: only the client, and `derive_credentials`, run the iterations.

Where mongod differs: it stops at the first message of a user that does not exist or lacks the mechanism, which tells
user names to anybody. Here such a conversation goes on with decoy credentials, made from a key of the deployment: a
salt that never changes for a name, the default iteration count, the same messages, and the same work until the proof
fails. What still tells users from decoys: an iteration count that is not the default, and having only one of the
mechanisms, which drivers must be told (`saslSupportedMechs`).
Nor does mongod compare the channel-binding value (`c=`) with the GS2 header, as RFC 5802 section 6 demands.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mongoguard.authn.conversation import AuthenticationFailure, Step
from mongoguard.authn.saslprep import saslprep
from mongoguard.authn.scram_messages import (
    ClientFinal,
    ClientFirst,
    ScramFormatError,
    ServerFinal,
    ServerFirst,
)
from mongoguard.effects import FetchUser, Flow, RandomBytes, perform
from mongoguard.model.names import UserName
from mongoguard.model.user import ScramCredentials, User, UserRequest

__all__ = [
    "SCRAM_MECHANISMS",
    "SCRAM_SHA_1",
    "SCRAM_SHA_256",
    "ScramKeys",
    "ScramMechanism",
    "ScramServerConversation",
    "client_proof",
    "decoy_credentials",
    "derive_credentials",
    "derive_keys",
    "proof_holds",
    "server_signature",
    "usable_credentials",
]

SERVER_NONCE_BYTES = 24
"""Random bytes in the server's half of the nonce, as mongod draws them (32 characters of base64)."""


@dataclass(frozen=True, slots=True)
class ScramMechanism:
    """One SCRAM mechanism. `salt_bytes` is the only salt length that mongod accepts in stored credentials;
    `default_iterations` is mongod's default for new passwords (`scramIterationCount`, `scramSHA256IterationCount`).
    """

    name: str
    digest: str
    digest_bytes: int
    salt_bytes: int
    default_iterations: int


SCRAM_SHA_1 = ScramMechanism("SCRAM-SHA-1", "sha1", 20, 16, 10_000)
SCRAM_SHA_256 = ScramMechanism("SCRAM-SHA-256", "sha256", 32, 28, 15_000)

SCRAM_MECHANISMS: Mapping[str, ScramMechanism] = MappingProxyType(
    {mechanism.name: mechanism for mechanism in (SCRAM_SHA_256, SCRAM_SHA_1)}
)
"""By name, the preferred one first: the order in saslSupportedMechs (mongod's is one of chance, fixed at its start)."""


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a password becomes (RFC 5802 section 3). The client key is as good as the password itself."""

    client_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def derive_keys(
    mechanism: ScramMechanism, user: str, password: str, salt: bytes, iterations: int
) -> ScramKeys:
    """Run the iterations (milliseconds of CPU). Raises `ValueError` for a password that SASLprep prohibits.

    SCRAM-SHA-1 takes MongoDB's old password digest, hex md5("user:mongo:password"), instead of the password.
    """
    if mechanism is SCRAM_SHA_1:
        digest = hashlib.md5(f"{user}:mongo:{password}".encode(), usedforsecurity=False)
        prepared = digest.hexdigest().encode()
    else:
        prepared = saslprep(password).encode()
    salted = hashlib.pbkdf2_hmac(mechanism.digest, prepared, salt, iterations)
    return ScramKeys(
        hmac.digest(salted, b"Client Key", mechanism.digest),
        hmac.digest(salted, b"Server Key", mechanism.digest),
    )


def derive_credentials(
    mechanism: ScramMechanism, user: str, password: str, salt: bytes, iterations: int
) -> ScramCredentials:
    """The credentials to store for a password, as mongod would store them.

    Raises `ValueError` for an empty or prohibited password, and for a salt of another length than the mechanism's.
    """
    if not password or not (mechanism is SCRAM_SHA_1 or saslprep(password)):
        raise ValueError("a password must not be empty, nor become so by SASLprep")
    if len(salt) != mechanism.salt_bytes:
        raise ValueError(f"{mechanism.name} needs a salt of {mechanism.salt_bytes} bytes")
    keys = derive_keys(mechanism, user, password, salt, iterations)
    stored_key = hashlib.new(mechanism.digest, keys.client_key).digest()
    return ScramCredentials(iterations, salt, stored_key, keys.server_key)


def client_proof(mechanism: ScramMechanism, client_key: bytes, auth_message: bytes) -> bytes:
    """ClientProof: the client key, hidden by a signature that only the stored key can make."""
    stored_key = hashlib.new(mechanism.digest, client_key).digest()
    return _xor(client_key, hmac.digest(stored_key, auth_message, mechanism.digest))


def proof_holds(
    mechanism: ScramMechanism, credentials: ScramCredentials, auth_message: bytes, proof: bytes
) -> bool:
    """Whether the proof was made with the password behind the credentials; compared in constant time."""
    if len(proof) != mechanism.digest_bytes:
        return False
    client_key = _xor(proof, hmac.digest(credentials.stored_key, auth_message, mechanism.digest))
    return hmac.compare_digest(hashlib.new(mechanism.digest, client_key).digest(), credentials.stored_key)


def server_signature(mechanism: ScramMechanism, server_key: bytes, auth_message: bytes) -> bytes:
    """ServerSignature: the server's proof that it knows the credentials."""
    return hmac.digest(server_key, auth_message, mechanism.digest)


def decoy_credentials(mechanism: ScramMechanism, name: UserName, key: bytes) -> ScramCredentials:
    """Credentials that look like a user's and that no password opens: the same for a name as long as `key` is."""
    user, db = name.user.encode(), name.db.encode()
    identity = b"%b\0%d\0%b%b" % (mechanism.name.encode(), len(db), db, user)
    salt, stored_key, server_key = (
        hmac.digest(key, part + identity, "sha256") for part in (b"salt\0", b"storedKey\0", b"serverKey\0")
    )
    size = mechanism.digest_bytes
    return ScramCredentials(
        mechanism.default_iterations, salt[: mechanism.salt_bytes], stored_key[:size], server_key[:size]
    )


def usable_credentials(mechanism: ScramMechanism, user: User | None) -> ScramCredentials | None:
    """The user's credentials for the mechanism, or None where a login can't succeed.

    As in mongod the lengths of salt and keys are enforced, and an iteration count below the minimum is not.
    """
    credentials = None if user is None else user.credentials.get(mechanism.name)
    if credentials is None:
        return None
    lengths = (len(credentials.salt), len(credentials.stored_key), len(credentials.server_key))
    expected = (mechanism.salt_bytes, mechanism.digest_bytes, mechanism.digest_bytes)
    return credentials if lengths == expected and credentials.iteration_count > 0 else None


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A conversation after its first message: who (None for a decoy), and what both sides are going to sign."""

    mechanism: ScramMechanism
    user: User | None
    credentials: ScramCredentials
    first: ClientFirst
    answer: ServerFirst

    def check_proof(self, payload: bytes) -> tuple[ServerFinal, User]:
        """The client's final message. Raises `AuthenticationFailure`, `ScramFormatError`."""
        final = ClientFinal.parse(payload)
        if final.channel_binding != self.first.gs2_header:
            raise AuthenticationFailure("the channel binding is not the GS2 header of the first message")
        if not hmac.compare_digest(final.nonce, self.answer.nonce):
            raise AuthenticationFailure("the nonce is not that of this conversation")
        auth_message = b",".join((self.first.bare, self.answer.encode(), final.without_proof))
        holds = proof_holds(self.mechanism, self.credentials, auth_message, final.proof)
        signature = server_signature(self.mechanism, self.credentials.server_key, auth_message)
        if self.user is None:
            raise AuthenticationFailure(f"no such user, or no usable {self.mechanism.name} credentials")
        if not holds:
            raise AuthenticationFailure("the proof does not match the stored credentials")
        return ServerFinal(signature), self.user


class ScramServerConversation:
    """The server's side of one SCRAM login on database `db`.

    The user is fetched once, at the first message, and is the one that a good proof logs in. With
    `skip_empty_exchange` the answer to the proof ends the conversation; otherwise the client sends one more message,
    whose content is ignored (what drivers before SCRAM's short form expect).
    """

    is_guessable = True

    __slots__ = (
        "_db",
        "_decoy_key",
        "_exchange",
        "_mechanism",
        "_name",
        "_proven",
        "_skip_empty_exchange",
        "_started",
    )

    def __init__(
        self, mechanism: ScramMechanism, db: str, decoy_key: bytes, *, skip_empty_exchange: bool = False
    ) -> None:
        """Wait for the first message. `decoy_key` is the deployment's secret for `decoy_credentials`."""
        self._mechanism = mechanism
        self._db = db
        self._decoy_key = decoy_key
        self._skip_empty_exchange = skip_empty_exchange
        self._started = False
        self._name: UserName | None = None
        self._exchange: _Exchange | None = None
        self._proven: User | None = None

    @property
    def name(self) -> UserName | None:
        """Who the client claims to be; None until a well-formed first message."""
        return self._name

    def step(self, payload: bytes) -> Flow[Step]:
        """Take the client's next message. Raises `AuthenticationFailure`, after which every step fails."""
        exchange, self._exchange = self._exchange, None
        proven, self._proven = self._proven, None
        try:
            if not self._started:
                self._started = True
                return (yield from self._begin(payload))
            if exchange is not None:
                return self._finish(exchange, payload)
        except ScramFormatError as error:
            raise AuthenticationFailure(str(error)) from None
        if proven is None:
            raise AuthenticationFailure("the conversation is over")
        return Step(b"", proven)

    def _begin(self, payload: bytes) -> Flow[Step]:
        mechanism = self._mechanism
        first = ClientFirst.parse(payload)
        self._name = UserName(first.user, self._db)
        user = yield from perform(FetchUser(UserRequest(self._name)))
        random = yield from perform(RandomBytes(SERVER_NONCE_BYTES))
        # The decoy is made for everybody: the time of an answer must not tell who exists.
        decoy = decoy_credentials(mechanism, self._name, self._decoy_key)
        credentials = usable_credentials(mechanism, user)
        shown = credentials or decoy
        answer = ServerFirst(first.nonce + base64.b64encode(random), shown.salt, shown.iteration_count)
        self._exchange = _Exchange(mechanism, user if credentials else None, shown, first, answer)
        return Step(answer.encode())

    def _finish(self, exchange: _Exchange, payload: bytes) -> Step:
        final, user = exchange.check_proof(payload)
        if self._skip_empty_exchange:
            return Step(final.encode(), user)
        self._proven = user
        return Step(final.encode())


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")
