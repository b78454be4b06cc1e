"""Logins by a real Active Directory domain controller (Samba)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from mongoguard.authn.ldap.query import LdapQuery, SearchScope
from mongoguard.authn.ldap.role_mapping import read_dn_roles
from mongoguard.errors import DirectoryUnavailable
from tests.directory_entries import PEOPLE
from tests.ldap_directory import directory_of
from tests.ldap_guard import LdapGuard, ldap_settings, running
from tests.samba_ad import SambaAD
from tests.servers import Mongod, password_of

pytestmark = pytest.mark.slow

BY_ACCOUNT = [{"match": "(.+)", "ldapQuery": "DC=corp,DC=example??sub?(sAMAccountName={0})"}]
READ = [{"role": "read", "db": "shop"}]

OUTSIDE = {"kim", "dave"}
"""Who is not in everyone by member: dave's only group is the primary one."""


def settings(samba_ad: SambaAD, strategy: str = "in_chain", **more: Any) -> dict[str, Any]:
    template = (
        "DC=corp,DC=example??sub?(objectClass=group)"
        if strategy == "token_groups"
        else "DC=corp,DC=example??sub?(&(objectClass=group)(member={USER}))"
    )
    return ldap_settings(
        samba_ad,
        **{
            "userToDNMapping": BY_ACCOUNT,
            "authz": {"queryTemplate": template},
            "nestedGroups": strategy,
            "timeoutMS": 10_000,
            **more,
        },
    )


@pytest.fixture(scope="module")
def guard(
    standalone: Mongod, samba_ad: SambaAD, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LdapGuard]:
    table = {samba_ad.group_dn("everyone"): READ, samba_ad.group_dn("dba"): ["clusterMonitor"]}
    ldap = settings(samba_ad, roleMapping=table)
    with running(LdapGuard(tmp_path_factory.mktemp("ad"), standalone, ldap)) as guard:
        yield guard


@pytest.mark.parametrize("uid", PEOPLE)
def test_everybody_logs_in_by_account_name(guard, samba_ad, uid):
    name = samba_ad.account_of(uid)
    expected = {
        "alice": {"read@shop", "clusterMonitor@admin"},
        "grace": {"read@shop", "clusterMonitor@admin"},
    }
    assert guard.roles(name, password_of(uid)) == expected.get(
        uid, set() if uid in OUTSIDE else {"read@shop"}
    )
    assert guard.refused(name, "wrong")[1] == (
        "wrong password, or no such user (49 invalidCredentials, data 52e)"
    )


@pytest.mark.parametrize(
    ("uid", "reason"),
    [
        ("disabled", "the account is disabled (49 invalidCredentials, data 533)"),
        ("expired", "the account has expired (49 invalidCredentials, data 701)"),
        ("mustchange", "the password must be changed first (49 invalidCredentials, data 773)"),
    ],
)
def test_the_auditor_learns_why_an_account_may_not_log_in_and_the_client_does_not(guard, uid, reason):
    assert guard.refused(uid) == (18, reason)


@pytest.mark.parametrize("substitution", ["{0}@corp.example", "CORP\\{0}"])
async def test_active_directorys_own_kinds_of_names_are_bound(samba_ad, substitution):
    directory = directory_of(
        settings(samba_ad, userToDNMapping=[{"match": "(.+)", "substitution": substitution}])
    )
    name = await directory.bind_name("alice")
    assert (await directory.bind_user(name, password_of("alice"))).accepted
    assert (await directory.bind_user(name, "wrong")).sub_code == "52e"
    directory.close()


async def names(samba_ad: SambaAD, uid: str, strategy: str) -> set[str]:
    directory = directory_of(settings(samba_ad, strategy))
    groups = await directory.groups(await directory.bind_name(uid), uid)
    directory.close()
    return {group.split(",")[0].removeprefix("CN=").lower() for group in groups}


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("direct", {'c\\+\\+ \\"core\\" team'}),
        ("recursive", {'c\\+\\+ \\"core\\" team', "developers", "everyone"}),
        ("in_chain", {'c\\+\\+ \\"core\\" team', "developers", "everyone"}),
        ("token_groups", {'c\\+\\+ \\"core\\" team', "developers", "everyone", "domain users", "users"}),
    ],
)
async def test_each_strategy_finds_the_groups_that_it_should(samba_ad, strategy, expected):
    assert {
        name.replace('"', '\\"').replace('\\\\"', '\\"') for name in await names(samba_ad, "eve", strategy)
    } == expected


