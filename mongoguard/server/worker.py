"""A worker: one of several processes that serve the same addresses, as its supervisor tells it to.

In: a link to the supervisor. Out: a running application, until the supervisor says so or is gone. Must not decide
anything about commands, nor obey signals: a terminal or a service manager sends them to all processes, and the
supervisor says what they mean.
"""

from __future__ import annotations

import itertools
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

import trio

from mongoguard.authn.throttle import LoginThrottle
from mongoguard.config.loading import ConfigTexts
from mongoguard.config.reloadable import reload_settings
from mongoguard.config.settings import Settings
from mongoguard.effects import (
    CountLogin,
    FindCursors,
    FindLoginBlock,
    GiveConnection,
    KeptCursor,
    TakeConnection,
)
from mongoguard.errors import ConfigError, GuardError, UpstreamConnectionLost, UpstreamUnavailable
from mongoguard.model.names import UserName
from mongoguard.model.restriction import Address
from mongoguard.proxy.cursor_documents import (
    claim_document,
    cursor_document,
    kept_document,
    read_claim,
    read_cursor,
    read_kept,
)
from mongoguard.proxy.cursors import CursorEntry
from mongoguard.server.app import Application, Order
from mongoguard.server.link import (
    MAX_FROM_WORKER_BYTES,
    NOT_UNDERSTOOD,
    Fields,
    Link,
    LinkLost,
    LinkRefused,
)
from mongoguard.server.listener import close_listeners
from mongoguard.server.log import configure_logging
from mongoguard.server.prepared_reload import NotReloaded, PreparedReload
from mongoguard.server.serving import open_application
from mongoguard.server.shared_counts import CountsElsewhere, SharedCounts
from mongoguard.server.siblings import EffectHandlers
from mongoguard.wire.document import encode

__all__ = ["DescribeError", "Worker"]

log = logging.getLogger(__name__)

DescribeError: TypeAlias = Callable[[BaseException], tuple[list[str], int] | None]
"""What to print of an error, and the exit status; None for what nobody foresaw."""

ANSWER_SECS = 20.0
"""For the supervisor's answer, which has deadlines of its own for what it asks others: beyond this it is frozen."""

START_SECS = 60.0
"""For the first words of the supervisor, which it sends before it does anything else."""

LOOKUPS = 64
"""Questions for cursors at a time: whoever floods a worker with unknown ids floods neither supervisor nor others."""

MAX_GIVEN_BYTES = 1024 * 1024
"""Of one answer about cursors, so that four processes' are read at once; an entry has some hundred bytes, unless
thousands of collections are read by one aggregate. Those can be read on by the worker alone that opened them."""

LOOKUP_SECS = 5.0
"""For one of them, with the wait for its turn. The supervisor takes two at most."""


