"""Own operations and own sessions: what a user sees and ends, as three users, on mongod and through mongoguard.

Every test runs on the plain mongod too: its answer is the expected one. Cursors and transactions: test_isolation.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64
from pymongo.errors import OperationFailure

from tests.rawwire import ConnectionEnded, RawConnection
from tests.servers import Client, Guard, Mongod, password_of

OWNER, RIVAL, ROOT = "ownOne", "ownTwo", "root"
UNAUTHORIZED = 13
NOWHERE = 2_000_000_000
"""An operation that does not exist."""


def digest(user: str) -> Binary:
    """The owner's mark that mongod puts into an lsid."""
    return Binary(hashlib.sha256(f"{user}@admin".encode()).digest(), 0)


def new_session() -> dict[str, Any]:
    """An lsid nobody has used."""
    return {"id": Binary(uuid.uuid4().bytes, 4)}


def code_of(reply: dict[str, Any]) -> int:
    """0 when it worked."""
    return 0 if reply["ok"] else int(reply["code"])


@contextmanager
def logged_in(server: Guard | Mongod, user: str) -> Iterator[RawConnection]:
    """A connection of that user."""
    with RawConnection(server.address) as raw:
        raw.log_in(user, password_of(user))
        yield raw


@pytest.fixture(scope="module")
def known_users() -> set[str]:
    """Deployments that have the users already."""
    return set()


@pytest.fixture
def guarded(guard: Guard, known_users: set[str]) -> Guard:
    """mongoguard, two users of the same rights, and a collection."""
    if guard.address not in known_users:
        with guard.client() as root:
            for name in (OWNER, RIVAL):
                roles = [{"role": "readWrite", "db": "shop"}]
                root.admin.command("createUser", name, pwd=password_of(name), roles=roles)
            root.shop.own.insert_many([{"_id": i} for i in range(10)])
        known_users.add(guard.address)
    return guard


@pytest.fixture(params=["mongod", "mongoguard"])
def server(request: pytest.FixtureRequest, guarded: Guard) -> Guard | Mongod:
    """The same deployment, without mongoguard and through it."""
    return guarded.upstream if request.param == "mongod" else guarded


@pytest.fixture
def direct(guarded: Guard) -> Iterator[Client]:
    """The administrator on the mongod behind."""
    with guarded.upstream.client() as client:
        yield client


# ---- operations -----------------------------------------------------------------------------------------------------


def running(direct: Client, comment: str) -> list[dict[str, Any]]:
    """The operations with that comment, as mongod lists them."""
    stages: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True}},
        {"$match": {"command.comment": comment}},
    ]
    return list(direct.admin.aggregate(stages))


@contextmanager
def slow_query(server: Guard | Mongod, direct: Client, user: str) -> Iterator[int]:
    """A query of `user` that runs until the block ends; yields its number."""
    comment = f"own {uuid.uuid4()}"

    def run() -> None:
        with logged_in(server, user) as raw, contextlib.suppress(ConnectionEnded):
            # mongod forgets effectiveUsers of an operation that loads the database's stored functions: the first one
            raw.command("shop", {"find": "own", "filter": {"$where": "true"}})
            raw.command(
                "shop", {"find": "own", "filter": {"$where": "sleep(500) || true"}, "comment": comment}
            )

    thread = threading.Thread(target=run)
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not (found := running(direct, comment)):
            assert time.monotonic() < deadline, "the slow query does not run"
            time.sleep(0.05)
        yield found[0]["opid"]
    finally:
        for operation in running(direct, comment):
            direct.admin.command("killOp", op=operation["opid"])
        thread.join(20)
        assert not thread.is_alive()


