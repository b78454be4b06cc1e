"""What is wrong with a key, in one sentence.

In: an error as pydantic lists it. Out: the text, or None. Must not know files, and repeats no value except a single
word that was given where one of a few words is expected.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mongoguard.config.ldap_parameters import OTHER_NAMES
from mongoguard.config.unsupported_keys import UNSUPPORTED_KEYS

__all__ = ["describe"]

_SHOWABLE = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,23}")
_EXTRA_KEYS = ("upstream.uriFile", *(f"setParameter.{name}" for name in OTHER_NAMES))
"""Keys that are resolved before the models see them."""


def describe(root: type[BaseModel], error: ErrorDetails) -> str:
    """`key.path: what is wrong`, for one error of a validation of `root`."""
    steps = [str(step) for step in error["loc"] if isinstance(step, str)]
    path = ".".join(steps)
    if error["type"] == "extra_forbidden":
        return f"{path}: {_unknown(root, steps)}"
    if error["type"] == "value_error":
        # Our own validators' words. Those of a whole section, or of the whole file, name their keys themselves.
        text = str(error["ctx"]["error"])
        return text if not path or text.startswith(f"{path}.") else f"{path}: {text}"
    expected = _expected(root, steps)
    if error["type"] == "missing":
        return f"{path}: required: {expected}"
    return f"{path}: expected {expected}{_given(error)}"


def _given(error: ErrorDetails) -> str:
    value = error["input"]
    if error["type"] == "literal_error" and isinstance(value, str) and _SHOWABLE.fullmatch(value):
        return f', not "{value}"'
    if type(value) in (int, float):
        return f", not {value}"
    kinds = {str: "a string", bool: "true or false", list: "a list", dict: "a mapping", type(None): "nothing"}
    return f", not {kinds.get(type(value), 'what is there')}" if error["type"] != "literal_error" else ""


def _unknown(root: type[BaseModel], steps: list[str]) -> str:
    path = ".".join(steps)
    for known in (".".join(steps[: n + 1]) for n in range(len(steps))):
        if known in UNSUPPORTED_KEYS:
            return UNSUPPORTED_KEYS[known]
    if "." in steps[-1]:
        return "unknown key; write one key per level instead of dots"
    paths = [*_key_paths(root), *_EXTRA_KEYS]
    prefix = path.removesuffix(steps[-1])
    siblings = [p for p in paths if p.startswith(prefix) and "." not in p.removeprefix(prefix)]
    by_name = {p.rpartition(".")[2].lower(): p for p in [*paths, *siblings]}
    last = steps[-1].lower()
    near = (
        _nearest(last, {p.rpartition(".")[2].lower(): p for p in siblings})
        or by_name.get(last)
        or _nearest(last, by_name)
    )
    return f"unknown key; did you mean {near}?" if near else "unknown key"


def _nearest(name: str, candidates: dict[str, str]) -> str | None:
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return candidates[close[0]] if close else None


def _expected(root: type[BaseModel], steps: list[str]) -> str:
    model: type[BaseModel] | None = root
    text = "a mapping of keys"
    for step in steps:
        field = _field(model, step) if model else None
        if field is None:
            break
        text = field.description or text
        model = _model_of(field)
    return text


def _field(model: type[BaseModel], key: str) -> FieldInfo | None:
    return next((f for name, f in model.model_fields.items() if (f.alias or name) == key), None)


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    candidates: tuple[Any, ...] = (field.annotation, *get_args(field.annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _key_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        path = f"{prefix}{field.alias or name}"
        yield path
        inner = _model_of(field)
        if inner:
            yield from _key_paths(inner, f"{path}.")
