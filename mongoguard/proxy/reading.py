"""Reading: a parsed message as a command.

In: an `OpMsg`. Out: a `Command` with a valid database name. Must not know what commands exist.
Source: the refusals of mongod 6.0.5 for a missing, ill-typed or invalid `$db`.
"""

from __future__ import annotations

from functools import lru_cache

from mongoguard.command.command import Command
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.wire.document import Document
from mongoguard.wire.message import OpMsg

__all__ = ["check_database_name", "read_command"]

MAX_DB_NAME_BYTES = 63
"""mongod refuses a database name of 64 bytes and more."""

_INVALID = frozenset('/\\ "\0')


def read_command(message: OpMsg) -> Command:
    """The command of an OP_MSG. Raises `CommandError` 40571, 13111 or 73 for its `$db`."""
    body = message.body
    db = body.string("$db")
    if db is None:
        raise _no_database(body)
    check_database_name(db)
    return Command(body, db, message.sequences)


@lru_cache(maxsize=1024)
def check_database_name(db: str) -> None:
    """Raise `CommandError` 73 for a name that mongod refuses."""
    if "." in db:
        raise CommandError(
            ErrorCode.INVALID_NAMESPACE, f"'.' is an invalid character in the database name: {db}"
        )
    if not db or not _INVALID.isdisjoint(db) or len(db.encode()) > MAX_DB_NAME_BYTES:
        raise CommandError(ErrorCode.INVALID_NAMESPACE, f"Invalid database name: '{db}'")


def _no_database(body: Document) -> CommandError:
    if "$db" in body.fields:
        return CommandError(13111, f"wrong type for field ($db) {body.type_name('$db')} != string")
    return CommandError(40571, "OP_MSG requests require a $db argument")
