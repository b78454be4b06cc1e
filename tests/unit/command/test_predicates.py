"""What the flow asks the room about an allowed command, to narrow it to the caller's own."""

from __future__ import annotations

from typing import Any

import pytest

from mongoguard.command.requires_admin import (
    asks_authorized_collections,
    asks_authorized_databases,
    asks_own_ops_only,
)
from mongoguard.errors import CommandError
from tests.unit.command.commands import command


@pytest.mark.parametrize(
    ("body", "own"),
    [
        ({"currentOp": 1, "$ownOps": True}, True),
        ({"currentOp": 1}, False),
        ({"aggregate": 1, "pipeline": [{"$currentOp": {}}]}, True),
        ({"aggregate": 1, "pipeline": [{"$currentOp": {"allUsers": True}}]}, False),
        ({"currentOp": 1, "$ownOps": False}, False),
        ({"aggregate": 1, "pipeline": [{"$currentOp": {"allUsers": False}}, {"$match": {}}]}, True),
        ({"aggregate": 1, "pipeline": [{"$match": {}}, {"$currentOp": {}}]}, False),
        ({"aggregate": "system.sessions", "pipeline": [{"$listSessions": {}}]}, True),
        ({"aggregate": "system.sessions", "pipeline": [{"$listSessions": {"allUsers": True}}]}, False),
        ({"aggregate": "system.sessions", "pipeline": [{"$listSessions": {"users": []}}]}, False),
        ({"aggregate": 1, "pipeline": [{"$listLocalSessions": {"allUsers": True}}]}, False),
        ({"aggregate": "c", "pipeline": 5}, False),
        ({"find": "c"}, False),
        ({"aggregate": 1, "pipeline": [{"$listLocalSessions": {}}]}, True),
        ({"aggregate": 1, "pipeline": [{"$listLocalSessions": {"users": []}}]}, False),
        ({"aggregate": "c", "pipeline": []}, False),
        ({"aggregate": "c", "pipeline": [{"$match": {}}]}, False),
    ],
)
def test_asking_for_ones_own_operations_is_told_apart(body: dict[str, Any], own: bool) -> None:
    assert asks_own_ops_only(command(body, "admin")) is own


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({}, None), ({"authorizedDatabases": True}, True), ({"authorizedDatabases": False}, False)],
)
def test_the_flag_of_list_databases_is_read(flags: dict[str, Any], expected: bool | None) -> None:
    assert asks_authorized_databases(command({"listDatabases": 1, **flags}, "admin")) is expected


def test_names_of_authorized_collections_need_both_flags() -> None:
    both = {"nameOnly": True, "authorizedCollections": True}
    assert asks_authorized_collections(command({"listCollections": 1, **both}))
    assert not asks_authorized_collections(command({"listCollections": 1, "nameOnly": True}))


@pytest.mark.parametrize(
    ("asks", "body", "path"),
    [
        (
            asks_authorized_databases,
            {"listDatabases": 1, "authorizedDatabases": 1},
            "listDatabases.authorizedDatabases",
        ),
        (
            asks_authorized_collections,
            {"listCollections": 1, "authorizedCollections": 1, "nameOnly": True},
            "listCollections.authorizedCollections",
        ),
    ],
)
def test_a_flag_that_is_no_bool_is_refused(asks: Any, body: dict[str, Any], path: str) -> None:
    with pytest.raises(CommandError) as caught:
        asks(command(body, "admin"))
    assert caught.value.errmsg == f"BSON field '{path}' is the wrong type 'int', expected type 'bool'"
