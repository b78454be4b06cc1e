"""The service bound by SASL: DIGEST-MD5 and Kerberos tickets, at a real OpenLDAP and at Samba as Active Directory.

Users' passwords are checked by simple binds all the same.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mongoguard.errors import ConfigError, DirectoryUnavailable
from mongoguard.server.ldap import directory as ldap_directory
from mongoguard.server.ldap.native_tls import MeteredSocket
from tests.kerberos import Kdc
from tests.ldap_directory import directory_of
from tests.ldap_guard import LdapGuard, ldap_settings, running
from tests.ldap_servers import SERVICE, Slapd
from tests.missing import require_module
from tests.pki import Pki
from tests.samba_ad import SambaAD
from tests.servers import Mongod

EXTRA = "pip install 'mongoguard-proxy[kerberos-test]', with gcc and libkrb5-dev"
READ = [{"role": "read", "db": "shop"}]


@pytest.fixture(scope="module")
def slapd(kdc: Kdc, pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """An OpenLDAP with the key of ldap/localhost in the tests' realm."""
    folder = tmp_path_factory.mktemp("slapd_sasl")
    keytab = kdc.add_service("ldap/localhost", folder / "ldap.keytab")
    server = Slapd(folder, pki, kerberos={**kdc.environment, "KRB5_KTNAME": str(keytab)})
    try:
        yield server.start().wait()
    finally:
        server.stop()


@pytest.fixture
def ticket(kdc: Kdc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The service's key in a keytab, as mongod takes it, and nobody's ticket."""
    require_module("gssapi", EXTRA)
    keytab = tmp_path / "client.keytab"
    kdc.export_key(SERVICE, keytab)
    monkeypatch.setenv("KRB5_CONFIG", str(kdc.configuration))
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(keytab))
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/ccache")
    return keytab


def settings(directory: Any, **bind: Any) -> dict[str, Any]:
    return ldap_settings(
        directory,
        servers=f"localhost:{directory.tls_port}",
        bind={"method": "sasl", **bind},
        roleMapping={directory.group_dn("dba"): READ},
        timeoutMS=10_000,
    )


def digest(directory: Any, **more: Any) -> dict[str, Any]:
    user = {"queryUser": SERVICE, "queryPassword": directory.service_password}
    return settings(directory, **{**user, **more})


def methods_of_the_service(directory: Slapd, after: int) -> set[str]:
    return set(re.findall(rf'BIND dn="{directory.service_dn}" mech=(\S+)', directory.log[after:]))


async def groups(ldap: dict[str, Any], user: str = "alice") -> tuple[str, ...]:
    directory = directory_of(ldap)
    try:
        return await directory.groups(await directory.bind_name(user), user)
    finally:
        directory.close()


@pytest.mark.parametrize("security", ["tls", "startTLS"])
async def test_digest_md5_is_what_sasl_means_by_default(slapd, security):
    before = len(slapd.log)
    port = slapd.tls_port if security == "tls" else slapd.port
    ldap = {**digest(slapd), "transportSecurity": security, "servers": f"localhost:{port}"}
    assert slapd.group_dn("dba") in await groups(ldap)
    assert methods_of_the_service(slapd, before) == {"DIGEST-MD5"}


async def test_the_next_password_is_tried_when_one_is_refused(slapd):
    ldap = digest(slapd, queryPassword=["the-next-one", slapd.service_password])
    assert slapd.group_dn("dba") in await groups(ldap)


@pytest.mark.parametrize("wrong", [{"queryPassword": "wrong"}, {"queryUser": "nobody"}])
async def test_a_wrong_name_or_password_finds_nobody(slapd, wrong):
    with pytest.raises(DirectoryUnavailable, match="does not accept security.ldap.bind.queryUser") as caught:
        await groups(digest(slapd, **wrong))
    assert ("wrong password" in str(caught.value)) == ("queryPassword" in wrong)
    assert slapd.service_password not in str(caught.value)


async def test_a_key_in_a_keytab_binds_the_service_by_kerberos(slapd, ticket):
    before = len(slapd.log)
    assert slapd.group_dn("dba") in await groups(settings(slapd, saslMechanisms="GSSAPI"))
    assert methods_of_the_service(slapd, before) == {"GSSAPI"}


async def test_a_ticket_is_bound_to_the_connection_that_it_is_shown_on(slapd, ticket, pki, monkeypatch):
    """Else whoever stands between could show it on a connection of his own."""
    other = ssl.PEM_cert_to_DER_cert(pki.ca.read_text())
    monkeypatch.setattr(MeteredSocket, "getpeercert", lambda sock, binary: other)
    with pytest.raises(DirectoryUnavailable, match="Kerberos: "):
        await groups(settings(slapd, saslMechanisms="GSSAPI"))


async def test_a_named_principal_must_be_in_the_keytab(slapd, ticket, kdc):
    named = f"{SERVICE}@{kdc.realm}"
    assert await groups(settings(slapd, saslMechanisms="GSSAPI", queryUser=named))
    with pytest.raises(DirectoryUnavailable, match="Kerberos: "):
        await groups(settings(slapd, saslMechanisms="GSSAPI", queryUser=f"alice@{kdc.realm}"))


async def test_without_a_ticket_nothing_is_searched(slapd, ticket):
    ticket.unlink()
    before = len(slapd.log)
    with pytest.raises(DirectoryUnavailable, match="Kerberos: ") as caught:
        await groups(settings(slapd, saslMechanisms="GSSAPI"))
    assert "an answer that is not LDAP" not in str(caught.value)
    assert "SRCH" not in slapd.log[before:]


async def test_the_first_mechanism_that_the_server_knows_is_used(slapd, ticket, monkeypatch):
    before = len(slapd.log)
    assert await groups(digest(slapd, saslMechanisms="GSSAPI,DIGEST-MD5"))
    assert methods_of_the_service(slapd, before) == {"GSSAPI"}
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", "/nonexistent")
    monkeypatch.setenv("KRB5CCNAME", "FILE:/nonexistent")
    with pytest.raises(DirectoryUnavailable, match="Kerberos: "):
        await groups(digest(slapd, saslMechanisms="GSSAPI,DIGEST-MD5"))


async def test_without_the_library_the_configuration_is_refused(slapd, monkeypatch):
    monkeypatch.setattr(ldap_directory.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs the Python package gssapi: pip install"):
        directory_of(settings(slapd, saslMechanisms="GSSAPI"))
    directory_of(digest(slapd)).close()


@pytest.mark.parametrize("mechanism", ["GSSAPI", "DIGEST-MD5"])
def test_users_log_in_by_simple_binds_whatever_the_service_does(
    standalone: Mongod, slapd: Slapd, ticket: Path, tmp_path: Path, mechanism: str
):
    """A bind by GSSAPI would prove the service, and let everybody in with any password."""
    ldap = settings(slapd, saslMechanisms="GSSAPI") if mechanism == "GSSAPI" else digest(slapd)
    with running(LdapGuard(tmp_path, standalone, ldap)) as guard:
        before = len(slapd.log)
        assert guard.roles("alice") == {"read@shop"}
        code, reason = guard.refused("alice", "wrong")
        assert code == 18
        assert "wrong password" in reason
        assert methods_of_the_service(slapd, before) <= {mechanism}
        assert f'BIND dn="{slapd.dn_of("alice")}" method=128' in slapd.log[before:]
        assert slapd.service_password not in guard.log


# ---- Active Directory --------------------------------------------------------------------------------------------------


@pytest.fixture
def domain(samba_ad: SambaAD, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SambaAD:
    """The domain, and the service's key in a keytab, as an administrator exports it."""
    require_module("gssapi", EXTRA)
    keytab = tmp_path / "client.keytab"
    samba_ad.export_key(SERVICE, keytab)
    samba_ad.name_controller("ldap/localhost")
    monkeypatch.setenv("KRB5_CONFIG", str(samba_ad.kerberos_configuration()))
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(keytab))
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/ccache")
    return samba_ad


