"""Narrowing: what mongod shows a user of its own only, when upstream everybody is the service user."""

from typing import Any

import pytest
from bson import Binary, Int64

from mongoguard.effects import AskUpstream, Emit, Relay
from mongoguard.errors import UpstreamUnavailable
from mongoguard.model.names import UserName
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from mongoguard.model.user import User
from mongoguard.proxy.deployment import Impersonation
from mongoguard.proxy.identity import session_digest
from mongoguard.proxy.settings import SessionSettings
from tests.playbook import Play, make_session, relayed, reply_of, user_with
from tests.rawwire import op_msg

SHOP = ResourcePattern.for_database("shop")
CLERK = user_with({SHOP: frozenset({"find", "listCollections"})})
READER = user_with({ResourcePattern.for_exact_namespace("shop", "orders"): frozenset({"find"})})
ROOT = user_with({ResourcePattern.for_any_resource(): frozenset({"anyAction"})}, UserName("root", "admin"))
OWN = {"$elemMatch": {"user": "alice", "db": "shop"}}
DIGEST = session_digest(UserName("alice", "shop"))
ALONE = Impersonation.NONE
ID = Binary(b"s" * 16, 4)


def sent(
    body: dict[str, Any],
    user: User = CLERK,
    db: str = "admin",
    impersonation: Impersonation = Impersonation.USERS,
    realm: str = "",
) -> dict[str, Any]:
    """What goes upstream, without the identity's own field."""
    session = make_session(user, impersonation=impersonation, settings=SessionSettings(realm=realm))
    play = Play(session).send(op_msg({**body, "$db": db}))
    document = relayed(play.expect(Relay).effect)
    document.pop("$audit", None)
    return document


def refused(
    body: dict[str, Any],
    user: User = CLERK,
    db: str = "admin",
    impersonation: Impersonation = Impersonation.USERS,
) -> int:
    play = Play(make_session(user, impersonation=impersonation)).send(op_msg({**body, "$db": db}))
    if isinstance(play.effect, Emit):
        play.emitted()
    return int(play.reply()["code"])


def answered(
    body: dict[str, Any], reply: dict[str, Any], user: User = CLERK, db: str = "admin"
) -> dict[str, Any]:
    play = Play(make_session(user)).send(op_msg({**body, "$db": db}))
    return play.expect(Relay).answer(reply_of(reply)).reply()


# ---- operations -----------------------------------------------------------------------------------------------------


def test_own_operations_are_narrowed_by_the_upstream_that_takes_impersonation():
    assert sent({"currentOp": 1, "$ownOps": True}) == {"currentOp": 1, "$ownOps": True, "$db": "admin"}


def test_own_operations_are_those_of_the_real_user_elsewhere():
    assert sent({"currentOp": 1, "$ownOps": True}, impersonation=ALONE)["effectiveUsers"] == OWN


def test_everybodys_operations_need_inprog_and_are_not_narrowed():
    assert refused({"currentOp": 1}) == 13
    assert "effectiveUsers" not in sent({"currentOp": 1}, ROOT, impersonation=ALONE)


def test_own_operations_cannot_be_combined_with_a_filter_of_the_clients():
    body = {"currentOp": 1, "$ownOps": True, "effectiveUsers": {"$exists": True}}
    assert refused(body, impersonation=ALONE) == 20


def test_the_current_op_stage_is_followed_by_a_match_on_the_real_user():
    stages = [{"$currentOp": {"allUsers": False}}, {"$limit": 1}]
    command = {"aggregate": 1, "pipeline": stages, "cursor": {}}
    body = sent(command, impersonation=ALONE)
    assert body["pipeline"] == [stages[0], {"$match": {"effectiveUsers": OWN}}, stages[1]]
    assert list(body)[:3] == ["aggregate", "pipeline", "cursor"]
    assert sent(command)["pipeline"] == stages


def test_the_current_op_stage_for_all_users_needs_inprog_and_is_not_narrowed():
    stages = [{"$currentOp": {"allUsers": True}}]
    assert refused({"aggregate": 1, "pipeline": stages, "cursor": {}}) == 13
    assert sent({"aggregate": 1, "pipeline": stages, "cursor": {}}, ROOT)["pipeline"] == stages


def test_another_pipeline_is_relayed_as_it_is():
    for stages in ([], [{"$match": {"a": 1}}]):
        assert (
            sent({"aggregate": "orders", "pipeline": stages, "cursor": {}}, db="shop")["pipeline"] == stages
        )


