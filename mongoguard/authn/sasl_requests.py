"""The authentication commands' arguments, parsed as strictly as mongod's IDL parses them.

In: command bodies. Out: typed requests, or `CommandError` with mongod's codes and texts (measured on 6.0.5). Must not
know mechanisms, users or sessions. No text quotes a payload.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from mongoguard.errors import CommandError, ErrorCode
from mongoguard.wire.document import (
    BOOL,
    DECIMAL128,
    DOCUMENT,
    DOUBLE,
    INT32,
    INT64,
    NULL,
    STRING,
    Document,
)

__all__ = ["Authenticate", "Payload", "SaslContinue", "SaslStart", "check_fields"]

MAX_PAYLOAD_BYTES = 16 * 1024
"""A SCRAM message has some hundred bytes; a token of an identity provider a few thousand."""

MAX_TICKET_BYTES = 64 * 1024
"""Active Directory puts a user's groups into the ticket, and grants up to 48,000 bytes (MaxTokenSize) unless told more.
Of no other mechanism: preparing a name of this length (RFC 4013) would take seconds.
"""

_TICKET_MECHANISM = "GSSAPI"

_UNDEFINED = 0x06
_GENERIC_FIELDS = frozenset(
    {
        "$clusterTime",
        "$db",
        "$readPreference",
        "apiDeprecationErrors",
        "apiStrict",
        "apiVersion",
        "autocommit",
        "comment",
        "lsid",
        "maxTimeMS",
        "readConcern",
        "startTransaction",
        "stmtId",
        "txnNumber",
    }
)
"""Top-level fields that clients may attach to any command; what they say is checked elsewhere."""

_BINARY_SUBTYPES = {
    1: "function",
    2: "byte(deprecated)",
    3: "UUID(deprecated)",
    4: "UUID",
    5: "MD5",
    6: "encrypt",
    7: "column",
    128: "Custom",
}

_Types = tuple[str, frozenset[int]]
_STRING: _Types = ("type 'string'", frozenset({STRING}))
_INT: _Types = ("type 'int'", frozenset({INT32}))
_OBJECT: _Types = ("type 'object'", frozenset({DOCUMENT}))
# mongod prints the list of types with its quote in that place.
_SAFE_BOOL: _Types = (
    "types '[bool, long, int, decimal, double']",
    frozenset({BOOL, INT64, INT32, DECIMAL128, DOUBLE}),
)
_ANY: _Types = ("any type", frozenset(range(256)))


def check_fields(
    command: str, body: Document, fields: Mapping[str, _Types], required: tuple[str, ...] = ()
) -> None:
    """Refuse unknown fields (40415), wrong types (14) and missing fields (40414), in mongod's order.

    A null stands for an absent field, except where any type is taken.
    """
    for name in body:
        if name == command or name in _GENERIC_FIELDS:
            continue
        if name == "writeConcern":
            raise CommandError(ErrorCode.INVALID_OPTIONS, "Command does not support writeConcern")
        if name not in fields:
            raise CommandError(40415, f"BSON field '{command}.{name}' is an unknown field.")
        expected, types = fields[name]
        if body.type_of(name) not in types | {NULL, _UNDEFINED}:
            raise CommandError(
                ErrorCode.TYPE_MISMATCH,
                f"BSON field '{command}.{name}' is the wrong type '{body.type_name(name)}', expected {expected}",
            )
    for name in required:
        if name not in body or (fields[name] is not _ANY and body.type_of(name) in (NULL, _UNDEFINED)):
            raise CommandError(40414, f"BSON field '{command}.{name}' is missing but a required field")


@dataclass(frozen=True, slots=True)
class Payload:
    """A SASL payload: bytes, sent as binData or as a base64 string. The answer goes back in the same form."""

    content: bytes = field(repr=False)
    is_base64: bool = False

    @classmethod
    def read(cls, body: Document, limit: int = MAX_PAYLOAD_BYTES) -> Payload:
        """The body's `payload`, of at most `limit` bytes when decoded."""
        element = body.fields["payload"]
        # Before anything is copied: the message may be as large as a message may be.
        if element.end - element.value > _encoded_bytes(limit):
            raise _too_long(limit)
        if element.type == STRING:
            content, is_base64 = _decoded(body.string("payload") or ""), True
        else:
            content, is_base64 = _binary(body), False
        if len(content) > limit:
            raise _too_long(limit)
        return cls(content, is_base64)

    def answer(self, content: bytes) -> bytes | str:
        """An answer in this payload's form."""
        return base64.b64encode(content).decode() if self.is_base64 else content


