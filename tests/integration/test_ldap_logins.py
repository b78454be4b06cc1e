"""Logins by a real OpenLDAP through mongoguard, with a real driver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo
import pytest
from pymongo.errors import OperationFailure

from tests.directory_entries import PEOPLE
from tests.ldap_servers import LdapDirectory, Slapd
from tests.servers import Guard, Mongod, password_of

IDENTITY = [{"match": "(.+)", "ldapQuery": "ou=people,dc=example,dc=org??sub?(uid={0})"}]
"""Finds people by uid: their entries are named in many ways."""

MEMBER = "ou=groups,dc=example,dc=org??sub?(member={USER})"


def ldap_settings(directory: LdapDirectory, **more: Any) -> dict[str, Any]:
    """security.ldap for the test directory: LDAPS, the service user, direct groups."""
    return {
        "servers": f"127.0.0.1:{directory.tls_port}",
        "CAFile": str(directory.pki.ca),
        "bind": {"queryUser": directory.service_dn, "queryPassword": directory.service_password},
        "userToDNMapping": json.dumps(IDENTITY),
        "authz": {"queryTemplate": MEMBER},
        "timeoutMS": 5000,
        **more,
    }


class LdapGuard(Guard):
    """mongoguard with `security.ldap`, on a Unix socket beside its TCP port; audit events in a file."""

    def __init__(self, directory: Path, upstream: Mongod, ldap: dict[str, Any], **sections: Any) -> None:
        self.audit_path = directory / "audit.json"
        self.sections = sections
        super().__init__(directory, upstream, self._settings(directory, ldap))
        self.configure_ldap(ldap)

    def _settings(self, directory: Path, ldap: dict[str, Any]) -> dict[str, Any]:
        return {
            "net": {"unixDomainSocket": {"enabled": True, "pathPrefix": str(directory)}},
            "security": {"ldap": ldap, "loginLimits": {"maxFailuresPerUserAndAddress": 0}},
            "setParameter": {"authenticationMechanisms": "SCRAM-SHA-256,PLAIN"},
            "auditLog": {"destination": "file", "path": str(self.audit_path)},
            "systemLog": {"verbosity": 5},
            **self.sections,
        }

    def configure_ldap(self, ldap: dict[str, Any]) -> None:
        self.configure(self._settings(self.directory, ldap))

    @property
    def socket(self) -> str:
        return str(self.directory / f"mongodb-{self.port}.sock")

    def login(self, user: str, password: str | None = None, **options: Any) -> pymongo.MongoClient[dict[str, Any]]:
        """A client that logs in with PLAIN over the Unix socket; close it."""
        return pymongo.MongoClient(
            f"mongodb://{quote(self.socket, safe='')}/",
            username=user,
            password=password_of(user) if password is None else password,
            authMechanism="PLAIN",
            authSource="$external",
            serverSelectionTimeoutMS=10_000,
            **options,
        )

    def roles(self, user: str, password: str | None = None) -> set[str]:
        """Log in, and say which roles that gave."""
        with self.login(user, password) as client:
            status = client.admin.command("connectionStatus")["authInfo"]
        assert status["authenticatedUsers"] == [{"user": user, "db": "$external"}]
        return {f"{role['role']}@{role['db']}" for role in status["authenticatedUserRoles"]}

    def refused(self, user: str, password: str | None = None) -> tuple[int, str]:
        """The error's code, and the reason in the audit stream."""
        with self.login(user, password) as client, pytest.raises(OperationFailure) as caught:
            client.admin.command("ping")
        return caught.value.code or 0, self.reasons()[-1]

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit_path.read_text().splitlines()]

    def reasons(self) -> list[str]:
        """Why logins were refused, in order."""
        return [e["param"]["reason"] for e in self.events() if e["atype"] == "authenticate" and e["result"]]


@contextmanager
def running(guard: LdapGuard) -> Iterator[LdapGuard]:
    try:
        yield guard.start().wait()
    finally:
        guard.stop()


@pytest.fixture(scope="module")
def roles_on_admin(standalone: Mongod, slapd: Slapd) -> None:
    """Roles named as groups: one as the directory spells it, one otherwise, one that is no DN."""
    find = [{"resource": {"db": "shop", "collection": ""}, "actions": ["find", "insert"]}]
    with standalone.client() as client:
        for name in (
            slapd.group_dn("dba"),
            "CN=ops\\, eu (Admins), OU=Groups, DC=Example, DC=org",
            slapd.group_dn("データ分析"),
            slapd.group_dn("everyone"),
            "cn=broken,,dc=org",
        ):
            client.admin.command("createRole", name, privileges=find, roles=[])


@pytest.fixture(scope="module")
def guard(standalone, slapd, roles_on_admin, tmp_path_factory) -> Iterator[LdapGuard]:
    with running(LdapGuard(tmp_path_factory.mktemp("lg"), standalone, ldap_settings(slapd))) as guard:
        yield guard


def test_a_member_of_a_group_that_a_role_is_named_as_has_that_role(guard, slapd):
    dba = f"{slapd.group_dn('dba')}@admin"
    assert guard.roles("grace") == {dba}
    assert guard.roles("alice") == {dba, f"{slapd.group_dn('データ分析')}@admin"}
