"""getMore and killCursors: the owner's, and mongod's refusals for everybody else."""

import dataclasses
from typing import Any

import pytest
from bson import Binary, Int64, Timestamp

from mongoguard.effects import CursorClaim, Emit, FetchUser, FindCursors, KeptCursor, Relay
from mongoguard.errors import UpstreamUnavailable
from mongoguard.model.names import UserName
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from mongoguard.model.user import User
from mongoguard.proxy.client_session import ClientSession
from mongoguard.proxy.cursor_commands import MAX_NAMESPACE_BYTES, MAX_SOUGHT, abandon_stream
from mongoguard.proxy.cursors import CursorEntry, CursorTable
from mongoguard.proxy.settings import SessionSettings
from tests.playbook import SERVER, Play, logged_in, make_session, relayed, reply_of, user_with
from tests.rawwire import EXHAUST_ALLOWED, MORE_TO_COME, op_msg

ORDERS = ResourcePattern.for_exact_namespace("shop", "orders")
READ = {ORDERS: frozenset({"find"})}
ALICE = user_with(READ)
BOB = user_with(READ, UserName("bob", "shop"))
LSID = {"id": Binary(b"s" * 16, 4)}
ID = 77


def cursor(cursor_id: int, batch: str = "firstBatch", ns: str = "shop.orders") -> dict[str, Any]:
    return {"cursor": {batch: [], "id": Int64(cursor_id), "ns": ns}, "ok": 1.0}


def opened(cursors: CursorTable | None = None, server: str = SERVER, **more: Any) -> ClientSession:
    """alice's session, on which she has opened cursor 77."""
    session = make_session(ALICE, cursors=cursors)
    play = Play(session).send(op_msg({"find": "orders", "$db": "shop", **more}))
    play.expect(Relay).answer(reply_of(cursor(ID), server=server)).reply()
    return session


def get_more(
    cursor_id: object = Int64(ID), collection: object = "orders", db: str = "shop", **more: Any
) -> bytes:
    return op_msg({"getMore": cursor_id, "collection": collection, "$db": db, **more})


def kill(*ids: int, collection: str = "orders", db: str = "shop") -> bytes:
    return op_msg({"killCursors": collection, "cursors": [Int64(i) for i in ids], "$db": db})


def refused(session: ClientSession, data: bytes) -> dict[str, Any]:
    """The refusal, which is audited once when it is one of rights."""
    play = Play(session).send(data)
    if isinstance(play.effect, Emit):
        assert play.emitted().result == 13
    reply = play.reply()
    assert reply["ok"] == 0.0
    return reply


def test_the_owner_goes_on_at_the_server_that_holds_the_cursor():
    session = opened(server="second:2")
    asked = Play(session).send(get_more()).expect(Relay)
    assert asked.effect.server == "second:2"
    assert relayed(asked.effect)["getMore"] == ID
    assert asked.answer(reply_of(cursor(ID, "nextBatch"))).reply()["ok"] == 1.0
    Play(session).send(get_more()).expect(Relay)


def test_an_exhausted_cursor_is_forgotten():
    session = opened()
    Play(session).send(get_more()).expect(Relay).answer(reply_of(cursor(0, "nextBatch"))).reply()
    assert refused(session, get_more())["code"] == 43


def test_a_cursor_that_the_server_does_not_know_any_more_is_forgotten():
    session = opened()
    gone = {"ok": 0.0, "code": 43, "errmsg": "cursor id 77 not found"}
    assert Play(session).send(get_more()).expect(Relay).answer(reply_of(gone)).reply() == gone
    assert len(session.cursors) == 0


def test_another_error_leaves_the_cursor():
    session = opened()
    Play(session).send(get_more()).expect(Relay).answer(reply_of({"ok": 0.0, "code": 50})).reply()
    assert len(session.cursors) == 1


def test_a_cursor_without_rows_left_is_never_known():
    session = make_session(ALICE)
    Play(session).send(op_msg({"find": "orders", "$db": "shop"})).expect(Relay).answer(
        reply_of(cursor(0))
    ).reply()
    assert len(session.cursors) == 0


