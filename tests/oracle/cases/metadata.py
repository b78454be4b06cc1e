"""Cases whose reply depends on who asks: lists of databases and collections, users, roles, one's own status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from bson import Binary, Int64

from tests.oracle.cases.case import SELF, Case, Result, cases

__all__ = ["CASES", "LISTED_DATABASE"]

LISTED_DATABASE = "lists"
"""A database that no case changes, so that what is listed of it can be compared."""

_ABSENT = object()


def _with_flags(
    command: Mapping[str, Any], flags: Mapping[str, tuple[Any, ...]]
) -> Iterator[Mapping[str, Any]]:
    """Every combination of the flags' values; `_ABSENT` leaves the flag out."""
    for values in product(*flags.values()):
        given = dict(zip(flags, values, strict=True))
        yield {**command, **{name: value for name, value in given.items() if value is not _ABSENT}}


_FLAG = (_ABSENT, True, False)
_COLLECTION_LISTS = [
    *_with_flags({"listCollections": 1}, {"nameOnly": _FLAG, "authorizedCollections": _FLAG}),
    {
        "listCollections": 1,
        "nameOnly": True,
        "authorizedCollections": True,
        "filter": {"name": {"$regex": "^[a-s]"}},
    },
    {"listCollections": 1, "nameOnly": True, "authorizedCollections": True, "filter": {"type": "view"}},
    {"listCollections": 1, "nameOnly": True, "authorizedCollections": True, "cursor": {"batchSize": 100}},
    {"listCollections": 1.0, "nameOnly": True, "authorizedCollections": True},
]
_DATABASE_LISTS = [
    *_with_flags({"listDatabases": 1}, {"nameOnly": _FLAG, "authorizedDatabases": _FLAG}),
    {"listDatabases": 1, "filter": {"name": {"$in": ["t", "admin", "lists"]}}},
    {"listDatabases": 1, "nameOnly": True, "filter": {"name": "t2"}},
    {"listDatabases": 1, "authorizedDatabases": None},
]
_PARSED_FIRST: list[Mapping[str, Any]] = [
    {"listCollections": 1, "nameOnly": 1, "authorizedCollections": 1},
    {"listCollections": 1, "nameOnly": "yes"},
    {"listCollections": 1, "bogus": 1},
]
_DATABASE_PARSED_FIRST: list[Mapping[str, Any]] = [
    {"listDatabases": 1, "authorizedDatabases": 1},
    {"listDatabases": 1, "authorizedDatabases": "no"},
    {"listDatabases": 1, "bogus": 1},
]