def listed(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations in a reply of the command or of the stage."""
    assert reply["ok"] == 1, reply
    found: list[dict[str, Any]] = reply["inprog"] if "inprog" in reply else reply["cursor"]["firstBatch"]
    return found


OWN_FORMS: list[dict[str, Any]] = [
    {"currentOp": 1, "$ownOps": True},
    {"currentOp": 1, "$ownOps": 1, "$all": True},
    {"currentOp": 1, "$ownOps": True, "command.find": "own"},
    {"aggregate": 1, "pipeline": [{"$currentOp": {}}], "cursor": {}},
    {"aggregate": 1, "pipeline": [{"$currentOp": {"allUsers": False}}], "cursor": {}},
    {"aggregate": 1, "pipeline": [{"$currentOp": {"idleConnections": True}}], "cursor": {}},
    {
        "aggregate": 1,
        "pipeline": [
            {"$currentOp": {"idleSessions": True, "idleCursors": True}},
            {"$match": {"op": "query"}},
        ],
        "cursor": {},
    },
]
ALL_FORMS: list[dict[str, Any]] = [
    {"currentOp": 1},
    {"currentOp": 1, "$ownOps": False},
    {"currentOp": 1, "$all": True},
    {"aggregate": 1, "pipeline": [{"$currentOp": {"allUsers": True}}], "cursor": {"batchSize": 1000}},
]


@pytest.mark.parametrize("form", OWN_FORMS, ids=str)
def test_own_operations_are_shown_to_their_user_only(
    server: Guard | Mongod, direct: Client, form: dict[str, Any]
) -> None:
    with (
        slow_query(server, direct, OWNER) as opid,
        logged_in(server, OWNER) as owner,
        logged_in(server, RIVAL) as rival,
        logged_in(server, ROOT) as root,
    ):
        assert opid in [o["opid"] for o in listed(owner.command("admin", form))]
        for raw, name in ((rival, RIVAL), (root, ROOT)):
            seen = listed(raw.command("admin", form))
            assert opid not in [o.get("opid") for o in seen]
            assert {u["user"] for o in seen for u in o.get("effectiveUsers", [])} <= {name}


@pytest.mark.parametrize("form", ALL_FORMS, ids=str)
def test_everybodys_operations_are_shown_to_holders_of_inprog_only(
    server: Guard | Mongod, direct: Client, form: dict[str, Any]
) -> None:
    with (
        slow_query(server, direct, OWNER) as opid,
        logged_in(server, OWNER) as owner,
        logged_in(server, ROOT) as root,
    ):
        assert code_of(owner.command("admin", form)) == UNAUTHORIZED
        assert opid in [o.get("opid") for o in listed(root.command("admin", form))]


@pytest.mark.parametrize(("user", "code"), [(OWNER, 0), (RIVAL, UNAUTHORIZED), (ROOT, 0)])
def test_an_operation_is_ended_by_its_user_or_a_holder_of_killop(
    server: Guard | Mongod, direct: Client, user: str, code: int
) -> None:
    with slow_query(server, direct, OWNER) as opid, logged_in(server, user) as raw:
        assert code_of(raw.command("admin", {"killOp": 1, "op": opid})) == code


@pytest.mark.parametrize(("user", "code"), [(OWNER, UNAUTHORIZED), (ROOT, 0)])
@pytest.mark.parametrize("number", [NOWHERE, Int64(NOWHERE), float(NOWHERE), -1], ids=repr)
def test_an_operation_that_is_none_is_ended_by_holders_of_killop_only(
    server: Guard | Mongod, user: str, code: int, number: Any
) -> None:
    with logged_in(server, user) as raw:
        assert code_of(raw.command("admin", {"killOp": 1, "op": number})) == code


@pytest.mark.parametrize("op", ["x", True, None, {"$gt": 0}, 1.5, "absent"], ids=repr)
def test_a_number_that_is_none_ends_nothing(guarded: Guard, direct: Client, op: Any) -> None:
    command: dict[str, Any] = {"killOp": 1} if op == "absent" else {"killOp": 1, "op": op}
    with slow_query(guarded, direct, OWNER), logged_in(guarded, OWNER) as owner:
        assert owner.command("admin", command)["ok"] == 0


# ---- sessions -------------------------------------------------------------------------------------------------------


def use(raw: RawConnection, lsid: dict[str, Any]) -> None:
    """Make the server know a session."""
    assert raw.command("shop", {"find": "own", "limit": 1, "lsid": lsid})["ok"] == 1


def opened(raw: RawConnection, lsid: dict[str, Any]) -> Int64:
    """A cursor in that session: it goes when the session is killed."""
    reply = raw.command("shop", {"find": "own", "batchSize": 1, "lsid": lsid})
    assert reply["cursor"]["id"], reply
    return Int64(reply["cursor"]["id"])


def lives(raw: RawConnection, cursor: Int64, lsid: dict[str, Any]) -> bool:
    """Whether that cursor can still be read."""
    reply = raw.command("shop", {"getMore": cursor, "collection": "own", "batchSize": 1, "lsid": lsid})
    assert code_of(reply) in (0, 43), reply
    return bool(reply["ok"])


def sessions(raw: RawConnection, stage: str, options: dict[str, Any]) -> set[tuple[bytes, bytes]]:
    """The (id, owner) of the sessions that are listed."""
    db, source = ("config", "system.sessions") if stage == "$listSessions" else ("admin", 1)
    reply = raw.command(
        db, {"aggregate": source, "pipeline": [{stage: options}], "cursor": {"batchSize": 10_000}}
    )
    return {(bytes(s["_id"]["id"]), bytes(s["_id"]["uid"])) for s in listed(reply)}


def ids(found: set[tuple[bytes, bytes]]) -> set[bytes]:
    """Without the owners."""
    return {one for one, _owner in found}


@pytest.mark.parametrize("stage", ["$listLocalSessions", "$listSessions"])
def test_own_sessions_are_listed_to_their_user_only(
    server: Guard | Mongod, direct: Client, stage: str
) -> None:
    own, foreign = new_session(), new_session()
    with (
        logged_in(server, OWNER) as owner,
        logged_in(server, RIVAL) as rival,
        logged_in(server, ROOT) as root,
    ):
        use(owner, own)
        use(rival, foreign)
        if stage == "$listSessions":  # what is written to the collection is local no more
            direct.admin.command("refreshLogicalSessionCacheNow")
        me = [{"user": OWNER, "db": "admin"}]
        forms: list[dict[str, Any]] = [{}, {"allUsers": False}, {"users": me}, {"users": []}]
        for options in forms:
            found = sessions(owner, stage, options)
            assert bytes(own["id"]) in ids(found), options
            assert bytes(foreign["id"]) not in ids(found), options
            assert {uid for _id, uid in found} == {bytes(digest(OWNER))}
        everybody = sessions(root, stage, {"allUsers": True})
        assert {bytes(own["id"]), bytes(foreign["id"])} <= ids(everybody)
        named = sessions(root, stage, {"users": me})
        assert bytes(own["id"]) in ids(named)
        assert bytes(foreign["id"]) not in ids(named)
        assert bytes(own["id"]) not in ids(sessions(root, stage, {}))


@pytest.mark.parametrize("stage", ["$listLocalSessions", "$listSessions"])
@pytest.mark.parametrize(
    "options",
    [
        {"allUsers": True},
        {"users": [{"user": RIVAL, "db": "admin"}]},
        {"users": [{"user": OWNER, "db": "shop"}]},
        {"users": [{"user": OWNER, "db": "admin"}, {"user": RIVAL, "db": "admin"}]},
    ],
    ids=str,
)
def test_others_sessions_are_not_listed_to_who_may_not(
    server: Guard | Mongod, stage: str, options: dict[str, Any]
) -> None:
    db, source = ("config", "system.sessions") if stage == "$listSessions" else ("admin", 1)
    command: dict[str, Any] = {"aggregate": source, "pipeline": [{stage: options}], "cursor": {}}
    with logged_in(server, OWNER) as owner, logged_in(server, ROOT) as root:
        assert code_of(owner.command(db, command)) == UNAUTHORIZED
        assert code_of(root.command(db, command)) == 0


def test_killing_nothing_in_particular_kills_all_of_ones_own(server: Guard | Mongod) -> None:
    first, second, foreign = new_session(), new_session(), new_session()
    with logged_in(server, OWNER) as owner, logged_in(server, RIVAL) as rival:
        own = [(opened(owner, lsid), lsid) for lsid in (first, second)]
        others = opened(rival, foreign)
        assert code_of(owner.command("admin", {"killSessions": []})) == 0
        assert [lives(owner, *one) for one in own] == [False, False]
        assert lives(rival, others, foreign)


@pytest.mark.parametrize("with_digest", [False, True])
def test_killing_ones_own_session_kills_that_one(server: Guard | Mongod, with_digest: bool) -> None:
    killed, kept = new_session(), new_session()
    with logged_in(server, OWNER) as owner:
        cursors = [opened(owner, lsid) for lsid in (killed, kept)]
        named = {**killed, "uid": digest(OWNER)} if with_digest else killed
        assert code_of(owner.command("shop", {"killSessions": [named]})) == 0
        assert not lives(owner, cursors[0], killed)
        assert lives(owner, cursors[1], kept)


@pytest.mark.parametrize("command", ["killSessions", "endSessions"])
def test_the_id_of_another_users_session_is_not_that_session(server: Guard | Mongod, command: str) -> None:
    lsid = new_session()
    with (
        logged_in(server, OWNER) as owner,
        logged_in(server, RIVAL) as rival,
        logged_in(server, ROOT) as root,
    ):
        cursor = opened(owner, lsid)
        for raw in (rival, root):
            assert code_of(raw.command("admin", {command: [lsid]})) == 0
        assert lives(owner, cursor, lsid)


FOREIGN: dict[str, dict[str, int]] = {
    "killSessions": {RIVAL: UNAUTHORIZED, ROOT: 0},
    "endSessions": {RIVAL: UNAUTHORIZED, ROOT: UNAUTHORIZED},
    "refreshSessions": {RIVAL: UNAUTHORIZED, ROOT: UNAUTHORIZED},
}


@pytest.mark.parametrize("user", [RIVAL, ROOT])
@pytest.mark.parametrize("command", FOREIGN)
def test_a_session_named_with_its_owners_digest(server: Guard | Mongod, command: str, user: str) -> None:
    lsid = new_session()
    with logged_in(server, OWNER) as owner, logged_in(server, user) as raw:
        cursor = opened(owner, lsid)
        code = code_of(raw.command("admin", {command: [{**lsid, "uid": digest(OWNER)}]}))
        assert code == FOREIGN[command][user]
        assert lives(owner, cursor, lsid) is (code != 0)


@pytest.mark.parametrize("command", ["endSessions", "refreshSessions"])
@pytest.mark.parametrize("with_digest", [False, True])
def test_ones_own_sessions_are_ended_and_refreshed(
    server: Guard | Mongod, command: str, with_digest: bool
) -> None:
    lsid = new_session()
    with logged_in(server, OWNER) as owner:
        use(owner, lsid)
        named = {**lsid, "uid": digest(OWNER)} if with_digest else lsid
        assert code_of(owner.command("admin", {command: [named]})) == 0
        assert code_of(owner.command("admin", {command: []})) == 0


PATTERNS: dict[str, Any] = {
    "all": [],
    "everything": [{}],
    "one": lambda lsid: [{"lsid": {**lsid, "uid": digest(OWNER)}}],
    "owner": [{"uid": digest(OWNER)}],
    "users": [{"users": [{"user": OWNER, "db": "admin"}]}],
    "roles": [{"roles": [{"role": "readWrite", "db": "shop"}]}],
    "mixed": [{"uid": digest(RIVAL)}, {"users": [{"user": OWNER, "db": "admin"}]}],
}
KILLS = {"all", "everything", "one", "owner"}


@pytest.mark.parametrize("form", PATTERNS)
def test_sessions_are_killed_by_pattern_by_holders_of_the_right_only(
    server: Guard | Mongod, form: str
) -> None:
    lsid = new_session()
    found = PATTERNS[form]
    command: dict[str, Any] = {"killAllSessionsByPattern": found(lsid) if callable(found) else found}
    with logged_in(server, OWNER) as owner, logged_in(server, ROOT) as root:
        cursor = opened(owner, lsid)
        assert code_of(owner.command("admin", command)) == UNAUTHORIZED
        assert lives(owner, cursor, lsid)
        # root lacks impersonate, which acting as a user or a role needs
        assert code_of(root.command("admin", command)) == (0 if form in KILLS else UNAUTHORIZED)
        assert lives(owner, cursor, lsid) is (form not in KILLS)


@pytest.mark.parametrize("users", [[], [{"user": OWNER, "db": "admin"}]], ids=["everybody", "one"])
def test_all_sessions_are_killed_by_holders_of_the_right_only(
    server: Guard | Mongod, users: list[dict[str, str]]
) -> None:
    lsid, foreign = new_session(), new_session()
    with (
        logged_in(server, OWNER) as owner,
        logged_in(server, RIVAL) as rival,
        logged_in(server, ROOT) as root,
    ):
        cursor, other = opened(owner, lsid), opened(rival, foreign)
        assert code_of(owner.command("admin", {"killAllSessions": users})) == UNAUTHORIZED
        assert lives(owner, cursor, lsid)
        assert code_of(root.command("admin", {"killAllSessions": users})) == 0
        assert not lives(owner, cursor, lsid)
        assert lives(rival, other, foreign) is bool(users)


UUID_ONE = {"id": Binary(b"x" * 16, 4)}
FOREIGN_ONE = {**UUID_ONE, "uid": Binary(b"x" * 32)}
NOT_PATTERNS: list[Any] = [
    *(
        1,
        None,
        {},
        "s",
        [1],
        [None],
        [[]],
        [{"bogus": 1}],
        [{"uid": 1}],
        [{"lsid": {}}],
        [{"lsid": UUID_ONE}],
    ),
    *([{"users": []}], [{"roles": []}], [{"users": []}, 1]),
]
LISTED_WRONGLY: list[Any] = [
    *({"allUsers": both, "users": users} for both in (True, False, None) for users in ([], [None], None)),
    *({"allUsers": both, "users": [{"user": OWNER, "db": "admin"}]} for both in (True, False)),
    *({"allUsers": both, "users": [{"user": RIVAL, "db": "admin"}]} for both in (True, False)),
    *({"users": [None, {"user": user, "db": "admin"}]} for user in (OWNER, RIVAL)),
    *({"users": users} for users in (1, [1], [{"user": None, "db": "x"}], [{"user": 1, "db": "x"}], [{}])),
]
FORMS: list[dict[str, Any]] = [
    *({"killAllSessionsByPattern": patterns} for patterns in NOT_PATTERNS),
    *({"killAllSessions": users} for users in (1, None, [1], [{"bogus": 1}])),
    *({"killOp": 1, "op": op} for op in (1.5, 3e9, 2.0**63, float("nan"), -float("inf"), 1e300)),
    *(
        {"killOp": 1, "op": Decimal128(op)}
        for op in ("1.5", "NaN", "-Infinity", "1E+19", "3E+9", "2147483648")
    ),
    *({"killOp": 1, "op": Decimal128(op)} for op in ("9223372036854775808", "1E-3", "4611686018427387904.5")),
    *({"killOp": 1, "op": Decimal128(op)} for op in ("2E+9", "1.9999999999999999999E+9")),
    *(
        {command: sessions}
        for command in ("killSessions", "endSessions", "refreshSessions")
        for sessions in (None, 1, [1], [None, 1], [None, UUID_ONE], [UUID_ONE, None], [None, FOREIGN_ONE])
    ),
    *({command: [None]} for command in ("killSessions", "endSessions", "refreshSessions")),
    *(
        {"aggregate": 1, "pipeline": [{"$listLocalSessions": options}], "cursor": {}}
        for options in LISTED_WRONGLY
    ),
]


@pytest.mark.parametrize("user", [OWNER, ROOT])
def test_every_form_is_answered_with_mongods_code(guarded: Guard, user: str) -> None:
    for command in FORMS:
        with logged_in(guarded.upstream, user) as there, logged_in(guarded, user) as here:
            expected, answered = there.command("admin", command), here.command("admin", command)
            if user == ROOT and command == {"killAllSessionsByPattern": [{"users": []}, 1]}:
                # mongod parses all patterns before it asks for impersonate
                assert (code_of(expected), code_of(answered)) == (14, UNAUTHORIZED)
            else:
                assert code_of(answered) == code_of(expected), (command, expected, answered)


def test_nulls_are_no_sessions_so_all_of_ones_own_are_killed(server: Guard | Mongod) -> None:
    own, foreign = new_session(), new_session()
    with logged_in(server, OWNER) as owner, logged_in(server, RIVAL) as rival:
        mine, others = opened(owner, own), opened(rival, foreign)
        assert code_of(owner.command("admin", {"killSessions": [None]})) == 0
        assert not lives(owner, mine, own)
        assert lives(rival, others, foreign)


def test_nulls_among_users_list_ones_own_sessions(server: Guard | Mongod) -> None:
    own, foreign = new_session(), new_session()
    with logged_in(server, OWNER) as owner, logged_in(server, RIVAL) as rival:
        use(owner, own)
        use(rival, foreign)
        for users in ([None], [None, {"user": OWNER, "db": "admin"}]):
            found = sessions(owner, "$listLocalSessions", {"users": users})
            assert {uid for _id, uid in found} <= {bytes(digest(OWNER))}
            assert bytes(foreign["id"]) not in ids(found)


@pytest.mark.parametrize(
    ("db", "command"),
    [
        ("admin", {"usersInfo": {"forAllDBs": True}}),
        ("admin", {"usersInfo": 1}),
        ("admin", {"usersInfo": "mongoguard"}),
        ("admin", {"rolesInfo": 1}),
    ],
    ids=str,
)
def test_an_administrator_is_shown_the_service_user_as_by_mongod(
    guarded: Guard, db: str, command: dict[str, Any]
) -> None:
    """It is an account of the deployment, and its mightiest: who watches over accounts must see it."""
    with logged_in(guarded.upstream, ROOT) as there, logged_in(guarded, ROOT) as here:
        (name,) = {"users", "roles"} & set(expected := there.command(db, command))
        assert here.command(db, command)[name] == expected[name]
        if name == "users":
            assert {"mongoguard"} <= {user["user"] for user in expected[name]}


MALFORMED: list[dict[str, Any]] = [
    {"killSessions": 1},
    {"killSessions": [1]},
    {"killSessions": [{"id": 1}]},
    {"killSessions": [{"id": Binary(b"x", 4)}]},
    {"killSessions": [{"bogus": 1}]},
    {"killSessions": [{"id": Binary(b"x" * 16, 4), "uid": 1}]},
    {"endSessions": {}},
    {"endSessions": [{}]},
    {"refreshSessions": [{"id": Binary(b"x" * 16, 4), "bogus": 1}]},
]


@pytest.mark.parametrize("command", MALFORMED, ids=str)
def test_malformed_sessions_are_refused_with_mongods_code(guarded: Guard, command: dict[str, Any]) -> None:
    with logged_in(guarded.upstream, OWNER) as there, logged_in(guarded, OWNER) as here:
        expected = code_of(there.command("admin", command))
        assert expected
        assert code_of(here.command("admin", command)) == expected


def test_the_service_users_own_sessions_and_operations_are_nobodys(guarded: Guard) -> None:
    """What runs as the service user without a user behind it, such as the directory's questions."""
    uid = bytes(digest("mongoguard"))
    for user in (OWNER, RIVAL, ROOT):
        with logged_in(guarded, user) as raw:
            for options in ({}, {"users": [{"user": user, "db": "admin"}]}):
                assert uid not in {owner for _id, owner in sessions(raw, "$listLocalSessions", options)}
            for form in OWN_FORMS:
                for operation in listed(raw.command("admin", form)):
                    assert {"user": "mongoguard", "db": "admin"} not in operation.get("effectiveUsers", [])


def test_no_user_takes_the_service_users_name(guarded: Guard) -> None:
    with guarded.client() as root, pytest.raises(OperationFailure):
        root.admin.command("createUser", "mongoguard", pwd="x", roles=[])
