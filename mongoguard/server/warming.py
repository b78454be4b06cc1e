"""Warming: as many upstream connections are ready as `minPoolSize` says, before anybody needs them.

In: the pools of now. Out: nothing; connections are opened. Must not know which servers there are, nor clients.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

import trio

from mongoguard.errors import UpstreamUnavailable
from mongoguard.server.server_pool import ServerPool

__all__ = ["keep_warm"]

log = logging.getLogger(__name__)

WARM_SECS = 1.0
"""How often pools are looked at, and whenever the topology changes; connections break seldom."""

WARM_AGAIN_SECS = 5.0
"""After a server took no more connections: it is not asked by every pool once a second."""


async def keep_warm(
    pools: Callable[[], Iterable[ServerPool]], topology_changed: Callable[[], Awaitable[None]]
) -> None:
    """Open what is missing in each pool, all pools at the same time; runs until cancelled.

    `topology_changed` returns after the next change.
    """
    under_way: set[ServerPool] = set()

    async def warm(pool: ServerPool) -> None:
        try:
            await pool.warm()
        except UpstreamUnavailable as error:
            log.info("connections to upstream server %s cannot be kept ready: %s", pool.address, error)
            await trio.sleep(WARM_AGAIN_SECS)
        finally:
            under_way.discard(pool)

    async with trio.open_nursery() as nursery:
        while True:
            for pool in pools():
                if pool.lacks_connections and pool not in under_way:
                    under_way.add(pool)
                    nursery.start_soon(warm, pool)
            with trio.move_on_after(WARM_SECS):
                await topology_changed()
