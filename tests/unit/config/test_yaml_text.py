"""YAML text: the same nodes and the same errors with libyaml and without."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mongoguard.config import yaml_text
from mongoguard.config.yaml_text import YAMLTextError, compose, parse_yaml, scalar
from mongoguard.errors import ConfigError

ODD_TEXT = st.one_of(st.text(), st.text(alphabet=":-[]{}'\"&*!|>#%@,? \nab1.=<~\t"))

TEXTS = [
    "",
    "a: 1",
    "a: [1, 1.5, true, null, ~, x, '1', \"\\t\", 2025-01-01]\nb:\n  - c: |\n      lines",
    "# only a comment",
    "--- {a: b}\n...\n",
    "ü: €",
    "a: &anchor 5",
]


def outline(node: yaml.Node | None) -> Any:
    """A node with its places, to compare."""
    if node is None:
        return None
    place = (node.tag, node.start_mark.line, node.start_mark.column)
    if isinstance(node, yaml.ScalarNode):
        return (*place, node.value)
    if isinstance(node, yaml.MappingNode):
        return (*place, [(outline(key), outline(value)) for key, value in node.value])
    return (*place, [outline(value) for value in node.value])


def without_libyaml(text: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_text, "_LOADERS", yaml_text._LOADERS[-1:])
        try:
            return outline(compose(text))
        except YAMLTextError as error:
            return (error.problem, error.line, error.column)


def test_libyaml_is_used_where_it_is_to_be_had() -> None:
    assert len(yaml_text._LOADERS) == (2 if yaml.__with_libyaml__ else 1)


@pytest.mark.parametrize("text", TEXTS)
def test_nodes_are_the_same_with_libyaml_and_without(text: str) -> None:
    assert outline(compose(text)) == without_libyaml(text)


@given(ODD_TEXT)
def test_what_is_refused_is_refused_in_the_same_words_with_libyaml_and_without(text: str) -> None:
    try:
        compose(text)
    except YAMLTextError as error:
        assert without_libyaml(text) == (error.problem, error.line, error.column)


def test_an_alias_is_refused_with_its_line_and_an_anchor_alone_is_not() -> None:
    assert parse_yaml("a: &x 1", "f") == {"a": 1}
    with pytest.raises(YAMLTextError) as caught:
        compose("a: &x 1\nb: *x")
    assert (caught.value.line, caught.value.column) == (2, 4)


def test_a_deep_text_is_refused_and_not_run_out_of_the_stack() -> None:
    for text in ("[" * 100_000, "{a: " * 100_000, "- " * 100_000):
        with pytest.raises(YAMLTextError, match="nested too deeply"):
            compose(text)


@pytest.mark.parametrize(
    "text", ["!!bool x", "!!int x", "!!int ''", "!!timestamp x", "!name x", "!!set x", "=", "2025-02-30"]
)
def test_a_value_that_is_none_of_its_type_is_a_value_error(text: str) -> None:
    node = compose(text)
    assert isinstance(node, yaml.ScalarNode)
    with pytest.raises(ValueError):
        scalar(node)


@given(ODD_TEXT)
def test_a_text_has_values_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_yaml(text, "mongoguard.yaml")
