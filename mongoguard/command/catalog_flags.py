"""Flags of commands, as a 6.0.5 server's listCommands reports them (data).

In: nothing. Out: sets of command names. Must not know what a command needs.
"""

from __future__ import annotations

__all__ = ["ADMIN_ONLY", "API_V1", "BETWEEN_SERVERS", "NO_LOGIN"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ADMIN_ONLY = _words(
    """
    _addShard _configsvrAbortReshardCollection _configsvrAddShard _configsvrAddShardToZone
    _configsvrBalancerCollectionStatus _configsvrBalancerStart _configsvrBalancerStatus _configsvrBalancerStop
    _configsvrCleanupReshardCollection _configsvrClearJumboFlag _configsvrCommitChunkMigration
    _configsvrCommitChunkSplit _configsvrCommitChunksMerge _configsvrCommitMovePrimary
    _configsvrCommitReshardCollection _configsvrConfigureCollectionBalancing _configsvrCreateDatabase
    _configsvrEnsureChunkVersionIsGreaterThan _configsvrMoveChunk _configsvrMoveRange
    _configsvrRefineCollectionShardKey _configsvrRemoveChunks _configsvrRemoveShard
    _configsvrRemoveShardFromZone _configsvrRemoveTags _configsvrRepairShardedCollectionChunksHistory
    _configsvrReshardCollection _configsvrRunRestore _configsvrSetAllowMigrations
    _configsvrSetClusterParameter _configsvrSetUserWriteBlockMode _configsvrUpdateZoneKeyRange
    _flushDatabaseCacheUpdates _flushDatabaseCacheUpdatesWithWriteConcern _flushReshardingStateChange
    _flushRoutingTableCacheUpdates _flushRoutingTableCacheUpdatesWithWriteConcern _getNextSessionMods
    _getUserCacheGeneration _killOperations _mergeAuthzCollections _migrateClone _recvChunkAbort
    _recvChunkCommit _recvChunkReleaseCritSec _recvChunkStart _recvChunkStatus _shardsvrAbortReshardCollection
    _shardsvrCleanupReshardCollection _shardsvrCloneCatalogData _shardsvrCommitReshardCollection
    _shardsvrGetStatsForBalancing _shardsvrJoinMigrations _shardsvrMovePrimary _shardsvrMoveRange
    _shardsvrReshardCollection _shardsvrReshardingOperationTime _shardsvrSetClusterParameter
    _shardsvrSetUserWriteBlockMode _transferMods abortShardSplit abortTransaction appendOplogNote
    cleanupOrphaned clusterAbortTransaction clusterCommitTransaction commitShardSplit commitTransaction
    coordinateCommitTransaction currentOp donorAbortMigration donorForgetMigration donorStartMigration
    dropConnections flushRouterConfig forgetShardSplit fsync fsyncUnlock getClusterParameter getCmdLineOpts
    getDatabaseVersion getDefaultRWConcern getDiagnosticData getFreeMonitoringStatus getLog getParameter
    getShardMap getShardVersion internalRenameIfOptionsAndIndexesMatch killOp listDatabases lockInfo logRotate
    mergeChunks prepareTransaction recipientForgetMigration recipientSyncData recipientVoteImportedFiles
    renameCollection replSetAbortPrimaryCatchUp replSetFreeze replSetGetConfig replSetGetRBID replSetGetStatus
    replSetHeartbeat replSetInitiate replSetMaintenance replSetReconfig replSetRequestVotes replSetResizeOplog
    replSetStepDown replSetStepUp replSetSyncFrom replSetUpdatePosition rotateCertificates setClusterParameter
    setDefaultRWConcern setFeatureCompatibilityVersion setFreeMonitoring setParameter setShardVersion
    shardingState shutdown splitChunk top voteCommitIndexBuild waitForFailPoint
    """
)
"""Refused with 13 on another database than admin."""

API_V1 = _words(
    """
    abortTransaction aggregate authenticate collMod commitTransaction count create createIndexes delete drop
    dropDatabase dropIndexes endSessions explain find findAndModify getMore hello insert killCursors
    listCollections listDatabases listIndexes ping refreshSessions saslContinue saslStart update
    """
)
"""Part of API version 1: allowed with apiStrict."""

NO_LOGIN = _words(
    """
    _isSelf authenticate buildInfo connectionStatus getLastError getnonce hello isMaster listCommands ping
    saslContinue saslStart waitForFailPoint whatsmyuri
    """
)
"""Answered before anybody logs in."""

BETWEEN_SERVERS = _words(
    """
    _addShard _configsvrAbortReshardCollection _configsvrAddShard _configsvrAddShardToZone
    _configsvrBalancerCollectionStatus _configsvrBalancerStart _configsvrBalancerStatus _configsvrBalancerStop
    _configsvrCleanupReshardCollection _configsvrClearJumboFlag _configsvrCollMod
    _configsvrCommitChunkMigration _configsvrCommitChunkSplit _configsvrCommitChunksMerge
    _configsvrCommitMovePrimary _configsvrCommitReshardCollection _configsvrConfigureCollectionBalancing
    _configsvrCreateDatabase _configsvrEnsureChunkVersionIsGreaterThan _configsvrMoveChunk _configsvrMoveRange
    _configsvrRefineCollectionShardKey _configsvrRemoveChunks _configsvrRemoveShard
    _configsvrRemoveShardFromZone _configsvrRemoveTags _configsvrRenameCollectionMetadata
    _configsvrRepairShardedCollectionChunksHistory _configsvrReshardCollection _configsvrRunRestore
    _configsvrSetAllowMigrations _configsvrSetClusterParameter _configsvrSetUserWriteBlockMode
    _configsvrUpdateZoneKeyRange _flushDatabaseCacheUpdates _flushDatabaseCacheUpdatesWithWriteConcern
    _flushReshardingStateChange _flushRoutingTableCacheUpdates _flushRoutingTableCacheUpdatesWithWriteConcern
    _getNextSessionMods _getUserCacheGeneration _killOperations _mergeAuthzCollections _migrateClone
    _recvChunkAbort _recvChunkCommit _recvChunkReleaseCritSec _recvChunkStart _recvChunkStatus
    _shardsvrAbortReshardCollection _shardsvrCleanupReshardCollection _shardsvrCloneCatalogData
    _shardsvrCollMod _shardsvrCollModParticipant _shardsvrCommitReshardCollection
    _shardsvrCompactStructuredEncryptionData _shardsvrCreateCollection _shardsvrCreateCollectionParticipant
    _shardsvrDropCollection _shardsvrDropCollectionIfUUIDNotMatching _shardsvrDropCollectionParticipant
    _shardsvrDropDatabase _shardsvrDropDatabaseParticipant _shardsvrDropIndexes _shardsvrGetStatsForBalancing
    _shardsvrJoinMigrations _shardsvrMovePrimary _shardsvrMoveRange _shardsvrParticipantBlock
    _shardsvrRefineCollectionShardKey _shardsvrRenameCollection _shardsvrRenameCollectionParticipant
    _shardsvrRenameCollectionParticipantUnblock _shardsvrReshardCollection _shardsvrReshardingOperationTime
    _shardsvrSetAllowMigrations _shardsvrSetClusterParameter _shardsvrSetUserWriteBlockMode _transferMods
    abortShardSplit autoSplitVector clusterAbortTransaction clusterAggregate clusterCommitTransaction
    clusterDelete clusterFind clusterGetMore clusterInsert clusterUpdate commitShardSplit
    coordinateCommitTransaction donorAbortMigration donorForgetMigration donorStartMigration forgetShardSplit
    internalRenameIfOptionsAndIndexesMatch prepareTransaction recipientForgetMigration
    recipientSyncData recipientVoteImportedFiles replSetGetRBID replSetHeartbeat replSetRequestVotes
    replSetUpdatePosition setShardVersion splitChunk voteCommitIndexBuild waitForFailPoint
    """
)
"""Commands that servers and mongos send to each other; never relayed for a client.

mongod's own mergeChunks is another, but mongos offers clients one of that name: the catalogue has that.
"""
