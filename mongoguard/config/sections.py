"""The sections of mongoguard.yaml as frozen values, in the vocabulary of mongod.conf.

In: plain values. Out: one model per section. Must not know files, the environment, or how problems are printed.
Each field's `description` says what is expected; it is printed after "expected" when the value is something else.
Attribute names carry their units; the keys in the file are the aliases.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mongoguard.config.advertised_addresses import AdvertisedAddresses
from mongoguard.config.ldap_parameters import LdapParameters
from mongoguard.config.ldap_section import Ldap
from mongoguard.config.login_limits_section import LoginLimitsSection
from mongoguard.config.oidc_section import OidcParameters
from mongoguard.config.proxy_protocol_section import ProxyProtocol
from mongoguard.config.sasl_section import Sasl
from mongoguard.config.secret import Secret
from mongoguard.config.section import FilePath, Section
from mongoguard.config.tls_section import TLS, TLSParameters

__all__ = [
    "MECHANISMS",
    "AuditLog",
    "Compression",
    "Net",
    "ProcessManagement",
    "Security",
    "SetParameter",
    "SystemLog",
    "UnixDomainSocket",
    "Upstream",
]

COMPRESSORS = ("snappy", "zstd", "zlib")
DEFAULT_MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1")
"""Mechanisms that are served unasked, in the order in which they are offered."""
MECHANISMS = (*DEFAULT_MECHANISMS, "PLAIN", "MONGODB-X509", "MONGODB-OIDC", "GSSAPI")
"""Mechanisms this version can serve."""

DEFAULT_MAX_CONNECTIONS = 65536
"""mongod's own default for net.maxIncomingConnections on Linux is of this size; file descriptors end sooner."""
DEFAULT_HANDSHAKE_SECS = 30
"""A driver logs in within its connectTimeoutMS, 20 to 30 s by default, so nobody honest needs longer."""
DEFAULT_MESSAGE_SECS = 60
"""48 MB arrive within this over 6.4 Mbit/s; a sender slower than that is an attack more often than a link."""
MAX_MIN_POOL_SIZE = 1_000
"""Connections kept ready per server: opened one after the other, at 20 ms of a server's time each, they take 20 s."""
DEFAULT_SERVER_SELECTION_MS = 15_000
"""An election takes 12 s with mongod's own settings, and a driver asks twice; mongos waits as long for a primary."""
DEFAULT_UNAUTHENTICATED_BYTES = 131072
"""A hello with its client document is below 4 KB, a SASL step below 16 KB; a Kerberos ticket reaches 64 KB."""


