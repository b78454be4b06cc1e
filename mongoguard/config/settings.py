"""mongoguard.yaml -> Settings.

In: the file's text, the environment, and a function that reads a file named in it. Out: frozen `Settings`, or one
`ConfigError` with every problem, one a line: file, key path, what was expected. Must not open anything itself, and
never puts a connection string into a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from mongoguard.authn.gssapi import GSSAPI
from mongoguard.authn.oidc import OIDC
from mongoguard.authn.x509.login import X509_MECHANISM
from mongoguard.config.key_problems import describe
from mongoguard.config.ldap_parameters import by_given_name, freshness_problem, resolve_other_names
from mongoguard.config.ldap_section import read_query_passwords
from mongoguard.config.secret import Secret
from mongoguard.config.section import Section
from mongoguard.config.sections import (
    AuditLog,
    Net,
    ProcessManagement,
    Security,
    SetParameter,
    SystemLog,
    Upstream,
)
from mongoguard.config.tls_section import read_key_password
from mongoguard.config.yaml_text import parse_yaml
from mongoguard.errors import ConfigError

__all__ = ["Settings", "parse_settings"]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_LOOPBACK = re.compile(r"localhost(:\d+)?|127\.[\d.]+(:\d+)?|\[::1\](:\d+)?|.*%2[Ff].*")

_MISTAKEN_ACCOUNTS = (
    "security.ldap.authz.queryTemplate has {PROVIDED_USER} while names are bound as they are typed: a directory that "
    "knows an account by several names (Active Directory: displayName, servicePrincipalName) may give the groups of "
    "another; find the account by an ldapQuery in userToDNMapping, and its groups by {USER}"
)


MAX_WORKERS = 256
"""More than there are processors in all but a few machines; each takes 70 MB and watches the upstream itself."""


def _workers(value: Any) -> Any:
    if value == "auto":
        return 0
    if type(value) is not int or not 1 <= value <= MAX_WORKERS:
        raise ValueError(f"expected auto or a number of processes from 1 to {MAX_WORKERS}")
    return value


class Settings(Section):
    """Everything that mongoguard.yaml says, defaults filled in. `source` is the file's name, for messages."""

    source: str = Field(exclude=True)
    upstream: Upstream = Field(description="a mapping of keys with uri or uriFile")
    net: Net = Field(default=Net(), description="a mapping of keys")
    security: Security = Field(default=Security(), description="a mapping of keys")
    set_parameter: SetParameter = Field(
        default=SetParameter(), alias="setParameter", description="a mapping of keys"
    )
    audit_log: AuditLog | None = Field(default=None, alias="auditLog", description="a mapping of keys")
    system_log: SystemLog = Field(default=SystemLog(), alias="systemLog", description="a mapping of keys")
    process_management: ProcessManagement = Field(
        default=ProcessManagement(), alias="processManagement", description="a mapping of keys"
    )
    workers: Annotated[int, BeforeValidator(_workers)] = Field(
        default=1, description="auto or a number of processes"
    )
    """0 stands for auto: as many as there are processors."""

    @model_validator(mode="after")
    def _ldap_fits(self) -> Settings:
        ldap, parameters = self.security.ldap, self.set_parameter
        if ldap is None and "PLAIN" in parameters.authentication_mechanisms:
            raise ValueError("setParameter.authenticationMechanisms: PLAIN needs security.ldap")
        problem = None if ldap is None else freshness_problem(ldap, parameters)
        if problem is not None:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _certificates_fit(self) -> Settings:
        if self.net.tls.takes_certificates:
            return self
        if X509_MECHANISM in self.set_parameter.authentication_mechanisms:
            raise ValueError(
                "setParameter.authenticationMechanisms: MONGODB-X509 needs net.tls.mode and net.tls.CAFile"
            )
        if self.set_parameter.tls_ca_trusts is not None:
            raise ValueError("setParameter.tlsCATrusts: needs net.tls.mode and net.tls.CAFile")
        return self

    @model_validator(mode="after")
    def _kerberos_fits(self) -> Settings:
        if self.security.sasl is not None and GSSAPI not in self.set_parameter.authentication_mechanisms:
            raise ValueError("security.sasl: only used with GSSAPI in setParameter.authenticationMechanisms")
        return self

    @model_validator(mode="after")
    def _identity_providers_fit(self) -> Settings:
        providers = self.set_parameter.oidc_identity_providers
        if (OIDC in self.set_parameter.authentication_mechanisms) != bool(providers):
            raise ValueError(
                "setParameter.oidcIdentityProviders: needed by MONGODB-OIDC in "
                "setParameter.authenticationMechanisms, and useless without it"
            )
        if providers and not self.net.tls.is_on and not self.net.unix_socket_paths:
            raise ValueError(
                "setParameter.authenticationMechanisms: MONGODB-OIDC needs net.tls.mode, or a Unix socket: tokens are "
                "not taken where they can be read"
            )
        ldap = self.security.ldap
        by_document = any(not provider.use_authorization_claim for provider in providers)
        if by_document and ldap is not None and ldap.authz.query_template is not None:
            raise ValueError(
                "setParameter.oidcIdentityProviders.useAuthorizationClaim: must be true with "
                "security.ldap.authz.queryTemplate, by which LDAP gives the roles of names on $external"
            )
        return self

    @model_validator(mode="after")
    def _member_is_alone(self) -> Settings:
        advertised = self.net.advertise
        is_direct = re.search(r"[?&]directconnection=true(&|$)", self.upstream.uri.reveal(), re.IGNORECASE)
        if advertised is not None and advertised.own is None and not is_direct:
            raise ValueError(
                "net.advertise: a proxy per member needs directConnection=true in upstream.uri, and the one member "
                "that this proxy is in front of"
            )
        return self

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The mechanisms to serve: unless they are named, certificates log in where they can be shown, as in mongod."""
        parameters = self.set_parameter
        if self.net.tls.takes_certificates and "authentication_mechanisms" not in parameters.model_fields_set:
            return (*parameters.authentication_mechanisms, X509_MECHANISM)
        return parameters.authentication_mechanisms

    @property
    def ldap_staleness_secs(self) -> int:
        """How long an answer of the LDAP directory may be used after it was given; 0 without `security.ldap`."""
        ldap = self.security.ldap
        if ldap is None:
            return 0
        return self.set_parameter.staleness_secs(ldap)

    @property
    def ldap_refresh_secs(self) -> float | None:
        """How often groups are asked for in the background; None: never, or there is no `security.ldap`."""
        ldap = self.security.ldap
        return None if ldap is None else self.set_parameter.refresh_secs(ldap)

    def warnings(self) -> tuple[str, ...]:
        """What is allowed but dangerous or useless, one sentence each; printed at start and by `mongoguard check`."""
        uri = self.upstream.uri.reveal()
        hosts = _hosts(uri)
        encrypted = uri.startswith("mongodb+srv://") or re.search(r"[?&](tls|ssl)=true\b", uri, re.IGNORECASE)
        open_to = [h for h in self.net.tcp_hosts if not _LOOPBACK.fullmatch(h) and h != "::1"]
        checks = (
            (
                self.security.authorization == "disabled",
                "security.authorization is disabled: every client may do whatever the service user may do upstream",
            ),
            (
                self.set_parameter.enable_localhost_auth_bypass,
                "setParameter.enableLocalhostAuthBypass is on: while there are no users, anybody on this host is one",
            ),
            (
                self.net.proxy_protocol.trusts_everybody,
                "net.proxyProtocol.trustedSources names every address: any client may say to have any other's",
            ),
            (
                bool(open_to) and not self.net.tls.is_on,
                f"net.bindIp listens on {', '.join(open_to)} without TLS: traffic can be read",
            ),
            (
                bool(open_to) and self.net.tls.mode in ("allowTLS", "preferTLS"),
                f"net.tls.mode {self.net.tls.mode} lets clients in without TLS: their traffic can be read",
            ),
            (
                bool(open_to) and self.net.tls.mode != "requireTLS" and GSSAPI in self.mechanisms,
                "GSSAPI protects the login alone: without TLS whoever is on the way can speak for the user after it",
            ),
            (
                not encrypted and not all(_LOOPBACK.fullmatch(h) for h in hosts),
                "upstream.uri has no tls=true and names another host: traffic to the upstream can be read",
            ),
            (
                "@" not in _authority(uri) and "authmechanism=mongodb-x509" not in uri.lower(),
                "upstream.uri names no user: commands run upstream without a login",
            ),
            (
                self.net.unix_domain_socket.enabled
                and bool(self.net.unix_domain_socket.file_permissions & 0o007),
                "net.unixDomainSocket.filePermissions lets every local account connect",
            ),
            (
                self.audit_log is None and self.set_parameter.audit_authorization_success,
                "setParameter.auditAuthorizationSuccess does nothing without an auditLog section",
            ),
            (
                self.security.ldap is not None and self.security.ldap.sends_in_clear,
                "security.ldap.transportSecurity is none: passwords cross the network to the directory in clear",
            ),
            (
                self.security.ldap is not None and self.security.ldap.has_unused_password,
                "security.ldap.bind.queryPassword is not used by saslMechanisms: GSSAPI; leave it out",
            ),
            (
                self.security.ldap is not None and self.security.ldap.may_mistake_accounts,
                _MISTAKEN_ACCOUNTS,
            ),
        )
        without_effect = self.set_parameter.warnings(self.security.ldap)
        return (*(text for dangerous, text in checks if dangerous), *without_effect)


def parse_settings(
    text: str,
    source: str,
    *,
    environ: Mapping[str, str],
    read_file: Callable[[str], str],
) -> Settings:
    """Validate the text of a configuration file.

    `read_file` gives the content of `upstream.uriFile` (an OSError becomes a problem). Raises `ConfigError` with one
    line per problem.
    """
    values = parse_yaml(text, source)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: expected a mapping of keys such as net, upstream, security")
    problems, values = _resolve_uri(values, environ, read_file)
    more, values, names = resolve_other_names(values)
    problems += more
    more, values = read_query_passwords(values, lambda t, key, into: _substitute(t, environ, key, into))
    problems += more
    more, values = read_key_password(values, lambda t, key, into: _substitute(t, environ, key, into))
    problems += more
    problems += ["source: unknown key"] if "source" in values else []
    try:
        settings = Settings.model_validate({**values, "source": source})
    except ValidationError as error:
        # `include_input` stays on for enumerations only (see describe): nothing else of the file is repeated.
        errors = error.errors(include_url=False, include_context=True)
        problems += [p for e in errors if (p := describe(Settings, e)) and p not in problems]
        settings = None
    if problems or settings is None:
        raise ConfigError("\n".join(f"{source}: {by_given_name(problem, names)}" for problem in problems))
    return settings


def _resolve_uri(
    values: dict[str, Any], environ: Mapping[str, str], read_file: Callable[[str], str]
) -> tuple[list[str], dict[str, Any]]:
    """Replace uri / uriFile by one Secret. A problem leaves a placeholder, so that the rest is still checked."""
    section = values.get("upstream")
    if not isinstance(section, dict):
        return [], values
    section = dict(section)
    given = [key for key in ("uri", "uriFile") if key in section]
    if len(given) != 1:
        section.pop("uriFile", None)
        wrong = (
            "upstream: uri and uriFile exclude each other"
            if given
            else "upstream: uri or uriFile is required"
        )
        return [wrong], {**values, "upstream": {**section, "uri": Secret("")}}
    key = given[0]
    value = section.pop(key)
    problems: list[str] = []
    if not isinstance(value, str):
        problems.append(f"upstream.{key}: expected {_EXPECTED[key]}")
    else:
        text = _substitute(value, environ, f"upstream.{key}", problems)
        if not problems and key == "uriFile":
            text = _read(text, read_file, problems)
        if not problems:
            problems += [f"upstream.{key}: {p}" for p in _uri_problems(text)]
        section["uri"] = Secret(text)
    section.setdefault("uri", Secret(""))
    return problems, {**values, "upstream": section}


_EXPECTED = {
    "uri": "a mongodb:// or mongodb+srv:// connection string",
    "uriFile": "the path of a file that holds the connection string",
}


def _substitute(text: str, environ: Mapping[str, str], key: str, problems: list[str]) -> str:
    def value_of(match: re.Match[str]) -> str:
        name = match[1]
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            problems.append(f"{key}: expected the name of an environment variable between ${{ and }}")
        elif name not in environ:
            problems.append(f"{key}: the environment variable {name} is not set")
        return environ.get(name, "")

    return _VARIABLE.sub(value_of, text)


def _read(path: str, read_file: Callable[[str], str], problems: list[str]) -> str:
    try:
        return read_file(path).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not a text file"
        problems.append(f"upstream.uriFile: can't read {path}: {reason}")
        return ""


def _uri_problems(uri: str) -> list[str]:
    if not uri.startswith(("mongodb://", "mongodb+srv://")):
        return [f"expected {_EXPECTED['uri']}"]
    if not all(_hosts(uri)) or any(c.isspace() for c in uri):
        return ["expected at least one host after the user name, and no spaces"]
    return []


def _authority(uri: str) -> str:
    return re.split(r"[/?]", uri.partition("://")[2], maxsplit=1)[0]


def _hosts(uri: str) -> list[str]:
    return _authority(uri).rpartition("@")[2].split(",")
