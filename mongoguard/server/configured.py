"""What settings become: the values that all sessions of a process share.

In: settings. Out: session settings and logins. Must not know connections.
"""

from __future__ import annotations

import hashlib
import hmac

from mongoguard.authn.gssapi import GSSAPI, gssapi_logins
from mongoguard.authn.logins import Logins, scram_logins
from mongoguard.authn.oidc import OIDC, oidc_logins
from mongoguard.authn.plain import PLAIN, plain_logins
from mongoguard.authn.scram import SCRAM_MECHANISMS
from mongoguard.authn.throttle import LoginThrottle
from mongoguard.authn.x509.login import X509_MECHANISM
from mongoguard.config.settings import Settings
from mongoguard.proxy.settings import SessionSettings
from mongoguard.wire.compression import available_compressors

__all__ = ["logins_of", "session_settings"]

FILE_REALM = " (users file)"
"""Added to the database of a file user's name upstream, so that it is nobody of the upstream's own."""


def session_settings(settings: Settings) -> SessionSettings:
    """What sessions need of the settings."""
    wanted = settings.net.compression.compressors
    audit = settings.audit_log
    return SessionSettings(
        authorization_enabled=settings.security.authorization == "enabled",
        compressors=tuple(name for name in wanted if name in available_compressors()),
        explain_denials=settings.security.explain_denials,
        audit_authorization_success=audit is not None and settings.set_parameter.audit_authorization_success,
        audit_parameter_bytes=audit.parameter_max_bytes if audit is not None else 4096,
        relays_user_management=settings.security.user_directory == "upstream",
        realm="" if settings.security.user_directory == "upstream" else FILE_REALM,
        max_unauthenticated_bytes=settings.net.max_unauthenticated_message_bytes,
    )


def logins_of(settings: Settings, throttle: LoginThrottle | None) -> Logins:
    """The mechanisms to serve; `throttle` as in `Logins`."""
    scram = [name for name in settings.mechanisms if name in SCRAM_MECHANISMS]
    return Logins(
        sasl={
            **scram_logins(scram, _decoy_key(settings)),
            **(plain_logins(_reserved_names(settings)) if PLAIN in settings.mechanisms else {}),
            **(gssapi_logins(_reserved_names(settings)) if GSSAPI in settings.mechanisms else {}),
            **(oidc_logins(settings.set_parameter.providers) if OIDC in settings.mechanisms else {}),
        },
        x509=X509_MECHANISM in settings.mechanisms,
        throttle=throttle,
        limits_connections=settings.net.max_connections_per_user > 0,
    )


def _reserved_names(settings: Settings) -> tuple[str, ...]:
    """What the names of identity providers' users begin with."""
    if OIDC not in settings.mechanisms:
        return ()
    return tuple(f"{provider.auth_name_prefix}/" for provider in settings.set_parameter.providers)


def _decoy_key(settings: Settings) -> bytes:
    """A secret that is the same in every worker and after a restart: a decoy salt is as stable as a real one."""
    return hmac.digest(settings.upstream.uri.reveal().encode(), b"mongoguard decoy salts", hashlib.sha256)
