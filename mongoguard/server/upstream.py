"""The upstream: pools of connections, one a server, taken per request.

In: messages to relay, commands of mongoguard's own. Out: replies. Must not know clients or users.

Nothing is pinned: a connection is held for one request only, so thousands of idle clients cost few sockets, and a slow
query never blocks a quick one (unless `maxPoolSize` says so). The last used connection is used first (LIFO).
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from mongoguard.config.sections import Upstream as UpstreamSettings
from mongoguard.config.settings import Settings
from mongoguard.effects import RelayedReply
from mongoguard.errors import UpstreamError, UpstreamUnavailable
from mongoguard.model.names import UserName
from mongoguard.proxy.deployment import Deployment, DeploymentView, Impersonation, PresentAs
from mongoguard.server.topology import Topology, TopologySnapshot
from mongoguard.server.upstream_connection import UpstreamConnection, decode_reply, open_upstream_connection
from mongoguard.server.upstream_uri import UpstreamAddress, read_upstream_uri
from mongoguard.wire.document import encode
from mongoguard.wire.message import encode_op_msg

__all__ = ["Upstream", "open_upstream"]

log = logging.getLogger(__name__)

CHECK_IDLE_AFTER_SECS = 0.5
"""A connection that was idle for longer is looked at before it is used: the server may have gone in the meantime."""

KEEP_UP_SECS = 1.0
"""How often idle connections and the primary are looked at; nothing waits for it."""

SOON_SECS = 0.0003
"""A point read takes a server 0.1 ms; falling asleep and waking up for it takes as long again. The only request under
way therefore looks for its reply for this long before it gives way; other clients wait no longer than that for it."""

LOOK_AGAIN_SECS = 0.25
"""Between two attempts to reach a primary: an election takes seconds, and the waiting requests share this load."""

ASK_TIMEOUT_SECS = 30
"""A command of mongoguard's own (usersInfo, mostly) takes milliseconds; a login must not wait longer than a driver."""

MAX_IDLE_SECS = 300
"""Idle connections are closed after this; a burst of clients must not hold sockets for ever."""


class PoolIsFull(UpstreamUnavailable):
    """No connection became free within `waitQueueTimeoutMS`; the server itself is there."""


class ServerPool:
    """The connections to one server."""

    def __init__(self, address: str, upstream: UpstreamAddress, settings: UpstreamSettings) -> None:
        """Start empty."""
        self.address = address
        self._upstream = upstream
        self._settings = settings
        self._idle: list[UpstreamConnection] = []
        self._in_use: set[UpstreamConnection] = set()
        self._closed = False
        self._usual_secs = 0.0
        self._places = trio.CapacityLimiter(settings.max_pool_size) if settings.max_pool_size else None

    async def exchange(self, message: bytes) -> bytes:
        """One request on one connection. Raises `UpstreamUnavailable` or `UpstreamConnectionLost`."""
        if self._places is None:
            return await self._exchange(message)
        holder = object()
        try:
            with trio.fail_after(self._settings.wait_queue_timeout_ms / 1000):
                await self._places.acquire_on_behalf_of(holder)
        except trio.TooSlowError:
            raise PoolIsFull(
                f"all {self._settings.max_pool_size} connections to {self.address} are busy"
            ) from None
        try:
            return await self._exchange(message)
        finally:
            self._places.release_on_behalf_of(holder)

    async def _exchange(self, message: bytes) -> bytes:
        connection = self._take_idle() or await self.connect()
        is_alone = not self._in_use
        self._in_use.add(connection)
        sent = time.monotonic()
        try:
            reply = await connection.exchange(message, SOON_SECS if is_alone and self._replies_soon else 0.0)
        except BaseException:
            # Cancelled too (the client went away): closing the connection is what makes the server stop the work.
            connection.close()
            raise
        finally:
            self._in_use.discard(connection)
        if self._closed:
            connection.close()
            return reply
        connection.idle_since = time.monotonic()
        self._usual_secs += (connection.idle_since - sent - self._usual_secs) / 8
        self._idle.append(connection)
        return reply

    @property
    def _replies_soon(self) -> bool:
        """Whether this server has answered its last requests so soon that looking is cheaper than sleeping."""
        return self._usual_secs < SOON_SECS

    async def connect(self) -> UpstreamConnection:
        """A new connection, logged in. Raises `UpstreamUnavailable`."""
        return await open_upstream_connection(
            self.address, self._upstream, self._settings.connect_timeout_ms / 1000
        )

    def _take_idle(self) -> UpstreamConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if time.monotonic() - connection.idle_since < CHECK_IDLE_AFTER_SECS or connection.is_usable():
                return connection
            connection.close()
        return None

    def trim(self) -> None:
        """Close what has been idle for too long (the oldest are in front)."""
        now = time.monotonic()
        while self._idle and now - self._idle[0].idle_since > MAX_IDLE_SECS:
            self._idle.pop(0).close()

    def close(self, *, interrupt: bool) -> None:
        """Close idle connections now and the others after their request; `interrupt`: those at once too, as lost.

        A server that is gone breaks its connections itself; only one that is frozen would leave requests waiting.
        """
        self._closed = True
        for connection in [*self._idle, *(self._in_use if interrupt else ())]:
            connection.close()
        self._idle.clear()


