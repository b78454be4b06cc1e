"""Crossing: what happens in one worker and concerns the others, seen from the supervisor.

In: the workers' questions. Out: answers, after the others have been asked or told. Must not know how workers are
started, or ended for good.

* Changed users: a worker answers its client when no other worker can use what it knew of users before. One that does
  not confirm that in time is ended, for it may let somebody go on who may no longer.
* Cursors: who does not know one asks, and says for whom; who knows it hands it over, or says that it is not theirs.
* Failed logins and connections per user are counted here, for all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial
from ipaddress import ip_address
from typing import Any

import trio

from mongoguard.authn.throttle import LoginThrottle
from mongoguard.config.settings import Settings
from mongoguard.errors import GuardError
from mongoguard.model.names import UserName
from mongoguard.model.restriction import Address
from mongoguard.server.link import Answerer, AnswererAtOnce, Fields, LinkLost, LinkRefused
from mongoguard.server.user_connections import UserConnections
from mongoguard.server.worker_process import WorkerProcess

__all__ = ["Crossing"]

log = logging.getLogger(__name__)

CONFIRM_SECS = 5.0
"""For a worker to forget its users, which takes no time: who takes longer serves nobody."""

KILLED_SECS = 5.0
"""For a process to end after SIGKILL, which the kernel may put off."""

LOOK_SECS = 2.0
"""For a worker to look into its table."""

SEEK_SECS = 2 * LOOK_SECS
"""For others' questions about the same cursor. Who asks waits hardly longer for the answer (`worker.LOOKUP_SECS`)."""


class Crossing:
    """What the workers of one server share."""

    def __init__(self, settings: Settings, workers: Mapping[int, WorkerProcess]) -> None:
        """`workers` are those of now, by number."""
        self._workers = workers
        self._throttle = LoginThrottle(settings.security.login_limits.limits)
        self._connections = UserConnections(settings.net.max_connections_per_user)
        self.exception_is_closed = False
        self._sought: set[int] = set()
        self._found = trio.Event()

    def answerers(self, worker: WorkerProcess) -> Mapping[str, Answerer]:
        """Those for the questions of this worker."""
        return {
            "users changed": partial(self._users_changed, worker),
            "find cursors": partial(self._find_cursors, worker),
        }

    def at_once(self, worker: WorkerProcess) -> Mapping[str, AnswererAtOnce]:
        """Those for which nobody else is asked; in order, or a place would be given back before it is taken."""
        return {
            "exception closed": self._exception_closed,
            "login block": self._login_block,
            "count login": self._count_login,
            "take connection": partial(self._take_connection, worker),
            "give connection": partial(self._give_connection, worker),
        }

    def worker_ended(self, number: int) -> None:
        """That worker's connections are no more."""
        self._connections.give_all(number)

    def worker_crashed(self) -> None:
        """A worker has ended unasked, perhaps between a change of users and telling of it: the others ask again."""
        for worker in self._workers.values():
            if worker.is_serving:
                worker.link.tell("invalidate users")

    def limits_changed(self, settings: Settings) -> None:
        """The settings are reloaded."""
        self._throttle.change(settings.security.login_limits.limits)
        self._connections.limit = settings.net.max_connections_per_user

    async def _users_changed(self, by: WorkerProcess, _fields: dict[str, Any]) -> Fields:
        """Answered when all others have confirmed, or are no more. Raises `GuardError` when that is not certain."""
        uncertain: list[int] = []

        async def tell(worker: WorkerProcess) -> None:
            if await worker.ask("invalidate users", within_secs=CONFIRM_SECS) is not None:
                return
            log.error(
                "worker %d (pid %d) does not confirm that users have changed, and is ended",
                worker.number,
                worker.pid,
            )
            worker.kill()
            if not await worker.ended(KILLED_SECS):
                uncertain.append(worker.number)

        async with trio.open_nursery() as nursery:
            for worker in self._others(by):
                nursery.start_soon(tell, worker)
        if uncertain:
            raise GuardError(f"worker {uncertain[0]} can't be ended")
        return {}

    async def _find_cursors(self, by: WorkerProcess, fields: dict[str, Any]) -> Fields:
        """One question for a cursor at a time: while it is on its way to who asked first, nobody has it."""
        ids = set(fields["ids"])
        try:
            with trio.fail_after(SEEK_SECS):
                while ids & self._sought:
                    await self._found.wait()
        except trio.TooSlowError:
            raise GuardError("the same cursor is looked for by too many") from None
        self._sought |= ids
        try:
            return await self._ask_for_cursors(by, {"ids": fields["ids"], "claim": fields["claim"]})
        finally:
            # The answer is on its way before the next question: nothing waits in between.
            self._sought -= ids
            self._found.set()
            self._found = trio.Event()

    async def _ask_for_cursors(self, by: WorkerProcess, question: Fields) -> Fields:
        """What the others hand over and keep; `silent` are those that may know more, and do not say."""
        cursors: list[Any] = []
        kept: list[Any] = []
        silent: list[int] = []
        is_answered = False

        def take(answer: Fields) -> None:
            # Of one that was busy or stopped: it has forgotten what it gives, so somebody must have it.
            if is_answered and answer.get("cursors"):
                by.link.tell("take cursors", {"ids": question["ids"], "cursors": answer["cursors"]})

        async def look(worker: WorkerProcess) -> None:
            try:
                answer = await worker.link.ask("give cursors", question, within_secs=LOOK_SECS, take=take)
            except (LinkRefused, trio.TooSlowError):
                silent.append(worker.number)
                return
            except LinkLost:
                return
            match answer:
                case {"cursors": [*theirs], "kept": [*not_given]}:
                    cursors.extend(theirs)
                    kept.extend(not_given)
                case _:
                    log.error("worker %d (pid %d) gives cursors that are none", worker.number, worker.pid)
                    silent.append(worker.number)

        async with trio.open_nursery() as nursery:
            for worker in self._others(by):
                nursery.start_soon(look, worker)
        is_answered = True
        return {"cursors": cursors, "kept": kept, "silent": silent}

    def _exception_closed(self, _fields: dict[str, Any]) -> Fields:
        if not self.exception_is_closed:
            self.exception_is_closed = True
            for worker in self._workers.values():
                worker.link.tell("close exception")
        return {}

    def _login_block(self, fields: dict[str, Any]) -> Fields:
        block = self._throttle.block(*_who(fields), time.time())
        return {"block": None if block is None else [block.scope, block.secs]}

    def _count_login(self, fields: dict[str, Any]) -> Fields:
        count = self._throttle.failed if fields["isFailure"] else self._throttle.succeeded
        count(*_who(fields), time.time())
        return {}

    def _take_connection(self, by: WorkerProcess, fields: dict[str, Any]) -> Fields:
        user = UserName(fields["user"], fields["db"])
        return {"taken": self._connections.take(user, (by.number, fields["holder"]))}

    def _give_connection(self, by: WorkerProcess, fields: dict[str, Any]) -> Fields:
        self._connections.give((by.number, fields["holder"]))
        return {}

    def _others(self, than: WorkerProcess) -> list[WorkerProcess]:
        """Who serves, and so may know something."""
        return [worker for worker in self._workers.values() if worker is not than and worker.is_serving]


def _who(fields: dict[str, Any]) -> tuple[UserName, Address | None]:
    user, db, address = fields["user"], fields["db"], fields["address"]
    if not (isinstance(user, bytes) and isinstance(db, bytes)):
        raise TypeError("no name of a user")
    user, db = (name.decode(errors="surrogatepass") for name in (user, db))
    return UserName(user, db), None if address is None else ip_address(address)