def test_an_unknown_cursor_is_not_found_and_never_relayed():
    reply = refused(make_session(ALICE), get_more())
    assert (reply["code"], reply["errmsg"]) == (43, "cursor id 77 not found")


def test_a_stranger_is_refused_on_the_same_table():
    cursors = CursorTable()
    opened(cursors)
    reply = refused(make_session(BOB, cursors=cursors), get_more())
    assert (reply["code"], reply["errmsg"]) == (13, "cursor id 77 was not created by the authenticated user")
    Play(make_session(ALICE, cursors=cursors)).send(get_more()).expect(Relay)


def test_the_session_of_the_cursor_must_be_the_same_both_ways():
    assert "Cursor session id" in refused(opened(lsid=LSID), get_more())["errmsg"]
    assert "Cursor session id" in refused(opened(), get_more(lsid=LSID))["errmsg"]
    Play(opened(lsid=LSID)).send(get_more(lsid=LSID)).expect(Relay)


def test_the_namespace_of_the_cursor_must_be_the_same():
    assert "different namespace" in refused(opened(), get_more(collection="other"))["errmsg"]
    assert "different namespace" in refused(opened(), get_more(db="other"))["errmsg"]


def test_a_right_that_was_revoked_ends_the_cursor_for_its_owner():
    session = opened()
    reply = refused(logged_in(session, user_with({})), get_more())
    assert (reply["code"], reply["errmsg"]) == (13, "not authorized for getMore with cursor id 77")
    Play(logged_in(session, ALICE)).send(get_more()).expect(Relay)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (get_more(cursor_id=77), 14),
        (get_more(cursor_id="77"), 14),
        (get_more(collection=5), 14),
        (get_more(collection=""), 73),
        (op_msg({"getMore": Int64(ID), "$db": "shop"}), 40414),
    ],
)
def test_a_malformed_get_more_is_refused_as_mongod_refuses_it(data: bytes, code: int):
    assert refused(opened(), data)["code"] == code


def test_the_owner_may_kill_a_cursor():
    session = opened(server="second:2")
    asked = Play(session).send(kill(ID)).expect(Relay)
    assert asked.effect.server == "second:2"
    assert relayed(asked.effect)["cursors"] == [ID]
    reply = asked.answer(
        reply_of(
            {
                "cursorsKilled": [Int64(ID)],
                "cursorsNotFound": [],
                "cursorsAlive": [],
                "cursorsUnknown": [],
                "ok": 1.0,
            }
        )
    ).reply()
    assert reply["cursorsKilled"] == [ID]
    assert len(session.cursors) == 0


def test_unknown_cursors_are_not_found_and_not_relayed():
    reply = Play(opened()).send(kill(1, 2)).reply()
    assert (reply["ok"], reply["cursorsNotFound"], reply["cursorsKilled"]) == (1.0, [1, 2], [])


def test_known_and_unknown_cursors_are_told_apart():
    asked = Play(opened()).send(kill(1, ID)).expect(Relay)
    assert relayed(asked.effect)["cursors"] == [ID]
    reply = asked.answer(reply_of({"cursorsKilled": [Int64(ID)], "cursorsNotFound": [], "ok": 1.0})).reply()
    assert (reply["cursorsKilled"], reply["cursorsNotFound"]) == ([ID], [1])


def test_cursors_of_two_servers_are_killed_on_each():
    session = opened(server="a:1")
    Play(session).send(op_msg({"find": "orders", "$db": "shop"})).expect(Relay).answer(
        reply_of(cursor(78), server="b:2")
    ).reply()
    first = Play(session).send(kill(77, 78)).expect(Relay)
    assert (first.effect.server, relayed(first.effect)["cursors"]) == ("a:1", [77])
    second = first.answer(reply_of({"cursorsKilled": [Int64(77)], "ok": 1.0})).expect(Relay)
    assert (second.effect.server, relayed(second.effect)["cursors"]) == ("b:2", [78])
    reply = second.answer(reply_of({"cursorsAlive": [Int64(78)], "ok": 1.0})).reply()
    assert (reply["cursorsKilled"], reply["cursorsAlive"]) == ([77], [78])
    assert session.cursors.find(77) is None
    assert session.cursors.find(78) is not None


