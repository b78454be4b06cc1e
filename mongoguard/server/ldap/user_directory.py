"""LdapUserDirectory: a user directory whose `$external` users are those of an LDAP directory.

In: requests for users, passwords. Out: `User` values and `PasswordCheck`s. Must not know clients or mechanisms.

With `authz.queryTemplate` the groups of an `$external` user decide over its roles, and documents of such users are not
looked at, as in MongoDB; that holds for names proven by X.509 or Kerberos, too. Without it the base directory must know
the user by exactly that name. Roles that came with a credential beat both (see `UserRequest`).

Groups are asked for in the background (`keep_up`) for the users of live sessions, and never in their commands unless
an answer has become too old to be used. See `group_cache` for how old that is. The moment an answer ends or changes,
the sessions that rest on it are told (`keep_withdrawing`); until they have asked, they run no command.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import trio

from mongoguard.authn.ldap.query import LdapRefusal
from mongoguard.authn.ldap.role_mapping import DnRoles, read_dn_roles
from mongoguard.effects import CheckPassword, PasswordCheck
from mongoguard.errors import DirectoryUnavailable, UpstreamError
from mongoguard.model.names import EXTERNAL_DB, UserName
from mongoguard.model.user import User, UserRequest
from mongoguard.server.directory import REFRESH_SHARE, UserDirectory
from mongoguard.server.ldap.connection import DirectoryConnectionLost
from mongoguard.server.ldap.directory import LdapDirectory
from mongoguard.server.ldap.group_cache import LAST_SECS, GroupAnswer, GroupCache

__all__ = ["LdapUserDirectory"]

log = logging.getLogger(__name__)

CONCURRENT_REFRESHES = 4
"""Users asked for at a time in the background: half of the threads stay free for logins."""

LOOK_SECS = 1.0
"""How often is looked whether somebody's groups are due."""

TOGETHER_SECS = LAST_SECS / 2
"""Users whose answers end within so long are told of at once: all sessions are looked through for each telling."""

FETCH_TRIES = 3
"""An answer may end while the roles of its groups are asked for. Thrice in a row means a deployment that hangs."""


@dataclass(slots=True)
class _Question:
    """A user's groups being asked for: those who want them meanwhile get what comes of it."""

    done: trio.Event = field(default_factory=trio.Event)
    answer: GroupAnswer | None = None
    error: DirectoryUnavailable | LdapRefusal | None = None


