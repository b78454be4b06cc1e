"""Topology: which upstream servers there are, and which of them may serve a request.

In: the upstream URI, what servers' replies say of themselves. Out: addresses, changes, and errors, all in the Trio
thread. Must not relay anything.

Discovery, monitoring, election, latency and staleness are pymongo's: its `MongoClient` runs the monitors in threads of
its own, whose result is looked at here. No command of a client ever goes through that `MongoClient`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
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
from pymongo.server_selectors import writable_server_selector

from mongoguard.command.read_preference import ReadPreference
from mongoguard.errors import ConfigError, UpstreamUnavailable
from mongoguard.server.server_selection import selector
from mongoguard.server.upstream_uri import UpstreamAddress

__all__ = ["Topology", "TopologySnapshot"]

HEARTBEAT_MS = 1000
"""How often a server that does not answer is looked for again (pymongo's default is 10 s, as it expects to be asked
for a server and to look at once then; here only the monitors notice). Healthy servers push their changes."""

DOUBT_SECS = 1.5
"""How long a reply counts for more than the monitors: within a heartbeat, these know what the server has become."""

SHORT_DOUBT_SECS = 0.2
"""The same for a reply that is no newer than what the monitors know: a server that steps down says so to whom it
interrupts a moment before it says so in hello. The specification ignores such replies; so do we, a moment later."""

LOOK_AGAIN_SECS = 0.1
"""pymongo's events come up to a second late, and doubts, latency and staleness change without one: who waits for a
server looks again so often."""


@dataclass(frozen=True, slots=True)
class TopologySnapshot:
    """What pymongo's monitors know. `primary` is a writable server's "host:port"; `servers` are all that answer;
    `readable` are those of them that hold data; `frozen` are those that took a monitor's question and did not answer in
    time.

    `routers` are all mongos of a sharded cluster, in order, and `near_routers` those within the latency window.
    """

    primary: str | None = None
    servers: frozenset[str] = frozenset()
    readable: frozenset[str] = frozenset()
    frozen: frozenset[str] = frozenset()
    routers: tuple[str, ...] = ()
    near_routers: tuple[str, ...] = ()
    is_replica_set: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A server's own word against the monitors', until a time of the Trio clock."""

    topology_version: Mapping[str, Any] | None
    until: float