# ---- sessions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["$listLocalSessions", "$listSessions"])
@pytest.mark.parametrize(
    "options", [{}, {"allUsers": False}, {"allUsers": None}, {"users": []}, {"users": [None]}]
)
def test_own_sessions_are_those_of_the_real_user(stage: str, options: dict[str, Any]):
    target, db = (1, "admin") if stage == "$listLocalSessions" else ("system.sessions", "config")
    body = sent({"aggregate": target, "pipeline": [{stage: options}], "cursor": {}}, db=db)
    assert body["pipeline"] == [{stage: {"users": [{"user": "alice", "db": "shop"}]}}]


def test_all_sessions_need_list_sessions_and_are_not_narrowed():
    stages = [{"$listLocalSessions": {"allUsers": True}}]
    assert refused({"aggregate": 1, "pipeline": stages, "cursor": {}}) == 13
    assert sent({"aggregate": 1, "pipeline": stages, "cursor": {}}, ROOT)["pipeline"] == stages


@pytest.mark.parametrize("name", ["endSessions", "refreshSessions", "killSessions"])
@pytest.mark.parametrize("session", [{"id": ID}, {"id": ID, "uid": None}])
def test_sessions_without_an_owner_are_the_users(name: str, session: dict[str, Any]):
    assert sent({name: [session]})[name] == [{"id": ID, "uid": DIGEST}]


@pytest.mark.parametrize("name", ["endSessions", "refreshSessions", "killSessions"])
def test_the_users_own_digest_may_be_given(name: str):
    own = [{"id": ID, "uid": DIGEST}]
    assert sent({name: own})[name] == own


@pytest.mark.parametrize("name", ["endSessions", "refreshSessions", "killSessions"])
def test_another_users_digest_needs_a_privilege(name: str):
    foreign = [{"id": ID, "uid": session_digest(UserName("bob", "shop"))}]
    assert refused({name: foreign}) == 13
    assert sent({name: foreign}, ROOT)[name] == foreign


@pytest.mark.parametrize("name", ["endSessions", "refreshSessions", "killSessions"])
@pytest.mark.parametrize(
    "sessions", [5, [5], [{"id": ID, "txnNumber": Int64(1)}], [{"id": ID, "x": 1}], [{}]]
)
def test_what_is_no_list_of_sessions_is_refused(name: str, sessions: Any):
    assert refused({name: sessions}) in {14, 40414, 40415, 72}


@pytest.mark.parametrize("nothing", [[], [None], [None, None]])
def test_killing_no_session_in_particular_kills_all_of_ones_own(nothing: list[None]):
    body = sent({"killSessions": nothing})
    assert next(iter(body)) == "killAllSessionsByPattern"
    assert body["killAllSessionsByPattern"] == [{"uid": DIGEST}]


@pytest.mark.parametrize("name", ["endSessions", "refreshSessions", "killSessions"])
def test_nulls_among_sessions_are_not_sent(name: str):
    assert sent({name: [None, {"id": ID}, None]})[name] == [{"id": ID, "uid": DIGEST}]


def test_killing_all_of_ones_own_is_refused_where_sessions_have_no_owner():
    for nothing in ([], [None]):
        assert refused({"killSessions": nothing}, impersonation=Impersonation.NONE) == 115


@pytest.mark.parametrize("name", ["endSessions", "refreshSessions", "killSessions"])
def test_without_impersonation_ids_are_made_the_users_own(name: str):
    (own,) = sent({name: [{"id": ID}]}, impersonation=Impersonation.NONE)[name]
    (others,) = sent({name: [{"id": ID}]}, ROOT, impersonation=Impersonation.NONE)[name]
    assert set(own) == {"id"}
    assert own["id"].subtype == 4
    assert len({bytes(own["id"]), bytes(others["id"]), bytes(ID)}) == 3
    lsid = sent({"ping": 1, "lsid": {"id": ID}}, impersonation=Impersonation.NONE)["lsid"]
    assert lsid == own


# ---- databases and collections ----------------------------------------------------------------------------------------

DATABASES = {
    "databases": [
        {"name": "admin", "sizeOnDisk": Int64(10), "empty": False},
        {"name": "shop", "sizeOnDisk": Int64(3 << 20), "empty": False},
    ],
    "totalSize": Int64(10 + (3 << 20)),
    "totalSizeMb": Int64(3),
    "ok": 1.0,
}


