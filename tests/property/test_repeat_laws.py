"""A request that is relayed without a decision of its own is relayed as one that was decided."""

from __future__ import annotations

from typing import Any

import bson
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

from mongoguard.effects import Effect, Relay
from mongoguard.errors import GuardError
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.proxy.client_session import ClientSession
from mongoguard.proxy.deployment import Impersonation
from mongoguard.wire import native
from tests.playbook import make_session, reply_of, user_with
from tests.rawwire import OP_MSG, message, sequence_section

pytestmark = pytest.mark.skipif(native.native_outline is None, reason="repeats are known by the part in C")

RIGHTS = {ResourcePattern.for_exact_namespace("shop", "orders"): frozenset({"find", "insert"})}
LSID = {"id": bson.Binary(bytes(range(16)), 4)}
CLIENT = b"\x03$client\0" + bson.encode({"application": {"name": "till"}})
CLUSTER_TIME = {"clusterTime": bson.Timestamp(7, 1), "signature": {"hash": b"h" * 20, "keyId": bson.Int64(5)}}

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
    st.binary(max_size=6),
    st.dictionaries(st.sampled_from(["a", "_id", "$where"]), st.integers(0, 9), max_size=2),
    st.lists(st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 9), max_size=1), max_size=2),
)
sessions = st.one_of(
    st.just(LSID),
    st.builds(lambda raw: {"id": bson.Binary(raw, 4)}, st.binary(min_size=15, max_size=17)),
    st.builds(lambda uid: {**LSID, "uid": uid}, st.binary(min_size=32, max_size=32)),
    st.builds(lambda kind: {"id": bson.Binary(bytes(16), kind)}, st.integers(0, 5)),
    values,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "filter": values,
    "query": values,
    "key": values,
    "documents": values,
    "limit": values,
    "singleBatch": values,
    "term": values,
    "encryptionInformation": values,
    "bypassDocumentValidation": values,
    "ordered": st.booleans(),
    "lsid": sessions,
    "txnNumber": st.just(bson.Int64(4)),
    "autocommit": st.booleans(),
    "comment": values,
    "readConcern": values,
    "apiVersion": st.sampled_from(["1", "2"]),
    "$clusterTime": st.one_of(st.just(CLUSTER_TIME), values),
    "$readPreference": st.sampled_from([{"mode": "secondary"}, {"mode": "primary"}, 1]),
    "$audit": st.sampled_from([{"$impersonatedUsers": []}, 1]),
    "$client": st.sampled_from([{"application": {"name": "other"}}, 1]),
    "maxTimeMSOpOnly": values,
    "unknown": values,
    "$tenant": values,
}
commands = st.sampled_from(["find", "count", "distinct", "insert", "delete", "usersInfo"])
targets = st.sampled_from(["orders", "orders", "orders", "others", "", "system.users", 1])
databases = st.sampled_from(["shop", "shop", "shop", "admin", "", 1])


@st.composite
def bodies(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """The fields of a command in some order, the command first; perhaps one twice."""
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=5, unique=draw(st.booleans())))
    fields = [(name, draw(FIELDS[name])) for name in names]
    fields.insert(draw(st.integers(0, len(fields))), ("$db", draw(databases)))
    return [(draw(commands), draw(targets)), *fields]


@st.composite
def others_like(draw: st.DrawFn, fields: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The same fields, some of them with other values."""
    return [(n, draw(FIELDS[n]) if n in FIELDS and draw(st.booleans()) else v) for n, v in fields]


def encoded(fields: list[tuple[str, Any]], documents: int | None, flags: int = 0) -> bytes:
    """The OP_MSG, with a sequence of that many documents."""
    elements = b"".join(bson.encode({name: value})[4:-1] for name, value in fields)
    body = b"\0" + (len(elements) + 5).to_bytes(4, "little") + elements + b"\0"
    sequence = (
        b"" if documents is None else sequence_section("documents", [{"_id": i} for i in range(documents)])
    )
    return message(OP_MSG, flags.to_bytes(4, "little") + body + sequence)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Some bytes behind the header replaced, taken out or put in; the length mended."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(12, max(12, len(changed) - 1)))
        changed[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    changed[:4] = len(changed).to_bytes(4, "little")
    return bytes(changed)


Outcome = tuple[str, object]


def outcome(session: ClientSession, data: bytes) -> Outcome:
    """What is asked of the shell first, the reply, or how the connection ends."""
    flow = session.handle(data)
    try:
        effect: Effect[object] = flow.send(None)
    except StopIteration as stop:
        return "reply", stop.value
    except GuardError as error:
        return "end", str(error)
    if isinstance(effect, Relay):
        try:
            flow.send(
                reply_of({"cursor": {"firstBatch": [], "id": bson.Int64(0), "ns": "shop.orders"}, "ok": 1.0})
            )
        except StopIteration as stop:
            return "relayed", (effect, stop.value)
    return "effect", repr(effect)


def both_ways(
    first: bytes, second: bytes, impersonation: Impersonation, client_element: bytes = b""
) -> tuple[Outcome, Outcome]:
    """What becomes of the second message with what was learned from the first one, and without."""
    outcomes = []
    for has_learned in (True, False):
        session = make_session(user_with(RIGHTS), impersonation=impersonation)
        session.introduce(client_element)
        outcome(session, first)
        if not has_learned:
            session.repeats = None
        outcomes.append(outcome(session, second))
    return outcomes[0], outcomes[1]


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), bodies(), st.sampled_from(Impersonation), st.sampled_from([b"", CLIENT]))
def test_what_was_learned_changes_nothing(
    data: st.DataObject, fields: list[tuple[str, Any]], impersonation: Impersonation, client_element: bytes
) -> None:
    first = encoded(fields, data.draw(st.sampled_from([None, None, 1, 2])))
    like = encoded(data.draw(others_like(fields)), data.draw(st.sampled_from([None, 0, 1, 3])))
    with_repeats, without = both_ways(first, data.draw(damaged(like)), impersonation, client_element)
    assert with_repeats == without


@settings(max_examples=300)
@given(values, values, sessions, st.sampled_from(Impersonation))
@example({}, {"$where": 1}, LSID, Impersonation.USERS)
def test_a_read_with_other_values_is_relayed_as_if_it_were_the_first(
    one: object, other: object, lsid: object, impersonation: Impersonation
) -> None:
    def find(wanted: object, lsid: object) -> bytes:
        return encoded([("find", "orders"), ("filter", wanted), ("lsid", lsid), ("$db", "shop")], None)

    with_repeats, without = both_ways(find(one, LSID), find(other, lsid), impersonation)
    assert with_repeats == without


@settings(max_examples=200)
@given(st.data(), st.integers(0, 3))
def test_damage_to_a_message_that_was_learned_is_seen(data: st.DataObject, documents: int) -> None:
    first = encoded([("insert", "orders"), ("ordered", True), ("lsid", LSID), ("$db", "shop")], documents)
    with_repeats, without = both_ways(first, data.draw(damaged(first)), Impersonation.USERS)
    assert with_repeats == without
