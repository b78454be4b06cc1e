"""User directories: where users and their roles are looked up.

In: requests for users. Out: `User` values, no older than configured. Must not know clients: whoever asks compares what
the sessions hold with what `refresh` gives.

Changes made through mongoguard hold for the next command of every connection (`invalidate`). Changes made elsewhere
hold within `userCacheInvalidationIntervalSecs`: users of live sessions are asked for again that often. When the
directory does not answer, the last answer holds for `userCacheMaxStaleSecs` more, then nothing is allowed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import trio

from mongoguard.config.settings import Settings
from mongoguard.config.user_file import UserFile, parse_user_file
from mongoguard.errors import CommandError, ConfigError, UpstreamError, UpstreamUnavailable
from mongoguard.model.asserted_roles import user_with_roles
from mongoguard.model.documents import user_from_directory
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.user import User, UserRequest
from mongoguard.server.upstream import Upstream

__all__ = [
    "REFRESH_SHARE",
    "FileDirectory",
    "UpstreamDirectory",
    "UserDirectory",
    "open_directory",
    "read_users_text",
]

log = logging.getLogger(__name__)

MAX_CACHED_USERS = 10_000
"""Answers kept, unknown names included (strangers choose those): the least recently used goes first."""


MAX_KEPT_NAME = 1024
"""Characters of an unknown name that is kept: strangers may write names of 128 kB, and ten thousand of them."""


REFRESH_SHARE = 1 / 3
"""How much of the time between two calls of `refresh` one may take. An upstream that hangs takes half a minute for each
user: without a limit, all live sessions would go on for so long by what they were told before."""


MAX_USER_FILE_CHARACTERS = 16 * 1024 * 1024
"""A user with its credentials takes some 500: as many users as a directory of its own is wanted for."""


class UserDirectory(Protocol):
    """Where users are looked up."""

    async def fetch(self, request: UserRequest) -> User | None:
        """The user, or None. Raises `UpstreamError` when there is no answer that is fresh enough."""

    def at_hand(self, request: UserRequest) -> tuple[User | None] | None:
        """What `fetch` would answer without waiting, in a tuple of one; None when it would have to ask."""

    def invalidate(self) -> None:
        """Users have changed: no earlier answer may be given again."""

    async def refresh(self, requests: Iterable[UserRequest]) -> Mapping[UserRequest, User | None]:
        """Ask again for these users; those that can't be asked for any more are left out.

        A user that has not changed is the same object that `fetch` gave: a session with another one must ask too.
        """

    async def admin_role_names(self) -> frozenset[str]:
        """The names of the roles on admin that are not built in: some are named as an external group.

        As fresh as users are; an unchanged answer is the same object. Raises `UpstreamError`.
        """


@dataclass(slots=True)
class _Answer:
    user: User | None
    time: float


@dataclass(slots=True)
class _RoleNames:
    names: frozenset[str]
    time: float


class UpstreamDirectory:
    """The deployment's own users, by usersInfo."""

    def __init__(self, settings: Settings, upstream: Upstream) -> None:
        """Start with an empty cache."""
        self._upstream = upstream
        self._interval = settings.security.user_cache_invalidation_interval_secs
        self._max_stale = settings.security.user_cache_max_stale_secs
        self._answers: OrderedDict[UserRequest, _Answer] = OrderedDict()
        self._loading: dict[UserRequest, trio.Event] = {}
        self._role_names: _RoleNames | None = None
        self._role_names_lock = trio.Lock()
        self._generation = 0

    async def fetch(self, request: UserRequest) -> User | None:
        """See `UserDirectory`. Known and unknown users take the same path, so that time tells nothing of them."""
        while (known := self.at_hand(request)) is None:
            if request not in self._loading:
                return await self._load(request)
            await self._loading[request].wait()  # somebody else asks already; look at what comes of it
        return known[0]

    def at_hand(self, request: UserRequest) -> tuple[User | None] | None:
        """See `UserDirectory`."""
        answer = self._answers.get(request)
        if answer is None or trio.current_time() - answer.time >= self._interval:
            return None
        self._answers.move_to_end(request)
        return (answer.user,)

    def invalidate(self) -> None:
        """See `UserDirectory`."""
        self._generation += 1
        self._answers.clear()
        self._role_names = None

    async def refresh(self, requests: Iterable[UserRequest]) -> Mapping[UserRequest, User | None]:
        """See `UserDirectory`."""
        answers = {}
        for request in requests:
            with suppress(UpstreamError):
                answers[request] = await self._load(request)
        return answers

    async def admin_role_names(self) -> frozenset[str]:
        """See `UserDirectory`."""
        async with self._role_names_lock:  # two hundred logins ask once
            kept, now = self._role_names, trio.current_time()
            if kept is not None and now - kept.time < self._interval:
                return kept.names
            try:
                names = await self._ask_role_names()
            except UpstreamError as error:
                if kept is None or now - kept.time >= self._interval + self._max_stale:
                    raise
                log.warning("the roles are taken from the cache: the deployment does not answer (%s)", error)
                return kept.names
            self._role_names = names
            if kept is not None and kept.names == names.names:
                names.names = kept.names  # the same object: nothing must be read again
            return names.names

    async def _ask_role_names(self) -> _RoleNames:
        """Ask; again when roles were changed while the answer was on its way."""
        while True:
            generation, asked_at = self._generation, trio.current_time()
            found = await self._list_on_admin("rolesInfo", 1, "roles")
            if generation == self._generation:
                return _RoleNames(frozenset(str(role["role"]) for role in found), asked_at)

    async def _load(self, request: UserRequest) -> User | None:
        answer = self._answers.get(request)
        if answer is not None and not self._upstream.has_primary and self._holds_still(answer):
            # Waiting for one would hold up reads from secondaries; and without one nobody can change users either.
            return answer.user
        done = self._loading[request] = trio.Event()
        try:
            return await self._ask_until_current(request)
        except UpstreamError as error:
            answer = self._answers.get(request)
            if answer is not None and self._holds_still(answer):
                log.warning(
                    "the user directory does not answer (%s): %s is taken from the cache",
                    error,
                    request.name,
                )
                return answer.user
            raise
        finally:
            if self._loading.get(request) is done:
                del self._loading[request]
            done.set()

    def _holds_still(self, answer: _Answer) -> bool:
        """Whether an answer may be used while nobody gives a newer one."""
        return trio.current_time() - answer.time < self._interval + self._max_stale

    async def _ask_until_current(self, request: UserRequest) -> User | None:
        """Ask; again when users were changed while the answer was on its way."""
        while True:
            generation, asked_at = self._generation, trio.current_time()
            user = await self._ask(request)
            if generation == self._generation:
                if user is None and len(request.name.user) + len(request.name.db) > MAX_KEPT_NAME:
                    return None
                before = self._answers.get(request)
                if before is not None and before.user == user:
                    user = before.user  # the same object: nobody must ask again
                self._answers[request] = _Answer(user, asked_at)
                self._answers.move_to_end(request)
                if len(self._answers) > MAX_CACHED_USERS:
                    self._answers.popitem(last=False)
                return user

    async def _ask(self, request: UserRequest) -> User | None:
        try:
            if request.roles is not None:
                return user_with_roles(request, await self._roles(request.roles))
            users = await self._users(request.name)
            return user_from_directory(users[0]) if users else None
        except CommandError as error:
            raise UpstreamUnavailable(
                f"the deployment gave a user that is not understood: {error}"
            ) from error

    async def _users(self, name: UserName) -> list[Any]:
        document = {"user": name.user, "db": name.db}
        return await self._list("usersInfo", document, "users", showCredentials=True)

    async def _roles(self, names: tuple[RoleName, ...]) -> list[Any]:
        if not names:  # for an empty list the server would give none as well
            return []
        return await self._list("rolesInfo", [{"role": name.role, "db": name.db} for name in names], "roles")

    async def _list(self, command: str, argument: object, field: str, **options: bool) -> list[Any]:
        shown = {"showPrivileges": True, "showAuthenticationRestrictions": True, **options}
        return await self._list_on_admin(command, argument, field, **shown)

    async def _list_on_admin(self, command: str, argument: object, field: str, **options: bool) -> list[Any]:
        # As mongos asks its config servers, and as a secondary itself would answer who logs in there.
        reply = await self._upstream.ask("admin", {command: argument, **options}, prefers_primary=True)
        if not reply.get("ok"):
            reason = f"({reply.get('code')}) {reply.get('codeName')}"
            raise UpstreamUnavailable(f"{command} failed upstream: {reason}")
        found: list[Any] = reply[field]
        return found


