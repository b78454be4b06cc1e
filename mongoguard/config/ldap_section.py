"""security.ldap: the directory that knows passwords and groups, in MongoDB Enterprise's vocabulary.

In: plain values. Out: one frozen model, its mapping, template and role table parsed. Must not know sockets.

Keys that Enterprise does not have: `CAFile`, `nestedGroups`, `roleMapping`, `authz.requireRoles`,
`userCacheStalenessSecs`, and the value `startTLS` of `transportSecurity`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mongoguard.authn.ldap.group_lookup import GroupLookup, NestedGroups
from mongoguard.authn.ldap.query_template import PROVIDED_USER
from mongoguard.authn.ldap.role_mapping import RoleMapping
from mongoguard.authn.ldap.user_to_dn import UserToDnMapping
from mongoguard.config.secret import Secret
from mongoguard.config.section import FilePath, Section
from mongoguard.errors import ConfigError

__all__ = [
    "DEFAULT_STALENESS_SECS",
    "LDAP_TIMEOUT_MS",
    "Ldap",
    "LdapAuthz",
    "LdapBind",
    "ServerName",
    "read_query_passwords",
]

LDAP_TIMEOUT_MS = 10_000
"""Enterprise's default for security.ldap.timeoutMS, well below the 20 to 30 s in which drivers give a login up."""
DEFAULT_STALENESS_SECS = 90
"""Enterprise's default for ldapUserCacheStalenessInterval."""
MAX_SERVERS = 32
"""Replicas of one directory; a login that has to try all of them must still end."""