def times(seconds: int) -> dict[str, Any]:
    signed = {"clusterTime": Timestamp(seconds, 1), "signature": {"keyId": Int64(seconds)}}
    return {"operationTime": Timestamp(seconds, 1), "$clusterTime": signed}


@pytest.mark.parametrize(("first_says", "second_says"), [(5, 6), (6, 5)])
def test_the_newest_times_of_the_servers_are_told(first_says: int, second_says: int):
    session = opened(server="a:1")
    Play(session).send(op_msg({"find": "orders", "$db": "shop"})).expect(Relay).answer(
        reply_of(cursor(78), server="b:2")
    ).reply()
    first = Play(session).send(kill(77, 78)).expect(Relay)
    second = first.answer(reply_of({"cursorsKilled": [Int64(77)], "ok": 1.0, **times(first_says)})).expect(
        Relay
    )
    reply = second.answer(reply_of({"cursorsKilled": [Int64(78)], "ok": 1.0, **times(second_says)})).reply()
    assert reply["cursorsKilled"] == [77, 78]
    assert {name: reply[name] for name in times(6)} == times(6)


@pytest.mark.parametrize(
    "said", [{}, {"operationTime": 5, "$clusterTime": 5}, {"$clusterTime": {"clusterTime": 5}}]
)
def test_where_no_server_says_a_time_none_is_told(said: dict[str, Any]):
    asked = Play(opened()).send(kill(ID)).expect(Relay)
    reply = asked.answer(reply_of({"cursorsKilled": [Int64(ID)], "ok": 1.0, **said})).reply()
    assert reply["cursorsKilled"] == [ID]
    assert not set(reply) & {"operationTime", "$clusterTime"}


def test_an_error_of_the_server_is_the_answer():
    error = {"ok": 0.0, "code": 8000, "errmsg": "no"}
    assert Play(opened()).send(kill(ID)).expect(Relay).answer(reply_of(error)).reply() == error


@pytest.mark.parametrize(
    ("privileges", "allowed"),
    [
        ({ORDERS: frozenset({"find"})}, False),
        ({ORDERS: frozenset({"killCursors"})}, False),
        ({ORDERS: frozenset({"killAnyCursor"})}, True),
        ({CLUSTER: frozenset({"killAnyCursor"})}, True),
        ({ResourcePattern.for_exact_namespace("shop", "other"): frozenset({"killAnyCursor"})}, False),
    ],
)
def test_another_users_cursor_needs_kill_any_cursor_on_its_own_namespace(
    privileges: dict[ResourcePattern, frozenset[str]], allowed: bool
):
    cursors = CursorTable()
    opened(cursors)
    session = make_session(user_with(privileges, UserName("bob", "shop")), cursors=cursors)
    for data in (kill(1, ID), kill(ID, collection="other")):
        if allowed:
            Play(session).send(data).expect(Relay)
        else:
            reply = refused(session, data)
            assert (reply["code"], reply["errmsg"][:22]) == (13, "not authorized on shop")
    assert len(cursors) == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"killCursors": 5, "cursors": []}, 14),
        ({"killCursors": "orders"}, 40414),
        ({"killCursors": "orders", "cursors": 5}, 14),
        ({"killCursors": "orders", "cursors": [5]}, 14),
    ],
)
def test_a_malformed_kill_cursors_is_refused_as_mongod_refuses_it(body: dict[str, Any], code: int):
    assert refused(opened(), op_msg({**body, "$db": "shop"}))["code"] in {code, 73, 2}


def test_without_authorization_everybody_may():
    cursors = CursorTable()
    settings = SessionSettings(authorization_enabled=False)
    session = make_session(None, cursors=cursors, settings=settings)
    Play(session).send(op_msg({"find": "orders", "$db": "shop"})).expect(Relay).answer(
        reply_of(cursor(ID))
    ).reply()
    Play(session).send(get_more()).expect(Relay)
    Play(session).send(kill(ID)).expect(Relay)


