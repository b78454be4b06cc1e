"""The generic arguments of a command that mongoguard answers itself: refused as mongod refuses them.

In: a `Command` and its row. Out: nothing, or `CommandError`, in the order in which mongod checks (codes and texts
measured on 6.0.5). Must not know connections. What is relayed the upstream checks itself.

A client must not take hello or buildInfo for a part of its transaction, nor a misspelt deadline or read concern for
one that holds. `$clusterTime` is passed over: what a client claims moves nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mongoguard.command.arguments import is_absent, refuse_unknown_fields, wrong_type
from mongoguard.command.command import Command
from mongoguard.command.generic import GENERIC_FIELDS, INTERNAL_FIELDS
from mongoguard.command.read_preference import parse_read_preference
from mongoguard.command.sessions import check_lsid
from mongoguard.command.spec import CommandRow
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.wire.document import BOOL, DECIMAL128, DOUBLE, INT32, INT64, STRING, Document

__all__ = ["check_generic_of_local"]

MAX_TIME_MS = 2**31 - 1
"""mongod's limit for maxTimeMS."""

_CHECKED = frozenset(
    {
        "$maxTimeMS",
        "$readPreference",
        "$tenant",
        "autocommit",
        "lsid",
        "maxTimeMS",
        "readConcern",
        "startTransaction",
        "txnNumber",
        "writeConcern",
    }
)
_PATH = "OperationSessionInfo"
_NUMBERS = frozenset({DOUBLE, INT32, INT64, DECIMAL128})
_WHAT_TYPED_COMMANDS_TAKE = (GENERIC_FIELDS | INTERNAL_FIELDS) - {"help"}
_FIELDS: Mapping[str, frozenset[str]] = {
    "connectionStatus": _WHAT_TYPED_COMMANDS_TAKE | {"connectionStatus", "showPrivileges"},
    "ping": _WHAT_TYPED_COMMANDS_TAKE | {"ping"},
}
"""Commands whose arguments mongod knows by name. Those of logins are read in `authn/`, the others take anything."""
_WITHOUT_SEQUENCES_OR_ARGUMENTS = frozenset({"authenticate", "logout", "saslContinue", "saslStart", *_FIELDS})

_READ_CONCERN_FIELDS: Mapping[str, str] = {
    "afterClusterTime": "timestamp",
    "afterOpTime": "object",
    "atClusterTime": "timestamp",
    "level": "string",
    "provenance": "string",
}
_LEVELS = frozenset({"available", "linearizable", "local", "majority", "snapshot"})


def check_generic_of_local(
    row: CommandRow, command: Command, *, logged_in: bool, with_transactions: bool
) -> None:
    """Raise mongod's refusal of a generic argument, of a document sequence, or of an argument that `row` does not have.

    `logged_in`: strangers have no sessions, so less can be wrong with theirs. `with_transactions`: the upstream numbers
    transactions, as all but a standalone server do.
    """
    body = command.body
    if command.sequences:
        raise _no_sequences(row, next(iter(command.sequences)))
    known = _FIELDS.get(row.name)
    if known is not None:
        refuse_unknown_fields(row.name, body, known)
    if body.fields.keys().isdisjoint(_CHECKED):
        return
    if "$tenant" in body.fields:
        raise CommandError(
            ErrorCode.INVALID_OPTIONS, "Multitenancy not enabled, cannot set $tenant in command body"
        )
    parse_read_preference(body)
    _check_session(row, body, logged_in, with_transactions)
    if "$maxTimeMS" in body.fields:
        raise CommandError(
            ErrorCode.INVALID_OPTIONS, "no such command option $maxTimeMs; use maxTimeMS instead"
        )
    _check_max_time(body)
    _check_read_concern(row.name, body, with_transactions)
    if "writeConcern" in body.fields:
        raise CommandError(ErrorCode.INVALID_OPTIONS, "Command does not support writeConcern")


def _no_sequences(row: CommandRow, name: str) -> CommandError:
    if row.name in _WITHOUT_SEQUENCES_OR_ARGUMENTS:
        return CommandError(40415, f"BSON field '{row.name}.{name}' is an unknown field.")
    return CommandError(40472, f"The {row.name} command does not support document sequences.")


# ---- sessions -------------------------------------------------------------------------------------------------------


