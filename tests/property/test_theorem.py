"""The theorem: for no input does a client session ask for a relay before an allowing decision on that very message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import json_util
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongoguard.command.catalog import COMMANDS
from mongoguard.model.action_type import ActionType
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from mongoguard.model.user import User
from mongoguard.proxy.cursors import CursorTable
from mongoguard.proxy.settings import SessionSettings
from tests.playbook import logged_in, make_session, user_with
from tests.rawwire import OP_MSG, OP_QUERY, header, op_msg, op_query, sequence_section
from tests.theorem import CLIENT, check_message
from tests.unit.wire.cases import CASES

MEASURED = Path(__file__).parents[2] / "fixtures" / "mongod" / "6.0.5" / "min_privileges.json"
ALICE, BOB = UserName("alice", "shop"), UserName("bob", "admin")


def _measured_commands() -> list[tuple[str, dict[str, Any]]]:
    options = json_util.JSONOptions(json_mode=json_util.JSONMode.RELAXED, uuid_representation=0)
    entries = json.loads(MEASURED.read_text())["entries"]
    return [(e["db"], json_util.loads(json.dumps(e["command"]), json_options=options)) for e in entries]


COMMANDS_THAT_RUN = _measured_commands()
LSID = bson.Binary(b"i" * 16, 4)

resources = st.sampled_from(
    [
        CLUSTER,
        ResourcePattern.for_any_resource(),
        ResourcePattern.for_any_normal_resource(),
        ResourcePattern.for_database("t"),
        ResourcePattern.for_database("admin"),
        ResourcePattern.for_collection("c"),
        ResourcePattern.for_exact_namespace("t", "c"),
        ResourcePattern.for_exact_namespace("t", "o"),
    ]
)
actions = st.one_of(
    st.frozensets(st.sampled_from(sorted(ActionType)).map(str), max_size=6),
    st.just(frozenset({"find", "insert", "update", "remove", "listCollections", "killCursors"})),
    st.just(frozenset({"anyAction"})),
    st.just(frozenset(map(str, ActionType)) - {"anyAction", "impersonate", "internal"}),
)
users = st.one_of(
    st.none(),
    st.builds(
        user_with,
        st.dictionaries(resources, actions, max_size=4),
        st.sampled_from([ALICE, BOB]),
        roles=st.sampled_from([(), (RoleName("clerk", "shop"), RoleName("mprole", "admin"))]),
    ),
    st.just(user_with({ResourcePattern.for_any_resource(): frozenset({"anyAction"})}, BOB)),
)

junk = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from([0, 1, -1, 2**40, 1.5, "", "c", "o", "t.c", "$cmd", "system.users", "é", b"x", LSID]),
        st.just(bson.Int64(5)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["a", "id", "uid", "$match", "$out", "$lookup", "from", "allUsers"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=5,
)
lsids = st.one_of(
    st.just({"id": LSID}),
    st.just({"id": LSID, "uid": None}),
    st.binary(min_size=32, max_size=32).map(lambda uid: {"id": LSID, "uid": uid}),
    junk,
)
generic = st.fixed_dictionaries(
    {},
    optional={
        "lsid": lsids,
        "$audit": st.one_of(
            junk, st.just({"$impersonatedUsers": [{"user": "root", "db": "admin"}], "$impersonatedRoles": []})
        ),
        "comment": junk,
        "txnNumber": st.just(bson.Int64(1)),
        "autocommit": st.booleans(),
        "$readPreference": st.just({"mode": "secondary"}),
        "maxTimeMS": st.just(5),
        "apiVersion": st.sampled_from(["1", "2"]),
        "mayBypassWriteBlocking": st.booleans(),
        "$tenant": junk,
        "unknownArgument": junk,
    },
)
dbs = st.sampled_from(["t", "admin", "config", "local", "$external", ""])


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A command that a server runs, or one of a known name with arguments at random; then generic arguments."""
    if draw(st.booleans()):
        db, command = draw(st.sampled_from(COMMANDS_THAT_RUN))
        body = dict(command)
    else:
        row = draw(st.sampled_from([*COMMANDS.values()]))
        name = draw(st.sampled_from([row.name, *row.aliases]))
        fields = sorted(row.fields or {"a"})
        body = {name: draw(junk), **draw(st.dictionaries(st.sampled_from(fields), junk, max_size=3))}
        db = draw(dbs)
    if draw(st.booleans()):
        body |= draw(generic)
    return {**body, "$db": db}


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A framed message: well-formed, or damaged afterwards."""
    body = draw(bodies())
    rows = st.lists(
        st.sampled_from([{}, {"_id": 1}, {"q": {}, "u": {}, "limit": 0}, {"insert": 0}]), max_size=3
    )
    sections = [
        sequence_section(name, draw(rows))
        for name in draw(
            st.lists(
                st.sampled_from(["documents", "updates", "deletes", "ops", "x"]), max_size=2, unique=True
            )
        )
        if draw(st.booleans())
    ]
    flags = draw(st.sampled_from([0, 0, 0, 1, 2, 3, 1 << 16, 1 << 20, 4]))
    for name in [s[5 : s.index(b"\0", 5)].decode() for s in sections]:
        if draw(st.booleans()):
            body.pop(name, None)
    if draw(st.integers(0, 9)) == 0:
        return op_query(body, draw(st.sampled_from(["admin.$cmd", "t.$cmd", "t.c"])))
    if draw(st.booleans()):
        data = op_msg(body, *sections, flags=flags)
    else:
        data = op_msg(body, before=b"".join(sections), flags=flags)
    return data if draw(st.integers(0, 3)) else _damaged(draw, data)


def _damaged(draw: st.DrawFn, data: bytes) -> bytes:
    payload = bytearray(data[16:])
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(payload)))
        payload[start : start + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return data[:0] + header(16 + len(payload), int.from_bytes(data[12:16], "little")) + bytes(payload)


raw_messages = st.one_of(
    st.sampled_from([case.data for case in CASES]),
    st.tuples(st.sampled_from([OP_MSG, OP_QUERY, 2005, 2012, 1]), st.binary(max_size=60)).map(
        lambda pair: header(16 + len(pair[1]), pair[0]) + pair[1]
    ),
)
replies = st.sampled_from(
    [
        {"ok": 1.0},
        {"ok": 0.0, "code": 43, "errmsg": "no"},
        {"cursor": {"firstBatch": [], "id": bson.Int64(5), "ns": "t.c"}, "ok": 1.0},
        {"cursor": {"nextBatch": [{"name": "c"}], "id": bson.Int64(0), "ns": "t.c"}, "ok": 1.0},
        {"databases": [{"name": "t", "sizeOnDisk": 1}], "totalSize": 1, "ok": 1.0},
    ]
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(users, st.one_of(messages(), messages(), messages(), raw_messages), st.booleans(), replies),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_nothing_is_relayed_before_an_allowing_decision(
    sent: list[tuple[User | None, bytes, bool, dict[str, Any]]], explains: bool
):
    session = make_session(
        settings=SessionSettings(explain_denials=explains, audit_authorization_success=explains),
        cursors=CursorTable(),
    )
    session.introduce(CLIENT)
    for user, data, compressed, reply in sent:
        check_message(
            logged_in(session, user), data, compressed=compressed, reply=reply, owns_operations=explains
        )


ROOT = user_with({ResourcePattern.for_any_resource(): frozenset({"anyAction"})}, BOB)


@pytest.mark.parametrize("entry", COMMANDS_THAT_RUN, ids=lambda entry: " ".join(list(entry[1])[:1]))
def test_the_measured_commands_are_relayed_for_root_and_not_for_nobody(entry: tuple[str, dict[str, Any]]):
    db, command = entry
    data = op_msg({**command, "$db": db})
    check_message(make_session(ROOT), data)
    nobody = check_message(make_session(None), data)
    assert not nobody.relays


def test_the_oracle_sees_relays_at_all():
    relayed = [
        entry
        for entry in COMMANDS_THAT_RUN
        if check_message(make_session(ROOT), op_msg({**entry[1], "$db": entry[0]})).relays
    ]
    assert len(relayed) > len(COMMANDS_THAT_RUN) * 3 // 4
