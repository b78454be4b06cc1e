"""User and role management through mongoguard, step by step as on mongod: every reply, and what it changes for whom.

A story is a list of steps: who, on which database, which command. It is told on a mongod directly and through
mongoguard in front of another one, over connections that stay open; both must answer every step alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from tests.rawwire import RawConnection
from tests.servers import ROOT, Client, Guard, Mongod, password_of

DB = "managed"
Step = tuple[str, str, Mapping[str, Any]]

_FIND = {"find": "c", "limit": 1, "singleBatch": True}
_INSERT = {"insert": "c", "documents": [{"_id": 1}]}
_UNMET = [{"clientSource": ["203.0.113.7"]}]
_MET = [{"clientSource": ["127.0.0.0/8"], "serverAddress": ["127.0.0.1"]}]


def _create(user: str, *roles: Any, **more: Any) -> Step:
    return (ROOT, DB, {"createUser": user, "pwd": password_of(user), "roles": list(roles), **more})


def _root(db: str = DB, **command: Any) -> Step:
    return (ROOT, db, command)


def _as(user: str, db: str = DB, **command: Any) -> Step:
    return (user, db, command)


def _tries(user: str) -> list[Step]:
    return [(user, DB, _FIND), (user, DB, _INSERT), _as(user, connectionStatus=1, showPrivileges=True)]


def _privilege(collection: str, *actions: str) -> dict[str, Any]:
    return {"resource": {"db": DB, "collection": collection}, "actions": list(actions)}


STORIES: Mapping[str, Sequence[Step]] = {
    "a role granted to a user holds for the next command, and so does its revocation": [
        _create("u"),
        *_tries("u"),
        _root(grantRolesToUser="u", roles=["read"]),
        *_tries("u"),
        _root(grantRolesToUser="u", roles=["readWrite", {"role": "read", "db": "other"}]),
        *_tries("u"),
        _root(revokeRolesFromUser="u", roles=["readWrite", "read"]),
        *_tries("u"),
        _root(updateUser="u", roles=["dbAdmin"]),
        *_tries("u"),
        _root(updateUser="u", roles=[]),
        *_tries("u"),
    ],
    "a changed role changes its holders": [
        _root(createRole="r", privileges=[], roles=[]),
        _create("u", "r"),
        *_tries("u"),
        _root(grantPrivilegesToRole="r", privileges=[_privilege("c", "find")]),
        *_tries("u"),
        _root(revokePrivilegesFromRole="r", privileges=[_privilege("c", "find")]),
        *_tries("u"),
        _root(grantRolesToRole="r", roles=["readWrite"]),
        *_tries("u"),
        _root(revokeRolesFromRole="r", roles=["readWrite"]),
        *_tries("u"),
        _root(updateRole="r", privileges=[_privilege("", "find", "insert")], roles=["dbAdmin"]),
        *_tries("u"),
        _root(dropRole="r"),
        *_tries("u"),
        _root(rolesInfo="r"),
        _root(usersInfo="u"),
    ],
    "inherited roles of inherited roles": [
        _root(createRole="a", privileges=[], roles=[]),
        _root(createRole="b", privileges=[], roles=["a"]),
        _root(createRole="d", privileges=[], roles=["b"], authenticationRestrictions=_MET),
        _create("u", "d"),
        *_tries("u"),
        _root(grantPrivilegesToRole="a", privileges=[_privilege("c", "find")]),
        *_tries("u"),
        _as("u", rolesInfo="d", showPrivileges=True),
        _as("u", rolesInfo="b"),
        _root(rolesInfo=["a", "d"], showPrivileges=True, showAuthenticationRestrictions=True),
        _root(rolesInfo=1, showPrivileges="asUserFragment"),
        _root(grantRolesToRole="a", roles=["d"]),
        _root(grantRolesToRole="a", roles=["a"]),
        _root(dropRole="b"),
        *_tries("u"),
        _root(rolesInfo="d"),
    ],
    "a dropped user is logged out, and one made again with the same name is another": [
        _create("u", "read"),
        *_tries("u"),
        _root(dropUser="u"),
        *_tries("u"),
        _create("u", "readWrite"),
        *_tries("u"),
        _root(dropAllUsersFromDatabase=1),
        _root(dropAllUsersFromDatabase=1),
        _root(dropUser="u"),
    ],
    "dropping and making a user again between two commands logs out": [
        _create("u", "read"),
        *_tries("u"),
        _root(dropUser="u"),
        _create("u", "read"),
        *_tries("u"),
    ],
    "a new password logs nobody out": [
        _create("u", "read"),
        *_tries("u"),
        _root(updateUser="u", pwd="another"),
        *_tries("u"),
    ],
    "an unmet restriction logs out": [
        _create("u", "read"),
        *_tries("u"),
        _root(updateUser="u", authenticationRestrictions=_MET),
        *_tries("u"),
        _root(updateUser="u", authenticationRestrictions=_UNMET),
        *_tries("u"),
        _root(usersInfo="u", showAuthenticationRestrictions=True),
    ],
    "an unmet restriction of a role logs out": [
        _root(createRole="far", privileges=[], roles=[], authenticationRestrictions=_UNMET),
        _root(createRole="heir", privileges=[], roles=["far"]),
        _create("u", "read"),
        *_tries("u"),
        _root(grantRolesToUser="u", roles=["heir"]),
        *_tries("u"),
        _root(usersInfo="u", showPrivileges=True),
    ],
    "one's own password and custom data need actions of their own": [
        _root(
            createRole="own",
            privileges=[_privilege("", "changeOwnPassword", "changeOwnCustomData")],
            roles=[],
        ),
        _create("u", "own", customData={"a": 1}),
        _create("v"),
        _as("u", updateUser="u", customData={"a": 2}),
        _as("u", updateUser="u", pwd="other"),
        _as("u", updateUser="v", customData={"a": 2}),
        _as("u", updateUser="v", pwd="other"),
        _as("u", updateUser="u", roles=["root"]),
        _as("v", updateUser="v", customData={"a": 2}),
        _as("u", usersInfo="u"),
        _as("u", usersInfo="u", showCustomData=False),
        _as("u", usersInfo="v"),
        _as("u", usersInfo=["u", "v"]),
    ],
    "who grants": [
        _create("manager", "userAdmin"),
        _as("manager", createUser="w", pwd="x", roles=["read"]),
        _as("manager", createUser="x", pwd="x", roles=[{"role": "read", "db": "other"}]),
        _as("manager", createRole="reads", privileges=[_privilege("", "find")], roles=["read"]),
        _as(
            "manager",
            createRole="r",
            privileges=[{"resource": {"cluster": True}, "actions": ["top"]}],
            roles=[],
        ),
        _as("manager", grantRolesToUser="w", roles=["reads"]),
        _as("manager", grantRolesToUser="w", roles=[{"role": "root", "db": "admin"}]),
        _as("manager", updateUser="w", roles=["read"]),
        _as("manager", updateRole="reads", roles=[]),
        _as("manager", usersInfo=1),
        _as("manager", usersInfo={"forAllDBs": True}),
        _as("manager", rolesInfo=1),
        _as("manager", dropUser="w"),
        _as("manager", dropAllRolesFromDatabase=1),
        _as("manager", invalidateUserCache=1),
        _as("manager", "admin", invalidateUserCache=1),
        _root("admin", invalidateUserCache=1),
        *_tries("manager"),
    ],
    "what mongod refuses to store": [
        _create("u"),
        _create("u"),
        _root(createRole="r", privileges=[], roles=[]),
        _root(createRole="r", privileges=[], roles=[]),
        _root(createRole="read", privileges=[], roles=[]),
        _root(createRole="x", privileges=[], roles=["missing"]),
        _root(createRole="x", privileges=[], roles=[{"role": "read", "db": "other"}]),
        _root(createRole="x", privileges=[{"resource": {"cluster": True}, "actions": ["top"]}], roles=[]),
        _root(createUser="x", pwd="x", roles=["missing"]),
        _root(createUser="x", roles=[]),
        _root(grantRolesToUser="missing", roles=["read"]),
        _root(grantRolesToUser="u", roles=["missing"]),
        _root(revokeRolesFromUser="u", roles=["missing"]),
        _root(grantRolesToRole="missing", roles=["read"]),
        _root(grantRolesToRole="read", roles=["readWrite"]),
        _root(grantPrivilegesToRole="r", privileges=[_privilege("c", "bogus")]),
        _root(grantPrivilegesToRole="r", privileges=[]),
        _root(updateRole="missing", roles=[]),
        _root(updateRole="read", roles=[]),
        _root(updateUser="missing", customData={}),
        _root(updateUser="u"),
        _root(dropUser="missing"),
        _root(dropRole="missing"),
        _root(dropRole="read"),
        _root(createUser="x", pwd="x", roles=[], authenticationRestrictions=[{}]),
        _root(createUser="x", pwd="x", roles=[], authenticationRestrictions=[{"clientSource": ["nowhere"]}]),
        _root("local", createUser="x", pwd="x", roles=[]),
        _root("$external", createUser="x", pwd="x", roles=[]),
    ],
    "rights on all databases": [
        _create("u", {"role": "readAnyDatabase", "db": "admin"}),
        *_tries("u"),
        _as("u", listCollections=1, nameOnly=True, authorizedCollections=True),
        _root(revokeRolesFromUser="u", roles=[{"role": "readAnyDatabase", "db": "admin"}]),
        *_tries("u"),
        _as("u", listCollections=1, nameOnly=True, authorizedCollections=True),
        _as("u", "admin", listDatabases=1, nameOnly=True),
    ],
}


def _empty(client: Client) -> None:
    client[DB].command("dropAllUsersFromDatabase")
    client[DB].command("dropAllRolesFromDatabase")
    client.drop_database(DB)
    client[DB].create_collection("c")


@pytest.fixture
def sides(standalone: Mongod, guard_replica_set: Guard) -> Iterator[tuple[Mongod, Guard]]:
    """A mongod, and mongoguard in front of another one; nothing managed on either."""
    mongods = (standalone, guard_replica_set.upstream)
    for mongod in mongods:
        with mongod.client() as client:
            _empty(client)
    yield standalone, guard_replica_set
    for mongod in mongods:
        with mongod.client() as client:
            _empty(client)


def _told(address: str, story: Sequence[Step]) -> list[str]:
    """The replies, each after its step. Everybody logs in at their first step and stays connected."""
    with ExitStack() as connections:
        open_connections: dict[str, RawConnection] = {}
        replies = []
        for user, db, command in story:
            if user not in open_connections:
                connection = connections.enter_context(RawConnection(address))
                connection.log_in(user, password_of(user), "admin" if user == ROOT else DB)
                open_connections[user] = connection
            reply = open_connections[user].command(db, command)
            replies.append(f"{user}@{db} {dict(command)}: {json.dumps(_compared(reply), default=repr)}")
        return replies


def _compared(value: Any) -> Any:
    """Without what is another on every server, and in an order that does not depend on hashes."""
    if isinstance(value, Mapping):
        return {k: _compared(v) for k, v in sorted(value.items()) if k not in _OF_ONE_SERVER}
    if isinstance(value, list):
        return sorted((_compared(v) for v in value), key=lambda v: json.dumps(v, default=repr))
    return value


_OF_ONE_SERVER = frozenset({"$clusterTime", "operationTime", "userId", "electionId", "opTime", "info"})


@pytest.mark.parametrize("title", STORIES)
def test_every_step_is_answered_as_by_mongod(title: str, sides: tuple[Mongod, Guard]) -> None:
    mongod, guard = sides
    assert _told(guard.address, STORIES[title]) == _told(mongod.address, STORIES[title])
