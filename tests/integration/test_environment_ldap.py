"""The test directories: that they are what the other tests take them for, seen by an LDAP client of its own."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import ldap3
import pytest
from ldap3.core.exceptions import LDAPSocketReceiveError
from ldap3.utils.conv import escape_filter_chars

from tests.directory_entries import GROUPS, PEOPLE
from tests.ldap_client import bind, connected, search
from tests.ldap_servers import DirectoryRefused, Slapd
from tests.pki import Pki
from tests.servers import password_of


@pytest.fixture(params=["slapd", "slapd_dynlist"])
def either(request: pytest.FixtureRequest) -> Slapd:
    found: Slapd = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("by", ["ldap", "ldaps", "starttls"])
def test_the_service_user_binds_by_each_transport_and_a_wrong_password_does_not(
    either: Slapd, by: str
) -> None:
    assert bind(either, either.service_dn, either.service_password, by=by) == 0
    assert bind(either, either.service_dn, "wrong", by=by) == 49


@pytest.mark.parametrize("uid", PEOPLE)
def test_each_person_is_found_bound_and_refused_with_another_password(either: Slapd, uid: str) -> None:
    found = search(either, either.people_base, f"(uid={escape_filter_chars(uid)})")
    assert len(found) == 1
    assert bind(either, found[0]["dn"], password_of(uid)) == 0
    assert bind(either, either.dn_of(uid), password_of(uid)) == 0
    assert bind(either, found[0]["dn"], password_of(uid) + "x") == 49


@pytest.mark.parametrize("uid", PEOPLE)
def test_member_of_is_the_direct_groups_with_the_overlay_memberof(slapd: Slapd, uid: str) -> None:
    by_member = search(slapd, slapd.groups_base, f"(member={escape_filter_chars(slapd.dn_of(uid))})")
    (person,) = search(slapd, slapd.dn_of(uid), "(objectClass=*)", "memberOf", scope=ldap3.BASE)
    expected = [name for name, group in GROUPS.items() if uid in group.people]
    assert sorted(entry["dn"] for entry in by_member) == sorted(person["attributes"].get("memberOf", []))
    assert len(by_member) == len(expected)


def test_member_of_is_the_nested_groups_with_the_overlay_dynlist(slapd_dynlist: Slapd) -> None:
    def groups(uid: str) -> set[str]:
        (person,) = search(
            slapd_dynlist, slapd_dynlist.dn_of(uid), "(objectClass=*)", "memberOf", scope=ldap3.BASE
        )
        return {
            dn.lower().removesuffix("," + slapd_dynlist.groups_base)
            for dn in person["attributes"]["memberOf"]
        }

    assert groups("eve") == {r"cn=c\2b\2b \22core\22 team", "cn=developers", "cn=everyone"}
    assert groups("bob") == {"cn=developers", "cn=everyone", "cn=loop a", "cn=loop b"}


def test_the_cycle_is_closed(slapd: Slapd) -> None:
    for outer, inner in (("loop a", "loop b"), ("loop b", "loop a")):
        found = search(slapd, slapd.groups_base, f"(member={slapd.group_dn(inner)})")
        assert [entry["dn"] for entry in found] == [slapd.group_dn(outer)]


def test_openldap_answers_the_in_chain_filter_with_success_and_nothing(slapd: Slapd) -> None:
    assert not search(slapd, slapd.groups_base, f"(member:1.2.840.113556.1.4.1941:={slapd.dn_of('bob')})")


def test_nobody_reads_passwords_and_anonymous_is_refused(slapd: Slapd) -> None:
    (person,) = search(slapd, slapd.dn_of("bob"), "(objectClass=*)", "*", scope=ldap3.BASE)
    assert "userPassword" not in person["attributes"]
    assert bind(slapd, None, None) == 48
    assert bind(slapd, slapd.dn_of("bob"), password_of("bob")) == 0


def test_a_server_may_let_anonymous_read(pki: Pki, tmp_path: Path) -> None:
    server = Slapd(tmp_path, pki, anonymous=True)
    try:
        server.start().wait()
        with connected(server, None, None) as connection:
            assert connection.bind()[1]["result"] == 0
            found = connection.search(server.people_base, "(uid=bob)", ldap3.SUBTREE, attributes=["1.1"])[2]
            assert [entry["dn"] for entry in found] == [server.dn_of("bob")]
    finally:
        server.kill()


def test_members_come_and_go_and_passwords_change(slapd: Slapd) -> None:
    kim, group = slapd.dn_of("kim"), slapd.group_dn("dba")
    membership = f"(&(objectClass=groupOfNames)(member={kim}))"
    assert not search(slapd, slapd.base, membership)
    slapd.add_member("dba", kim)
    assert [entry["dn"] for entry in search(slapd, slapd.base, membership)] == [group]
    slapd.remove_member("dba", kim)
    assert not search(slapd, slapd.base, membership)
    with pytest.raises(DirectoryRefused):
        slapd.remove_member("dba", kim)
    slapd.set_password("kim", "another")
    try:
        assert bind(slapd, kim, "another") == 0
        assert bind(slapd, kim, password_of("kim")) == 49
    finally:
        slapd.set_password("kim", password_of("kim"))


def test_a_person_with_many_groups_has_them_for_as_long_as_the_block_lasts(slapd: Slapd) -> None:
    membership = f"(member={slapd.dn_of('kim')})"
    with slapd.many_groups("kim", 100) as groups:
        assert sorted(entry["dn"] for entry in search(slapd, slapd.base, membership)) == sorted(groups)
    assert not search(slapd, slapd.base, membership)


def test_a_server_may_hold_ten_thousand_groups_of_one_person_and_limit_its_answers(
    pki: Pki, tmp_path: Path
) -> None:
    server = Slapd(tmp_path, pki, size_limit=500)
    try:
        server.start().wait()
        server.load_groups_offline("kim", 10_000)
        with connected(server, server.service_dn, server.service_password) as connection:
            connection.bind()
            membership = f"(member={server.dn_of('kim')})"
            _, result, found, _ = connection.search(
                server.base, membership, ldap3.SUBTREE, attributes=["1.1"]
            )
            assert (result["result"], len(found)) == (4, 500)
            person = connection.search(server.dn_of("kim"), "(uid=*)", ldap3.BASE, attributes=["memberOf"])[
                2
            ][0]
            assert len(person["attributes"]["memberOf"]) == 10_000
    finally:
        server.kill()


def test_connections_are_counted_and_the_tests_own_changes_are_not(pki: Pki, tmp_path: Path) -> None:
    server = Slapd(tmp_path, pki)
    try:
        server.start().wait()
        assert server.connections_accepted == 0
        with connected(server, server.service_dn, server.service_password) as connection:
            connection.bind()
            assert (server.connections_accepted, server.connections_open) == (1, 1)
        server.add_member("dba", server.dn_of("kim"))
        assert bind(server, server.dn_of("kim"), "wrong") == 49
        assert server.connections_accepted == 2
        assert server.binds_of(server.dn_of("kim")) == 1
    finally:
        server.kill()


def test_a_frozen_server_accepts_and_never_answers_and_a_killed_one_refuses(pki: Pki, tmp_path: Path) -> None:
    server = Slapd(tmp_path, pki)
    try:
        server.start().wait()
        with (
            server.frozen(),
            connected(server, server.service_dn, server.service_password, by="ldap") as connection,
        ):
            connection.socket.settimeout(0.3)
            with pytest.raises(LDAPSocketReceiveError):
                connection.bind()
        assert bind(server, server.service_dn, server.service_password) == 0
        server.add_member("dba", server.dn_of("kim"))
        server.freeze()
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.tls_port), 5)
        server.restart()
        assert search(server, server.base, f"(member={server.dn_of('kim')})")
    finally:
        server.kill()


def test_a_referral_is_given_for_an_entry_that_is_elsewhere(slapd: Slapd) -> None:
    dn = slapd.add_referral("elsewhere", "ldap://127.0.0.1:9/ou=elsewhere,dc=example,dc=org")
    try:
        with connected(slapd, slapd.service_dn, slapd.service_password) as connection:
            connection.bind()
            found = connection.search(slapd.base, "(uid=bob)", ldap3.SUBTREE, attributes=["1.1"])[2]
            assert [entry["type"] for entry in found] == ["searchResEntry", "searchResRef"]
            base_search = connection.search(f"uid=x,{dn}", "(uid=*)", ldap3.BASE, attributes=["1.1"])
            assert base_search[1]["result"] == 10
    finally:
        slapd.delete_referral(dn)


@pytest.mark.parametrize("kind", ["server_expired", "server_wrong_host", "server_untrusted"])
def test_a_bad_certificate_is_really_presented(pki: Pki, tmp_path: Path, kind: str) -> None:
    server = Slapd(tmp_path, pki, certificate=getattr(pki, kind))
    context = ssl.create_default_context(cafile=str(pki.ca))
    try:
        server.start().wait()
        with socket.create_connection(("127.0.0.1", server.tls_port), 5) as raw, pytest.raises(ssl.SSLError):
            context.wrap_socket(raw, server_hostname="localhost")
    finally:
        server.kill()
