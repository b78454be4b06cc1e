"""MongoDB's built-in roles, as 6.0.5 defines them (data).

In: a role name. Out: the role with its privileges flattened, as rolesInfo shows built-in roles. Must not know users.
Six roles exist in every database but $external, twenty in admin. The composition follows the manual ("Built-In Roles");
the privileges are those that rolesInfo prints on a 6.0.5 server (fixtures/mongod/6.0.5/builtin_roles.json).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeAlias

from mongoguard.model.action_type import ActionType
from mongoguard.model.names import EXTERNAL_DB, RoleName
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import CLUSTER, MatchType, ResourcePattern
from mongoguard.model.user import Role

__all__ = ["ADMIN_ONLY_ROLE_NAMES", "BUILTIN_ROLE_NAMES", "builtin_role"]

Privileges: TypeAlias = Mapping[ResourcePattern, frozenset[str]]

ANY = ResourcePattern.for_any_resource()
ANY_NORMAL = ResourcePattern.for_any_normal_resource()
ANY_BUCKETS = ResourcePattern(MatchType.ANY_BUCKETS)
database, collection, namespace = (
    ResourcePattern.for_database,
    ResourcePattern.for_collection,
    ResourcePattern.for_exact_namespace,
)
CONFIG, LOCAL = database("config"), database("local")
ELECTION, MINVALID = namespace("local", "replset.election"), namespace("local", "replset.minvalid")


def _actions(text: str) -> frozenset[str]:
    return frozenset(ActionType(name) for name in text.split())


def _on(actions: frozenset[str], *resources: ResourcePattern) -> Privileges:
    return dict.fromkeys(resources, actions)


def _union(*parts: Privileges) -> Privileges:
    merged: dict[ResourcePattern, frozenset[str]] = {}
    for part in parts:
        for resource, actions in part.items():
            merged[resource] = merged.get(resource, frozenset()) | actions
    return merged


FIND = _actions("find")
READ = _actions(
    "changeStream collStats dbHash dbStats find killCursors listCollections listIndexes planCacheRead"
)
READ_WRITE = READ | _actions(
    "compactStructuredEncryptionData convertToCapped createCollection createIndex dropCollection dropIndex insert "
    "remove renameCollectionSameDB update"
)
WRITE_DOCUMENTS = _actions("insert remove update")
DB_ADMIN = _actions(
    "bypassDocumentValidation collMod collStats compact convertToCapped createCollection createIndex dbStats "
    "dropCollection dropDatabase dropIndex enableProfiler listCollections listIndexes planCacheIndexFilter "
    "planCacheRead planCacheWrite reIndex renameCollectionSameDB storageDetails validate"
)
DB_ADMIN_PROFILE = READ | _actions("convertToCapped createCollection dropCollection")
USER_ADMIN = _actions(
    "changeCustomData changePassword createRole createUser dropRole dropUser grantRole revokeRole "
    "setAuthenticationRestriction viewRole viewUser"
)
ENABLE_SHARDING = _actions("enableSharding refineCollectionShardKey reshardCollection")
MANAGE_CHUNKS = ENABLE_SHARDING | _actions("clearJumboFlag moveChunk splitChunk splitVector")
STATS = _actions("collStats dbStats getDatabaseVersion getShardVersion indexStats")
RESTORE = _actions(
    "bypassDocumentValidation collMod convertToCapped createCollection createIndex dropCollection insert"
)


# Roles of every database.


def _read(db: str) -> Privileges:
    return _on(READ, database(db), namespace(db, "system.js"))


def _read_write(db: str) -> Privileges:
    return _on(READ_WRITE, database(db), namespace(db, "system.js"))


def _db_admin(db: str) -> Privileges:
    return _union(_on(DB_ADMIN, database(db)), _on(DB_ADMIN_PROFILE, namespace(db, "system.profile")))


def _user_admin(db: str) -> Privileges:
    return _on(USER_ADMIN, database(db))


def _db_owner(db: str) -> Privileges:
    return _union(_read_write(db), _db_admin(db), _user_admin(db))


def _enable_sharding(_db: str) -> Privileges:
    return _on(ENABLE_SHARDING, ANY_NORMAL)  # the server grants it everywhere, whatever the role's database


_IN_EVERY_DATABASE: Mapping[str, Callable[[str], Privileges]] = {
    "dbAdmin": _db_admin,
    "dbOwner": _db_owner,
    "enableSharding": _enable_sharding,
    "read": _read,
    "readWrite": _read_write,
    "userAdmin": _user_admin,
}

# Roles of admin only.

READ_ANY_DATABASE = _union(
    _on(READ, ANY_NORMAL, ANY_BUCKETS, collection("system.js")), _on(_actions("listDatabases"), CLUSTER)
)
READ_WRITE_ANY_DATABASE = _union(
    READ_ANY_DATABASE, _on(READ_WRITE, ANY_NORMAL, ANY_BUCKETS, collection("system.js"))
)
DB_ADMIN_ANY_DATABASE = _union(
    _on(DB_ADMIN, ANY_NORMAL, ANY_BUCKETS),
    _on(DB_ADMIN_PROFILE, collection("system.profile")),
    _on(_actions("applyOps listDatabases"), CLUSTER),
)
USER_ADMIN_ANY_DATABASE = _union(
    _on(USER_ADMIN, ANY_NORMAL, CONFIG, LOCAL),
    _on(_actions("listCachedAndActiveUsers"), ANY_NORMAL),
    _on(_actions("authSchemaUpgrade invalidateUserCache listDatabases viewUser"), CLUSTER),
    _on(
        READ,
        collection("system.users"),
        namespace("admin", "system.users"),
        namespace("admin", "system.roles"),
        namespace("admin", "system.version"),
        namespace("admin", "system.backup_users"),
    ),
    _on(
        _actions("createIndex dropIndex"),
        namespace("admin", "system.users"),
        namespace("admin", "system.roles"),
    ),
)
CLUSTER_MONITOR = _union(
    _on(
        _actions(
            "allCollectionStats checkFreeMonitoringStatus connPoolStats getCmdLineOpts getDefaultRWConcern getLog "
            "getParameter getShardMap hostInfo inprog listDatabases listSessions listShards netstat operationMetrics "
            "replSetGetConfig replSetGetStatus serverStatus shardedDataDistribution shardingState top useUUID"
        ),
        CLUSTER,
    ),
    _on(STATS, ANY_NORMAL, CONFIG, LOCAL, namespace("config", "system.sessions")),
    _read("config"),
    _read("local"),
    _on(FIND, ELECTION, MINVALID, namespace("local", "system.replset"), collection("system.profile")),
)
HOST_MANAGER = _union(
    _on(
        _actions(
            "applicationMessage auditConfigure connPoolSync dropConnections flushRouterConfig fsync "
            "invalidateUserCache killAnyCursor killAnySession killop logRotate oidReset replSetResizeOplog resync "
            "rotateCertificates setParameter shutdown touch trafficRecord unlock"
        ),
        CLUSTER,
    ),
    _on(_actions("killCursors"), ANY_NORMAL),
)
CLUSTER_MANAGER = _union(
    _on(
        _actions(
            "addShard appendOplogNote applicationMessage cleanupOrphaned flushRouterConfig getClusterParameter "
            "getDefaultRWConcern listSessions listShards removeShard replSetConfigure replSetGetConfig "
            "replSetGetStatus replSetStateChange resync runTenantMigration setClusterParameter setDefaultRWConcern "
            "setFeatureCompatibilityVersion setFreeMonitoring"
        ),
        CLUSTER,
    ),
    _on(_actions("dbCheck"), ANY),
    _on(MANAGE_CHUNKS, ANY_NORMAL, ANY_BUCKETS, CONFIG, LOCAL),
    _read("config"),
    _on(WRITE_DOCUMENTS, CONFIG, LOCAL, ELECTION, MINVALID),
    _on(READ, namespace("local", "system.healthlog"), namespace("local", "system.replset")),
)
CLUSTER_ADMIN = _union(
    CLUSTER_MONITOR,
    HOST_MANAGER,
    CLUSTER_MANAGER,
    _on(_actions("dropDatabase"), ANY_NORMAL),
    _on(_actions("exportCollection importCollection"), ANY),
)
QUERYABLE_BACKUP = _union(
    _on(_actions("collStats listCollections listIndexes"), ANY),
    _on(_actions("getParameter listDatabases useUUID"), CLUSTER),
    _on(
        FIND,
        ANY_NORMAL,
        ANY_BUCKETS,
        CONFIG,
        LOCAL,
        ELECTION,
        MINVALID,
        namespace("config", "settings"),
        namespace("admin", "system.backup_users"),
        namespace("admin", "system.roles"),
        namespace("admin", "system.version"),
        collection("system.js"),
        collection("system.profile"),
        collection("system.users"),
    ),
)
BACKUP = _union(
    QUERYABLE_BACKUP,
    _on(_actions("appendOplogNote serverStatus setUserWriteBlockMode"), CLUSTER),
    _on(_actions("insert update"), namespace("config", "settings")),
)
RESTORE_ROLE = _union(
    _on(_actions("listCollections"), ANY),
    _on(
        _actions("applyOps bypassWriteBlockingMode forceUUID getParameter setUserWriteBlockMode useUUID"),
        CLUSTER,
    ),
    _on(RESTORE | USER_ADMIN, ANY_NORMAL),
    _on(
        RESTORE,
        ANY_BUCKETS,
        CONFIG,
        LOCAL,
        ELECTION,
        MINVALID,
        namespace("local", "system.replset"),
        namespace("admin", "system.backup_users"),
        collection("system.js"),
    ),
    _on(RESTORE | WRITE_DOCUMENTS | FIND, collection("system.users")),
    _on(RESTORE | FIND, namespace("admin", "system.version")),
    _on(_actions("createIndex"), namespace("admin", "system.roles")),
    _on(FIND, namespace("admin", "temproles"), namespace("admin", "tempusers")),
)
ROOT = _union(
    CLUSTER_ADMIN,
    USER_ADMIN_ANY_DATABASE,
    DB_ADMIN_ANY_DATABASE,
    READ_WRITE_ANY_DATABASE,
    BACKUP,
    RESTORE_ROLE,
    _on(_actions("validate"), ANY),
    _on(_actions("useTenant"), CLUSTER),
    _on(_actions("find remove"), namespace("config", "system.preimages")),
)

_IN_ADMIN: Mapping[str, Privileges] = {
    "__queryableBackup": QUERYABLE_BACKUP,
    "__system": _on(_actions("anyAction"), ANY),
    "backup": BACKUP,
    "clusterAdmin": CLUSTER_ADMIN,
    "clusterManager": CLUSTER_MANAGER,
    "clusterMonitor": CLUSTER_MONITOR,
    "dbAdminAnyDatabase": DB_ADMIN_ANY_DATABASE,
    "directShardOperations": {},  # exists in 6.0.5 with no privileges at all
    "hostManager": HOST_MANAGER,
    "readAnyDatabase": READ_ANY_DATABASE,
    "readWriteAnyDatabase": READ_WRITE_ANY_DATABASE,
    "restore": RESTORE_ROLE,
    "root": ROOT,
    "userAdminAnyDatabase": USER_ADMIN_ANY_DATABASE,
}

BUILTIN_ROLE_NAMES: frozenset[str] = frozenset(_IN_EVERY_DATABASE)
"""Names of the built-in roles of every database except $external."""

ADMIN_ONLY_ROLE_NAMES: frozenset[str] = frozenset(_IN_ADMIN)
"""Names of the built-in roles that exist in admin besides those."""


@lru_cache(maxsize=1024)  # a role of each of a thousand databases; a Role of this table takes a few kilobytes
def builtin_role(name: RoleName) -> Role | None:
    """The built-in role of that name on that database, flattened; None when the database has none of that name."""
    if not name.db or name.db == EXTERNAL_DB:
        return None
    if name.role in _IN_EVERY_DATABASE:
        privileges = _IN_EVERY_DATABASE[name.role](name.db)
    elif name.db == "admin" and name.role in _IN_ADMIN:
        privileges = _IN_ADMIN[name.role]
    else:
        return None
    return Role(name, tuple(Privilege(*item) for item in privileges.items()), is_builtin=True)
