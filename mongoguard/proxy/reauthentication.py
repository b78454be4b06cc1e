"""Sessions whose proof has expired: which commands are still served, and how the client is asked for a newer proof.

In: until when the proof holds, a command's row, the time. Out: nothing, a refusal (391), or the end of the connection.
Must not know mechanisms, tokens or clocks.
Source: the drivers' authentication specification: on 391 (ReauthenticationRequired) a driver logs in again on the same
connection, and repeats the command once. A refused command was not sent upstream, so repeating it is safe.

What a user had begun may be ended for `GRACE_SECS`: not every driver knows 391 for a getMore (Go's does not, and loses
the cursor), and none should have to ask a person for a password in order to give something up.
"""

from __future__ import annotations

from mongoguard.authn.conversation import Expiry
from mongoguard.command.spec import CommandRow
from mongoguard.errors import CommandError, ErrorCode, ProtocolError

__all__ = ["GRACE_SECS", "MAX_REQUESTS", "Reauthentication"]

GRACE_SECS = 60.0
"""As long as the clocks of an identity provider and its users may differ; enough for the next batches of a cursor."""

MAX_REQUESTS = 3
"""391s in a row. A driver repeats a command once, and the next command may find its pool in the same state; one that is
asked more often is in a loop, or does not understand, and begins anew on a new connection."""

FINISHING = frozenset(
    {"abortTransaction", "commitTransaction", "endSessions", "getMore", "killCursors", "logout"}
)
"""Commands that go on with, or give up, what was begun while the proof held."""


class Reauthentication:
    """How often one connection's client was asked in a row."""

    __slots__ = ("_requests",)

    def __init__(self) -> None:
        """It was not asked yet."""
        self._requests = 0

    def check(self, expiry: Expiry, row: CommandRow, now: float) -> None:
        """Return when the command may be served.

        Raises `CommandError` 391 where the client can bring a newer proof on this connection, and `ProtocolError`
        where it can't, or was asked too often.
        """
        if now < expiry.at:
            if row.requires_auth:
                self._requests = 0
            return
        if not expiry.reauthenticates:
            raise ProtocolError("the credential of this login has expired")
        if not row.requires_auth or (row.name in FINISHING and now < expiry.at + GRACE_SECS):
            return
        if self._requests >= MAX_REQUESTS:
            raise ProtocolError("the client was asked for a newer credential again and again")
        self._requests += 1
        raise CommandError(
            ErrorCode.REAUTHENTICATION_REQUIRED, "Reauthentication required: the credential has expired"
        )
