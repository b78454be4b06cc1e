"""Logins by a real OpenLDAP through mongoguard, with a real driver."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure

from tests.directory_entries import PEOPLE
from tests.ldap_guard import LdapGuard, ldap_settings, member_template, running
from tests.ldap_servers import Slapd
from tests.servers import Mongod, ServerDidNotStart, free_port, password_of


def until(seconds: float = 10.0) -> Iterator[None]:
    """Yield until the caller breaks out; fail when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.05)
    pytest.fail(f"not within {seconds} s")


FIND = [{"resource": {"db": "shop", "collection": ""}, "actions": ["find", "insert"]}]


@pytest.fixture(scope="module")
def roles_on_admin(standalone: Mongod, slapd: Slapd) -> Iterator[None]:
    """Roles named as groups: one as the directory spells it, one otherwise, one that is no DN."""
    names = (
        slapd.group_dn("dba"),
        "CN=ops\\, eu (Admins), OU=Groups, DC=Example, DC=org",
        slapd.group_dn("データ分析"),
        slapd.group_dn("everyone"),
        "cn=broken,,dc=org",
    )
    with standalone.client() as client:
        for name in names:
            client.admin.command("createRole", name, privileges=FIND, roles=[])
        yield
        for name in names:
            client.admin.command("dropRole", name)


@pytest.fixture(scope="module")
def guard(
    standalone: Mongod, slapd: Slapd, roles_on_admin: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LdapGuard]:
    with running(LdapGuard(tmp_path_factory.mktemp("lg"), standalone, ldap_settings(slapd))) as guard:
        yield guard


@pytest.fixture
def make_guard(standalone: Mongod, slapd: Slapd, roles_on_admin: None, tmp_path: Path) -> Iterator[Any]:
    """`make_guard(nestedGroups="recursive", ...)`: a guard of the test's own, stopped at its end."""
    with ExitStack() as stack:

        def make(*, sections: dict[str, Any] | None = None, **ldap: Any) -> LdapGuard:
            guard = LdapGuard(tmp_path, standalone, ldap_settings(slapd, **ldap), **(sections or {}))
            return stack.enter_context(running(guard))

        yield make


# ---- groups and roles -------------------------------------------------------------------------------------------------


def test_a_member_of_a_group_that_a_role_is_named_as_has_that_role(guard, slapd):
    dba = f"{slapd.group_dn('dba')}@admin"
    assert guard.roles("grace") == {dba}
    assert guard.roles("alice") == {dba, f"{slapd.group_dn('データ分析')}@admin"}


def test_the_role_works_and_nothing_else_does(guard):
    with guard.login("alice") as client:
        client.shop.orders.insert_one({"by": "alice"})
        assert client.shop.orders.find_one({"by": "alice"}) is not None
        with pytest.raises(OperationFailure, match="not authorized on shop"):
            client.shop.orders.drop()


def test_a_role_whose_name_spells_the_group_otherwise_is_the_same_group(guard):
    expected = {"CN=ops\\, eu (Admins), OU=Groups, DC=Example, DC=org@admin"}
    assert guard.roles("carl") == guard.roles("ivan") == guard.roles("judy*") == expected


def test_somebody_without_a_matching_group_logs_in_and_may_do_nothing(guard):
    with guard.login("kim") as client:
        assert client.admin.command("connectionStatus")["authInfo"]["authenticatedUserRoles"] == []
        with pytest.raises(OperationFailure, match="not authorized"):
            client.shop.orders.find_one()
    assert "kim@$external: authenticated, 0 groups, 0 matched" in guard.log


def test_somebody_without_a_role_is_refused_where_roles_are_required(make_guard, slapd):
    guard = make_guard(authz={"queryTemplate": member_template(slapd), "requireRoles": True})
    code, reason = guard.refused("kim")
    assert (code, reason) == (
        18,
        "authenticated, 0 groups, 0 matched; no role that exists, which security.ldap.authz.requireRoles asks for",
    )
    assert guard.roles("grace")


def test_a_role_that_looks_like_a_group_and_is_none_is_told_at_once(guard):
    guard.roles("alice")
    assert "the role cn=broken,,dc=org@admin looks like a group's DN and is none" in guard.log


def test_a_role_made_while_users_are_logged_in_holds_for_their_next_command(guard, slapd):
    name = slapd.group_dn("developers")
    with guard.login("bob") as client:
        with pytest.raises(OperationFailure, match="not authorized"):
            client.shop.orders.find_one()
        with guard.client() as root:
            root.admin.command("createRole", name, privileges=FIND, roles=[])
        try:
            client.shop.orders.find_one()
        finally:
            with guard.client() as root:
                root.admin.command("dropRole", name)
        with pytest.raises(OperationFailure, match="not authorized"):
            client.shop.orders.find_one()


