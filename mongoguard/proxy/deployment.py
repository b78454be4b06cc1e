"""Deployment: what a client session must know of the upstream and of this proxy.

In: facts that the shell found out at start and after each topology change. Out: frozen values. Must not know sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bson import ObjectId

from mongoguard.wire.message import MAX_MESSAGE_BYTES

__all__ = ["Deployment", "DeploymentView", "Impersonation", "PresentAs"]

MIN_WIRE_VERSION = 0
MAX_WIRE_VERSION = 25
"""The newest wire version (8.0) whose commands the catalogue has rows for."""


SPLICE_ROOM_BYTES = 16 * 1024
"""More than the identity adds to a message (proxy/identity.py bounds it to 8 kB), and narrowing's few hundred bytes."""


class PresentAs(StrEnum):
    """What a hello says this server is."""

    STANDALONE = "standalone"
    MONGOS = "mongos"


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
    instance_id: ObjectId = field(default_factory=ObjectId)

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
    """The snapshot of now. The shell replaces `current`; sessions read it for each command."""

    __slots__ = ("_commands", "current")

    def __init__(self, current: Deployment) -> None:
        """Start with a first snapshot."""
        self.current = current
        self._commands: tuple[Deployment, Mapping[str, Any]] | None = None

    @property
    def commands(self) -> Mapping[str, Any] | None:
        """What the upstream of now answered to listCommands; None when nobody has asked it yet."""
        if self._commands is None or self._commands[0] is not self.current:
            return None
        return self._commands[1]

    def remember_commands(self, asked: Deployment, commands: Mapping[str, Any]) -> None:
        """`asked` was the snapshot when the question was put: another server may answer otherwise."""
        self._commands = asked, commands