def test_databases_are_those_that_the_user_has_something_in():
    reply = answered({"listDatabases": 1}, DATABASES)
    assert [d["name"] for d in reply["databases"]] == ["shop"]
    assert (reply["totalSize"], reply["totalSizeMb"], reply["ok"]) == (3 << 20, 3, 1.0)


def test_all_databases_are_for_who_may_list_them():
    user = user_with({CLUSTER: frozenset({"listDatabases"})})
    assert answered({"listDatabases": 1}, DATABASES, user) == DATABASES
    assert answered({"listDatabases": 1, "authorizedDatabases": True}, DATABASES, user)["databases"] == []
    assert answered({"listDatabases": 1, "authorizedDatabases": False}, DATABASES, user) == DATABASES


def test_all_databases_are_refused_to_others():
    assert refused({"listDatabases": 1, "authorizedDatabases": False}) == 13


def test_names_alone_have_no_sizes_to_mend():
    names = {"databases": [{"name": "admin"}, {"name": "shop"}], "ok": 1.0}
    assert answered({"listDatabases": 1, "nameOnly": True}, names) == {
        "databases": [{"name": "shop"}],
        "ok": 1.0,
    }


def test_an_error_instead_of_databases_is_the_answer():
    error = {"ok": 0.0, "code": 50, "errmsg": "no"}
    assert answered({"listDatabases": 1}, error) == error


COLLECTIONS = {
    "cursor": {
        "id": Int64(0),
        "ns": "shop.$cmd.listCollections",
        "firstBatch": [{"name": "orders", "type": "collection"}, {"name": "secrets", "type": "collection"}],
    },
    "ok": 1.0,
}
ONLY_OWN = {"listCollections": 1, "nameOnly": True, "authorizedCollections": True}


def listed(reply: dict[str, Any], batch: str = "firstBatch") -> list[str]:
    return [c["name"] for c in reply["cursor"][batch]]


def test_own_operations_are_picked_before_the_conditions_of_the_client():
    """mongod 6.0.5 tries conditions in their order: `$toInt` would quote the text of another user's operation."""
    body = {"currentOp": 1, "$ownOps": True, "$expr": {"$toInt": "$command.comment"}}
    names = list(sent(body, impersonation=ALONE))
    assert names.index("effectiveUsers") < names.index("$expr")


@pytest.mark.parametrize("stage", ["$currentOp", "$listLocalSessions"])
def test_own_things_are_not_explained_where_everything_is_the_service_users(stage: str):
    inner = {"aggregate": 1, "pipeline": [{stage: {}}, {"$match": {"a": 1}}], "cursor": {}}
    body = {"explain": inner, "verbosity": "executionStats"}
    assert refused(body, impersonation=ALONE) == 20
    other = {"explain": {"find": "orders"}}
    assert sent(other, ROOT, impersonation=ALONE)["explain"] == {"find": "orders"}


def test_own_operations_are_explained_as_the_impersonated_users():
    body = {"explain": {"aggregate": 1, "pipeline": [{"$currentOp": {}}], "cursor": {}}}
    assert sent(body)["explain"] == body["explain"]


@pytest.mark.parametrize("options", [{}, {"allUsers": False}, {"users": [None]}])
def test_own_sessions_are_explained_as_the_real_users(options: dict[str, Any]):
    inner = {
        "aggregate": 1,
        "pipeline": [{"$listLocalSessions": options}, {"$match": {"a": 1}}],
        "cursor": {},
    }
    stages = sent({"explain": inner, "verbosity": "executionStats"})["explain"]["pipeline"]
    assert stages == [
        {"$listLocalSessions": {"users": [{"user": "alice", "db": "shop"}]}},
        {"$match": {"a": 1}},
    ]


def test_a_field_that_is_called_like_sessions_is_explained_anywhere():
    inner = {"aggregate": "orders", "pipeline": [{"$match": {"openSessions": 1}}], "cursor": {}}
    assert sent({"explain": inner}, ROOT, "shop", ALONE)["explain"] == inner


