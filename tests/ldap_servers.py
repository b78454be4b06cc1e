"""OpenLDAP for tests: a slapd of its own folder and ports, with the people and groups of `directory_entries`.

`LdapDirectory` is what every directory server of the tests can do, whatever product it is; `tests/samba_ad.py` has Active
Directory. The tests' own changes go through ldapi (a Unix socket), so that `connections_accepted` counts only what the
code under test opened.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import ssl
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import ldap3
from ldap3.core.exceptions import LDAPException

from tests.directory_entries import CYCLE, GROUPS, PEOPLE, Group, Person, escaped_dn_value
from tests.missing import require_program
from tests.pki import Pki
from tests.servers import ChildServer, free_port, password_of

__all__ = ["CheckedTls", "DirectoryRefused", "LdapDirectory", "Slapd"]

SERVICE = "svc-mongoguard"
"""The user that may search; its password is `password_of(SERVICE)`."""

SCHEMAS = Path("/etc/ldap/schema")
MODULES = Path("/usr/lib/ldap")
"""Where Debian and Ubuntu keep what every slapd needs."""

OPERATION_SECONDS = 60
"""For the tests' own changes: on a loaded machine one waits for its turn."""


class DirectoryRefused(AssertionError):
    """The directory did not do what the test wanted of it; the text is its answer."""


class LdapDirectory(ChildServer):
    """A directory server on `port` (ldap, StartTLS) and `tls_port` (ldaps), and the changes that tests make in it.

    A changed directory is what the next test finds: undo, or use a server of your own.
    """

    base: str
    """The DN below which everything is."""

    def __init__(self, directory: Path, log_name: str, pki: Pki) -> None:
        """Prepare a server in `directory` with the certificate `pki.server`."""
        super().__init__(directory, log_name)
        self.pki = pki
        self.tls_port = free_port()
        self._loaded = False

    @property
    def uri(self) -> str:
        """ldap://host:port."""
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_uri(self) -> str:
        """ldaps://host:port."""
        return f"ldaps://127.0.0.1:{self.tls_port}"

    @property
    def service_dn(self) -> str:
        """Who may search; `password_of("svc-mongoguard")` is the password."""
        return f"cn={SERVICE},ou=services,{self.base}"

    @property
    def service_password(self) -> str:
        """The password of `service_dn`."""
        return password_of(SERVICE)

    @property
    def people_base(self) -> str:
        """The DN below which the people are."""
        return f"ou=people,{self.base}"

    @property
    def groups_base(self) -> str:
        """The DN below which the groups are."""
        return f"ou=groups,{self.base}"

    @abstractmethod
    def dn_of(self, uid: str) -> str:
        """A person's DN."""

    def group_dn(self, name: str) -> str:
        """A group's DN, in the tests' spelling (the server may spell it in another way)."""
        return f"cn={escaped_dn_value(name)},{self.groups_base}"

    def add_member(self, group: str, member_dn: str) -> None:
        """Put a person or a group into a group."""
        self._modify(self.group_dn(group), "member", ldap3.MODIFY_ADD, [member_dn])

    def remove_member(self, group: str, member_dn: str) -> None:
        """Take a member out of a group; a groupOfNames keeps its last one (OpenLDAP refuses, AD does not)."""
        self._modify(self.group_dn(group), "member", ldap3.MODIFY_DELETE, [member_dn])

    def add_group(self, name: str, member_dns: Sequence[str]) -> None:
        """Make a group of these members."""
        with self.administrator() as connection:
            self._add_group(connection, name, member_dns)

    def delete(self, *dns: str) -> None:
        """Remove entries."""
        with self.administrator() as connection:
            for dn in dns:
                done(connection.delete(dn))

    @contextlib.contextmanager
    def many_groups(self, uid: str, count: int, prefix: str = "many") -> Iterator[list[str]]:
        """The DNs of `count` groups of one person, deleted again at the end.

        A hundred take a quarter of a second; for thousands there is `Slapd.load_groups_offline`.
        """
        names = [f"{prefix} {number}" for number in range(count)]
        with self.administrator() as connection:
            for name in names:
                self._add_group(connection, name, [self.dn_of(uid)])
        try:
            yield [self.group_dn(name) for name in names]
        finally:
            self.delete(*(self.group_dn(name) for name in names))

    @abstractmethod
    def set_password(self, uid: str, password: str) -> None:
        """Give a person another password."""

    @abstractmethod
    def administrator(self) -> contextlib.AbstractContextManager[Any]:
        """A connection of the directory's administrator, an `ldap3.Connection` (SAFE_SYNC)."""

    def wait(self) -> Self:
        """Return when the server answers and holds its people and groups."""
        for _ in self._poll():
            with contextlib.suppress(LDAPException, DirectoryRefused, OSError):
                self._connect()  # ldap3 would leave a refused socket open
                with self.administrator():
                    break
        if not self._loaded:
            with self.administrator() as connection:
                self._load(connection)
            self._loaded = True
        return self

    def _connect(self) -> None:
        """Open a connection and close it; `OSError` when nobody listens."""
        socket.create_connection(("127.0.0.1", self.tls_port), 5).close()

    @abstractmethod
    def start(self) -> Self:
        """Start the process; `wait()` must follow before it is used."""

    def restart(self) -> Self:
        """Stop it in good order and start it again on the same ports with the same entries."""
        self.stop()
        return self.start().wait()

    def freeze(self) -> None:
        """Stop the process where it is: the kernel accepts connections, and nobody answers."""
        self.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """A server that answers nobody, until the end of the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def _end(self, number: signal.Signals) -> int:
        if self.running:
            self.thaw()  # a frozen process would take SIGTERM only when it is thawed
        return super()._end(number)

    @abstractmethod
    def _load(self, connection: Any) -> None: ...

    @abstractmethod
    def _add_group(self, connection: Any, name: str, member_dns: Sequence[str]) -> None: ...

    def _load_groups(self, connection: Any, groups: Mapping[str, Group] = GROUPS) -> None:
        for name, group in groups.items():
            people = [self.dn_of(uid) for uid in group.people]
            self._add_group(connection, name, people + [self.group_dn(inner) for inner in group.groups])
        outer, inner = CYCLE
        change = {"member": [(ldap3.MODIFY_ADD, [self.group_dn(inner)])]}
        done(connection.modify(self.group_dn(outer), change))

    def _modify(self, dn: str, attribute: str, how: str, values: Iterable[str | bytes]) -> None:
        with self.administrator() as connection:
            done(connection.modify(dn, {attribute: [(how, list(values))]}))


class CheckedTls(ldap3.Tls):  # type: ignore[misc]  # ldap3 has no types
    """ldap3's TLS with the certificate and host name checked by OpenSSL; its own check uses what Python 3.12 dropped."""

    def __init__(self, ca_file: Path, host: str = "127.0.0.1") -> None:
        """Trust what that authority signed for `host`."""
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = ssl.create_default_context(cafile=str(ca_file))
        self._host = host

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """Replace the connection's socket, as ldap3 asks."""
        connection.socket = self._context.wrap_socket(
            connection.socket, server_hostname=self._host, do_handshake_on_connect=do_handshake
        )