class _LinkedSiblings:
    """The other workers, through the supervisor."""

    def __init__(self, link: Link, counts: CountsElsewhere, turns: int) -> None:
        """`application` is to be set before anything is asked."""
        self.turns: int | None = turns
        self.are_there = True
        self.counts = counts
        self.throttle: LoginThrottle | None = None
        self.application: Application | None = None
        self.effects: EffectHandlers = {
            FindCursors: self._find_cursors,
            FindLoginBlock: self._find_login_block,
            CountLogin: self._count_login,
            TakeConnection: self._take_connection,
            GiveConnection: self._give_connection,
        }
        self._link = link
        self._lookups = trio.CapacityLimiter(LOOKUPS)
        self._numbers = itertools.count(1)
        self._holders: dict[object, int] = {}

    async def users_changed(self) -> None:
        """See `Siblings`."""
        try:
            await self._ask("users changed", {})
        except UpstreamUnavailable as error:
            raise UpstreamConnectionLost(
                f"whether other workers know that users have changed: {error}"
            ) from None

    def exception_closed(self) -> None:
        """See `Siblings`."""
        self._link.tell("exception closed")

    async def connection_ended(self, holder: object) -> None:
        """See `Siblings`."""
        number = self._holders.pop(holder, None)
        if number is not None:
            self._link.tell("give connection", {"holder": number})

    def limits_changed(self, settings: Settings) -> None:
        """They are the supervisor's."""

    async def _ask(self, kind: str, fields: Fields) -> dict[str, Any]:
        try:
            return await self._link.ask(kind, fields, within_secs=ANSWER_SECS)
        except (LinkLost, LinkRefused) as error:
            raise UpstreamUnavailable(str(error)) from None
        except trio.TooSlowError:
            raise UpstreamUnavailable("the supervisor does not answer") from None

    async def _find_cursors(self, effect: FindCursors) -> tuple[KeptCursor, ...]:
        try:
            with trio.fail_after(LOOKUP_SECS):
                async with self._lookups:
                    fields = {"ids": list(effect.ids), "claim": claim_document(effect.claim)}
                    # Taken even if this client has left: the worker that knew them has forgotten them.
                    take = partial(self._take_cursors, frozenset(effect.ids))
                    answer = await self._link.ask("find cursors", fields, within_secs=LOOKUP_SECS, take=take)
                    kept = tuple(read_kept(document) for document in answer["kept"])
                    if answer["silent"] and not self._know_all(effect.ids, kept):
                        raise trio.TooSlowError
                    return kept
        except (LinkLost, LinkRefused, trio.TooSlowError, *NOT_UNDERSTOOD):
            raise UpstreamUnavailable(
                "mongoguard's other workers do not say whether they know this cursor"
            ) from None

    def _know_all(self, ids: Iterable[int], kept: Iterable[KeptCursor]) -> bool:
        assert self.application is not None  # whoever asked belongs to it
        elsewhere = {one.cursor_id for one in kept}
        table = self.application.cursors
        return all(one in elsewhere or table.find(one) is not None for one in ids)

    def take_late_cursors(self, ids: Iterable[int], answer: Fields) -> None:
        """What a worker has handed over that was too busy to do so in time."""
        assert self.application is not None  # it has asked before
        unknown = frozenset(one for one in ids if self.application.cursors.find(one) is None)
        self._take_cursors(unknown, answer)

    def _take_cursors(self, ids: frozenset[int], answer: Fields) -> None:
        assert self.application is not None  # whoever asked belongs to it
        for document in answer["cursors"]:
            try:
                entry = read_cursor(document)
            except ValueError:
                log.error("a cursor of another worker is not understood, and so not known any more")
                continue
            if entry.cursor_id in ids:  # no other of this worker's own is anybody's to change
                self.application.cursors.add(entry)

    async def _find_login_block(self, effect: FindLoginBlock) -> tuple[str, float] | None:
        answer = await self._ask("login block", _login_fields(effect.user, effect.address))
        block = answer["block"]
        return None if block is None else (str(block[0]), float(block[1]))

    async def _count_login(self, effect: CountLogin) -> None:
        fields = _login_fields(effect.user, effect.address)
        try:
            await self._ask("count login", {**fields, "isFailure": effect.is_failure})
        except UpstreamUnavailable as error:  # a guess that nobody has counted is not answered
            raise UpstreamConnectionLost(f"whether a login was counted: {error}") from None

    async def _take_connection(self, effect: TakeConnection) -> bool:
        number = self._holders.setdefault(effect.holder, next(self._numbers))
        fields = {"user": effect.user.user, "db": effect.user.db, "holder": number}
        return bool((await self._ask("take connection", fields))["taken"])

    async def _give_connection(self, effect: GiveConnection) -> None:
        await self.connection_ended(effect.holder)


def _login_fields(user: UserName, address: Address | None) -> dict[str, Any]:
    return {
        # A name that came by a mechanism of text may hold what BSON's strings may not.
        "user": user.user.encode(errors="surrogatepass"),
        "db": user.db.encode(errors="surrogatepass"),
        "address": None if address is None else str(address),
    }


