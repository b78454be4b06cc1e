"""COMMANDS: one row per command (data).

In: the room's `requires_…` functions. Out: the catalogue and its lookup. A command without a row is unknown (59).
Must not know users, connections or how a row is carried out.
Source: listCommands of a 6.0.5 server (all 243), the manual's command and privilege-action pages for 6.0, 7.0 and 8.0;
privileges measured on 6.0.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mongoguard.command import requires_admin as admin
from mongoguard.command import requires_crud as crud
from mongoguard.command import requires_ddl as ddl
from mongoguard.command import user_management as users
from mongoguard.command.catalog_flags import ADMIN_ONLY, API_V1, BETWEEN_SERVERS, NO_LOGIN
from mongoguard.command.explain import explain_requires
from mongoguard.command.requirement import known_fields
from mongoguard.command.requires import on_cluster, on_collection, on_database, on_namespace_string
from mongoguard.command.sessions import (
    IMPERSONATE,
    KILL_FOREIGN_SESSION,
    requires_own_sessions,
    requires_session_pattern,
)
from mongoguard.command.spec import CommandRow, Handling, Requires, needs_nothing
from mongoguard.model.action_type import ActionType as A

__all__ = ["COMMANDS", "find_row"]


def find_row(name: str) -> CommandRow | None:
    """The row of a command by its name or an accepted alias, case-sensitive; None for a command nobody knows."""
    return _BY_NAME.get(name)


def _row(name: str, requires: Requires = needs_nothing, **columns: Any) -> CommandRow:
    """A row with the flags that listCommands reports; `fields` is given as words."""
    fields: str | None = columns.pop("fields", None)
    own = None if fields is None else known_fields(name, *columns.get("aliases", ()), *fields.split())
    internal = frozenset(columns.pop("internal_fields", "").split())
    unread = frozenset(columns.pop("unread", "").split())
    columns.setdefault("admin_only", name in ADMIN_ONLY)
    return CommandRow(
        name,
        requires,
        requires_auth=name not in NO_LOGIN,
        api_v1=name in API_V1 or columns.pop("api_v1", False),
        fields=own,
        internal_fields=internal,
        unread=unread,
        **columns,
    )


_UNREAD = "$clusterTime comment maxTimeMS readConcern txnNumber"
_PAYLOAD = frozenset({"payload"})
_PASSWORD = frozenset({"pwd"})
_BATCH = "ordered bypassDocumentValidation let encryptionInformation collectionUUID stmtIds maxTimeMS"
_BATCH_INTERNAL = (
    "isTimeseriesNamespace originalQuery originalCollation legacyRuntimeConstants runtimeConstants"
)

_DOCUMENTS = (
    _row(
        "find",
        crud.find,
        opens_cursor=True,
        fields="filter projection sort hint collation skip limit batchSize ntoreturn singleBatch allowDiskUse min max "
        "returnKey showRecordId tailable oplogReplay noCursorTimeout awaitData allowPartialResults let options term "
        "readOnce allowSpeculativeMajorityRead $_requestResumeToken $_resumeAfter $_startAt collectionUUID "
        "encryptionInformation snapshot maxScan",
        internal_fields="runtimeConstants mirrored querySettings includeQueryStatsMetrics rawData sampleId",
        unread=f"filter projection sort hint collation skip limit batchSize min max let {_UNREAD}",
    ),
    _row(
        "count",
        crud.count,
        fields="query limit skip hint collation fields encryptionInformation collectionUUID maxTimeMS",
        internal_fields="mirrored rawData sampleId querySettings",
        unread=f"query limit skip hint collation {_UNREAD}",
    ),
    _row(
        "distinct",
        crud.count,
        fields="key query collation hint collectionUUID encryptionInformation",
        internal_fields="mirrored rawData sampleId querySettings",
        unread=f"key query collation hint {_UNREAD}",
    ),
    _row(
        "aggregate",
        crud.aggregate,
        opens_cursor=True,
        fields="pipeline explain allowDiskUse cursor bypassDocumentValidation collation hint let collectionUUID "
        "encryptionInformation needsMerge fromMongos",
        internal_fields="exchange runtimeConstants isMapReduceCommand sampleId querySettings rawData "
        "$_requestReshardingResumeToken $_passthroughToShard $_externalDataSources $_requestResumeToken $_resumeAfter "
        "$_startAt $_isClusterQueryWithoutShardKeyCmd $_generateV2ResumeTokens",
    ),
    _row(
        "mapReduce",
        crud.map_reduce,
        aliases=("mapreduce",),
        fields="map reduce out query sort collation limit finalize scope jsMode verbose bypassDocumentValidation "
        "collectionUUID",
        internal_fields="shardedFirstPass inputDB splitInfo",
    ),
    _row(
        "insert",
        crud.insert,
        sequences=frozenset({"documents"}),
        fields=f"documents {_BATCH}",
        internal_fields=_BATCH_INTERNAL,
        unread=f"documents let stmtIds {_UNREAD}",
    ),
    _row(
        "update",
        crud.update,
        sequences=frozenset({"updates"}),
        fields=f"updates {_BATCH} bypassEmptyTsReplacement",
        internal_fields=_BATCH_INTERNAL,
    ),
    _row(
        "delete",
        crud.delete,
        sequences=frozenset({"deletes"}),
        fields=f"deletes {_BATCH}",
        internal_fields=_BATCH_INTERNAL,
    ),
    _row(
        "findAndModify",
        crud.find_and_modify,
        aliases=("findandmodify",),
        fields="query update sort remove new upsert fields hint collation arrayFilters let bypassDocumentValidation "
        "encryptionInformation collectionUUID bypassEmptyTsReplacement",
        internal_fields="runtimeConstants isTimeseriesNamespace sampleId originalQuery originalCollation "
        "$_allowShardKeyUpdatesWithoutFullShardKeyInQuery",
    ),
    _row(
        "bulkWrite",
        crud.bulk_write,
        since="8.0",
        admin_only=True,
        api_v1=True,
        opens_cursor=True,
        sequences=frozenset({"ops", "nsInfo"}),
        fields="ops nsInfo cursor bypassDocumentValidation ordered stmtIds let errorsOnly bypassEmptyTsReplacement",
        internal_fields="originalQuery originalCollation",
    ),
    _row(
        "getMore",
        crud.get_more,
        opens_cursor=True,
        fields="collection batchSize maxTimeMS term lastKnownCommittedOpTime",
    ),
    _row("killCursors", crud.kill_cursors, fields="cursors"),
    _row("explain", explain_requires(find_row), fields="verbosity"),
    _row("filemd5", ddl.filemd5, fields="root partialOk md5state"),
)

_CREATE_FIELDS = (
    "capped autoIndexId idIndex size max storageEngine validator validationLevel validationAction "
    "indexOptionDefaults viewOn pipeline collation recordPreImages changeStreamPreAndPostImages timeseries "
    "clusteredIndex expireAfterSeconds encryptedFields temp flags"
)
_COLL_MOD_FIELDS = (
    "index validator validationLevel validationAction viewOn pipeline recordPreImages "
    "changeStreamPreAndPostImages expireAfterSeconds timeseries dryRun prepareUnique"
)

_COLLECTIONS = (
    _row("create", ddl.create, fields=_CREATE_FIELDS),
    _row("collMod", ddl.coll_mod, fields=_COLL_MOD_FIELDS, internal_fields="isTimeseriesNamespace"),
    _row("drop", on_collection(A.DROP_COLLECTION), fields="collectionUUID"),
    _row("dropDatabase", on_database(A.DROP_DATABASE)),
    _row("renameCollection", ddl.rename_collection, fields="to dropTarget stayTemp collectionUUID"),
    _row(
        "createIndexes",
        on_collection(A.CREATE_INDEX),
        internal_fields="isTimeseriesNamespace",
        fields="indexes ignoreUnknownIndexOptions commitQuorum collectionUUID",
    ),
    _row("dropIndexes", on_collection(A.DROP_INDEX), aliases=("deleteIndexes",)),
    _row("listIndexes", on_collection(A.LIST_INDEXES), opens_cursor=True),
    _row(
        "listCollections",
        ddl.list_collections,
        opens_cursor=True,
        fields="cursor filter nameOnly authorizedCollections",
        internal_fields="rawData",
    ),
    _row("convertToCapped", on_collection(A.CONVERT_TO_CAPPED)),
    _row("cloneCollectionAsCapped", ddl.clone_as_capped, fields="toCollection size temp overwrite"),
    _row("compact", on_collection(A.COMPACT)),
    _row("reIndex", on_collection(A.RE_INDEX)),
    _row("validate", on_collection(A.VALIDATE)),
    _row("collStats", on_collection(A.COLL_STATS), aliases=("collstats",)),
    _row("dataSize", on_namespace_string(A.FIND), aliases=("datasize",)),
    _row("dbStats", on_database(A.DB_STATS), aliases=("dbstats",)),
    _row("dbHash", on_database(A.DB_HASH), aliases=("dbhash",)),
    _row("planCacheClear", on_collection(A.PLAN_CACHE_WRITE)),
    _row("planCacheListFilters", on_collection(A.PLAN_CACHE_INDEX_FILTER)),
    _row("planCacheSetFilter", on_collection(A.PLAN_CACHE_INDEX_FILTER)),
    _row("planCacheClearFilters", on_collection(A.PLAN_CACHE_INDEX_FILTER)),
    _row("profile", ddl.profile),
    _row("setProfilingFilterGlobally", admin.on_any_normal(A.ENABLE_PROFILER)),
    _row("splitVector", on_namespace_string(A.SPLIT_VECTOR)),
    _row("checkShardingIndex", on_namespace_string(A.FIND)),
    _row("setIndexCommitQuorum", on_collection(A.CREATE_INDEX)),
    _row("validateDBMetadata", ddl.validate_db_metadata),
    _row("dbCheck", admin.db_check),
    _row("compactStructuredEncryptionData", on_collection(A.COMPACT_STRUCTURED_ENCRYPTION_DATA)),
    _row("cleanupStructuredEncryptionData", on_collection(A.CLEANUP_STRUCTURED_ENCRYPTION_DATA), since="7.0"),
    _row("createSearchIndexes", on_collection(A.CREATE_SEARCH_INDEXES), since="7.0"),
    _row("updateSearchIndex", on_collection(A.UPDATE_SEARCH_INDEX), since="7.0"),
    _row("dropSearchIndex", on_collection(A.DROP_SEARCH_INDEX), since="7.0"),
    _row("listSearchIndexes", on_collection(A.LIST_SEARCH_INDEXES), since="7.0", opens_cursor=True),
    _row("analyze", on_collection(A.ANALYZE), since="7.0"),
    _row("analyzeShardKey", on_namespace_string(A.ANALYZE_SHARD_KEY), since="7.0", admin_only=True),
    _row(
        "configureQueryAnalyzer",
        on_namespace_string(A.CONFIGURE_QUERY_ANALYZER),
        since="7.0",
        admin_only=True,
    ),
    _row("checkMetadataConsistency", ddl.check_metadata_consistency, since="7.0", opens_cursor=True),
)

# Commands that need the action of that name on the cluster: "command" or "command:action".
_ON_CLUSTER = (
    "serverStatus hostInfo getCmdLineOpts connPoolStats connPoolSync top lockInfo:serverStatus getShardMap "
    "shardingState getDefaultRWConcern setDefaultRWConcern flushRouterConfig logRotate rotateCertificates "
    "appendOplogNote dropConnections fsync fsyncUnlock:unlock getClusterParameter setClusterParameter "
    "setUserWriteBlockMode setFeatureCompatibilityVersion setFreeMonitoring "
    "getFreeMonitoringStatus:checkFreeMonitoringStatus getLog getParameter setParameter shutdown cleanupOrphaned "
    "replSetGetStatus replSetGetConfig replSetResizeOplog replSetInitiate:replSetConfigure "
    "replSetReconfig:replSetConfigure replSetFreeze:replSetStateChange replSetStepDown:replSetStateChange "
    "replSetStepUp:replSetStateChange replSetMaintenance:replSetStateChange replSetSyncFrom:replSetStateChange "
    "replSetAbortPrimaryCatchUp:replSetStateChange startRecordingTraffic:trafficRecord "
    "stopRecordingTraffic:trafficRecord killOp:killop"
)

_SERVER = (
    *(
        _row(name, on_cluster(action or name))
        for name, _, action in (entry.partition(":") for entry in _ON_CLUSTER.split())
    ),
    _row("invalidateUserCache", on_cluster(A.INVALIDATE_USER_CACHE), changes_users=True),
    _row("currentOp", admin.current_op),
    _row("listDatabases", admin.list_databases, fields="filter nameOnly authorizedDatabases"),
    _row("getDiagnosticData", admin.diagnostic),
    _row("getDatabaseVersion", admin.on_database_string(A.GET_DATABASE_VERSION)),
    _row("getShardVersion", on_namespace_string(A.GET_SHARD_VERSION)),
    _row(
        "applyOps",
        admin.apply_ops,
        changes_users=True,  # it may write to admin.system.users, among others
        fields="allowAtomic alwaysUpsert bypassDocumentValidation",
    ),
    _row("features", admin.features),
    # Only of a server with enableTestCommands=1: there it is anybody's, even before a login. It changes how the server
    # behaves towards everybody, as setParameter does.
    _row("configureFailPoint", on_cluster(A.SET_PARAMETER), admin_only=True),
    _row("availableQueryOptions", aliases=("availablequeryoptions",)),
    _row("driverOIDTest"),
    _row("listCommands"),
    _row("ping"),
    _row("abortTransaction", fields="recoveryToken"),
    _row("commitTransaction", fields="recoveryToken"),
    _row("autoCompact", on_cluster(A.COMPACT), since="8.0", admin_only=True),
    _row("setQuerySettings", on_cluster(A.QUERY_SETTINGS), since="8.0", admin_only=True),
    _row("removeQuerySettings", on_cluster(A.QUERY_SETTINGS), since="8.0", admin_only=True),
    _row("getChangeStreamState", on_cluster(A.GET_CHANGE_STREAM_STATE), since="7.0", admin_only=True),
    _row("setChangeStreamState", on_cluster(A.SET_CHANGE_STREAM_STATE), since="7.0", admin_only=True),
    _row("oidcListKeys", on_cluster(A.OIDC_LIST_KEYS), since="7.0", admin_only=True),
    _row("oidcRefreshKeys", on_cluster(A.OIDC_REFRESH_KEYS), since="7.0", admin_only=True),
    _row("logApplicationMessage", on_cluster(A.APPLICATION_MESSAGE), admin_only=True),
    _row("getAuditConfig", on_cluster(A.AUDIT_CONFIGURE), admin_only=True),
    _row("setAuditConfig", on_cluster(A.AUDIT_CONFIGURE), admin_only=True),
)

_DRAINING = "commitShardRemoval shardDrainingStatus startShardDraining stopShardDraining"
_LEAVING_CONFIG_SERVER = (
    "commitTransitionToDedicatedConfigServer getTransitionToDedicatedConfigServerStatus "
    "startTransitionToDedicatedConfigServer stopTransitionToDedicatedConfigServer"
)
# The manual names removeShard alone; the command that these replace needs the other. Until a server says which: both.
_LEAVES_CONFIG_SERVER = on_cluster(A.REMOVE_SHARD, A.TRANSITION_TO_DEDICATED_CONFIG_SERVER)

_ON_MONGOS = tuple(
    _row(name, requires, admin_only=True, since=since)
    for name, requires, since in (
        ("addShard", on_cluster(A.ADD_SHARD), "6.0"),
        ("removeShard", on_cluster(A.REMOVE_SHARD), "6.0"),
        ("listShards", on_cluster(A.LIST_SHARDS), "6.0"),
        ("netstat", on_cluster(A.NETSTAT), "6.0"),
        (
            "addShardToZone",
            admin.on_config_or_cluster(A.ENABLE_SHARDING, ("shards", (A.UPDATE,))),
            "6.0",
        ),
        (
            "removeShardFromZone",
            admin.on_config_or_cluster(A.ENABLE_SHARDING, ("shards", (A.UPDATE,)), ("tags", (A.FIND,))),
            "6.0",
        ),
        (
            "updateZoneKeyRange",
            admin.on_config_or_cluster(
                A.ENABLE_SHARDING, ("shards", (A.FIND,)), ("tags", (A.FIND, A.UPDATE, A.REMOVE))
            ),
            "6.0",
        ),
        ("balancerStart", admin.on_config("settings", A.UPDATE), "6.0"),
        ("balancerStop", admin.on_config("settings", A.UPDATE), "6.0"),
        ("balancerStatus", admin.on_config("settings", A.FIND), "6.0"),
        ("balancerCollectionStatus", on_namespace_string(A.ENABLE_SHARDING), "6.0"),
        ("configureCollectionBalancing", ddl.configure_collection_balancing, "6.0"),
        ("clearJumboFlag", on_namespace_string(A.CLEAR_JUMBO_FLAG), "6.0"),
        ("enableSharding", admin.on_database_string(A.ENABLE_SHARDING), "6.0"),
        ("shardCollection", on_namespace_string(A.ENABLE_SHARDING), "6.0"),
        ("refineCollectionShardKey", on_namespace_string(A.REFINE_COLLECTION_SHARD_KEY), "6.0"),
        ("reshardCollection", on_namespace_string(A.RESHARD_COLLECTION), "6.0"),
        ("abortReshardCollection", on_namespace_string(A.RESHARD_COLLECTION), "6.0"),
        ("cleanupReshardCollection", on_namespace_string(A.RESHARD_COLLECTION), "6.0"),
        ("commitReshardCollection", on_namespace_string(A.RESHARD_COLLECTION), "6.0"),
        ("moveChunk", on_namespace_string(A.MOVE_CHUNK), "6.0"),
        ("moveRange", on_namespace_string(A.MOVE_CHUNK), "6.0"),
        ("movePrimary", admin.on_database_string(A.MOVE_CHUNK), "6.0"),
        ("split", on_namespace_string(A.SPLIT_CHUNK), "6.0"),
        ("mergeChunks", on_namespace_string(A.SPLIT_CHUNK), "6.0"),
        ("mergeAllChunksOnShard", on_namespace_string(A.SPLIT_CHUNK), "7.0"),
        ("moveCollection", on_namespace_string(A.MOVE_COLLECTION), "8.0"),
        ("abortMoveCollection", on_namespace_string(A.MOVE_COLLECTION), "8.0"),
        ("unshardCollection", on_namespace_string(A.UNSHARD_COLLECTION), "8.0"),
        ("abortUnshardCollection", on_namespace_string(A.UNSHARD_COLLECTION), "8.0"),
        (
            "transitionFromDedicatedConfigServer",
            on_cluster(A.TRANSITION_FROM_DEDICATED_CONFIG_SERVER),
            "8.0",
        ),
        ("transitionToDedicatedConfigServer", on_cluster(A.TRANSITION_TO_DEDICATED_CONFIG_SERVER), "8.0"),
        *((name, on_cluster(A.REMOVE_SHARD), "8.3") for name in _DRAINING.split()),
        *((name, _LEAVES_CONFIG_SERVER, "8.3") for name in _LEAVING_CONFIG_SERVER.split()),
    )
)
_SHARDING = (*_ON_MONGOS, _row("isdbgrid"))


_SESSIONS = (
    _row("startSession", handling=Handling.LOCAL),
    _row("endSessions", requires_own_sessions(IMPERSONATE), fields=""),
    _row("refreshSessions", requires_own_sessions(IMPERSONATE), fields=""),
    _row("killSessions", requires_own_sessions(KILL_FOREIGN_SESSION), fields=""),
    _row("killAllSessions", on_cluster(A.KILL_ANY_SESSION), fields=""),
    _row("killAllSessionsByPattern", requires_session_pattern, fields=""),
)

_USERS = (
    _row(
        "createUser",
        users.create_user,
        secret_fields=_PASSWORD,
        changes_users=True,
        fields="pwd roles customData digestPassword writeConcern authenticationRestrictions mechanisms",
    ),
    _row(
        "updateUser",
        users.update_user,
        secret_fields=_PASSWORD,
        changes_users=True,
        fields="pwd roles customData digestPassword authenticationRestrictions mechanisms",
    ),
    _row("dropUser", on_database(A.DROP_USER), changes_users=True, fields=""),
    _row("dropAllUsersFromDatabase", on_database(A.DROP_USER), changes_users=True, fields=""),
    _row("grantRolesToUser", users.on_roles(A.GRANT_ROLE), changes_users=True, fields="roles"),
    _row("revokeRolesFromUser", users.on_roles(A.REVOKE_ROLE), changes_users=True, fields="roles"),
    _row(
        "createRole",
        users.create_role,
        changes_users=True,
        fields="privileges roles authenticationRestrictions",
    ),
    _row(
        "updateRole",
        users.update_role,
        changes_users=True,
        fields="privileges roles authenticationRestrictions",
    ),
    _row("dropRole", on_database(A.DROP_ROLE), changes_users=True, fields=""),
    _row("dropAllRolesFromDatabase", on_database(A.DROP_ROLE), changes_users=True, fields=""),
    _row("grantRolesToRole", users.on_roles(A.GRANT_ROLE), changes_users=True, fields="roles"),
    _row("revokeRolesFromRole", users.on_roles(A.REVOKE_ROLE), changes_users=True, fields="roles"),
    _row("grantPrivilegesToRole", users.on_privileges(A.GRANT_ROLE), changes_users=True, fields="privileges"),
    _row(
        "revokePrivilegesFromRole",
        users.on_privileges(A.REVOKE_ROLE),
        changes_users=True,
        fields="privileges",
    ),
    _row(
        "usersInfo",
        users.users_info,
        fields="showPrivileges showCredentials showCustomData showAuthenticationRestrictions filter",
    ),
    _row(
        "rolesInfo", users.roles_info, fields="showBuiltinRoles showAuthenticationRestrictions showPrivileges"
    ),
)

_LOCAL = (
    _row("hello", handling=Handling.LOCAL),
    _row("isMaster", handling=Handling.LOCAL, aliases=("ismaster",)),
    _row("saslStart", handling=Handling.LOCAL, secret_fields=_PAYLOAD),
    _row("saslContinue", handling=Handling.LOCAL, secret_fields=_PAYLOAD),
    _row("authenticate", handling=Handling.LOCAL),
    _row("logout", handling=Handling.LOCAL),
    _row("connectionStatus", handling=Handling.LOCAL),
    _row("whatsmyuri", handling=Handling.LOCAL),
    _row("buildInfo", handling=Handling.LOCAL, aliases=("buildinfo",)),
    _row("getLastError", handling=Handling.LOCAL, aliases=("getlasterror",)),
    _row("_isSelf", handling=Handling.LOCAL),
)

_REFUSED = (
    *(
        _row(
            name,
            handling=Handling.REFUSED,
            refusal="servers and mongos send it to each other; it is no client's business",
        )
        for name in sorted(BETWEEN_SERVERS)
    ),
    _row(
        "getnonce",
        handling=Handling.REFUSED,
        refusal="its nonces served MONGODB-CR, which no server has accepted since 4.0",
    ),
)

_ROWS = (
    *_DOCUMENTS,
    *_COLLECTIONS,
    *_SERVER,
    *_SHARDING,
    *_SESSIONS,
    *_USERS,
    *_LOCAL,
    *_REFUSED,
)

COMMANDS: Mapping[str, CommandRow] = {row.name: row for row in _ROWS}
"""Every command that mongoguard knows, by its canonical name."""

_BY_NAME: Mapping[str, CommandRow] = {name: row for row in _ROWS for name in (row.name, *row.aliases)}