class LdapUserDirectory:
    """`base` knows everybody else, and the roles."""

    def __init__(
        self,
        base: UserDirectory,
        directory: LdapDirectory,
        staleness_secs: float,
        watch_secs: float,
        refresh_secs: float | None,
        withdraw: Callable[[frozenset[str]], None],
    ) -> None:
        """Start with an empty cache. `watch_secs` is how often whoever asks would call `refresh` anyway.

        Without `refresh_secs` nothing is asked in the background: a command asks when the last answer would end before
        sessions are looked at again, so that a directory which is away just then costs nobody anything.
        `withdraw` is given the names whose users, as they were fetched before, must not be used any more; a login that
        is under way may end in such a user, too.
        """
        self._base = base
        self._directory = directory
        self._in_background = refresh_secs is not None
        self.watch_secs = min(watch_secs, staleness_secs / 3, refresh_secs or staleness_secs)
        """How often `refresh` must be called: so `keep_up` learns whose groups it must ask for."""
        look_ahead = self.watch_secs * (1 + REFRESH_SHARE)
        self._cache = GroupCache(staleness_secs, refresh_secs or staleness_secs - look_ahead)
        self._withdraw = withdraw
        self._answered = trio.Event()
        self._questions: dict[str, _Question] = {}
        self._live: frozenset[str] = frozenset()
        self._dn_roles: tuple[frozenset[str], DnRoles] = (frozenset(), read_dn_roles(()))

    async def check_password(self, effect: CheckPassword) -> PasswordCheck:
        """Answer the effect: map the name, bind, see whether the user may come in. Raises `DirectoryUnavailable`."""
        name = effect.name
        try:
            bind_name = await self._directory.bind_name(name)
        except LdapRefusal as refusal:
            await self._directory.bind_nobody(effect.password)
            return PasswordCheck(accepted=False, reason=str(refusal))
        try:
            answer = await self._directory.bind_user(bind_name, effect.password)
            if not answer.accepted:
                return PasswordCheck(accepted=False, reason=answer.reason)
            return await self._admit(name)
        except LdapRefusal as refusal:
            return PasswordCheck(accepted=False, reason=str(refusal))

    async def fetch(self, request: UserRequest) -> User | None:
        """See `UserDirectory`."""
        if not self._is_ours(request):
            return await self._base.fetch(request)
        try:
            return await self._fetch(request)
        except LdapRefusal as refusal:
            log.info("%s has no groups here: %s", request.name, refusal)
            return None

    def at_hand(self, request: UserRequest) -> tuple[User | None] | None:
        """See `UserDirectory`. Whoever's groups decide is asked for by `fetch`."""
        return None if self._is_ours(request) else self._base.at_hand(request)

    def invalidate(self) -> None:
        """See `UserDirectory`. Groups are not users of the deployment: they are not asked for again."""
        self._base.invalidate()

    async def refresh(self, requests: Iterable[UserRequest]) -> Mapping[UserRequest, User | None]:
        """See `UserDirectory`. Asks the base directory alone: whose groups are due is `keep_up`'s.

        Whose last answer has ended, or must be asked for again by a command, is left out.
        """
        asked = frozenset(requests)
        ours = {request for request in asked if self._is_ours(request)}
        self._live = frozenset(request.name.user for request in ours)
        answers = dict(await self._base.refresh(asked - ours))
        for request in ours:
            answer = self._answer_in_use(request.name.user)
            if answer is not None:
                with suppress(UpstreamError):
                    answers[request] = await self._user(request, answer, fresh=True)
        return answers

    async def admin_role_names(self) -> frozenset[str]:
        """See `UserDirectory`."""
        return await self._base.admin_role_names()

    async def keep_up(self) -> None:
        """Ask for the groups of live sessions' users when they are due, and close idle connections, for ever."""
        while True:
            await trio.sleep(min(LOOK_SECS, self.watch_secs))
            self._directory.pool.close_idle()
            now = trio.current_time()
            if self._in_background:
                await self._ask_for([name for name in self._live if self._cache.is_due(name, now)])

    async def keep_withdrawing(self) -> None:
        """Tell whose users must not be used any more, the moment that this is so, for ever. It asks nobody."""
        while True:
            with trio.move_on_at(self._cache.next_withdrawal):
                await self._answered.wait()
            self._answered = trio.Event()
            names = self._cache.withdrawn(trio.current_time())
            if names:
                self._withdraw(names)
            await trio.sleep(TOGETHER_SECS)

    async def _ask_for(self, names: list[str]) -> None:
        """Ask for these users' groups, until the directory is away. An error about one user leaves the others be."""
        away: list[DirectoryConnectionLost] = []
        failed: dict[str, DirectoryUnavailable] = {}

        async def work() -> None:
            while names and not away:
                name = names.pop()
                try:
                    await self._ask_once(name)
                except LdapRefusal as refusal:
                    log.info("%s@%s has no groups here any more: %s", name, EXTERNAL_DB, refusal)
                except DirectoryConnectionLost as error:
                    away.append(error)
                except DirectoryUnavailable as error:
                    self._cache.failed(name, trio.current_time())
                    failed[name] = error

        async with trio.open_nursery() as nursery:
            for _ in range(min(CONCURRENT_REFRESHES, len(names))):
                nursery.start_soon(work)
        if away:
            now = trio.current_time()
            for name in self._live:
                self._cache.failed(name, now)
            log.warning("the LDAP directory does not answer; users keep their last groups: %s", away[0])
        elif failed:
            name, error = next(iter(failed.items()))
            who = f"{name}@{EXTERNAL_DB}"
            log.warning("users keep their last groups, %d in all, such as %s: %s", len(failed), who, error)

    def _is_ours(self, request: UserRequest) -> bool:
        return (
            request.name.db == EXTERNAL_DB
            and request.roles is None
            and self._directory.ldap.lookup is not None
        )

    async def _admit(self, name: str) -> PasswordCheck:
        """The password is right: may the user come in? With groups their number is known to the log and the auditor."""
        if self._directory.ldap.lookup is None:
            return PasswordCheck(accepted=True)
        answer = await self._groups(name)
        user = await self._user(UserRequest(UserName(name, EXTERNAL_DB)), answer)
        assert answer.outcome is not None  # _user has made it
        summary = answer.outcome.summary
        if not answer.outcome.matches:
            log.warning("%s@%s: %s", name, EXTERNAL_DB, summary)
        if user is None:
            reason = f"{summary}; no role that exists, which security.ldap.authz.requireRoles asks for"
            return PasswordCheck(accepted=False, reason=reason)
        return PasswordCheck(accepted=True)

    async def _fetch(self, request: UserRequest) -> User | None:
        """The user by an answer that has not ended meanwhile. Raises `LdapRefusal`, `DirectoryUnavailable`."""
        for _ in range(FETCH_TRIES):
            answer = await self._groups(request.name.user)
            user = await self._user(request, answer)
            if trio.current_time() < answer.end:
                return user
        raise DirectoryUnavailable("the answers about groups have become too old while roles were asked for")

    async def _user(self, request: UserRequest, answer: GroupAnswer, *, fresh: bool = False) -> User | None:
        """The user with the roles of these groups; the same object as long as nothing has changed."""
        outcome = (await self._with_roles(answer)).outcome
        assert outcome is not None  # _with_roles has made it
        asserted = UserRequest(request.name, tuple(sorted(outcome.roles)))
        if fresh:
            answers = await self._base.refresh([asserted])
            if asserted not in answers:
                raise DirectoryUnavailable("the user directory gives no roles")
            base = answers[asserted]
        else:
            base = await self._base.fetch(asserted)
        if base is None or (self._directory.ldap.authz.require_roles and not base.roles):
            return None
        if answer.base is not base or answer.user is None or answer.user.name != request.name:
            answer.base, answer.user = base, replace(base, asserted_roles=None)
        return answer.user

    async def _with_roles(self, answer: GroupAnswer) -> GroupAnswer:
        """The answer with its `outcome`, which is made anew when roles on admin have come or gone."""
        names = await self._base.admin_role_names()
        if names is not self._dn_roles[0]:
            self._dn_roles = names, read_dn_roles(names)
            for unparsed in self._dn_roles[1].unparsed:
                log.warning(
                    "the role %s@admin looks like a group's DN and is none: no group gives it", unparsed
                )
        dn_roles = self._dn_roles[1]
        if answer.named_as_dns is not dn_roles:
            outcome = await self._directory.roles(answer.groups, dn_roles)
            answer.outcome, answer.named_as_dns = outcome, dn_roles
        return answer

    async def _groups(self, name: str) -> GroupAnswer:
        """The groups, asked for when they are due. Raises `LdapRefusal`, and `DirectoryUnavailable` without any."""
        answer = self._answer_in_use(name)
        if answer is not None:
            return answer
        try:
            return await self._ask_once(name)
        except DirectoryUnavailable as error:
            now = trio.current_time()
            self._cache.failed(name, now)
            answer = self._cache.usable(name, now)
            if answer is None:
                raise
            log.warning("the LDAP directory does not answer; %s keeps the last groups: %s", name, error)
            return answer

    def _answer_in_use(self, name: str) -> GroupAnswer | None:
        """The last answer, as long as nobody but `keep_up` has to ask for another one."""
        now = trio.current_time()
        kept_up = self._in_background and name in self._live
        return None if self._cache.is_due(name, now) and not kept_up else self._cache.usable(name, now)

    async def _ask_once(self, name: str) -> GroupAnswer:
        """Ask, or wait for who asks already: all of them get the same answer, or the same error.

        Whoever is refused has no earlier answer any more either.
        """
        running = self._questions.get(name)
        if running is None:
            return await self._ask(name)
        await running.done.wait()
        if running.answer is not None:
            return running.answer
        if running.error is not None:
            raise type(running.error)(*running.error.args)
        return await self._ask_once(name)  # who asked has been cancelled

    async def _ask(self, name: str) -> GroupAnswer:
        question = self._questions[name] = _Question()
        try:
            asked_at = trio.current_time()
            bind_name = await self._directory.bind_name(name)
            groups = await self._directory.groups(bind_name, name)
            answer = self._cache.keep(name, groups, asked_at)
            if trio.current_time() >= answer.end:
                raise DirectoryUnavailable(
                    "the directory's answer took so long that it is too old for any use"
                )
            question.answer = answer
            return answer
        except LdapRefusal as error:
            self._cache.forget(name)
            question.error = error
            raise
        except DirectoryUnavailable as error:
            question.error = error
            raise
        finally:
            self._answered.set()
            del self._questions[name]
            question.done.set()