def _check_session(row: CommandRow, body: Document, logged_in: bool, with_transactions: bool) -> None:
    check_lsid(body)
    number = _transaction_number(body)
    autocommit = _flag(body, "autocommit")
    starts = _flag(body, "startTransaction")
    if not row.requires_auth:
        if autocommit is not None:
            raise CommandError(263, "This command is not supported in transactions")
        if number is not None:
            raise CommandError(50889, "It is illegal to provide a txnNumber for this command")
    if not logged_in:
        return
    _check_transaction(body, number, autocommit, starts, with_transactions)
    if autocommit is not None:
        raise CommandError(263, f"Cannot run '{row.name}' in a multi-document transaction.")
    if number is not None:
        raise CommandError(
            50768,
            "txnNumber may only be provided for multi-document transactions and retryable write commands. "
            f"autocommit:false was not provided, and {row.name} is not a retryable write command.",
        )


def _check_transaction(
    body: Document, number: int | None, autocommit: bool | None, starts: bool | None, with_transactions: bool
) -> None:
    """What any command's transaction arguments must be, whether or not it may run in a transaction."""
    if number is not None:
        if is_absent(body, "lsid"):
            raise _invalid("Transaction number requires a session ID to also be specified")
        if not with_transactions:
            raise CommandError(
                ErrorCode.ILLEGAL_OPERATION,
                "Transaction numbers are only allowed on a replica set member or mongos",
            )
        if number < 0:
            raise _invalid("Transaction number cannot be negative")
    if autocommit is not None and number is None:
        raise _invalid("'autocommit' field requires a transaction number to also be specified")
    if autocommit:
        raise _invalid("Specifying autocommit=true is not allowed.")
    if starts is not None and autocommit is None:
        raise _invalid("'startTransaction' field requires 'autocommit' field to also be specified")
    if starts is False:
        raise _invalid("Specifying startTransaction=false is not allowed.")


def _transaction_number(body: Document) -> int | None:
    if is_absent(body, "txnNumber"):
        return None
    if body.type_of("txnNumber") != INT64:
        raise wrong_type(_PATH, body, "txnNumber", "'long'")
    return int(body.number("txnNumber") or 0)


def _flag(body: Document, name: str) -> bool | None:
    if is_absent(body, name):
        return None
    if body.type_of(name) != BOOL:
        raise wrong_type(_PATH, body, name, "'bool'")
    return body.boolean(name)


def _invalid(text: str) -> CommandError:
    return CommandError(ErrorCode.INVALID_OPTIONS, text)


# ---- deadlines and concerns -----------------------------------------------------------------------------------------


def _check_max_time(body: Document) -> None:
    kind = body.type_of("maxTimeMS")
    if kind is None:
        return
    if kind not in _NUMBERS:
        raise CommandError(ErrorCode.BAD_VALUE, "maxTimeMS must be a number")
    number = body.number("maxTimeMS") or 0
    if kind == DOUBLE and not float(number).is_integer():
        raise CommandError(ErrorCode.BAD_VALUE, "maxTimeMS has non-integral value")
    milliseconds = 0 if math.isnan(number) else int(max(min(number, 2**63 - 1), -(2**63)))
    if not 0 <= milliseconds <= MAX_TIME_MS:
        raise CommandError(ErrorCode.BAD_VALUE, f"{milliseconds} value for maxTimeMS is out of range")


def _check_read_concern(name: str, body: Document, with_transactions: bool) -> None:
    if "readConcern" not in body.fields:
        return
    concern = body.document("readConcern")
    if concern is None:
        raise CommandError(ErrorCode.FAILED_TO_PARSE, "readConcern field should be an object")
    for field in concern:
        expected = _READ_CONCERN_FIELDS.get(field)
        if expected is None:
            raise _invalid(f"Unrecognized option in readConcern: {field}")
        if concern.type_name(field) != expected:
            found = concern.type_name(field)
            raise CommandError(
                ErrorCode.TYPE_MISMATCH, f'"{field}" had the wrong type. Expected {expected}, found {found}'
            )
    level = concern.string("level") if concern.type_of("level") == STRING else None
    if level is not None and level not in _LEVELS:
        raise CommandError(
            ErrorCode.FAILED_TO_PARSE,
            "readConcern.level must be either 'local', 'majority', 'linearizable', 'available', or 'snapshot'",
        )
    if "atClusterTime" in concern and level != "snapshot":
        raise _invalid("atClusterTime field can be set only if level is equal to snapshot")
    if level not in (None, "local"):
        raise _invalid(
            f'Command {name} does not support {{ readConcern: {{ level: "{level}", provenance: "clientSupplied" }} }} '
            ":: caused by :: read concern not supported"
        )
    if "afterClusterTime" in concern and not with_transactions:
        raise CommandError(
            ErrorCode.ILLEGAL_OPERATION,
            "Cannot specify afterClusterTime readConcern without replication enabled",
        )
