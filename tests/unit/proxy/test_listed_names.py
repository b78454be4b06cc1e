"""Listed names: the condition that a listing carries shows exactly what its user may see, and hides the rest first."""

import itertools
import re
from typing import Any

import bson
import pytest

from mongoguard.authz.authorization_session import AuthorizationSession
from mongoguard.effects import Relay
from mongoguard.model.resource_pattern import CLUSTER, MatchType, ResourcePattern
from mongoguard.model.user import User
from mongoguard.proxy.listed_names import listed_collections, listed_databases
from mongoguard.wire.document import Document
from mongoguard.wire.message import parse_message
from tests.playbook import Play, make_session, user_with
from tests.rawwire import op_msg

PATTERNS = (
    CLUSTER,
    ResourcePattern.for_any_resource(),
    ResourcePattern.for_any_normal_resource(),
    *(ResourcePattern.for_database(db) for db in ("shop", "local", "config")),
    *(ResourcePattern.for_collection(name) for name in ("orders", "system.js")),
    *(ResourcePattern.for_exact_namespace(db, "orders") for db in ("shop", "local")),
    ResourcePattern.for_exact_namespace("shop", "system.profile"),
    ResourcePattern(MatchType.EXACT_BUCKETS, "shop", "weather"),
    ResourcePattern(MatchType.ANY_BUCKETS_IN_DB, "shop"),
    ResourcePattern(MatchType.BUCKETS_IN_ANY_DB, "", "weather"),
    ResourcePattern(MatchType.ANY_BUCKETS),
)
DATABASES = ("shop", "hr", "admin", "local", "config")
COLLECTIONS = (
    "orders",
    "staff",
    "system",
    "systemx",
    "system.js",
    "system.profile",
    "system.buckets.",
    "system.buckets.weather",
    "system.buckets.tides",
    "replset.election",
    "oplog.rs",
)
READER = user_with({ResourcePattern.for_exact_namespace("shop", "orders"): frozenset({"find"})})
ERROR_ORACLE = {"$expr": {"$toInt": "$name"}}


def matches(condition: dict[str, Any], name: str) -> bool:
    """The few operators that conditions on names use."""
    if not condition:
        return True
    if "$or" in condition:
        return any(matches(part, name) for part in condition["$or"])
    ((operator, value),) = condition["name"].items()
    if operator == "$not":
        return not matches({"name": value}, name)
    if operator == "$regex":
        return re.search(value, name) is not None
    return (name in value) is (operator == "$in")


def held_sets() -> Any:
    return itertools.chain(itertools.combinations(PATTERNS, 1), itertools.combinations(PATTERNS, 2), [()])


def session_with(held: tuple[ResourcePattern, ...]) -> AuthorizationSession:
    return AuthorizationSession(user_with(dict.fromkeys(held, frozenset({"find"}))))


def test_the_databases_listed_are_those_that_the_user_may_see() -> None:
    for held in held_sets():
        session, condition = session_with(held), listed_databases(held)
        shown = {db for db in DATABASES if matches(condition, db)}
        assert shown == {db for db in DATABASES if session.may_see_database(db)}, held


@pytest.mark.parametrize("db", DATABASES)
def test_the_collections_listed_are_those_that_the_user_has_an_action_on(db: str) -> None:
    for held in held_sets():
        session, condition = session_with(held), listed_collections(held, db)
        shown = {name for name in COLLECTIONS if matches(condition, name)}
        exact = ResourcePattern.for_exact_namespace
        assert shown == {n for n in COLLECTIONS if session.any_action_on(exact(db, n))}, held


def filter_sent(body: dict[str, Any], db: str, user: User = READER) -> Any:
    relay = Play(make_session(user)).send(op_msg({**body, "$db": db})).expect(Relay).effect
    message = parse_message(relay.message)
    body_sent: Document = message.body  # type: ignore[union-attr]  # it is no OP_QUERY
    return body_sent.value("filter")


def listing(command: str, **fields: Any) -> dict[str, Any]:
    if command == "listCollections":
        return {"listCollections": 1, "nameOnly": True, "authorizedCollections": True, **fields}
    return {"listDatabases": 1, **fields}


@pytest.mark.parametrize(
    ("command", "db", "condition"),
    [
        ("listDatabases", "admin", {"name": {"$in": ["shop"]}}),
        ("listCollections", "shop", {"$or": [{"name": {"$in": ["orders"]}}]}),
    ],
)
@pytest.mark.parametrize("own", [ERROR_ORACLE, {}, {"name": "x"}])
def test_the_condition_comes_before_the_filter_of_the_client(
    command: str, db: str, condition: dict[str, Any], own: dict[str, Any]
):
    """`$toInt: "$name"` fails on the first name that it is tried on, and the error quotes it."""
    assert filter_sent(listing(command, filter=own), db) == {"$and": [condition, own]}
    assert filter_sent(listing(command, filter=None), db) == {"$and": [condition]}
    assert filter_sent(listing(command), db) == {"$and": [condition]}


@pytest.mark.parametrize(("command", "db"), [("listDatabases", "admin"), ("listCollections", "shop")])
def test_a_filter_that_is_no_document_is_left_to_the_server_to_refuse(command: str, db: str) -> None:
    assert filter_sent(listing(command, filter="x"), db) == "x"


def test_who_may_see_everything_is_sent_as_it_came() -> None:
    root = user_with({ResourcePattern.for_any_resource(): frozenset({"anyAction"})})
    assert filter_sent(listing("listDatabases", filter=ERROR_ORACLE), "admin", root) == ERROR_ORACLE
    assert filter_sent(listing("listCollections"), "shop", root) is None


def test_other_commands_keep_their_filters() -> None:
    assert filter_sent({"find": "orders", "filter": ERROR_ORACLE}, "shop") == ERROR_ORACLE


def test_the_spliced_message_is_sound() -> None:
    play = Play(make_session(READER)).send(
        op_msg({**listing("listDatabases", filter={"a": 1}), "$db": "admin"})
    )
    message = play.expect(Relay).effect.message
    assert int.from_bytes(message[:4], "little") == len(message)
    assert bson.decode(message[21:])["filter"]["$and"][1] == {"a": 1}
