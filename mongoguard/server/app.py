"""The application: everything opened, wired and closed again, in order.

In: settings. Out: a running server, until a signal ends it. Must not decide anything about commands.

SIGTERM and SIGINT drain: no new connections, requests under way are finished within `DRAIN_SECS`; a second one ends
them at once. SIGHUP reloads the users file. SIGUSR1 reopens the audit log.
"""

from __future__ import annotations

import gc
import hashlib
import hmac
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial

import trio

from mongoguard.authn.authentication_session import AuthenticationSession
from mongoguard.authn.gssapi import GSSAPI, gssapi_logins
from mongoguard.authn.logins import Logins, scram_logins
from mongoguard.authn.oidc import OIDC, oidc_logins
from mongoguard.authn.plain import PLAIN, plain_logins
from mongoguard.authn.scram import SCRAM_MECHANISMS
from mongoguard.authn.throttle import LoginThrottle
from mongoguard.authn.x509.login import X509_MECHANISM
from mongoguard.config.settings import Settings
from mongoguard.effects import CheckPassword
from mongoguard.model.user import User, UserRequest
from mongoguard.proxy.client_session import ClientSession
from mongoguard.proxy.cursors import CursorTable
from mongoguard.proxy.localhost_exception import LocalhostException
from mongoguard.proxy.settings import SessionSettings
from mongoguard.server.arrivals import Arrival, ArrivalRefused, Arrivals
from mongoguard.server.client_connection import ClientConnection
from mongoguard.server.directory import REFRESH_SHARE, FileDirectory, UserDirectory, open_directory
from mongoguard.server.incoming import Incoming, IncomingRefused, receive_client
from mongoguard.server.kerberos import KerberosAcceptor, open_kerberos
from mongoguard.server.ldap.directory import LdapDirectory, open_ldap_directory
from mongoguard.server.ldap.user_directory import LdapUserDirectory
from mongoguard.server.listener import accept_for_ever, close_listeners, open_listeners
from mongoguard.server.oidc_keys import SigningKeys, open_signing_keys
from mongoguard.server.pid_file import pid_file
from mongoguard.server.reloading import Reloading
from mongoguard.server.shell import Shell
from mongoguard.server.sinks import AuditSink, open_audit_sink
from mongoguard.server.standing_task import keep_running
from mongoguard.server.tls import ListenerTLS
from mongoguard.server.upstream import Upstream, open_upstream
from mongoguard.wire.compression import available_compressors

__all__ = ["serve"]

log = logging.getLogger(__name__)

DRAIN_SECS = 10
"""How long requests under way may take after SIGTERM: below the 30 s after which service managers kill."""

LONG_MESSAGE_THREADS = 2
"""Threads that read, decide and (de)compress long messages. More would only take turns at the interpreter."""