class Worker:
    """One worker process. `run` serves until it ends."""

    def __init__(self, sock: socket.socket, describe: DescribeError) -> None:
        """Take over the worker's end of the link. `describe` says what to tell of an error."""
        self._describe = describe
        self._give_orders, self._orders = trio.open_memory_channel[Order](16)
        self._give_start, self._start = trio.open_memory_channel[dict[str, Any]](1)
        self._scope = trio.CancelScope()
        self._is_ready = False
        self._application: Application | None = None
        self._siblings: _LinkedSiblings | None = None
        self._prepared: PreparedReload | None = None
        self.link = Link(
            sock,
            {
                "start": self._started,
                "order": self._order,
                "invalidate users": self._invalidate_users,
                "give cursors": self._give_cursors,
                "take cursors": self._take_late_cursors,
                "close exception": self._close_exception,
                "prepare": self._prepare,
                "commit": self._commit,
            },
            # By the event loop itself, and no later than it comes to it: other questions may have to wait.
            {"ping": self._ping},
            max_sent=MAX_FROM_WORKER_BYTES,
        )

    async def run(self) -> bool:
        """Serve, until told to end or until the supervisor is gone; False when it could not, and told why.

        Raises errors that nobody foresaw.
        """
        served = True
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_link)
                with trio.fail_after(START_SECS):
                    start = await self._start.receive()
                try:
                    await self._serve(start)
                except Exception as error:
                    served = False
                    told = self._describe(error)
                    if told is None:
                        raise
                    with suppress(GuardError, trio.TooSlowError):
                        fields = {"sentences": told[0], "status": told[1]}
                        await self.link.ask("failed", fields, within_secs=ANSWER_SECS)
                nursery.cancel_scope.cancel()
        return served

    async def _keep_link(self) -> None:
        await self.link.run()
        # Without a supervisor nobody tells of changed users, and nobody would end this process.
        self._scope.cancel()

    async def _serve(self, start: Mapping[str, Any]) -> None:
        started, current = (_read_texts(start[name]).settings() for name in ("startedWith", "current"))
        settings = reload_settings(started, current).settings
        configure_logging(settings.system_log, append=True)
        counts = SharedCounts(start["counts"], start["workers"], start["number"], start["secret"])
        listeners = [socket.socket(fileno=descriptor) for descriptor in start["listeners"]]
        siblings = _LinkedSiblings(self.link, counts, start["counts"])
        async with open_application(settings, siblings, start["users"], start["serviceId"]) as application:
            siblings.application = self._application = application
            self._siblings = siblings
            if start["exceptionClosed"]:
                application.localhost_exception.close()
            await application.run(
                listeners, self._told(), self._ready, lambda: close_listeners(listeners, remove=False)
            )

    async def _told(self) -> AsyncIterator[Order]:
        async for order in self._orders:
            yield order

    async def _ready(self) -> None:
        try:
            await self.link.ask("ready", within_secs=ANSWER_SECS)
        except trio.TooSlowError:
            raise GuardError("the supervisor does not answer") from None
        self._is_ready = True

    # ---- what the supervisor asks -----------------------------------------------------------------------------------

    async def _started(self, fields: dict[str, Any]) -> Fields:
        self._give_start.send_nowait(fields)
        return {}

    def _ping(self, _fields: dict[str, Any]) -> Fields:
        return {}

    async def _order(self, fields: dict[str, Any]) -> Fields:
        order = Order(fields["order"])
        if order is Order.END and not self._is_ready:
            self._scope.cancel()  # nobody is served yet
        else:
            self._give_orders.send_nowait(order)
        return {}

    async def _invalidate_users(self, _fields: dict[str, Any]) -> Fields:
        self._running().invalidate_users()
        return {}

    async def _give_cursors(self, fields: dict[str, Any]) -> Fields:
        claim, table = read_claim(fields["claim"]), self._running().cursors
        found = [table.claim(cursor_id, claim) for cursor_id in fields["ids"]]
        theirs = [one for one in found if isinstance(one, CursorEntry)]
        answer = {
            "cursors": [cursor_document(entry) for entry in theirs],
            "kept": [kept_document(one) for one in found if isinstance(one, KeptCursor)],
        }
        if len(encode(answer)) > MAX_GIVEN_BYTES:
            raise GuardError("these cursors are too long to be handed over")
        for entry in theirs:
            table.remove(entry.cursor_id)
        return answer

    async def _take_late_cursors(self, fields: dict[str, Any]) -> Fields:
        if self._siblings is not None:
            self._siblings.take_late_cursors([int(one) for one in fields["ids"]], fields)
        return {}

    async def _close_exception(self, _fields: dict[str, Any]) -> Fields:
        self._running().localhost_exception.close()
        return {}

    async def _prepare(self, fields: dict[str, Any]) -> Fields:
        try:
            wanted = _read_texts(fields["wanted"]).settings()
            self._prepared = await self._running().prepare_reload(wanted, fields["users"])
        except NotReloaded as error:
            return {"failed": error.part, "reason": str(error)}
        except ConfigError as error:
            return {"failed": "the configuration", "reason": str(error)}
        return {"parts": list(self._prepared.parts)}

    async def _commit(self, _fields: dict[str, Any]) -> Fields:
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            raise GuardError("nothing is prepared")
        self._running().commit_reload(prepared)
        return {}

    def _running(self) -> Application:
        if self._application is None:
            raise GuardError("this worker does not serve yet")
        return self._application


def _read_texts(document: Mapping[str, Any]) -> ConfigTexts:
    files = {str(path): str(text) for path, text in document["files"]}
    return ConfigTexts(document["source"], document["text"], files)
