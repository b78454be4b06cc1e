"""The application: the client connections of one process, and what they share.

In: settings and opened parts; orders; accepted sockets. Out: served clients, until an order ends it. Must not decide
anything about commands, nor know where orders come from: signals, or a supervisor.

The order to end drains: no new connections, and requests and transactions under way are finished within `DRAIN_SECS`;
a second one ends them at once.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from functools import partial

import trio

from mongoguard.authn.authentication_session import AuthenticationSession
from mongoguard.config.reloadable import reload_settings
from mongoguard.config.settings import Settings
from mongoguard.config.user_file import UserFile
from mongoguard.effects import CheckPassword
from mongoguard.errors import ConfigError, UpstreamConnectionLost
from mongoguard.model.user import User, UserRequest
from mongoguard.proxy.client_session import ClientSession
from mongoguard.proxy.cursors import CursorTable
from mongoguard.proxy.localhost_exception import LocalhostException
from mongoguard.proxy.transactions import OpenTransactions
from mongoguard.server.arrivals import Arrival, ArrivalRefused, Arrivals
from mongoguard.server.client_connection import ClientConnection
from mongoguard.server.configured import logins_of, session_settings
from mongoguard.server.directory import REFRESH_SHARE, FileDirectory, UserDirectory
from mongoguard.server.draining import abort_transactions, drain
from mongoguard.server.early_requests import EarlySockets, answers_at_once
from mongoguard.server.incoming import Incoming, IncomingRefused, receive_client
from mongoguard.server.kerberos import KerberosAcceptor
from mongoguard.server.ldap.directory import LdapDirectory
from mongoguard.server.ldap.user_directory import LdapUserDirectory
from mongoguard.server.listener import accept_for_ever, max_clients
from mongoguard.server.log import set_verbosity
from mongoguard.server.oidc_keys import SigningKeys
from mongoguard.server.prepared_reload import NotReloaded, PreparedReload
from mongoguard.server.ready_sockets import ready_sockets
from mongoguard.server.shared_counts import Count, tell_status
from mongoguard.server.shell import Shell
from mongoguard.server.siblings import Siblings
from mongoguard.server.sinks import AuditSink, CountingSink
from mongoguard.server.standing_task import keep_running
from mongoguard.server.tls import ListenerTLS
from mongoguard.server.tls_context import LoadedTLS
from mongoguard.server.upstream import Upstream
from mongoguard.server.withdrawals import end_revoked, withdraw_groups, withdraw_keys

__all__ = ["Application", "Order"]

log = logging.getLogger(__name__)

LONG_MESSAGE_THREADS = 2
"""Threads that read, decide and (de)compress long messages. More would only take turns at the interpreter."""

WATCH_SECS = 0.5
"""How soon it is noticed that the client of a long request has left."""


class Order(StrEnum):
    """What a running application is told to do."""

    END = "end"
    """Drain; the second time: end at once."""
    REOPEN = "reopen"
    """Open the audit log by its name again."""
    TELL = "tell"
    """Say in the log how much there is to do."""


class Application:
    """The connections of one process, and what they share."""

    def __init__(
        self,
        settings: Settings,
        upstream: Upstream,
        directory: UserDirectory,
        sink: AuditSink,
        tls: ListenerTLS | None,
        ldap: LdapDirectory | None,
        *,
        kerberos: KerberosAcceptor | None,
        signing_keys: SigningKeys,
        siblings: Siblings,
    ) -> None:
        """Wire the parts; nothing runs yet."""
        self._settings = settings
        self._upstream = upstream
        self._base_directory = directory
        self._connections: set[ClientConnection] = set()
        withdraw = partial(withdraw_groups, self._connections)
        self._ldap_users = _ldap_users(settings, directory, ldap, withdraw)
        self._directory: UserDirectory = self._ldap_users or directory
        self._sink = sink = CountingSink(sink)
        self._signing_keys = signing_keys
        self._tls = tls
        self._connection_ended = trio.Event()
        self._siblings = siblings
        self.cursors = CursorTable(has_siblings=siblings.are_there)
        self._transactions = OpenTransactions()
        self._session_settings = session_settings(settings)
        self._logins = logins_of(settings, siblings.throttle)
        self.localhost_exception = LocalhostException(
            enabled=settings.set_parameter.enable_localhost_auth_bypass
            and settings.security.user_directory == "upstream",
            service=upstream.service,
            tell_closed=siblings.exception_closed,
        )
        self._connection_count = 0
        self._arrivals = Arrivals(settings.net.max_incoming_connections, siblings.counts, max_clients())
        self._shell = Shell(
            upstream=upstream,
            directory=self._directory,
            audit=sink.write,
            users_changed=self.users_changed,
            threads=trio.CapacityLimiter(LONG_MESSAGE_THREADS),
            message_timeout_secs=settings.net.message_timeout_secs,
            external={
                **({} if self._ldap_users is None else {CheckPassword: self._ldap_users.check_password}),
                **({} if kerberos is None else kerberos.effects),
                **signing_keys.effects,
                **siblings.effects,
            },
            at_once=answers_at_once(self._directory, sink),
            early=None if (ready := ready_sockets()) is None else EarlySockets(ready),
        )

    async def run(
        self,
        listeners: list[socket.socket],
        orders: AsyncIterator[Order],
        ready: Callable[[], Awaitable[None]],
        close: Callable[[], None],
    ) -> None:
        """Serve until an order asks to end. `ready` is awaited before the first client is; `close` ends listening."""
        async with trio.open_nursery() as clients:
            # Left before the draining, which would be cancelled with the services.
            async with trio.open_nursery() as services:
                self._start(services)
                await ready()
                for listener in listeners:
                    services.start_soon(
                        accept_for_ever,
                        listener,
                        lambda s: self._take(s, clients),
                        self._arrivals.hesitation_secs,
                        self._shell.wait_readable,
                    )
                await self._obey_until_told_to_end(orders)
                services.cancel_scope.cancel()
            close()
            await self._drain_until_told_again(orders)
            await abort_transactions(self._connections, self._transactions.aborts, self._upstream)
            clients.cancel_scope.cancel()

    def _start(self, services: trio.Nursery) -> None:
        services.start_soon(self._upstream.keep_up)
        services.start_soon(self._watch_clients)
        outside: dict[str, Callable[[], Awaitable[None]]] = {
            "watching users": self._watch_users,
            "signing keys": partial(self._signing_keys.keep_up, partial(withdraw_keys, self._connections)),
        }
        if self._ldap_users is not None:
            outside["LDAP groups"] = self._ldap_users.keep_up
            outside["ends of LDAP answers"] = self._ldap_users.keep_withdrawing
        for name, task in outside.items():
            services.start_soon(keep_running, name, task, self.invalidate_users)
        services.start_soon(self._age_cursors)

    async def users_changed(self) -> None:
        """No cached user may be used again, here or in any other process: every session asks before its next command.

        Raises `UpstreamConnectionLost` when that is not certain of the others.
        """
        self.invalidate_users()
        if self._siblings.are_there:
            with trio.CancelScope(
                shield=True
            ):  # it has a deadline; and who left in mid-command changed users, too
                await self._siblings.users_changed()

    def invalidate_users(self) -> None:
        """No cached user may be used again here."""
        self._directory.invalidate()
        for connection in self._connections:
            connection.session.invalidate()

    def _take(self, sock: socket.socket, clients: trio.Nursery) -> None:
        try:
            clients.start_soon(self._serve, sock, self._arrivals.begin())
        except ArrivalRefused as refused:
            sock.close()
            self._arrivals.tell(refused)

    def _connection(self, incoming: Incoming, arrival: Arrival) -> ClientConnection:
        self._connection_count += 1
        session = ClientSession(
            peer=incoming.peer,
            connection_id=self._connection_count,
            authentication=AuthenticationSession(self._logins, incoming.peer, incoming.channel),
            deployment=self._upstream.deployment,
            cursors=self.cursors,
            settings=self._session_settings,
            localhost_exception=self.localhost_exception,
            transactions=self._transactions,
        )
        return ClientConnection(
            incoming.transport, session, self._shell, arrival.arrived, incoming.first_message_by
        )

    async def _serve(self, sock: socket.socket, arrival: Arrival) -> None:
        with arrival:
            incoming = await self._receive(sock, arrival)
            if incoming is not None:
                await self._serve_client(self._connection(incoming, arrival))

    async def _receive(self, sock: socket.socket, arrival: Arrival) -> Incoming | None:
        try:
            return await receive_client(
                sock, self._settings.net, self._tls, arrival, self._shell.wait_readable
            )
        except ArrivalRefused as refused:
            sock.close()
            self._arrivals.tell(refused)
        except (IncomingRefused, OSError) as error:
            sock.close()
            log.info("a connection is refused: %s", error)
            if isinstance(error, IncomingRefused):
                await self._sink.write(error.event)
        except Exception:
            sock.close()
            log.exception("a connection is closed by an internal error")
        except BaseException:
            sock.close()
            raise
        return None

    async def _serve_client(self, connection: ClientConnection) -> None:
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
            connection.session.transactions.forget()
            await self._give_connection(connection)
            self._connection_ended.set()
            self._connection_ended = trio.Event()

    async def _give_connection(self, connection: ClientConnection) -> None:
        if self._logins.limits_connections:
            with suppress(UpstreamConnectionLost):  # then this process ends, and holds nothing any more
                await self._siblings.connection_ended(connection.session.authentication)

    # ---- reloading --------------------------------------------------------------------------------------------------

    async def prepare_reload(self, wanted: Settings, users_text: str | None) -> PreparedReload:
        """Read and check everything that these settings name; nothing changes yet. Raises `NotReloaded`.

        `users_text` is the users file's, for an application that must not read it itself.
        """
        reload = reload_settings(self._settings, wanted)
        settings = reload.settings
        users: UserFile | None = None
        tls: LoadedTLS | None = None
        if isinstance(self._base_directory, FileDirectory):
            try:
                users = await self._base_directory.read(settings.security.user_file, users_text)
            except ConfigError as error:
                raise NotReloaded("the users file", error) from None
        if self._tls is not None:
            try:
                tls = self._tls.read(settings.net.tls, settings.set_parameter)
            except ConfigError as error:
                raise NotReloaded("net.tls", error) from None
        return PreparedReload(reload, users, tls)

    def commit_reload(self, prepared: PreparedReload) -> None:
        """Use them from now on. Never fails, and is done at once."""
        settings = self._settings = prepared.reload.settings
        if prepared.users is not None and isinstance(self._base_directory, FileDirectory):
            self._base_directory.adopt(settings.security.user_file, prepared.users)
            self.invalidate_users()
        if prepared.tls is not None and self._tls is not None:
            self._tls.adopt(settings.net.tls, settings.set_parameter, prepared.tls)
            end_revoked(self._connections, self._tls.revokes)
        set_verbosity(settings.system_log)
        self._upstream.change(settings.upstream)
        self._arrivals.max_open = settings.net.max_incoming_connections
        self._siblings.limits_changed(settings)
        self._shell = replace(self._shell, message_timeout_secs=settings.net.message_timeout_secs)
        self._session_settings = session_settings(settings)
        for connection in self._connections:
            connection.session.settings = self._session_settings

    # ---- orders -----------------------------------------------------------------------------------------------------

    async def _drain_until_told_again(self, orders: AsyncIterator[Order]) -> None:
        """Let what is under way finish; a second order to end stops that at once."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._obey_until_told_to_end, orders, nursery.cancel_scope)
            await drain(self._connections, lambda: self._connection_ended)
            nursery.cancel_scope.cancel()

    async def _obey_until_told_to_end(
        self, orders: AsyncIterator[Order], scope: trio.CancelScope | None = None
    ) -> None:
        async for order in orders:
            if order is Order.END:
                break
            if order is Order.TELL:
                tell_status(1, self._status)
            else:
                self._sink.reopen()
        if scope is not None:
            scope.cancel()

    def _status(self, count: Count) -> int:
        return {
            Count.OPEN: self._arrivals.open,
            Count.ARRIVING: self._arrivals.arriving,
            Count.ACCEPTED: self._connection_count,
            Count.CURSORS: len(self.cursors),
            Count.RELAYED: self._upstream.answered,
            Count.REFUSED: self._sink.refused,
        }[count]

    async def _watch_clients(self) -> None:
        """End long requests whose clients have left, so that the upstream stops working for nobody."""
        while True:
            await trio.sleep(WATCH_SECS)
            for count in (Count.ACCEPTED, Count.CURSORS, Count.RELAYED, Count.REFUSED):
                self._siblings.counts.tell(count, self._status(count))
            before = time.monotonic() - WATCH_SECS
            for connection in list(self._connections):
                if connection.busy_since is not None and connection.busy_since < before:
                    connection.look_after()

    async def _watch_users(self) -> None:
        """Ask the directory again for the users of live sessions, in case they were changed elsewhere."""
        interval: float = self._settings.security.user_cache_invalidation_interval_secs
        if self._ldap_users is not None:
            interval = self._ldap_users.watch_secs
        while True:
            await trio.sleep(interval)
            requests = _requests_of(self._connections)
            current: Mapping[UserRequest, User | None] = {}
            with trio.move_on_after(interval * REFRESH_SHARE):
                current = await self._directory.refresh(requests)
            for connection in self._connections:
                user = connection.session.user
                # Not "changed since the last refresh": a login in between has seen the change, older sessions have not.
                if user is not None and user.request in requests and current.get(user.request) is not user:
                    connection.session.invalidate()

    async def _age_cursors(self) -> None:
        while True:
            await trio.sleep(60)
            self.cursors.tick()


def _requests_of(connections: Iterable[ClientConnection]) -> set[UserRequest]:
    return {c.session.user.request for c in connections if c.session.user is not None}


def _ldap_users(
    settings: Settings,
    base: UserDirectory,
    ldap: LdapDirectory | None,
    withdraw: Callable[[frozenset[str]], None],
) -> LdapUserDirectory | None:
    if ldap is None:
        return None
    interval = settings.security.user_cache_invalidation_interval_secs
    staleness, refresh = settings.ldap_staleness_secs, settings.ldap_refresh_secs
    return LdapUserDirectory(base, ldap, staleness, interval, refresh, withdraw)
