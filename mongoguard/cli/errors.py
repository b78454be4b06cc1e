"""What ends a command with one sentence.

In: any exception that reached the top. Out: the sentences for it and the exit status, or None for a bug. Must not
print.
"""

from __future__ import annotations

from collections.abc import Iterator

from pymongo.errors import OperationFailure, PyMongoError

from mongoguard.errors import ConfigError, GuardError
from mongoguard.server.log import redact

__all__ = ["EXIT_FAILED", "EXIT_OK", "EXIT_USAGE", "FORESEEN", "CommandFailed", "sentences_for"]

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

FORESEEN = (GuardError, PyMongoError, OSError, UnicodeDecodeError, ExceptionGroup)
"""What a step may fail with; `sentences_for` looks into groups."""


class CommandFailed(GuardError):
    """The command could not do what was asked; the text is the sentence to print."""


def sentences_for(error: BaseException) -> tuple[list[str], int] | None:
    """What to print, and the exit status; None for what nobody foresaw (it deserves its traceback)."""
    sentences, status = [], EXIT_OK
    for leaf in _leaves(error):
        if not isinstance(leaf, GuardError | PyMongoError | OSError | UnicodeDecodeError | KeyboardInterrupt):
            return None
        sentences.append(redact(_sentence(leaf)))
        status = max(status, EXIT_USAGE if isinstance(leaf, ConfigError) else EXIT_FAILED)
    return list(dict.fromkeys(sentences)), status


def _sentence(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OperationFailure):
        return f"the server refused: {(error.details or {}).get('errmsg') or error}"
    if isinstance(error, PyMongoError):
        # pymongo appends its whole view of the topology; the first part says what went wrong.
        return (
            f"the server can't be used: {str(error).split(', Timeout:')[0].split(' (configured timeouts')[0]}"
        )
    if isinstance(error, UnicodeDecodeError):
        return "not a UTF-8 text file"
    return str(error) or type(error).__name__


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
