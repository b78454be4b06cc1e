"""Draining: the order to end lets what is under way finish, within a bound.

In: the client connections and open transactions of one process, the upstream. Out: nothing; connections end, and what
is left open upstream is aborted. Must not know orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

import trio

from mongoguard.effects import Relay
from mongoguard.errors import UpstreamError
from mongoguard.server.client_connection import ClientConnection
from mongoguard.server.upstream import Upstream

__all__ = ["DRAIN_SECS", "abort_transactions", "drain"]

DRAIN_SECS = 10
"""How long requests under way may take after SIGTERM: below the 30 s after which service managers kill."""

DRAIN_LOOK_SECS = 0.1
"""How soon it is noticed that the transaction of an idle connection has ended on another one."""

ABORT_SECS = 2
"""For aborting all transactions that are left: a millisecond each, unless the upstream does not answer."""


async def drain(connections: set[ClientConnection], ended: Callable[[], trio.Event]) -> None:
    """Return when all connections have ended, or after `DRAIN_SECS`. `ended()` is set when the next one ends."""
    with trio.move_on_after(DRAIN_SECS):
        while connections:
            for connection in list(connections):
                connection.drain()
            with trio.move_on_after(DRAIN_LOOK_SECS):
                await ended().wait()


async def abort_transactions(
    connections: Iterable[ClientConnection], aborts: Iterable[Relay], upstream: Upstream
) -> None:
    """End the connections at once, then their transactions: on the server these would hold their locks for a minute."""
    for connection in list(connections):
        connection.cancel()  # the server would wait for what is under way in a transaction
    with trio.move_on_after(ABORT_SECS):
        for abort in aborts:
            with suppress(UpstreamError):
                await upstream.relay(abort.message, transaction=abort.transaction)
