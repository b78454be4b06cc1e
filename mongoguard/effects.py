"""What the core may ask of the shell.

In: nothing. Out: `Effect` values, and `perform`, which gives each question its answer's type. Must not know who
answers. A flow is a generator: `reply = yield from perform(Relay(...))`. The shell's pump carries effects out and
sends the answers back; tests drive a flow by hand, without a loop, a socket or a clock.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar, cast

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mongoguard.command.read_preference import ReadPreference
from mongoguard.model.names import UserName
from mongoguard.model.restriction import Address
from mongoguard.model.user import User, UserRequest
from mongoguard.observe.event import AuditEvent

__all__ = [
    "AcceptGssToken",
    "AskUpstream",
    "AwaitTopologyChange",
    "CheckPassword",
    "CountLogin",
    "CursorClaim",
    "Effect",
    "Emit",
    "FetchSigningKey",
    "FetchUser",
    "FindCursors",
    "FindLoginBlock",
    "Flow",
    "GiveConnection",
    "GssContext",
    "GssMessage",
    "GssRefusal",
    "KeptCursor",
    "Now",
    "PasswordCheck",
    "RandomBytes",
    "Relay",
    "RelayedReply",
    "SigningKey",
    "StateChanged",
    "TakeConnection",
    "perform",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Effect(Generic[T_co]):
    """A question to the shell; `T_co` is the type of its answer."""

    __slots__ = ()


Flow: TypeAlias = Generator[Effect[object], Any, T]
"""A computation that may ask the shell, and returns a T."""


def perform(effect: Effect[T]) -> Flow[T]:
    """Ask the shell; the answer has the effect's type."""
    return cast("T", (yield effect))


@dataclass(frozen=True, slots=True)
class FetchUser(Effect["User | None"]):
    """The user as the directory knows it now; None when there is no such user.

    Raises `UpstreamError` into the flow when the directory does not answer and no answer is fresh enough.
    """

    request: UserRequest


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """What a directory says of a password. `reason` says why not, for the audit event, and repeats no part of it."""

    accepted: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CheckPassword(Effect[PasswordCheck]):
    """Whether the directory that knows the password of `name` on `$external` accepts this one.

    Raises `DirectoryUnavailable` into the flow when there is no answer: that is not a wrong password.
    """

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key of an identity provider, and the JWS algorithms (RFC 7518) that it may be used with."""

    public: RSAPublicKey | EllipticCurvePublicKey
    algorithms: frozenset[str]


@dataclass(frozen=True, slots=True)
class FetchSigningKey(Effect["SigningKey | None"]):
    """The key that the identity provider `issuer` publishes under that `kid`; None when it publishes none.

    Raises `DirectoryUnavailable` into the flow when the provider can't be asked.
    """

    issuer: str
    key_id: str


@dataclass(frozen=True, slots=True)
class GssRefusal:
    """A GSS-API call that failed (RFC 2743). `reason` is the library's, for the audit event."""

    reason: str


@dataclass(frozen=True, slots=True)
class GssContext:
    """A security context that the client's token has established.

    `handle` is the shell's own, and lives as long as somebody holds it. `initiator` is the client's principal as
    Kerberos displays it. `is_mutual`: the client has asked for proof of the server, which `answer` is. `expires_at`:
    when the library takes the client's ticket no longer, in seconds since the epoch.
    """

    handle: object = field(repr=False)
    answer: bytes = field(repr=False)
    initiator: bytes
    is_mutual: bool
    expires_at: float


@dataclass(frozen=True, slots=True)
class AcceptGssToken(Effect["GssContext | GssRefusal"]):
    """Establish a Kerberos context from a client's only token, as the configured service.

    Raises `DirectoryUnavailable` into the flow when the Kerberos library gives no answer in time; so do the two below.
    """

    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class WrapGssMessage(Effect["bytes | GssRefusal"]):
    """The content with its integrity protected, but not encrypted."""

    handle: object = field(repr=False)
    content: bytes


@dataclass(frozen=True, slots=True)
class GssMessage:
    """What a wrapped message holds, and whether it was encrypted too."""

    content: bytes
    is_encrypted: bool


@dataclass(frozen=True, slots=True)
class UnwrapGssMessage(Effect["GssMessage | GssRefusal"]):
    """Verify a message that the client has wrapped."""

    handle: object = field(repr=False)
    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RandomBytes(Effect[bytes]):
    """That many bytes from the operating system's cryptographic generator."""

    count: int


