"""The test domain: that it answers as Active Directory does, where OpenLDAP answers otherwise."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess

import ldap3
import pytest
from ldap3.utils.conv import escape_filter_chars

from tests.directory_entries import PEOPLE
from tests.ldap_client import answer_to_bind, bind, connected, search
from tests.ldap_servers import CheckedTls
from tests.missing import require_program
from tests.samba_ad import SambaAD
from tests.servers import password_of

pytestmark = pytest.mark.slow

IN_CHAIN = "1.2.840.113556.1.4.1941"


def names(dns: list[str]) -> set[str]:
    return {re.split(r",(?:OU|CN)=", dn)[0].removeprefix("CN=") for dn in dns}


def groups_in_chain(domain: SambaAD, uid: str) -> set[str]:
    member = escape_filter_chars(domain.dn_of(uid))
    return names([entry["dn"] for entry in search(domain, domain.base, f"(member:{IN_CHAIN}:={member})")])


def groups_by_token(domain: SambaAD, uid: str) -> set[str]:
    (person,) = search(domain, domain.dn_of(uid), "(objectClass=*)", "tokenGroups", scope=ldap3.BASE)
    found = [
        search(domain, domain.base, f"(objectSid={ldap3.utils.conv.escape_bytes(sid)})")
        for sid in person["raw_attributes"]["tokenGroups"]
    ]
    return names([entry["dn"] for entries in found for entry in entries])


@pytest.mark.parametrize("uid", PEOPLE)
def test_each_person_binds_by_dn_and_by_principal_name_and_not_with_another_password(
    samba_ad: SambaAD, uid: str
) -> None:
    account = escape_filter_chars(samba_ad.account_of(uid))
    (person,) = search(samba_ad, samba_ad.people_base, f"(sAMAccountName={account})")
    for name in (person["dn"], samba_ad.dn_of(uid), samba_ad.principal_of(uid)):
        assert bind(samba_ad, name, password_of(uid)) == 0
    assert bind(samba_ad, samba_ad.principal_of(uid), "wrong") == 49


def test_the_domain_name_with_the_account_binds_and_the_bare_account_does_not(samba_ad: SambaAD) -> None:
    assert bind(samba_ad, "CORP\\alice", password_of("alice")) == 0
    assert bind(samba_ad, "alice", password_of("alice")) == 49


@pytest.mark.parametrize(
    ("uid", "password", "code"),
    [
        ("alice", "wrong", "52e"),
        ("nobody-at-all", "wrong", "52e"),
        ("disabled", None, "533"),
        ("expired", None, "701"),
        ("mustchange", None, "773"),
    ],
)
def test_a_refusal_says_why_in_its_sub_code(
    samba_ad: SambaAD, uid: str, password: str | None, code: str
) -> None:
    result, message = answer_to_bind(samba_ad, samba_ad.principal_of(uid), password or password_of(uid))
    assert result == 49
    assert f"data {code}," in message


def test_a_simple_bind_in_clear_is_refused_and_starttls_is_taken(samba_ad: SambaAD) -> None:
    assert bind(samba_ad, samba_ad.service_dn, samba_ad.service_password, by="ldap") == 8
    assert bind(samba_ad, samba_ad.service_dn, samba_ad.service_password, by="starttls") == 0


def test_anonymous_binds_and_may_search_nothing(samba_ad: SambaAD) -> None:
    with connected(samba_ad, None, None) as connection:
        assert connection.bind()[1]["result"] == 0
        assert connection.search(samba_ad.base, "(cn=*)", ldap3.SUBTREE)[1]["result"] == 1


def test_a_search_at_the_root_returns_continuation_references(samba_ad: SambaAD) -> None:
    with connected(samba_ad, samba_ad.service_dn, samba_ad.service_password) as connection:
        connection.bind()
        found = connection.search(samba_ad.base, "(sAMAccountName=bob)", ldap3.SUBTREE, attributes=["1.1"])[2]
    assert {entry["type"] for entry in found} == {"searchResEntry", "searchResRef"}


def test_groups_in_chain_are_the_nested_ones_and_a_cycle_ends(samba_ad: SambaAD) -> None:
    assert groups_in_chain(samba_ad, "eve") == {r"C\+\+ \"core\" team", "developers", "everyone"}
    assert groups_in_chain(samba_ad, "bob") == {"developers", "everyone", "loop a", "loop b"}
    assert groups_in_chain(samba_ad, "kim") == set()


def test_the_primary_group_is_only_in_token_groups(samba_ad: SambaAD) -> None:
    (dave,) = search(samba_ad, samba_ad.dn_of("dave"), "(cn=*)", "memberOf", scope=ldap3.BASE)
    assert "developers" not in names(dave["attributes"].get("memberOf", []))
    assert "developers" not in groups_in_chain(samba_ad, "dave")
    assert groups_by_token(samba_ad, "dave") >= {"developers", "everyone"}
    assert groups_by_token(samba_ad, "bob") >= {"developers", "everyone", "loop a", "loop b", "Domain Users"}


def test_token_groups_are_refused_in_a_subtree_search(samba_ad: SambaAD) -> None:
    with connected(samba_ad, samba_ad.service_dn, samba_ad.service_password) as connection:
        connection.bind()
        answer = connection.search(
            samba_ad.base, "(sAMAccountName=bob)", ldap3.SUBTREE, attributes=["tokenGroups"]
        )
    assert answer[1]["result"] == 1


def test_members_accounts_and_passwords_change(samba_ad: SambaAD) -> None:
    kim, principal = samba_ad.dn_of("kim"), samba_ad.principal_of("kim")
    samba_ad.add_member("dba", kim)
    assert groups_in_chain(samba_ad, "kim") == {"dba", "everyone"}
    samba_ad.remove_member("dba", kim)
    assert groups_in_chain(samba_ad, "kim") == set()
    samba_ad.set_password("kim", "another-pw")
    samba_ad.set_enabled("kim", enabled=False)
    assert "data 533," in answer_to_bind(samba_ad, principal, "another-pw")[1]
    samba_ad.set_enabled("kim", enabled=True)
    assert bind(samba_ad, principal, "another-pw") == 0
    samba_ad.set_password("kim", password_of("kim"))


def test_the_global_catalog_answers(samba_ad: SambaAD) -> None:
    server = ldap3.Server(samba_ad.catalog_tls_uri, tls=CheckedTls(samba_ad.pki.ca), get_info=ldap3.NONE)
    connection = ldap3.Connection(
        server, samba_ad.service_dn, samba_ad.service_password, client_strategy=ldap3.SAFE_SYNC
    )
    assert connection.bind()[1]["result"] == 0
    found = connection.search(samba_ad.base, "(sAMAccountName=bob)", ldap3.SUBTREE, attributes=["1.1"])[2]
    connection.unbind()
    assert [entry["dn"] for entry in found if entry["type"] == "searchResEntry"] == [
        "CN=Bob Baker,OU=people,DC=corp,DC=example"
    ]


def test_its_kdc_gives_tickets(samba_ad: SambaAD) -> None:
    kinit = require_program("kinit", "apt-get install krb5-user")
    cache = samba_ad.directory / "ccache"
    environment = {
        **os.environ,
        "KRB5_CONFIG": str(samba_ad.kerberos_configuration()),
        "KRB5CCNAME": f"FILE:{cache}",
    }

    def ticket(password: str) -> int:
        command = [kinit, f"alice@{samba_ad.realm}"]
        return subprocess.run(
            command, input=password + "\n", text=True, env=environment, capture_output=True, check=False
        ).returncode

    assert ticket("wrong") != 0
    assert ticket(password_of("alice")) == 0
    assert cache.exists()


def test_a_restarted_domain_keeps_its_people_and_a_frozen_one_answers_nobody(samba_ad: SambaAD) -> None:
    samba_ad.restart()
    assert bind(samba_ad, samba_ad.principal_of("bob"), password_of("bob")) == 0
    context = ssl.create_default_context(cafile=str(samba_ad.pki.ca))
    with (
        samba_ad.frozen(),
        socket.create_connection(("127.0.0.1", samba_ad.tls_port), 0.5) as raw,
        pytest.raises(TimeoutError),
    ):
        context.wrap_socket(raw, server_hostname="127.0.0.1")
    assert bind(samba_ad, samba_ad.principal_of("bob"), password_of("bob")) == 0
