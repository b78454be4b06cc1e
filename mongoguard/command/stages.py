"""STAGES: one row per aggregation stage (data).

In: nothing. Out: the table that the pipeline walk reads. A stage that has no row is refused with 40324, as mongod
refuses a stage it does not know. Must not know commands.
Source: the manual's stage pages for 6.0, 7.0 and 8.0; what 6.0.5 lets ordinary users run was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from mongoguard.command import stage_joins as joins
from mongoguard.command import stage_sources as sources
from mongoguard.command import stage_writes as writes
from mongoguard.command.requires import ANY_NORMAL, INTERNAL, needs
from mongoguard.model.action_type import ActionType as A
from mongoguard.model.resource_pattern import CLUSTER, MatchType, ResourcePattern
from mongoguard.wire.document import Document

if TYPE_CHECKING:
    from mongoguard.command.pipeline import Walk

__all__ = ["STAGES", "UPDATE_STAGES", "StageRow", "StageWalk"]

StageWalk: TypeAlias = "Callable[[Walk, str, Document, str, int], None]"
"""(walk, stage name, stage document, collection it reads, depth): tells the walk what the stage needs."""


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage. `walk` is None for stages that only work on the documents that arrive.

    `is_source`: as a pipeline's first stage it reads something else than the collection, so the collection's find is
    not needed. `refusal`: never relayed, and why. `note` and `since` are for the reference page.
    """

    name: str
    walk: StageWalk | None = None
    is_source: bool = False
    refusal: str = ""
    since: str = "6.0"
    note: str = ""


def _on_collection(*actions: str) -> StageWalk:
    needed = needs(*actions)

    def walk(walk: Walk, _name: str, _stage: Document, collection: str, _depth: int) -> None:
        walk.need(ResourcePattern(MatchType.EXACT_NAMESPACE, walk.db, collection), needed)

    return walk


def _on_cluster(*actions: str) -> StageWalk:
    needed = needs(*actions)

    def walk(walk: Walk, _name: str, _stage: Document, _collection: str, _depth: int) -> None:
        walk.need(CLUSTER, needed)

    return walk


def _on_any_normal(*actions: str) -> StageWalk:
    needed = needs(*actions)

    def walk(walk: Walk, _name: str, _stage: Document, _collection: str, _depth: int) -> None:
        walk.need(ANY_NORMAL, needed)

    return walk


_BETWEEN_GROUPS = frozenset({"$doingMerge", "$willBeMerged"})


def _group(walk: Walk, name: str, stage: Document, _collection: str, _depth: int) -> None:
    """`$group`: what mongos writes into it to merge groups needs internal, as later servers have it."""
    spec = stage.document(name)
    if spec is not None and not spec.fields.keys().isdisjoint(_BETWEEN_GROUPS):
        walk.need(INTERNAL.resource, INTERNAL.actions)


_PLAIN = (
    "$addFields $bucket $bucketAuto $count $densify $fill $geoNear $limit $match $project $redact "
    "$replaceRoot $replaceWith $sample $set $setWindowFields $skip $sort $sortByCount $unset $unwind"
)
_USABLE_INTERNALS = (
    "$_internalInhibitOptimization $_internalSplitPipeline $_internalUnpackBucket $_unpackBucket"
)
_BETWEEN_SERVERS = (
    "$_addReshardingResumeId $_analyzeShardKeyReadWriteDistribution $_internalApplyOplogUpdate "
    "$_internalBoundedSort $_internalChangeStreamAddPostImage $_internalChangeStreamAddPreImage "
    "$_internalChangeStreamCheckInvalidate $_internalChangeStreamCheckResumability "
    "$_internalChangeStreamCheckTopologyChange $_internalChangeStreamHandleTopologyChange "
    "$_internalChangeStreamOplogMatch $_internalChangeStreamTransform $_internalChangeStreamUnwindTransaction "
    "$_internalComputeGeoNearDistance $_internalConvertBucketIndexStats $_internalDensify $_internalFill "
    "$_internalFindAndModifyImageLookup $_internalReshardingIterateTransaction "
    "$_internalReshardingOwnershipMatch $_internalSearchIdLookup $_internalSearchMongotRemote "
    "$_internalSetWindowFields $_internalShredDocuments $_internalStreamingGroup $mergeCursors $queue "
    "$setVariableFromSubPipeline"
)
_SERVER_TO_SERVER = (
    "servers and mongos put this stage into pipelines themselves; no client has business with it"
)

