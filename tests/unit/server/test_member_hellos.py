"""Heartbeats handed over from the threads of pymongo's monitors. The events are faked."""

from types import SimpleNamespace

import pytest
import trio
import trio.testing

from mongoguard.server.member_hellos import MemberHellos


def answered(host, port=27017, **document):
    return SimpleNamespace(connection_id=(host, port), reply=SimpleNamespace(document=document))


def silent(host, port=27017):
    return SimpleNamespace(connection_id=(host, port))


@pytest.fixture
async def heard():
    told = []
    return MemberHellos(told.append), told


async def in_threads(*calls):
    """As monitors call: each from a thread, and what they hand over has arrived."""
    for call, event in calls:
        await trio.to_thread.run_sync(call, event)
    await trio.testing.wait_all_tasks_blocked()


async def test_each_heartbeat_is_told_with_what_the_others_said_last(heard):
    hellos, told = heard
    await in_threads((hellos.opened, None), (hellos.started, silent("a")))
    assert told == []
    await in_threads((hellos.succeeded, answered("a", me="a")), (hellos.succeeded, answered("b", me="b")))
    await in_threads(
        (hellos.succeeded, answered("a", me="a", secondary=True)), (hellos.description_changed, None)
    )
    assert told == [
        {"a:27017": {"me": "a"}},
        {"a:27017": {"me": "a"}, "b:27017": {"me": "b"}},
        {"a:27017": {"me": "a", "secondary": True}, "b:27017": {"me": "b"}},
    ]


async def test_a_server_that_does_not_answer_is_forgotten_and_told_once(heard):
    hellos, told = heard
    await in_threads((hellos.succeeded, answered("a", me="a")))
    await in_threads((hellos.failed, silent("a")), (hellos.failed, silent("a")), (hellos.failed, silent("c")))
    assert told == [{"a:27017": {"me": "a"}}, {}]


async def test_a_server_that_is_a_member_no_more_is_forgotten(heard):
    hellos, told = heard
    await in_threads((hellos.succeeded, answered("a", me="a")))
    await in_threads((hellos.closed, SimpleNamespace(server_address=("a", 27017))))
    assert told[-1] == {}


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("::1", 27017), "[::1]:27017"),
        (("127.0.0.1", 1), "127.0.0.1:1"),
        (("/run/m.sock", None), "/run/m.sock"),
    ],
)
async def test_addresses_are_written_as_everywhere(heard, address, text):
    hellos, told = heard
    await in_threads((hellos.succeeded, answered(*address, ok=1.0)))
    assert list(told[-1]) == [text]


def test_heartbeats_after_the_end_are_nobodys():
    async def make():
        return MemberHellos(lambda _: None)

    hellos = trio.run(make)
    hellos.succeeded(answered("a"))
    hellos.failed(silent("a"))
