"""SessionSettings: what a client session needs of the configuration.

In: configuration values. Out: one frozen value. Must not know where they were configured.
"""

from __future__ import annotations

from dataclasses import dataclass

from mongoguard.wire.message import MAX_MESSAGE_BYTES

__all__ = ["SessionSettings"]


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Settings of every client session of this process.

    `max_unauthenticated_bytes` bounds a message before login (bytes). `relays_user_management` is false for the
    `file` directory, whose users are not the upstream's; `realm` then sets their names apart upstream.
    """

    authorization_enabled: bool = True
    compressors: tuple[str, ...] = ()
    explain_denials: bool = False
    audit_authorization_success: bool = False
    audit_parameter_bytes: int = 4096
    relays_user_management: bool = True
    realm: str = ""
    max_unauthenticated_bytes: int = 128 * 1024
    max_message_bytes: int = MAX_MESSAGE_BYTES
