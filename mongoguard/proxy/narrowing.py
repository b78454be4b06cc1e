"""Narrowing: commands whose answer depends on who asks.

mongod shows a user its own operations, sessions, databases and collections only. Upstream everybody is the service
user, so what mongod would narrow by user is narrowed here: before, by a splice that makes the command ask for the real
user's things, or after, by a filter over the reply. And whom a command names is named as the upstream knows them
(named_users.py).

In: an allowed command and its user's session. Out: a `Narrowing` for the request, or a filtered reply. Must not know
sockets. A command that should be narrowed and cannot be is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bson import Int64

from mongoguard.authz.authorization_session import AuthorizationSession
from mongoguard.command.arguments import array_of_documents, refuse_unknown_fields, required_string
from mongoguard.command.command import Command
from mongoguard.command.sessions import sessions_named
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.action_type import ActionType
from mongoguard.model.names import UserName
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from mongoguard.proxy.identity import Identity, session_digest
from mongoguard.proxy.named_users import names_upstream, uid_upstream, with_values
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
    """An aggregate that lists operations or sessions of "the current user", or sessions of users that it names."""
    pipeline = command.body.array("pipeline")
    if pipeline is None or not pipeline.fields:
        return None
    listing = _narrowed_lists(pipeline, identity)
    if listing is not None:
        return _replace_value(command, "pipeline", listing)
    first = pipeline.document(next(iter(pipeline)))
    if first is None or identity.impersonates or not _is_own_operations(first):
        return None
    match = encode({"$match": {"effectiveUsers": _is_user(identity)}})
    rest = [d.raw for d in command.body.documents("pipeline") or []][1:]
    return _replace(command, "pipeline", array_element("pipeline", [first.raw, match, *rest]))


def _is_own_operations(stage: Document) -> bool:
    """As `_own_operations`."""
    options = stage.document("$currentOp") if len(stage) == 1 else None
    return options is not None and not options.truthy("allUsers")


def _explained_stages(command: Command, identity: Identity) -> Narrowing | None:
    """explain counts what each stage returns, so that a stage behind `$currentOp` narrows nothing: it is refused."""
    body = command.body.document(command.name)
    pipeline = None if body is None else body.array("pipeline")
    if body is None or pipeline is None:
        return None
    if not identity.impersonates and _own_stages(Command(body, command.db), identity) is not None:
        raise CommandError(
            ErrorCode.ILLEGAL_OPERATION, "own operations and sessions cannot be explained on this upstream"
        )
    listing = _narrowed_lists(pipeline, identity)
    if listing is None:
        return None
    return _replace_value(command, command.name, with_values(body, {"pipeline": listing}))


# ---- lists of sessions ----------------------------------------------------------------------------------------------

_SESSION_LISTS = frozenset({"$listLocalSessions", "$listSessions"})
_WITH_PIPELINE = frozenset({"$lookup", "$unionWith"})
"""Stages whose own pipeline may begin with `$listSessions` (measured on mongod 6.0.5; not in `$facet`)."""


def _narrowed_lists(pipeline: Document, identity: Identity, *, own: bool = True) -> bytes | None:
    """The pipeline, where each list of sessions names the users as the upstream knows them; None when it does anyway.

    `own`: a list that names nobody is one of the real user's; upstream it would be the service user's.
    """
    if pipeline.data.find(b"Sessions\0", pipeline.start, pipeline.end) < 0:
        return None  # nearly every pipeline
    narrowed = _session_lists(pipeline, identity, own=own)
    return None if narrowed == pipeline.raw else narrowed


def _session_lists(pipeline: Document, identity: Identity, *, own: bool) -> bytes:
    stages = {}
    for key in pipeline:
        stage = pipeline.document(key)
        if stage is None or len(stage) != 1:
            continue
        (name,) = stage
        spec = stage.document(name)
        if spec is not None and name in _SESSION_LISTS:
            stages[key] = with_values(stage, {name: _session_list(spec, identity, own=own)})
        elif spec is not None and name in _WITH_PIPELINE:
            inner = spec.array("pipeline")
            if inner is not None:
                narrowed = with_values(spec, {"pipeline": _session_lists(inner, identity, own=own)})
                stages[key] = with_values(stage, {name: narrowed})
    return with_values(pipeline, stages)


def _session_list(spec: Document, identity: Identity, *, own: bool) -> bytes:
    users = spec.array("users")
    if users is not None and any(element.type != NULL for element in users.fields.values()):
        # Checked before: the user's own name, or the user may list sessions.
        return with_values(spec, names_upstream(spec, "users", identity))
    if not own or identity.name is None or spec.truthy("allUsers"):
        return spec.raw
    return encode({"users": [{"user": identity.name.user, "db": identity.name.db}]})


def _defined_view(command: Command, identity: Identity) -> Narrowing | None:
    """create, collMod: whom the pipeline of a view names. Who reads it is whoever reads it."""
    pipeline = command.body.array("pipeline") if identity.realm else None
    listing = None if pipeline is None else _narrowed_lists(pipeline, identity, own=False)
    return None if listing is None else _replace_value(command, "pipeline", listing)


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


def _kill_all_sessions(command: Command, identity: Identity) -> Narrowing | None:
    """killAllSessions of users: mongod looks each of them up, and knows none with a realm. By their digests, then."""
    if not identity.realm:
        return None
    path = f"KillAllSessionsCmd.{command.name}"
    users = array_of_documents("KillAllSessionsCmd", command.body, command.name, path)
    if not users:
        return None  # everybody's
    patterns = []
    for user in users:
        refuse_unknown_fields(path, user, _USER_FIELDS)
        db = required_string(path, user, "db") + identity.realm
        digest = session_digest(UserName(required_string(path, user, "user"), db))
        patterns.append(encode({"uid": digest}))
    return _replace(command, command.name, array_element("killAllSessionsByPattern", patterns))


_USER_FIELDS = frozenset({"user", "db"})


def _kill_by_pattern(command: Command, identity: Identity) -> Narrowing | None:
    """killAllSessionsByPattern: the user's own digest, and the users that the pattern acts as."""
    patterns = command.body.array(command.name) if identity.realm else None
    if patterns is None:
        return None
    named = {key: _pattern(p, identity) for key in patterns if (p := patterns.document(key)) is not None}
    return _replace_value(command, command.name, with_values(patterns, named))


def _pattern(pattern: Document, identity: Identity) -> bytes:
    values = {**uid_upstream(pattern, identity), **names_upstream(pattern, "users", identity)}
    lsid = pattern.document("lsid")
    if lsid is not None:
        values["lsid"] = with_values(lsid, uid_upstream(lsid, identity))
    return with_values(pattern, values)


def _replace_value(command: Command, name: str, value: bytes) -> Narrowing:
    field = command.body.fields[name]
    return Narrowing(splices=((field.value, field.end, value),))


def _replace(command: Command, name: str, element: bytes) -> Narrowing:
    field = command.body.fields[name]
    return Narrowing(splices=((field.start, field.end, element),))


_RULES: Mapping[str, Callable[[Command, Identity], Narrowing | None]] = {
    "aggregate": _own_stages,
    "collMod": _defined_view,
    "create": _defined_view,
    "currentOp": _own_operations,
    "endSessions": _own_sessions,
    "explain": _explained_stages,
    "killAllSessions": _kill_all_sessions,
    "killAllSessionsByPattern": _kill_by_pattern,
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
