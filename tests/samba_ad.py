"""Samba as an Active Directory domain controller for tests: real sub-codes, memberOf, tokenGroups, primary groups, KDC.

Its ports are fixed (389, 636, 88, 3268, 3269), so it runs in a network namespace of its own, reached through free ones
(`tests/private_network.py`). That takes root; without it the tests skip and say so.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import ldap3

from tests.directory_entries import PEOPLE, Person, escaped_dn_value
from tests.kerberos import write_kerberos_configuration
from tests.ldap_servers import OPERATION_SECONDS, SERVICE, CheckedTls, LdapDirectory, done
from tests.missing import missing, require_program
from tests.pki import Pki
from tests.servers import ServerDidNotStart, free_port, password_of

__all__ = ["SambaAD", "require_network_namespaces"]

PACKAGES = "apt-get install samba samba-ad-dc samba-ad-provision winbind python3-setproctitle"
"""Debian 12's names."""

ADMINISTRATOR_PASSWORD = "Passw0rd-of-the-domain"
"""Provisioning asks for a strong one; afterwards the domain takes `password_of(...)`."""

NORMAL, DISABLED = 512, 514
"""userAccountControl (MS-ADTS 2.2.16)."""

GLOBAL_SECURITY = -2_147_483_646
"""groupType of an ordinary security group (MS-ADTS 2.2.12)."""

LONG_AGO = 116_444_736_000_000_000
"""1970 as accountExpires counts: 100 ns since 1601."""

ODD_ACCOUNTS = {"disabled": DISABLED, "expired": NORMAL, "mustchange": NORMAL}
"""uid -> userAccountControl. `expired` is an expired account; `mustchange` must change the password first."""