_USERS_INFOS: list[Mapping[str, Any]] = [
    {"usersInfo": 1},
    {"usersInfo": 1.0},
    {"usersInfo": Int64(1)},
    {"usersInfo": 1, "showPrivileges": True},
    {"usersInfo": 1, "showCredentials": True},
    {"usersInfo": 1, "showCustomData": False},
    {"usersInfo": 1, "filter": {"user": "zu"}},
    {"usersInfo": "zu"},
    {"usersInfo": "zu", "showPrivileges": True},
    {"usersInfo": "zu", "showCredentials": True},
    {"usersInfo": "zu", "showAuthenticationRestrictions": True},
    {"usersInfo": "zu", "showPrivileges": True, "filter": {}},
    {"usersInfo": "nobody"},
    {"usersInfo": ""},
    {"usersInfo": {"user": "zu", "db": "t"}},
    {"usersInfo": {"user": "zu", "db": "t2"}},
    {"usersInfo": {"user": "fixed", "db": "admin"}},
    {"usersInfo": {"user": "x", "db": "$external"}},
    {"usersInfo": ["zu", {"user": "zv", "db": "t"}]},
    {"usersInfo": ["zu", {"user": "fixed", "db": "admin"}]},
    {"usersInfo": [SELF, {"user": SELF, "db": "admin"}]},
    {"usersInfo": [{"user": SELF, "db": "admin"}]},
    {"usersInfo": {"user": SELF, "db": "admin"}},
    {"usersInfo": {"user": SELF, "db": "admin"}, "showPrivileges": True},
    {"usersInfo": {"user": SELF, "db": "admin"}, "showCredentials": True},
    {"usersInfo": {"user": SELF, "db": "t"}},
    {"usersInfo": {"forAllDBs": True}, "filter": {"user": {"$in": ["zu", "zv", "fixed"]}}},
    {"usersInfo": {"forAllDBs": True}, "showPrivileges": True},
    {"usersInfo": {"forAllDBs": False}},
    {"usersInfo": {"forAllDBs": 1}},
    {"usersInfo": {"forAllDBs": "yes"}},
    {"usersInfo": []},
    {"usersInfo": 0},
    {"usersInfo": 2},
    {"usersInfo": 1.5},
    {"usersInfo": True},
    {"usersInfo": None},
    {"usersInfo": {}},
    {"usersInfo": {"user": "zu"}},
    {"usersInfo": {"user": "zu", "db": 5}},
    {"usersInfo": {"user": "zu", "db": "t", "x": 1}},
    {"usersInfo": [5]},
    {"usersInfo": [[]]},
    {"usersInfo": 1, "bogus": 1},
]
_ROLES_INFOS: list[Mapping[str, Any]] = [
    {"rolesInfo": 1},
    {"rolesInfo": 1, "showBuiltinRoles": True},
    {"rolesInfo": 1, "showBuiltinRoles": True, "showPrivileges": True},
    {"rolesInfo": 1, "showPrivileges": True},
    {"rolesInfo": 1, "showAuthenticationRestrictions": True},
    {"rolesInfo": 1, "showPrivileges": "asUserFragment"},
    {"rolesInfo": "read"},
    {"rolesInfo": "read", "showPrivileges": True},
    {"rolesInfo": "read", "showPrivileges": "asUserFragment"},
    {"rolesInfo": "zr"},
    {"rolesInfo": "zr", "showPrivileges": True},
    {"rolesInfo": "zr", "showAuthenticationRestrictions": True},
    {"rolesInfo": "missing"},
    {"rolesInfo": {"role": "read", "db": "t2"}},
    {"rolesInfo": {"role": "read", "db": "t"}},
    {"rolesInfo": {"role": "root", "db": "admin"}},
    {"rolesInfo": {"role": "readAnyDatabase", "db": "admin"}, "showPrivileges": True},
    {"rolesInfo": {"role": SELF, "db": "admin"}},
    {"rolesInfo": {"role": SELF, "db": "admin"}, "showPrivileges": True},
    {"rolesInfo": [{"role": SELF, "db": "admin"}, "read"]},
    {"rolesInfo": ["read", "readWrite"]},
    {"rolesInfo": ["read", {"role": "read", "db": "t2"}]},
    {"rolesInfo": []},
    {"rolesInfo": 0},
    {"rolesInfo": 2},
    {"rolesInfo": 1.5},
    {"rolesInfo": True},
    {"rolesInfo": None},
    {"rolesInfo": {}},
    {"rolesInfo": {"role": "read"}},
    {"rolesInfo": {"role": "read", "db": "t", "x": 1}},
    {"rolesInfo": {"forAllDBs": True}},
    {"rolesInfo": ""},
    {"rolesInfo": [5]},
    {"rolesInfo": 1, "bogus": 1},
]
_STATUS: list[Mapping[str, Any]] = [
    {"connectionStatus": 1},
    {"connectionStatus": 1, "showPrivileges": True},
    {"connectionStatus": 1, "showPrivileges": 1},
    {"connectionStatus": 1, "showPrivileges": False},
]

