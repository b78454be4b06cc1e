"""Laws of the command room: a walk ends in a requirement or a CommandError, and never asks for less than its parts."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mongoguard.command.catalog import COMMANDS
from mongoguard.command.printing import print_command
from mongoguard.command.spec import Handling
from mongoguard.command.stages import STAGES
from mongoguard.errors import CommandError
from mongoguard.model.privilege import AllOf, Privilege, Requirement
from tests.unit.command.commands import command, required

NAMES = st.sampled_from(["o", "p", "system.js", "", "$cmd", "a.b"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(), NAMES, st.binary(max_size=20))
FIELDS = st.sampled_from(
    [
        "from",
        "coll",
        "db",
        "pipeline",
        "into",
        "whenMatched",
        "as",
        "allUsers",
        "users",
        "input",
        "pipelines",
        "x",
    ]
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(FIELDS, inner, max_size=4)),
    max_leaves=12,
)
STAGE_NAMES = st.sampled_from([*STAGES, "$nope"])


def _stages(pipelines: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        NAMES.map(lambda name: {"$unionWith": name}),
        st.tuples(NAMES, pipelines).map(lambda p: {"$unionWith": {"coll": p[0], "pipeline": p[1]}}),
        st.tuples(NAMES, pipelines).map(lambda p: {"$lookup": {"from": p[0], "pipeline": p[1], "as": "x"}}),
        pipelines.map(lambda p: {"$facet": {"a": p}}),
        NAMES.map(lambda name: {"$out": name}),
        NAMES.map(lambda name: {"$merge": {"into": name}}),
        st.just({"$match": {}}),
        st.just({"$collStats": {}}),
    )


PIPELINES = st.recursive(
    st.lists(_stages(st.just([])), max_size=3),
    lambda inner: st.lists(_stages(inner), max_size=3),
    max_leaves=6,
)


def _granted(requirement: Requirement) -> set[tuple[Any, str]]:
    match requirement:
        case Privilege(resource, actions):
            return {(resource, action) for action in actions}
        case AllOf(parts):
            return {pair for part in parts for pair in _granted(part)}
        case _:
            raise AssertionError("pipelines need nothing but privileges")


@given(st.lists(st.one_of(JUNK, st.dictionaries(STAGE_NAMES, JUNK, min_size=1, max_size=1)), max_size=4))
def test_any_pipeline_ends_in_a_requirement_or_a_command_error(pipeline: list[Any]) -> None:
    try:
        required({"aggregate": "c", "pipeline": pipeline, "cursor": {}})
    except CommandError:
        return


@given(st.sampled_from(sorted(COMMANDS)), JUNK, st.dictionaries(FIELDS, JUNK, max_size=4))
def test_any_command_ends_in_a_requirement_or_a_command_error(
    name: str, value: Any, more: dict[str, Any]
) -> None:
    body = {name: value, **more}
    assert print_command(command(body)).startswith("{ ")
    try:
        required(body)
    except CommandError:
        return
    assert COMMANDS[name].handling is not Handling.REFUSED


@given(PIPELINES, NAMES)
def test_a_joined_pipeline_never_needs_less_than_it_does_alone(pipeline: list[Any], collection: str) -> None:
    try:
        alone = _granted(required({"aggregate": collection, "pipeline": pipeline, "cursor": {}}))
        stage = {"$lookup": {"from": collection, "pipeline": pipeline, "as": "x"}}
        joined = _granted(required({"aggregate": "c", "pipeline": [stage], "cursor": {}}))
    except CommandError:
        return
    assert alone <= joined


@given(st.integers(1, 199), st.randoms(use_true_random=False))
def test_a_nesting_bomb_ends_in_a_command_error(levels: int, choose: random.Random) -> None:
    stage: dict[str, Any] = {"$nope": {}}
    for _ in range(min(levels, 60)):
        stage = choose.choice(
            [{"$facet": {"a": [stage] * 2}}, {"$unionWith": {"coll": "o", "pipeline": [stage]}}]
            if levels < 12
            else [{"$unionWith": {"coll": "o", "pipeline": [stage]}}]
        )
    try:
        required({"aggregate": "c", "pipeline": [stage], "cursor": {}})
    except CommandError as error:
        assert error.code in (40324, 232)
        return
    raise AssertionError("a bomb was understood")
