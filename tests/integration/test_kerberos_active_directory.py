"""Kerberos tickets of a real Active Directory domain (Samba), with the domain's groups for roles by LDAP."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ldap3
import pymongo
import pytest
from pymongo.errors import OperationFailure

from tests.kerberos import CLIENT_PACKAGES
from tests.ldap_guard import LdapGuard, ldap_settings, running
from tests.ldap_servers import done
from tests.missing import require_module, require_program
from tests.samba_ad import SambaAD
from tests.servers import Mongod, password_of

pytestmark = pytest.mark.slow

EXTRA = "pip install 'mongoguard-proxy[kerberos-test]', with gcc and libkrb5-dev"
READ = [{"role": "read", "db": "shop"}]
BY_PRINCIPAL = [
    {"match": r"([^/@\\]+)@CORP\.EXAMPLE", "ldapQuery": "DC=corp,DC=example??sub?(sAMAccountName={0})"}
]


@pytest.fixture(scope="module")
def keytab(samba_ad: SambaAD, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key of an account that stands for mongodb/localhost, as an administrator makes it."""
    samba_ad.add_person("svc-guard")
    with samba_ad.administrator() as connection:
        names = {"servicePrincipalName": [(ldap3.MODIFY_ADD, ["mongodb/localhost"])]}
        done(connection.modify(samba_ad.dn_of("svc-guard"), names))
    path = tmp_path_factory.mktemp("keytab") / "mongodb.keytab"
    export = ["domain", "exportkeytab", str(path), "--principal=mongodb/localhost"]
    configuration = f"--configfile={samba_ad.directory / 'smb.conf'}"
    subprocess.run([samba_ad._tool, *export, configuration], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def guard(
    standalone: Mongod, samba_ad: SambaAD, keytab: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LdapGuard]:
    require_module("gssapi", EXTRA)
    require_module("kerberos", EXTRA)
    template = "DC=corp,DC=example??sub?(&(objectClass=group)(member={USER}))"
    ldap = ldap_settings(
        samba_ad,
        userToDNMapping=BY_PRINCIPAL,
        authz={"queryTemplate": template},
        nestedGroups="in_chain",
        timeoutMS=10_000,
        roleMapping={samba_ad.group_dn("dba"): ["clusterMonitor"], samba_ad.group_dn("everyone"): READ},
    )
    directory = tmp_path_factory.mktemp("kerberos_ad")
    mechanisms = {"authenticationMechanisms": "GSSAPI"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KRB5_CONFIG", str(samba_ad.kerberos_configuration()))
        patch.setenv("KRB5RCACHEDIR", str(directory))
        patch.setenv("KRB5_KTNAME", str(keytab))
        with running(LdapGuard(directory, standalone, ldap, setParameter=mechanisms)) as guard:
            yield guard


@pytest.fixture
def status_of(
    guard: LdapGuard, samba_ad: SambaAD, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """kinit, log in with pymongo, and connectionStatus."""
    kinit = require_program("kinit", CLIENT_PACKAGES)
    monkeypatch.setenv("KRB5_CONFIG", str(samba_ad.kerberos_configuration()))
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/ccache")

    def ask(user: str, password: str | None = None) -> dict[str, Any]:
        principal = f"{user}@{samba_ad.realm}"
        subprocess.run(
            [kinit, principal],
            input=(password or password_of(user)) + "\n",
            text=True,
            check=True,
            capture_output=True,
            env=os.environ,
        )
        with pymongo.MongoClient(
            "localhost",
            guard.port,
            username=principal,
            authMechanism="GSSAPI",
            serverSelectionTimeoutMS=10_000,
        ) as client:
            status: dict[str, Any] = client.admin.command("connectionStatus")["authInfo"]
        assert status["authenticatedUsers"] == [{"user": principal, "db": "$external"}]
        return status

    return ask


@pytest.mark.parametrize(("user", "roles"), [("alice", {"clusterMonitor", "read"}), ("bob", {"read"})])
def test_a_ticket_of_the_domain_logs_in_with_the_roles_of_its_nested_groups(
    status_of: Callable[..., dict[str, Any]], user: str, roles: set[str]
) -> None:
    assert {role["role"] for role in status_of(user)["authenticatedUserRoles"]} == roles


def test_a_principal_that_the_mapping_does_not_name_is_refused(
    status_of: Callable[..., dict[str, Any]], guard: LdapGuard, samba_ad: SambaAD
) -> None:
    """The domain's KDC gives tickets to machines and services, too."""
    with samba_ad.administrator() as connection:
        names = {"servicePrincipalName": [(ldap3.MODIFY_ADD, ["web/localhost"])]}
        names |= {"userPrincipalName": [(ldap3.MODIFY_REPLACE, ["web/localhost@CORP.EXAMPLE"])]}
        samba_ad._add_person(connection, "svc-web")
        done(connection.modify(samba_ad.dn_of("svc-web"), names))
    before = len(guard.reasons())
    with pytest.raises(OperationFailure) as caught:
        status_of("web/localhost", password_of("svc-web"))
    assert caught.value.code == 18
    assert guard.reason_after(before)
