"""The error tree and MongoDB's error codes.

In: nothing. Out: exceptions and the table code -> codeName. This module must not know any other room.

Five kinds, because five different things happen:

* `ProtocolError`: the peer broke the wire protocol; the connection is closed without a reply.
* `CommandError`: the command fails; the client gets a reply document with code, codeName and errmsg.
* `UpstreamUnavailable`: nothing was sent upstream; becomes a retryable `CommandError`.
* `UpstreamConnectionLost`: the upstream went away after the command was sent; the client's connection is dropped,
  which is what drivers' retry rules are written for.
* `ConfigError`: the administrator's input is wrong; printed as one sentence, exit code 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

__all__ = [
    "CommandError",
    "ConfigError",
    "DirectoryUnavailable",
    "ErrorCode",
    "GuardError",
    "NoServerForReadPreference",
    "ProtocolError",
    "UpstreamConnectionLost",
    "UpstreamError",
    "UpstreamUnavailable",
    "code_name",
]


class ErrorCode(IntEnum):
    """MongoDB's error codes that mongoguard itself raises (numbers as a 6.0.5 server uses them)."""

    INTERNAL_ERROR = 1
    BAD_VALUE = 2
    NO_SUCH_KEY = 4
    HOST_UNREACHABLE = 6
    FAILED_TO_PARSE = 9
    USER_NOT_FOUND = 11
    UNAUTHORIZED = 13
    TYPE_MISMATCH = 14
    OVERFLOW = 15
    INVALID_LENGTH = 16
    PROTOCOL_ERROR = 17
    AUTHENTICATION_FAILED = 18
    ILLEGAL_OPERATION = 20
    INVALID_BSON = 22
    ROLE_NOT_FOUND = 31
    CURSOR_NOT_FOUND = 43
    INVALID_ROLE_MODIFICATION = 49
    COMMAND_NOT_FOUND = 59
    INVALID_OPTIONS = 72
    INVALID_NAMESPACE = 73
    SHUTDOWN_IN_PROGRESS = 91
    COMMAND_NOT_SUPPORTED = 115
    FAILED_TO_SATISFY_READ_PREFERENCE = 133
    SSL_HANDSHAKE_FAILED = 141
    MAX_STALENESS_OUT_OF_RANGE = 160
    CLIENT_METADATA_MISSING_FIELD = 183
    CLIENT_METADATA_APP_NAME_TOO_LARGE = 184
    CLIENT_METADATA_DOCUMENT_TOO_LARGE = 185
    CLIENT_METADATA_CANNOT_BE_MUTATED = 186
    EXCEEDED_TIME_LIMIT = 262
    API_VERSION_ERROR = 322
    MECHANISM_UNAVAILABLE = 334
    UNSUPPORTED_OP_QUERY_COMMAND = 352
    REAUTHENTICATION_REQUIRED = 391
    BSON_OBJECT_TOO_LARGE = 10334


_CODE_NAMES: Mapping[int, str] = {
    1: "InternalError",
    2: "BadValue",
    4: "NoSuchKey",
    6: "HostUnreachable",
    9: "FailedToParse",
    11: "UserNotFound",
    12: "UnsupportedFormat",
    13: "Unauthorized",
    14: "TypeMismatch",
    15: "Overflow",
    16: "InvalidLength",
    17: "ProtocolError",
    18: "AuthenticationFailed",
    20: "IllegalOperation",
    22: "InvalidBSON",
    31: "RoleNotFound",
    43: "CursorNotFound",
    49: "InvalidRoleModification",
    59: "CommandNotFound",
    72: "InvalidOptions",
    73: "InvalidNamespace",
    91: "ShutdownInProgress",
    115: "CommandNotSupported",
    133: "FailedToSatisfyReadPreference",
    141: "SSLHandshakeFailed",
    160: "MaxStalenessOutOfRange",
    159: "DurationOverflow",
    162: "CollectionIsEmpty",
    183: "ClientMetadataMissingField",
    184: "ClientMetadataAppNameTooLarge",
    185: "ClientMetadataDocumentTooLarge",
    186: "ClientMetadataCannotBeMutated",
    207: "InvalidUUID",
    211: "KeyNotFound",
    232: "MaxSubPipelineDepthExceeded",
    262: "ExceededTimeLimit",
    263: "OperationNotSupportedInTransaction",
    322: "APIVersionError",
    323: "APIStrictError",
    334: "MechanismUnavailable",
    352: "UnsupportedOpQueryCommand",
    391: "ReauthenticationRequired",
    10334: "BSONObjectTooLarge",
    50768: "NotARetryableWriteCommand",
}


def code_name(code: int) -> str:
    """MongoDB's name for an error code; codes without a name print as `Location<code>`, as the server prints them."""
    return _CODE_NAMES.get(code, f"Location{code}")


class GuardError(Exception):
    """The root of everything mongoguard raises on purpose."""


class ProtocolError(GuardError):
    """The peer broke the wire protocol in a way that mongod answers by closing the connection."""


class CommandError(GuardError):
    """A command that fails with a MongoDB error document.

    `code` may be any integer (a number without a name prints as `Location<code>`). `reason` is for the audit stream
    only and never reaches the client. `labels` become `errorLabels`; `err_info` becomes `errInfo`.
    """

    def __init__(
        self,
        code: int,
        errmsg: str,
        *,
        reason: str = "",
        labels: Sequence[str] = (),
        err_info: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep the parts of the reply."""
        super().__init__(errmsg)
        self.code = int(code)
        self.errmsg = errmsg
        self.reason = reason
        self.labels = tuple(labels)
        self.err_info = err_info


class UpstreamError(GuardError):
    """Something went wrong between mongoguard and the upstream server."""


class UpstreamUnavailable(UpstreamError):
    """No usable upstream connection could be had; nothing of the command was sent.

    The text names servers, for mongoguard's log. `told` is what clients learn instead: what is wrong, without a name or
    an address of the network behind.
    """

    def __init__(
        self, text: str, *, told: str = "no server could be used; mongoguard's log says why"
    ) -> None:
        """Keep both texts."""
        super().__init__(text)
        self.told = told


class NoServerForReadPreference(UpstreamUnavailable):
    """No server of the kind that a read preference names came up in time; nothing of the command was sent."""


class DirectoryUnavailable(UpstreamError):
    """A directory outside the deployment (LDAP, an identity provider) gave no answer that can be relied on."""


class UpstreamConnectionLost(UpstreamError):
    """The upstream connection broke after the command was (perhaps partly) sent; its effect is unknown."""


class ConfigError(GuardError):
    """The configuration or the command line is wrong. The text names the key, what is wrong, and what to do."""