def _names(value: Any) -> Any:
    """A comma list or a YAML list -> a tuple of names."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise ValueError("expected a comma-separated list of names")
    names = tuple(v.strip() for v in value)
    if not names or not all(names):
        raise ValueError("expected a comma-separated list without empty places")
    if len(set(names)) != len(names):
        raise ValueError("a name is given twice")
    return names


def _compressors(value: Any) -> Any:
    if value == "disabled":
        return ()
    names = _names(value)
    if not set(names) <= set(COMPRESSORS):
        raise ValueError(f'expected "disabled" or some of {",".join(COMPRESSORS)}')
    return names


def _mechanisms(value: Any) -> Any:
    names = _names(value)
    if not set(names) <= set(MECHANISMS):
        raise ValueError(f"expected some of {', '.join(MECHANISMS)}: others are not supported yet")
    return names


def _bind_ip(value: Any) -> Any:
    names = _names(value)
    if "*" in names and len(names) > 1:
        raise ValueError('"*" stands for every address and must be alone')
    if not all(n == "*" or re.fullmatch(r"/[^\0]+|[0-9A-Za-z.:%_-]+", n) for n in names):
        raise ValueError("expected a comma-separated list of IP addresses, host names or Unix socket paths")
    return names


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class UnixDomainSocket(Section):
    """net.unixDomainSocket. Off by default: no listener that nobody asked for (mongod opens one)."""

    enabled: bool = Field(default=False, description="true or false")
    path_prefix: FilePath = Field(default="/tmp", alias="pathPrefix", description="a directory")  # noqa: S108
    file_permissions: int = Field(
        default=0o700,
        alias="filePermissions",
        ge=0,
        le=0o777,
        description="an octal file mode from 0000 to 0777",
    )


class Compression(Section):
    """net.compression: the compressors that clients may negotiate, best first; empty when disabled."""

    compressors: Annotated[tuple[str, ...], BeforeValidator(_compressors)] = Field(
        default=COMPRESSORS, description='"disabled" or a comma-separated list of snappy, zstd, zlib'
    )


class Net(Section):
    """net: where clients come in, and the limits on what they may hold before they are known."""

    port: int = Field(
        default=27017, ge=0, le=65535, description="a port number from 0 (any free port) to 65535"
    )
    bind_ip: Annotated[tuple[str, ...], BeforeValidator(_bind_ip)] = Field(
        default=("127.0.0.1",),
        alias="bindIp",
        description="a comma-separated list of IP addresses, host names or Unix socket paths",
    )
    ipv6: bool = Field(default=False, description="true or false")
    unix_domain_socket: UnixDomainSocket = Field(
        default=UnixDomainSocket(), alias="unixDomainSocket", description="a mapping of keys"
    )
    max_incoming_connections: int = Field(
        default=DEFAULT_MAX_CONNECTIONS,
        alias="maxIncomingConnections",
        ge=1,
        le=1_000_000,
        description="a number of connections from 1 to 1000000",
    )
    max_connections_per_user: int = Field(
        default=0,
        alias="maxConnectionsPerUser",
        ge=0,
        le=1_000_000,
        description="a number of connections from 0 (no limit) to 1000000",
    )
    compression: Compression = Field(default=Compression(), description="a mapping of keys")
    proxy_protocol: ProxyProtocol = Field(
        default=ProxyProtocol(), alias="proxyProtocol", description="a mapping of keys"
    )
    tls: TLS = Field(default=TLS(), description="a mapping of keys")
    present_as: Literal["auto", "standalone", "mongos", "replicaSet"] = Field(
        default="auto", alias="presentAs", description="auto, standalone, mongos or replicaSet"
    )
    advertise: AdvertisedAddresses | None = Field(
        default=None, description='"host:port", or a mapping of members to the proxies in front of them'
    )
    handshake_timeout_secs: int = Field(
        default=DEFAULT_HANDSHAKE_SECS,
        alias="handshakeTimeoutSecs",
        ge=1,
        le=3600,
        description="a number of seconds from 1 to 3600",
    )
    message_timeout_secs: int = Field(
        default=DEFAULT_MESSAGE_SECS,
        alias="messageTimeoutSecs",
        ge=1,
        le=3600,
        description="a number of seconds from 1 to 3600",
    )
    max_unauthenticated_message_bytes: int = Field(
        default=DEFAULT_UNAUTHENTICATED_BYTES,
        alias="maxUnauthenticatedMessageBytes",
        ge=16384,
        le=48_000_000,
        description="a number of bytes from 16384 to 48000000",
    )

    @model_validator(mode="after")
    def _addresses_fit(self) -> Net:
        if not self.ipv6 and any(_is_ipv6(host) for host in self.tcp_hosts):
            raise ValueError("net.bindIp holds an IPv6 address, which needs net.ipv6: true")
        return self

    @model_validator(mode="after")
    def _is_advertised_as_a_set(self) -> Net:
        if self.present_as == "replicaSet" and self.advertise is None:
            raise ValueError(
                'net.presentAs: replicaSet needs net.advertise: the "host:port" under which clients find this proxy, '
                "or a mapping of members to the proxies in front of them"
            )
        if self.present_as != "replicaSet" and self.advertise is not None:
            raise ValueError("net.advertise is only used with net.presentAs: replicaSet")
        return self

    @property
    def tcp_hosts(self) -> tuple[str, ...]:
        """Addresses and host names to listen on; "*" has become 0.0.0.0, and :: with `ipv6`."""
        if self.bind_ip == ("*",):
            return ("0.0.0.0", "::") if self.ipv6 else ("0.0.0.0",)  # noqa: S104
        return tuple(name for name in self.bind_ip if not name.startswith("/"))

    @property
    def unix_socket_paths(self) -> tuple[str, ...]:
        """Unix sockets to listen on: those named in bindIp, and `<pathPrefix>/mongodb-<port>.sock` when enabled."""
        named = tuple(name for name in self.bind_ip if name.startswith("/"))
        own = f"{self.unix_domain_socket.path_prefix.rstrip('/')}/mongodb-{self.port}.sock"
        return (*named, own) if self.unix_domain_socket.enabled and own not in named else named


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


class Upstream(Section):
    """upstream: the deployment behind, and the service user's way to it. `uri` is set, whichever key gave it."""

    uri: Secret = Field(description="a mongodb:// or mongodb+srv:// connection string")
    max_pool_size: int = Field(
        default=0,
        alias="maxPoolSize",
        ge=0,
        le=1_000_000,
        description="a number of connections, 0 for no limit",
    )
    min_pool_size: int = Field(
        default=0,
        alias="minPoolSize",
        ge=0,
        le=MAX_MIN_POOL_SIZE,
        description=f"a number of connections from 0 to {MAX_MIN_POOL_SIZE}",
    )
    connect_timeout_ms: int = Field(
        default=10_000,
        alias="connectTimeoutMS",
        ge=1,
        le=3_600_000,
        description="a number of milliseconds from 1 to 3600000",
    )
    server_selection_timeout_ms: int = Field(
        default=DEFAULT_SERVER_SELECTION_MS,
        alias="serverSelectionTimeoutMS",
        ge=1,
        le=3_600_000,
        description="a number of milliseconds from 1 to 3600000",
    )
    wait_queue_timeout_ms: int = Field(
        default=10_000,
        alias="waitQueueTimeoutMS",
        ge=1,
        le=3_600_000,
        description="a number of milliseconds from 1 to 3600000",
    )

    @model_validator(mode="after")
    def _pool_sizes_fit(self) -> Upstream:
        if 0 < self.max_pool_size < self.min_pool_size:
            raise ValueError("upstream.minPoolSize must not be more than upstream.maxPoolSize")
        return self