class Upstream:
    """The deployment behind: relays to its primary, or to the server that holds a cursor.

    Open it with `open_upstream`. `deployment` is what client sessions see of it.
    """

    def __init__(self, settings: Settings) -> None:
        """Read the URI and start the monitors. Raises `ConfigError`."""
        self._settings = settings.upstream
        self._present_as = settings.net.present_as
        self._address = read_upstream_uri(settings.upstream.uri)
        self._pools: dict[str, ServerPool] = {}
        self.deployment = DeploymentView(Deployment(hello={}, build_info={}))
        self._introduced_to: str | None = None
        self._topology = Topology(self._address, self._topology_changed)

    @property
    def hello(self) -> Mapping[str, Any]:
        """The primary's answer to hello when mongoguard last introduced itself."""
        return self.deployment.current.hello

    @property
    def build_info(self) -> Mapping[str, Any]:
        """The primary's buildInfo."""
        return self.deployment.current.build_info

    @property
    def service(self) -> UserName | None:
        """Who mongoguard is upstream; None when it does not log in."""
        credential = self._address.credential
        return None if credential is None else credential.name

    @property
    def impersonation(self) -> str:
        """How the upstream takes the real user's name: the field's name, or "none"."""
        return str(self.deployment.current.impersonation)

    async def relay(self, message: bytes, server: str | None) -> RelayedReply:
        """One request and its reply. Raises `UpstreamUnavailable` or `UpstreamConnectionLost`."""
        if server is not None:
            return RelayedReply(await self._pool(server).exchange(message), server)
        deadline = trio.current_time() + self._settings.server_selection_timeout_ms / 1000
        while True:
            address = self._topology.snapshot.primary or await self._primary()
            try:
                return RelayedReply(await self._pool(address).exchange(message), address)
            except PoolIsFull:
                raise  # the wait for a place has had its own time
            except UpstreamUnavailable:
                # Nothing was sent. Perhaps the monitors have not noticed yet that this server is gone: look again.
                if trio.current_time() > deadline:
                    raise
            await trio.sleep(LOOK_AGAIN_SECS)

    async def ask(self, db: str, command: Mapping[str, Any]) -> dict[str, Any]:
        """Run a command of mongoguard's own on the primary, as the service user; the answer may have ok: 0."""
        message = encode_op_msg(1, 0, encode({**command, "$db": db}))
        with trio.move_on_after(ASK_TIMEOUT_SECS):
            return decode_reply((await self.relay(message, None)).message)
        raise UpstreamUnavailable(f"the upstream did not answer within {ASK_TIMEOUT_SECS} s")

    async def introduce(self) -> None:
        """Learn what the primary is: versions, what it says of itself, how it takes impersonation."""
        address = await self._primary()
        connection = await self._pool(address).connect()
        try:
            build_info = await connection.ask("admin", {"buildInfo": 1})
            impersonation = await _probe_impersonation(connection)
        finally:
            connection.close()
        self._introduced_to = address
        self.deployment.current = Deployment(
            hello=connection.hello,
            build_info=build_info,
            present_as=self._presented(connection.hello),
            impersonation=impersonation,
            instance_id=self.deployment.current.instance_id,
        )
        for warning in self.warnings():
            log.warning("%s", warning)

    def warnings(self) -> Iterator[str]:
        """What works otherwise than one may expect with the primary that was met last, one sentence each."""
        if self.deployment.current.impersonation is Impersonation.NONE:
            yield (
                "the upstream refuses impersonation (make the service user with `mongoguard init-upstream`): sessions "
                "are kept apart by their ids, and currentOp, profiler and logs of the upstream name the service user"
            )
        if self.deployment.current.present_as is PresentAs.MONGOS and _is_standalone(self.hello):
            yield (
                "net.presentAs is mongos and the upstream is a standalone server: drivers will send retryable writes "
                "and transactions, which it refuses"
            )

    async def keep_up(self) -> None:
        """Close idle connections, and get to know a new primary; runs until cancelled."""
        while True:
            await trio.sleep(KEEP_UP_SECS)
            for pool in self._pools.values():
                pool.trim()
            if self._topology.snapshot.primary not in (None, self._introduced_to):
                with suppress(UpstreamError):
                    await self.introduce()

    async def close(self) -> None:
        """End the monitors and close every connection."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close(interrupt=True)
        await self._topology.close()

    async def _primary(self) -> str:
        return await self._topology.primary(self._settings.server_selection_timeout_ms / 1000)

    def _presented(self, hello: Mapping[str, Any]) -> PresentAs:
        if self._present_as != "auto":
            return PresentAs(self._present_as)
        return PresentAs.STANDALONE if _is_standalone(hello) else PresentAs.MONGOS

    def _pool(self, address: str) -> ServerPool:
        pool = self._pools.get(address)
        if pool is None:
            pool = self._pools[address] = ServerPool(address, self._address, self._settings)
        return pool

    def _topology_changed(self, snapshot: TopologySnapshot) -> None:
        for address in set(self._pools) - snapshot.servers:
            log.warning(
                "upstream server %s is gone or does not answer (%s)", address, snapshot.error or "removed"
            )
            self._pools.pop(address).close(interrupt=address in snapshot.frozen)


async def _probe_impersonation(connection: UpstreamConnection) -> Impersonation:
    """Try both spellings with a command that does nothing."""
    name = {"user": "mongoguard", "db": "admin"}
    for spelling, users in ((Impersonation.USERS, [name]), (Impersonation.USER, name)):
        audit = {str(spelling): users, "$impersonatedRoles": []}
        reply = await connection.ask("admin", {"ping": 1, "$audit": audit})
        if reply.get("ok"):
            return spelling
    return Impersonation.NONE


def _is_standalone(hello: Mapping[str, Any]) -> bool:
    return "setName" not in hello and hello.get("msg") != "isdbgrid"


@asynccontextmanager
async def open_upstream(settings: Settings) -> AsyncIterator[Upstream]:
    """An upstream that has answered once. Raises `ConfigError` or `UpstreamError`."""
    upstream = Upstream(settings)
    try:
        await upstream.introduce()
        yield upstream
    finally:
        await upstream.close()
