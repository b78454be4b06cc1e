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

    def __init__(self, nursery, answerers, at_once=None):
        ours, theirs = socket.socketpair()
        self.here, self.there = Link(ours, {}), Link(theirs, answerers, at_once)
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


@pytest.mark.parametrize(
    "error",
    [
        GuardError("no such worker"),
        GuardError("no such file: \udc80"),
        KeyError("n"),
        ValueError("n"),
        MemoryError(),
        RecursionError(),
        trio.TooSlowError(),
        ExceptionGroup("two", [KeyError("n"), TypeError("n")]),
    ],
    ids=repr,
)
async def test_an_answerer_that_fails_refuses_and_the_link_goes_on(nursery, error, caplog):
    async def fail(_fields):
        raise error

    def fail_at_once(_fields):
        raise error

    ends = Ends(nursery, {"fail": fail, "double": double}, {"fail at once": fail_at_once})
    for kind in ("fail", "fail at once"):
        with pytest.raises(LinkRefused):
            await ends.here.ask(kind, within_secs=5)
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


async def test_a_deadline_that_passes_while_this_process_is_stopped_costs_one_step_of_it(nursery, mock_clock):
    """When it goes on, an answer may have come that it has not looked at."""
    may_answer, answers = trio.Event(), []

    async def slow(_fields):
        await may_answer.wait()
        return {"n": 1}

    ends = Ends(nursery, {"slow": slow})

    async def ask():
        answers.append(await ends.here.ask("slow", within_secs=3))

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(3600)
    await trio.testing.wait_all_tasks_blocked()
    may_answer.set()
    await trio.testing.wait_all_tasks_blocked()
    assert answers == [{"n": 1}]
    ends.here.close()


@pytest.mark.parametrize("secs", [0.3, 1, 2.5])
async def test_nobody_waits_longer_than_the_deadline(nursery, autojump_clock, secs):
    async def never(_fields):
        await trio.sleep_forever()

    ends, begun = Ends(nursery, {"never": never}), trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await ends.here.ask("never", within_secs=secs)
    assert trio.current_time() - begun == pytest.approx(secs)
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
        bson.encode({"kind": bson.Code("x"), "number": 1, "fields": {}}),
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


@pytest.mark.parametrize("error", [KeyError("cursors"), AttributeError("x"), MemoryError()], ids=repr)
async def test_an_answer_that_is_not_understood_is_a_refusal_and_the_link_goes_on(nursery, error, caplog):
    def take(_answer):
        raise error

    ends = Ends(nursery, {"double": double})
    with pytest.raises(LinkRefused, match="the answer is not understood"):
        await ends.here.ask("double", {"n": 1}, within_secs=5, take=take)
    assert "an answer of another process is not understood" in caplog.text
    assert (await ends.here.ask("double", {"n": 4}, within_secs=5)) == {"twice": 8}
    assert not ends.here._questions
    ends.here.close()


async def test_an_answer_that_comes_unasked_or_twice_is_passed_over(nursery):
    ours, theirs = socket.socketpair()
    link = Link(ours, {})
    nursery.start_soon(link.run)
    with theirs:
        for number in (0, 1, -1, 2**40):
            theirs.sendall(bson.encode({"answers": number, "fields": {"n": 1}}))
        await trio.testing.wait_all_tasks_blocked()
        assert ours.fileno() != -1
        link.close()


@pytest.mark.parametrize("answer", [{"n": 2**70}, {"n": "\udc80"}, {"n": object()}, {"n": b"x" * 20_000}])
async def test_what_the_other_end_would_not_read_is_refused_before_it_is_sent(nursery, answer):
    async def give(_fields):
        return answer

    ours, theirs = socket.socketpair()
    here, there = Link(ours, {}, max_received=10_000), Link(theirs, {"give": give}, max_sent=10_000)
    nursery.start_soon(here.run)
    nursery.start_soon(there.run)
    with pytest.raises(LinkRefused):
        await here.ask("give", within_secs=5)
    with pytest.raises(LinkRefused):
        await there.ask("give", answer, within_secs=5)
    assert not there._questions
    with pytest.raises(LinkRefused, match="no such question"):
        await there.ask("give", within_secs=5)
    here.close()


async def test_what_is_too_long_to_be_read_ends_the_link_of_that_end_alone(nursery):
    ours, theirs = socket.socketpair()
    link = Link(ours, {}, max_received=10_000)
    with theirs:
        theirs.sendall((10_001).to_bytes(4, "little"))
        with trio.fail_after(5):
            await link.run()
    assert ours.fileno() == -1


@pytest.mark.parametrize("levels", [150, 250, 5_000])
async def test_a_document_without_end_ends_no_more_than_its_link(levels):
    document = b"\x05\0\0\0\0"
    for _ in range(levels):
        document = (len(document) + 8).to_bytes(4, "little") + b"\x03x\0" + document + b"\0"
    fields = b"\x03fields\0" + document
    body = bson.encode({"kind": "x", "number": 1})[4:-1] + fields
    ours, theirs = socket.socketpair()
    link = Link(ours, {})
    with theirs:
        theirs.sendall((len(body) + 5).to_bytes(4, "little") + body + b"\0")
        theirs.shutdown(socket.SHUT_WR)
        with trio.fail_after(5):
            await link.run()
    assert ours.fileno() == -1


async def test_an_end_that_never_stops_asking_leaves_others_their_turn(nursery):
    ours, theirs = socket.socketpair()
    heard = []
    link = Link(ours, {}, {"note": lambda fields: heard.append(1) or {}})
    with theirs:
        theirs.sendall(bson.encode({"kind": "note", "number": 0, "fields": {}}) * 500)
        nursery.start_soon(link.run)
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        assert 0 < len(heard) < 60
        await trio.testing.wait_all_tasks_blocked()
        assert len(heard) == 500
        link.close()
