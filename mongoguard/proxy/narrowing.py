"""Narrowing: commands whose answer depends on who asks.

mongod shows a user its own operations, sessions, databases and collections only. Upstream everybody is the service
user, so what mongod would narrow by user is narrowed here: before, by a splice that makes the command ask for the real
user's things, or after, by a filter over the reply.

In: an allowed command and its user's session. Out: a `Narrowing` for the request, or a filtered reply. Must not know
sockets. A command that should be narrowed and cannot be is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bson import Int64

from mongoguard.authz.authorization_session import AuthorizationSession
from mongoguard.command.arguments import array_of_documents
from mongoguard.command.command import Command
from mongoguard.command.sessions import sessions_named
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.action_type import ActionType
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from mongoguard.proxy.identity import Identity
from mongoguard.proxy.relaying import Narrowing, array_element, sessions_for_upstream
from mongoguard.proxy.replies import parse_reply
from mongoguard.wire.document import NULL, Document, encode, encode_element
from mongoguard.wire.message import encode_op_msg, request_id_of

__all__ = [
    "filter_database_list",
    "filters_database_list",
    "keep_authorized_collections",
    "narrow",
    "narrow_for_nobody",
    "shows_only_authorized_collections",
]

_LIST_DATABASES = Privilege(CLUSTER, frozenset({ActionType.LIST_DATABASES}))


def narrow(command: Command, name: str, identity: Identity) -> Narrowing | None:
    """The narrowing of a request; None for nearly every command. `name` is the row's canonical name."""
    rule = _RULES.get(name)
    return None if rule is None else rule(command, identity)


def narrow_for_nobody(command: Command, name: str, _identity: Identity) -> Narrowing | None:
    """As `narrow`, for a connection that nobody is logged in on: its own operations are none.

    For the aggregate that `localhost_exception.is_about_oneself` lets through: the rest of its pipeline has no input.
    """
    pipeline = command.body.documents("pipeline") if name == "aggregate" else None
    if not pipeline:
        return None
    parts = [pipeline[0].raw, _NOTHING, *(stage.raw for stage in pipeline[1:])]
    return _replace(command, "pipeline", array_element("pipeline", parts))


_NOTHING = encode({"$match": {"$expr": False}})


# ---- own operations -------------------------------------------------------------------------------------------------


def _own_operations(command: Command, identity: Identity) -> Narrowing | None:
    """`currentOp` with `$ownOps`: its other top-level fields are a match on operations, so one more field narrows.

    An upstream that takes impersonation narrows by the impersonated user itself, and better: `effectiveUsers` loses
    the user of an operation in whose beginning a `$where` is compiled (measured on mongod 6.0.5).
    """
    if identity.impersonates or not command.body.truthy("$ownOps"):
        return None
    if "effectiveUsers" in command.body:
        raise CommandError(
            ErrorCode.ILLEGAL_OPERATION,
            "currentOp with $ownOps cannot be combined with a filter on effectiveUsers",
        )
    # Before the client's own conditions, which a server tries in their order: an error raised in one of them would
    # quote what it was tried on.
    position = command.body.fields[command.name].end
    return Narrowing(splices=((position, position, encode_element("effectiveUsers", _is_user(identity))),))


def _is_user(identity: Identity) -> dict[str, Any]:
    name = identity.name
    user = {"user": "", "db": ""} if name is None else {"user": name.user, "db": name.db}
    return {"$elemMatch": user}


def _own_stages(command: Command, identity: Identity) -> Narrowing | None:
    """An aggregate whose first stage lists operations or sessions of "the current user"."""
    pipeline = command.body.array("pipeline")
    if pipeline is None or not pipeline.fields:
        return None
    first = pipeline.document(next(iter(pipeline)))
    if first is None or len(first) != 1:
        return None
    (stage,) = first
    rule = _STAGE_RULES.get(stage)
    replacement = None if rule is None else rule(first, stage, identity)
    if replacement is None:
        return None
    rest = [d.raw for d in command.body.documents("pipeline") or []][1:]
    return _replace(command, "pipeline", array_element("pipeline", [*replacement, *rest]))


def _explained_stages(command: Command, identity: Identity) -> Narrowing | None:
    """explain counts what each stage returns, and its inner pipeline can't be narrowed: it is refused."""
    body = command.body.document(command.name)
    if body is None or identity.impersonates or _own_stages(Command(body, command.db), identity) is None:
        return None
    raise CommandError(
        ErrorCode.ILLEGAL_OPERATION, "own operations and sessions cannot be explained on this upstream"
    )