class FileDirectory:
    """Users and roles of a file; `read` and `adopt` take over a newer one, all or nothing."""

    def __init__(self, path: str, text: str | None = None) -> None:
        """Read the file, unless its `text` is known. Raises `ConfigError`."""
        self._path = path
        self._users = _read_user_file(path, text)
        self._admin_roles = _names_on_admin(self._users)
        self._made: OrderedDict[UserRequest, User] = OrderedDict()

    async def fetch(self, request: UserRequest) -> User | None:
        """See `UserDirectory`. Never fails."""
        return self._user(request)

    def at_hand(self, request: UserRequest) -> tuple[User | None]:
        """See `UserDirectory`. Everybody is."""
        return (self._user(request),)

    def invalidate(self) -> None:
        """Nothing to forget: users can't be changed through mongoguard."""

    async def refresh(self, requests: Iterable[UserRequest]) -> Mapping[UserRequest, User | None]:
        """See `UserDirectory`. Nothing changes between reloads."""
        return {request: self._user(request) for request in requests}

    async def admin_role_names(self) -> frozenset[str]:
        """See `UserDirectory`. Never fails."""
        return self._admin_roles

    async def read(self, path: str | None = None, text: str | None = None) -> UserFile:
        """Read the file again (or another one), in a thread: thousands of users take seconds. Nothing changes yet.

        Raises `ConfigError`.
        """
        return await trio.to_thread.run_sync(
            _read_user_file, path or self._path, text, abandon_on_cancel=True
        )

    def adopt(self, path: str | None, users: UserFile) -> None:
        """Use what was read from that file from now on."""
        self._path = path or self._path
        self._users = users
        self._admin_roles = _names_on_admin(users)
        self._made = OrderedDict()

    def _user(self, request: UserRequest) -> User | None:
        if request.roles is None:
            return self._users.users.get(request.name)
        user = self._made[request] = self._made.get(request) or self._with_roles(request, request.roles)
        self._made.move_to_end(request)
        if len(self._made) > MAX_CACHED_USERS:
            self._made.popitem(last=False)
        return user

    def _with_roles(self, request: UserRequest, asserted: tuple[RoleName, ...]) -> User:
        graph = self._users.roles
        existing = tuple(sorted({name for name in asserted if graph.role(name) is not None}))
        effective = graph.resolve(existing)
        return User(
            name=request.name,
            roles=existing,
            inherited_roles=effective.roles,
            privileges=effective.privileges,
            restrictions=effective.restrictions,
            asserted_roles=asserted,
        )


def _names_on_admin(users: UserFile) -> frozenset[str]:
    return frozenset(name.role for name in users.roles.names if name.db == "admin")


def read_users_text(path: str) -> str:
    """The text of a users file. Raises `ConfigError`."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(MAX_USER_FILE_CHARACTERS + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"security.userFile: cannot read {path}: {error}") from None
    if len(text) > MAX_USER_FILE_CHARACTERS:
        raise ConfigError(f"security.userFile: {path}: larger than 16 million characters")
    return text


def _read_user_file(path: str, text: str | None = None) -> UserFile:
    users = parse_user_file(read_users_text(path) if text is None else text, path)
    for role in users.missing_roles:
        log.warning("security.userFile %s: the role %s does not exist and grants nothing", path, role)
    return users


def open_directory(
    settings: Settings, upstream: Upstream, users_text: str | None = None
) -> UpstreamDirectory | FileDirectory:
    """The configured directory; `users_text` is its file's, when that is known. Raises `ConfigError`."""
    if settings.security.user_directory == "file":
        assert settings.security.user_file is not None  # settings are validated together
        return FileDirectory(settings.security.user_file, users_text)
    return UpstreamDirectory(settings, upstream)
