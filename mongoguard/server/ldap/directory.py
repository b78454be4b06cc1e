"""LdapDirectory: the steps of a login by an LDAP directory, each one callable by itself.

In: settings; names, passwords. Out: servers, connections, bind names, bind answers, groups, roles. Must not know
clients, users' sessions, or how long an answer may be kept.

In the order of a login: `servers`, `connect`, `bind_service`, `bind_name`, `bind_user`, `groups`, `roles`. A login by
`check` takes them with fail-over, the pool and the time limits; `mongoguard ldap` shows them one by one.

Time: each try of a server, and each search, has `timeoutMS`; a whole question (a password, a user's groups) has
`timeoutMS` times the tries that it may take: the number of servers, at most four of them, plus `retryCount`.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import trio

from mongoguard.authn.ldap.group_lookup import strategy_problem
from mongoguard.authn.ldap.query import LdapEntry, LdapFlow, LdapQuery
from mongoguard.authn.ldap.role_mapping import DnRoles, GroupRoles
from mongoguard.config.ldap_section import Ldap
from mongoguard.config.settings import Settings
from mongoguard.errors import ConfigError, DirectoryUnavailable
from mongoguard.server.ldap.bind_answer import BindAnswer
from mongoguard.server.ldap.connection import DirectoryConnectionLost, LdapConnection, LdapServer, Transport
from mongoguard.server.ldap.native_tls import directory_context
from mongoguard.server.ldap.pool import SearchPool
from mongoguard.server.ldap.servers import HostLookup, Servers
from mongoguard.server.ldap.srv import SrvLookup

__all__ = ["LdapDirectory", "open_ldap_directory"]

T = TypeVar("T")

MAX_THREADS = 8
"""Worker threads for ldap3: 250 logins a second (100 binds over TLS took 0.33 s on eight), and no more stacks than
that when a server hangs."""

KERBEROS_THREADS = 2
"""Worker threads for binds by ticket, which may wait for a KDC for longer than anybody waits for them."""

LONG = 100
"""Entries, groups, or characters of a name whose parsing takes milliseconds, in which no client would be served: it is
done in a thread."""

MAX_SERVERS_TRIED = 4
"""Servers that one question tries: those that failed are passed over by the next one, and drivers wait for 20 s."""

REFUSED_SECS = 10.0
"""After the service's passwords were refused they are not tried again for so long: each wrong one brings its account
nearer to a lock-out, and every login would try them."""

_MECHANISM_UNKNOWN = frozenset({1, 7})
"""authMethodNotSupported (RFC 4511 section 4.1.9), for which Samba says operationsError."""

GRACE_SECS = 0.1
"""By which a whole question may be longer than its tries: the last try's error says more than that time was up."""