def _current_op_stage(first: Document, stage: str, identity: Identity) -> list[bytes] | None:
    """As `_own_operations`."""
    options = first.document(stage)
    if identity.impersonates or options is None or options.truthy("allUsers"):
        return None
    return [first.raw, encode({"$match": {"effectiveUsers": _is_user(identity)}})]


def _list_sessions_stage(first: Document, stage: str, identity: Identity) -> list[bytes] | None:
    options = first.document(stage)
    if options is None or options.truthy("allUsers") or identity.name is None:
        return None
    users = options.array("users")
    if users is not None and any(element.type != NULL for element in users.fields.values()):
        return None  # checked before: the user's own name, or the user may list sessions
    return [encode({stage: {"users": [{"user": identity.name.user, "db": identity.name.db}]}})]


_STAGE_RULES: Mapping[str, Callable[[Document, str, Identity], list[bytes] | None]] = {
    "$currentOp": _current_op_stage,
    "$listLocalSessions": _list_sessions_stage,
    "$listSessions": _list_sessions_stage,
}


# ---- own sessions ---------------------------------------------------------------------------------------------------


def _own_sessions(command: Command, identity: Identity) -> Narrowing | None:
    """endSessions, refreshSessions, killSessions: an id without a uid means a session of the user who asks."""
    sessions_named(command)  # refuses what would not be a session once it is made the user's own
    sessions = array_of_documents(command.name, command.body, command.name)
    return _replace(
        command, command.name, array_element(command.name, sessions_for_upstream(sessions, identity))
    )


def _kill_sessions(command: Command, identity: Identity) -> Narrowing | None:
    """killSessions of nothing means all of one's own, which upstream would be the service user's. Nulls are nothing."""
    if array_of_documents(command.name, command.body, command.name):
        return _own_sessions(command, identity)
    if not identity.impersonates:
        raise CommandError(
            ErrorCode.COMMAND_NOT_SUPPORTED, "killSessions needs a list of sessions on this upstream"
        )
    pattern = encode({"uid": identity.digest})
    return _replace(command, command.name, array_element("killAllSessionsByPattern", [pattern]))


def _replace(command: Command, name: str, element: bytes) -> Narrowing:
    field = command.body.fields[name]
    return Narrowing(splices=((field.start, field.end, element),))


_RULES: Mapping[str, Callable[[Command, Identity], Narrowing | None]] = {
    "aggregate": _own_stages,
    "currentOp": _own_operations,
    "endSessions": _own_sessions,
    "explain": _explained_stages,
    "killSessions": _kill_sessions,
    "refreshSessions": _own_sessions,
}


# ---- own databases --------------------------------------------------------------------------------------------------


def filters_database_list(command: Command, session: AuthorizationSession) -> bool:
    """Whether listDatabases shows this user only some databases: without the privilege, or when it asks for that."""
    authorized_only = command.body.boolean("authorizedDatabases")
    if authorized_only is not None:
        return authorized_only
    return not session.holds(_LIST_DATABASES)


def filter_database_list(reply: bytes, session: AuthorizationSession) -> bytes:
    """A listDatabases reply without the databases that this user has nothing in."""
    body = parse_reply(reply).body
    document = body.decode()
    listed = document.get("databases")
    if not isinstance(listed, list):
        return reply  # an error document
    shown = [d for d in listed if session.may_see_database(d["name"])]
    document["databases"] = shown
    if "totalSize" in document:
        total = sum(int(d.get("sizeOnDisk", 0)) for d in shown)
        document |= {"totalSize": Int64(total), "totalSizeMb": Int64(total // (1024 * 1024))}
    return _with_body(reply, document)


# ---- own collections ------------------------------------------------------------------------------------------------


def shows_only_authorized_collections(command: Command) -> bool:
    """Whether listCollections shows only collections that the user has some action on: whenever it asks for that."""
    return command.body.truthy("authorizedCollections")


def keep_authorized_collections(reply: bytes, db: str, session: AuthorizationSession) -> bytes:
    """A batch of a listCollections cursor without the collections that this user has no action on."""
    document = parse_reply(reply).body.decode()
    cursor = document.get("cursor")
    if not isinstance(cursor, dict):
        return reply  # an error document
    for batch in ("firstBatch", "nextBatch"):
        if batch in cursor:
            cursor[batch] = [
                c
                for c in cursor[batch]
                if session.any_action_on(ResourcePattern.for_exact_namespace(db, c["name"]))
            ]
    return _with_body(reply, document)


def _with_body(reply: bytes, document: dict[str, Any]) -> bytes:
    response_to = int.from_bytes(reply[8:12], "little", signed=True)
    return encode_op_msg(request_id_of(reply), response_to, encode(document))
