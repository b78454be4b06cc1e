"""net.tls, and the server parameters about TLS and X.509, in mongod's vocabulary.

In: plain values. Out: a section, and what the certificate policy takes. Must not know files: they are opened, and
found to be wrong, by whoever makes the TLS context.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mongoguard.authn.x509.certificate import RolePattern
from mongoguard.authn.x509.membership import MemberAttributes, members_of_dn
from mongoguard.config.secret import Secret
from mongoguard.config.section import FilePath, Section

__all__ = ["TLS", "CATrust", "ClusterAuthX509", "TLSParameters", "TrustedRole", "read_key_password"]

PROTOCOLS = ("TLS1_0", "TLS1_1", "TLS1_2", "TLS1_3")
_SPOKEN = frozenset({"TLS1_2", "TLS1_3"})

DEFAULT_WARNING_DAYS = 30
"""mongod's default: time to renew a certificate that people renew."""

_ONE_DN = "expected a distinguished name with O, OU or DC attributes"


def _protocols(value: Any) -> Any:
    names = [v.strip() for v in value.split(",")] if isinstance(value, str) else value
    if names == ["none"]:
        raise ValueError("TLS 1.0 and 1.1 can't be enabled; leave the key out")
    if not isinstance(names, list) or not names or not set(names) <= set(PROTOCOLS):
        raise ValueError(f"expected some of {', '.join(PROTOCOLS)}")
    if set(names) >= _SPOKEN:
        raise ValueError("TLS 1.2 and 1.3 are the ones that mongoguard speaks: one of them must stay")
    return frozenset(names)