def test_without_authorization_a_cursor_is_everybodys():
    cursors = CursorTable()
    opener = make_session(None, cursors=cursors, settings=SessionSettings(authorization_enabled=False))
    find = op_msg({"find": "orders", "$db": "shop"})
    Play(opener).send(find).expect(Relay).answer(reply_of(cursor(ID))).reply()
    for enabled, read in ((False, True), (True, False)):
        settings = SessionSettings(authorization_enabled=enabled)
        play = Play(make_session(user_with(), cursors=cursors, settings=settings)).send(get_more())
        assert (type(play.effect) is Relay) is read


def test_nulls_among_cursors_are_passed_over():
    data = op_msg({"killCursors": "orders", "cursors": [None, Int64(404)], "$db": "shop"})
    assert Play(opened()).send(data).reply()["cursorsNotFound"] == [404]


# ---- exhaust --------------------------------------------------------------------------------------------------------


def exhaust(session: ClientSession, *cursor_ids: int) -> list[tuple[int, int]]:
    """(flags, response to) of each reply of a stream whose batches show those ids."""
    data: bytes | None = op_msg(
        {"getMore": Int64(ID), "collection": "orders", "$db": "shop"}, flags=EXHAUST_ALLOWED, request_id=7
    )
    heads = []
    for cursor_id in cursor_ids:
        assert data is not None, "the stream has ended"
        asked = Play(session).send(data).expect(Relay)
        assert int.from_bytes(asked.effect.message[16:20], "little") == 0, "one reply from the upstream"
        play = asked.answer(reply_of(cursor(cursor_id, "nextBatch"), int.from_bytes(data[4:8], "little")))
        assert play.raw is not None
        heads.append((int.from_bytes(play.raw[16:20], "little"), int.from_bytes(play.raw[8:12], "little")))
        data = session.streaming.next_request
    return heads


def test_a_stream_ends_with_its_cursor():
    session = opened()
    assert exhaust(session, ID, ID, 0) == [(MORE_TO_COME, 7), (MORE_TO_COME, 900), (0, 900)]
    assert session.streaming.next_request is None
    assert len(session.cursors) == 0


def test_a_getmore_without_exhaust_has_one_reply():
    session = opened()
    Play(session).send(get_more()).expect(Relay).answer(reply_of(cursor(ID, "nextBatch"))).reply()
    assert session.streaming.next_request is None


def test_a_user_who_lost_the_right_gets_the_refusal_instead_of_a_batch():
    session = opened()
    exhaust(session, ID)
    following = session.streaming.next_request
    assert following is not None
    logged_in(session, user_with({}))
    assert refused(session, following)["code"] == 13
    assert session.streaming.next_request is None


def test_a_stale_session_asks_the_directory_before_the_next_batch():
    session = opened()
    exhaust(session, ID)
    following = session.streaming.next_request
    assert following is not None
    session.invalidate()
    Play(session).send(following).expect(FetchUser)


def test_an_error_of_the_upstream_ends_a_stream():
    session = opened()
    data = op_msg({"getMore": Int64(ID), "collection": "orders", "$db": "shop"}, flags=EXHAUST_ALLOWED)
    failed = reply_of({"ok": 0.0, "code": 43, "errmsg": "cursor id 77 not found"})
    assert Play(session).send(data).expect(Relay).answer(failed).reply()["code"] == 43
    assert session.streaming.next_request is None
    assert len(session.cursors) == 0


def test_a_reply_with_flags_of_its_own_is_passed_on_and_ends_a_stream():
    session = opened()
    data = op_msg({"getMore": Int64(ID), "collection": "orders", "$db": "shop"}, flags=EXHAUST_ALLOWED)
    odd = reply_of(cursor(ID, "nextBatch"))
    message = odd.message[:16] + (1 << 20).to_bytes(4, "little") + odd.message[20:]
    play = Play(session).send(data).expect(Relay).answer(dataclasses.replace(odd, message=message))
    assert play.raw == message
    assert session.streaming.next_request is None


def test_a_stream_that_is_left_ends_its_cursor_where_it_is():
    session = opened(server="second:2")
    exhaust(session, ID)
    flow = abandon_stream(session)
    asked = next(flow)
    assert isinstance(asked, Relay)
    assert asked.server == "second:2"
    assert relayed(asked) == {"killCursors": "orders", "cursors": [ID], "$db": "shop"}
    assert len(session.cursors) == 0
    with pytest.raises(StopIteration):
        flow.send(reply_of({"ok": 1.0}))