class LdapDirectory:
    """The configured directory. `close` ends its connections."""

    def __init__(self, settings: Settings, lookup: HostLookup | None = None) -> None:
        """Read the CA's file, find the Kerberos library; nothing is connected yet. `lookup` finds SRV records.

        Raises `ConfigError`.
        """
        assert settings.security.ldap is not None  # whoever makes a directory has looked
        self.ldap: Ldap = settings.security.ldap
        self._timeout = self.ldap.timeout_ms / 1000
        security = self.ldap.transport_security
        context = None if security == "none" else directory_context(self.ldap.ca_file)
        self._transport = Transport(security, context)
        self._servers = Servers(
            self.ldap.servers,
            self.ldap.default_port,
            lookup or SrvLookup(self._timeout, is_tls=security == "tls"),
        )
        if self.ldap.bind.by_ticket:
            _require_kerberos()
        self._threads = trio.CapacityLimiter(MAX_THREADS)
        self._kerberos_threads = trio.CapacityLimiter(KERBEROS_THREADS)
        self._working_password = 0
        self._nobody = f"cn=nobody-{os.urandom(16).hex()}"
        self._refused: tuple[float, str] = (-REFUSED_SECS, "")
        self.pool = SearchPool(
            self._open_for_searches,
            self._servers.failed,
            settings.set_parameter.search_connections,
            settings.set_parameter.search_idle_secs,
        )

    # ---- the steps --------------------------------------------------------------------------------------------------

    async def servers(self) -> list[LdapServer]:
        """The servers in the configured order, SRV names looked up. Raises `DirectoryUnavailable`."""
        with self._question(1):
            return await self._servers.resolve()

    async def connect(self, server: LdapServer) -> LdapConnection:
        """An open, secured connection to that server; the caller closes it. Raises `DirectoryConnectionLost`."""
        with trio.move_on_after(self._timeout):
            return await LdapConnection.open(server, self._transport, self._threads)
        raise self._too_slow(server)

    async def bind_service(self, connection: LdapConnection) -> None:
        """Bind as `bind.queryUser`, with the first of its passwords that holds, or by a Kerberos ticket; without any of
        that, searches are anonymous.

        Raises `DirectoryUnavailable` when none holds.
        """
        if self.ldap.bind.is_anonymous:
            return
        passwords = tuple(secret.reveal() for secret in self.ldap.bind.query_passwords) or ("",)
        refused_at, problem = self._refused
        if trio.current_time() - refused_at < REFUSED_SECS:
            raise DirectoryUnavailable(problem)
        answer = None
        # Each wrong one counts towards a lock-out of the service, so the one that worked last is the first.
        for i in sorted(range(len(passwords)), key=lambda i: i != self._working_password):
            answer = await self._bind_service_by(connection, passwords[i])
            if answer.accepted:
                self._working_password = i
                return
            if not answer.refused:
                break
        assert answer is not None  # there is at least one password, if an empty one for a ticket
        problem = f"{connection.server} does not accept {self._service_key}: {answer.reason}"
        if answer.refused:
            self._refused = trio.current_time(), problem
        raise DirectoryUnavailable(problem)

    async def bind_name(self, user_name: str) -> str:
        """What `userToDNMapping` makes of a client's name. Raises `LdapRefusal`, `DirectoryUnavailable`."""
        with self._question():
            return await self._run(self.ldap.mapping.bind_name(user_name), len(user_name))

    async def bind_user(self, bind_name: str, password: str) -> BindAnswer:
        """Whether the directory accepts this name and password: a bind on a connection of its own.

        The answer is accepted or refused; anything else raises `DirectoryUnavailable`.
        """
        answer = await self._bind_alone(bind_name, password)
        if not (answer.accepted or answer.refused):
            raise DirectoryUnavailable(answer.reason)
        return answer

    async def bind_nobody(self, password: str) -> None:
        """What `bind_user` does, for a name that nobody has: the time that a refusal takes tells nobody who exists."""
        await self._bind_alone(self._nobody, password)

    async def groups(self, bind_name: str, provided_user: str) -> tuple[str, ...]:
        """The DNs of the user's groups. Raises `LdapRefusal`, `DirectoryUnavailable`; needs `authz.queryTemplate`."""
        assert self.ldap.lookup is not None
        with self._question():
            return await self._run(self.ldap.lookup.groups(bind_name, provided_user))

    async def roles(self, groups: Collection[str], named_as_dns: DnRoles) -> GroupRoles:
        """The roles that those groups give: by `roleMapping`, and by roles on admin that are named as the group."""
        return await self._in_thread_if_long(len(groups), self.ldap.role_table.resolve, groups, named_as_dns)

    # ---- the whole --------------------------------------------------------------------------------------------------

    async def validate(self) -> None:
        """Connect, bind the service, and ask whether `nestedGroups` can work on this server.

        Raises `DirectoryUnavailable`, and `ConfigError` for a strategy that this server does not know.
        """
        if self.ldap.bind.is_anonymous:
            with self._question():
                connection = await self._on_any_server(_nothing_more)
            connection.close()
            return
        problem = await self.strategy_problem()
        if problem is not None:
            raise ConfigError(problem)

    async def strategy_problem(self) -> str | None:
        """Why `nestedGroups` cannot work on this server; None when it can. Raises `DirectoryUnavailable`."""
        with self._question():
            await self.search(LdapQuery(""))
            return await self._run(strategy_problem(self.ldap.strategy))

    async def search(self, query: LdapQuery) -> tuple[LdapEntry, ...]:
        """A search by the service, on the pool. Raises `LdapRefusal`, `DirectoryUnavailable`."""
        for left in reversed(range(self._tries)):
            try:
                return await self.pool.search(query, lambda: trio.move_on_after(self._timeout))
            except DirectoryConnectionLost:
                if not left:
                    raise
        raise AssertionError("there is at least one server")

    def close(self) -> None:
        """Close the connections that wait to be used."""
        self.pool.close_idle(0)

    @property
    def _service_key(self) -> str:
        """What is wrong when the service is refused."""
        bind = self.ldap.bind
        return "security.ldap.bind.queryUser" if bind.query_user is not None else "the Kerberos ticket"

    async def _bind_service_by(self, connection: LdapConnection, password: str) -> BindAnswer:
        """Bind by the configured method; by the first mechanism that the server knows."""
        bind = self.ldap.bind
        if bind.method == "simple":
            assert bind.query_user is not None  # or searches are anonymous
            return await connection.bind(bind.query_user, password)
        answer = None
        for mechanism in bind.sasl_mechanisms:
            threads = self._kerberos_threads if mechanism == "GSSAPI" else self._threads
            answer = await connection.bind_by_sasl(mechanism, bind.query_user, password, threads)
            if answer.code not in _MECHANISM_UNKNOWN:
                break
        assert answer is not None  # the list is not empty
        return answer

    async def _bind_alone(self, bind_name: str, password: str) -> BindAnswer:
        async def bind(connection: LdapConnection) -> BindAnswer:
            try:
                return await connection.bind(bind_name, password)
            finally:
                connection.close()

        with self._question():
            return await self._on_any_server(bind)

    # ---- how --------------------------------------------------------------------------------------------------------

    async def _open_for_searches(self) -> LdapConnection:
        async def bind(connection: LdapConnection) -> LdapConnection:
            await self.bind_service(connection)
            return connection

        return await self._on_any_server(bind)

    async def _on_any_server(self, work: Callable[[LdapConnection], Awaitable[T]]) -> T:
        """Connect to the first server that can be used and do `work` on the connection.

        Raises `DirectoryConnectionLost` with every server's problem; other errors of `work` are passed on. The
        connection is closed when `work` fails.
        """
        candidates = await self._servers.candidates()
        problems: dict[str, None] = {}
        for server in itertools.islice(itertools.cycle(candidates), self._tries):
            try:
                with trio.move_on_after(self._timeout):
                    result = await self._on_server(server, work)
                    self._servers.answered(server)
                    return result
                raise self._too_slow(server)
            except DirectoryConnectionLost as error:
                self._servers.failed(server, str(error))
                problems[str(error)] = None
        raise DirectoryConnectionLost("; ".join(problems))

    async def _on_server(self, server: LdapServer, work: Callable[[LdapConnection], Awaitable[T]]) -> T:
        connection = await LdapConnection.open(server, self._transport, self._threads)
        try:
            return await work(connection)
        except BaseException:
            connection.close()
            raise

    async def _run(self, flow: LdapFlow[T], size: int = 0) -> T:
        """Carry out a flow's searches; `size` is that of the name it begins with."""
        done, outcome = await self._in_thread_if_long(size, _step, flow, None)
        while not done:
            entries = await self.search(outcome)
            done, outcome = await self._in_thread_if_long(len(entries), _step, flow, entries)
        result: T = outcome
        return result

    async def _in_thread_if_long(self, size: int, work: Callable[..., T], *arguments: object) -> T:
        if size < LONG:
            return work(*arguments)
        return await trio.to_thread.run_sync(work, *arguments, limiter=self._threads)

    @property
    def _tries(self) -> int:
        return min(self._servers.count, MAX_SERVERS_TRIED) + self.ldap.retry_count

    @contextmanager
    def _question(self, tries: int | None = None) -> Iterator[None]:
        """The time limit of a whole question."""
        seconds = self._timeout * (self._tries if tries is None else tries)
        with trio.move_on_after(seconds + GRACE_SECS) as scope:
            yield
        if scope.cancelled_caught:
            raise DirectoryUnavailable(f"the directory did not answer within {seconds:g} s")

    def _too_slow(self, server: LdapServer) -> DirectoryConnectionLost:
        return DirectoryConnectionLost(f"{server} did not answer within {self._timeout:g} s")


