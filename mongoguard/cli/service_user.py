"""The service user: the one identity that mongoguard has upstream, and the role it needs.

In: a client logged in as an administrator. Out: role and user created or brought up to date. Must not know files.

The role holds every action on every resource, except:
* advanceClusterTime: a server takes any $clusterTime from who holds it, forged ones too, and relayed commands carry
  the clients' own; it also stops signing the times that it gives out;
* bypassWriteBlockingMode: it would let every client write while setUserWriteBlockMode is on;
* internal: it marks the sender as a server, whose arguments are believed;
* anyAction: it would hold those.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from mongoguard.config.secret import Secret
from mongoguard.model.action_type import ActionType

__all__ = ["ServiceUser", "create_service_user", "service_uri"]

WITHHELD_ACTIONS = frozenset(
    {
        ActionType.ANY_ACTION,
        ActionType.ADVANCE_CLUSTER_TIME,
        ActionType.BYPASS_WRITE_BLOCKING_MODE,
        ActionType.INTERNAL,
    }
)
PASSWORD_BYTES = 32
"""256 random bits: no password of this kind is guessed, so its SCRAM iterations need not be many."""
_BAD_VALUE = 2
_UNRECOGNIZED = re.compile(r"Unrecognized action(?:s|\(s\))?: (?P<names>.+)$")


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """What was done. `password` is None when the user was there before and kept its password."""

    user: str
    password: Secret | None = field(repr=False)
    actions: frozenset[str]


def create_service_user(
    client: MongoClient[dict[str, Any]], user: str, role: str, *, rotate_password: bool = False
) -> ServiceUser:
    """Create or update role and user on admin. Raises pymongo's errors as the server refuses."""
    actions = _put_role(client, role)
    roles = [{"role": role, "db": "admin"}]
    password = Secret(secrets.token_urlsafe(PASSWORD_BYTES))
    exists = bool(client.admin.command("usersInfo", {"user": user, "db": "admin"})["users"])
    if not exists:
        client.admin.command("createUser", user, pwd=password.reveal(), roles=roles)
        return ServiceUser(user, password, actions)
    client.admin.command("grantRolesToUser", user, roles=roles)
    if not rotate_password:
        return ServiceUser(user, None, actions)
    client.admin.command("updateUser", user, pwd=password.reveal())
    return ServiceUser(user, password, actions)


def _put_role(client: MongoClient[dict[str, Any]], role: str) -> frozenset[str]:
    """Create or replace the role; actions that this server's version doesn't know are left out."""
    exists = bool(client.admin.command("rolesInfo", {"role": role, "db": "admin"})["roles"])
    command = "updateRole" if exists else "createRole"
    actions = frozenset(ActionType) - WITHHELD_ACTIONS
    while True:
        privilege = {"resource": {"anyResource": True}, "actions": sorted(actions)}
        try:
            client.admin.command(command, role, privileges=[privilege], roles=[])
        except OperationFailure as error:
            unknown = _unrecognized(error) & actions
            if not unknown:
                raise
            actions -= unknown
        else:
            return frozenset(str(action) for action in actions)


def _unrecognized(error: OperationFailure) -> frozenset[str]:
    found = _UNRECOGNIZED.search((error.details or {}).get("errmsg", ""))
    if error.code != _BAD_VALUE or found is None:
        return frozenset()
    return frozenset(name.strip(" '\"") for name in found["names"].split(","))


def service_uri(admin_uri: str, user: str, password: Secret | None) -> str:
    """The administrator's URI with the service user's login: same hosts, same options but for the login's.

    Without a password its place is held by `${MONGOGUARD_PASSWORD}`, which mongoguard.yaml fills from the environment.
    """
    parts = urlsplit(admin_uri)
    hosts = parts.netloc.rpartition("@")[2]
    secret = "${MONGOGUARD_PASSWORD}" if password is None else quote(password.reveal(), safe="")
    kept = [
        option
        for option in re.split("[&;]", parts.query)
        if option and not option.lower().startswith(("authsource=", "authmechanism", "appname="))
    ]
    return urlunsplit((parts.scheme, f"{quote(user, safe='')}:{secret}@{hosts}", "/", "&".join(kept), ""))
