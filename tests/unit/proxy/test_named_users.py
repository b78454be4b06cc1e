"""Named users: with a directory of its own, whom a client names is never the upstream's user of that name."""

from typing import Any

import bson
import pytest
from bson import Binary

from mongoguard.effects import Emit, Relay
from mongoguard.model.names import UserName
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from mongoguard.model.user import User
from mongoguard.proxy.deployment import Impersonation
from mongoguard.proxy.identity import Identity, session_digest
from mongoguard.proxy.named_users import audit_upstream, names_upstream, uid_upstream, with_values
from mongoguard.proxy.settings import SessionSettings
from mongoguard.wire.document import Document
from tests.playbook import Play, make_session, relayed, user_with
from tests.rawwire import op_msg

REALM = " (users file)"
ALICE = user_with()
ROOT = user_with({ResourcePattern.for_any_resource(): frozenset({"anyAction"})}, UserName("root", "admin"))
KILLER = user_with({CLUSTER: frozenset({"killAnySession"})})
THEIRS = session_digest(UserName("alice", "shop"))
"""The digest of the upstream's own alice@shop."""
OURS = session_digest(UserName("alice", "shop" + REALM))
BOB, BOB_UPSTREAM = {"user": "bob", "db": "admin"}, {"user": "bob", "db": "admin" + REALM}
ID = Binary(b"s" * 16, 4)
IDENTITY = Identity(ALICE, Impersonation.USERS, REALM)
WITHOUT_REALM = Identity(ALICE, Impersonation.USERS)


def play(body: dict[str, Any], user: User, db: str) -> Play:
    session = make_session(user, settings=SessionSettings(realm=REALM, relays_user_management=False))
    return Play(session).send(op_msg({**body, "$db": db}))


def sent(body: dict[str, Any], user: User = ROOT, db: str = "admin") -> dict[str, Any]:
    return relayed(play(body, user, db).expect(Relay).effect)


def refused(body: dict[str, Any], user: User = ALICE, db: str = "admin") -> int:
    step = play(body, user, db)
    if isinstance(step.effect, Emit):
        step.emitted()
    return int(step.reply()["code"])


def document(**fields: Any) -> Document:
    return Document(bson.encode(fields))


# ---- lists of sessions ----------------------------------------------------------------------------------------------

ME = {"user": "alice", "db": "shop"}
ME_UPSTREAM = {"user": "alice", "db": "shop" + REALM}


