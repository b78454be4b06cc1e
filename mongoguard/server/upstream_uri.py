"""The upstream URI: what pymongo reads in it, as mongoguard uses it.

In: a connection string. Out: hosts, credential, TLS context, options for the monitoring client. Must not connect.
Raises `ConfigError` whose text never holds the URI.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

from pymongo.errors import ConfigurationError, InvalidURI
from pymongo.uri_parser import parse_uri

from mongoguard.authn.upstream_login import UpstreamCredential
from mongoguard.config.secret import Secret
from mongoguard.errors import ConfigError

__all__ = ["UpstreamAddress", "read_upstream_uri"]


@dataclass(frozen=True)
class UpstreamAddress:
    """A parsed upstream URI. `credential` is None when the URI names no user and no X.509."""

    uri: Secret
    credential: UpstreamCredential | None
    tls: ssl.SSLContext | None = field(repr=False)


def read_upstream_uri(uri: Secret) -> UpstreamAddress:
    """Parse and check. Raises `ConfigError`."""
    try:
        parsed = parse_uri(uri.reveal(), validate=True, warn=False)
    except (InvalidURI, ConfigurationError, ValueError, OSError) as error:  # OSError: a file that it names
        raise ConfigError(f"upstream.uri: {_without_uri(str(error), uri)}") from None
    options: dict[str, Any] = {key.lower(): value for key, value in parsed["options"].items()}
    return UpstreamAddress(uri, _credential(parsed, options), _tls_context(options))


def _without_uri(text: str, uri: Secret) -> str:
    return text.replace(uri.reveal(), "<secret>")


def _credential(parsed: Any, options: dict[str, Any]) -> UpstreamCredential | None:
    mechanism = options.get("authmechanism")
    user, password = parsed["username"], parsed["password"]
    if not user and mechanism is None:
        return None
    source = options.get("authsource") or parsed["database"] or "admin"
    try:
        return UpstreamCredential(mechanism, user, password, source)
    except ValueError as error:
        raise ConfigError(f"upstream.uri: {error}") from None


def _tls_context(options: dict[str, Any]) -> ssl.SSLContext | None:
    if not (options.get("tls") or options.get("ssl")):
        return None
    try:
        context = ssl.create_default_context(cafile=options.get("tlscafile"))
        certificate = options.get("tlscertificatekeyfile")
        if certificate:
            context.load_cert_chain(certificate, password=options.get("tlscertificatekeyfilepassword"))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"upstream.uri: the TLS files cannot be used: {error}") from None
    insecure = options.get("tlsinsecure", False)
    if insecure or options.get("tlsallowinvalidhostnames"):
        context.check_hostname = False
    if insecure or options.get("tlsallowinvalidcertificates"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
