"""What the upstream's servers say of themselves, heartbeat by heartbeat.

In: the heartbeats of pymongo's monitors, in threads of their own. Out: each server's last hello, handed over to the
Trio thread as soon as it comes. Must not know what is made of them.

pymongo tells of a changed topology up to a second later, and of a new lastWrite never: heartbeats are told at once. A
server that streams its hello (4.4 and up) says so the moment it has become primary or is one no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import trio
from pymongo.monitoring import (
    ServerClosedEvent,
    ServerDescriptionChangedEvent,
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
    ServerListener,
    ServerOpeningEvent,
)

from mongoguard.proxy.replica_set import Hello

__all__ = ["MemberHellos"]


class MemberHellos(ServerHeartbeatListener, ServerListener):
    """Gives `changed` the hello of every server that answers, by address, after each heartbeat."""

    def __init__(self, changed: Callable[[Mapping[str, Hello]], None]) -> None:
        """Made in the Trio thread, where `changed` is called too."""
        self._token = trio.lowlevel.current_trio_token()
        self._changed = changed
        self._hellos: Mapping[str, Hello] = {}

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        """It has not answered yet."""

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        """A server has answered."""
        self._hand_over(event.connection_id, event.reply.document)

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        """A server does not answer."""
        self._hand_over(event.connection_id, None)

    def opened(self, event: ServerOpeningEvent) -> None:
        """It is asked from now on."""

    def description_changed(self, event: ServerDescriptionChangedEvent) -> None:
        """Its heartbeat has told that already."""

    def closed(self, event: ServerClosedEvent) -> None:
        """It is a member no more: nobody asks it again, and what it said last means nothing."""
        self._hand_over(event.server_address, None)

    def _hand_over(self, address: tuple[str, int | None], hello: Hello | None) -> None:
        try:
            self._token.run_sync_soon(self._heard, _text(address), hello)
        except trio.RunFinishedError:
            return  # mongoguard is ending

    def _heard(self, address: str, hello: Hello | None) -> None:
        others = {known: said for known, said in self._hellos.items() if known != address}
        if hello is None and len(others) == len(self._hellos):
            return
        self._hellos = others if hello is None else {**others, address: hello}
        self._changed(self._hellos)


def _text(address: tuple[str, Any]) -> str:
    host, port = address
    if port is None:
        return host  # a Unix socket
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