async def test_the_primary_group_is_in_the_token_alone(samba_ad):
    assert "developers" not in await names(samba_ad, "dave", "direct")
    assert "developers" not in await names(samba_ad, "dave", "in_chain")
    assert "developers" in await names(samba_ad, "dave", "token_groups")


@pytest.mark.parametrize("strategy", ["recursive", "in_chain", "token_groups"])
async def test_groups_that_contain_each_other_end(samba_ad, strategy):
    assert {"loop a", "loop b"} <= await names(samba_ad, "bob", strategy)


async def test_groups_spelled_by_active_directory_are_the_ones_an_administrator_typed(samba_ad):
    directory = directory_of(settings(samba_ad, "direct"))
    groups = await directory.groups(await directory.bind_name("carl"), "carl")
    typed = f"cn=ops\\2C eu (admins),OU=Groups,{samba_ad.base}"
    outcome = await directory.roles(groups, read_dn_roles([typed]))
    assert [role.role for role in outcome.roles] == [typed]
    directory.close()


@pytest.mark.parametrize("strategy", ["in_chain", "token_groups", "recursive", "direct"])
async def test_every_strategy_works_on_this_server(samba_ad, strategy):
    directory = directory_of(settings(samba_ad, strategy))
    await directory.validate()
    directory.close()


async def test_references_to_other_partitions_are_no_entries(samba_ad):
    directory = directory_of(settings(samba_ad))
    (entry,) = await directory.search(LdapQuery(samba_ad.base, SearchScope.SUB, "(sAMAccountName=alice)"))
    assert entry.dn == samba_ad.dn_of("alice").replace("ou=people", entry.dn.split(",")[1])
    directory.close()


async def test_a_bind_in_clear_is_told_to_want_tls(samba_ad):
    directory = directory_of(
        {"servers": f"127.0.0.1:{samba_ad.port}", "transportSecurity": "none", "timeoutMS": 10_000}
    )
    with pytest.raises(DirectoryUnavailable, match=r"8 strongerAuthRequired; it wants TLS"):
        await directory.bind_user(samba_ad.dn_of("alice"), password_of("alice"))


async def test_starttls_works_too(samba_ad):
    directory = directory_of(
        settings(samba_ad, servers=f"127.0.0.1:{samba_ad.port}", transportSecurity="startTLS")
    )
    assert (await directory.bind_user(samba_ad.dn_of("alice"), password_of("alice"))).accepted
    await directory.validate()
    directory.close()


def test_an_account_that_is_disabled_cannot_log_in_again(guard, samba_ad):
    samba_ad.set_enabled("frank", enabled=False)
    try:
        assert guard.refused("frank")[1].startswith("the account is disabled")
    finally:
        samba_ad.set_enabled("frank", enabled=True)
    assert guard.roles("frank") == {"read@shop"}


def test_a_member_by_three_steps_reads_and_does_not_write(guard):
    with guard.login("eve") as client:
        client.shop.orders.find_one()
        with pytest.raises(OperationFailure, match="not authorized on shop"):
            client.shop.orders.insert_one({})


def _read_for_ever(client, until):
    """Until it fails. What is sent after that moment must not succeed."""
    while True:
        sent = time.monotonic()
        client.shop.orders.find_one()
        assert sent < until, "what is sent later is decided by an answer that knows of it"
        time.sleep(0.1)


@pytest.mark.parametrize("strategy", ["in_chain", "token_groups"])
def test_whose_account_is_disabled_is_logged_out_within_the_setting(standalone, samba_ad, tmp_path, strategy):
    name = f"leaver-{strategy.replace('_', '-')}"
    samba_ad.add_person(name)
    samba_ad.add_member("everyone", samba_ad.dn_of(name))
    table = {samba_ad.group_dn("everyone"): READ}
    ldap = settings(samba_ad, strategy, roleMapping=table, userCacheStalenessSecs=9)
    with running(LdapGuard(tmp_path, standalone, ldap)) as guard:
        with guard.login(name, maxPoolSize=1, retryReads=False) as client:
            client.shop.orders.find_one()
            samba_ad.set_enabled(name, enabled=False)
            disabled = time.monotonic()
            with pytest.raises(OperationFailure, match="requires authentication"):
                _read_for_ever(client, disabled + 9)
        assert "the account is disabled" in guard.log
