"""The localhost exception: how the first user of a deployment without users is made.

In: a connection's peer, and what the upstream says of its users. Out: whether the exception holds, and what it grants.
Must not know sockets. It is decided on mongoguard's own peer: to the upstream, mongoguard itself may look local.
Source: the manual's "Localhost Exception"; extent and end measured on mongod 6.0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mongoguard.authz.authorization_session import AuthorizationSession
from mongoguard.command.command import Command
from mongoguard.effects import AskUpstream, Flow, perform
from mongoguard.errors import UpstreamError, UpstreamUnavailable
from mongoguard.model.action_type import ActionType
from mongoguard.model.names import EXTERNAL_DB, UserName
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from mongoguard.model.restriction import Peer
from mongoguard.model.user import User

__all__ = ["ABOUT_ONESELF", "LocalhostException", "is_about_oneself", "is_local"]

_GRANTED = {
    ResourcePattern.for_database("admin"): frozenset({ActionType.CREATE_USER, ActionType.GRANT_ROLE}),
    ResourcePattern.for_database(EXTERNAL_DB): frozenset({ActionType.CREATE_USER}),
    CLUSTER: frozenset({ActionType.ADD_SHARD, ActionType.REPL_SET_CONFIGURE, ActionType.REPL_SET_GET_STATUS}),
}

ABOUT_ONESELF = frozenset(
    [
        "aggregate",
        "currentOp",
        "endSessions",
        "explain",
        "killSessions",
        "listCollections",
        "refreshSessions",
        "startSession",
    ]
)
"""Commands whose free forms are about the caller's own things, or what the caller may see: nobody has any, and upstream
they would be the service user's. mongod refuses them too, but for explain (and does not answer killSessions)."""


def is_about_oneself(name: str, command: Command) -> bool:
    """Whether nobody may have this: what `ABOUT_ONESELF` names, but for an aggregate over `$currentOp`.

    mongod lets nobody run that, and shows nothing by it (`narrowing.narrow_for_nobody`). Its explanation is refused
    here: it counts the operations.
    """
    if name != "aggregate":
        return name in ABOUT_ONESELF
    pipeline = command.body.documents("pipeline")
    return not pipeline or "$currentOp" not in pipeline[0] or command.body.truthy("explain")


class LocalhostException:
    """The exception of one deployment. Once closed it stays closed in this process, as in mongod.

    `service` is mongoguard's own user upstream: it and its roles do not count as users, for nobody logs in with them
    here.
    """

    __slots__ = ("_closed", "_service", "_tell_closed", "authorization")

    def __init__(
        self, *, enabled: bool, service: UserName | None, tell_closed: Callable[[], None] = lambda: None
    ) -> None:
        """`enabled` is `setParameter.enableLocalhostAuthBypass`, and false for a directory of its own.

        `tell_closed` is called when it was found closed, for other processes of this deployment's to close theirs.
        """
        self._tell_closed = tell_closed
        self._closed = not enabled
        self._service = service
        self.authorization = AuthorizationSession(User(UserName("", ""), privileges=_GRANTED))

    def holds_for(self, peer: Peer) -> Flow[bool]:
        """Whether a connection that nobody is logged in on has the exception's rights."""
        if self._closed or not is_local(peer):
            return False
        try:
            has_users = yield from self._upstream_has_users()
        except UpstreamError:
            return False  # what cannot be read counts as closed, but is asked again
        if has_users:
            self.close()
            self._tell_closed()
        return not has_users

    def close(self) -> None:
        """There have been users: from now on the exception holds for nobody."""
        self._closed = True

    def _upstream_has_users(self) -> Flow[bool]:
        own_roles: list[str] = []
        own_user = None if self._service is None else f"{self._service.db}.{self._service.user}"
        if self._service is not None:
            name = {"user": self._service.user, "db": self._service.db}
            reply = yield from _ask({"usersInfo": name})
            own_roles = [f"{r['db']}.{r['role']}" for user in reply.get("users", ()) for r in user["roles"]]
        users = yield from _any("system.users", [own_user])
        return users or (yield from _any("system.roles", own_roles))


def _any(collection: str, besides: list[Any]) -> Flow[bool]:
    """Whether admin's collection has a document besides those."""
    find = {"find": collection, "filter": {"_id": {"$nin": besides}}, "projection": {"_id": 1}, "limit": 1}
    reply = yield from _ask({**find, "singleBatch": True})
    return bool(reply["cursor"]["firstBatch"])


def _ask(command: dict[str, Any]) -> Flow[dict[str, Any]]:
    """Raises `UpstreamError` also for an answer that is none: it says nothing of users, neither now nor for ever."""
    reply = yield from perform(AskUpstream("admin", command))
    if not reply.get("ok"):
        raise UpstreamUnavailable(f"the upstream does not tell whether it has users: {reply.get('codeName')}")
    return reply


def is_local(peer: Peer) -> bool:
    """Loopback addresses, and Unix sockets, whose peers have no address. An IPv4 address written as IPv6 is none, as
    in mongod. Nor is whatever a balancer says: its 127.0.0.1 is another host's.
    """
    client = peer.client
    if peer.is_proxied:
        return False
    return client is None or (client.is_loopback and getattr(client, "ipv4_mapped", None) is None)