FILE_REALM = " (users file)"
"""Added to the database of a file user's name upstream, so that it is nobody of the upstream's own."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)

WATCH_SECS = 0.5
"""How soon it is noticed that the client of a long request has left."""


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
    ) -> None:
        """Wire the parts; nothing runs yet."""
        self._settings = settings
        self._upstream = upstream
        self._base_directory = directory
        self._ldap_users = _ldap_users(settings, directory, ldap)
        self._directory: UserDirectory = self._ldap_users or directory
        self._sink = sink
        self._signing_keys = signing_keys
        self._tls = tls
        self._connections: set[ClientConnection] = set()
        self._connection_ended = trio.Event()
        self._cursors = CursorTable()
        self._session_settings = _session_settings(settings)
        scram = [name for name in settings.mechanisms if name in SCRAM_MECHANISMS]
        self._logins = Logins(
            sasl={
                **scram_logins(scram, _decoy_key(settings)),
                **(plain_logins(_reserved_names(settings)) if PLAIN in settings.mechanisms else {}),
                **(gssapi_logins(_reserved_names(settings)) if GSSAPI in settings.mechanisms else {}),
                **(oidc_logins(settings.set_parameter.providers) if OIDC in settings.mechanisms else {}),
            },
            x509=X509_MECHANISM in settings.mechanisms,
            throttle=LoginThrottle(settings.security.login_limits.limits),
        )
        self._localhost_exception = LocalhostException(
            enabled=settings.set_parameter.enable_localhost_auth_bypass
            and settings.security.user_directory == "upstream",
            service=upstream.service,
        )
        self._reloading = Reloading(dict(self._reloadable()))
        self._connection_count = 0
        self._arrivals = Arrivals(settings.net.max_incoming_connections)
        self._shell = Shell(
            upstream=upstream,
            directory=self._directory,
            audit=sink.write,
            users_changed=self.users_changed,
            threads=trio.CapacityLimiter(LONG_MESSAGE_THREADS),
            handshake_timeout_secs=settings.net.handshake_timeout_secs,
            message_timeout_secs=settings.net.message_timeout_secs,
            external={
                **({} if self._ldap_users is None else {CheckPassword: self._ldap_users.check_password}),
                **({} if kerberos is None else kerberos.effects),
                **signing_keys.effects,
            },
        )

    async def run(self, listeners: list[socket.socket], announce: Callable[[str], None]) -> None:
        """Serve until a signal asks to end."""
        # What the receiver puts back at its end: from there on everything is closed, and no signal is to kill that.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        # Before the announcement: whoever waits for it may send a signal the moment it comes.
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            async with trio.open_nursery() as clients:
                # Left before the draining, which would be cancelled with the services.
                async with trio.open_nursery() as services:
                    self._start(services, clients, listeners)
                    announce(f"mongoguard is listening on {_names(listeners)} (pid {os.getpid()})")
                    await self._obey_until_told_to_end(signals)
                    services.cancel_scope.cancel()
                close_listeners(listeners)
                await self._drain_until_told_again(signals)
                clients.cancel_scope.cancel()

    def _start(self, services: trio.Nursery, clients: trio.Nursery, listeners: list[socket.socket]) -> None:
        for listener in listeners:
            services.start_soon(accept_for_ever, listener, lambda s: self._take(s, clients))
        services.start_soon(self._upstream.keep_up)
        services.start_soon(self._watch_clients)
        services.start_soon(self._reloading.keep_up)
        outside = {"watching users": self._watch_users, "signing keys": self._signing_keys.keep_up}
        if self._ldap_users is not None:
            outside["LDAP groups"] = self._ldap_users.keep_up
        for name, task in outside.items():
            services.start_soon(keep_running, name, task, self.users_changed)
        services.start_soon(self._age_cursors)

    def users_changed(self) -> None:
        """No cached user may be used again; every session asks before its next command."""
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
            cursors=self._cursors,
            settings=self._session_settings,
            localhost_exception=self._localhost_exception,
        )
        return ClientConnection(incoming.transport, session, self._shell, arrival.arrived)

    async def _serve(self, sock: socket.socket, arrival: Arrival) -> None:
        with arrival:
            incoming = await self._receive(sock, arrival)
            if incoming is not None:
                await self._serve_client(self._connection(incoming, arrival))

    async def _receive(self, sock: socket.socket, arrival: Arrival) -> Incoming | None:
        try:
            return await receive_client(sock, self._settings.net, self._tls, arrival)
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
            self._connection_ended.set()
            self._connection_ended = trio.Event()

    def _obey(self, number: int) -> None:
        if number == signal.SIGUSR1:
            self._sink.reopen()
        elif number == signal.SIGHUP:
            self._reloading.ask()

    def _reloadable(self) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        """What SIGHUP reads again."""
        if isinstance(self._base_directory, FileDirectory):
            yield "the users file", partial(self._reload_users, self._base_directory)
        if self._tls is not None:
            yield "net.tls", partial(_at_once, self._tls.reload)

    async def _reload_users(self, directory: FileDirectory) -> None:
        await directory.reload()
        self.users_changed()

    async def _drain_until_told_again(self, signals: AsyncIterator[int]) -> None:
        """Let requests under way finish; a second SIGTERM ends that at once."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._obey_until_told_to_end, signals, nursery.cancel_scope)
            await self._drain()
            nursery.cancel_scope.cancel()

    async def _obey_until_told_to_end(
        self, signals: AsyncIterator[int], scope: trio.CancelScope | None = None
    ) -> None:
        async for number in signals:
            if number in (signal.SIGTERM, signal.SIGINT):
                break
            self._obey(number)
        if scope is not None:
            scope.cancel()

    async def _drain(self) -> None:
        for connection in list(self._connections):
            connection.drain()
        with trio.move_on_after(DRAIN_SECS):
            while self._connections:
                await self._connection_ended.wait()

    async def _watch_clients(self) -> None:
        """End long requests whose clients have left, so that the upstream stops working for nobody."""
        while True:
            await trio.sleep(WATCH_SECS)
            before = time.monotonic() - WATCH_SECS
            for connection in list(self._connections):
                if connection.busy_since is not None and connection.busy_since < before:
                    connection.cancel_if_client_left()

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
            self._cursors.tick()


