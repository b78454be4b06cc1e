"""`mongoguard ldap` and what `mongoguard check` says of the directory, against real directories."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
            assert not secret or secret not in printed
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
