"""The generic arguments: what any command may carry beside its own.

In: a `Command` and the `Asker`. Out: the requirement of its generic arguments, or the `CommandError` with which mongod
answers them. Must not know the command's row.

The relay runs every command as one service user, which may impersonate. So an argument whose effect depends on the
sender's privileges is gated here: a client that lacks the privilege must not borrow the service's.
Source: the list of generic arguments of 6.0 to 8.0 servers; codes and texts measured on mongod 6.0.5.
"""

from __future__ import annotations

from mongoguard.command.arguments import is_absent, missing_field, wrong_type
from mongoguard.command.command import Command
from mongoguard.command.requires import INTERNAL, all_of
from mongoguard.command.sessions import IMPERSONATE, check_lsid, names_foreign_session
from mongoguard.command.spec import Asker, CommandRow
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.privilege import NOTHING, Requirement
from mongoguard.wire.document import BOOL, DOCUMENT, NULL, STRING, Document

__all__ = [
    "GENERIC_FIELDS",
    "INTERNAL_FIELDS",
    "check_api_version",
    "check_transaction_fields",
    "generic_denied",
    "generic_requirement",
]

GENERIC_FIELDS = frozenset(
    {
        "$audit",
        "$clusterTime",
        "$db",
        "$queryOptions",
        "$readPreference",
        "apiDeprecationErrors",
        "apiStrict",
        "apiVersion",
        "autocommit",
        "comment",
        "help",
        "lsid",
        "maxTimeMS",
        "readConcern",
        "startTransaction",
        "stmtId",
        "txnNumber",
        "writeConcern",
    }
)
"""Arguments that clients send, or may send with the privilege that `generic_requirement` asks for."""

INTERNAL_FIELDS = frozenset(
    {
        "$client",
        "$configServerState",
        "$configTime",
        "$oplogQueryData",
        "$replData",
        "$topologyTime",
        "allowImplicitCollectionCreation",
        "clientOperationKey",
        "coordinator",
        "databaseVersion",
        "maxTimeMSOpOnly",
        "mayBypassWriteBlocking",
        "shardVersion",
        "tracking_info",
        "txnRetryCounter",
    }
)
"""Arguments between servers. mongod believes them, or some of them, when the sender is one; so they need `internal`."""

_NEVER = frozenset({"$tenant", "$traceCtx", "expectPrefix", "versionContext"})
"""Arguments that change which namespaces a command means (multitenancy), or that belong to servers' own tracing."""
_GATED = INTERNAL_FIELDS | _NEVER | {"$audit"}
_API_FIELDS = frozenset({"apiVersion", "apiStrict", "apiDeprecationErrors"})
_API_PATH = "APIParametersFromClient"


def generic_requirement(command: Command, asker: Asker) -> Requirement:
    """What the generic arguments need: impersonate for `$audit` or another user's lsid.uid, internal between servers.

    Raises `CommandError` for a malformed lsid, and for arguments that are never relayed.
    """
    body = command.body
    session = check_lsid(body)
    gated = not body.fields.keys().isdisjoint(_GATED)
    if session is None and not gated:
        return NOTHING
    parts: list[Requirement] = []
    if names_foreign_session(session, asker):
        parts.append(IMPERSONATE)
    if gated:
        parts += _gated_requirement(body)
    return all_of(parts)


def _gated_requirement(body: Document) -> list[Requirement]:
    if not body.fields.keys().isdisjoint(_NEVER):
        raise CommandError(
            ErrorCode.INVALID_OPTIONS,
            "Multitenancy not enabled, cannot set $tenant in command body",
            reason="an argument that changes which namespaces a command means",
        )
    parts: list[Requirement] = []
    if "$audit" in body:
        _check_audit(body)
        parts.append(IMPERSONATE)
    if not body.fields.keys().isdisjoint(INTERNAL_FIELDS):
        parts.append(INTERNAL)
    return parts


def _check_audit(body: Document) -> None:
    """mongod ignores a `$audit` that is no object; here it is refused, because the relay writes its own."""
    view = body.document("$audit")
    if view is None:
        raise wrong_type("$audit", body, "$audit", "'object'")
    if "$impersonatedUsers" not in view and "$impersonatedUser" not in view:
        raise missing_field("$audit", "$impersonatedUsers")


def generic_denied(command: Command, asker: Asker) -> CommandError:
    """The answer to a client that lacks what its generic arguments need, in mongod's words."""
    body = command.body
    if "maxTimeMSOpOnly" in body:
        return CommandError(
            ErrorCode.INVALID_OPTIONS, "Can not specify maxTimeMSOpOnly for non internal clients"
        )
    if "mayBypassWriteBlocking" in body:
        return CommandError(6317500, "Client is not properly authorized to propagate mayBypassWriteBlocking")
    if names_foreign_session(check_lsid(body), asker):
        return CommandError(ErrorCode.UNAUTHORIZED, "Unauthorized to set user digest in LogicalSessionId")
    if "$audit" in body:
        return CommandError(ErrorCode.UNAUTHORIZED, "Unauthorized use of impersonation metadata.")
    return CommandError(
        ErrorCode.UNAUTHORIZED,
        "an argument of this command is only for internal clients",
        reason="argument between servers without internal",
    )


def check_api_version(command: Command, row: CommandRow) -> None:
    """The Stable API's arguments, which mongod checks right after it finds the command, before any login is asked for.

    Raises `CommandError` 14, 322, 323 or 4886600.
    """
    body = command.body
    if body.fields.keys().isdisjoint(_API_FIELDS):
        return
    version = _api_version(body)
    flags = {name: _api_flag(body, name) for name in ("apiStrict", "apiDeprecationErrors")}
    if version is None:
        if any(flag is not None for flag in flags.values()):
            raise CommandError(
                4886600, "Provided apiStrict and/or apiDeprecationErrors without passing apiVersion"
            )
        return
    if version != "1":
        text = "Cannot accept API version 2" if version == "2" else 'API version must be "1"'
        raise CommandError(ErrorCode.API_VERSION_ERROR, text)
    if flags["apiStrict"] and not row.api_v1:
        raise CommandError(
            323,
            f"Provided apiStrict:true, but the command {row.name} is not in API Version 1. Information on supported "
            "commands and migrations in API Version 1 can be found at "
            "https://dochub.mongodb.org/core/manual-versioned-api",
        )


def _api_version(body: Document) -> str | None:
    if is_absent(body, "apiVersion"):
        return None
    if body.type_of("apiVersion") != STRING:
        raise wrong_type(_API_PATH, body, "apiVersion", "'string'")
    return body.string("apiVersion")


def _api_flag(body: Document, name: str) -> bool | None:
    kind = body.type_of(name)
    if kind in (None, NULL):
        return None
    if kind != BOOL:
        raise wrong_type(_API_PATH, body, name, "'bool'")
    return body.boolean(name)


def check_transaction_fields(command: Command) -> None:
    """Refuse transaction arguments on a command of someone who is not logged in, as mongod does (50889, 263)."""
    body = command.body
    if "txnNumber" in body:
        raise CommandError(50889, "It is illegal to provide a txnNumber for this command")
    if "autocommit" in body or "startTransaction" in body:
        raise CommandError(263, "This command is not supported in transactions")
    if body.type_of("lsid") == DOCUMENT:
        check_lsid(body)