class Security(Section):
    """security: who is asked about users, and how long their answers hold."""

    authorization: Literal["enabled", "disabled"] = Field(
        default="enabled", description="enabled or disabled"
    )
    user_directory: Literal["upstream", "file"] = Field(
        default="upstream", alias="userDirectory", description="upstream or file"
    )
    user_file: FilePath | None = Field(
        default=None, alias="userFile", description="the path of the users file"
    )
    user_cache_invalidation_interval_secs: int = Field(
        default=5,
        alias="userCacheInvalidationIntervalSecs",
        ge=1,
        le=86_400,
        description="a number of seconds from 1 to 86400",
    )
    user_cache_max_stale_secs: int = Field(
        default=60,
        alias="userCacheMaxStaleSecs",
        ge=0,
        le=86_400,
        description="a number of seconds from 0 to 86400",
    )
    explain_denials: bool = Field(default=False, alias="explainDenials", description="true or false")
    ldap: Ldap | None = Field(default=None, description="a mapping of keys")
    sasl: Sasl | None = Field(default=None, description="a mapping of keys")
    login_limits: LoginLimitsSection = Field(
        default=LoginLimitsSection(), alias="loginLimits", description="a mapping of keys"
    )

    @model_validator(mode="after")
    def _directory_is_complete(self) -> Security:
        if self.user_directory == "file" and self.user_file is None:
            raise ValueError("security.userDirectory: file needs security.userFile")
        if self.user_directory == "upstream" and self.user_file is not None:
            raise ValueError("security.userFile is only read with security.userDirectory: file")
        return self


class SetParameter(TLSParameters, OidcParameters, LdapParameters):
    """setParameter: the server parameters of mongod that mean something here."""

    authentication_mechanisms: Annotated[tuple[str, ...], BeforeValidator(_mechanisms)] = Field(
        default=DEFAULT_MECHANISMS,
        alias="authenticationMechanisms",
        description="a comma-separated list of mechanisms",
    )
    enable_localhost_auth_bypass: bool = Field(
        default=False, alias="enableLocalhostAuthBypass", description="true or false"
    )
    audit_authorization_success: bool = Field(
        default=False, alias="auditAuthorizationSuccess", description="true or false"
    )


class AuditLog(Section):
    """auditLog: where audit messages go. Without this section there is no audit log."""

    destination: Literal["console", "file"] = Field(description="console or file")
    format: Literal["JSON"] = Field(default="JSON", description="JSON")
    path: FilePath | None = Field(default=None, description="a file path")
    parameter_max_bytes: int = Field(
        default=4096,
        alias="parameterMaxBytes",
        ge=256,
        le=1_048_576,
        description="a number of bytes from 256 to 1048576",
    )

    @model_validator(mode="after")
    def _path_fits(self) -> AuditLog:
        _check_path("auditLog", self.destination, self.path)
        return self


class SystemLog(Section):
    """systemLog: mongoguard's own log, JSON lines as mongod writes them. The console is standard error."""

    destination: Literal["console", "file"] = Field(default="console", description="console or file")
    path: FilePath | None = Field(default=None, description="a file path")
    verbosity: int = Field(default=0, ge=0, le=5, description="a number from 0 to 5")
    log_append: bool = Field(default=False, alias="logAppend", description="true or false")

    @model_validator(mode="after")
    def _path_fits(self) -> SystemLog:
        _check_path("systemLog", self.destination, self.path)
        return self


class ProcessManagement(Section):
    """processManagement: what the service manager wants to know."""

    pid_file_path: FilePath | None = Field(default=None, alias="pidFilePath", description="a file path")


def _check_path(section: str, destination: str, path: str | None) -> None:
    if destination == "file" and path is None:
        raise ValueError(f"{section}.destination: file needs {section}.path")
    if destination == "console" and path is not None:
        raise ValueError(f"{section}.path is only used with {section}.destination: file")
