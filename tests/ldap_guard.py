"""mongoguard with `security.ldap` in front of a mongod, and logins by PLAIN over its Unix socket."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo
import pytest
from pymongo.errors import OperationFailure

from tests.ldap_servers import LdapDirectory
from tests.servers import Client, Guard, Mongod, password_of

__all__ = ["BY_UID", "LdapGuard", "ldap_settings", "member_template", "running"]

BY_UID = [{"match": "(.+)", "ldapQuery": "ou=people,dc=example,dc=org??sub?(uid={0})"}]
"""Finds OpenLDAP's people by uid: their entries are named in many ways."""


NO_LIMITS = {"maxFailuresPerUserAndAddress": 0, "maxFailuresPerAddress": 0, "maxFailuresPerUser": 0}
"""All of these tests come from one address, the Unix socket's."""


def member_template(directory: LdapDirectory) -> str:
    """The groups that have somebody as a member."""
    return f"{directory.groups_base}??sub?(member={{USER}})"


def ldap_settings(directory: LdapDirectory, **more: Any) -> dict[str, Any]:
    """security.ldap for the test directory: LDAPS, the service user, direct groups."""
    return {
        "servers": f"127.0.0.1:{directory.tls_port}",
        "CAFile": str(directory.pki.ca),
        "bind": {"queryUser": directory.service_dn, "queryPassword": directory.service_password},
        "userToDNMapping": json.dumps(BY_UID),
        "authz": {"queryTemplate": member_template(directory)},
        "timeoutMS": 5000,
        **more,
    }


class LdapGuard(Guard):
    """mongoguard with `security.ldap`, on a Unix socket beside its TCP port; audit events in a file."""

    def __init__(self, directory: Path, upstream: Mongod, ldap: dict[str, Any], **sections: Any) -> None:
        """Prepare a server with that section; `sections` replace whole sections of its other settings."""
        self.audit_path = directory / "audit.json"
        self.sections = sections
        super().__init__(directory, upstream, self._settings(directory, ldap))

    def _settings(self, directory: Path, ldap: dict[str, Any]) -> dict[str, Any]:
        return {
            "net": {"unixDomainSocket": {"enabled": True, "pathPrefix": str(directory)}},
            "security": {"ldap": ldap, "loginLimits": NO_LIMITS},
            "setParameter": {"authenticationMechanisms": "SCRAM-SHA-256,PLAIN"},
            "auditLog": {"destination": "file", "path": str(self.audit_path)},
            "systemLog": {"verbosity": 5},
            **self.sections,
        }

    def configure_ldap(self, ldap: dict[str, Any]) -> None:
        """Write the configuration file anew, with that section."""
        self.configure(self._settings(self.directory, ldap))

    @property
    def socket(self) -> str:
        """The Unix socket's path."""
        return str(self.directory / f"mongodb-{self.port}.sock")

    def login(self, user: str, password: str | None = None, **options: Any) -> Client:
        """A client that logs in with PLAIN over the Unix socket; close it."""
        return pymongo.MongoClient(
            f"mongodb://{quote(self.socket, safe='')}/",
            username=user,
            password=password_of(user) if password is None else password,
            authMechanism="PLAIN",
            authSource="$external",
            **{"serverSelectionTimeoutMS": 10_000, **options},
        )

    def roles(self, user: str, password: str | None = None) -> set[str]:
        """Log in, and say which roles that gave."""
        with self.login(user, password) as client:
            status = client.admin.command("connectionStatus")["authInfo"]
        assert status["authenticatedUsers"] == [{"user": user, "db": "$external"}]
        return {f"{role['role']}@{role['db']}" for role in status["authenticatedUserRoles"]}

    def refused(self, user: str, password: str | None = None) -> tuple[int, str]:
        """The error's code, and the reason in the audit stream."""
        before = len(self.reasons())
        with self.login(user, password) as client, pytest.raises(OperationFailure) as caught:
            client.admin.command("ping")
        assert "Authentication failed." in str(caught.value) or caught.value.code == 6
        return caught.value.code or 0, self.reason_after(before)

    def reason_after(self, count: int) -> str:
        """The newest reason, once there are more of them than that."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if len(reasons := self.reasons()) > count:
                return reasons[-1]
            time.sleep(0.02)
        raise AssertionError("no refused login reached the audit log within 10 s")

    def has_told(self, text: str, after: int) -> bool:
        """Whether one of the reasons after that many, or soon to come, holds the text."""
        deadline = time.monotonic() + 10
        while not any(text in reason for reason in self.reasons()[after:]):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def events(self) -> list[dict[str, Any]]:
        """The audit events so far."""
        lines = self.audit_path.read_text().split("\n")[:-1] if self.audit_path.exists() else []
        return [json.loads(line) for line in lines]

    def reasons(self) -> list[str]:
        """Why logins were refused, in order."""
        return [e["param"]["reason"] for e in self.events() if e["atype"] == "authenticate" and e["result"]]


@contextmanager
def running(guard: LdapGuard) -> Iterator[LdapGuard]:
    """The server, started and stopped again."""
    try:
        guard.start().wait()
        yield guard
    finally:
        guard.stop()
