"""The upstream: which server a request goes to, and a pool of connections for each.

In: messages to relay, commands of mongoguard's own. Out: replies. Must not know clients or users.

The common case (the primary, no read preference) pays for nothing here but a look at two attributes. Servers are chosen
by what pymongo knows of them; what their own replies say of a fail-over counts at once, because a driver retries only
once.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio
from bson import ObjectId

from mongoguard.command.read_preference import ReadPreference, ReadPreferenceMode
from mongoguard.config.sections import Upstream as UpstreamSettings
from mongoguard.config.settings import Settings
from mongoguard.effects import Relay, RelayedReply, StateChanged
from mongoguard.errors import NoServerForReadPreference, UpstreamError, UpstreamUnavailable
from mongoguard.model.names import UserName
from mongoguard.proxy.deployment import Deployment, DeploymentView, Impersonation, PresentAs
from mongoguard.proxy.replica_set import Hello, check_advertised
from mongoguard.proxy.state_change import may_tell_state_change, state_change_in
from mongoguard.server.acquaintance import Acquaintance, common_hello, meet
from mongoguard.server.member_hellos import MemberHellos
from mongoguard.server.passing_on import Recipient
from mongoguard.server.server_pool import PoolIsFull, ServerPool
from mongoguard.server.server_selection import least_busy_of_two, rendezvous
from mongoguard.server.topology import Topology, TopologySnapshot
from mongoguard.server.upstream_connection import decode_reply
from mongoguard.server.upstream_uri import read_upstream_uri
from mongoguard.server.warming import keep_warm
from mongoguard.wire.document import encode
from mongoguard.wire.message import encode_op_msg

__all__ = ["ServerPool", "Upstream", "open_upstream"]

log = logging.getLogger(__name__)

KEEP_UP_SECS = 0.5
"""How often idle connections and unknown servers are looked at. Only those wait for it whose server is frozen."""

LOOK_AGAIN_SECS = 0.25
"""Between two attempts to reach a server: an election takes seconds, and the waiting requests share this load."""

NO_PRIMARY_SECS = 2
"""A step-down takes less; where there is no majority, there is no primary for hours, and secondaries serve reads."""

ASK_TIMEOUT_SECS = 30
"""A command of mongoguard's own (usersInfo, mostly) takes milliseconds; a login must not wait longer than a driver."""


