"""What a client connection proves by itself, before any login on it.

In: nothing. Out: values that the shell fills in after the TLS handshake. Must not know sockets or TLS.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.x509 import Name

from mongoguard.model.names import RoleName

__all__ = ["Channel", "ClientCertificate"]


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A client certificate that TLS has verified: its chain, its dates, and that it is not revoked.

    `subject` is spelled as mongod spells it; empty when it has no spelling. `not_after` is in seconds since the epoch.
    `roles` are those of MongoDB's role extension, where the configuration lets this certificate's authority grant them;
    None without. `refusal`: why nobody may log in with it all the same (it looks like one of the deployment's own
    servers, say); empty when somebody may. `issuer` and `serial` are what a revocation list names it by; no issuer: its
    name can't be read.
    """

    subject: str
    not_after: float
    roles: tuple[RoleName, ...] | None = None
    refusal: str = ""
    issuer: Name | None = None
    serial: int = 0


@dataclass(frozen=True, slots=True)
class Channel:
    """`is_private`: nobody on the way can read it (TLS, or a Unix socket)."""

    is_private: bool = False
    certificate: ClientCertificate | None = None
