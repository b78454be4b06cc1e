"""The catalogue: complete, and true to listCommands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mongoguard.command.catalog import COMMANDS, find_row
from mongoguard.command.requirement import requirement_of
from mongoguard.command.spec import Handling
from mongoguard.errors import CommandError
from tests.unit.command.commands import ALICE, command

FIXTURES = Path(__file__).parents[3] / "fixtures" / "mongod" / "6.0.5"
LISTED: dict[str, dict[str, Any]] = json.loads((FIXTURES / "list_commands.json").read_text())[
    "replicaSetPrimary"
]["commands"]


def test_the_fixture_lists_243_commands() -> None:
    assert len(LISTED) == 243


@pytest.mark.parametrize("name", sorted(LISTED))
def test_every_command_of_a_server_has_a_row_with_its_flags(name: str) -> None:
    row = find_row(name)
    assert row is not None
    assert row.name == name
    assert row.requires_auth == LISTED[name]["requiresAuth"]
    assert row.admin_only == LISTED[name]["adminOnly"]
    assert row.api_v1 == ("1" in LISTED[name]["apiVersions"])


def test_a_row_that_no_6_0_server_lists_says_since_when_or_is_for_mongos() -> None:
    for name, row in COMMANDS.items():
        assert name in LISTED or row.since != "6.0" or row.admin_only or name == "isdbgrid", name


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("availablequeryoptions", "availableQueryOptions"),
        ("buildinfo", "buildInfo"),
        ("collstats", "collStats"),
        ("datasize", "dataSize"),
        ("dbhash", "dbHash"),
        ("dbstats", "dbStats"),
        ("deleteIndexes", "dropIndexes"),
        ("findandmodify", "findAndModify"),
        ("getlasterror", "getLastError"),
        ("ismaster", "isMaster"),
        ("mapreduce", "mapReduce"),
    ],
)
def test_an_alias_has_the_row_of_its_command(alias: str, name: str) -> None:
    assert find_row(alias) is find_row(name)


@pytest.mark.parametrize("name", ["Find", "FIND", "dropindexes", "listcollections", "nope", "", "$db"])
def test_names_are_case_sensitive_and_unknown_ones_have_no_row(name: str) -> None:
    assert find_row(name) is None


def test_a_refused_row_says_why_and_no_other_row_does() -> None:
    for row in COMMANDS.values():
        assert bool(row.refusal) == (row.handling is Handling.REFUSED), row.name


@pytest.mark.parametrize(
    "name",
    [
        "_configsvrMoveChunk",
        "_recvChunkStart",
        "clusterFind",
        "prepareTransaction",
        "waitForFailPoint",
        "getnonce",
    ],
)
def test_what_servers_send_to_each_other_is_never_done(name: str) -> None:
    row = find_row(name)
    assert row is not None
    with pytest.raises(CommandError) as refused:
        requirement_of(row, command({name: 1}, "admin"), ALICE)
    assert refused.value.code == 115


@pytest.mark.parametrize(
    ("name", "sequence"), [("find", "filter"), ("drop", "zzz"), ("aggregate", "pipeline")]
)
def test_a_document_sequence_that_the_command_does_not_take_is_refused(name: str, sequence: str) -> None:
    row = find_row(name)
    assert row is not None
    with pytest.raises(CommandError) as refused:
        requirement_of(row, command({name: "c"}, sequences={sequence: [{}]}), ALICE)
    assert refused.value.code == 40415


@pytest.mark.parametrize(
    "name", ["insert", "aggregate", "create", "createUser", "listCollections", "listDatabases"]
)
def test_an_argument_that_the_row_does_not_know_is_refused(name: str) -> None:
    row = find_row(name)
    assert row is not None
    body = {
        name: "c",
        "documents": [{}],
        "pipeline": [],
        "roles": [],
        "bogus": 1,
    }
    with pytest.raises(CommandError) as refused:
        requirement_of(row, command(body), ALICE)
    assert refused.value.code == 40415
