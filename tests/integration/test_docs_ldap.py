"""docs/ldap.md, followed to the letter: every block of the page is run, with this machine's names put in.

The first line of a block says what is done with it: `yaml PATH` and `ldif PATH` are written to a file, `yaml merge`
replaces sections of the file written before, `js deployment` is run on the deployment, `sh` is run, `sh serve` is left
running, `sh mongosh` and `js mongosh` are typed by somebody at a terminal.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pexpect
import pytest
import yaml

from tests.ldap_servers import LdapDirectory, Slapd
from tests.missing import CLIENTS, require_module, require_node_package, require_program
from tests.node_clients import NodeClients
from tests.samba_ad import SambaAD
from tests.servers import PROJECT, Mongod, free_port, init_upstream, password_of
from tests.terminals import end_at_once

PAGE = PROJECT / "docs" / "ldap.md"

ENTERPRISE = "From MongoDB Enterprise or Percona Server"
OPENLDAP = "From nothing, with OpenLDAP"
ACTIVE_DIRECTORY = "From nothing, with Active Directory"
PASSWORDS_ALONE = "Passwords alone"
GROUPS_ALONE = "Groups alone"
SASL = "Binding the service by SASL"

SECONDS = 120.0
"""For each command: a cold mongosh takes some on a busy machine."""


@dataclass(frozen=True)
class Block:
    """A fenced block: the section it is in, its language, what is done with it, and its text."""

    section: str
    language: str
    use: str
    text: str


def _blocks() -> list[Block]:
    blocks: list[Block] = []
    lines: list[str] = []
    section, fence = "", None
    for line in PAGE.read_text().splitlines():
        if fence is None and line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.strip().startswith("```"):
            if fence is None:
                fence, lines = line.strip().removeprefix("```"), []
            else:
                language, _, use = fence.partition(" ")
                blocks.append(Block(section, language, use, textwrap.dedent("\n".join(lines)) + "\n"))
                fence = None
        elif fence is not None:
            lines.append(line)
    assert fence is None
    return blocks


BLOCKS = _blocks()


@dataclass
class Reader:
    """Somebody who follows the page on this machine."""

    folder: Path
    directory: LdapDirectory
    deployment: Mongod
    clients: NodeClients
    port: int = field(default_factory=free_port)
    printed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        pki = self.directory.pki
        (self.folder / "bin").mkdir()
        self._program("mongoguard", f'{sys.executable} -m mongoguard "$@"')
        shutil.copy(pki.ca, self.folder / "ca.pem")
        shutil.copy(pki.server, self.folder / "guard.pem")
        (self.folder / "upstream.uri").write_text(init_upstream(self.deployment))
        (self.folder / "admin.password").write_text(password_of("admin"))
        self.environment = {
            **os.environ,
            "HOME": str(self.folder),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "LDAPTLS_CACERT": str(pki.ca),
            "LDAP_QUERY_PASSWORD": self.directory.service_password,
            "LDAP_PASSWORD": "a-long-password",
        }

    def follow(self, section: str, stack: contextlib.ExitStack) -> str:
        """Do what the section says; what was printed. `stack` ends what it leaves running."""
        for block in BLOCKS:
            if block.section == section:
                self.do(block, stack)
        return "\n".join(self.printed)

    def do(self, block: Block, stack: contextlib.ExitStack) -> None:
        """One block."""
        text = self._here(block.text)
        match block.language, block.use:
            case "yaml", "merge":
                path = self.folder / "mongoguard.yaml"
                path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **yaml.safe_load(text)}))
            case (("yaml" | "ldif"), path_name):
                (self.folder / Path(path_name).name).write_text(text)
            case "js", "deployment":
                self.printed.append(self.clients.mongosh(self.deployment.uri(), text))
            case "js", "mongosh":
                self.terminal.send(text.strip() + "\r")
                self.terminal.expect("\r\n")  # the terminal repeats what is typed
                self.terminal.expect(r"true\b")  # colours stand before it
            case "sh", "":
                self._run(text)
            case "sh", "serve":
                self._serve(text, stack)
            case "sh", "mongosh":
                self._log_in(text, stack)
            case other:
                pytest.fail(f"nobody knows what to do with a block {other}")

    def _here(self, text: str) -> str:
        for there, here in (
            ("/etc/mongoguard", str(self.folder)),
            ("guard.example.org", "127.0.0.1"),
            ("27017", str(self.port)),
            ("dc1.corp.example", f"127.0.0.1:{self.directory.tls_port}"),
            ("ldap.example.org", f"127.0.0.1:{self.directory.tls_port}"),
        ):
            text = text.replace(there, here)
        return text

    def _run(self, text: str) -> None:
        done = subprocess.run(
            ["bash", "-euc", text],
            cwd=self.folder,
            env=self.environment,
            input=f"{password_of(_user(text))}\n",
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.printed.append(done.stdout)

    def _serve(self, text: str, stack: contextlib.ExitStack) -> None:
        server = pexpect.spawn(
            "bash", ["-c", f"exec {text}"], cwd=str(self.folder), env=self.environment, encoding="utf-8"
        )
        stack.callback(end_at_once, server)
        server.expect("listening on", timeout=SECONDS)

    def _log_in(self, text: str, stack: contextlib.ExitStack) -> None:
        require_node_package("mongosh")
        self._program("mongosh", f'{CLIENTS / "node_modules" / ".bin" / "mongosh"} --norc "$@"')
        self.terminal: Any = pexpect.spawn(
            "bash",
            ["-c", text],
            cwd=str(self.folder),
            env={**self.environment, "TERM": "xterm", "NODE_NO_WARNINGS": "1"},
            encoding="utf-8",
            codec_errors="replace",
            dimensions=(50, 250),
            timeout=SECONDS,
        )
        stack.callback(end_at_once, self.terminal)
        self.terminal.expect("Enter password")
        self.terminal.send(password_of(_user(text)) + "\r")
        self.terminal.expect(r"shop> \x1b\[\d+G")

    def _program(self, name: str, command: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\nexec {command}\n")
        path.chmod(0o755)


def _user(text: str) -> str:
    """Whose password is asked for."""
    found = re.search(r"--user(?:name)? ([a-z]+)", text)
    return found[1] if found else "alice"


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def on_openldap(slapd: Slapd, standalone: Mongod, node_clients: NodeClients, tmp_path: Path) -> Reader:
    folder = tmp_path / "reader"
    folder.mkdir()
    return Reader(folder, slapd, standalone, node_clients)


@pytest.fixture
def on_active_directory(
    samba_ad: SambaAD, standalone: Mongod, node_clients: NodeClients, tmp_path: Path
) -> Reader:
    folder = tmp_path / "reader"
    folder.mkdir()
    return Reader(folder, samba_ad, standalone, node_clients)


def _role(reader: Reader, name: str, stack: contextlib.ExitStack) -> None:
    root = stack.enter_context(reader.deployment.client())
    root.admin.command("createRole", name, privileges=[], roles=[{"role": "read", "db": "shop"}])
    stack.callback(root.admin.command, "dropRole", name)


def test_every_block_of_the_page_is_in_a_section_that_is_followed() -> None:
    followed = {ENTERPRISE, OPENLDAP, ACTIVE_DIRECTORY, PASSWORDS_ALONE, GROUPS_ALONE, SASL}
    assert {block.section for block in BLOCKS} == followed


def test_an_enterprise_configuration_works_as_it_is_pasted(
    on_openldap: Reader, stack: contextlib.ExitStack
) -> None:
    group = on_openldap.directory.group_dn("dba")
    _role(on_openldap, group, stack)
    printed = on_openldap.follow(ENTERPRISE, stack)
    assert "FAIL" not in printed
    assert f"{group} -> {group}@admin" in printed
    assert "[OK]   admission" in printed


def test_from_nothing_to_a_login_with_mongosh_on_openldap(
    on_openldap: Reader, stack: contextlib.ExitStack
) -> None:
    require_program("ldapadd", "apt-get install ldap-utils")
    group, service = (
        "cn=shop writers,ou=groups,dc=example,dc=org",
        "cn=mongoguard,ou=services,dc=example,dc=org",
    )

    def undo() -> None:
        on_openldap.directory.delete(group, service)
        with on_openldap.deployment.client() as root:
            root.admin.command("dropRole", group)
            root.shop.orders.delete_many({"by": "alice"})

    stack.callback(undo)
    printed = on_openldap.follow(OPENLDAP, stack)
    assert f"{group} -> {group}@admin" in printed
    assert "the directory accepts the name and the password" in printed


def test_from_nothing_to_a_login_with_mongosh_on_active_directory(
    on_active_directory: Reader, stack: contextlib.ExitStack
) -> None:
    printed = on_active_directory.follow(ACTIVE_DIRECTORY, stack)
    assert "element 1 of security.ldap.userToDNMapping matches" in printed
    assert "the directory accepts the name and the password" in printed
    assert "root@admin exists" in printed


@pytest.fixture
def configured(on_openldap: Reader, stack: contextlib.ExitStack) -> Reader:
    """The file that the later sections change."""
    (first,) = [b for b in BLOCKS if (b.section, b.language) == (ENTERPRISE, "yaml")]
    on_openldap.do(first, stack)
    return on_openldap


def test_the_directory_may_check_passwords_alone(configured: Reader, stack: contextlib.ExitStack) -> None:
    root = stack.enter_context(configured.deployment.client())
    stack.callback(root["$external"].command, "dropUser", "bob")
    printed = configured.follow(PASSWORDS_ALONE, stack)
    assert "bob@$external has 1 roles" in printed
    assert "the directory accepts the name and the password" in printed


def test_the_directory_may_give_groups_alone(configured: Reader, stack: contextlib.ExitStack) -> None:
    group = configured.directory.group_dn("dba")
    _role(configured, group, stack)
    printed = configured.follow(GROUPS_ALONE, stack)
    assert printed.count(f"{group} -> {group}@admin") == 2
    assert printed.count("authorization only") == 2


def test_the_service_may_be_bound_by_a_ticket(
    on_active_directory: Reader, samba_ad: SambaAD, stack: contextlib.ExitStack
) -> None:
    require_module("gssapi", "pip install 'mongoguard-proxy[kerberos-test]', with gcc and libkrb5-dev")
    reader = on_active_directory
    samba_ad.export_key("svc-mongoguard", reader.folder / "client.keytab")
    samba_ad.name_controller("ldap/127.0.0.1")
    reader.environment |= {
        "KRB5_CONFIG": str(samba_ad.kerberos_configuration()),
        "KRB5CCNAME": f"FILE:{reader.folder}/ccache",
    }
    (first,) = [b for b in BLOCKS if (b.section, b.language) == (ACTIVE_DIRECTORY, "yaml")]
    reader.do(first, stack)
    printed = reader.follow(SASL, stack)
    assert "as the owner of the Kerberos ticket" in printed
    assert f"{samba_ad.group_dn('dba')}".casefold() in printed.casefold()