def _dn(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(_ONE_DN)
    try:
        members_of_dn(value)
    except ValueError as error:
        raise ValueError(f"{_ONE_DN}: {error}") from None
    return value


def _fingerprint(value: Any) -> Any:
    text = value.replace(":", "").lower() if isinstance(value, str) else ""
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("expected the SHA-256 of an authority's certificate: 64 hex digits")
    return text


def _list(value: Any) -> Any:
    """A YAML list, or JSON text, which is how mongod's command line has it."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("expected a list, or a JSON array") from None
    return tuple(value) if isinstance(value, list) else value


DistinguishedNameText = Annotated[str, BeforeValidator(_dn)]


class TrustedRole(Section):
    """Roles that an authority may grant; an empty or absent key stands for any."""

    role: str = Field(default="", description="a role's name, empty for any")
    db: str = Field(default="", description="a role's database, empty for any")


class CATrust(Section):
    """One authority of setParameter.tlsCATrusts."""

    sha256: Annotated[str, BeforeValidator(_fingerprint)] = Field(
        description="the SHA-256 of an authority's certificate, in hex"
    )
    roles: Annotated[tuple[TrustedRole, ...], BeforeValidator(_list)] = Field(
        description="a list of {role, db}"
    )


class ClusterAuthX509(Section):
    """net.tls.clusterAuthX509: what certificates of the deployment's own servers look like. Nobody logs in by one."""

    attributes: DistinguishedNameText | None = Field(
        default=None, description="a distinguished name with O, OU or DC attributes"
    )
    extension_value: str | None = Field(
        default=None, alias="extensionValue", min_length=1, description="a text of at least one character"
    )

    @model_validator(mode="after")
    def _one_is_given(self) -> ClusterAuthX509:
        if (self.attributes is None) == (self.extension_value is None):
            raise ValueError("needs one of attributes and extensionValue")
        return self


class TLS(Section):
    """net.tls: encryption of the clients' connections, and which certificates clients must show."""

    mode: Literal["disabled", "allowTLS", "preferTLS", "requireTLS"] = Field(
        default="disabled", description="disabled, allowTLS, preferTLS or requireTLS"
    )
    certificate_key_file: FilePath | None = Field(
        default=None, alias="certificateKeyFile", description="a PEM file with a certificate and its key"
    )
    certificate_key_file_password: Secret | None = Field(
        default=None, alias="certificateKeyFilePassword", description="the password of the key"
    )
    ca_file: FilePath | None = Field(
        default=None, alias="CAFile", description="a PEM file with the authorities of client certificates"
    )
    crl_file: FilePath | None = Field(
        default=None, alias="CRLFile", description="a PEM file with revocation lists"
    )
    allow_connections_without_certificates: bool = Field(
        default=False, alias="allowConnectionsWithoutCertificates", description="true or false"
    )
    disabled_protocols: Annotated[frozenset[str], BeforeValidator(_protocols)] = Field(
        default=frozenset({"TLS1_0", "TLS1_1"}),
        alias="disabledProtocols",
        description="a comma-separated list of TLS1_0, TLS1_1, TLS1_2, TLS1_3",
    )
    cluster_auth_x509: ClusterAuthX509 | None = Field(
        default=None, alias="clusterAuthX509", description="a mapping of keys"
    )

    @model_validator(mode="after")
    def _keys_fit(self) -> TLS:
        if self.certificate_key_file is None and self.certificate_key_file_password is not None:
            raise ValueError("net.tls.certificateKeyFilePassword needs net.tls.certificateKeyFile")
        if self.ca_file is None and self.crl_file is not None:
            raise ValueError("net.tls.CRLFile needs net.tls.CAFile: there is nothing to revoke without")
        if not self.is_on:
            return self
        if self.certificate_key_file is None:
            raise ValueError(f"net.tls.certificateKeyFile: required by net.tls.mode: {self.mode}")
        if self.ca_file is None and not self.allow_connections_without_certificates:
            raise ValueError(
                "net.tls.CAFile: required: clients must show a certificate that one of its authorities has signed;"
                " net.tls.allowConnectionsWithoutCertificates: true lets them in without"
            )
        return self

    @property
    def is_on(self) -> bool:
        """Whether connections may be encrypted."""
        return self.mode != "disabled"

    @property
    def takes_certificates(self) -> bool:
        """Whether a client may show who it is by a certificate."""
        return self.is_on and self.ca_file is not None


class TLSParameters(Section):
    """The server parameters about TLS and X.509."""

    openssl_cipher_config: str | None = Field(
        default=None,
        alias="opensslCipherConfig",
        min_length=1,
        description="a cipher list in OpenSSL's form, for TLS 1.2",
    )
    tls_x509_expiration_warning_threshold_days: int = Field(
        default=DEFAULT_WARNING_DAYS,
        alias="tlsX509ExpirationWarningThresholdDays",
        ge=0,
        le=3650,
        description="a number of days from 0 (no warnings) to 3650",
    )
    tls_x509_cluster_auth_dn_override: DistinguishedNameText | None = Field(
        default=None,
        alias="tlsX509ClusterAuthDNOverride",
        description="a distinguished name with O, OU or DC attributes",
    )
    tls_ca_trusts: Annotated[tuple[CATrust, ...] | None, BeforeValidator(_list)] = Field(
        default=None, alias="tlsCATrusts", description="a list of {sha256, roles}"
    )

    @model_validator(mode="after")
    def _authorities_are_told_once(self) -> TLSParameters:
        fingerprints = [trust.sha256 for trust in self.tls_ca_trusts or ()]
        if len(set(fingerprints)) != len(fingerprints):
            raise ValueError("setParameter.tlsCATrusts names an authority twice")
        return self

    @property
    def ca_trusts(self) -> Mapping[bytes, tuple[RolePattern, ...]] | None:
        """`tlsCATrusts` as the certificate policy takes it."""
        if self.tls_ca_trusts is None:
            return None
        return {
            bytes.fromhex(trust.sha256): tuple(RolePattern(role.role, role.db) for role in trust.roles)
            for trust in self.tls_ca_trusts
        }

    @property
    def members(self) -> tuple[MemberAttributes, ...]:
        """`tlsX509ClusterAuthDNOverride` as the certificate policy takes it."""
        override = self.tls_x509_cluster_auth_dn_override
        return () if override is None else (members_of_dn(override),)


def read_key_password(
    values: dict[str, Any], substitute: Callable[[str, str, list[str]], str]
) -> tuple[list[str], dict[str, Any]]:
    """Replace net.tls.certificateKeyFilePassword by a `Secret`; the answer is (problems, values).

    `substitute(text, key, problems)` puts in the environment's variables. No problem repeats the value.
    """
    net = values.get("net")
    tls = net.get("tls") if isinstance(net, dict) else None
    if not isinstance(net, dict) or not isinstance(tls, dict) or "certificateKeyFilePassword" not in tls:
        return [], values
    key, text = "net.tls.certificateKeyFilePassword", tls["certificateKeyFilePassword"]
    problems: list[str] = []
    if isinstance(text, str) and text:
        secret = Secret(substitute(text, key, problems))
    else:
        problems.append(f"{key}: expected a text that is not empty (digits alone need quotes)")
        secret = Secret("")
    return problems, {**values, "net": {**net, "tls": {**tls, "certificateKeyFilePassword": secret}}}
