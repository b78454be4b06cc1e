"""Topology: which upstream servers there are, and which one takes writes.

In: the upstream URI. Out: the primary's address, changes, and errors, all in the Trio thread. Must not relay anything.

Discovery, monitoring and election are pymongo's: its `MongoClient` runs the monitors in threads of its own and tells a
listener, which hands each description over to Trio. No command of a client ever goes through that `MongoClient`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio
from pymongo import MongoClient
from pymongo.errors import NetworkTimeout, PyMongoError
from pymongo.monitoring import (
    TopologyClosedEvent,
    TopologyDescriptionChangedEvent,
    TopologyListener,
    TopologyOpenedEvent,
)

from mongoguard.errors import ConfigError, UpstreamUnavailable
from mongoguard.server.upstream_uri import UpstreamAddress

__all__ = ["Topology", "TopologySnapshot"]

HEARTBEAT_MS = 1000
"""How often a server that does not answer is looked for again (pymongo's default is 10 s, as it expects to be asked
for a server and to look at once then; here only the monitors notice). Healthy servers push their changes."""


@dataclass(frozen=True, slots=True)
class TopologySnapshot:
    """What pymongo's monitors know. `primary` is a writable server's "host:port"; `servers` are all that answer;
    `frozen` are those that took a monitor's question and did not answer in time.
    """

    primary: str | None = None
    servers: frozenset[str] = frozenset()
    frozen: frozenset[str] = frozenset()
    is_standalone: bool = False
    error: str = ""


class Topology:
    """The current `snapshot`, kept up by pymongo's monitors."""

    def __init__(self, upstream: UpstreamAddress, on_change: Callable[[TopologySnapshot], None]) -> None:
        """Start monitoring; `on_change` is called in the Trio thread after each change. Raises `ConfigError`."""
        self.snapshot = TopologySnapshot()
        self._on_change = on_change
        self._changed = trio.Event()
        listener = _Listener(trio.lowlevel.current_trio_token(), self._update)
        try:
            self._client: MongoClient[dict[str, Any]] = MongoClient(
                upstream.uri.reveal(),
                event_listeners=[listener],
                minPoolSize=0,
                appname="mongoguard monitor",
                heartbeatFrequencyMS=HEARTBEAT_MS,
            )
        except PyMongoError as error:
            raise ConfigError(
                f"upstream.uri: {str(error).replace(upstream.uri.reveal(), '<secret>')}"
            ) from None

    async def primary(self, within_secs: float) -> str:
        """The primary's address, as soon as there is one. Raises `UpstreamUnavailable` after that many seconds."""
        with trio.move_on_after(within_secs):
            while self.snapshot.primary is None:
                await self._changed.wait()
        if self.snapshot.primary is None:
            none = "no server is a primary" if self.snapshot.servers else "no server answers"
            reason = self.snapshot.error or none
            raise UpstreamUnavailable(f"no upstream server takes writes ({reason})")
        return self.snapshot.primary

    async def close(self) -> None:
        """End the monitors; waits for their threads."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._client.close)

    def _update(self, snapshot: TopologySnapshot) -> None:
        self.snapshot = snapshot
        self._changed.set()
        self._changed = trio.Event()
        self._on_change(snapshot)


class _Listener(TopologyListener):
    """Runs in pymongo's threads: hands over, does nothing else."""

    def __init__(self, token: trio.lowlevel.TrioToken, update: Callable[[TopologySnapshot], None]) -> None:
        self._token = token
        self._update = update

    def opened(self, event: TopologyOpenedEvent) -> None:
        """Nothing is known yet."""

    def description_changed(self, event: TopologyDescriptionChangedEvent) -> None:
        """Some server changed its role, came, went or failed."""
        snapshot = _snapshot(event.new_description)
        try:
            self._token.run_sync_soon(self._update, snapshot)
        except trio.RunFinishedError:
            return  # mongoguard is ending

    def closed(self, event: TopologyClosedEvent) -> None:
        """The client was closed by us."""


def _snapshot(description: Any) -> TopologySnapshot:
    servers = list(description.server_descriptions().values())
    known = {_text(s.address): s for s in servers if s.server_type_name != "Unknown"}
    writable = sorted((s.round_trip_time or 0.0, address) for address, s in known.items() if s.is_writable)
    errors = [f"{_text(s.address)}: {_reason(s)}" for s in servers if s.error is not None]
    return TopologySnapshot(
        primary=writable[0][1] if writable else None,
        servers=frozenset(known),
        frozen=frozenset(_text(s.address) for s in servers if isinstance(s.error, NetworkTimeout)),
        is_standalone=any(s.server_type_name == "Standalone" for s in servers),
        error="; ".join(errors),
    )


def _reason(server: Any) -> str:
    """Why a monitor failed, in the words of the socket or of TLS, without pymongo's address and timeouts."""
    text = str(server.error).partition(" (configured timeouts")[0]
    return text.replace(f"{_text(server.address)}: ", "") or type(server.error).__name__


def _text(address: tuple[str, int | None]) -> str:
    host, port = address
    if port is None:
        return host  # a Unix socket
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
