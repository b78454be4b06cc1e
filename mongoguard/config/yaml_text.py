"""YAML text -> plain values, strictly.

In: text, and the name of its file for messages. Out: dicts, lists and scalars. Must not know which keys mean what.

Why not `yaml.safe_load`: it keeps the last of two equal keys, so half of a block that was pasted twice vanishes in
silence. Texts of errors give the line and column, never the line itself: it may hold a password.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from mongoguard.errors import ConfigError

__all__ = ["parse_yaml"]


class _DuplicateKeysError(Exception):
    def __init__(self, found: list[tuple[str, int]]) -> None:
        super().__init__("duplicate keys")
        self.found = found


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses repeated keys and merge keys (`<<`), whose result is not what the file shows."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping, once its keys are known to be different scalars."""
        seen: set[str] = set()
        repeated = []
        for key, _value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            if not name or name == "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a plain word", key.start_mark
                )
            if name in seen:
                repeated.append((name, key.start_mark.line + 1))
            seen.add(name)
        if repeated:
            raise _DuplicateKeysError(repeated)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str) -> Any:
    """The values of one YAML document. Raises `ConfigError` naming `source`, the line, and what is wrong."""
    loader = None
    try:
        loader = _StrictLoader(text)  # it refuses unprintable characters at once
        return loader.get_single_data()
    except _DuplicateKeysError as error:
        lines = [f"{source}: line {line}: the key {name!r} is given twice" for name, line in error.found]
        raise ConfigError("\n".join(lines)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{source}: {where}not valid YAML: {_without_content(error.problem)}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"{source}: not valid YAML") from None
    finally:
        if loader is not None:
            loader.dispose()


def _without_content(problem: str | None) -> str:
    """PyYAML's texts may quote the token that it stumbled on; keep the words before the first quote."""
    words = (problem or "").split("'")[0].split('"')[0].strip()
    return words.removesuffix(", but found") or "unreadable"