_ROWS: tuple[StageRow, ...] = (
    *(StageRow(name) for name in _PLAIN.split()),
    *(
        StageRow(
            name, note="internal, but works only on the documents that arrive; 6.0.5 lets any reader use it"
        )
        for name in _USABLE_INTERNALS.split()
    ),
    StageRow("$group", _group),
    StageRow("$lookup", joins.lookup),
    StageRow("$graphLookup", joins.graph_lookup),
    StageRow("$unionWith", joins.union_with),
    StageRow("$facet", joins.facet),
    StageRow("$out", writes.out),
    StageRow("$merge", writes.merge),
    StageRow("$collStats", _on_collection(A.COLL_STATS), is_source=True),
    StageRow("$indexStats", _on_collection(A.INDEX_STATS), is_source=True),
    StageRow("$planCacheStats", _on_collection(A.PLAN_CACHE_READ), is_source=True),
    StageRow("$changeStream", sources.change_stream, is_source=True),
    StageRow("$changeStreamSplitLargeEvent", since="7.0", note="also 6.0.9"),
    StageRow("$currentOp", sources.current_op, is_source=True),
    StageRow("$listSessions", sources.list_sessions, is_source=True),
    StageRow("$listLocalSessions", sources.list_sessions, is_source=True),
    StageRow("$documents", sources.documents, is_source=True),
    StageRow("$operationMetrics", _on_cluster(A.OPERATION_METRICS), is_source=True),
    StageRow("$shardedDataDistribution", _on_cluster(A.SHARDED_DATA_DISTRIBUTION), is_source=True),
    StageRow("$_internalAllCollectionStats", _on_cluster(A.ALL_COLLECTION_STATS), is_source=True),
    StageRow("$backupCursor", _on_cluster(A.FSYNC), is_source=True, note="Enterprise"),
    StageRow("$backupCursorExtend", _on_cluster(A.FSYNC), is_source=True, note="Enterprise"),
    StageRow(
        "$listCachedAndActiveUsers",
        _on_any_normal(A.LIST_CACHED_AND_ACTIVE_USERS),
        is_source=True,
        note="tells of the service user, not of mongoguard's; mongod offers it in tests only",
    ),
    StageRow("$search", since="7.0", note="Atlas Search; find on the collection"),
    StageRow("$searchMeta", since="7.0", note="Atlas Search; find on the collection"),
    StageRow("$vectorSearch", since="7.0", note="Atlas Search; find on the collection"),
    StageRow("$rankFusion", joins.fusion, since="8.0", note="sub-pipelines are walked"),
    StageRow("$scoreFusion", joins.fusion, since="8.0", note="sub-pipelines are walked"),
    StageRow("$score", since="8.0"),
    StageRow("$listSearchIndexes", _on_collection(A.LIST_SEARCH_INDEXES), is_source=True, since="7.0"),
    StageRow("$listSampledQueries", _on_cluster(A.LIST_SAMPLED_QUERIES), is_source=True, since="7.0"),
    StageRow("$querySettings", _on_cluster(A.QUERY_SETTINGS), is_source=True, since="8.0"),
    StageRow("$queryStats", sources.query_stats, is_source=True, since="7.0"),
    StageRow(
        "$listCatalog", refusal="it lists the whole deployment's catalogue, which no privilege here describes"
    ),
    StageRow("$listClusterCatalog", sources.list_cluster_catalog, is_source=True, since="8.0"),
    *(StageRow(name, refusal=_SERVER_TO_SERVER) for name in _BETWEEN_SERVERS.split()),
)

STAGES: Mapping[str, StageRow] = {row.name: row for row in _ROWS}
"""Every stage that mongoguard knows, by name."""

UPDATE_STAGES = frozenset({"$addFields", "$set", "$project", "$unset", "$replaceRoot", "$replaceWith"})
"""The stages of a pipeline that updates (update, findAndModify, `$merge` whenMatched): none names a namespace."""
