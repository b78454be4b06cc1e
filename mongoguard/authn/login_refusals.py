"""What a client is told when it is not logged in.

In: why. Out: `CommandError`s with mongod's codes and texts. Must not know sessions.
"""

from __future__ import annotations

from mongoguard.authn.conversation import AuthenticationFailure
from mongoguard.errors import CommandError, ErrorCode, UpstreamError
from mongoguard.model.names import UserName

__all__ = ["not_enabled", "refusal_of", "second_identity"]


def not_enabled(mechanism: str) -> CommandError:
    """The mechanism is not served."""
    return CommandError(
        ErrorCode.MECHANISM_UNAVAILABLE,
        f"Received authentication for mechanism {mechanism} which is not enabled",
    )


def second_identity(first: UserName, second: UserName) -> CommandError:
    """The texts are mongod's; "multiple databases" is, as there, said of users of the *same* database."""
    if first.db == second.db:
        return CommandError(
            5626702,
            f"Client has attempted to authenticate on multiple databases.Already authenticated as: {first}",
        )
    return CommandError(
        5626701,
        f"Each client connection may only be authenticated once. Previously authenticated as: {first}",
    )


def refusal_of(error: AuthenticationFailure | UpstreamError | CommandError) -> CommandError:
    """What the client is told: the same 18 for every failed credential. A directory that is away is not one."""
    match error:
        case CommandError():
            return error
        case AuthenticationFailure():
            return CommandError(ErrorCode.AUTHENTICATION_FAILED, "Authentication failed.", reason=str(error))
        case _:
            return CommandError(
                ErrorCode.HOST_UNREACHABLE, "the user directory does not answer", reason=str(error)
            )
