"""Requirements of administrative commands whose arguments matter.

In: a `Command`. Out: its `Requirement`. Must not know who asks. Also the small predicates that the flow needs to narrow
what runs under one service identity ("own operations only", "authorized databases only").
Source: the manual; forms measured on mongod 6.0.5.
"""

from __future__ import annotations

from mongoguard.command.arguments import (
    array_of_documents,
    is_absent,
    refuse_unknown_fields,
    required_string,
    safe_bool,
    strict_bool,
    unknown_field,
)
from mongoguard.command.command import MAX_DB_NAME, Command
from mongoguard.command.pipeline import stage_names
from mongoguard.command.requires import ANY_NORMAL, all_of, full_namespace, needs, on_cluster, privilege_on
from mongoguard.command.spec import Asker, Requires
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.action_type import ActionType as A
from mongoguard.model.privilege import NOTHING, AnyOf, Privilege, Requirement
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from mongoguard.wire.document import DOCUMENT, NULL, Document

__all__ = [
    "apply_ops",
    "asks_authorized_collections",
    "asks_authorized_databases",
    "asks_own_ops_only",
    "current_op",
    "db_check",
    "diagnostic",
    "features",
    "list_databases",
    "on_any_normal",
    "on_config",
    "on_config_or_cluster",
    "on_database_string",
]


def on_any_normal(*actions: str) -> Requires:
    """The actions on any normal resource."""
    needed = Privilege(ANY_NORMAL, needs(*actions))

    def requires(_command: Command, _asker: Asker) -> Requirement:
        return needed

    return requires


def on_database_string(*actions: str) -> Requires:
    """The actions on the database that the command field spells out."""
    needed = needs(*actions)

    def requires(command: Command, _asker: Asker) -> Requirement:
        db = required_string(command.name, command.body, command.name)
        if not 0 < len(db) <= MAX_DB_NAME or "." in db or "\0" in db:
            raise CommandError(ErrorCode.INVALID_NAMESPACE, f"Invalid database name: '{db}'")
        return Privilege(ResourcePattern.for_database(db), needed)

    return requires


def on_config_or_cluster(action: str, *direct: tuple[str, tuple[str, ...]]) -> Requires:
    """The action on the cluster, or else rights to write that part of the config database oneself (zones)."""
    fallback = all_of(privilege_on("config", collection, needs(*actions)) for collection, actions in direct)
    needed = AnyOf((Privilege(CLUSTER, needs(action)), fallback))

    def requires(_command: Command, _asker: Asker) -> Requirement:
        return needed

    return requires


_INPROG = on_cluster(A.INPROG)
_OID_RESET = on_cluster(A.OID_RESET)
_LIST_DATABASES = on_cluster(A.LIST_DATABASES)
_DIAGNOSTIC = all_of(
    [
        Privilege(CLUSTER, needs(A.SERVER_STATUS, A.REPL_SET_GET_STATUS)),
        privilege_on("local", "oplog.rs", needs(A.COLL_STATS)),
    ]
)
_DB_CHECK = Privilege(ResourcePattern.for_any_resource(), needs(A.DB_CHECK))


def diagnostic(_command: Command, _asker: Asker) -> Requirement:
    """getDiagnosticData: what its parts need."""
    return _DIAGNOSTIC


def db_check(_command: Command, _asker: Asker) -> Requirement:
    """dbCheck on anyResource, whatever is checked."""
    return _DB_CHECK


def features(command: Command, asker: Asker) -> Requirement:
    """Free; making the server choose a new machine part for its ObjectIds (`oidReset`) needs oidReset."""
    return _OID_RESET(command, asker) if safe_bool("features", command.body, "oidReset") else NOTHING


def current_op(command: Command, asker: Asker) -> Requirement:
    """One's own operations are free; everybody's need inprog."""
    return NOTHING if command.body.truthy("$ownOps") else _INPROG(command, asker)


