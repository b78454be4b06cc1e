"""Serving: everything opened, wired and closed again, in order, in the only process of a server.

In: a configuration. Out: a running server, until a signal ends it. Must not decide anything about commands.

SIGTERM and SIGINT drain; a second one ends at once. SIGHUP reloads the configuration and the files that it names.
SIGUSR1 reopens the audit log, SIGUSR2 says in the log how much there is to do.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import trio
from bson import ObjectId

from mongoguard.config.loading import read_config
from mongoguard.config.settings import Settings
from mongoguard.errors import ConfigError
from mongoguard.server.app import Application, Order
from mongoguard.server.directory import open_directory
from mongoguard.server.kerberos import open_kerberos
from mongoguard.server.ldap.directory import open_ldap_directory
from mongoguard.server.listener import close_listeners, open_listeners
from mongoguard.server.oidc_keys import open_signing_keys
from mongoguard.server.pid_file import pid_file
from mongoguard.server.prepared_reload import NotReloaded
from mongoguard.server.ready_sockets import call_after_stops
from mongoguard.server.reloading import Reloading, tell_not_reloaded, tell_reloaded
from mongoguard.server.siblings import Alone, Siblings
from mongoguard.server.sinks import open_audit_sink
from mongoguard.server.tls import ListenerTLS
from mongoguard.server.upstream import open_upstream

__all__ = ["END_SIGNALS", "SIGNALS", "listening_line", "open_application", "serve", "spare_the_collector"]

log = logging.getLogger(__name__)

END_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (*END_SIGNALS, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

_ORDERS = {signal.SIGUSR1: Order.REOPEN, signal.SIGUSR2: Order.TELL}


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
            async with open_application(settings, Alone(settings)) as application:
                await _run(application, settings.source, listeners, announce)
    finally:
        close_listeners(listeners)


async def _run(
    application: Application, source: str, listeners: list[socket.socket], announce: Callable[[str], None]
) -> None:
    reloading = Reloading(lambda: _reload(application, source))

    async def ready() -> None:
        announce(listening_line(listeners))

    # What the receiver puts back at its end: from there on everything is closed, and no signal is to kill that.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # Before the announcement: whoever waits for it may send a signal the moment it comes.
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reloading.keep_up)
            orders = _orders(signals, reloading)
            await application.run(listeners, orders, ready, lambda: close_listeners(listeners))
            nursery.cancel_scope.cancel()


async def _orders(signals: AsyncIterator[int], reloading: Reloading) -> AsyncIterator[Order]:
    async for number in signals:
        if number == signal.SIGHUP:
            reloading.ask()
        else:
            yield _ORDERS.get(signal.Signals(number), Order.END)


async def _reload(application: Application, source: str) -> None:
    """Take over the configuration file as it is now, all or nothing."""
    try:
        _, wanted = await trio.to_thread.run_sync(read_config, source)
        prepared = await application.prepare_reload(wanted, None)
    except NotReloaded as error:
        tell_not_reloaded(error.part, error)
    except ConfigError as error:
        tell_not_reloaded("the configuration", error)
    else:
        application.commit_reload(prepared)
        tell_reloaded(prepared.parts, prepared.reload)


@asynccontextmanager
async def open_application(
    settings: Settings,
    siblings: Siblings,
    users_text: str | None = None,
    service_id: ObjectId | None = None,
) -> AsyncIterator[Application]:
    """Everything that an application needs, and the application; closed in the other order.

    `users_text` is the users file's, when it is not to be read here; `service_id` is what clients behind a load
    balancer know the server by, when there are other processes of it. Raises as `serve` does.
    """
    tls = ListenerTLS(settings.net.tls, settings.set_parameter) if settings.net.tls.is_on else None
    kerberos = open_kerberos(settings)
    signing_keys = open_signing_keys(settings.set_parameter)
    async with open_upstream(settings, service_id) as upstream, open_ldap_directory(settings) as ldap:
        directory = open_directory(settings, upstream, users_text)
        async with open_audit_sink(settings.audit_log, siblings.turns) as sink:
            spare_the_collector()
            application = Application(
                settings,
                upstream,
                directory,
                sink,
                tls,
                ldap,
                kerberos=kerberos,
                signing_keys=signing_keys,
                siblings=siblings,
            )
            # Users may have been changed elsewhere, long ago, and requests have come meanwhile.
            call_after_stops(application.invalidate_users)
            yield application


def listening_line(listeners: Iterable[socket.socket]) -> str:
    """What is said once, when connections are accepted."""
    names = []
    for sock in listeners:
        name = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            names.append(str(name))
        else:
            host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
            names.append(f"{host}:{name[1]}")
    return f"mongoguard is listening on {', '.join(dict.fromkeys(names))} (pid {os.getpid()})"


def spare_the_collector() -> None:
    """Keep modules, tables and settings out of garbage collection, and collect less often.

    Requests leave no cycles behind; a collection in the middle of a message with 100,000 elements only looks at all of
    them again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