async def _nothing_more(connection: LdapConnection) -> LdapConnection:
    return connection


def _require_kerberos() -> None:
    if importlib.util.find_spec("gssapi") is None:
        raise ConfigError(
            "security.ldap.bind.saslMechanisms: GSSAPI needs the Python package gssapi: "
            "pip install 'mongoguard-proxy[kerberos]' builds it with gcc and libkrb5-dev"
        )


def _step(flow: LdapFlow[Any], entries: Sequence[LdapEntry] | None) -> tuple[bool, Any]:
    """Send the entries into the flow: (False, its next query) or (True, its result)."""
    try:
        return False, next(flow) if entries is None else flow.send(entries)
    except StopIteration as stop:  # must not leave a thread as an exception
        return True, stop.value


@asynccontextmanager
async def open_ldap_directory(settings: Settings) -> AsyncIterator[LdapDirectory | None]:
    """The configured directory while the block runs, None without `security.ldap`.

    Raises what `LdapDirectory.validate` raises, unless `validateLDAPServerConfig` is off.
    """
    if settings.security.ldap is None:
        yield None
        return
    directory = LdapDirectory(settings)
    try:
        if settings.security.ldap.validate_server_config:
            await _validate(directory)
        yield directory
    finally:
        directory.close()


async def _validate(directory: LdapDirectory) -> None:
    try:
        await directory.validate()
    except DirectoryUnavailable as error:
        hint = "with security.ldap.validateLDAPServerConfig: false mongoguard starts without it"
        raise DirectoryUnavailable(f"security.ldap: {error} ({hint})") from None
