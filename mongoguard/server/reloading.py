"""Reloading: what SIGHUP reads again, one round after the other.

In: signals. Out: rounds, and what came of them in the log. Must not know what is reloaded, or in how many processes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import trio

from mongoguard.config.reloadable import Reload

__all__ = ["Reloading", "tell_not_reloaded", "tell_reloaded"]

log = logging.getLogger(__name__)


class Reloading:
    """Runs a round when asked to. Connections are served meanwhile."""

    def __init__(self, run_round: Callable[[], Awaitable[None]]) -> None:
        """A round raises nothing that anybody has foreseen; what it raises all the same ends that round alone."""
        self._round = run_round
        # One round waits at most: it begins after everything that those who asked for it have written.
        self._ask, self._asked = trio.open_memory_channel[None](1)

    def ask(self) -> None:
        """Begin a round; one that is under way is finished first."""
        with suppress(trio.WouldBlock):
            self._ask.send_nowait(None)

    async def keep_up(self) -> None:
        """Run the rounds that are asked for, until cancelled."""
        async for _ in self._asked:
            try:
                await self._round()
            except Exception:
                log.exception("SIGHUP: the configuration is not reloaded: an internal error")


def tell_reloaded(parts: Iterable[str], reload: Reload | Mapping[str, Any]) -> None:
    """Say what is in use from now on, and what waits for a restart."""
    changed, waiting = (
        (reload.changed, reload.needs_restart)
        if isinstance(reload, Reload)
        else (reload["changed"], reload["needsRestart"])
    )
    if changed:
        log.info("SIGHUP: new values are in use of %s", ", ".join(changed))
    for key in waiting:
        log.warning("SIGHUP: %s has a new value, which needs a restart; the old one stays in use", key)
    for part in ("the configuration", *parts):
        log.info("SIGHUP: %s is reloaded", part)


def tell_not_reloaded(part: str, reason: object) -> None:
    """Say why nothing has changed."""
    log.error("SIGHUP: %s is not reloaded: %s", part, reason)