def _requests_of(connections: Iterable[ClientConnection]) -> set[UserRequest]:
    return {c.session.user.request for c in connections if c.session.user is not None}


async def _at_once(reload: Callable[[], None]) -> None:
    reload()


def _names(listeners: Iterable[socket.socket]) -> str:
    names = []
    for sock in listeners:
        name = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            names.append(str(name))
        else:
            host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
            names.append(f"{host}:{name[1]}")
    return ", ".join(names)


def _reserved_names(settings: Settings) -> tuple[str, ...]:
    """What the names of identity providers' users begin with."""
    if OIDC not in settings.mechanisms:
        return ()
    return tuple(f"{provider.auth_name_prefix}/" for provider in settings.set_parameter.providers)


def _ldap_users(
    settings: Settings, base: UserDirectory, ldap: LdapDirectory | None
) -> LdapUserDirectory | None:
    if ldap is None:
        return None
    interval = settings.security.user_cache_invalidation_interval_secs
    return LdapUserDirectory(base, ldap, settings.ldap_staleness_secs, interval, settings.ldap_refresh_secs)


def _session_settings(settings: Settings) -> SessionSettings:
    wanted = settings.net.compression.compressors
    audit = settings.audit_log
    return SessionSettings(
        authorization_enabled=settings.security.authorization == "enabled",
        compressors=tuple(name for name in wanted if name in available_compressors()),
        explain_denials=settings.security.explain_denials,
        audit_authorization_success=audit is not None and settings.set_parameter.audit_authorization_success,
        audit_parameter_bytes=audit.parameter_max_bytes if audit is not None else 4096,
        relays_user_management=settings.security.user_directory == "upstream",
        realm="" if settings.security.user_directory == "upstream" else FILE_REALM,
        max_unauthenticated_bytes=settings.net.max_unauthenticated_message_bytes,
    )


def _decoy_key(settings: Settings) -> bytes:
    """A secret that is the same after a restart, so that a decoy salt is as stable as a real one."""
    return hmac.digest(settings.upstream.uri.reveal().encode(), b"mongoguard decoy salts", hashlib.sha256)


async def serve(settings: Settings, announce: Callable[[str], None] = print) -> None:
    """Run the server until SIGTERM or SIGINT. `announce` gets one line when it accepts connections.

    Raises `ConfigError` for what the configuration asks and cannot be had, `UpstreamError` when the upstream does not
    answer at start.
    """
    for warning in settings.warnings():
        log.warning("%s", warning)
    listeners = open_listeners(settings.net)
    try:
        with pid_file(settings.process_management.pid_file_path):
            await _serve_on(listeners, settings, announce)
    finally:
        close_listeners(listeners)


async def _serve_on(
    listeners: list[socket.socket], settings: Settings, announce: Callable[[str], None]
) -> None:
    tls = ListenerTLS(settings.net.tls, settings.set_parameter) if settings.net.tls.is_on else None
    kerberos = open_kerberos(settings)
    signing_keys = open_signing_keys(settings.set_parameter)
    async with open_upstream(settings) as upstream, open_ldap_directory(settings) as ldap:
        directory = open_directory(settings, upstream)
        async with open_audit_sink(settings.audit_log) as sink:
            _spare_the_collector()
            application = Application(
                settings, upstream, directory, sink, tls, ldap, kerberos=kerberos, signing_keys=signing_keys
            )
            await application.run(listeners, announce)


def _spare_the_collector() -> None:
    """Keep modules, tables and settings out of garbage collection, and collect less often.

    Requests leave no cycles behind; a collection in the middle of a message with 100,000 elements only looks at all of
    them again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
