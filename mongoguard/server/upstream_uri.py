"""The upstream URI: what pymongo reads in it, as mongoguard uses it.

In: a connection string. Out: hosts, credential, TLS context, options for the monitoring client. Must not connect.
Raises `ConfigError` whose text never holds the URI.
"""

from __future__ import annotations

import ssl
import warnings
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from pymongo.errors import ConfigurationError, InvalidURI
from pymongo.uri_parser import parse_uri

from mongoguard.authn.upstream_login import UpstreamCredential
from mongoguard.command.read_preference import ReadPreference, ReadPreferenceMode, parse_read_preference
from mongoguard.config.secret import Secret
from mongoguard.errors import CommandError, ConfigError
from mongoguard.wire.compression import available_compressors
from mongoguard.wire.document import Document, encode

__all__ = ["UpstreamAddress", "read_upstream_uri"]


@dataclass(frozen=True)
class UpstreamAddress:
    """A parsed upstream URI. `credential` is None when the URI names no user and no X.509.

    `compressors`: what connections to the upstream may be compressed with, best first; zlib by `zlib_level` (-1: its
    own default). `read_preference`: for reads of clients that name none; None is the primary.
    """

    uri: Secret
    credential: UpstreamCredential | None
    tls: ssl.SSLContext | None = field(repr=False)
    compressors: tuple[str, ...] = ()
    zlib_level: int = -1
    read_preference: ReadPreference | None = None


def read_upstream_uri(uri: Secret) -> UpstreamAddress:
    """Parse and check. Raises `ConfigError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymongo warns of compressors that pymongo itself lacks
            parsed = parse_uri(uri.reveal(), validate=True, warn=False)
    except (
        InvalidURI,
        ConfigurationError,
        TypeError,
        ValueError,
        OSError,
    ) as error:  # OSError: a file that it names
        raise ConfigError(f"upstream.uri: {_without_uri(str(error), uri)}") from None
    options: dict[str, Any] = {key.lower(): value for key, value in parsed["options"].items()}
    if options.get("loadbalanced"):
        raise ConfigError(
            "upstream.uri: loadBalanced=true is not supported: the servers themselves must be reachable"
        )
    return UpstreamAddress(
        uri,
        _credential(parsed, options),
        _tls_context(options),
        _compressors(uri.reveal()),
        int(options.get("zlibcompressionlevel", -1)),
        _read_preference(options),
    )


def _compressors(uri: str) -> tuple[str, ...]:
    """Read in the URI itself: pymongo drops those whose library it lacks."""
    options = parse_qsl(uri.partition("?")[2])
    names = [name for key, value in options if key.lower() == "compressors" for name in value.split(",")]
    for name in names:
        if name not in {"snappy", "zlib", "zstd"}:
            raise ConfigError(f"upstream.uri: compressors: expected some of snappy, zlib, zstd, not {name!r}")
        if name not in available_compressors():
            raise ConfigError(f"upstream.uri: compressors: {name} needs the extra compression of mongoguard")
    return tuple(dict.fromkeys(names))


def _read_preference(options: dict[str, Any]) -> ReadPreference | None:
    document: dict[str, Any] = {"mode": str(options.get("readpreference", ReadPreferenceMode.PRIMARY))}
    if options.get("readpreferencetags"):
        document["tags"] = options["readpreferencetags"]
    if options.get("maxstalenessseconds", -1) >= 0:
        document["maxStalenessSeconds"] = options["maxstalenessseconds"]
    try:
        found = parse_read_preference(Document(encode({"$readPreference": document})))
    except CommandError as error:
        raise ConfigError(f"upstream.uri: {error}") from None
    return None if found is None or found.mode is ReadPreferenceMode.PRIMARY else found


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
        revoked = options.get("tlscrlfile")
        if revoked:
            context.load_verify_locations(revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"upstream.uri: the TLS files cannot be used: {error}") from None
    insecure = options.get("tlsinsecure", False)
    if insecure or options.get("tlsallowinvalidhostnames"):
        context.check_hostname = False
    if insecure or options.get("tlsallowinvalidcertificates"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
