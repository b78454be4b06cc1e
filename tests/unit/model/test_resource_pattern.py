"""The search list against what a mongod 6.0.5 answered: 34 targets by 13 patterns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mongoguard.model.documents import parse_resource
from mongoguard.model.resource_pattern import (
    BUCKETS_PREFIX,
    CLUSTER,
    MAX_NAMESPACE_LENGTH,
    MatchType,
    ResourcePattern,
    is_normal_collection,
    search_list,
)

FIXTURES = Path(__file__).parents[3] / "fixtures/mongod/6.0.5"
TABLE = json.loads((FIXTURES / "resource_match_truth_table.json").read_text())
CELLS = [
    pytest.param(
        row["db"], row["collection"], pattern, verdict == "Y", id=f"{row['db']}.{row['collection']}-{column}"
    )
    for row in TABLE["rows"]
    for column, (pattern, verdict) in enumerate(zip(TABLE["patterns"], row["results"], strict=True))
    if verdict != "-"
]


def filled_in(pattern: dict[str, Any], db: str, collection: str) -> dict[str, Any]:
    values = {"DB": db, "COLL": collection, "BK": collection.removeprefix(BUCKETS_PREFIX)}
    return {
        key: values.get(value, value) if isinstance(value, str) else value for key, value in pattern.items()
    }


@pytest.mark.parametrize(("db", "collection", "pattern", "authorised"), CELLS)
def test_a_pattern_matches_where_mongod_authorised(
    db: str, collection: str, pattern: dict[str, Any], authorised: bool
) -> None:
    target = ResourcePattern.for_exact_namespace(db, collection)
    assert (parse_resource(filled_in(pattern, db, collection)) in search_list(target)) is authorised


def test_the_table_is_the_whole_table() -> None:
    assert len(TABLE["rows"]) == 34
    assert len(TABLE["patterns"]) == 13
    assert len(CELLS) > 300


def test_a_database_is_matched_by_itself_and_the_wildcards() -> None:
    assert set(search_list(ResourcePattern.for_database("t"))) == {
        ResourcePattern.for_any_resource(),
        ResourcePattern.for_any_normal_resource(),
        ResourcePattern.for_database("t"),
    }


@pytest.mark.parametrize("db", ["local", "config"])
def test_local_and_config_are_not_under_the_wildcard(db: str) -> None:
    assert ResourcePattern.for_any_normal_resource() not in search_list(ResourcePattern.for_database(db))
    assert ResourcePattern.for_any_normal_resource() not in search_list(
        ResourcePattern.for_exact_namespace(db, "c")
    )


def test_the_cluster_and_wildcard_targets_are_matched_by_themselves_and_any_resource() -> None:
    any_resource = ResourcePattern.for_any_resource()
    for target in (CLUSTER, ResourcePattern.for_any_normal_resource(), ResourcePattern.for_collection("c")):
        assert search_list(target) == (any_resource, target)
    assert search_list(any_resource) == (any_resource,)


def test_a_name_too_long_to_be_kept_gets_the_same_list() -> None:
    name = "c" * (MAX_NAMESPACE_LENGTH + 1)
    assert [p.match_type for p in search_list(ResourcePattern.for_exact_namespace("t", name))] == [
        p.match_type for p in search_list(ResourcePattern.for_exact_namespace("t", "c"))
    ]


@pytest.mark.parametrize(
    ("db", "collection", "normal"),
    [
        ("t", "c", True),
        ("t", "system.js", False),
        ("t", "systemx", True),
        ("local", "replset.minvalid", False),
        ("t", "replset.minvalid", True),
    ],
)
def test_normal_collections(db: str, collection: str, normal: bool) -> None:
    assert is_normal_collection(db, collection) is normal


def test_a_match_type_hashes_as_its_number() -> None:
    assert hash(MatchType.CLUSTER) == hash(2)


def test_lists_are_kept_for_names_that_a_server_accepts_and_no_longer_ones() -> None:
    longest = ResourcePattern.for_exact_namespace("d" * 55, "c" * (MAX_NAMESPACE_LENGTH - 55))
    too_long = ResourcePattern.for_exact_namespace("d" * 56, "c" * (MAX_NAMESPACE_LENGTH - 55))
    assert search_list(longest) is search_list(longest)
    assert search_list(too_long) is not search_list(too_long)
    assert [p.match_type for p in search_list(too_long)] == [p.match_type for p in search_list(longest)]