class Upstream:
    """The deployment behind: relays to the server that a request asks for.

    Open it with `open_upstream`. `deployment` is what client sessions see of it.
    """

    def __init__(self, settings: Settings, service_id: ObjectId | None = None) -> None:
        """Read the URI and start the monitors. Raises `ConfigError`.

        `service_id`: what clients behind a load balancer know this deployment by; the same in all workers.
        """
        self._settings: UpstreamSettings = settings.upstream
        self._present_as = settings.net.present_as
        self._address = read_upstream_uri(settings.upstream.uri)
        self._pools: dict[str, ServerPool] = {}
        self._left: list[ServerPool] = []
        """Pools of servers that are gone or do not answer, with requests under way."""
        self._answered_before = 0
        """By servers whose pools are no more."""
        self._met: dict[str, Acquaintance] = {}
        self._usable: frozenset[str] = frozenset()
        """Servers that reads may be sent to: those that take the real user's name as the primary does."""
        self._unmet: set[str] = set()
        advertised = settings.net.advertise
        self.deployment = DeploymentView(
            Deployment(hello={}, build_info={}), advertised=advertised, service_id=service_id
        )
        self._topology = Topology(
            self._address,
            self._topology_changed,
            settings.upstream.connect_timeout_ms,
            (MemberHellos(self._members_heard),),
        )

    @property
    def hello(self) -> Mapping[str, Any]:
        """The primary's answer to hello when mongoguard last introduced itself, with the limits of all servers."""
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

    @property
    def answered(self) -> int:
        """How many requests the servers have answered."""
        pools = (*self._pools.values(), *self._left)
        return self._answered_before + sum(pool.answered for pool in pools)

    # ---- relaying ---------------------------------------------------------------------------------------------------

    async def relay(
        self,
        message: bytes,
        server: str | None = None,
        read_preference: ReadPreference | None = None,
        transaction: bytes | None = None,
        recipient: Recipient | None = None,
    ) -> RelayedReply:
        """One request and its reply; see `effects.Relay`. Raises `UpstreamUnavailable` or `UpstreamConnectionLost`."""
        if server is not None:
            return RelayedReply(await self._pool(server).exchange(message, recipient), server)
        deadline: float | None = None
        avoided: set[str] = set()
        while True:
            snapshot = self._topology.snapshot
            is_chosen = read_preference is not None or bool(snapshot.routers)
            if is_chosen:
                address = await self._chosen(read_preference, transaction, avoided)
            else:
                address = snapshot.primary or await self._primary()
            try:
                return RelayedReply(await self._pool(address).exchange(message, recipient), address)
            except PoolIsFull:
                raise  # the wait for a place has had its own time
            except UpstreamUnavailable:
                # Nothing was sent. Perhaps the monitors have not noticed yet that this server is gone: look again.
                now = trio.current_time()
                deadline = deadline or now + self._selection_secs
                if now > deadline:
                    raise
            if address in avoided or not is_chosen:
                await trio.sleep(LOOK_AGAIN_SECS)
            self._topology.refresh()
            avoided.add(address)

    def pool_at_once(self, relay: Relay) -> ServerPool | None:
        """Where `relay` would send the request, when nothing need be waited for or asked to know that; else None."""
        snapshot = self._topology.snapshot
        if relay.changes_users or relay.read_preference is not None or snapshot.routers:
            return None
        address = relay.server or snapshot.primary
        return None if address is None else self._pools.get(address)

    async def ask(
        self, db: str, command: Mapping[str, Any], *, prefers_primary: bool = False
    ) -> dict[str, Any]:
        """Run a command of mongoguard's own on the primary, as the service user; the answer may have ok: 0.

        `prefers_primary`: a secondary will do where there is no primary for `NO_PRIMARY_SECS`.
        """
        body = {**command, "$db": db}
        preference = None
        if prefers_primary and await self._lacks_primary():
            preference = ReadPreference(ReadPreferenceMode.PRIMARY_PREFERRED)
            body["$readPreference"] = {"mode": str(preference.mode)}
        if "setName" in self.hello and not self._topology.snapshot.is_replica_set:
            # A direct connection to one member: a secondary refuses to be asked as a primary is ("Server Selection").
            body["$readPreference"] = {"mode": "primaryPreferred"}
        message = encode_op_msg(1, 0, encode(body))
        with trio.move_on_after(ASK_TIMEOUT_SECS):
            reply = await self.relay(message, read_preference=preference)
            if may_tell_state_change(reply.message):
                change = state_change_in(reply.message, reply.server)
                if change is not None:
                    self.state_changed(change)
            return decode_reply(reply.message)
        raise UpstreamUnavailable(f"the upstream did not answer within {ASK_TIMEOUT_SECS} s")

    def state_changed(self, change: StateChanged) -> None:
        """A server's reply says that it is not what the monitors take it for: the next request asks for another."""
        snapshot = self._topology.snapshot
        # A mongos passes on what its shards say; and there is no other server behind a direct connection.
        if snapshot.is_replica_set or (snapshot.routers and change.shuts_down):
            self._topology.doubt(change.server, change.topology_version)

    # ---- choosing ---------------------------------------------------------------------------------------------------

    @property
    def _selection_secs(self) -> float:
        return self._settings.server_selection_timeout_ms / 1000

    @property
    def has_primary(self) -> bool:
        """Whether questions could be answered now, as far as the monitors know."""
        snapshot = self._topology.snapshot
        return snapshot.primary is not None or bool(snapshot.routers)

    async def _lacks_primary(self) -> bool:
        """Whether there is a replica set without a primary, and for longer than most elections take."""
        if not self.has_primary and self._topology.snapshot.is_replica_set:
            with trio.move_on_after(NO_PRIMARY_SECS):
                await self._primary()
                return False
            return True
        return False

    async def _primary(self) -> str:
        return await self._topology.primary(self._selection_secs)

    async def _chosen(
        self, preference: ReadPreference | None, transaction: bytes | None, avoided: set[str]
    ) -> str:
        """A server that would do, as soon as there is one."""
        with trio.move_on_after(self._selection_secs):
            while True:
                found = self._candidates(preference, transaction)
                if found:
                    # One that could not be reached is tried again when there is no other.
                    fresh = [address for address in found if address not in avoided] or found
                    if transaction is not None and self._topology.snapshot.routers:
                        return rendezvous(transaction, fresh)
                    return least_busy_of_two(fresh, self._requests_under_way)
                await self._topology.wait_for_change()
        if preference is None or not self._topology.snapshot.is_replica_set:
            return await self._topology.primary(0)
        raise NoServerForReadPreference(f"Could not find host matching read preference {preference}")

    def _candidates(self, preference: ReadPreference | None, transaction: bytes | None) -> list[str]:
        snapshot = self._topology.snapshot
        if snapshot.routers:
            return list(snapshot.routers if transaction is not None else snapshot.near_routers)
        if preference is not None and snapshot.is_replica_set:
            return self._topology.readers(preference, self._usable)
        return [] if snapshot.primary is None else [snapshot.primary]

    def _requests_under_way(self, address: str) -> int:
        pool = self._pools.get(address)
        return 0 if pool is None else pool.in_use

    def _pool(self, address: str) -> ServerPool:
        pool = self._pools.get(address)
        if pool is None:
            pool = self._pools[address] = ServerPool(address, self._address, self._settings)
        return pool

    # ---- getting to know --------------------------------------------------------------------------------------------

    async def introduce(self) -> None:
        """Learn what the primary is: versions, what it says of itself, how it takes impersonation."""
        await self._meet(await self._primary())
        if self.deployment.current.present_as is PresentAs.REPLICA_SET:
            check_advertised(self.deployment.advertised, self.hello)
        for warning in self.warnings():
            log.warning("%s", warning)

    async def _meet(self, address: str) -> None:
        pool = self._pool(address)
        connection = await pool.connect()
        try:
            self._met[address] = await meet(connection)
        except BaseException:
            connection.close()
            raise
        pool.keep(connection)
        self._unmet.discard(address)
        self._describe()

    def _describe(self) -> None:
        """Make the deployment of the primary and what is known of the others."""
        snapshot = self._topology.snapshot
        primary = self._met.get(snapshot.primary or "")
        if primary is None:
            return
        alike = {
            address: one
            for address, one in self._met.items()
            if one.impersonation is primary.impersonation and address in snapshot.readable
        }
        self._usable = frozenset(alike)
        deployment = Deployment(
            hello=common_hello(primary.hello, [one.hello for one in alike.values()]),
            build_info=primary.build_info,
            present_as=self._presented(primary.hello),
            impersonation=primary.impersonation,
            takes_client_metadata=all(one.takes_client_metadata for one in (primary, *alike.values())),
            instance_id=self.deployment.current.instance_id,
            default_read_preference=self._address.read_preference,
        )
        if deployment != self.deployment.current:
            self.deployment.current = deployment

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

    def _presented(self, hello: Mapping[str, Any]) -> PresentAs:
        if self._present_as != "auto":
            return PresentAs(self._present_as)
        return PresentAs.STANDALONE if _is_standalone(hello) else PresentAs.MONGOS

    def change(self, settings: UpstreamSettings) -> None:
        """Other limits of pools, and other times, from now on; not another deployment."""
        self._settings = settings
        for pool in self._pools.values():
            pool.change(settings)

    # ---- keeping up -------------------------------------------------------------------------------------------------

    async def keep_up(self) -> None:
        """Get to know new servers, close idle connections and those of servers that left; runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_acquainted)
            nursery.start_soon(self._keep_tidy)
            nursery.start_soon(keep_warm, lambda: list(self._pools.values()), self._topology.changed)

    async def _keep_acquainted(self) -> None:
        while True:
            snapshot = self._topology.snapshot
            strangers = snapshot.readable - self._met.keys()
            for address in sorted(strangers, key=lambda one: one != snapshot.primary):
                try:
                    await self._meet(address)
                except UpstreamError as error:
                    if address not in self._unmet:
                        log.warning("upstream server %s cannot be used: %s", address, error)
                    self._unmet.add(address)
            if strangers <= self._unmet:
                with trio.move_on_after(KEEP_UP_SECS):
                    await self._topology.changed()

    async def _keep_tidy(self) -> None:
        while True:
            with trio.move_on_after(KEEP_UP_SECS):
                await self._topology.changed()
            self._topology.refresh()
            for pool in self._pools.values():
                pool.trim()
            self._answered_before += sum(pool.answered for pool in self._left if not pool.in_use)
            self._left = [pool for pool in self._left if pool.in_use]
            async with trio.open_nursery() as nursery:
                for pool in self._left:
                    nursery.start_soon(pool.interrupt_if_frozen)

    def _members_heard(self, members: Mapping[str, Hello]) -> None:
        self.deployment.members = members

    def _topology_changed(self, snapshot: TopologySnapshot) -> None:
        for address in set(self._pools) - snapshot.servers:
            log.warning(
                "upstream server %s is gone or does not answer (%s)", address, snapshot.error or "removed"
            )
            pool = self._pools.pop(address)
            pool.close(interrupt=address in snapshot.frozen)
            self._left.append(pool)
        for address in self._met.keys() - snapshot.servers:
            del self._met[address]  # it may come back as another version
        self._unmet &= snapshot.servers
        self._describe()

    async def close(self) -> None:
        """End the monitors and close every connection."""
        pools, self._pools, self._left = [*self._pools.values(), *self._left], {}, []
        for pool in pools:
            pool.close(interrupt=True)
        await self._topology.close()


def _is_standalone(hello: Mapping[str, Any]) -> bool:
    return "setName" not in hello and hello.get("msg") != "isdbgrid"


@asynccontextmanager
async def open_upstream(settings: Settings, service_id: ObjectId | None = None) -> AsyncIterator[Upstream]:
    """An upstream that has answered once; `service_id` as for `Upstream`. Raises `ConfigError` or `UpstreamError`."""
    upstream = Upstream(settings, service_id)
    try:
        await upstream.introduce()
        yield upstream
    finally:
        await upstream.close()
