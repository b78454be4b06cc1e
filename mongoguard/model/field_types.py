"""Checks of a decoded field's type, with the texts that mongod 6.0.5 uses for each kind of document.

In: decoded values (bson's or YAML's). Out: the value with its type known, or `CommandError`. Must not know which
documents there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from mongoguard.errors import CommandError, ErrorCode

__all__ = ["as_list", "as_mapping", "ill_typed", "only_known", "type_name", "typed", "wrong_type"]

T = TypeVar("T")

_UNKNOWN_FIELD = 40415


def as_mapping(value: object, field: str) -> Mapping[str, Any]:
    """The value if it is an object. Raises `CommandError` 14."""
    if not isinstance(value, Mapping):
        raise ill_typed(field, value, "object")
    return value


def as_list(value: object, field: str) -> list[Any]:
    """The value if it is an array. Raises `CommandError` 14."""
    if not isinstance(value, list):
        raise ill_typed(field, value, "array")
    return value


def only_known(fields: Mapping[str, Any], where: str, known: tuple[str, ...]) -> None:
    """Raise `CommandError` 40415 for the first key that is not among `known`."""
    for key in fields:
        if key not in known:
            raise CommandError(_UNKNOWN_FIELD, f"BSON field '{where}.{key}' is an unknown field.")


def typed(fields: Mapping[str, Any], key: str, kind: type[T], kind_name: str) -> T | None:
    """The field's value if it is of that kind, None when absent. Raises `CommandError` 2, as privileges do."""
    if key not in fields:
        return None
    value = fields[key]
    if not isinstance(value, kind):
        raise wrong_type(key, kind_name, value)
    return value


def wrong_type(key: str, expected: str, value: object) -> CommandError:
    """The type errors of privilege documents (2); mongod prints the document around this text."""
    return CommandError(
        ErrorCode.BAD_VALUE, f"wrong type for '{key}' field, expected {expected}, found {type_name(value)}"
    )


def ill_typed(field: str, value: object, expected: str) -> CommandError:
    """The type errors of everything else (14)."""
    found = type_name(value)
    return CommandError(
        ErrorCode.TYPE_MISMATCH,
        f"BSON field '{field}' is the wrong type '{found}', expected type '{expected}'",
    )


_TYPE_NAMES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "bool"),
    (int, "int"),
    (float, "double"),
    (str, "string"),
    (list, "array"),
    (Mapping, "object"),
    (bytes, "binData"),
    (type(None), "null"),
)


def type_name(value: object) -> str:
    """The BSON alias of a decoded value's type, for error texts; bson's own classes keep their Python name."""
    return next((name for kind, name in _TYPE_NAMES if isinstance(value, kind)), type(value).__name__)