TLS_PORT, CLEAR_PORT = 636, 389
"""LDAPS and LDAP (RFC 4516 section 2; IANA)."""

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?")
_LOOPBACK = re.compile(r"localhost|127\.[0-9.]+|::1")
_SERVER = re.compile(r"(?:\[([0-9A-Fa-f:.%A-Za-z0-9]+)\]|([^\[\]:]+))(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class ServerName:
    """One place of `servers`: a host, or with `srv` a name whose SRV records are looked up.

    `srv_raw`: the name is the records' own (`_ldap._tcp.example.org`), not a domain's.
    """

    host: str
    port: int | None = None
    lookup: Literal["host", "srv", "srv_raw"] = "host"

    @classmethod
    def parse(cls, text: str) -> ServerName:
        """Read one place of the list; raises `ValueError`."""
        for lookup in ("srv", "srv_raw"):
            if text.startswith(f"{lookup}:"):
                name = text.removeprefix(f"{lookup}:").rstrip(".")
                if _HOST.fullmatch(name) is None:
                    raise ValueError(f"expected a domain name after {lookup}:")
                return cls(name, None, "srv" if lookup == "srv" else "srv_raw")
        if "//" in text:
            raise ValueError(
                "write host:port without ldap:// or ldaps://; transportSecurity says which it is"
            )
        found = _SERVER.fullmatch(text)
        if found is None or not (found[1] or _HOST.fullmatch(found[2])):
            raise ValueError("expected host, host:port, srv:NAME or srv_raw:NAME, IPv6 addresses in [ ]")
        port = None if found[3] is None else int(found[3])
        if port is not None and not 1 <= port <= 65535:
            raise ValueError("a port is a number from 1 to 65535")
        return cls(found[1] or found[2], port)


def _servers(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("expected a comma-separated list of servers")
    names = tuple(ServerName.parse(place.strip()) for place in value.split(","))
    if len(set(names)) != len(names):
        raise ValueError("a server is given twice")
    if len(names) > MAX_SERVERS:
        raise ValueError(f"expected at most {MAX_SERVERS} servers")
    return names


def _mechanisms(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("expected a comma-separated list of GSSAPI and DIGEST-MD5")
    return tuple(name.strip().upper() for name in value.split(","))


def _no_os_defaults(value: bool) -> bool:
    if value:
        raise ValueError(
            "true is not supported: it is for Windows; write bind.queryUser and bind.queryPassword, or bind.method "
            "sasl with bind.saslMechanisms GSSAPI"
        )
    return value


class LdapBind(Section):
    """security.ldap.bind: the service identity that searches. Without it searches are anonymous.

    `method` is the service's alone: users' passwords are always checked by simple binds.
    """

    method: Literal["simple", "sasl"] = Field(default="simple", description="simple or sasl")
    sasl_mechanisms: Annotated[tuple[Literal["GSSAPI", "DIGEST-MD5"], ...], BeforeValidator(_mechanisms)] = (
        Field(
            default=("DIGEST-MD5",),
            alias="saslMechanisms",
            description="a comma-separated list of GSSAPI and DIGEST-MD5",
        )
    )
    query_user: str | None = Field(
        default=None, alias="queryUser", min_length=1, description="the name that searches are bound as"
    )
    query_passwords: tuple[Secret, ...] = Field(
        default=(), alias="queryPassword", description="a password, or a list of passwords to try in order"
    )

    use_os_defaults: Annotated[bool, AfterValidator(_no_os_defaults)] = Field(
        default=False, alias="useOSDefaults", description="true or false"
    )

    @property
    def is_anonymous(self) -> bool:
        """Whether searches are bound as nobody."""
        return self.query_user is None and not self.by_ticket_alone

    @property
    def by_ticket(self) -> bool:
        """Whether a Kerberos ticket may prove the service."""
        return self.method == "sasl" and "GSSAPI" in self.sasl_mechanisms

    @property
    def by_ticket_alone(self) -> bool:
        """Whether no password is ever used."""
        return self.method == "sasl" and set(self.sasl_mechanisms) == {"GSSAPI"}

    @property
    def name(self) -> str:
        """Who searches, in words."""
        if self.query_user is not None:
            return self.query_user
        return "the owner of the Kerberos ticket" if self.by_ticket_alone else "nobody"

    @model_validator(mode="after")
    def _complete(self) -> LdapBind:
        if self.method == "simple" and "sasl_mechanisms" in self.model_fields_set:
            raise ValueError("security.ldap.bind.saslMechanisms is only used with method: sasl")
        self._check_user()
        if self.method == "sasl" and not self.by_ticket_alone:
            if self.query_user is None:
                raise ValueError(
                    "security.ldap.bind.method: sasl needs queryUser and queryPassword for DIGEST-MD5, the default of "
                    "saslMechanisms; with saslMechanisms: GSSAPI a Kerberos ticket is used instead"
                )
            if set(self.query_user) & set('"\\'):
                raise ValueError('security.ldap.bind.queryUser: a name for DIGEST-MD5 holds no " and no \\')
        return self

    def _check_user(self) -> None:
        if self.query_user is None and self.query_passwords:
            raise ValueError("security.ldap.bind.queryUser and queryPassword need each other")
        if self.query_user is None:
            return
        if not self.query_passwords and not self.by_ticket_alone:
            raise ValueError("security.ldap.bind.queryUser and queryPassword need each other")
        if not self.query_user.strip() or "\0" in self.query_user:
            raise ValueError("security.ldap.bind.queryUser must not be empty: that would bind as nobody")


class LdapAuthz(Section):
    """security.ldap.authz: whether the directory says which roles a user has."""

    query_template: str | None = Field(
        default=None,
        alias="queryTemplate",
        min_length=1,
        description="a relative LDAP URL, base?attributes?scope?filter",
    )
    require_roles: bool = Field(default=False, alias="requireRoles", description="true or false")


class Ldap(Section):
    """security.ldap. Without `authz.query_template` the directory checks passwords alone."""

    servers: Annotated[tuple[ServerName, ...], BeforeValidator(_servers)] = Field(
        description="a comma-separated list of host, host:port, srv:NAME or srv_raw:NAME"
    )
    transport_security: Literal["tls", "startTLS", "none"] = Field(
        default="tls", alias="transportSecurity", description="tls, startTLS or none"
    )
    ca_file: FilePath | None = Field(
        default=None, alias="CAFile", description="the path of a file of certificates"
    )
    bind: LdapBind = Field(default=LdapBind(), description="a mapping of keys")
    timeout_ms: int = Field(
        default=LDAP_TIMEOUT_MS,
        alias="timeoutMS",
        ge=100,
        le=600_000,
        description="a number of milliseconds from 100 to 600000",
    )
    retry_count: int = Field(
        default=0, alias="retryCount", ge=0, le=10, description="a number of repetitions from 0 to 10"
    )
    user_to_dn_mapping: Any = Field(
        default=None, alias="userToDNMapping", description="a JSON text or a list of elements"
    )
    authz: LdapAuthz = Field(default=LdapAuthz(), description="a mapping of keys")
    nested_groups: Literal["direct", "recursive", "in_chain", "token_groups"] = Field(
        default="direct", alias="nestedGroups", description="direct, recursive, in_chain or token_groups"
    )
    role_mapping: dict[str, list[Any]] | None = Field(
        default=None, alias="roleMapping", description="a mapping of group DNs to lists of roles"
    )
    user_cache_staleness_secs: int = Field(
        default=DEFAULT_STALENESS_SECS,
        alias="userCacheStalenessSecs",
        ge=1,
        le=86_400,
        description="a number of seconds from 1 to 86400",
    )
    validate_server_config: bool = Field(
        default=True, alias="validateLDAPServerConfig", description="true or false"
    )

    @cached_property
    def mapping(self) -> UserToDnMapping:
        """`userToDNMapping`, parsed."""
        return UserToDnMapping.parse(self.user_to_dn_mapping)

    @cached_property
    def lookup(self) -> GroupLookup | None:
        """`authz.queryTemplate` with `nestedGroups`, parsed; None where MongoDB's own documents give the roles."""
        if self.authz.query_template is None:
            return None
        return GroupLookup.parse(self.authz.query_template, self.strategy)

    @cached_property
    def role_table(self) -> RoleMapping:
        """`roleMapping`, parsed."""
        return RoleMapping.parse(self.role_mapping)

    @property
    def strategy(self) -> NestedGroups:
        """How groups in groups are found."""
        return NestedGroups(self.nested_groups)

    @property
    def default_port(self) -> int:
        """The port of a server that is given without one."""
        return TLS_PORT if self.transport_security == "tls" else CLEAR_PORT

    @property
    def sends_in_clear(self) -> bool:
        """Whether passwords go to another host without TLS."""
        return self.transport_security == "none" and any(
            server.lookup != "host" or _LOOPBACK.fullmatch(server.host) is None for server in self.servers
        )

    @property
    def has_unused_password(self) -> bool:
        """Whether there is a password for the service that no mechanism uses."""
        return self.bind.by_ticket_alone and bool(self.bind.query_passwords)

    @property
    def may_mistake_accounts(self) -> bool:
        """Whether the account that a password is checked for, and the one whose groups count, are found apart."""
        lookup = self.lookup
        return (
            lookup is not None
            and PROVIDED_USER in lookup.template.url.names
            and self.mapping.binds_typed_names
        )

    @model_validator(mode="after")
    def _consistent(self) -> Ldap:
        if self.ca_file is not None and self.transport_security == "none":
            raise ValueError(
                "security.ldap.CAFile is only used with security.ldap.transportSecurity: tls or startTLS"
            )
        if self.bind.method == "sasl" and self.transport_security == "none":
            raise ValueError(
                "security.ldap.bind.method: sasl needs security.ldap.transportSecurity: tls or startTLS: the "
                "mechanisms' own protection of answers is not offered, and whoever changes an answer decides over roles"
            )
        if self.authz.query_template is None:
            for key, given in (
                ("nestedGroups", self.nested_groups != "direct"),
                ("roleMapping", self.role_mapping is not None),
                ("authz.requireRoles", self.authz.require_roles),
            ):
                if given:
                    raise ValueError(f"security.ldap.{key} needs security.ldap.authz.queryTemplate")
        try:
            _ = self.mapping, self.lookup, self.role_table
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


def read_query_passwords(
    values: dict[str, Any], substitute: Callable[[str, str, list[str]], str]
) -> tuple[list[str], dict[str, Any]]:
    """Replace `security.ldap.bind.queryPassword` by a tuple of `Secret`; the answer is (problems, values).

    `substitute(text, key, problems)` puts in what `${NAME}` stands for. A problem leaves a placeholder.
    """
    bind = values
    for key in ("security", "ldap", "bind"):
        inner = bind.get(key)
        if not isinstance(inner, dict):
            return [], values
        bind = inner
    if "queryPassword" not in bind:
        return [], values
    key = "security.ldap.bind.queryPassword"
    given = bind["queryPassword"]
    texts = given if isinstance(given, list) and given else [given]
    problems: list[str] = []
    passwords = []
    for text in texts:
        if not isinstance(text, str) or not text:
            problems.append(f"{key}: expected a password that is not empty, or a list of such passwords")
            break
        password = substitute(text, key, problems)
        if not password and not problems:
            problems.append(f"{key}: the environment variable is empty")
        passwords.append(Secret(password))
    replaced = {**bind, "queryPassword": tuple(passwords) or (Secret(""),)}
    security: Mapping[str, Any] = values["security"]
    ldap = {**security["ldap"], "bind": replaced}
    return problems, {**values, "security": {**security, "ldap": ldap}}
