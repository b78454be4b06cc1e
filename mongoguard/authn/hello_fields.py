"""hello's two fields that concern logins: `speculativeAuthenticate` and `saslSupportedMechs`.

In: hello's body. Out: what was asked for, or `CommandError` with mongod's codes and texts (measured on 6.0.5: they say
`hello` for isMaster too). Must not know mechanisms, users or sessions.
"""

from __future__ import annotations

from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.names import UserName
from mongoguard.wire.document import NULL, Document

__all__ = ["speculative_attempt", "supported_mechs_name"]

_SPECULATIVE = "speculativeAuthenticate"
_MECHS = "saslSupportedMechs"
_UNDEFINED = 0x06


def speculative_attempt(hello: Document) -> tuple[str, Document] | None:
    """The command that hello carries (`saslStart` or `authenticate`) and its body; None when absent or null."""
    if hello.type_of(_SPECULATIVE) in (None, NULL, _UNDEFINED):
        return None
    body = hello.document(_SPECULATIVE)
    if body is None:
        raise _wrong_type(hello, _SPECULATIVE, "expected type 'object'")
    command = next(iter(body), None)
    if command is None:
        raise CommandError(ErrorCode.BAD_VALUE, f"hello.{_SPECULATIVE} must be a non-empty Object")
    if command not in ("saslStart", "authenticate"):
        raise CommandError(51769, f"hello.{_SPECULATIVE} unknown command: {command}")
    return command, body


def supported_mechs_name(hello: Document) -> UserName | None:
    """The user that `saslSupportedMechs` asks about: "db.user", split at the first dot, or {user, db}."""
    if _MECHS not in hello:
        return None
    text, document = hello.string(_MECHS), hello.document(_MECHS)
    if document is not None:
        return _name_of(document)
    if text is None:
        raise _wrong_type(hello, _MECHS, "expected types '[string, object']")
    db, dot, user = text.partition(".")
    if not dot:
        raise CommandError(ErrorCode.BAD_VALUE, "UserName must contain a '.' separated database.user pair")
    return UserName(user, db)


def _name_of(document: Document) -> UserName:
    for field in document:
        if field not in ("user", "db"):
            raise CommandError(ErrorCode.BAD_VALUE, f"UserName contains an unknown field named: '{field}")
    return UserName(_text(document, "user"), _text(document, "db"))


def _text(document: Document, field: str) -> str:
    text = document.string(field)
    if field not in document:
        raise CommandError(ErrorCode.BAD_VALUE, f"UserName must contain a field named: {field}")
    if text is None:
        raise CommandError(
            ErrorCode.BAD_VALUE,
            f"UserName must contain a string field named: {field}. But, has type {document.type_name(field)}",
        )
    return text


def _wrong_type(hello: Document, field: str, expected: str) -> CommandError:
    return CommandError(
        ErrorCode.TYPE_MISMATCH,
        f"BSON field 'hello.{field}' is the wrong type '{hello.type_name(field)}', {expected}",
    )
