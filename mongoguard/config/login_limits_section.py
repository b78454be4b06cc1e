"""security.loginLimits: how many failed logins block further ones, and for how long.

In: plain values. Out: a section, and the limits as logins take them. Must not know who counts.
The defaults and their reasons are those of `LoginLimits` (docs/threat-model.md).
"""

from __future__ import annotations

from pydantic import Field

from mongoguard.authn.throttle import LoginLimits
from mongoguard.config.section import Section

__all__ = ["LoginLimitsSection"]

_DEFAULTS = LoginLimits()
_COUNT = "a number of failed logins from 0 (no limit) to 1000000"
_SECONDS = "a number of seconds from 1 to 86400"


class LoginLimitsSection(Section):
    """Failures within the window, each of the three counts; 0 switches one off."""

    max_failures_per_user_and_address: int = Field(
        default=_DEFAULTS.per_user_and_address,
        alias="maxFailuresPerUserAndAddress",
        ge=0,
        le=1_000_000,
        description=_COUNT,
    )
    max_failures_per_address: int = Field(
        default=_DEFAULTS.per_address, alias="maxFailuresPerAddress", ge=0, le=1_000_000, description=_COUNT
    )
    max_failures_per_user: int = Field(
        default=_DEFAULTS.per_user, alias="maxFailuresPerUser", ge=0, le=1_000_000, description=_COUNT
    )
    window_secs: int = Field(
        default=int(_DEFAULTS.window_secs), alias="windowSecs", ge=1, le=86_400, description=_SECONDS
    )
    block_secs: int = Field(
        default=int(_DEFAULTS.block_secs), alias="blockSecs", ge=1, le=86_400, description=_SECONDS
    )

    @property
    def limits(self) -> LoginLimits:
        """As `LoginThrottle` takes them."""
        return LoginLimits(
            per_user_and_address=self.max_failures_per_user_and_address,
            per_address=self.max_failures_per_address,
            per_user=self.max_failures_per_user,
            window_secs=self.window_secs,
            block_secs=self.block_secs,
        )
