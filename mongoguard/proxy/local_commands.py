"""Commands answered here, never relayed: hello (see hello.py), login, and what would name the service or the upstream.

In: a command and the session that sent it. Out: the fields of a successful reply (without ok), or `CommandError`. Must
not know sockets.
Source: the "MongoDB Handshake" and "Authentication" specifications; replies measured on mongod 6.0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bson import Binary

from mongoguard.command.arguments import safe_bool
from mongoguard.command.command import Command
from mongoguard.command.generic_of_local import check_generic_of_local
from mongoguard.command.spec import CommandRow
from mongoguard.effects import AskUpstream, Flow, RandomBytes, perform
from mongoguard.errors import CommandError, ErrorCode, UpstreamUnavailable
from mongoguard.model.privilege import Privilege
from mongoguard.proxy.deployment import PresentAs
from mongoguard.proxy.hello import hello

if TYPE_CHECKING:
    from mongoguard.proxy.client_session import ClientSession

__all__ = ["LOCAL_COMMANDS", "LOCAL_FOR_STRANGERS", "NEVER_COMPRESSED", "LocalCommand", "answer_here"]

LocalCommand = Callable[["ClientSession", Command], "Flow[dict[str, Any]]"]

NEVER_COMPRESSED = frozenset({"hello", "isMaster", "authenticate"})
"""The specification forbids to compress these, and no driver does.

It forbids saslStart and saslContinue, too, for length tells about what is compressed beside a secret. Perl's driver
compresses them all the same, mongod takes them, and a refusal would come when everything has been sent.
"""

LOCAL_FOR_STRANGERS = frozenset({"listCommands", "ping"})
"""Commands that are relayed, but not before a login: mongod answers them to anybody, and no stranger reaches it."""


def _sasl_start(session: ClientSession, command: Command) -> Flow[dict[str, Any]]:
    return (yield from session.authentication.sasl_start(command.db, command.body))


def _sasl_continue(session: ClientSession, command: Command) -> Flow[dict[str, Any]]:
    return (yield from session.authentication.sasl_continue(command.db, command.body))


def _authenticate(session: ClientSession, command: Command) -> Flow[dict[str, Any]]:
    return (yield from session.authentication.authenticate(command.db, command.body))


def _logout(session: ClientSession, command: Command) -> Flow[dict[str, Any]]:
    return (yield from session.authentication.logout(command.db, command.body))


def _connection_status(session: ClientSession, command: Command) -> Flow[dict[str, Any]]:
    yield from ()
    user = session.authentication.user
    info: dict[str, Any] = {
        "authenticatedUsers": [] if user is None else [{"user": user.name.user, "db": user.name.db}],
        "authenticatedUserRoles": []
        if user is None
        else [{"role": r.role, "db": r.db} for r in user.inherited_roles or user.roles],
    }
    if safe_bool("connectionStatus", command.body, "showPrivileges"):
        privileges = {} if user is None else user.privileges
        info["authenticatedUserPrivileges"] = [
            Privilege(resource, actions).to_document() for resource, actions in privileges.items()
        ]
    return {"authInfo": info}


def _whats_my_uri(session: ClientSession, _command: Command) -> Flow[dict[str, Any]]:
    yield from ()
    address, port = session.peer.client, session.peer.client_port
    if address is None:
        return {"you": "anonymous unix socket"}
    return {"you": f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"}


def _build_info(session: ClientSession, _command: Command) -> Flow[dict[str, Any]]:
    yield from ()
    return {k: v for k, v in session.deployment.current.build_info.items() if k != "ok" and k[:1] != "$"}


def _ping(_session: ClientSession, _command: Command) -> Flow[dict[str, Any]]:
    """Only before login: strangers do not reach the upstream. Afterwards it is relayed."""
    yield from ()
    return {}


def _list_commands(session: ClientSession, _command: Command) -> Flow[dict[str, Any]]:
    """Only before login: the upstream is asked once for all strangers, who can put no load on it that way."""
    commands = session.deployment.commands
    if commands is None:
        asked = session.deployment.current
        try:
            reply = yield from perform(AskUpstream("admin", {"listCommands": 1}))
        except UpstreamUnavailable as error:
            # Strangers are not told where the upstream is.
            raise CommandError(ErrorCode.HOST_UNREACHABLE, "mongoguard cannot reach the upstream") from error
        if not reply.get("ok"):
            raise CommandError(int(reply.get("code", ErrorCode.INTERNAL_ERROR)), str(reply.get("errmsg")))
        commands = reply.get("commands", {})
        session.deployment.remember_commands(asked, commands)
    return {"commands": commands}


def _start_session(session: ClientSession, _command: Command) -> Flow[dict[str, Any]]:
    random = bytearray((yield from perform(RandomBytes(16))))
    random[6] = random[6] & 0x0F | 0x40  # RFC 9562: version 4, variant 10
    random[8] = random[8] & 0x3F | 0x80
    return {
        "id": {"id": Binary(bytes(random), 4)},
        "timeoutMinutes": session.deployment.current.session_timeout_minutes,
    }


def _get_last_error(_session: ClientSession, _command: Command) -> Flow[dict[str, Any]]:
    yield from ()
    raise CommandError(5739000, "getLastError command is not supported")


def _is_self(session: ClientSession, _command: Command) -> Flow[dict[str, Any]]:
    yield from ()
    return {"id": session.deployment.current.instance_id}


LOCAL_COMMANDS: Mapping[str, LocalCommand] = {
    "_isSelf": _is_self,
    "authenticate": _authenticate,
    "buildInfo": _build_info,
    "connectionStatus": _connection_status,
    "getLastError": _get_last_error,
    "hello": hello,
    "isMaster": hello,
    "listCommands": _list_commands,
    "logout": _logout,
    "ping": _ping,
    "saslContinue": _sasl_continue,
    "saslStart": _sasl_start,
    "startSession": _start_session,
    "whatsmyuri": _whats_my_uri,
}
"""Canonical name -> its answer."""


def answer_here(session: ClientSession, row: CommandRow, command: Command) -> Flow[dict[str, Any]]:
    """The fields of the reply to a command of `LOCAL_COMMANDS`. Raises `CommandError`."""
    check_generic_of_local(
        row,
        command,
        logged_in=session.user is not None or not session.settings.authorization_enabled,
        with_transactions=session.deployment.current.present_as is not PresentAs.STANDALONE,
    )
    return (yield from LOCAL_COMMANDS[row.name](session, command))
