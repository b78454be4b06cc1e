"""Which keys a running mongoguard takes over from a configuration file that was changed (a table).

In: the settings in use, and those of the file as it is now. Out: the settings to use from now on, and the keys that
wait for a restart. Must not know who uses a setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mongoguard.config.section import Section
from mongoguard.config.settings import Settings

__all__ = ["RELOADABLE", "Reload", "reload_settings"]

RELOADABLE = frozenset(
    [
        "net.compression",
        "net.handshakeTimeoutSecs",
        "net.maxConnectionsPerUser",
        "net.maxIncomingConnections",
        "net.maxUnauthenticatedMessageBytes",
        "net.messageTimeoutSecs",
        "net.proxyProtocol",
        "net.tls",
        "security.explainDenials",
        "security.loginLimits",
        "security.userFile",
        "setParameter.auditAuthorizationSuccess",
        "setParameter.opensslCipherConfig",
        "setParameter.tlsCATrusts",
        "setParameter.tlsX509ClusterAuthDNOverride",
        "setParameter.tlsX509ExpirationWarningThresholdDays",
        "systemLog.verbosity",
        "upstream.connectTimeoutMS",
        "upstream.maxPoolSize",
        "upstream.minPoolSize",
        "upstream.serverSelectionTimeoutMS",
        "upstream.waitQueueTimeoutMS",
    ]
)
"""A section stands for everything in it. All others are used when mongoguard starts, and then no more."""


@dataclass(frozen=True, slots=True)
class Reload:
    """`settings` are those to use; `changed` and `needs_restart` are key paths, sorted."""

    settings: Settings
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


def reload_settings(used: Settings, wanted: Settings) -> Reload:
    """What becomes of `used` when the file says `wanted`: every reloadable key of it, and no other."""
    changed: list[str] = []
    needs_restart: list[str] = []
    settings = _merge(used, wanted, "", changed, needs_restart)
    return Reload(settings, tuple(sorted(changed)), tuple(sorted(needs_restart)))


def _merge(used: Any, wanted: Any, prefix: str, changed: list[str], needs_restart: list[str]) -> Any:
    updates: dict[str, Any] = {}
    for name, field in type(used).model_fields.items():
        old, new = getattr(used, name), getattr(wanted, name)
        if field.exclude or old == new:
            continue
        path = f"{prefix}{field.alias or name}"
        if path in RELOADABLE and _is_taken_over(path, old, new):
            updates[name] = new
            changed.append(path)
        elif isinstance(old, Section) and isinstance(new, Section) and path not in RELOADABLE:
            updates[name] = _merge(old, new, f"{path}.", changed, needs_restart)
        else:
            needs_restart.append(path)
    return used.model_copy(update=updates)


def _is_taken_over(path: str, old: Any, new: Any) -> bool:
    if path == "net.tls":
        # Whether there is TLS, and whether certificates log in, decides over mechanisms and listeners.
        return bool((old.is_on, old.takes_certificates) == (new.is_on, new.takes_certificates))
    if path in ("net.maxConnectionsPerUser", "upstream.maxPoolSize"):
        return bool(old) == bool(new)  # connections are counted from the first, or never
    if path == "security.userFile":
        return old is not None and new is not None  # else the directory is another
    return True
