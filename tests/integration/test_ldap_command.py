"""`mongoguard ldap` and what `mongoguard check` says of the directory, against real directories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ldap_guard import BY_UID, ldap_settings, member_template
from tests.ldap_servers import Slapd
from tests.samba_ad import SambaAD
from tests.servers import Mongod, free_port, init_upstream, password_of, run_mongoguard

OK, FAILED, USAGE = 0, 1, 2

IN_CHAIN = "1.2.840.113556.1.4.1941"


class Command:
    """The command, with a configuration of its own; canary passwords must be in nothing that it prints."""

    def __init__(self, folder: Path, ldap: dict[str, Any], **sections: Any) -> None:
        self.folder = folder
        self.path = folder / "mongoguard.yaml"
        users = folder / "users.yaml"
        roles = sections.pop("roles", {})
        users.write_text(
            yaml.safe_dump(
                {
                    "users": sections.pop("users", []),
                    "roles": [
                        {"role": name, "db": "admin", "privileges": [], "roles": inherited}
                        for name, inherited in roles.items()
                    ],
                }
            )
        )
        self.path.write_text(
            yaml.safe_dump(
                {
                    "upstream": {"uri": "mongodb://s:p@127.0.0.1:1/"},
                    "net": {"unixDomainSocket": {"enabled": True, "pathPrefix": str(folder)}},
                    "security": {"userDirectory": "file", "userFile": str(users), "ldap": ldap},
                    "setParameter": {"authenticationMechanisms": "PLAIN"},
                    **sections,
                }
            )
        )

    def run(self, user: str, password: str | None = None, *arguments: str) -> tuple[int, str]:
        """Exit status, and everything printed."""
        if password is not None:
            file = self.folder / "password"
            file.write_text(f"{password}\n")
            arguments = ("--password-file", str(file), *arguments)
        done = run_mongoguard("ldap", "-f", str(self.path), "--user", user, *arguments)
        printed = done.stdout + done.stderr
        assert "Traceback" not in printed
        for secret in (password, password_of("svc-mongoguard")):
            assert not (secret or "").strip() or secret not in printed
        return done.returncode, printed

    def document(self, user: str, password: str | None = None) -> tuple[int, dict[str, Any]]:
        """Exit status, and the JSON document."""
        status, printed = self.run(user, password, "--json")
        document: dict[str, Any] = json.loads(printed)
        return status, document


def step(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [s for s in document["steps"] if s["step"].startswith(name)]
    return found


@pytest.fixture
def on_slapd(slapd: Slapd, tmp_path: Path) -> Any:
    """`on_slapd(roles=..., nestedGroups=...)`: the command, with a users file for the roles."""

    def make(*, roles: Any = (), sections: dict[str, Any] | None = None, **ldap: Any) -> Command:
        return Command(tmp_path, ldap_settings(slapd, **ldap), roles=dict(roles), **(sections or {}))

    return make


READ = [{"role": "read", "db": "shop"}]


# ---- all is well ------------------------------------------------------------------------------------------------------


def test_every_step_of_a_login_is_shown(on_slapd, slapd):
    dba = slapd.group_dn("dba")
    status, printed = on_slapd(roles={dba: READ}).run("alice", password_of("alice"))
    print(printed)
    assert status == OK
    server = f"127.0.0.1:{slapd.tls_port}"
    for expected in (
        "[OK]   configuration",
        f"1 to try, in this order: {server}",
        "tls: TLSv1.3, TLS_AES_256_GCM_SHA384",
        "certificate of ",
        f"as {slapd.service_dn}",
        "direct, which every server offers",
        f"element 0 of security.ldap.userToDNMapping matches: the name is bound as {slapd.dn_of('alice')}",
        "base ou=people,dc=example,dc=org, scope sub, filter (uid=alice): 1 entries",
        "the directory accepts the name and the password",
        "2 by security.ldap.authz.queryTemplate (direct)",
        f"filter (member={slapd.dn_of('alice')}): 2 entries",
        f"{dba} -> {dba}@admin",
        "-> no role of that name on admin, and no roleMapping",
        f"{dba}@admin exists",
        "[OK]   admission",
    ):
        assert expected in printed, expected
    assert "[FAIL]" not in printed


def test_json_holds_the_same_steps(on_slapd, slapd):
    dba = slapd.group_dn("dba")
    status, document = on_slapd(roles={dba: READ}).document("alice", password_of("alice"))
    assert (status, document["user"], document["ok"]) == (OK, "alice", True)
    assert step(document, "mapping")["bindName"] == slapd.dn_of("alice")
    assert step(document, "connection")["tls"]["version"] == "TLSv1.3"
    assert {group["dn"]: group["roles"] for group in step(document, "roles")["groups"]} == {
        dba: [f"{dba}@admin"],
        slapd.group_dn("データ分析"): [],
    }
    assert step(document, "resulting roles")["roles"] == [{"role": dba, "db": "admin", "exists": True}]
    assert all(s["ms"] >= 0 for s in document["steps"])


def test_without_a_password_only_the_roles_are_asked_for(on_slapd, slapd):
    binds = slapd.binds_of(slapd.dn_of("grace"))
    status, document = on_slapd(roles={slapd.group_dn("dba"): READ}).document("grace")
    assert status == OK
    assert step(document, "authentication")["result"] == "SKIP"
    assert step(document, "resulting roles")["roles"][0]["exists"]
    assert slapd.binds_of(slapd.dn_of("grace")) == binds


def test_roles_come_from_the_deployment_where_it_is_the_directory(slapd, standalone: Mongod, tmp_path):
    name = f"{slapd.group_dn('Ops, EU (Admins)')}"
    command = Command(
        tmp_path,
        ldap_settings(slapd),
        upstream={"uri": init_upstream(standalone)},
        security={"ldap": ldap_settings(slapd)},
    )
    with standalone.client() as root:
        root.admin.command("createRole", name, privileges=[], roles=READ)
        try:
            status, document = command.document("carl", password_of("carl"))
        finally:
            root.admin.command("dropRole", name)
        assert status == OK
        assert step(document, "resulting roles")["roles"] == [{"role": name, "db": "admin", "exists": True}]
        status, document = command.document("carl", password_of("carl"))
    assert step(document, "admission")["result"] == "WARN"


def test_a_deployment_that_does_not_answer_fails_where_roles_are_asked_for(slapd, tmp_path):
    uri = f"mongodb://s:canary-pw@127.0.0.1:{free_port()}/"
    command = Command(
        tmp_path,
        ldap_settings(slapd),
        upstream={"uri": uri, "serverSelectionTimeoutMS": 200},
        security={"ldap": ldap_settings(slapd)},
    )
    status, printed = command.run("alice", password_of("alice"))
    assert status == FAILED
    assert "[OK]   groups" in printed
    assert "[FAIL] roles" in printed
    assert "canary" not in printed


def test_without_a_query_template_the_user_must_be_known(on_slapd):
    known = {"users": [{"user": "alice", "db": "$external", "roles": READ}]}
    command = on_slapd(sections=known, authz={})
    status, printed = command.run("alice", password_of("alice"))
    assert status == OK, printed
    assert "alice@$external has 1 roles" in printed
    status, printed = command.run("bob", password_of("bob"))
    assert status == FAILED
    assert "there is no user bob@$external" in printed


# ---- what is wrong is named -------------------------------------------------------------------------------------------


def test_a_wrong_password_fails_and_nothing_is_asked_after_it(on_slapd):
    status, document = on_slapd().document("alice", "canary-wrong")
    assert status == FAILED
    assert document["steps"][-1]["step"] == "authentication"
    assert "wrong password, or no such user (49 invalidCredentials)" in document["steps"][-1]["text"]


@pytest.mark.parametrize("password", ["", "\n"])
def test_an_empty_password_is_never_sent(on_slapd, slapd, password):
    before = slapd.binds_of(slapd.dn_of("alice"))
    status, printed = on_slapd().run("alice", password)
    assert status == FAILED
    assert "must not be empty" in printed
    assert slapd.binds_of(slapd.dn_of("alice")) == before


def test_a_name_that_nobody_has_fails_with_the_searches_made(on_slapd):
    status, printed = on_slapd().run("nobody*", "canary-pw")
    assert status == FAILED
    assert "[FAIL] mapping" in printed
    assert r"filter (uid=nobody\2a): 0 entries" in printed


def test_an_element_that_matches_in_vain_is_named(on_slapd):
    elements = [
        {"match": "([a-z]+)", "ldapQuery": "ou=groups,dc=example,dc=org??sub?(cn={0})"},
        {"match": "nobody", "substitution": "cn=x"},
        *BY_UID,
    ]
    status, document = on_slapd(userToDNMapping=json.dumps(elements)).document("alice")
    mapping = step(document, "mapping")
    assert (status, mapping["element"]) == (OK, 2)
    assert "element 0 matches, and its ldapQuery finds 0 entries: passed over" in mapping["details"]


def test_near_misses_are_named(on_slapd):
    roles = {
        "cn=dba,ou=teams,dc=example,dc=org": [],
        "dba": [],
        "cn=dba,,dc=org": [],
        "cn=data,ou=groups,dc=example,dc=org": [],
    }
    status, document = on_slapd(roles=roles).document("grace")
    (group,) = step(document, "roles")["groups"]
    assert status == OK
    assert group["roles"] == []
    assert sorted(group["nearMisses"]) == [
        "the role cn=dba,,dc=org on admin is not a DN: an attribute type is a name such as cn, or a "
        "dotted number such as 2.5.4.3 (at character 8)",
        "the role cn=dba,ou=teams,dc=example,dc=org on admin: ou=teams there, ou=groups in the group's DN",
        "the role dba on admin: a role is named as the whole DN, or stands in security.ldap.roleMapping",
    ]
    assert step(document, "roles")["unparsedRoles"] == ["cn=dba,,dc=org"]
    assert step(document, "admission")["result"] == "WARN"


def test_a_role_that_does_not_exist_is_told(on_slapd, slapd):
    mapping = {slapd.group_dn("dba"): ["missing", {"role": "read", "db": "shop"}]}
    status, document = on_slapd(roleMapping=mapping).document("grace")
    assert (status, step(document, "resulting roles")["result"]) == (OK, "WARN")
    assert step(document, "resulting roles")["roles"] == [
        {"role": "missing", "db": "admin", "exists": False},
        {"role": "read", "db": "shop", "exists": True},
    ]


def test_somebody_without_roles_fails_where_roles_are_required(on_slapd, slapd):
    authz = {"queryTemplate": member_template(slapd), "requireRoles": True}
    status, printed = on_slapd(authz=authz).run("kim", password_of("kim"))
    assert status == FAILED
    assert "[FAIL] admission" in printed
    assert on_slapd(authz=authz, roles={slapd.group_dn("dba"): READ}).run("grace")[0] == OK


def test_every_server_is_tried_not_only_the_first(on_slapd, slapd):
    silent = free_port()
    servers = f"127.0.0.1:{slapd.tls_port},127.0.0.1:{silent}"
    status, printed = on_slapd(servers=servers).run("alice", password_of("alice"))
    assert status == FAILED
    assert f"[FAIL] connection to 127.0.0.1:{silent}" in printed
    assert "the directory accepts the name and the password" in printed


def test_without_any_server_nothing_else_is_tried(on_slapd):
    status, document = on_slapd(servers=f"127.0.0.1:{free_port()}").document("alice", "canary-pw")
    assert status == FAILED
    assert [s["step"].split()[0] for s in document["steps"]] == ["configuration", "servers", "connection"]


def test_a_server_of_another_authority_fails_and_sees_no_password(on_slapd, slapd, pki):
    accepted = slapd.binds_of(slapd.service_dn)
    status, printed = on_slapd(CAFile=str(pki.other_ca)).run("alice", password_of("alice"))
    assert status == FAILED
    assert "CERTIFICATE_VERIFY_FAILED" in printed
    assert slapd.binds_of(slapd.service_dn) == accepted


def test_a_wrong_service_password_fails_and_is_tried_on_one_server_alone(on_slapd, slapd):
    before = slapd.binds_of(slapd.service_dn)
    bind = {"queryUser": slapd.service_dn, "queryPassword": "canary-wrong"}
    servers = f"127.0.0.1:{slapd.tls_port},localhost:{slapd.tls_port}"
    status, printed = on_slapd(bind=bind, servers=servers).run("alice", password_of("alice"))
    assert status == FAILED
    assert "does not accept security.ldap.bind.queryUser: wrong password" in printed
    assert "[SKIP] service bind on localhost" in printed
    assert "canary" not in printed
    assert slapd.binds_of(slapd.service_dn) == before + 1


@pytest.mark.parametrize("nested", ["in_chain", "direct"])
def test_active_directorys_rule_on_openldap_is_found_out(on_slapd, slapd, nested):
    rule = "" if nested == "in_chain" else f":{IN_CHAIN}:"
    authz = {"queryTemplate": f"{slapd.groups_base}??sub?(member{rule}={{USER}})"}
    command = on_slapd(authz=authz, nestedGroups=nested)
    status, printed = command.run("alice")
    assert status == FAILED
    assert "[FAIL] nested groups" in printed
    assert "does not say it is" in printed
    done = run_mongoguard("check", "-f", str(command.path))
    assert "FAIL  security.ldap: nested groups: " in done.stdout


def test_what_a_directory_calls_its_entries_does_not_reach_the_terminal(on_slapd, slapd):
    name = "bell\x1b[31m"
    slapd.add_group(name, [slapd.dn_of("kim")])
    try:
        status, printed = on_slapd().run("kim")
    finally:
        slapd.delete(slapd.group_dn(name))
    assert status == OK
    assert "\x1b" not in printed
    assert "bell" in printed


def test_passwords_on_lines_that_plain_refuses_are_warned_of(on_slapd):
    status, printed = on_slapd(
        sections={"net": {}, "setParameter": {"authenticationMechanisms": "PLAIN"}}
    ).run("alice")
    assert status == OK
    assert "PLAIN is refused on every connection" in printed


def test_a_server_that_never_answers_fails_in_time(on_slapd, slapd):
    command = on_slapd(timeoutMS=500)
    with slapd.frozen():
        status, document = command.document("alice", password_of("alice"))
    assert status == FAILED
    connection = step(document, "connection")
    assert connection["text"] == f"127.0.0.1:{slapd.tls_port} did not answer within 0.5 s"
    assert 400 < connection["ms"] < 5000


@pytest.mark.parametrize(("days", "result"), [(30, "WARN"), (0, "OK")])
def test_a_certificate_that_ends_soon_is_warned_of(on_slapd, days, result):
    parameters = {
        "authenticationMechanisms": "PLAIN",
        "tlsX509ExpirationWarningThresholdDays": days,
    }
    status, document = on_slapd(sections={"setParameter": parameters}).document("alice")
    assert (status, step(document, "connection")["result"]) == (OK, result)


# ---- usage ------------------------------------------------------------------------------------------------------------


def test_a_configuration_without_ldap_is_bad_usage(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("upstream: {uri: 'mongodb://s:p@localhost'}")
    done = run_mongoguard("ldap", "-f", str(path), "--user", "alice")
    assert done.returncode == USAGE
    assert "there is no section security.ldap" in done.stderr


def test_a_password_file_that_can_not_be_read_is_an_error(on_slapd, tmp_path):
    command = on_slapd()
    assert command.run("alice", None, "--password-file", str(tmp_path / "none"))[0] == FAILED
    (tmp_path / "long").write_bytes(b"x" * 5000)
    status, printed = command.run("alice", None, "--password-file", str(tmp_path / "long"))
    assert (status, "at most 4096 bytes" in printed) == (FAILED, True)


# ---- Active Directory -------------------------------------------------------------------------------------------------


@pytest.fixture
def on_samba(samba_ad: SambaAD, tmp_path: Path) -> Any:
    def make(*, nested: str = "token_groups", roles: Any = (), **ldap: Any) -> Command:
        template = {
            "token_groups": f"{samba_ad.base}??sub?(objectClass=group)",
            "in_chain": f"{samba_ad.base}??sub?(&(objectClass=group)(member={{USER}}))",
        }[nested]
        mapping = [{"match": "(.+)", "ldapQuery": f"{samba_ad.base}??sub?(sAMAccountName={{0}})"}]
        settings = ldap_settings(
            samba_ad,
            userToDNMapping=json.dumps(mapping),
            authz={"queryTemplate": template},
            nestedGroups=nested,
            **ldap,
        )
        if settings.get("transportSecurity") == "none":
            del settings["CAFile"]
        return Command(tmp_path, settings, roles=dict(roles))

    return make


@pytest.mark.parametrize("nested", ["token_groups", "in_chain"])
def test_nested_groups_of_active_directory_become_roles(on_samba, samba_ad, nested):
    mapping = {samba_ad.group_dn("everyone"): ["read"]}
    status, document = on_samba(nested=nested, roleMapping=mapping).document("eve", password_of("eve"))
    assert status == OK, document
    assert step(document, "nested groups")["text"] == f"{nested}, which this server offers"
    given = {group["dn"]: group["roles"] for group in step(document, "roles")["groups"] if group["roles"]}
    assert list(given.values()) == [["read@admin"]]


@pytest.mark.parametrize(
    ("user", "password", "reason"),
    [
        ("alice", "canary-wrong", "(49 invalidCredentials, data 52e)"),
        ("disabled", None, "the account is disabled (49 invalidCredentials, data 533)"),
        ("mustchange", None, "the password must be changed first (49 invalidCredentials, data 773)"),
        ("expired", None, "the account has expired (49 invalidCredentials, data 701)"),
    ],
)
def test_active_directorys_own_reasons_are_told(on_samba, user, password, reason):
    status, document = on_samba().document(user, password or password_of(user))
    assert status == FAILED
    assert reason in step(document, "authentication")["text"]


def test_a_bind_in_clear_that_active_directory_refuses_says_what_it_wants(on_samba, samba_ad):
    command = on_samba(servers=f"127.0.0.1:{samba_ad.port}", transportSecurity="none")
    status, printed = command.run("alice", password_of("alice"))
    assert status == FAILED
    assert "it wants TLS (security.ldap.transportSecurity: tls)" in printed


# ---- check ------------------------------------------------------------------------------------------------------------


def test_check_tries_every_server_and_the_service(on_slapd, slapd):
    silent = free_port()
    command = on_slapd(servers=f"127.0.0.1:{slapd.tls_port},127.0.0.1:{silent}")
    done = run_mongoguard("check", "-f", str(command.path))
    assert done.returncode == FAILED
    server = f"127.0.0.1:{slapd.tls_port}"
    assert f"security.ldap: connection to {server}: tls: TLSv1.3" in done.stdout
    assert f"OK    security.ldap: service bind on {server}: as {slapd.service_dn}" in done.stdout
    assert f"FAIL  security.ldap: connection to 127.0.0.1:{silent}" in done.stdout
    assert "OK    security.ldap: nested groups: direct" in done.stdout
    assert slapd.service_password not in done.stdout + done.stderr


def test_check_tells_of_a_directory_authority_that_can_not_be_read(on_slapd, tmp_path):
    command = on_slapd(CAFile=str(tmp_path / "none.pem"))
    done = run_mongoguard("check", "-f", str(command.path))
    assert done.returncode == FAILED
    assert "FAIL  security.ldap: security.ldap.CAFile: cannot read" in done.stdout
