"""A Kerberos realm for tests: an MIT KDC on a free loopback port, its principals, keytabs and tickets.

Real Kerberos, a stand-in only for the realm's size. Clients and servers find it through `Kdc.environment`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.missing import require_program
from tests.servers import ChildServer, password_of

__all__ = ["Kdc", "write_kerberos_configuration"]

SERVER_PACKAGES = "apt-get install krb5-kdc krb5-admin-server"
CLIENT_PACKAGES = "apt-get install krb5-user"
SBIN = ("/usr/sbin",)

USERS = ("alice", "bob")
SERVICE = "mongodb/localhost"
"""The principal of a MongoDB server that clients reach as localhost."""


def write_kerberos_configuration(path: Path, realm: str, kdc_port: int) -> Path:
    """A krb5.conf(5) with one realm, which asks no name server; returns the path."""
    path.write_text(f"""\
[libdefaults]
default_realm = {realm}
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
udp_preference_limit = 1
[realms]
{realm} = {{
kdc = 127.0.0.1:{kdc_port}
}}
[domain_realm]
localhost = {realm}
""")
    return path


class Kdc(ChildServer):
    """The realm EXAMPLE.TEST with alice and bob (`password_of`) and the service mongodb/localhost."""

    realm = "EXAMPLE.TEST"

    def __init__(self, directory: Path) -> None:
        """Prepare a realm in `directory`; skips the test when Kerberos is not installed."""
        super().__init__(directory, "kdc.log")
        self._binary = require_program("krb5kdc", SERVER_PACKAGES, SBIN)
        self._create = require_program("kdb5_util", SERVER_PACKAGES, SBIN)
        self._admin = require_program("kadmin.local", SERVER_PACKAGES, SBIN)
        self._kinit = require_program("kinit", CLIENT_PACKAGES)
        self.configuration = write_kerberos_configuration(directory / "krb5.conf", self.realm, self.port)
        self.service_keytab = directory / "mongodb.keytab"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a program needs to find this realm; a server adds KRB5_KTNAME, a client KRB5CCNAME."""
        return {
            "KRB5_CONFIG": str(self.configuration),
            "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf"),
            "KRB5RCACHEDIR": str(self.directory),
        }

    def start(self) -> Kdc:
        """Create the realm at the first start, and start the process; `wait()` must follow before it is used."""
        if not (self.directory / "principal").exists():
            self._create_realm()
        self._spawn([self._binary, "-n", "-r", self.realm], self.environment)
        return self

    def wait(self) -> Kdc:
        """Return when it accepts connections."""
        for _ in self._poll():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
                break
        return self

    def restart(self) -> Kdc:
        """Stop it in good order and start it again on the same port with the same principals."""
        self.stop()
        return self.start().wait()

    def add_principal(
        self, name: str, *, password: str | None = None, life_seconds: int | None = None
    ) -> None:
        """Add a principal with `password` (`password_of(name)` when None), whose tickets live so long at most."""
        life = [] if life_seconds is None else ["-maxlife", f"{life_seconds} sec"]
        self._administer("addprinc", "-pw", password or password_of(name), *life, name)

    def limit_tickets(self, name: str, life_seconds: int) -> None:
        """From now on tickets of that principal live so long at most."""
        self._administer("modprinc", "-maxlife", f"{life_seconds} sec", name)

    def add_service(self, name: str, keytab: Path) -> Path:
        """Add a principal with a random key, and put the key into a keytab; returns the keytab."""
        self._administer("addprinc", "-randkey", name)
        self._administer("ktadd", "-k", str(keytab), name)
        return keytab

    def export_key(self, name: str, keytab: Path) -> Path:
        """Put the key of a principal into a keytab, and leave it what it is; one with a random key when there is none."""
        with contextlib.suppress(subprocess.CalledProcessError):  # it exists
            self._administer("addprinc", "-randkey", name)
        self._administer("ktadd", "-norandkey", "-k", str(keytab), name)
        return keytab

    def ticket(self, user: str, password: str | None = None) -> Path:
        """A new credential cache of the user, for KRB5CCNAME; `CalledProcessError` when the KDC refuses."""
        cache = self.directory / f"{user.replace('/', '-')}.ccache"
        subprocess.run(
            [self._kinit, "-c", f"FILE:{cache}", f"{user}@{self.realm}"],
            input=(password or password_of(user)) + "\n",
            text=True,
            env={**os.environ, **self.environment},
            capture_output=True,
            check=True,
        )
        return cache

    def _create_realm(self) -> None:
        (self.directory / "kadm5.acl").touch()
        (self.directory / "kdc.conf").write_text(f"""\
[kdcdefaults]
kdc_listen = 127.0.0.1:{self.port}
kdc_tcp_listen = 127.0.0.1:{self.port}
[realms]
{self.realm} = {{
database_name = {self.directory}/principal
key_stash_file = {self.directory}/stash
acl_file = {self.directory}/kadm5.acl
}}
[logging]
kdc = STDERR
admin_server = STDERR
""")
        self._run(self._create, "create", "-s", "-r", self.realm, "-P", password_of("the-realm"))
        for user in USERS:
            self.add_principal(user)
        self.add_service(SERVICE, self.service_keytab)

    def _administer(self, *words: str) -> None:
        # a command as arguments: kadmin.local's -q would split and quote in its own way
        self._run(self._admin, "-r", self.realm, *words)

    def _run(self, *command: str) -> None:
        subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            check=True,
            stdin=subprocess.DEVNULL,
        )
