"""OP_QUERY: the commands that 6.0.5 still takes over it, and nothing else."""

import pytest

from mongoguard.command.catalog import find_row
from mongoguard.effects import Now
from mongoguard.errors import ProtocolError
from mongoguard.proxy.local_commands import LOCAL_COMMANDS
from mongoguard.proxy.op_query import _SERVED
from tests.playbook import NOW, Play, make_session, user_with
from tests.rawwire import message
from tests.rawwire import op_query as query
from tests.unit.wire.cases import document_of, element

ROOT = user_with()


def flags(raw: bytes | None) -> tuple[int, int]:
    assert raw is not None
    return int.from_bytes(raw[12:16], "little"), int.from_bytes(raw[16:20], "little")


@pytest.mark.parametrize("name", ["hello", "isMaster", "ismaster"])
def test_hello_is_answered_with_an_op_reply(name: str):
    play = Play(make_session()).send(query({name: 1}, request_id=9)).expect(Now).answer(NOW)
    assert play.reply()["ok"] == 1.0
    assert flags(play.raw) == (1, 8)
    assert play.raw is not None
    assert play.raw[8:12] == b"\x09\0\0\0"


@pytest.mark.parametrize("name", ["buildInfo", "buildinfo", "_isSelf"])
def test_other_served_commands_are_answered(name: str):
    assert Play(make_session()).send(query({name: 1})).reply()["ok"] == 1.0


def test_every_served_command_is_one_that_is_answered_here():
    for name in _SERVED:
        row = find_row(name)
        assert row is not None
        assert row.name in LOCAL_COMMANDS


@pytest.mark.parametrize(
    "name",
    ["ping", "find", "getnonce", "insert", "nonsense", "whatsmyuri", "logout", "startSession", "Hello", ""],
)
@pytest.mark.parametrize("logged_in", [True, False])
def test_any_other_command_is_refused_with_352_logged_in_or_not(name: str, logged_in: bool):
    play = Play(make_session(ROOT if logged_in else None)).send(query({name: 1}))
    reply = play.reply()
    assert (reply["ok"], reply["code"], reply["codeName"]) == (0.0, 352, "UnsupportedOpQueryCommand")
    assert reply["errmsg"].startswith(f"Unsupported OP_QUERY command: {name}. The client driver may require")
    assert flags(play.raw) == (1, 8)


def test_an_empty_document_is_no_command():
    assert Play(make_session()).send(query({})).reply()["code"] == 352


@pytest.mark.parametrize("wrapper", ["$query", "query"])
def test_a_command_wrapped_with_a_read_preference_is_unwrapped(wrapper: str):
    wrapped = {wrapper: {"ismaster": 1}, "$readPreference": {"mode": "primary"}}
    Play(make_session()).send(query(wrapped)).expect(Now)
    assert Play(make_session()).send(query({wrapper: {"find": "c"}})).reply()["code"] == 352
    reply = Play(make_session()).send(query({wrapper: 1})).reply()
    assert (reply["code"], reply["errmsg"]) == (10065, f"invalid parameter: expected an object ({wrapper})")
    misread = {wrapper: {"ismaster": 1}, "$readPreference": 1}
    assert Play(make_session()).send(query(misread)).reply()["code"] == 14


@pytest.mark.parametrize("limit", [0, 2, -5, 100])
def test_a_command_wants_one_document(limit: int):
    reply = Play(make_session()).send(query({"ismaster": 1}, limit=limit)).reply()
    assert reply["code"] == 16979
    assert reply["errmsg"] == f"Bad numberToReturn ({limit}) for $cmd type ns - can only be 1 or -1"
    Play(make_session()).send(query({"ismaster": 1}, limit=1)).expect(Now)


@pytest.mark.parametrize("body", [{"ismaster": 1, "$db": "shop"}, {"$query": {"ismaster": 1, "$db": 1}}])
def test_the_database_is_that_of_the_namespace_alone(body: dict[str, object]):
    reply = Play(make_session()).send(query(body)).reply()
    assert (reply["code"], reply["errmsg"]) == (40621, "$db is not allowed in OP_QUERY requests")


@pytest.mark.parametrize("namespace", ["shop.orders", "admin.$cmd.sys.inprog", "admin", "$cmd", ""])
def test_a_query_of_a_collection_is_no_longer_served(namespace: str):
    play = Play(make_session(ROOT)).send(query({"ismaster": 1}, namespace))
    reply = play.reply()
    assert (reply["ok"], reply["code"]) == (0.0, 5739101)
    assert reply["$err"].startswith("OP_QUERY is no longer supported.")
    assert flags(play.raw) == (1, 2)


def test_a_get_more_of_old_is_no_longer_served():
    play = Play(make_session(ROOT)).send(message(2005, bytes(30)))
    reply = play.reply()
    assert (reply["code"], reply["$err"][:10]) == (5739101, "OP_GET_MOR")
    assert flags(play.raw) == (1, 2)


@pytest.mark.parametrize("db", ["a/b", "a b", "x" * 64])
def test_an_invalid_database_is_refused(db: str):
    assert Play(make_session()).send(query({"ismaster": 1}, f"{db}.$cmd")).reply()["code"] == 73


def test_a_damaged_document_is_answered_with_its_error():
    damaged = document_of(element(0x20, b"a", b""), base={"ismaster": 1})
    reply = Play(make_session()).send(query(damaged)).reply()
    assert (reply["ok"], reply["code"]) == (0.0, 22)


def test_a_client_that_takes_replies_without_end_is_refused():
    play = Play(make_session()).send(query({"isMaster": 1}, flags=64))
    assert (play.reply()["code"], play.reply()["errmsg"]) == (
        18527,
        "The 'exhaust' OP_QUERY flag is invalid for commands: admin.$cmd",
    )
    assert Play(make_session()).send(query({"buildInfo": 1}, flags=4)).reply()["ok"] == 1.0


@pytest.mark.parametrize("name", ["hello", "ismaster", "authenticate"])
def test_what_must_not_be_compressed_is_refused_as_op_query_too(name: str):
    with pytest.raises(ProtocolError, match="must not be compressed"):
        Play(make_session()).send(query({name: 1}), compressed=True)


def test_what_may_be_compressed_is_answered():
    assert Play(make_session()).send(query({"buildInfo": 1}), compressed=True).reply()["ok"] == 1.0
