"""YAML text -> nodes with their lines, and plain values, strictly.

In: text, and the name of its file for messages. Out: the nodes of one document (`compose`), or dicts, lists and scalars
(`parse_yaml`). Must not know which keys mean what.

Why not `yaml.safe_load`: it keeps the last of two equal keys, so half of a block that was pasted twice vanishes in
silence, and its conversions raise whatever they like. Texts of errors give the line and column, never the line itself:
it may hold a password.

Where PyYAML was built with libyaml, that finds the tokens: a file of thousands of users is read eight times as fast.
What it refuses is read again without it, so that the text of an error is the same everywhere.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import Composer, ComposerError
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from mongoguard.errors import ConfigError

__all__ = ["NOT_ITS_TYPE", "YAMLTextError", "compose", "parse_yaml", "scalar"]

NOT_ITS_TYPE = "the value does not fit its YAML type; quote it if it is a string"

_TAG = "tag:yaml.org,2002:"
_COLLECTIONS = frozenset({_TAG + "seq", _TAG + "map"})
_SCALARS = {
    _TAG + "null": SafeConstructor.construct_yaml_null,
    _TAG + "bool": SafeConstructor.construct_yaml_bool,
    _TAG + "int": SafeConstructor.construct_yaml_int,
    _TAG + "float": SafeConstructor.construct_yaml_float,
    _TAG + "binary": SafeConstructor.construct_yaml_binary,
    _TAG + "timestamp": SafeConstructor.construct_yaml_timestamp,
    _TAG + "str": SafeConstructor.construct_yaml_str,
}
_CONSTRUCTOR = SafeConstructor()


class YAMLTextError(Exception):
    """A text that is not one plain YAML document. `line` and `column` count from 1; 0 for the text as a whole."""

    def __init__(self, problem: str, mark: Any = None) -> None:
        """Say what is wrong, and where."""
        super().__init__(problem)
        self.problem = problem
        self.line = 0 if mark is None else mark.line + 1
        self.column = 0 if mark is None else mark.column + 1


class _PlainComposer(Composer):
    """YAML without aliases: one anchored list used ten times in ten others is how a small file fills the memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # type: ignore[attr-defined]
            mark = self.peek_event().start_mark  # type: ignore[attr-defined]
            raise ComposerError(None, None, "YAML aliases (*name) are not allowed here", mark)
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
            raise ComposerError(None, None, "YAML tags (!name) are not allowed here", node.start_mark)
        return node


class _PythonLoader(_PlainComposer, yaml.SafeLoader):
    pass


_LOADERS: list[Any] = [_PythonLoader]
if yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs leave it out

    class _CLoader(_PlainComposer, CParser, Resolver):
        """libyaml up to the events; nodes are made in Python, where the depth of nesting has an end."""

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            Resolver.__init__(self)

    _LOADERS.insert(0, _CLoader)


def compose(text: str) -> yaml.Node | None:
    """The root of the one document, None for an empty text. Raises `YAMLTextError`."""
    *faster, last = _LOADERS
    root: yaml.Node | None
    for loader in faster:
        try:
            root = loader(text).get_single_node()
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
        return root
    try:
        root = last(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YAMLTextError(_without_content(error.problem), mark) from None
    except (yaml.YAMLError, ValueError):
        raise YAMLTextError("it has characters that are not printable") from None
    except RecursionError:
        raise YAMLTextError("nested too deeply") from None
    return root


def scalar(node: yaml.ScalarNode) -> Any:
    """The value of a single value. Raises `ValueError` for one that is not of its type, and for a type that is none."""
    construct = _SCALARS.get(node.tag)
    if construct is None:
        raise ValueError("unknown tag")
    try:
        value = construct(_CONSTRUCTOR, node)
    # PyYAML lets through whatever its conversions raise: ValueError for 2025-02-30, KeyError for `!!bool x`, ...
    except (yaml.YAMLError, OverflowError, LookupError, AttributeError) as error:
        raise ValueError("not of its type") from error
    if isinstance(value, str):
        value.encode()  # an escaped lone surrogate is no text: UnicodeEncodeError is a ValueError
    return value


def parse_yaml(text: str, source: str) -> Any:
    """The values of one YAML document. Raises `ConfigError` naming `source`, the line, and what is wrong."""
    try:
        root = compose(text)
        return None if root is None else _plain(root, source)
    except YAMLTextError as error:
        where = f"line {error.line}, column {error.column}: " if error.line else ""
        raise ConfigError(f"{source}: {where}not valid YAML: {error.problem}") from None


def _plain(node: yaml.Node, source: str) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_plain(value, source) for value in node.value]
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, source)
        return {key.value: _plain(value, source) for key, value in node.value}
    assert isinstance(node, yaml.ScalarNode)  # there is no fourth kind
    try:
        return scalar(node)
    except ValueError:
        raise YAMLTextError(NOT_ITS_TYPE, node.start_mark) from None


def _check_keys(mapping: yaml.MappingNode, source: str) -> None:
    """Different plain words, and no merge keys (`<<`), whose result is not what the file shows."""
    seen: set[str] = set()
    repeated = []
    for key, _value in mapping.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        if not name or name == "<<":
            raise YAMLTextError("a key must be a plain word", key.start_mark)
        if name in seen:
            repeated.append(f"{source}: line {key.start_mark.line + 1}: the key {name!r} is given twice")
        seen.add(name)
    if repeated:
        raise ConfigError("\n".join(repeated))


def _without_content(problem: str | None) -> str:
    """PyYAML's texts may quote the token that it stumbled on; keep the words before the first quote."""
    words = (problem or "").split("'")[0].split('"')[0].strip()
    return words.removesuffix(", but found") or "unreadable"