def list_databases(command: Command, asker: Asker) -> Requirement:
    """Free, filtered (`asks_authorized_databases`); insisting on all of them needs listDatabases."""
    body = command.body
    if is_absent(body, "authorizedDatabases") or strict_bool("listDatabases", body, "authorizedDatabases"):
        return NOTHING
    return _LIST_DATABASES(command, asker)


def asks_own_ops_only(command: Command) -> bool:
    """Whether a currentOp command, or a pipeline that begins with `$currentOp`, asks for the caller's operations only.

    Under one service identity the server takes everybody's for the caller's own: the reply must be narrowed.
    """
    if command.name == "currentOp":
        return command.body.truthy("$ownOps")
    pipeline = command.body.array("pipeline")
    if pipeline is None or not pipeline.fields:
        return False
    names = stage_names(pipeline)
    if names[0] not in ("$currentOp", "$listSessions", "$listLocalSessions"):
        return False
    stage = pipeline.document(next(iter(pipeline.fields)))
    spec = None if stage is None else stage.document(names[0])
    return spec is not None and not spec.truthy("allUsers") and "users" not in spec


def asks_authorized_databases(command: Command) -> bool | None:
    """listDatabases' flag: True only databases one has rights in, False all of them, None as the server sees fit."""
    if is_absent(command.body, "authorizedDatabases"):
        return None
    return strict_bool("listDatabases", command.body, "authorizedDatabases")


def asks_authorized_collections(command: Command) -> bool:
    """Whether listCollections asks only for the names it may see: the reply must be filtered."""
    return strict_bool("listCollections", command.body, "nameOnly") and strict_bool(
        "listCollections", command.body, "authorizedCollections"
    )


_EVERYTHING = Privilege(ResourcePattern.for_any_resource(), needs(A.ANY_ACTION))
_APPLY_OPS = Privilege(CLUSTER, needs(A.APPLY_OPS))
_NOTE = Privilege(CLUSTER, needs(A.APPEND_OPLOG_NOTE))
_OP_FIELDS = frozenset({"op", "ns", "o", "o2", "b", "ts", "t", "h", "v", "wall"})
_OP_ACTIONS = {"i": needs(A.INSERT), "u": needs(A.UPDATE, A.INSERT), "d": needs(A.REMOVE)}


def apply_ops(command: Command, _asker: Asker) -> Requirement:
    """applyOps and what each operation needs: inserts, updates (which may insert), removals and notes.

    Refused: operations that name their collection by UUID, commands inside ("c"), transactions: what they would do
    can only be told by running them. An empty batch needs every action everywhere, as mongod has it.
    """
    operations = array_of_documents("applyOps", command.body, command.name)
    if len(operations) != len(command.body.array(command.name) or ()):
        raise CommandError(ErrorCode.TYPE_MISMATCH, "applyOps takes no nulls")  # unlike most arrays
    if not operations:
        return _EVERYTHING
    return all_of([_APPLY_OPS, *(_operation(op) for op in operations)])


def _operation(op: Document) -> Requirement:
    refuse_unknown_fields("OplogEntryBase", op, _OP_FIELDS)
    kind = required_string("OplogEntryBase", op, "op")
    if kind == "n":
        return _NOTE
    if kind not in _OP_ACTIONS:
        raise CommandError(
            ErrorCode.COMMAND_NOT_SUPPORTED,
            f"applyOps operation '{kind}' is not accepted here",
            reason="an operation whose needs cannot be told from its text",
        )
    if op.type_of("o") != DOCUMENT or op.type_of("o2") not in (None, NULL, DOCUMENT):
        raise unknown_field("OplogEntryBase", "o")
    return privilege_on(*full_namespace(required_string("OplogEntryBase", op, "ns")), _OP_ACTIONS[kind])


def on_config(collection: str, *actions: str) -> Requires:
    """The actions on a collection of the config database."""
    needed = privilege_on("config", collection, needs(*actions))

    def requires(_command: Command, _asker: Asker) -> Requirement:
        return needed

    return requires
