"""Reloading: what SIGHUP reads again, one round after the other.

In: the parts that can be reloaded, and signals. Out: lines in the log. Must not know what the parts are.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import trio

from mongoguard.errors import ConfigError

__all__ = ["Reloading"]

log = logging.getLogger(__name__)


class Reloading:
    """Runs each part's reload when asked to; each is all or nothing, whatever becomes of the others.

    A reload raises `ConfigError`, and then has changed nothing. Connections are served meanwhile.
    """

    def __init__(self, parts: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        """`parts` by the names that they have in the log."""
        self._parts = parts
        # One round waits at most: it begins after everything that those who asked for it have written.
        self._ask, self._asked = trio.open_memory_channel[None](1)

    def ask(self) -> None:
        """Begin a round; one that is under way is finished first."""
        with suppress(trio.WouldBlock):
            self._ask.send_nowait(None)

    async def keep_up(self) -> None:
        """Run the rounds that are asked for, until cancelled."""
        async for _ in self._asked:
            for name, reload in self._parts.items():
                await _run(name, reload)


async def _run(name: str, reload: Callable[[], Awaitable[None]]) -> None:
    try:
        await reload()
    except ConfigError as error:
        log.error("SIGHUP: %s is not reloaded: %s", name, error)
    else:
        log.info("SIGHUP: %s is reloaded", name)
