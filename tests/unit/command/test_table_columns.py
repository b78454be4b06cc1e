"""The columns of the catalogue that docs/commands.md does not show, written down a second time.

A word that moves from one column to another, or is lost, must not go unnoticed: what only servers may send would be
everybody's, a password would be printed, a cursor would belong to nobody.
"""

from __future__ import annotations

from typing import Any

import pytest

from mongoguard.command.catalog import COMMANDS
from mongoguard.command.requires import INTERNAL, all_of
from mongoguard.command.spec import Handling
from mongoguard.command.stages import STAGES
from mongoguard.model.privilege import Privilege, Requirement
from tests.unit.command.commands import allowed, required

_BATCH = "isTimeseriesNamespace legacyRuntimeConstants originalCollation originalQuery runtimeConstants"
INTERNAL_ARGUMENTS = {
    "find": "includeQueryStatsMetrics mirrored querySettings rawData runtimeConstants sampleId",
    "count": "mirrored querySettings rawData sampleId",
    "distinct": "mirrored querySettings rawData sampleId",
    "aggregate": "$_externalDataSources $_generateV2ResumeTokens $_isClusterQueryWithoutShardKeyCmd "
    "$_passthroughToShard $_requestReshardingResumeToken $_requestResumeToken $_resumeAfter $_startAt exchange "
    "isMapReduceCommand querySettings rawData runtimeConstants sampleId",
    "mapReduce": "inputDB shardedFirstPass splitInfo",
    "insert": _BATCH,
    "update": _BATCH,
    "delete": _BATCH,
    "findAndModify": "$_allowShardKeyUpdatesWithoutFullShardKeyInQuery isTimeseriesNamespace originalCollation "
    "originalQuery runtimeConstants sampleId",
    "bulkWrite": "originalCollation originalQuery",
    "collMod": "isTimeseriesNamespace",
    "createIndexes": "isTimeseriesNamespace",
    "listCollections": "rawData",
}
BODIES: dict[str, dict[str, Any]] = {
    "aggregate": {"aggregate": "c", "pipeline": []},
    "mapReduce": {"mapReduce": "c", "out": {"inline": 1}},
    "insert": {"insert": "c", "documents": [{}]},
    "update": {"update": "c", "updates": [{"q": {}, "u": {}}]},
    "delete": {"delete": "c", "deletes": [{"q": {}, "limit": 1}]},
    "findAndModify": {"findAndModify": "c", "update": {}},
    "bulkWrite": {
        "bulkWrite": 1,
        "ops": [{"delete": 0, "filter": {}}],
        "nsInfo": [{"ns": "t.c"}],
    },
}
PICKED_ARGUMENTS = (
    "abortTransaction aggregate applyOps bulkWrite cloneCollectionAsCapped collMod commitTransaction count create "
    "createIndexes createRole createUser delete distinct drop dropAllRolesFromDatabase dropAllUsersFromDatabase "
    "dropRole dropUser endSessions explain filemd5 find findAndModify getMore grantPrivilegesToRole grantRolesToRole "
    "grantRolesToUser insert killAllSessions killAllSessionsByPattern killCursors killSessions listCollections "
    "listDatabases mapReduce refreshSessions renameCollection revokePrivilegesFromRole revokeRolesFromRole "
    "revokeRolesFromUser rolesInfo update updateRole updateUser usersInfo"
)
CURSORS = (
    "aggregate bulkWrite checkMetadataConsistency find getMore listCollections listIndexes listSearchIndexes"
)
CHANGES_USERS = (
    "applyOps createRole createUser dropAllRolesFromDatabase dropAllUsersFromDatabase dropRole dropUser "
    "grantPrivilegesToRole grantRolesToRole grantRolesToUser invalidateUserCache revokePrivilegesFromRole revokeRolesFromRole "
    "revokeRolesFromUser updateRole updateUser"
)
SECRETS = {
    "createUser": {"pwd"},
    "updateUser": {"pwd"},
    "saslStart": {"payload"},
    "saslContinue": {"payload"},
}
SEQUENCES = {
    "insert": {"documents"},
    "update": {"updates"},
    "delete": {"deletes"},
    "bulkWrite": {"ops", "nsInfo"},
}
LOCAL = (
    "_isSelf authenticate buildInfo connectionStatus getLastError hello isMaster logout saslContinue saslStart "
    "startSession whatsmyuri"
)
SOURCES = (
    "$_internalAllCollectionStats $backupCursor $backupCursorExtend $changeStream $collStats $currentOp $documents "
    "$indexStats $listCachedAndActiveUsers $listClusterCatalog $listLocalSessions $listSampledQueries "
    "$listSearchIndexes $listSessions $operationMetrics $planCacheStats $querySettings $queryStats $shardedDataDistribution"
)


def _with(column: str) -> set[str]:
    return {name for name, row in COMMANDS.items() if getattr(row, column)}


def test_the_internal_arguments_are_these() -> None:
    assert _with("internal_fields") == set(INTERNAL_ARGUMENTS)
    for name, words in INTERNAL_ARGUMENTS.items():
        assert COMMANDS[name].internal_fields == set(words.split()), name


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, argument) for name, words in INTERNAL_ARGUMENTS.items() for argument in words.split()],
)
def test_an_internal_argument_is_for_those_who_hold_internal(name: str, argument: str) -> None:
    body = BODIES.get(name, {name: "c"})
    without = required(body)
    sent = required({**body, argument: 1})
    assert sent == all_of([without, INTERNAL])
    assert not allowed(sent, _everything_in(without))
    assert allowed(sent, [*_everything_in(without), INTERNAL])


def _everything_in(requirement: Requirement) -> list[Privilege]:
    assert isinstance(requirement, Privilege)
    return [requirement]


def test_the_rows_that_know_their_arguments_are_these() -> None:
    assert {name for name, row in COMMANDS.items() if row.fields is not None} == set(PICKED_ARGUMENTS.split())


def test_no_argument_is_both_everybodys_and_internal() -> None:
    for row in COMMANDS.values():
        assert not row.internal_fields & (row.fields or frozenset()), row.name


def test_the_rows_whose_replies_may_hold_a_cursor_are_these() -> None:
    assert _with("opens_cursor") == set(CURSORS.split())


def test_the_rows_that_change_users_are_these() -> None:
    assert _with("changes_users") == set(CHANGES_USERS.split())


def test_the_secrets_are_these() -> None:
    assert {name: set(COMMANDS[name].secret_fields) for name in _with("secret_fields")} == SECRETS


def test_the_sequences_are_these() -> None:
    assert {name: set(COMMANDS[name].sequences) for name in _with("sequences")} == SEQUENCES


def test_the_rows_that_are_answered_here_are_these() -> None:
    assert {name for name, row in COMMANDS.items() if row.handling is Handling.LOCAL} == set(LOCAL.split())


def test_the_stages_that_read_something_else_than_the_collection_are_these() -> None:
    assert {name for name, row in STAGES.items() if row.is_source} == set(SOURCES.split())


def test_of_the_newer_commands_only_bulk_write_is_part_of_api_version_1() -> None:
    assert {name for name, row in COMMANDS.items() if row.api_v1 and row.since != "6.0"} == {"bulkWrite"}