class Topology:
    """The current `snapshot`, kept up by pymongo's monitors."""

    def __init__(
        self,
        upstream: UpstreamAddress,
        on_change: Callable[[TopologySnapshot], None],
        connect_timeout_ms: int,
        listeners: Sequence[Any] = (),
    ) -> None:
        """Start monitoring; `on_change` is called in the Trio thread after each change. Raises `ConfigError`.

        `connect_timeout_ms`: a server that takes a monitor's question and does not answer for so long is frozen.
        `listeners` are told what the monitors see, in their threads.
        """
        self.snapshot = TopologySnapshot()
        self._on_change = on_change
        self._changed = trio.Event()
        self._doubts: dict[str, _Doubt] = {}
        self._description: Any = None
        listener = _Listener(trio.lowlevel.current_trio_token(), self._look_again)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of options that are not the monitors', which never compress
                self._client: MongoClient[dict[str, Any]] = MongoClient(
                    upstream.uri.reveal(),
                    event_listeners=[listener, *listeners],
                    minPoolSize=0,
                    connect=True,  # whatever the URI says: nobody asks this client for anything that would start it
                    appname="mongoguard monitor",
                    heartbeatFrequencyMS=HEARTBEAT_MS,
                    connectTimeoutMS=connect_timeout_ms,
                )
        except PyMongoError as error:
            raise ConfigError(
                f"upstream.uri: {str(error).replace(upstream.uri.reveal(), '<secret>')}"
            ) from None

    async def primary(self, within_secs: float) -> str:
        """The primary's address, as soon as there is one. Raises `UpstreamUnavailable` after that many seconds."""
        with trio.move_on_after(within_secs):
            while self.snapshot.primary is None:
                await self.wait_for_change()
        if self.snapshot.primary is None:
            none = "no server is a primary" if self.snapshot.servers else "no server answers"
            reason = self.snapshot.error or none
            raise UpstreamUnavailable(
                f"no upstream server takes writes ({reason})",
                told=f"{none} at the moment; mongoguard's log says more",
            )
        return self.snapshot.primary

    def readers(self, preference: ReadPreference, usable: frozenset[str]) -> list[str]:
        """The servers that a read preference allows now, within the latency window, of those that are `usable`."""

        def only_usable(servers: list[Any]) -> list[Any]:
            return [s for s in servers if _text(s.address) in usable and _text(s.address) not in self._doubts]

        # Asked anew: pymongo tells of no change when only a latency or a last write has changed.
        description = self._client.topology_description
        found = description.apply_selector(selector(preference), custom_selector=only_usable)
        return [_text(server.address) for server in found]

    def doubt(self, address: str, topology_version: Mapping[str, Any] | None) -> None:
        """A server has said in a reply that it has stepped down or ends, or it took no connection."""
        self.refresh()
        known = self._known_version(address)
        newer = topology_version is not None and not _is_as_new(known, topology_version)
        if topology_version is not None and known is not None and _is_newer(known, topology_version):
            return  # the reply is older than what the monitors know
        until = trio.current_time() + (DOUBT_SECS if newer else SHORT_DOUBT_SECS)
        self._doubts[address] = _Doubt(topology_version if newer else None, until)
        self._look_again()

    async def changed(self) -> None:
        """Return after the next change."""
        await self._changed.wait()

    async def wait_for_change(self) -> None:
        """Return after a change, or soon in any case."""
        with trio.move_on_after(LOOK_AGAIN_SECS):
            await self._changed.wait()
        self.refresh()

    def refresh(self) -> None:
        """Take over what has changed, which pymongo tells late or, where only a latency has changed, not at all."""
        self._look_again()

    async def close(self) -> None:
        """End the monitors; waits for their threads."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._client.close)

    def _look_again(self) -> None:
        self._description = self._client.topology_description
        snapshot = _snapshot(self._description, self._doubted())
        if snapshot != self.snapshot:
            self._take_over(snapshot)

    def _take_over(self, snapshot: TopologySnapshot) -> None:
        self.snapshot = snapshot
        self._changed.set()
        self._changed = trio.Event()
        self._on_change(snapshot)

    def _doubted(self) -> frozenset[str]:
        """The servers whose word still counts for more; the other doubts are forgotten."""
        now = trio.current_time()
        for address, doubt in list(self._doubts.items()):
            known = self._known_version(address)
            if now > doubt.until or (doubt.topology_version and _is_as_new(known, doubt.topology_version)):
                del self._doubts[address]
        return frozenset(self._doubts)

    def _known_version(self, address: str) -> Mapping[str, Any] | None:
        if self._description is None:
            return None
        for server in self._description.server_descriptions().values():
            if _text(server.address) == address:
                version: Mapping[str, Any] | None = server.topology_version
                return version
        return None


def _is_newer(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether one topologyVersion is of the same process as another, and later."""
    return bool(one.get("processId") == other.get("processId") and one["counter"] > other["counter"])


def _is_as_new(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> bool:
    return one is not None and one.get("processId") == other.get("processId") and not _is_newer(other, one)


class _Listener(TopologyListener):
    """Runs in pymongo's threads: says that there is something new, does nothing else.

    pymongo tells of a change up to a second after it; the description of that event may be an old one by then.
    """

    def __init__(self, token: trio.lowlevel.TrioToken, tell: Callable[[], None]) -> None:
        self._token = token
        self._tell = tell

    def opened(self, event: TopologyOpenedEvent) -> None:
        """Nothing is known yet."""

    def description_changed(self, _event: TopologyDescriptionChangedEvent) -> None:
        """Some server changed its role, came, went or failed."""
        try:
            self._token.run_sync_soon(self._tell)
        except trio.RunFinishedError:
            return  # mongoguard is ending

    def closed(self, event: TopologyClosedEvent) -> None:
        """The client was closed by us."""


def _snapshot(description: Any, doubted: frozenset[str]) -> TopologySnapshot:
    servers = list(description.server_descriptions().values())
    known = {_text(s.address): s for s in servers if s.server_type_name != "Unknown"}
    kind = description.topology_type_name
    # The one server of a direct connection serves everything, whatever it is.
    serves = [a for a, s in known.items() if (s.is_writable or kind == "Single") and a not in doubted]
    nearest = min(serves, key=lambda address: (known[address].round_trip_time or 0.0, address), default=None)
    errors = [f"{_text(s.address)}: {_reason(s)}" for s in servers if s.error is not None]
    is_sharded = kind == "Sharded"
    near = description.apply_selector(writable_server_selector) if is_sharded else ()
    return TopologySnapshot(
        primary=nearest,
        servers=frozenset(known),
        readable=frozenset(a for a, s in known.items() if s.is_readable),
        frozen=frozenset(_text(s.address) for s in servers if isinstance(s.error, NetworkTimeout)),
        routers=tuple(sorted(serves)) if is_sharded else (),
        near_routers=tuple(a for a in map(_text, (s.address for s in near)) if a not in doubted),
        is_replica_set=kind.startswith("ReplicaSet"),
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