@dataclass(frozen=True, slots=True)
class SaslStart:
    """`saslStart`. Its options are looked at after the mechanism, as mongod does."""

    mechanism: str
    payload: Payload
    options: Document | None

    @classmethod
    def parse(cls, body: Document, *, speculative: bool = False) -> SaslStart:
        """Raises `CommandError`. Inside hello's speculativeAuthenticate the body has a field `db` too."""
        fields = {"mechanism": _STRING, "payload": _ANY, "autoAuthorize": _SAFE_BOOL, "options": _OBJECT}
        check_fields("saslStart", body, _with_db(fields, speculative), ("mechanism", "payload"))
        mechanism = body.string("mechanism") or ""
        limit = MAX_TICKET_BYTES if mechanism == _TICKET_MECHANISM else MAX_PAYLOAD_BYTES
        return cls(mechanism, Payload.read(body, limit), body.document("options"))

    def skip_empty_exchange(self) -> bool:
        """The one option that mongod knows; others are ignored. Raises `CommandError` 2 when it is no bool."""
        if self.options is None or "skipEmptyExchange" not in self.options:
            return False
        skip = self.options.boolean("skipEmptyExchange")
        if skip is None:
            raise CommandError(ErrorCode.BAD_VALUE, "skipEmptyExchange must be boolean")
        return skip


@dataclass(frozen=True, slots=True)
class SaslContinue:
    """`saslContinue`."""

    conversation_id: int
    payload: Payload

    @classmethod
    def parse(cls, body: Document) -> SaslContinue:
        """Raises `CommandError`."""
        check_fields(
            "saslContinue", body, {"conversationId": _INT, "payload": _ANY}, ("conversationId", "payload")
        )
        return cls(int(body.number("conversationId") or 0), Payload.read(body))


@dataclass(frozen=True, slots=True)
class Authenticate:
    """`authenticate`, the one-message login (MONGODB-X509)."""

    mechanism: str
    user: str

    @classmethod
    def parse(cls, body: Document, *, speculative: bool = False) -> Authenticate:
        """Raises `CommandError`."""
        fields = _with_db({"mechanism": _STRING, "user": _STRING}, speculative)
        check_fields("authenticate", body, fields, ("mechanism",))
        return cls(body.string("mechanism") or "", body.string("user") or "")


def _with_db(fields: Mapping[str, _Types], speculative: bool) -> Mapping[str, _Types]:
    return {**fields, "db": _STRING} if speculative else fields


def _encoded_bytes(length: int) -> int:
    """The size of a BSON string of so many bytes in base64: its length, the text, a zero byte."""
    return 4 + (length + 2) // 3 * 4 + 1


def _too_long(limit: int) -> CommandError:
    return CommandError(ErrorCode.BAD_VALUE, f"SASL payload exceeds {limit} bytes")


def _binary(body: Document) -> bytes:
    binary = body.binary("payload")
    if binary is None:
        got = body.type_name("payload")
        raise CommandError(
            ErrorCode.BAD_VALUE, f"Invalid SASLPayload type. Expected Base64 or BinData, got: {got}"
        )
    subtype, content = binary
    if subtype != 0:
        got = _BINARY_SUBTYPES.get(subtype, "invalid")
        raise CommandError(
            ErrorCode.BAD_VALUE, f"Invalid SASLPayload subtype. Expected BinDataGeneral, got: {got}"
        )
    return content


def _decoded(text: str) -> bytes:
    if len(text) % 4:
        raise CommandError(10270, "Failed decoding SASL payload: invalid base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CommandError(40537, "Failed decoding SASL payload: Invalid base64 character") from None