class SambaAD(LdapDirectory):
    """A domain controller of the realm CORP.EXAMPLE (NetBIOS name CORP).

    Beside the people of `directory_entries` there are `ODD_ACCOUNTS`, and dave's primary group is developers: it is in
    no member, memberOf or in-chain answer of his, only in tokenGroups. Simple binds in clear are refused, as AD does by
    default.
    """

    base = "DC=corp,DC=example"
    realm = "CORP.EXAMPLE"
    domain = "CORP"

    def __init__(self, directory: Path, pki: Pki, *, certificate: Path | None = None) -> None:
        """Prepare a server in `directory`; skips the test when the packages or the rights are missing."""
        super().__init__(directory, "samba.log", pki)
        self._samba = require_program("samba", PACKAGES, folders=("/usr/sbin",))
        self._tool = require_program("samba-tool", PACKAGES)
        require_network_namespaces()
        self._certificate = certificate or pki.server
        self.catalog_tls_port = free_port()
        self.kdc_port = free_port()

    @property
    def catalog_tls_uri(self) -> str:
        """The global catalog over TLS, ldaps://host:port."""
        return f"ldaps://127.0.0.1:{self.catalog_tls_port}"

    def start(self) -> Self:
        """Provision the domain at the first start (some seconds), and start the process."""
        if not self._domain.exists():
            self._provision()
        configuration = self.directory / "smb.conf"
        configuration.write_text(self._configuration())
        ports = {self.port: 389, self.tls_port: 636, self.catalog_tls_port: 3269, self.kdc_port: 88}
        relays = [f"{near}:{far}" for near, far in ports.items()]
        samba = [self._samba, f"--configfile={configuration}", "-F", "--no-process-group"]
        self._spawn(
            [
                sys.executable,
                "-m",
                "tests.private_network",
                *relays,
                "--",
                *samba,
                "--debug-stdout",
                "-M",
                "single",
            ]
        )
        return self

    def dn_of(self, uid: str) -> str:
        """A person's DN; every entry is named by cn, as AD does."""
        return f"CN={escaped_dn_value(PEOPLE.get(uid, Person(uid, uid)).cn)},{self.people_base}"

    @staticmethod
    def account_of(uid: str) -> str:
        """The sAMAccountName, which may hold no asterisk."""
        return uid.rstrip("*")

    def principal_of(self, uid: str) -> str:
        """The userPrincipalName."""
        return f"{self.account_of(uid)}@{self.realm.lower()}"

    def add_person(self, uid: str) -> None:
        """Add somebody with the password `password_of(uid)`."""
        with self.administrator() as connection:
            self._add_person(connection, uid)

    def set_password(self, uid: str, password: str) -> None:
        """Give a person another password."""
        self._modify(self.dn_of(uid), "unicodePwd", ldap3.MODIFY_REPLACE, [_unicode_password(password)])

    def set_enabled(self, uid: str, *, enabled: bool) -> None:
        """Disable an account, or enable it again."""
        value = str(NORMAL if enabled else DISABLED)
        self._modify(self.dn_of(uid), "userAccountControl", ldap3.MODIFY_REPLACE, [value])

    def kerberos_configuration(self) -> Path:
        """A krb5.conf of this realm, for KRB5_CONFIG."""
        return write_kerberos_configuration(self.directory / "krb5.conf", self.realm, self.kdc_port)

    def export_key(self, account: str, keytab: Path) -> Path:
        """Put the key of an account into a keytab."""
        export = ["domain", "exportkeytab", str(keytab), f"--principal={account}"]
        configuration = f"--configfile={self.directory / 'smb.conf'}"
        subprocess.run([self._tool, *export, configuration], check=True, capture_output=True)
        return keytab

    def name_controller(self, service: str) -> None:
        """Let the domain controller be known as that service, too."""
        with self.administrator() as connection:
            dn = f"CN=DC1,OU=Domain Controllers,{self.base}"
            found = done(connection.search(dn, "(cn=*)", ldap3.BASE, attributes=["servicePrincipalName"]))[0][
                "attributes"
            ]["servicePrincipalName"]
            if service not in found:
                change = {"servicePrincipalName": [(ldap3.MODIFY_ADD, [service])]}
                done(connection.modify(dn, change))

    @contextlib.contextmanager
    def administrator(self) -> Iterator[Any]:
        """A connection of Administrator over TLS."""
        server = ldap3.Server(
            self.tls_uri, tls=CheckedTls(self.pki.ca), get_info=ldap3.NONE, connect_timeout=OPERATION_SECONDS
        )
        connection = ldap3.Connection(
            server,
            f"Administrator@{self.realm.lower()}",
            ADMINISTRATOR_PASSWORD,
            client_strategy=ldap3.SAFE_SYNC,
            receive_timeout=OPERATION_SECONDS,
            auto_referrals=False,
            check_names=False,
        )
        connection.open()
        try:
            done(connection.bind())
            yield connection
        finally:
            connection.unbind()

    @property
    def _domain(self) -> Path:
        return self.directory / "domain"

    def _provision(self) -> None:
        finished = subprocess.run(
            [
                *(self._tool, "domain", "provision", f"--realm={self.realm}", f"--domain={self.domain}"),
                *("--server-role=dc", "--dns-backend=NONE", f"--adminpass={ADMINISTRATOR_PASSWORD}"),
                *(f"--targetdir={self._domain}", "--host-name=dc1", "--host-ip=127.0.0.1"),
                *("--option=interfaces=lo", "--option=bind interfaces only=yes"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            shutil.rmtree(self._domain, ignore_errors=True)
            raise ServerDidNotStart(f"samba-tool: {finished.stdout[-1500:]}{finished.stderr[-1500:]}")
        (self._domain / "cache").mkdir(exist_ok=True)

    def _configuration(self) -> str:
        """smb.conf(5): only what LDAP and Kerberos need, and every path in the server's own folder."""
        run = self.directory / "run"
        run.mkdir(exist_ok=True)
        return f"""\
[global]
netbios name = DC1
realm = {self.realm}
workgroup = {self.domain}
server role = active directory domain controller
server services = ldap, cldap, kdc
dns update command = /bin/true
interfaces = lo
bind interfaces only = yes
private dir = {self._domain}/private
lock dir = {self._domain}
state directory = {self._domain}/state
cache directory = {self._domain}/cache
binddns dir = {self._domain}/bind-dns
pid directory = {run}
ncalrpc dir = {run}/ncalrpc
winbindd socket directory = {run}/winbindd
ntp signd socket directory = {run}/ntp_signd
tls enabled = yes
tls certfile = {self._certificate}
tls keyfile = {self._certificate}
tls cafile = {self.pki.ca}
ldap server require strong auth = allow_sasl_over_tls
"""

    def _load(self, connection: Any) -> None:
        weak = {
            name: [(ldap3.MODIFY_REPLACE, ["0"])] for name in ("pwdProperties", "minPwdLength", "minPwdAge")
        }
        done(connection.modify(self.base, weak))  # the tests' passwords are not complex
        for unit in ("people", "groups", "services"):
            done(connection.add(f"OU={unit},{self.base}", ["organizationalUnit"]))
        self._add_user(connection, self.service_dn, SERVICE)
        for uid in PEOPLE:
            self._add_person(connection, uid)
        for uid, control in ODD_ACCOUNTS.items():
            self._add_person(connection, uid, control)
        for uid, attribute, value in (
            ("expired", "accountExpires", LONG_AGO),
            ("mustchange", "pwdLastSet", 0),
        ):
            done(connection.modify(self.dn_of(uid), {attribute: [(ldap3.MODIFY_REPLACE, [str(value)])]}))
        self._load_groups(connection)
        self._set_primary_group(connection, "dave", "developers")

    def _add_person(self, connection: Any, uid: str, control: int = NORMAL) -> None:
        self._add_user(connection, self.dn_of(uid), uid, control)

    def _add_user(self, connection: Any, dn: str, uid: str, control: int = NORMAL) -> None:
        attributes = {
            "sAMAccountName": self.account_of(uid),
            "userPrincipalName": self.principal_of(uid),
            "unicodePwd": _unicode_password(password_of(uid)),
            "userAccountControl": str(control),
        }
        done(connection.add(dn, ["top", "person", "organizationalPerson", "user"], attributes))

    def _add_group(self, connection: Any, name: str, member_dns: Sequence[str]) -> None:
        # an account name holds no quotes, commas or plus signs, and must be the domain's only one
        account = "group " + "".join(f"{octet:02x}" for octet in name.encode())
        attributes: dict[str, Any] = {"sAMAccountName": account, "groupType": str(GLOBAL_SECURITY)}
        if member_dns:
            attributes["member"] = list(member_dns)
        done(connection.add(self.group_dn(name), ["top", "group"], attributes))

    def _set_primary_group(self, connection: Any, uid: str, group: str) -> None:
        """By the last part of the group's SID; the person must be a member, and is then none that is listed."""
        found = done(connection.search(self.group_dn(group), "(cn=*)", ldap3.BASE, attributes=["objectSid"]))
        relative_id = int.from_bytes(found[0]["raw_attributes"]["objectSid"][0][-4:], "little")
        change = {"primaryGroupID": [(ldap3.MODIFY_REPLACE, [str(relative_id)])]}
        done(connection.modify(self.dn_of(uid), change))


def _unicode_password(password: str) -> bytes:
    """unicodePwd's form (MS-ADTS 3.1.1.3.1.5.1)."""
    return f'"{password}"'.encode("utf-16-le")


def require_network_namespaces() -> None:
    """Nothing, or skip: a network namespace takes root, and a kernel that lets it."""
    unshare = require_program("unshare", "apt-get install util-linux")
    tried = subprocess.run([unshare, "--net", "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        missing("the right to make a network namespace", f"run the tests as root ({tried.stderr.strip()})")
