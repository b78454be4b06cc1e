"""Deployment: what a client session must know of the upstream and of this proxy.

In: facts that the shell found out at start and after each topology change. Out: frozen values. Must not know sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bson import ObjectId

from mongoguard.command.read_preference import ReadPreference
from mongoguard.proxy.replica_set import Advertised, Hello, newest_cluster_time, replica_set_fields
from mongoguard.wire.message import MAX_MESSAGE_BYTES

__all__ = ["Deployment", "DeploymentView", "Impersonation", "PresentAs"]

MIN_WIRE_VERSION = 0
MAX_WIRE_VERSION = 25
"""The newest wire version (8.0) whose commands the catalogue has rows for."""


SPLICE_ROOM_BYTES = 16 * 1024
"""More than the identity adds to a message (proxy/identity.py bounds it to 8 kB), and narrowing's few hundred bytes."""


SESSION_TIMEOUT_MINUTES = 30
"""logicalSessionTimeoutMinutes of a server that does not say (the default of every server)."""


class PresentAs(StrEnum):
    """What a hello says this server is."""

    STANDALONE = "standalone"
    MONGOS = "mongos"
    REPLICA_SET = "replicaSet"


class Impersonation(StrEnum):
    """How the upstream takes the name of the real user."""

    USERS = "$impersonatedUsers"
    """A list of users, up to and including 7.0."""
    USER = "$impersonatedUser"
    """One user, in later servers."""
    NONE = "none"
    """It refuses impersonation: session ids are made the user's own by a splice of their value."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A snapshot. `hello` and `build_info` are the upstream's own answers, as values."""

    hello: Mapping[str, Any]
    build_info: Mapping[str, Any]
    present_as: PresentAs = PresentAs.STANDALONE
    impersonation: Impersonation = Impersonation.USERS
    takes_client_metadata: bool = False
    """Whether commands may bring `$client`, as those of a mongos do."""
    instance_id: ObjectId = field(default_factory=ObjectId)
    default_read_preference: ReadPreference | None = None
    """That of the upstream's connection string, for reads of clients that name none; None for the primary."""

    @property
    def limits(self) -> tuple[object, ...]:
        """What hello says of every kind of server, as a value to compare."""
        return (
            self.present_as,
            self.min_wire_version,
            self.max_wire_version,
            self.max_client_message_bytes,
            self.max_bson_object_bytes,
            self.max_write_batch_size,
            self.session_timeout_minutes,
        )

    @property
    def max_bson_object_bytes(self) -> int:
        """The upstream's limit."""
        return int(self.hello.get("maxBsonObjectSize", 16 * 1024 * 1024))

    @property
    def max_write_batch_size(self) -> int:
        """The upstream's limit."""
        return int(self.hello.get("maxWriteBatchSize", 100_000))

    @property
    def session_timeout_minutes(self) -> int:
        """The upstream's, or the default of every server when it does not say."""
        timeout = self.hello.get("logicalSessionTimeoutMinutes")
        return SESSION_TIMEOUT_MINUTES if timeout is None else int(timeout)

    @property
    def max_client_message_bytes(self) -> int:
        """The upstream's limit less what splices may add: drivers fill batches up to what hello says."""
        return int(self.hello.get("maxMessageSizeBytes", MAX_MESSAGE_BYTES)) - SPLICE_ROOM_BYTES

    @property
    def max_wire_version(self) -> int:
        """The intersection of what the upstream and mongoguard speak."""
        return min(int(self.hello.get("maxWireVersion", 0)), MAX_WIRE_VERSION)

    @property
    def min_wire_version(self) -> int:
        """The intersection of what the upstream and mongoguard speak."""
        return max(int(self.hello.get("minWireVersion", 0)), MIN_WIRE_VERSION)


class DeploymentView:
    """The snapshot of now, and what this proxy says of itself. The shell replaces `current`; sessions read it.

    `process_id` and `counter` are this process's topologyVersion ("Server Discovery And Monitoring"): the counter grows
    when hello says something else than before, and whoever asked for that by `telling` is told. `service_id` is what
    clients behind a load balancer know the deployment by: the same in all workers, for they all reach the same servers.
    """

    __slots__ = (
        "_commands",
        "_current",
        "_members",
        "_said",
        "_told",
        "advertised",
        "counter",
        "process_id",
        "service_id",
    )

    def __init__(
        self,
        current: Deployment,
        *,
        advertised: Advertised | None = None,
        service_id: ObjectId | None = None,
        process_id: ObjectId | None = None,
    ) -> None:
        """Start with a first snapshot. `advertised` is for `PresentAs.REPLICA_SET`."""
        self.advertised = Advertised() if advertised is None else advertised
        self.service_id = ObjectId() if service_id is None else service_id
        self.process_id = ObjectId() if process_id is None else process_id
        self.counter = 0
        self._current = current
        self._members: Mapping[str, Hello] = {}
        self._commands: tuple[Deployment, Mapping[str, Any]] | None = None
        self._told: set[Callable[[], None]] = set()
        self._said = self._to_be_said()

    @property
    def current(self) -> Deployment:
        """The snapshot of now."""
        return self._current

    @current.setter
    def current(self, new: Deployment) -> None:
        self._current = new
        self._tell()

    @property
    def members(self) -> Mapping[str, Hello]:
        """What each server of the upstream that answers last said of itself."""
        return self._members

    @members.setter
    def members(self, members: Mapping[str, Hello]) -> None:
        self._members = members
        self._tell()

    @property
    def replica_set_fields(self) -> dict[str, Any]:
        """What hello says of the replica set; empty when mongoguard is presented as anything else."""
        if self._current.present_as is not PresentAs.REPLICA_SET:
            return {}
        return replica_set_fields(self.advertised, self._current.hello, self._members)

    @property
    def cluster_time(self) -> Mapping[str, Any] | None:
        """The newest `$clusterTime` that the upstream's servers have said; None of a standalone server."""
        return newest_cluster_time(self._current.hello, self._members.values())

    @property
    def finds_the_primary(self) -> bool:
        """Whether mongoguard looks for the primary itself, and so is there while the servers behind change roles."""
        present_as = self._current.present_as
        return present_as is PresentAs.MONGOS or (
            present_as is PresentAs.REPLICA_SET and self.advertised.own is not None
        )

    def _to_be_said(self) -> object:
        """What hello says, as a value to compare; without what changes all the time: times."""
        fields = self.replica_set_fields
        fields.pop("lastWrite", None)
        return self._current.limits, fields

    def _tell(self) -> None:
        said, self._said = self._said, self._to_be_said()
        if said != self._said:
            self.counter += 1
            for tell in list(self._told):
                tell()

    @contextmanager
    def telling(self, tell: Callable[[], None]) -> Iterator[None]:
        """Inside of this, `tell` is called whenever the counter has grown."""
        self._told.add(tell)
        try:
            yield
        finally:
            self._told.discard(tell)

    @property
    def commands(self) -> Mapping[str, Any] | None:
        """What the upstream of now answered to listCommands; None when nobody has asked it yet."""
        if self._commands is None or self._commands[0].build_info is not self.current.build_info:
            return None
        return self._commands[1]

    def remember_commands(self, asked: Deployment, commands: Mapping[str, Any]) -> None:
        """`asked` was the snapshot when the question was put: another server may answer otherwise."""
        self._commands = asked, commands
