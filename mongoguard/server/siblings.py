"""Siblings: what the other worker processes of one server know and must know.

In: what happens in this process. Out: what the others say. Must not know how they are reached: `Alone` is the only
process of a server, `server/worker.py` has one of several.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias

from mongoguard.authn.throttle import LoginThrottle
from mongoguard.config.settings import Settings
from mongoguard.effects import Effect, GiveConnection, TakeConnection
from mongoguard.server.shared_counts import CountsElsewhere, NothingElsewhere
from mongoguard.server.user_connections import UserConnections

__all__ = ["Alone", "EffectHandlers", "Siblings"]

EffectHandlers: TypeAlias = Mapping[type[Effect[Any]], Callable[[Any], Awaitable[Any]]]


class Siblings(Protocol):
    """The other processes of this server, as one of them sees them."""

    are_there: bool
    """Whether there can be any."""
    counts: CountsElsewhere
    turns: int | None
    """A descriptor whose lock gives turns at files that all processes write to; None when there is one process."""
    throttle: LoginThrottle | None
    """Counts failed logins; None when they are counted for all processes, by effects."""
    effects: EffectHandlers
    """Answers the questions that flows have to the other processes."""

    async def users_changed(self) -> None:
        """Return when no process uses a user any more that it has cached before.

        Raises `UpstreamConnectionLost` when that is not certain: this process then ends.
        """

    def exception_closed(self) -> None:
        """The localhost exception was found closed here."""

    async def connection_ended(self, holder: object) -> None:
        """The connection that `TakeConnection` counted for this holder, if it did, is no more."""

    def limits_changed(self, settings: Settings) -> None:
        """The settings are reloaded."""


class Alone:
    """The only process of a server."""

    def __init__(self, settings: Settings) -> None:
        """Nobody has failed to log in yet, and nobody has a connection."""
        self.are_there = False
        self.turns: int | None = None
        self.counts: CountsElsewhere = NothingElsewhere()
        self.throttle: LoginThrottle | None = LoginThrottle(settings.security.login_limits.limits)
        self._connections = UserConnections(settings.net.max_connections_per_user)
        self.effects: EffectHandlers = {
            TakeConnection: self._take_connection,
            GiveConnection: self._give_connection,
        }

    async def users_changed(self) -> None:
        """Nobody else has users."""

    def exception_closed(self) -> None:
        """Nobody else has the exception."""

    async def connection_ended(self, holder: object) -> None:
        """See `Siblings`."""
        self._connections.give(holder)

    def limits_changed(self, settings: Settings) -> None:
        """See `Siblings`."""
        assert self.throttle is not None  # it was made here
        self.throttle.change(settings.security.login_limits.limits)
        self._connections.limit = settings.net.max_connections_per_user

    async def _take_connection(self, effect: TakeConnection) -> bool:
        return self._connections.take(effect.user, effect.holder)

    async def _give_connection(self, effect: GiveConnection) -> None:
        self._connections.give(effect.holder)