def done(answer: tuple[bool, dict[str, Any], Any, Any]) -> Any:
    """The entries of a SAFE_SYNC operation's answer; `DirectoryRefused` when its result is not success."""
    _, result, response, _ = answer
    if result["result"] != 0:
        raise DirectoryRefused(f"{result['result']} {result['description']} {result['message']}")
    return response


class Slapd(LdapDirectory):
    """A slapd whose groups are groupOfNames.

    `overlay="memberof"` keeps memberOf for direct groups; `"dynlist"` computes memberOf with all nested groups.
    """

    base = "dc=example,dc=org"

    def __init__(
        self,
        directory: Path,
        pki: Pki,
        *,
        overlay: str = "memberof",
        anonymous: bool = False,
        certificate: Path | None = None,
        size_limit: int | None = None,
        kerberos: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a server; `anonymous` may bind and read, `size_limit` cuts searches short.

        `kerberos` is the environment in which slapd finds its realm and the key of ldap/localhost.
        """
        super().__init__(directory, "slapd.log", pki)
        self._binary = require_program("slapd", "apt-get install slapd", folders=("/usr/sbin",))
        self._overlay = overlay
        self._anonymous = anonymous
        self._certificate = certificate or pki.server
        self._size_limit = size_limit
        self._kerberos = kerberos
        self._configuration_folder = directory / "slapd.d"
        self._socket = directory / "ldapi"
        self._start_of_log = 0

    @property
    def connections_accepted(self) -> int:
        """How many TCP connections were opened since the first start; the tests' own changes count for nothing."""
        return len(re.findall(r" ACCEPT from IP=", self.log))

    @property
    def connections_open(self) -> int:
        """How many TCP connections are open now."""
        opened = set(re.findall(r"conn=(\d+) fd=\d+ ACCEPT from IP=", self._log_of_this_process()))
        return len(opened - set(re.findall(r"conn=(\d+) fd=\d+ closed", self._log_of_this_process())))

    def binds_of(self, dn: str) -> int:
        """How often that DN (in slapd's own spelling) was bound or tried, since the first start."""
        return self.log.count(f' BIND dn="{dn}" method=')

    def start(self) -> Self:
        """Start the process; `wait()` must follow before it is used."""
        if not self._configuration_folder.exists():
            self._configuration_folder.mkdir()
            (self.directory / "db").mkdir()
            self._offline("add", 0, self._configuration())
        uris = f"{self.uri} {self.tls_uri} ldapi://{quote(str(self._socket), safe='')}"
        self._start_of_log = len(self.log)
        command = [self._binary, "-F", str(self._configuration_folder), "-h", uris, "-d", "stats"]
        self._spawn(command, self._kerberos)
        return self

    def dn_of(self, uid: str) -> str:
        """A person's DN."""
        person = PEOPLE.get(uid, Person(uid, uid, "uid"))
        values = {"uid": uid, "cn": person.cn}
        rdn = "+".join(f"{name}={escaped_dn_value(values[name])}" for name in person.named_by.split("+"))
        return f"{rdn},{self.people_base}"

    def add_person(self, uid: str, person: Person | None = None) -> None:
        """Add somebody with the password `password_of(uid)`; named by uid when `person` is not given."""
        with self.administrator() as connection:
            self._add_person(connection, uid, person or Person(uid, uid, "uid"))

    def set_password(self, uid: str, password: str) -> None:
        """Give a person another password."""
        self._modify(self.dn_of(uid), "userPassword", ldap3.MODIFY_REPLACE, [password])

    def load_groups_offline(self, uid: str, count: int, prefix: str = "many") -> None:
        """Put a person into so many new groups while the server is down: 10,000 take half a second; one by one, 2,000 take five."""
        self.stop()
        entry = "dn: cn={0},{1}\nobjectClass: groupOfNames\ncn: {0}\nmember: {2}\n\n"
        names = [f"{prefix} {number}" for number in range(count)]
        person = self.dn_of(uid)
        self._offline("add", 1, "".join(entry.format(name, self.groups_base, person) for name in names))
        if self._overlay == "memberof":
            values = "".join(f"memberOf: {self.group_dn(name)}\n" for name in names)
            self._offline("modify", 1, f"dn: {person}\nchangetype: modify\nadd: memberOf\n{values}")
        self.start().wait()

    def add_referral(self, name: str, uri: str) -> str:
        """Add the entry `ou=name` that refers to another server, and return its DN.

        A search below the base gets a continuation reference; a search on the DN, or below it, a referral.
        """
        dn = f"ou={name},{self.base}"
        with self.administrator() as connection:
            done(connection.add(dn, ["referral", "extensibleObject"], {"ou": name, "ref": uri}))
        return dn

    def delete_referral(self, dn: str) -> None:
        """Remove what `add_referral` added: manageDsaIT, else the server would refer the deletion too."""
        with self.administrator() as connection:
            done(connection.delete(dn, controls=[("2.16.840.1.113730.3.4.2", True, None)]))

    @contextlib.contextmanager
    def administrator(self) -> Iterator[Any]:
        """A connection of the root DN, through the Unix socket."""
        server = ldap3.Server(f"ldapi://{self._socket}", get_info=ldap3.NONE)
        connection = ldap3.Connection(
            server,
            self._root_dn,
            password_of("admin"),
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
    def _root_dn(self) -> str:
        return f"cn=admin,{self.base}"

    def _connect(self) -> None:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self._socket))

    def _log_of_this_process(self) -> str:
        return self.log[self._start_of_log :]

    def _offline(self, tool: str, database: int, ldif: str) -> None:
        """slapadd(8) or slapmodify(8), which run no overlay."""
        text = self.directory / f"{tool}-{database}.ldif"
        text.write_text(ldif)
        arguments = ["-q", "-n", str(database), "-F", str(self._configuration_folder), "-l", str(text)]
        self._spawn([self._binary, "-T", tool, *arguments])
        assert self._process is not None
        if self._process.wait() != 0:
            raise self._did_not_start(f"does not take its entries (slap{tool})")

    def _load(self, connection: Any) -> None:
        done(connection.add(self.base, ["dcObject", "organization"], {"dc": "example", "o": "Example"}))
        for unit in ("people", "groups", "services"):
            done(connection.add(f"ou={unit},{self.base}", ["organizationalUnit"]))
        service = {"cn": SERVICE, "userPassword": self.service_password}
        done(connection.add(self.service_dn, ["organizationalRole", "simpleSecurityObject"], service))
        for uid, person in PEOPLE.items():
            self._add_person(connection, uid, person)
        self._load_groups(connection)

    def _add_person(self, connection: Any, uid: str, person: Person) -> None:
        attributes = {"uid": uid, "cn": person.cn, "sn": person.sn, "userPassword": password_of(uid)}
        done(connection.add(self.dn_of(uid), ["inetOrgPerson"], attributes))

    def _add_group(self, connection: Any, name: str, member_dns: Sequence[str]) -> None:
        done(connection.add(self.group_dn(name), ["groupOfNames"], {"cn": name, "member": list(member_dns)}))

    def _configuration(self) -> str:
        """cn=config as LDIF (slapd-config(5)); the overlay runs only for changes through the server."""
        schemas = "\n".join(
            f"include: file://{SCHEMAS / name}.ldif"
            for name in ("core", "cosine", "inetorgperson", "dyngroup")
        )
        # SASL looks the service up as nobody does: to authenticate, not to read.
        others = "read" if self._anonymous else "none" if self._kerberos is None else "auth"
        return f"""\
dn: cn=config
objectClass: olcGlobal
cn: config
olcLogLevel: stats
olcTLSCACertificateFile: {self.pki.ca}
olcTLSCertificateFile: {self._certificate}
olcTLSCertificateKeyFile: {self._certificate}
olcTLSVerifyClient: never
olcSaslHost: localhost
olcSaslCBinding: tls-endpoint
olcAuthzRegexp: {{0}}uid=([^,]+),(cn=[^,]+,)?cn=(gssapi|digest-md5),cn=auth cn=$1,ou=services,{self.base}
{"" if self._anonymous else "olcDisallows: bind_anon"}

dn: cn=module{{0}},cn=config
objectClass: olcModuleList
cn: module{{0}}
olcModulePath: {MODULES}
olcModuleLoad: back_mdb
olcModuleLoad: {self._overlay}

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

{schemas}

dn: olcDatabase={{-1}}frontend,cn=config
objectClass: olcDatabaseConfig
objectClass: olcFrontendConfig
olcDatabase: {{-1}}frontend
olcAccess: to dn.base="" by * read
olcAccess: to dn.base="cn=Subschema" by * read

dn: olcDatabase={{0}}config,cn=config
objectClass: olcDatabaseConfig
olcDatabase: {{0}}config

dn: olcDatabase={{1}}mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: {{1}}mdb
olcSuffix: {self.base}
olcRootDN: {self._root_dn}
olcRootPW: {password_of("admin")}
olcDbDirectory: {self.directory / "db"}
olcDbMaxSize: 268435456
olcDbNoSync: TRUE
olcDbIndex: objectClass,uid,cn,member eq
olcSizeLimit: {self._size_limit or "unlimited"}
olcAccess: to attrs=userPassword by anonymous auth by * none
olcAccess: to * by dn.exact="{self.service_dn}" read by users read by * {others}

{_OVERLAYS[self._overlay]}
"""


_OVERLAYS = {
    "memberof": """\
dn: olcOverlay={0}memberof,olcDatabase={1}mdb,cn=config
objectClass: olcOverlayConfig
objectClass: olcMemberOfConfig
olcOverlay: {0}memberof
olcMemberOfGroupOC: groupOfNames
olcMemberOfMemberAD: member
olcMemberOfMemberOfAD: memberOf
olcMemberOfRefInt: TRUE""",
    "dynlist": """\
dn: olcOverlay={0}dynlist,olcDatabase={1}mdb,cn=config
objectClass: olcOverlayConfig
objectClass: olcDynListConfig
olcOverlay: {0}dynlist
olcDynListAttrSet: groupOfURLs memberURL member+memberOf@groupOfNames*""",
}
"""What keeps memberOf (slapo-memberof(5)) or computes it (slapo-dynlist(5), 2.5 and later)."""
