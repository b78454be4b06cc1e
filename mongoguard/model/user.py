"""User and Role: what a directory knows, resolved.

In: values a directory read. Out: immutable users with their privileges flattened. Must not know where they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mongoguard.model.names import RoleName, UserName
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.model.restriction import AuthenticationRestriction

__all__ = ["Role", "ScramCredentials", "User", "UserRequest"]


@dataclass(frozen=True, slots=True)
class ScramCredentials:
    """The stored half of a SCRAM password (RFC 5802 section 5.1): enough to verify, not to log in elsewhere."""

    iteration_count: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Role:
    """A role as defined: its own privileges, and the roles it inherits from directly."""

    name: RoleName
    privileges: tuple[Privilege, ...] = ()
    roles: tuple[RoleName, ...] = ()
    restrictions: tuple[AuthenticationRestriction, ...] = ()
    is_builtin: bool = False


@dataclass(frozen=True, slots=True)
class UserRequest:
    """Which user a directory is asked for: mongod's UserRequest.

    `roles`: those that the credential itself carries (a certificate's extension, a token's claim); None when the
    directory has them. They are as good as the credential, so no directory entry is needed, and none is looked at.
    """

    name: UserName
    roles: tuple[RoleName, ...] | None = None


@dataclass(frozen=True, slots=True)
class User:
    """A user with everything a login and a decision need.

    `user_id` changes when a user is dropped and made again (such a session is logged out). `credentials` maps a SCRAM
    mechanism name to its stored half; empty for `$external` users. `inherited_roles` holds the direct roles too, as
    usersInfo prints it, and names of roles that do not exist. `privileges` is the union over all roles, direct
    and inherited. `restrictions` holds one array for the user and one for each role, inherited ones included.
    `asserted_roles` are those of the request that gave this user (see `UserRequest`).
    """

    name: UserName
    user_id: bytes = b""
    credentials: Mapping[str, ScramCredentials] = field(default_factory=dict, repr=False)
    roles: tuple[RoleName, ...] = ()
    inherited_roles: tuple[RoleName, ...] = ()
    privileges: Mapping[ResourcePattern, frozenset[str]] = field(default_factory=dict)
    restrictions: tuple[tuple[AuthenticationRestriction, ...], ...] = ()
    asserted_roles: tuple[RoleName, ...] | None = None

    @property
    def request(self) -> UserRequest:
        """What to ask a directory to get this user as it is now."""
        return UserRequest(self.name, self.asserted_roles)