def test_the_table_gives_roles_beside_those_named_as_groups(make_guard, slapd):
    guard = make_guard(
        roleMapping={
            slapd.group_dn("dba").upper(): ["clusterMonitor", {"role": "read", "db": "shop"}],
            "cn=developers,ou=groups,dc=example,dc=org": [{"role": "readWrite", "db": "shop"}],
        }
    )
    assert guard.roles("grace") == {f"{slapd.group_dn('dba')}@admin", "clusterMonitor@admin", "read@shop"}
    assert guard.roles("bob") == {"readWrite@shop"}


@pytest.mark.parametrize(("strategy", "everyone"), [("direct", False), ("recursive", True)])
def test_groups_in_groups_count_by_the_configured_strategy(make_guard, slapd, strategy, everyone):
    guard = make_guard(nestedGroups=strategy)
    assert (f"{slapd.group_dn('everyone')}@admin" in guard.roles("eve")) == everyone
    assert guard.roles("kim") == set()


def test_groups_that_contain_each_other_end(make_guard, slapd):
    role = {"role": "read", "db": "shop"}
    guard = make_guard(nestedGroups="recursive", roleMapping={slapd.group_dn("loop b"): [role]})
    assert "read@shop" in guard.roles("bob")


def test_the_attribute_of_the_users_own_entry_may_hold_the_groups(make_guard, slapd):
    guard = make_guard(authz={"queryTemplate": "{USER}?memberOf?base"})
    assert guard.roles("grace") == {f"{slapd.group_dn('dba')}@admin"}
    assert guard.roles("eve") == set()


def test_a_server_that_nests_by_itself_needs_no_strategy(standalone, slapd_dynlist, roles_on_admin, tmp_path):
    settings = ldap_settings(slapd_dynlist, authz={"queryTemplate": "{USER}?memberOf?base"})
    with running(LdapGuard(tmp_path, standalone, settings)) as guard:
        assert f"{slapd_dynlist.group_dn('everyone')}@admin" in guard.roles("eve")


def test_the_in_chain_rule_on_a_server_that_does_not_know_it_is_refused_at_start(standalone, slapd, tmp_path):
    guard = LdapGuard(tmp_path, standalone, ldap_settings(slapd, nestedGroups="in_chain")).start()
    with pytest.raises(ServerDidNotStart, match="in_chain works on Active Directory alone"):
        guard.wait()
    guard.stop()


# ---- passwords --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", PEOPLE)
def test_everybody_logs_in_with_their_own_password_and_no_other(guard, uid):
    guard.roles(uid)
    assert guard.refused(uid, "wrong") == (18, "wrong password, or no such user (49 invalidCredentials)")


@pytest.mark.parametrize(
    "name",
    [
        "nobody",
        "*",
        "ali*",
        "alice)(uid=*",
        "*)(|(uid=alice",
        "alice,ou=people",
        "alice\\",
        "\\61lice",
        "%61lice",
        "alice\x01",
        "{0}",
        "a" * 1024,
    ],
)
def test_a_name_that_is_not_somebodys_is_refused_whatever_it_is_made_of(guard, name):
    code, reason = guard.refused(name, password_of("alice"))
    assert code == 18
    assert reason in (
        "no element of userToDNMapping matches the user name",
        "wrong password, or no such user (49 invalidCredentials)",
    )


@pytest.mark.parametrize("name", ["ALICE", "alice ", " alice", "alice\u00a0", "\uff41lice"])
def test_a_name_that_the_directory_takes_for_somebodys_needs_that_ones_password(guard, slapd, name):
    """Case, outer spaces and widths of letters mean nothing to caseIgnoreMatch (RFC 4518)."""
    assert f"{slapd.group_dn('dba')}@admin" in guard.roles(name, password_of("alice"))
    assert guard.refused(name, password_of("bob"))[0] == 18


def test_a_name_of_ten_kilobytes_is_refused(guard):
    assert guard.refused("a" * 10_000, "x") == (18, "the user name is longer than 1024 characters")
    assert guard.refused("a" * 10_001, "x") == (18, "the user name is longer than 10000 bytes")


@pytest.mark.parametrize(
    ("name", "refused"),
    [("alice", False), ("bob,ou=people", True), ("alice+cn=x", True), ("alice,", True), ("\\61lice", True)],
)
def test_a_name_put_into_a_dn_cannot_move_it(make_guard, name, refused):
    guard = make_guard(
        userToDNMapping='[{"match": "(.+)", "substitution": "uid={0},ou=people,dc=example,dc=org"}]'
    )
    if refused:
        assert guard.refused(name, password_of("bob" if "bob" in name else "alice"))[0] == 18
    else:
        guard.roles(name)


def test_a_dn_logs_in_where_names_are_not_mapped(make_guard, slapd):
    guard = make_guard(userToDNMapping="")
    assert guard.roles(slapd.dn_of("grace"), password_of("grace")) == {f"{slapd.group_dn('dba')}@admin"}
    assert guard.refused("grace") == (18, "the mapped name is no DN for this directory (34 invalidDNSyntax)")


