"""Cases of user and role management: whose, which roles, which privileges, on which database.

Seeded on both sides: users zu, zv of t (zv holds root@admin), fixed of admin; roles zr of t and zadmin of admin.
Names that exist are created and names that do not are changed, so that what is allowed changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.oracle.cases.case import SELF, Case, cases

__all__ = ["CASES", "PRIVILEGES", "ROLE_LISTS"]

_RESTRICTION = [{"clientSource": ["127.0.0.1"]}]
ROLE_LISTS: tuple[list[Any], ...] = (
    [],
    ["read"],
    [{"role": "read", "db": "t"}],
    [{"role": "read", "db": "t2"}],
    [{"role": "root", "db": "admin"}],
    ["read", {"role": "read", "db": "t2"}],
    ["missing"],
    [{"role": "read", "db": "local"}],
)
_BAD_ROLE_LISTS: tuple[Any, ...] = (
    5,
    "read",
    [5],
    [{}],
    [{"role": "read"}],
    [{"role": "read", "db": 5}],
    [{"role": "read", "db": "t", "x": 1}],
    [{"user": "read", "db": "t"}],
)


def _privilege(resource: Mapping[str, Any], *actions: str) -> dict[str, Any]:
    return {"resource": resource, "actions": list(actions)}


PRIVILEGES: tuple[list[Any], ...] = (
    [],
    [_privilege({"db": "t", "collection": ""}, "find")],
    [_privilege({"db": "t", "collection": "c"}, "find", "insert")],
    [_privilege({"db": "t2", "collection": "c"}, "find")],
    [_privilege({"db": "", "collection": ""}, "find")],
    [_privilege({"db": "", "collection": "c"}, "find")],
    [_privilege({"db": "admin", "collection": ""}, "find")],
    [_privilege({"cluster": True}, "inprog")],
    [_privilege({"anyResource": True}, "anyAction")],
    [_privilege({"db": "t", "system_buckets": "c"}, "find")],
    [_privilege({"db": "t", "system_buckets": ""}, "find")],
    [_privilege({"system_buckets": "c"}, "find")],
    [_privilege({"db": "t", "collection": ""}, "find"), _privilege({"cluster": True}, "inprog")],
)
_BAD_PRIVILEGES: tuple[Any, ...] = (
    5,
    [5],
    [{}],
    [{"resource": {"db": "t", "collection": ""}}],
    [{"actions": ["find"]}],
    [_privilege({"db": "t"}, "find")],
    [_privilege({"cluster": False}, "find")],
    [_privilege({"cluster": 1}, "find")],
    [_privilege({"db": "t", "collection": "", "cluster": True}, "find")],
    [_privilege({}, "find")],
    [_privilege({"db": "t", "collection": ""}, "bogus")],
    [_privilege({"db": "t", "collection": ""})],
    [{**_privilege({"db": "t", "collection": ""}, "find"), "x": 1}],
)


def _create_users() -> list[Mapping[str, Any]]:
    base = {"createUser": "zu", "pwd": "pw"}
    return [
        *({**base, "roles": roles} for roles in ROLE_LISTS),
        *({**base, "roles": roles} for roles in _BAD_ROLE_LISTS),
        {**base, "roles": [], "authenticationRestrictions": []},
        {**base, "roles": [], "authenticationRestrictions": _RESTRICTION},
        {**base, "roles": ["read"], "authenticationRestrictions": _RESTRICTION, "customData": {"a": 1}},
        {**base, "roles": [], "mechanisms": ["SCRAM-SHA-1"]},
        {**base, "roles": [], "digestPassword": True},
        {**base, "roles": [], "writeConcern": {"w": 1}},
        base,
        {"createUser": "zu", "roles": []},
        {"createUser": 5, "pwd": "pw", "roles": []},
        {"createUser": "", "pwd": "pw", "roles": []},
        {**base, "roles": [], "bogus": 1},
        {**base, "roles": [], "authenticationRestrictions": [{"bogus": []}]},
        {**base, "roles": [], "authenticationRestrictions": "x"},
    ]


def _update_users(name: str) -> list[Mapping[str, Any]]:
    base = {"updateUser": name}
    return [
        {**base, "pwd": "rig"},
        {**base, "pwd": "rig", "mechanisms": ["SCRAM-SHA-256"]},
        {**base, "pwd": "rig", "digestPassword": True},
        {**base, "pwd": 5},
        {**base, "customData": {"a": 1}},
        {**base, "customData": {}, "pwd": "rig"},
        *({**base, "roles": roles} for roles in ROLE_LISTS),
        {**base, "roles": 5},
        {**base, "authenticationRestrictions": []},
        {**base, "authenticationRestrictions": _RESTRICTION},
        {**base, "authenticationRestrictions": [], "customData": {}},
        {**base, "mechanisms": ["SCRAM-SHA-256"]},
        {**base, "mechanisms": []},
        {**base, "digestPassword": True},
        base,
        {**base, "bogus": 1},
    ]


_UPDATE_SELF: list[Mapping[str, Any]] = [
    {"updateUser": SELF, "customData": {"a": 1}},
    {"updateUser": SELF, "pwd": "rig", "mechanisms": ["SCRAM-SHA-256"]},
    {"updateUser": SELF, "pwd": "rig", "customData": {"a": 1}, "mechanisms": ["SCRAM-SHA-256"]},
    {"updateUser": SELF, "mechanisms": ["SCRAM-SHA-256"]},
]


def _create_roles() -> list[Mapping[str, Any]]:
    base = {"createRole": "zr"}
    return [
        *({**base, "privileges": [], "roles": roles} for roles in ROLE_LISTS),
        *({**base, "privileges": [], "roles": roles} for roles in _BAD_ROLE_LISTS[:5]),
        *({**base, "privileges": privileges, "roles": []} for privileges in PRIVILEGES),
        *({**base, "privileges": privileges, "roles": []} for privileges in _BAD_PRIVILEGES),
        {**base, "privileges": PRIVILEGES[2], "roles": ROLE_LISTS[3]},
        {**base, "privileges": [], "roles": [], "authenticationRestrictions": []},
        {**base, "privileges": [], "roles": [], "authenticationRestrictions": _RESTRICTION},
        {**base, "roles": []},
        {**base, "privileges": []},
        {**base, "privileges": [], "roles": [], "bogus": 1},
        {"createRole": 5, "privileges": [], "roles": []},
        {"createRole": "", "privileges": [], "roles": []},
        {"createRole": "read", "privileges": [], "roles": []},
    ]


def _update_roles() -> list[Mapping[str, Any]]:
    base = {"updateRole": "missing"}
    return [
        *({**base, "roles": roles} for roles in ROLE_LISTS),
        *({**base, "privileges": privileges} for privileges in PRIVILEGES),
        *({**base, "privileges": privileges} for privileges in _BAD_PRIVILEGES[:6]),
        {**base, "privileges": PRIVILEGES[2], "roles": ROLE_LISTS[3]},
        {**base, "authenticationRestrictions": []},
        {**base, "authenticationRestrictions": _RESTRICTION, "roles": []},
        base,
        {"updateRole": 5, "roles": []},
    ]


def _grants() -> list[Mapping[str, Any]]:
    to_users = ("grantRolesToUser", "revokeRolesFromUser")
    to_roles = ("grantRolesToRole", "revokeRolesFromRole")
    privileges = ("grantPrivilegesToRole", "revokePrivilegesFromRole")
    return [
        *({name: "missing", "roles": roles} for name in (*to_users, *to_roles) for roles in ROLE_LISTS),
        *({name: "missing", "roles": roles} for name in (*to_users, *to_roles) for roles in _BAD_ROLE_LISTS),
        *({name: "zu", "roles": ["missing"]} for name in to_users),
        *({name: "missing", "privileges": given} for name in privileges for given in PRIVILEGES),
        *({name: "missing", "privileges": given} for name in privileges for given in _BAD_PRIVILEGES),
        *({name: "missing"} for name in (*to_users, *to_roles, *privileges)),
        *({name: 5, "roles": ["read"]} for name in (*to_users, *to_roles)),
        *({name: "missing", "roles": ["read"], "bogus": 1} for name in (*to_users, *to_roles)),
    ]


_DROPS: list[Mapping[str, Any]] = [
    {"dropUser": "missing"},
    {"dropUser": 5},
    {"dropUser": "missing", "bogus": 1},
    {"dropRole": "missing"},
    {"dropRole": "read"},
    {"dropRole": 5},
]
_DROP_ALL: list[Mapping[str, Any]] = [{"dropAllUsersFromDatabase": 1}, {"dropAllRolesFromDatabase": 1}]

CASES: list[Case] = [
    *cases("t", _create_users()),
    *cases("t", _update_users("missing")),
    *cases("admin", _update_users("missing")[:16]),
    *cases("admin", _UPDATE_SELF),
    *cases("t", _UPDATE_SELF[:2]),
    *cases("t", _create_roles()),
    *cases("t", _update_roles()),
    *cases("t", _grants()),
    *cases("t", _DROPS),
    *cases("t3", _DROP_ALL),
    *cases("admin", ({"createUser": "fixed", "pwd": "pw", "roles": roles} for roles in ROLE_LISTS)),
    *cases("admin", ({"createRole": "zadmin", "privileges": p, "roles": []} for p in PRIVILEGES)),
    *cases("admin", ({"createRole": "zadmin", "privileges": [], "roles": roles} for roles in ROLE_LISTS)),
    *cases("admin", ({"grantRolesToRole": "missing", "roles": roles} for roles in ROLE_LISTS)),
    *cases("admin", _DROPS[:1] + _DROPS[3:4]),
    *cases("$external", ({"createUser": "zx", "roles": roles} for roles in (*ROLE_LISTS[6:7], [5]))),
    *cases("$external", ({"dropUser": "missing"}, {"createUser": "zx", "pwd": "x", "roles": []})),
    *cases(
        "local", ({"createUser": "zx", "pwd": "x", "roles": []}, {"dropUser": "missing"}, {"usersInfo": 1})
    ),
    *cases("local", ({"createRole": "zx", "privileges": [], "roles": []}, {"rolesInfo": 1})),
    *cases("config", ({"createUser": "zx", "pwd": "x", "roles": ["missing"]}, {"dropRole": "missing"})),
]