def listing(stage: str, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
    target, db = (1, "admin") if stage == "$listLocalSessions" else ("system.sessions", "config")
    return {"aggregate": target, "pipeline": [{stage: options}, {"$limit": 1}], "cursor": {}}, db


@pytest.mark.parametrize("stage", ["$listLocalSessions", "$listSessions"])
@pytest.mark.parametrize("options", [{}, {"users": [ME]}, {"allUsers": False, "users": [ME]}, {"users": []}])
def test_a_user_lists_its_own_sessions_by_either_form(stage: str, options: dict[str, Any]):
    body, db = listing(stage, options)
    first, last = sent(body, ALICE, db)["pipeline"]
    assert first[stage]["users"] == [ME_UPSTREAM]
    assert last == {"$limit": 1}


@pytest.mark.parametrize("stage", ["$listLocalSessions", "$listSessions"])
@pytest.mark.parametrize("name", [BOB, ME_UPSTREAM])
def test_listing_another_users_sessions_needs_the_privilege(stage: str, name: dict[str, str]):
    body, db = listing(stage, {"users": [ME, name]})
    assert refused(body, ALICE, db) == 13
    named = [ME_UPSTREAM, {**name, "db": name["db"] + REALM}]
    assert sent(body, ROOT, db)["pipeline"][0] == {stage: {"users": named}}


def test_everybodys_sessions_are_listed_as_they_are():
    body, db = listing("$listSessions", {"allUsers": True})
    assert sent(body, ROOT, db)["pipeline"] == body["pipeline"]


@pytest.mark.parametrize(
    "around",
    [
        lambda inner: {"$unionWith": {"coll": "system.sessions", "pipeline": inner}},
        lambda inner: {"$lookup": {"from": "system.sessions", "pipeline": inner, "as": "x"}},
    ],
    ids=["$unionWith", "$lookup"],
)
def test_sessions_listed_inside_of_another_stage_are_named_upstream_too(around: Any):
    named, upstream = {"$listSessions": {"users": [ME]}}, {"$listSessions": {"users": [ME_UPSTREAM]}}
    pipeline = [named, around([named, around([named])])]
    body = {"aggregate": "system.sessions", "pipeline": pipeline, "cursor": {}}
    expected = [upstream, around([upstream, around([upstream])])]
    assert sent(body, ALICE, "config")["pipeline"] == expected
    assert sent({"explain": body}, ALICE, "config")["explain"]["pipeline"] == expected


@pytest.mark.parametrize("command", ["create", "collMod"])
def test_a_view_names_the_users_of_the_file_and_who_reads_it_stays_open(command: str):
    pipeline = [{"$listSessions": {"users": [BOB]}}, {"$unionWith": {"coll": "system.sessions"}}]
    body = {command: "v", "viewOn": "system.sessions", "pipeline": pipeline}
    assert sent(body, ROOT, "config")["pipeline"] == [
        {"$listSessions": {"users": [BOB_UPSTREAM]}},
        pipeline[1],
    ]
    whose = {**body, "pipeline": [{"$listSessions": {}}]}
    assert sent(whose, ROOT, "config")["pipeline"] == [{"$listSessions": {}}]
    plain = {**body, "pipeline": [{"$match": {}}]}
    assert sent(plain, ROOT, "config")["pipeline"] == [{"$match": {}}]


# ---- killing sessions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["endSessions", "refreshSessions", "killSessions"])
@pytest.mark.parametrize("digest", [OURS, THEIRS], ids=["as listed", "of the name"])
def test_ones_own_digest_in_either_form_is_the_realms(name: str, digest: bytes):
    assert sent({name: [{"id": ID, "uid": digest}]}, ALICE)[name] == [{"id": ID, "uid": OURS}]


@pytest.mark.parametrize("digest", [OURS, THEIRS], ids=["as listed", "of the name"])
def test_an_lsid_with_ones_own_digest_is_the_realms(digest: bytes):
    lsid = {"uid": digest, "id": ID}
    body = sent({"currentOp": 1, "$ownOps": True, "lsid": lsid}, ALICE)
    assert body["lsid"] == {"uid": OURS, "id": ID}


@pytest.mark.parametrize("name", ["endSessions", "refreshSessions", "killSessions"])
def test_another_digest_needs_rights_over_everybody_and_is_taken_for_what_it_is(name: str):
    foreign = [{"id": ID, "uid": session_digest(UserName("bob", "admin"))}]
    assert refused({name: foreign}) == 13
    assert sent({name: foreign})[name] == foreign


def test_killing_users_sessions_kills_those_of_the_files_users():
    body = {"killAllSessions": [ME, None, BOB]}
    assert refused(body) == 13
    document = sent(body, KILLER)
    assert next(iter(document)) == "killAllSessionsByPattern"
    bobs = session_digest(UserName("bob", "admin" + REALM))
    assert document["killAllSessionsByPattern"] == [{"uid": OURS}, {"uid": bobs}]


@pytest.mark.parametrize("everybody", [[], [None]])
def test_killing_nobodys_sessions_in_particular_kills_everybodys(everybody: list[None]):
    assert refused({"killAllSessions": everybody}) == 13
    assert sent({"killAllSessions": everybody}, KILLER)["killAllSessions"] == everybody


@pytest.mark.parametrize(
    ("users", "code"),
    [
        (5, 14),
        (None, 10065),
        ([5], 14),
        ([{"user": "alice"}], 40414),
        ([{"db": "shop"}], 40414),
        ([{**ME, "x": 1}], 40415),
        ([{"user": 5, "db": "shop"}], 14),
        ([{"user": "alice", "db": None}], 14),
    ],
)
def test_killing_sessions_of_what_is_no_user_is_refused(users: Any, code: int):
    assert refused({"killAllSessions": users}, KILLER) == code


def test_a_pattern_acts_as_users_of_the_file_on_sessions_of_the_file():
    pattern = {"lsid": {"id": ID, "uid": THEIRS}, "uid": THEIRS, "users": [ME, None, BOB], "roles": []}
    assert refused({"killAllSessionsByPattern": [pattern]}, KILLER) == 13
    document = sent({"killAllSessionsByPattern": [pattern, {}]}, user_with(ROOT.privileges))
    assert document["killAllSessionsByPattern"] == [
        {
            "lsid": {"id": ID, "uid": OURS},
            "uid": OURS,
            "users": [ME_UPSTREAM, None, BOB_UPSTREAM],
            "roles": [],
        },
        {},
    ]


@pytest.mark.parametrize("patterns", [5, [5], [{"users": 5}], [{"users": [{"user": "bob", "db": 5}]}]])
def test_what_is_no_pattern_is_for_the_server_to_refuse(patterns: Any):
    assert sent({"killAllSessionsByPattern": patterns})["killAllSessionsByPattern"] == patterns


# ---- acting for others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("users", "upstream"),
    [
        ({"$impersonatedUsers": [BOB, ME]}, {"$impersonatedUsers": [BOB_UPSTREAM, ME_UPSTREAM]}),
        ({"$impersonatedUsers": [None, BOB]}, {"$impersonatedUsers": [None, BOB_UPSTREAM]}),
        ({"$impersonatedUser": BOB}, {"$impersonatedUser": BOB_UPSTREAM}),
        ({"$impersonatedUsers": []}, {"$impersonatedUsers": []}),
        ({"$impersonatedUsers": 5}, {"$impersonatedUsers": 5}),
    ],
)
def test_who_may_impersonate_acts_for_users_of_the_file(users: dict[str, Any], upstream: dict[str, Any]):
    roles = {"$impersonatedRoles": [{"role": "read", "db": "shop"}]}
    body = {"find": "c", "$audit": {**users, **roles}, "lsid": {"id": ID}}
    assert refused(body, ALICE, "shop") == 13
    document = sent(body, ROOT, "shop")
    assert document["$audit"] == {**upstream, **roles}
    assert list(document) == ["find", "$audit", "lsid", "$db"]