@pytest.mark.parametrize("realm", ["", " (users file)"])
@pytest.mark.parametrize(
    "around",
    [
        lambda inner: {"$unionWith": {"coll": "system.sessions", "pipeline": inner}},
        lambda inner: {"$lookup": {"from": "system.sessions", "pipeline": inner, "as": "x"}},
    ],
    ids=["$unionWith", "$lookup"],
)
def test_own_sessions_are_the_real_users_in_pipelines_of_stages_too(realm: str, around: Any):
    pipeline = [{"$listSessions": {}}, around([{"$listSessions": {}}, {"$limit": 1}])]
    body = {"aggregate": "system.sessions", "pipeline": pipeline, "cursor": {}}
    own = {"$listSessions": {"users": [{"user": "alice", "db": f"shop{realm}"}]}}
    assert sent(body, db="config", realm=realm)["pipeline"] == [own, around([own, {"$limit": 1}])]


def test_collections_are_those_that_the_user_has_something_on():
    assert listed(answered(ONLY_OWN, COLLECTIONS, READER, "shop")) == ["orders"]


@pytest.mark.parametrize("body", [ONLY_OWN, {"listCollections": 1, "authorizedCollections": True}])
def test_who_may_list_all_collections_gets_their_own_when_they_ask_for_that(body: dict[str, Any]):
    lister = user_with({SHOP: frozenset({"listCollections"})})
    more = {
        "firstBatch": [{"name": "orders"}, {"name": "system.js"}],
        "id": Int64(0),
        "ns": "shop.$cmd.listCollections",
    }
    reply = {"cursor": more, "ok": 1.0}
    assert listed(answered(body, reply, lister, "shop")) == ["orders"]
    assert listed(answered({"listCollections": 1}, reply, lister, "shop")) == ["orders", "system.js"]


@pytest.mark.parametrize(
    "body",
    [
        {"listCollections": 1},
        {"listCollections": 1, "nameOnly": True},
        {"listCollections": 1, "authorizedCollections": True},
    ],
)
def test_anything_else_needs_the_privilege(body: dict[str, Any]):
    assert refused(body, READER, "shop") == 13


def test_further_batches_are_filtered_too():
    session = make_session(READER)
    opened = {**COLLECTIONS, "cursor": {**COLLECTIONS["cursor"], "id": Int64(9)}}  # type: ignore[dict-item]
    Play(session).send(op_msg({**ONLY_OWN, "$db": "shop"})).expect(Relay).answer(reply_of(opened)).reply()
    more = {
        "cursor": {"id": Int64(0), "ns": "shop.$cmd.listCollections", "nextBatch": [{"name": "secrets"}]},
        "ok": 1.0,
    }
    play = Play(session).send(
        op_msg({"getMore": Int64(9), "collection": "$cmd.listCollections", "$db": "shop"})
    )
    assert listed(play.expect(Relay).answer(reply_of(more)).reply(), "nextBatch") == []


def test_an_error_instead_of_collections_is_the_answer():
    error = {"ok": 0.0, "code": 50, "errmsg": "no"}
    assert answered(ONLY_OWN, error, READER, "shop") == error


def test_ones_own_operation_may_be_killed_and_another_may_not():
    data = op_msg({"killOp": 1, "op": 5, "$db": "admin"})
    asked = Play(make_session(CLERK)).send(data).expect(AskUpstream)
    assert asked.effect.command["pipeline"][:2] == [{"$currentOp": {}}, {"$match": {"opid": 5}}]
    assert asked.effect.command["$audit"]["$impersonatedUsers"] == [{"user": "alice", "db": "shop"}]
    asked.answer({"cursor": {"firstBatch": [{"opid": 5}]}, "ok": 1.0}).expect(Relay)
    asked = Play(make_session(CLERK)).send(data).expect(AskUpstream)
    assert asked.answer({"cursor": {"firstBatch": []}, "ok": 1.0}).emitted().result == 13
    asked = Play(make_session(CLERK)).send(data).expect(AskUpstream)
    assert asked.fail(UpstreamUnavailable("away")).emitted().result == 13
    Play(make_session(ROOT)).send(data).expect(Relay)


def test_without_authorization_nothing_is_filtered():
    for body, reply, db in (({"listDatabases": 1}, DATABASES, "admin"), (ONLY_OWN, COLLECTIONS, "shop")):
        session = make_session(settings=SessionSettings(authorization_enabled=False))
        play = Play(session).send(op_msg({**body, "$db": db}))
        assert play.expect(Relay).answer(reply_of(reply)).reply() == reply