CASES: list[Case] = [
    *cases(LISTED_DATABASE, _COLLECTION_LISTS, result=Result.COLLECTIONS),
    *cases("t", _COLLECTION_LISTS[:9]),
    *cases("admin", _COLLECTION_LISTS[:9]),
    *cases("config", _COLLECTION_LISTS[:9]),
    *cases("local", _COLLECTION_LISTS[:9]),
    *cases("missing", _COLLECTION_LISTS[:9], result=Result.COLLECTIONS),
    *cases("$external", _COLLECTION_LISTS[4:5]),
    *cases("t", _PARSED_FIRST),
    *cases("admin", _DATABASE_LISTS, result=Result.DATABASES),
    *cases("t", _DATABASE_LISTS[:1]),
    *cases("admin", _DATABASE_PARSED_FIRST),
    *cases("t", _USERS_INFOS, result=Result.USERS),
    *cases("t2", _USERS_INFOS[7:9], result=Result.USERS),
    *cases(
        "admin", ({"usersInfo": SELF}, {"usersInfo": [SELF]}, {"usersInfo": "fixed"}), result=Result.USERS
    ),
    *cases("$external", ({"usersInfo": 1}, {"usersInfo": "x"}), result=Result.USERS),
    *cases("t", _ROLES_INFOS, result=Result.ROLES),
    *cases("admin", ({"rolesInfo": SELF}, {"rolesInfo": "root"}), result=Result.ROLES),
    *cases("admin", _STATUS, result=Result.STATUS),
    *cases("t", _STATUS[:1], result=Result.STATUS),
    *cases(
        "t",
        (
            {"dbStats": 1},
            {"dbstats": 1},
            {"dbStats": 1, "scale": 1024},
            {"dbHash": 1},
            {"dbhash": 1},
            {"dbHash": 1, "collections": ["c"]},
            {"collStats": "c"},
            {"collstats": "c"},
            {"collStats": "missing"},
            {"collStats": "system.js"},
            {"collStats": "system.views"},
            {"collStats": "vw"},
            {"collStats": ""},
            {"dataSize": "t.missing"},
            {"datasize": "t.missing"},
            {"dataSize": "t2.missing"},
            {"dataSize": "t.system.missing"},
            {"dataSize": "missing"},
            {"dataSize": 5},
            {"validate": "missing"},
            {"validate": "system.missing"},
            {"planCacheClear": "missing"},
            {"planCacheListFilters": "missing"},
            {"planCacheListFilters": "system.missing"},
            {"planCacheSetFilter": "missing", "query": {}, "indexes": []},
            {"planCacheClearFilters": "missing"},
            {"filemd5": 1},
            {"filemd5": 1, "root": "gs"},
            {"filemd5": 1, "root": 5},
            {"splitVector": "t.missing", "keyPattern": {"a": 1}},
            {"splitVector": "t2.missing", "keyPattern": {"a": 1}},
            {"checkShardingIndex": "t.missing", "keyPattern": {"a": 1}},
            {"checkShardingIndex": "t2.missing", "keyPattern": {"a": 1}},
            {"validateDBMetadata": 1, "apiParameters": {"version": "1"}, "db": "t2"},
            {"validateDBMetadata": 1, "apiParameters": {"version": "1"}, "db": "t", "collection": "missing"},
            {"validateDBMetadata": 1, "apiParameters": {"version": "1"}, "db": "config"},
            {"validateDBMetadata": 1},
            {"dbCheck": "missing"},
            {"profile": -1},
            {"profile": Int64(-1)},
            {"profile": -1.0},
            {"profile": 0},
            {"profile": 7},
            {"profile": -1, "slowms": 100},
            {"profile": -1, "sampleRate": 1.0},
            {"profile": -1, "filter": "unset"},
            {"profile": "x"},
            {"profile": True},
        ),
    ),
    *cases("t2", ({"dbStats": 1}, {"profile": -1}, {"profile": 0}, {"dbHash": 1}, {"collStats": "c2"})),
    *cases("admin", ({"dbStats": 1}, {"profile": -1}, {"dbHash": 1}, {"collStats": "system.users"})),
    *cases("config", ({"dbStats": 1}, {"profile": -1}, {"dbHash": 1}, {"collStats": "settings"})),
    *cases("local", ({"dbStats": 1}, {"profile": -1}, {"dbHash": 1}, {"collStats": "oplog.rs"})),
    *cases("t", ({"collStats": Binary(b"x" * 16, 4)}, {"drop": Binary(b"x" * 16, 4)})),
]
