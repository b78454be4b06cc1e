"""The link between a worker and its supervisor: questions, answers, and what ends it."""

import socket

import bson
import pytest
import trio
import trio.testing

from mongoguard.errors import GuardError
from mongoguard.server import link as module
from mongoguard.server.link import Link, LinkLost, LinkRefused


class Ends:
    """Both ends of a link, running."""

    def __init__(self, nursery, answerers):
        ours, theirs = socket.socketpair()
        self.here, self.there = Link(ours, {}), Link(theirs, answerers)
        nursery.start_soon(self.here.run)
        nursery.start_soon(self.there.run)


async def double(fields):
    await trio.lowlevel.checkpoint()
    return {"twice": fields["n"] * 2}


async def test_questions_have_their_own_answers_in_whatever_order_they_come(nursery):
    gates = {n: trio.Event() for n in range(3)}

    async def slow(fields):
        await gates[fields["n"]].wait()
        return {"n": fields["n"]}

    ends, answers = Ends(nursery, {"slow": slow}), []

    async def ask(number):
        answers.append((await ends.here.ask("slow", {"n": number}, within_secs=5))["n"])

    async with trio.open_nursery() as asking:
        for number in gates:
            asking.start_soon(ask, number)
        await trio.testing.wait_all_tasks_blocked()
        for number in (2, 0, 1):
            gates[number].set()
            await trio.testing.wait_all_tasks_blocked()
    assert answers == [2, 0, 1]
    ends.here.close()


async def test_long_documents_cross_whole(nursery):
    async def echo(fields):
        return fields

    ends = Ends(nursery, {"echo": echo})
    text = "x" * 5_000_000
    assert (await ends.here.ask("echo", {"text": text}, within_secs=20))["text"] == text
    ends.here.close()


@pytest.mark.parametrize("error", [GuardError("no such worker"), KeyError("n"), ValueError("n")])
async def test_an_answerer_that_fails_refuses_and_the_link_goes_on(nursery, error, caplog):
    async def fail(_fields):
        raise error

    ends = Ends(nursery, {"fail": fail, "double": double})
    with pytest.raises(LinkRefused):
        await ends.here.ask("fail", within_secs=5)
    with pytest.raises(LinkRefused, match="no such question"):
        await ends.here.ask("unheard of", within_secs=5)
    assert (await ends.here.ask("double", {"n": 4}, within_secs=5)) == {"twice": 8}
    ends.here.close()


async def test_a_late_answer_is_taken_though_nobody_waits(nursery, autojump_clock):
    may_answer, taken = trio.Event(), []

    async def slow(_fields):
        await may_answer.wait()
        return {"cursor": 1}

    ends = Ends(nursery, {"slow": slow})
    with pytest.raises(trio.TooSlowError):
        await ends.here.ask("slow", within_secs=1, take=taken.append)
    assert taken == []
    may_answer.set()
    await trio.testing.wait_all_tasks_blocked()
    assert taken == [{"cursor": 1}]
    assert not ends.here._questions
    ends.here.close()


async def test_who_waits_learns_that_the_other_end_is_gone(nursery):
    async def never(_fields):
        await trio.sleep_forever()

    ends, lost = Ends(nursery, {"never": never}), []

    async def ask():
        try:
            await ends.here.ask("never", within_secs=60)
        except LinkLost as error:
            lost.append(error)

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        ends.there.close()
    assert len(lost) == 1
    with pytest.raises(LinkLost):
        await ends.here.ask("never", within_secs=60)


@pytest.mark.parametrize(
    "data",
    [
        b"\x04\0\0\0",
        b"\xff\xff\xff\x7f",
        b"\xff\xff\xff\xff",
        bson.encode({}),
        bson.encode({"kind": 1, "number": 1, "fields": {}}),
        bson.encode({"answers": "1", "fields": {}}),
        b"\x0c\0\0\0\x10a\0\1\0\0\0" + b"\x01",
        bson.encode({"kind": "x", "number": 0, "fields": {}})[:-1],
    ],
)
async def test_what_is_no_question_and_no_answer_ends_the_link(data):
    ours, theirs = socket.socketpair()
    link = Link(ours, {})
    with theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with trio.fail_after(5):
            await link.run()
    assert ours.fileno() == -1


async def test_an_end_that_takes_nothing_is_given_up_before_memory_is(monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 10_000)
    ours, theirs = socket.socketpair()
    link = Link(ours, {})
    with theirs:
        for _ in range(20):
            link.tell("users changed", {"text": "x" * 1000})
    assert ours.fileno() == -1
    assert len(link._waiting) <= 10


async def test_questions_beyond_the_bound_wait(nursery, monkeypatch):
    monkeypatch.setattr(module, "MAX_QUESTIONS", 2)
    running, gate = [], trio.Event()

    async def slow(fields):
        running.append(fields["n"])
        await gate.wait()
        return {}

    ends = Ends(nursery, {"slow": slow})
    for number in range(5):
        ends.here.tell("slow", {"n": number})
    await trio.testing.wait_all_tasks_blocked()
    assert running == [0, 1]
    gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(running) == [0, 1, 2, 3, 4]
    ends.here.close()


async def test_what_is_answered_at_once_is_answered_in_order(nursery):
    ours, theirs = socket.socketpair()
    seen = []

    def note(fields):
        seen.append(fields["n"])
        return {}

    here, there = Link(ours, {}), Link(theirs, {}, {"note": note})
    nursery.start_soon(here.run)
    nursery.start_soon(there.run)
    for number in range(100):
        here.tell("note", {"n": number})
    await here.ask("note", {"n": 100}, within_secs=5)
    assert seen == list(range(101))
    with pytest.raises(LinkRefused, match="not understood"):
        await here.ask("note", {}, within_secs=5)
    here.close()