def test_what_is_no_stream_of_a_cursor_leaves_nothing_behind():
    idle, greeting, gone = opened(), opened(), opened()
    greeting.streaming.next_request = op_msg({"hello": 1, "$db": "admin"}, flags=EXHAUST_ALLOWED)
    exhaust(gone, ID)
    gone.cursors.remove(ID)
    for session in (idle, greeting, gone):
        assert list(abandon_stream(session)) == []


# ---- several workers ------------------------------------------------------------------------------------------------


def test_one_process_asks_nobody_for_an_unknown_cursor():
    assert refused(opened(), get_more(Int64(78)))["code"] == 43


def asking(user: User | None, **more: Any) -> ClientSession:
    """A session of a worker that knows no cursor."""
    return make_session(user, cursors=CursorTable(has_siblings=True), **more)


def hand_over(play: Play, elsewhere: CursorTable) -> Play:
    """Answer the question for cursors as the worker does that knows them."""
    asked = play.expect(FindCursors)
    effect = asked.effect
    found = [elsewhere.claim(cursor_id, effect.claim) for cursor_id in effect.ids]
    for one in found:
        if isinstance(one, CursorEntry):
            elsewhere.remove(one.cursor_id)
            play.session.cursors.add(one)
    return asked.answer(tuple(one for one in found if isinstance(one, KeptCursor)))


def test_a_cursor_of_another_worker_is_handed_over_to_its_owner():
    elsewhere = opened().cursors
    session = asking(ALICE)
    play = hand_over(Play(session).send(get_more()), elsewhere)
    play.expect(Relay).answer(reply_of(cursor(ID, "nextBatch"))).reply()
    assert (len(elsewhere), len(session.cursors)) == (0, 1)
    Play(session).send(get_more()).expect(Relay)


@pytest.mark.parametrize(
    "stranger",
    [BOB, user_with(READ, UserName("alice", "admin")), user_with(READ, UserName("shop.alice", ""))],
    ids=["another", "of the same name on another database", "of a name that looks the same"],
)
@pytest.mark.parametrize("data", [get_more(), kill(ID), kill(1, ID, collection="other")])
def test_a_strangers_question_leaves_a_cursor_where_it_is(stranger: User, data: bytes):
    """The refusal is that of a cursor that is known here, to the letter."""
    elsewhere = opened(CursorTable()).cursors
    here = refused(make_session(stranger, cursors=elsewhere), data)
    session = asking(stranger)
    play = hand_over(Play(session).send(data), elsewhere)
    assert play.emitted().result == 13
    assert play.reply() == here
    assert (len(elsewhere), len(session.cursors)) == (1, 0)


@pytest.mark.parametrize("data", [get_more(collection="other"), get_more(lsid=LSID), get_more(db="other")])
def test_the_owners_question_that_does_not_fit_leaves_it_too(data: bytes):
    elsewhere = opened().cursors
    here = refused(make_session(ALICE, cursors=elsewhere), data)
    play = hand_over(Play(asking(ALICE)).send(data), elsewhere)
    assert play.emitted().result == 13
    assert play.reply() == here
    assert len(elsewhere) == 1


def test_a_worker_that_hands_over_what_is_not_the_claimants_gains_nothing():
    elsewhere = opened().cursors.find(ID)
    assert elsewhere is not None
    for data in (get_more(), kill(ID)):
        session = asking(BOB)
        asked = Play(session).send(data).expect(FindCursors)
        session.cursors.add(elsewhere)
        play = asked.answer(())
        assert play.emitted().result == 13
        assert play.reply()["code"] == 13


def test_nobodys_question_is_one_without_a_name_and_gets_nobodys_cursors():
    for enabled, owner in ((False, None), (False, ALICE)):
        settings = SessionSettings(authorization_enabled=enabled)
        opener = make_session(owner, cursors=CursorTable(), settings=settings)
        find = op_msg({"find": "orders", "$db": "shop"})
        Play(opener).send(find).expect(Relay).answer(reply_of(cursor(ID))).reply()
        play = Play(asking(None, settings=settings)).send(get_more())
        assert play.expect(FindCursors).effect.claim == CursorClaim(None, True, "shop.orders", None)
        hand_over(play, opener.cursors).expect(Relay)
    claim = CursorClaim(None, False, "shop.orders", None)
    assert isinstance(opened().cursors.claim(ID, claim), KeptCursor)


