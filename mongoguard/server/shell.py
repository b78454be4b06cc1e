"""Shell: what every client connection shares, as one value.

In: the opened upstream, directory and audit sink. Out: their services to connections. Must not know the connections'
protocol.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import trio

from mongoguard.effects import Effect
from mongoguard.observe.event import AuditEvent
from mongoguard.server.directory import UserDirectory
from mongoguard.server.early_requests import AnswersAtOnce, EarlySockets
from mongoguard.server.upstream import Upstream

__all__ = ["Shell"]


@dataclass(frozen=True)
class Shell:
    """`audit` writes one event and returns when the sink has taken it. `users_changed` is called after every
    user-management command: when it returns, cached users are forgotten and every session asks again. `threads` are
    those in which long messages are read and decided: few, so that they cannot crowd out anything else. `external`
    carries out the effects of mechanisms that ask others than the user directory, and what other processes are asked.
    `at_once` answers effects that need no waiting; `early` are the sockets of clients that have not logged in, where
    there are ready sockets.
    """

    upstream: Upstream
    directory: UserDirectory
    audit: Callable[[AuditEvent], Awaitable[None]]
    users_changed: Callable[[], Awaitable[None]]
    threads: trio.CapacityLimiter
    message_timeout_secs: float
    external: Mapping[type[Effect[Any]], Callable[[Any], Awaitable[Any]]] = field(default_factory=dict)
    at_once: AnswersAtOnce = field(default_factory=dict)
    early: EarlySockets | None = None

    async def wait_readable(self, sock: socket.socket) -> None:
        """Wait for an early client: until something has come and it is this one's turn (`EarlySockets`)."""
        if self.early is None:
            await trio.lowlevel.wait_readable(sock)
        else:
            await self.early.wait_readable(sock)
