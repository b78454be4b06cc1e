"""Rows that no mongod 6.0.5 could be asked about: commands of mongos and of later servers, by what is published of them.

Sources: the manual of 6.0, 7.0 and 8.0 (privilege actions, built-in roles, each command's page) and, where a page is
silent or says something else, the authorization tests that MongoDB publishes with its servers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mongoguard.command.catalog import COMMANDS
from mongoguard.command.spec import Handling
from mongoguard.model.privilege import AllOf, AnyOf, Privilege, Requirement
from tests.unit.command.commands import allowed, any_normal, cluster, database, namespace, required

FIXTURES = Path(__file__).parents[3] / "fixtures" / "mongod" / "6.0.5"
LISTED = json.loads((FIXTURES / "list_commands.json").read_text())["replicaSetPrimary"]["commands"]

NS = "shop.orders"
CONSISTENCY = "checkMetadataConsistency"
OF_MONGOS_TOO = "mergeChunks"
"""mongod lists a command of this name for servers; the row is that of mongos, which is for clients."""


def orders(*actions: str) -> Privilege:
    return namespace("shop", "orders", *actions)


def config(collection: str, *actions: str) -> Privilege:
    return namespace("config", collection, *actions)


ROWS: list[tuple[dict[str, Any], str, Requirement]] = [
    # mongos
    ({"addShard": "s"}, "admin", cluster("addShard")),
    ({"removeShard": "s"}, "admin", cluster("removeShard")),
    ({"listShards": 1}, "admin", cluster("listShards")),
    ({"netstat": 1}, "admin", cluster("netstat")),
    ({"addShardToZone": "s"}, "admin", AnyOf((cluster("enableSharding"), config("shards", "update")))),
    (
        {"removeShardFromZone": "s"},
        "admin",
        AnyOf(
            (cluster("enableSharding"), AllOf((config("shards", "update"), config("tags", "find")))),
        ),
    ),
    (
        {"updateZoneKeyRange": NS},
        "admin",
        AnyOf(
            (
                cluster("enableSharding"),
                AllOf((config("shards", "find"), config("tags", "find", "update", "remove"))),
            )
        ),
    ),
    ({"balancerStart": 1}, "admin", config("settings", "update")),
    ({"balancerStop": 1}, "admin", config("settings", "update")),
    ({"balancerStatus": 1}, "admin", config("settings", "find")),
    ({"balancerCollectionStatus": NS}, "admin", orders("enableSharding")),
    ({"configureCollectionBalancing": NS, "chunkSize": 8}, "admin", orders("splitChunk")),
    ({"configureCollectionBalancing": NS, "defragmentCollection": False}, "admin", orders("splitChunk")),
    (
        {"configureCollectionBalancing": NS, "defragmentCollection": True},
        "admin",
        orders("splitChunk", "moveChunk"),
    ),
    (
        {"configureCollectionBalancing": NS, "enableBalancing": False},
        "admin",
        orders("splitChunk", "moveChunk"),
    ),
    ({"clearJumboFlag": NS}, "admin", orders("clearJumboFlag")),
    ({"enableSharding": "shop"}, "admin", database("shop", "enableSharding")),
    ({"shardCollection": NS}, "admin", orders("enableSharding")),
    ({"refineCollectionShardKey": NS}, "admin", orders("refineCollectionShardKey")),
    ({"reshardCollection": NS}, "admin", orders("reshardCollection")),
    ({"abortReshardCollection": NS}, "admin", orders("reshardCollection")),
    ({"cleanupReshardCollection": NS}, "admin", orders("reshardCollection")),
    ({"commitReshardCollection": NS}, "admin", orders("reshardCollection")),
    ({"moveChunk": NS}, "admin", orders("moveChunk")),
    ({"moveRange": NS}, "admin", orders("moveChunk")),
    ({"movePrimary": "shop"}, "admin", database("shop", "moveChunk")),
    ({"split": NS}, "admin", orders("splitChunk")),
    ({"mergeChunks": NS, "bounds": [{"a": 1}, {"a": 9}]}, "admin", orders("splitChunk")),
    ({"isdbgrid": 1}, "admin", AllOf(())),
    # with enableTestCommands=1, also of 6.0
    ({"configureFailPoint": "failCommand", "mode": "off"}, "admin", cluster("setParameter")),
    # Enterprise, also of 6.0
    ({"logApplicationMessage": "x"}, "admin", cluster("applicationMessage")),
    ({"getAuditConfig": 1}, "admin", cluster("auditConfigure")),
    ({"setAuditConfig": 1}, "admin", cluster("auditConfigure")),
    # 7.0
    ({"cleanupStructuredEncryptionData": "c"}, "t", namespace("t", "c", "cleanupStructuredEncryptionData")),
    ({"createSearchIndexes": "c"}, "t", namespace("t", "c", "createSearchIndexes")),
    ({"updateSearchIndex": "c"}, "t", namespace("t", "c", "updateSearchIndex")),
    ({"dropSearchIndex": "c"}, "t", namespace("t", "c", "dropSearchIndex")),
    ({"listSearchIndexes": "c"}, "t", namespace("t", "c", "listSearchIndexes")),
    ({"analyze": "c"}, "t", namespace("t", "c", "analyze")),
    ({"analyzeShardKey": NS}, "admin", orders("analyzeShardKey")),
    ({"configureQueryAnalyzer": NS}, "admin", orders("configureQueryAnalyzer")),
    ({CONSISTENCY: 1}, "admin", cluster(CONSISTENCY)),
    ({CONSISTENCY: "c"}, "admin", cluster(CONSISTENCY)),
    ({CONSISTENCY: 1}, "t", AnyOf((cluster(CONSISTENCY), database("t", CONSISTENCY)))),
    ({CONSISTENCY: "c"}, "t", AnyOf((cluster(CONSISTENCY), namespace("t", "c", CONSISTENCY)))),
    ({"getChangeStreamState": 1}, "admin", cluster("getChangeStreamState")),
    ({"setChangeStreamState": 1}, "admin", cluster("setChangeStreamState")),
    ({"oidcListKeys": 1}, "admin", cluster("oidcListKeys")),
    ({"oidcRefreshKeys": 1}, "admin", cluster("oidcRefreshKeys")),
    ({"mergeAllChunksOnShard": NS}, "admin", orders("splitChunk")),
    # 8.0
    (
        {"bulkWrite": 1, "ops": [{"insert": 0, "document": {}}], "nsInfo": [{"ns": NS}]},
        "admin",
        orders("insert"),
    ),
    ({"autoCompact": True}, "admin", cluster("compact")),
    ({"setQuerySettings": {}}, "admin", cluster("querySettings")),
    ({"removeQuerySettings": {}}, "admin", cluster("querySettings")),
    # The manual asks for these two on the cluster; the servers and their tests, on the collection.
    ({"moveCollection": NS}, "admin", orders("moveCollection")),
    ({"abortMoveCollection": NS}, "admin", orders("moveCollection")),
    ({"unshardCollection": NS}, "admin", orders("unshardCollection")),
    ({"abortUnshardCollection": NS}, "admin", orders("unshardCollection")),
    (
        {"transitionFromDedicatedConfigServer": 1},
        "admin",
        cluster("transitionFromDedicatedConfigServer"),
    ),
    ({"transitionToDedicatedConfigServer": 1}, "admin", cluster("transitionToDedicatedConfigServer")),
    # 8.3
    ({"startShardDraining": "s"}, "admin", cluster("removeShard")),
    ({"stopShardDraining": "s"}, "admin", cluster("removeShard")),
    ({"shardDrainingStatus": "s"}, "admin", cluster("removeShard")),
    ({"commitShardRemoval": "s"}, "admin", cluster("removeShard")),
    *(
        ({name: 1}, "admin", cluster("removeShard", "transitionToDedicatedConfigServer"))
        for name in (
            "startTransitionToDedicatedConfigServer",
            "stopTransitionToDedicatedConfigServer",
            "getTransitionToDedicatedConfigServerStatus",
            "commitTransitionToDedicatedConfigServer",
        )
    ),
]
SINCE_7_0 = (
    "analyze analyzeShardKey checkMetadataConsistency cleanupStructuredEncryptionData configureQueryAnalyzer "
    "createSearchIndexes dropSearchIndex getChangeStreamState listSearchIndexes mergeAllChunksOnShard oidcListKeys "
    "oidcRefreshKeys setChangeStreamState updateSearchIndex"
)
SINCE_8_3 = (
    "commitShardRemoval commitTransitionToDedicatedConfigServer getTransitionToDedicatedConfigServerStatus "
    "shardDrainingStatus startShardDraining startTransitionToDedicatedConfigServer stopShardDraining "
    "stopTransitionToDedicatedConfigServer"
)
SINCE_8_0 = (
    "abortMoveCollection abortUnshardCollection autoCompact bulkWrite moveCollection removeQuerySettings "
    "setQuerySettings transitionFromDedicatedConfigServer transitionToDedicatedConfigServer unshardCollection"
)


def _names(rows: list[tuple[dict[str, Any], str, Requirement]]) -> set[str]:
    return {next(iter(body)) for body, _, _ in rows}


def test_every_row_that_no_mongod_6_0_5_lists_is_here() -> None:
    assert _names(ROWS) - {OF_MONGOS_TOO} == {
        name for name, row in COMMANDS.items() if name not in LISTED and row.handling is Handling.RELAY
    }


def test_a_row_of_a_later_server_says_which() -> None:
    later = {name: row.since for name, row in COMMANDS.items() if row.since != "6.0"}
    assert later == {
        name: since
        for since, names in (("7.0", SINCE_7_0), ("8.0", SINCE_8_0), ("8.3", SINCE_8_3))
        for name in names.split()
    }


@pytest.mark.parametrize(("body", "db", "expected"), ROWS)
def test_a_newer_row_needs_what_is_published(body: dict[str, Any], db: str, expected: Requirement) -> None:
    assert required(body, db) == expected


@pytest.mark.parametrize(("body", "db", "expected"), [row for row in ROWS if row[2] != AllOf(())])
def test_a_newer_row_is_refused_without_any_one_of_its_actions(
    body: dict[str, Any], db: str, expected: Requirement
) -> None:
    need = required(body, db)
    for held in _ways(expected):
        assert allowed(need, held)
        for privilege in held:
            for action in privilege.actions:
                others = [p for p in held if p != privilege]
                less = Privilege(privilege.resource, privilege.actions - {action})
                assert not allowed(need, [*others, less])


def _ways(requirement: Requirement) -> list[list[Privilege]]:
    match requirement:
        case Privilege():
            return [[requirement]]
        case AllOf(parts):
            return [[part for part in parts if isinstance(part, Privilege)]]
        case AnyOf(parts):
            return [way for part in parts for way in _ways(part)]
        case _:
            raise AssertionError(requirement)


@pytest.mark.parametrize("name", sorted(_names(ROWS)))
def test_a_newer_row_is_for_those_who_have_logged_in(name: str) -> None:
    assert COMMANDS[name].requires_auth


@pytest.mark.parametrize(("body", "db"), [(body, db) for body, db, _ in ROWS if "isdbgrid" not in body])
def test_what_runs_in_admin_only_says_so(body: dict[str, Any], db: str) -> None:
    name = next(iter(body))
    assert COMMANDS[name].admin_only == (db == "admin" and name != CONSISTENCY)


def test_rights_on_all_ordinary_collections_do_not_check_the_whole_cluster() -> None:
    everywhere = [
        any_normal(CONSISTENCY),
        database("admin", CONSISTENCY),
        namespace("admin", "c", CONSISTENCY),
    ]
    assert not allowed(required({CONSISTENCY: 1}, "admin"), everywhere)
    assert not allowed(required({CONSISTENCY: "c"}, "admin"), everywhere)
    assert allowed(required({CONSISTENCY: 1}, "t"), everywhere)


def test_a_capped_collection_may_be_made_by_who_may_insert_into_it_and_cap_it() -> None:
    """As measured on mongod 6.0.5."""
    need = required({"create": "c", "capped": True, "size": 4096})
    assert allowed(need, [namespace("t", "c", "insert", "convertToCapped")])
    assert allowed(need, [namespace("t", "c", "createCollection", "convertToCapped")])
    assert not allowed(need, [namespace("t", "c", "insert", "createCollection")])
    assert not allowed(need, [namespace("t", "c", "convertToCapped")])
