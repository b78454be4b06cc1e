"""ActionType: the vocabulary of MongoDB's privileges (data).

In: nothing. Out: one enum and two sets of names. Must not know commands or resources.
Source: the list that a 6.0.5 server accepts in createRole (144 names), and the names documented for 7.0 and 8.0.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ACTIONS_AFTER_6_0", "ActionType"]


class ActionType(StrEnum):
    """An action that a privilege may grant on a resource."""

    # Members mix with plain strings in sets (a newer upstream may grant actions that we have no member for), so they
    # must hash as the strings they equal; Enum's own hash would differ, and be slow.
    __hash__ = str.__hash__

    ADD_SHARD = "addShard"
    ADVANCE_CLUSTER_TIME = "advanceClusterTime"
    ALL_COLLECTION_STATS = "allCollectionStats"
    ANY_ACTION = "anyAction"
    APPEND_OPLOG_NOTE = "appendOplogNote"
    APPLICATION_MESSAGE = "applicationMessage"
    APPLY_OPS = "applyOps"
    AUDIT_CONFIGURE = "auditConfigure"
    AUDIT_LOG_ROTATE = "auditLogRotate"
    AUTH_CHECK = "authCheck"
    AUTH_SCHEMA_UPGRADE = "authSchemaUpgrade"
    AUTHENTICATE = "authenticate"
    BYPASS_DOCUMENT_VALIDATION = "bypassDocumentValidation"
    BYPASS_WRITE_BLOCKING_MODE = "bypassWriteBlockingMode"
    CHANGE_CUSTOM_DATA = "changeCustomData"
    CHANGE_OWN_CUSTOM_DATA = "changeOwnCustomData"
    CHANGE_OWN_PASSWORD = "changeOwnPassword"
    CHANGE_PASSWORD = "changePassword"
    CHANGE_STREAM = "changeStream"
    CHECK_FREE_MONITORING_STATUS = "checkFreeMonitoringStatus"
    CLEANUP_ORPHANED = "cleanupOrphaned"
    CLEAR_JUMBO_FLAG = "clearJumboFlag"
    CLOSE_ALL_DATABASES = "closeAllDatabases"
    COLL_MOD = "collMod"
    COLL_STATS = "collStats"
    COMPACT = "compact"
    COMPACT_STRUCTURED_ENCRYPTION_DATA = "compactStructuredEncryptionData"
    CONN_POOL_STATS = "connPoolStats"
    CONN_POOL_SYNC = "connPoolSync"
    CONVERT_TO_CAPPED = "convertToCapped"
    CPU_PROFILER = "cpuProfiler"
    CREATE_COLLECTION = "createCollection"
    CREATE_DATABASE = "createDatabase"
    CREATE_INDEX = "createIndex"
    CREATE_ROLE = "createRole"
    CREATE_USER = "createUser"
    DB_CHECK = "dbCheck"
    DB_HASH = "dbHash"
    DB_STATS = "dbStats"
    DROP_ALL_ROLES_FROM_DATABASE = "dropAllRolesFromDatabase"
    DROP_ALL_USERS_FROM_DATABASE = "dropAllUsersFromDatabase"
    DROP_COLLECTION = "dropCollection"
    DROP_CONNECTIONS = "dropConnections"
    DROP_DATABASE = "dropDatabase"
    DROP_INDEX = "dropIndex"
    DROP_ROLE = "dropRole"
    DROP_USER = "dropUser"
    EMPTYCAPPED = "emptycapped"
    ENABLE_PROFILER = "enableProfiler"
    ENABLE_SHARDING = "enableSharding"
    EXPORT_COLLECTION = "exportCollection"
    FIND = "find"
    FLUSH_ROUTER_CONFIG = "flushRouterConfig"
    FORCE_UUID = "forceUUID"
    FSYNC = "fsync"
    GET_CLUSTER_PARAMETER = "getClusterParameter"
    GET_CMD_LINE_OPTS = "getCmdLineOpts"
    GET_DATABASE_VERSION = "getDatabaseVersion"
    GET_DEFAULT_RW_CONCERN = "getDefaultRWConcern"
    GET_LOG = "getLog"
    GET_PARAMETER = "getParameter"
    GET_SHARD_MAP = "getShardMap"
    GET_SHARD_VERSION = "getShardVersion"
    GRANT_PRIVILEGES_TO_ROLE = "grantPrivilegesToRole"
    GRANT_ROLE = "grantRole"
    GRANT_ROLES_TO_ROLE = "grantRolesToRole"
    GRANT_ROLES_TO_USER = "grantRolesToUser"
    HOST_INFO = "hostInfo"
    IMPERSONATE = "impersonate"
    IMPORT_COLLECTION = "importCollection"
    INDEX_STATS = "indexStats"
    INPROG = "inprog"
    INSERT = "insert"
    INTERNAL = "internal"
    INVALIDATE_USER_CACHE = "invalidateUserCache"
    KILL_ANY_CURSOR = "killAnyCursor"
    KILL_ANY_SESSION = "killAnySession"
    KILL_CURSORS = "killCursors"
    KILLOP = "killop"
    LIST_CACHED_AND_ACTIVE_USERS = "listCachedAndActiveUsers"
    LIST_COLLECTIONS = "listCollections"
    LIST_CURSORS = "listCursors"
    LIST_DATABASES = "listDatabases"
    LIST_INDEXES = "listIndexes"
    LIST_SESSIONS = "listSessions"
    LIST_SHARDS = "listShards"
    LOG_ROTATE = "logRotate"
    MOVE_CHUNK = "moveChunk"
    NETSTAT = "netstat"
    OID_RESET = "oidReset"
    OPERATION_METRICS = "operationMetrics"
    PLAN_CACHE_INDEX_FILTER = "planCacheIndexFilter"
    PLAN_CACHE_READ = "planCacheRead"
    PLAN_CACHE_WRITE = "planCacheWrite"
    RE_INDEX = "reIndex"
    REFINE_COLLECTION_SHARD_KEY = "refineCollectionShardKey"
    REMOVE = "remove"
    REMOVE_SHARD = "removeShard"
    RENAME_COLLECTION = "renameCollection"
    RENAME_COLLECTION_SAME_DB = "renameCollectionSameDB"
    REPAIR_DATABASE = "repairDatabase"
    REPL_SET_CONFIGURE = "replSetConfigure"
    REPL_SET_GET_CONFIG = "replSetGetConfig"
    REPL_SET_GET_STATUS = "replSetGetStatus"
    REPL_SET_HEARTBEAT = "replSetHeartbeat"
    REPL_SET_RECONFIG = "replSetReconfig"
    REPL_SET_RESIZE_OPLOG = "replSetResizeOplog"
    REPL_SET_STATE_CHANGE = "replSetStateChange"
    RESHARD_COLLECTION = "reshardCollection"
    RESYNC = "resync"
    REVOKE_PRIVILEGES_FROM_ROLE = "revokePrivilegesFromRole"
    REVOKE_ROLE = "revokeRole"
    REVOKE_ROLES_FROM_ROLE = "revokeRolesFromRole"
    REVOKE_ROLES_FROM_USER = "revokeRolesFromUser"
    ROTATE_CERTIFICATES = "rotateCertificates"
    RUN_AS_LESS_PRIVILEGED_USER = "runAsLessPrivilegedUser"
    RUN_TENANT_MIGRATION = "runTenantMigration"
    SERVER_STATUS = "serverStatus"
    SET_AUTHENTICATION_RESTRICTION = "setAuthenticationRestriction"
    SET_CLUSTER_PARAMETER = "setClusterParameter"
    SET_DEFAULT_RW_CONCERN = "setDefaultRWConcern"
    SET_FEATURE_COMPATIBILITY_VERSION = "setFeatureCompatibilityVersion"
    SET_FREE_MONITORING = "setFreeMonitoring"
    SET_PARAMETER = "setParameter"
    SET_USER_WRITE_BLOCK_MODE = "setUserWriteBlockMode"
    SHARD_COLLECTION = "shardCollection"
    SHARDED_DATA_DISTRIBUTION = "shardedDataDistribution"
    SHARDING_STATE = "shardingState"
    SHUTDOWN = "shutdown"
    SPLIT_CHUNK = "splitChunk"
    SPLIT_VECTOR = "splitVector"
    STORAGE_DETAILS = "storageDetails"
    TOP = "top"
    TOUCH = "touch"
    TRAFFIC_RECORD = "trafficRecord"
    UNLOCK = "unlock"
    UPDATE = "update"
    UPDATE_ROLE = "updateRole"
    UPDATE_USER = "updateUser"
    USE_TENANT = "useTenant"
    USE_UUID = "useUUID"
    VALIDATE = "validate"
    VIEW_ROLE = "viewRole"
    VIEW_USER = "viewUser"
    # 7.0 and 8.0
    ANALYZE = "analyze"
    ANALYZE_SHARD_KEY = "analyzeShardKey"
    BYPASS_DEFAULT_MAX_TIME_MS = "bypassDefaultMaxTimeMS"
    CHECK_METADATA_CONSISTENCY = "checkMetadataConsistency"
    CLEANUP_STRUCTURED_ENCRYPTION_DATA = "cleanupStructuredEncryptionData"
    CONFIGURE_QUERY_ANALYZER = "configureQueryAnalyzer"
    CREATE_SEARCH_INDEXES = "createSearchIndexes"
    DROP_SEARCH_INDEX = "dropSearchIndex"
    FSYNC_UNLOCK = "fsyncUnlock"
    GET_CHANGE_STREAM_STATE = "getChangeStreamState"
    ISSUE_DIRECT_SHARD_OPERATIONS = "issueDirectShardOperations"
    LIST_CLUSTER_CATALOG = "listClusterCatalog"
    LIST_SAMPLED_QUERIES = "listSampledQueries"
    LIST_SEARCH_INDEXES = "listSearchIndexes"
    MOVE_COLLECTION = "moveCollection"
    OIDC_LIST_KEYS = "oidcListKeys"
    OIDC_REFRESH_KEYS = "oidcRefreshKeys"
    QUERY_SETTINGS = "querySettings"
    QUERY_STATS_READ = "queryStatsRead"
    QUERY_STATS_READ_TRANSFORMED = "queryStatsReadTransformed"
    SET_CHANGE_STREAM_STATE = "setChangeStreamState"
    TRANSITION_FROM_DEDICATED_CONFIG_SERVER = "transitionFromDedicatedConfigServer"
    TRANSITION_TO_DEDICATED_CONFIG_SERVER = "transitionToDedicatedConfigServer"
    UNSHARD_COLLECTION = "unshardCollection"
    UPDATE_SEARCH_INDEX = "updateSearchIndex"


ACTIONS_AFTER_6_0: frozenset[ActionType] = frozenset(
    {
        ActionType.ANALYZE,
        ActionType.ANALYZE_SHARD_KEY,
        ActionType.BYPASS_DEFAULT_MAX_TIME_MS,
        ActionType.CHECK_METADATA_CONSISTENCY,
        ActionType.CLEANUP_STRUCTURED_ENCRYPTION_DATA,
        ActionType.CONFIGURE_QUERY_ANALYZER,
        ActionType.CREATE_SEARCH_INDEXES,
        ActionType.DROP_SEARCH_INDEX,
        ActionType.FSYNC_UNLOCK,
        ActionType.GET_CHANGE_STREAM_STATE,
        ActionType.ISSUE_DIRECT_SHARD_OPERATIONS,
        ActionType.LIST_CLUSTER_CATALOG,
        ActionType.LIST_SAMPLED_QUERIES,
        ActionType.LIST_SEARCH_INDEXES,
        ActionType.MOVE_COLLECTION,
        ActionType.OIDC_LIST_KEYS,
        ActionType.OIDC_REFRESH_KEYS,
        ActionType.QUERY_SETTINGS,
        ActionType.QUERY_STATS_READ,
        ActionType.QUERY_STATS_READ_TRANSFORMED,
        ActionType.SET_CHANGE_STREAM_STATE,
        ActionType.TRANSITION_FROM_DEDICATED_CONFIG_SERVER,
        ActionType.TRANSITION_TO_DEDICATED_CONFIG_SERVER,
        ActionType.UNSHARD_COLLECTION,
        ActionType.UPDATE_SEARCH_INDEX,
    }
)
"""Actions that a 6.0.5 server refuses in createRole."""