@dataclass(frozen=True, slots=True)
class Now(Effect[float]):
    """Seconds since the epoch (UTC)."""


@dataclass(frozen=True, slots=True)
class AwaitTopologyChange(Effect[None]):
    """Wait until the counter of this process's topologyVersion is not `counter`, for that many seconds at most.

    The flow is closed instead when the client leaves meanwhile, or mongoguard is told to end.
    """

    counter: int
    within_secs: float


@dataclass(frozen=True, slots=True)
class Emit(Effect[None]):
    """Write an audit event; the answer comes when the sink has taken it (clients wait, nothing is dropped)."""

    event: AuditEvent


@dataclass(slots=True)  # frozen, making one costs a microsecond; each request makes one
class RelayedReply:
    """A complete OP_MSG from the upstream, and the address ("host:port") of the server that sent it."""

    message: bytes
    server: str


@dataclass(slots=True)  # frozen, making one costs a microsecond; each request makes one
class Relay(Effect[RelayedReply]):
    """Send an allowed command's message to the upstream and wait for its reply.

    `server` is the address that must serve it (a cursor's). Without one it goes where `read_preference` says, None
    being the primary. `transaction`: the session's id, for a request in a transaction: of several mongos, all requests
    with that id go to one. `changes_users`: whatever comes of it, users cached by the directory must not be used again.
    `documents_pass`: the client gets the reply's documents as they are, so that they may go on while they come; the
    answer may then be the reply without them (`wire.long_reply`), and what is returned for it must be that very object.
    Raises `UpstreamUnavailable` when nothing was sent, `UpstreamConnectionLost` when the connection broke after that.
    """

    message: bytes
    server: str | None = None
    changes_users: bool = False
    read_preference: ReadPreference | None = None
    transaction: bytes | None = None
    documents_pass: bool = False


@dataclass(frozen=True, slots=True)
class StateChanged(Effect[None]):
    """A server's reply says that it has stepped down, recovers, or shuts down: the next request must ask for another.

    `topology_version`: the server's own, when the reply has it; monitors that know a later one know better.
    """

    server: str
    shuts_down: bool
    topology_version: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class AskUpstream(Effect["dict[str, Any]"]):
    """Run a command of mongoguard's own as the service user on the primary; the answer is the decoded reply.

    A reply with ok: 0 is answered like any other. Raises as `Relay` does.
    """

    db: str
    command: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CursorClaim:
    """Who asks for cursors: what decides whether they are theirs, in whichever process they are known.

    `user` is None when nobody is logged in. `of_anybody`: whoever opened them, for there is no authorization, or it
    allows that. `namespace` and `session` are a getMore's: a killCursors has none that count.
    """

    user: UserName | None
    of_anybody: bool = False
    namespace: str | None = None
    session: bytes | None = None


@dataclass(frozen=True, slots=True)
class KeptCursor:
    """A cursor that another worker knows and keeps, for it is not the claimant's; the text is its refusal (13)."""

    cursor_id: int
    namespace: str
    errmsg: str


@dataclass(frozen=True, slots=True)
class FindCursors(Effect["tuple[KeptCursor, ...]"]):
    """Bring the cursors of these ids that other workers know, and that are the claimant's, into this one's table.

    The others forget them, and keep those that are not. Raises `UpstreamUnavailable` into the flow when the others
    can't be asked, or not in time.
    """

    ids: tuple[int, ...]
    claim: CursorClaim


@dataclass(frozen=True, slots=True)
class FindLoginBlock(Effect["tuple[str, float] | None"]):
    """Why logins of `user` from `address` (None: a Unix socket) are blocked, and for how many seconds more.

    Asked where failed logins are counted for several workers. Raises `UpstreamUnavailable` into the flow when there is
    no answer, and so does `CountLogin`.
    """

    user: UserName
    address: Address | None


@dataclass(frozen=True, slots=True)
class CountLogin(Effect[None]):
    """A login of `user` from `address` has failed, or succeeded."""

    user: UserName
    address: Address | None
    is_failure: bool


@dataclass(frozen=True, slots=True)
class TakeConnection(Effect[bool]):
    """Count a connection for `user`, and no longer for whom it was counted before; False when the user has too many.

    `holder` stands for the connection. Raises `UpstreamUnavailable` into the flow when there is no answer.
    """

    user: UserName
    holder: object = field(repr=False)


@dataclass(frozen=True, slots=True)
class GiveConnection(Effect[None]):
    """The connection of `holder` counts for nobody any more."""

    holder: object = field(repr=False)