def domain_settings(domain: SambaAD, **bind: Any) -> dict[str, Any]:
    return {
        **settings(domain, **bind),
        "userToDNMapping": [{"match": "(.+)", "ldapQuery": f"{domain.base}??sub?(sAMAccountName={{0}})"}],
        "authz": {"queryTemplate": f"{domain.base}??sub?(objectClass=group)"},
        "nestedGroups": "token_groups",
    }


@pytest.mark.slow
@pytest.mark.parametrize("security", ["tls", "startTLS"])
async def test_active_directory_takes_a_ticket_of_its_own_realm(domain, security):
    port = domain.tls_port if security == "tls" else domain.port
    ldap = {**domain_settings(domain, saslMechanisms="GSSAPI"), "transportSecurity": security}
    found = await groups({**ldap, "servers": f"localhost:{port}"})
    assert domain.group_dn("dba").casefold() in {dn.casefold() for dn in found}


@pytest.mark.slow
async def test_a_mechanism_that_the_server_does_not_know_is_passed_over(domain):
    user = {"queryUser": f"{SERVICE}@{domain.realm}", "queryPassword": domain.service_password}
    assert await groups(domain_settings(domain, saslMechanisms="DIGEST-MD5,GSSAPI", **user))
    with pytest.raises(DirectoryUnavailable, match="1 operationsError"):
        await groups(domain_settings(domain, saslMechanisms="DIGEST-MD5", **user))


@pytest.mark.slow
async def test_a_ticket_of_nobody_in_the_domain_is_refused(domain, monkeypatch):
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", "/nonexistent")
    with pytest.raises(DirectoryUnavailable, match="Kerberos: "):
        await groups(domain_settings(domain, saslMechanisms="GSSAPI"))
