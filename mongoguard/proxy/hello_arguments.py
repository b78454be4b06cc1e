"""hello's arguments as mongod's parser reads them: which types they may have.

In: hello's body. Out: nothing, or `CommandError` with mongod's codes and texts (measured on 6.0.5: they say `hello` for
isMaster too). Must not know what is made of the arguments. What those of logins and of waiting say is read where they
are used (`authn/hello_fields.py`, `topology_version.py`); fields that nobody knows are passed over, for drivers add
some every year.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mongoguard.command.arguments import (
    is_absent,
    missing_field,
    optional_string,
    required_array,
    safe_bool,
    strict_bool,
    unknown_field,
    wrong_type,
)
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.wire.document import DECIMAL128, DOCUMENT, DOUBLE, INT32, INT64, NULL, STRING, Document

__all__ = ["check_arguments", "compressors_wanted"]

_PATH = "hello"
_UNDEFINED = 0x06
_INTERNAL_CLIENT = "hello.internalClient"
_WIRE_VERSIONS = frozenset({"minWireVersion", "maxWireVersion"})
_NUMBERS = frozenset({DOUBLE, INT32, INT64, DECIMAL128})


def check_arguments(body: Document) -> None:
    """Raise mongod's refusal of the first argument that has a wrong type."""
    for name in body:
        check = _CHECKS.get(name)
        if check is not None:
            check(_PATH, body, name)


def compressors_wanted(body: Document) -> list[str]:
    """What `compression` names, in the client's order; nulls in it are passed over."""
    array = body.array("compression")
    names = [] if array is None else [array.string(key) for key in array]
    return [name for name in names if name is not None]


def _compression(path: str, body: Document, field: str) -> None:
    array = required_array(path, body, field)
    for position, (key, element) in enumerate(array.fields.items()):
        _check_key(f"{path}.{field}", key, position)
        if element[0] not in (STRING, NULL):
            raise wrong_type(f"{path}.{field}", array, key, "'string'")


def _check_key(path: str, key: str, position: int) -> None:
    """An array's names count from 0, as `00` does."""
    if not (key.isascii() and key.isdigit()):
        raise CommandError(
            40422, f"BSON array field '{path}' has an invalid value '{key}' for an array field name."
        )
    if key.lstrip("0") != str(position).lstrip("0"):
        raise CommandError(
            40423,
            f"BSON array field '{path}' has a non-sequential value '{key}' for an array field name, "
            f"expected value '{position}'.",
        )


def _internal_client(path: str, body: Document, field: str) -> None:
    """What servers say of themselves to each other. Here it makes nobody a server."""
    if is_absent(body, field):
        return
    versions = body.document(field)
    if versions is None:
        raise wrong_type(path, body, field, "'object'")
    for name in versions:
        if name not in _WIRE_VERSIONS:
            raise unknown_field(_INTERNAL_CLIENT, name)
        if versions.type_of(name) not in _NUMBERS and not is_absent(versions, name):
            raise CommandError(
                ErrorCode.TYPE_MISMATCH,
                f"BSON field '{_INTERNAL_CLIENT}.{name}' is the wrong type '{versions.type_name(name)}', "
                "expected types '[long, int, decimal, double']",
            )
    if is_absent(versions, "maxWireVersion"):
        raise missing_field(_INTERNAL_CLIENT, "maxWireVersion")


def _object(path: str, body: Document, field: str) -> None:
    if body.type_of(field) not in (DOCUMENT, NULL, _UNDEFINED):
        raise wrong_type(path, body, field, "'object'")


def _mechanisms_of(path: str, body: Document, field: str) -> None:
    if body.type_of(field) not in (STRING, DOCUMENT):
        raise CommandError(
            ErrorCode.TYPE_MISMATCH,
            f"BSON field '{path}.{field}' is the wrong type '{body.type_name(field)}', "
            "expected types '[string, object']",
        )


_CHECKS: Mapping[str, Callable[[str, Document, str], object]] = {
    "compression": _compression,
    "forShell": safe_bool,
    "hangUpOnStepDown": safe_bool,
    "helloOk": safe_bool,
    "hostInfo": optional_string,
    "internalClient": _internal_client,
    "loadBalanced": strict_bool,
    "saslSupportedMechs": _mechanisms_of,
    "speculativeAuthenticate": _object,
    "topologyVersion": _object,
}
