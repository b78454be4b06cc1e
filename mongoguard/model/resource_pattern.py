"""ResourcePattern: what a privilege is about, and which patterns can match a concrete target (the search list).

In: resource documents (from usersInfo, createRole, a user file) and concrete targets (a namespace, a database, the
cluster). Out: hashable patterns. Must not know actions, users or commands.
Source: the manual's "Resource Document" page; matching measured on mongod 6.0.5 (fixtures/mongod/6.0.5).
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

__all__ = [
    "BUCKETS_PREFIX",
    "CLUSTER",
    "MAX_NAMESPACE_LENGTH",
    "MatchType",
    "ResourcePattern",
    "is_normal_collection",
    "search_list",
]

BUCKETS_PREFIX = "system.buckets."


class MatchType(IntEnum):
    """The ten ways a resource pattern can match, named as in mongod."""

    # A pattern is hashed several times for each decision; Enum's own hash is a Python function over the name.
    __hash__ = int.__hash__

    ANY_RESOURCE = 1
    CLUSTER = 2
    ANY_NORMAL = 3
    DATABASE = 4
    COLLECTION = 5
    EXACT_NAMESPACE = 6
    EXACT_BUCKETS = 7
    ANY_BUCKETS_IN_DB = 8
    BUCKETS_IN_ANY_DB = 9
    ANY_BUCKETS = 10


class ResourcePattern(NamedTuple):
    """A resource pattern; build it with the `for_…` constructors."""

    match_type: MatchType
    db: str = ""
    collection: str = ""

    @classmethod
    def for_any_resource(cls) -> ResourcePattern:
        """`{anyResource: true}`: everything, the cluster and system collections included."""
        return cls(MatchType.ANY_RESOURCE)

    @classmethod
    def for_cluster(cls) -> ResourcePattern:
        """`{cluster: true}`: the cluster resource only."""
        return cls(MatchType.CLUSTER)

    @classmethod
    def for_any_normal_resource(cls) -> ResourcePattern:
        """`{db: "", collection: ""}`: every database except local and config, and its normal collections."""
        return cls(MatchType.ANY_NORMAL)

    @classmethod
    def for_database(cls, db: str) -> ResourcePattern:
        """`{db: "d", collection: ""}`: the database and its normal collections."""
        return cls(MatchType.DATABASE, db)

    @classmethod
    def for_collection(cls, collection: str) -> ResourcePattern:
        """`{db: "", collection: "c"}`: collection c of every database."""
        return cls(MatchType.COLLECTION, "", collection)

    @classmethod
    def for_exact_namespace(cls, db: str, collection: str) -> ResourcePattern:
        """`{db: "d", collection: "c"}`: that namespace only."""
        return cls(MatchType.EXACT_NAMESPACE, db, collection)

    def to_document(self) -> dict[str, object]:
        """The resource document, as usersInfo and rolesInfo print it."""
        match self.match_type:
            case MatchType.ANY_RESOURCE:
                return {"anyResource": True}
            case MatchType.CLUSTER:
                return {"cluster": True}
            case MatchType.EXACT_BUCKETS | MatchType.ANY_BUCKETS_IN_DB:
                return {"db": self.db, "system_buckets": self.collection}
            case MatchType.BUCKETS_IN_ANY_DB | MatchType.ANY_BUCKETS:
                return {"system_buckets": self.collection}
            case _:
                return {"db": self.db, "collection": self.collection}


CLUSTER = ResourcePattern.for_cluster()


def is_normal_collection(db: str, collection: str) -> bool:
    """Whether wildcards cover this collection: not `system.*`, and in `local` not `replset.*`."""
    return not (collection.startswith("system.") or (db == "local" and collection.startswith("replset.")))


MAX_NAMESPACE_LENGTH = 255
"""Bytes in the longest namespace that a 6.0.5 server accepts. A client may write longer names (the upstream refuses
them), so lists for such names are not kept: a cache of them would grow with what clients send."""


def search_list(target: ResourcePattern) -> tuple[ResourcePattern, ...]:
    """The patterns that can match `target`, which is the cluster, a database, an exact namespace, or a wildcard.

    A wildcard target (`for_any_normal_resource`, `for_any_resource`, …) is matched by itself and by anyResource only:
    that is what mongod's checks "on any normal resource" mean.
    """
    if len(target.db) + len(target.collection) > MAX_NAMESPACE_LENGTH:
        return _build_search_list(target)
    return _kept_search_list(target)


def _build_search_list(target: ResourcePattern) -> tuple[ResourcePattern, ...]:
    any_resource = ResourcePattern.for_any_resource()
    match target.match_type:
        case MatchType.DATABASE:
            return (any_resource, *_any_normal(target.db), target)
        case MatchType.EXACT_NAMESPACE:
            return (any_resource, *_namespace_patterns(target.db, target.collection), target)
        case MatchType.ANY_RESOURCE:
            return (any_resource,)
        case _:
            return (any_resource, target)


# 8192 lists take about 8 MB; more distinct namespaces than that in use at once only cost the time to build a list.
_kept_search_list = lru_cache(maxsize=8192)(_build_search_list)


def _any_normal(db: str) -> tuple[ResourcePattern, ...]:
    return () if db in ("local", "config") else (ResourcePattern.for_any_normal_resource(),)


def _namespace_patterns(db: str, collection: str) -> tuple[ResourcePattern, ...]:
    by_name = ResourcePattern.for_collection(collection)
    if is_normal_collection(db, collection):
        return (*_any_normal(db), ResourcePattern.for_database(db), by_name)
    if collection.startswith(BUCKETS_PREFIX) and len(collection) > len(BUCKETS_PREFIX):
        suffix = collection.removeprefix(BUCKETS_PREFIX)
        return (
            ResourcePattern(MatchType.EXACT_BUCKETS, db, suffix),
            ResourcePattern(MatchType.ANY_BUCKETS_IN_DB, db),
            ResourcePattern(MatchType.BUCKETS_IN_ANY_DB, "", suffix),
            ResourcePattern(MatchType.ANY_BUCKETS),
            by_name,
        )
    return (by_name,)