# ---- the parts ------------------------------------------------------------------------------------------------------


def test_without_a_realm_nothing_is_put_in_place_of_anything():
    body = document(users=[ME], uid=THEIRS, **{"$audit": {"$impersonatedUser": ME}})
    assert names_upstream(body, "users", WITHOUT_REALM) == {}
    assert uid_upstream(body, WITHOUT_REALM) == {}
    assert audit_upstream(body, WITHOUT_REALM) is None


def test_nobody_has_no_realm():
    assert Identity(None, Impersonation.USERS, REALM).realm == ""


def test_a_digest_of_any_subtype_is_ones_own():
    assert uid_upstream(document(uid=Binary(THEIRS, 5)), IDENTITY) == {"uid": IDENTITY.uid_value}
    assert uid_upstream(document(uid=OURS), IDENTITY) == {}
    assert uid_upstream(document(uid="x"), IDENTITY) == {}


def test_values_are_put_in_their_places_and_nothing_else_changes():
    before = document(a=1, b="x", c={"d": [1.5]}, e=None)
    after = with_values(before, {"b": b"\3\0\0\0yz\0"})
    assert bson.decode(after) == {"a": 1, "b": "yz", "c": {"d": [1.5]}, "e": None}
    assert list(bson.decode(after)) == ["a", "b", "c", "e"]
    assert with_values(before, {}) == before.raw