def test_no_other_worker_is_asked_about_a_namespace_that_none_can_have():
    long = "x" * (MAX_NAMESPACE_BYTES - len("shop."))
    Play(asking(ALICE)).send(get_more(collection=long)).expect(FindCursors)
    assert refused(asking(ALICE), get_more(collection=long + "x"))["code"] == 43


def test_without_a_login_no_other_worker_is_asked():
    for data in (get_more(), kill(ID)):
        assert refused(asking(None), data)["code"] == 13


@pytest.mark.parametrize(
    ("privileges", "questions"),
    [
        ({CLUSTER: frozenset({"killAnyCursor"})}, 1),
        ({ORDERS: frozenset({"killAnyCursor"})}, 2),
        ({ResourcePattern.for_exact_namespace("shop", "other"): frozenset({"killAnyCursor"})}, 0),
    ],
)
def test_another_users_cursor_is_brought_from_another_worker_by_who_may_kill_it(
    privileges: dict[ResourcePattern, frozenset[str]], questions: int
):
    elsewhere = opened().cursors
    play = Play(asking(user_with(privileges, UserName("bob", "shop")))).send(kill(1, ID))
    for _ in range(questions):
        play = hand_over(play, elsewhere)
    if questions:
        assert relayed(play.expect(Relay).effect)["cursors"] == [ID]
        assert len(elsewhere) == 0
    else:
        assert hand_over(play, elsewhere).emitted().result == 13
        assert play.reply()["code"] == 13
        assert len(elsewhere) == 1


def test_an_id_that_no_worker_knows_is_not_found():
    reply = Play(asking(ALICE)).send(get_more()).expect(FindCursors).answer(()).reply()
    assert (reply["ok"], reply["code"]) == (0.0, 43)


def test_when_other_workers_cannot_be_asked_the_cursor_is_not_said_to_be_unknown():
    for data in (get_more(), kill(ID)):
        asked = Play(asking(ALICE)).send(data).expect(FindCursors)
        reply = asked.fail(UpstreamUnavailable("the others do not say")).reply()
        resumable = ["ResumableChangeStreamError"] if asked.effect.claim.namespace else []
        assert reply.get("errorLabels", []) == resumable, "a change stream goes on with another cursor"
        assert (reply["ok"], reply["code"]) == (0.0, 6)


def test_other_workers_are_asked_once_for_the_unknown_ids_of_a_kill_and_for_no_more_than_so_many():
    table = CursorTable(has_siblings=True)
    session = opened(cursors=table)
    asked = Play(session).send(kill(ID, *range(1000, 1000 + 2 * MAX_SOUGHT))).expect(FindCursors)
    assert asked.effect.ids == tuple(range(1000, 1000 + MAX_SOUGHT))
    relay = asked.answer(()).expect(Relay)
    assert relayed(relay.effect)["cursors"] == [ID]


def test_cursors_of_a_server_that_does_not_answer_stay_alive_and_the_others_are_killed():
    session = make_session(ALICE)
    for cursor_id, server in ((ID, "a:1"), (78, "b:2")):
        play = Play(session).send(op_msg({"find": "orders", "$db": "shop"}))
        play.expect(Relay).answer(reply_of(cursor(cursor_id), server=server)).reply()
    play = Play(session).send(kill(ID, 78))
    asked = play.expect(Relay)
    assert asked.effect.server == "a:1"
    asked = asked.fail(UpstreamUnavailable("gone")).expect(Relay)
    assert asked.effect.server == "b:2"
    killed = {"cursorsKilled": [Int64(78)], "cursorsNotFound": [], "cursorsAlive": [], "cursorsUnknown": []}
    reply = asked.answer(reply_of({**killed, "ok": 1.0})).reply()
    assert (reply["cursorsKilled"], reply["cursorsAlive"], reply["ok"]) == ([78], [ID], 1.0)
    assert session.cursors.find(ID) is not None
    assert session.cursors.find(78) is None