def test_plain_is_refused_on_a_connection_that_can_be_read(guard):
    before = len(guard.reasons())
    with (
        pymongo.MongoClient(
            f"mongodb://{guard.address}/",
            username="alice",
            password=password_of("alice"),
            authMechanism="PLAIN",
        ) as client,
        pytest.raises(OperationFailure, match=r"Authentication failed\.") as caught,
    ):
        client.admin.command("ping")
    assert caught.value.code == 18
    assert "neither TLS nor a Unix socket" in guard.reason_after(before)


def test_scram_users_are_as_they_were(guard):
    with guard.client() as client:
        client.admin.command("usersInfo")


# ---- without the directory's groups, and without its passwords --------------------------------------------------------


def test_without_a_template_a_user_of_that_name_must_exist(make_guard, standalone):
    guard = make_guard(authz={})
    with standalone.client() as root:
        root["$external"].command("createUser", "alice", roles=[{"role": "read", "db": "shop"}])
        try:
            assert guard.roles("alice") == {"read@shop"}
            assert guard.refused("alice", "wrong")[0] == 18
            assert guard.refused("bob") == (
                18,
                "the password is right, and there is no such user on $external",
            )
        finally:
            root["$external"].command("dropUser", "alice")


def test_with_a_template_a_document_of_the_user_is_not_looked_at(guard, standalone):
    with standalone.client() as root:
        root["$external"].command("createUser", "kim", roles=[{"role": "root", "db": "admin"}])
        try:
            assert guard.roles("kim") == set()
        finally:
            root["$external"].command("dropUser", "kim")


def test_roles_of_a_users_file_are_given_to_groups(make_guard, slapd, tmp_path):
    users = tmp_path / "users.yaml"
    role = (
        "{role: 'CN=DBA, OU=groups, DC=example, DC=org', db: admin, privileges: [], roles: [readAnyDatabase]}"
    )
    users.write_text(f"users: []\nroles:\n- {role}\n")
    security = {
        "ldap": ldap_settings(slapd),
        "userDirectory": "file",
        "userFile": str(users),
    }
    guard = make_guard(sections={"security": security})
    assert "CN=DBA, OU=groups, DC=example, DC=org@admin" in guard.roles("grace")
    users.write_text("users: []\nroles: []\n")
    guard.send_signal(signal.SIGHUP)
    for _ in until():
        if guard.roles("grace") == set():
            break


# ---- how connections are made -----------------------------------------------------------------------------------------


def test_starttls_protects_the_passwords(make_guard, slapd):
    guard = make_guard(servers=f"127.0.0.1:{slapd.port}", transportSecurity="startTLS")
    assert guard.roles("grace") == {f"{slapd.group_dn('dba')}@admin"}
    assert guard.refused("grace", "wrong")[0] == 18


def test_a_password_that_is_rolled_over_is_tried_with_the_next_one(make_guard, slapd):
    bind = {"queryUser": slapd.service_dn, "queryPassword": ["not-yet", slapd.service_password]}
    assert make_guard(bind=bind).roles("grace")


def test_a_directory_that_refuses_the_service_is_told_at_start_and_does_not_stop_one_who_waives_that(
    standalone, slapd, tmp_path
):
    bind = {"queryUser": slapd.service_dn, "queryPassword": "canary-wrong"}
    guard = LdapGuard(tmp_path, standalone, ldap_settings(slapd, bind=bind)).start()
    with pytest.raises(
        ServerDidNotStart, match=r"security.ldap: .* does not accept security.ldap.bind.queryUser"
    ):
        guard.wait()
    guard.stop()
    guard.configure_ldap(ldap_settings(slapd, bind=bind, validateLDAPServerConfig=False))
    with running(guard):
        code, reason = guard.refused("alice")
        assert code == 6
        assert "does not accept security.ldap.bind.queryUser" in reason
        with guard.client() as client:
            client.admin.command("ping")
    assert "canary" not in guard.log + guard.audit_path.read_text()


def test_a_server_that_is_down_is_passed_over(make_guard, slapd):
    guard = make_guard(servers=f"127.0.0.1:{free_port()},127.0.0.1:{slapd.tls_port}")
    assert guard.roles("grace")
    before = guard.log.count("is passed over")
    assert guard.roles("alice")
    assert guard.log.count("is passed over") == before == 1


# ---- secrets ----------------------------------------------------------------------------------------------------------


def test_no_password_reaches_any_output(make_guard, slapd):
    guard = make_guard(userToDNMapping="")
    canary = "canary-0f3a"
    for name, password in (
        (slapd.dn_of("alice"), canary),
        ("alice", canary),
        (f"uid={canary},ou=x", canary),
        ("a" * 10_001, canary),
        ("x", canary * 500),
    ):
        with guard.login(name, password) as client, pytest.raises(OperationFailure):
            client.admin.command("ping")
    with guard.login("b" * 300 + ",,", canary) as client, pytest.raises(OperationFailure):
        client.admin.command("ping")
    guard.stop()
    output = guard.log + guard.audit_path.read_text()
    assert output.count(canary) == output.count(f"uid={canary}"), "only the name that holds it may be printed"
    assert slapd.service_password not in output
