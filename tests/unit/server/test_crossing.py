"""What crosses workers, seen from the supervisor; the workers are faked here, and real in the integration tests."""

from types import SimpleNamespace

import pytest
import trio
import trio.testing

from mongoguard.config.settings import parse_settings
from mongoguard.errors import GuardError
from mongoguard.server.crossing import Crossing

SETTINGS = """
upstream: {uri: "mongodb://u:p@127.0.0.1/"}
net: {maxConnectionsPerUser: 1}
security: {loginLimits: {maxFailuresPerUserAndAddress: 2}}
"""


CLAIM = {"user": ["a", "b"], "ofAnybody": False, "ns": None, "session": None}
WHO = {"user": b"alice", "db": b"admin", "address": "192.0.2.1"}


def read(text):
    return parse_settings(text, "m.yaml", environ={}, read_file=lambda path: path)


class FakeWorker:
    """Answers what the supervisor asks, or does not."""

    def __init__(self, number):
        self.number = self.pid = number
        self.is_serving = True
        self.answers = True
        self.dies = True
        self.killed = False
        self.cursors = {}
        self.others_cursors = set()
        self.odd_answer = None
        self.claims = []
        self.asked = []
        self.told = []
        self.takes_late = None
        self.link = SimpleNamespace(ask=self.ask_link, tell=self.tell)

    async def ask(self, kind, fields=None, *, within_secs):
        try:
            return await self.ask_link(kind, fields, within_secs=within_secs)
        except trio.TooSlowError:
            return None

    async def ask_link(self, kind, fields=None, *, within_secs, take=None):
        self.asked.append(kind)
        await trio.lowlevel.checkpoint()
        if not self.answers:
            self.takes_late = take
            await trio.sleep(within_secs)
            raise trio.TooSlowError
        if kind != "give cursors":
            return {}
        if self.odd_answer is not None:
            return self.odd_answer
        self.claims.append(fields["claim"])
        found = [self.cursors.pop(i) for i in fields["ids"] if i in self.cursors]
        return {"cursors": found, "kept": [i for i in fields["ids"] if i in self.others_cursors]}

    def tell(self, kind, fields=None):
        self.asked.append(kind)
        self.told.append(fields)

    def kill(self):
        self.killed = True

    async def ended(self, _within_secs):
        await trio.lowlevel.checkpoint()
        return self.dies


@pytest.fixture
def workers():
    return {number: FakeWorker(number) for number in range(3)}


@pytest.fixture
def crossing(workers):
    return Crossing(read(SETTINGS), workers)


async def ask(crossing, worker, kind, **fields):
    at_once = crossing.at_once(worker).get(kind)
    return at_once(fields) if at_once else await crossing.answerers(worker)[kind](fields)


async def test_all_others_that_serve_hear_of_changed_users_before_the_answer(crossing, workers):
    workers[2].is_serving = False
    assert await ask(crossing, workers[0], "users changed") == {}
    assert [worker.asked for worker in workers.values()] == [[], ["invalidate users"], []]
    assert not any(worker.killed for worker in workers.values())


async def test_who_does_not_confirm_is_killed_before_the_answer(crossing, workers, autojump_clock):
    workers[1].answers = False
    assert await ask(crossing, workers[0], "users changed") == {}
    assert [worker.killed for worker in workers.values()] == [False, True, False]


async def test_there_is_no_answer_while_one_that_has_not_confirmed_lives(crossing, workers, autojump_clock):
    workers[1].answers = workers[1].dies = False
    with pytest.raises(GuardError, match="worker 1 can't be ended"):
        await ask(crossing, workers[0], "users changed")


def test_after_a_crash_the_others_forget_their_users(crossing, workers):
    workers[2].is_serving = False
    crossing.worker_crashed()
    assert [worker.asked for worker in workers.values()] == [["invalidate users"], ["invalidate users"], []]


async def test_a_cursor_that_two_ask_for_is_never_nobodys(crossing, workers):
    """The first to ask has it before the second question is put; then it is asked, too."""
    workers[2].cursors[7] = "cursor"
    found = []

    async def look(worker):
        cursors = (await ask(crossing, worker, "find cursors", ids=[7], claim=CLAIM))["cursors"]
        found.append(cursors)
        for cursor in cursors:
            worker.cursors[7] = cursor  # as the worker does on the answer

    async with trio.open_nursery() as nursery:
        for worker in (workers[0], workers[1]):
            nursery.start_soon(look, worker)
    assert found == [["cursor"], ["cursor"]]
    assert not crossing._sought


async def test_the_others_are_told_who_asks_and_say_what_they_keep(crossing, workers):
    workers[1].others_cursors.add(7)
    workers[2].cursors[8] = "cursor"
    found = await ask(crossing, workers[0], "find cursors", ids=[7, 8], claim=CLAIM, more="?")
    assert found == {"cursors": ["cursor"], "kept": [7], "silent": []}
    assert workers[1].claims == workers[2].claims == [CLAIM]


@pytest.mark.parametrize(
    "answer", [{}, {"cursors": 5, "kept": []}, {"cursors": ["x"]}, {"kept": [7]}, {"refused": 1}]
)
async def test_an_answer_that_is_none_keeps_no_cursor_of_another_from_being_found(
    crossing, workers, answer, caplog
):
    workers[1].odd_answer = answer
    workers[2].cursors[7] = "cursor"
    found = await ask(crossing, workers[0], "find cursors", ids=[7], claim=CLAIM)
    assert found == {"cursors": ["cursor"], "kept": [], "silent": [1]}
    assert "worker 1 (pid 1) gives cursors that are none" in caplog.text


@pytest.mark.parametrize("fields", [{}, {"ids": 5}, {"ids": [[]]}, {"ids": [7]}])
async def test_a_question_that_is_none_leaves_no_cursor_looked_for(crossing, workers, fields):
    with pytest.raises((KeyError, TypeError)):
        await ask(crossing, workers[0], "find cursors", **fields)
    assert not crossing._sought


@pytest.mark.parametrize("user", [10**18, 5, "alice", None, ["a"]])
async def test_a_login_of_what_is_no_name_is_not_counted(crossing, workers, user):
    with pytest.raises((TypeError, ValueError)):
        await ask(crossing, workers[0], "login block", **{**WHO, "user": user})


async def test_a_worker_that_does_not_answer_keeps_no_cursor_of_another_from_being_found(
    crossing, workers, autojump_clock
):
    workers[1].answers = False
    workers[2].cursors[7] = "cursor"
    assert await ask(crossing, workers[0], "find cursors", ids=[7, 8], claim=CLAIM) == {
        "cursors": ["cursor"],
        "kept": [],
        "silent": [1],
    }
    assert not workers[1].killed


async def test_cursors_that_are_handed_over_late_go_to_who_asked(crossing, workers, autojump_clock):
    """Who gives them has forgotten them."""
    workers[1].answers = False
    await ask(crossing, workers[0], "find cursors", ids=[7, 8], claim=CLAIM)
    workers[1].takes_late({"cursors": [], "kept": [7]})
    assert workers[0].told == []
    workers[1].takes_late({"cursors": ["cursor"], "kept": []})
    assert workers[0].asked == ["take cursors"]
    assert workers[0].told == [{"ids": [7, 8], "cursors": ["cursor"]}]


async def test_a_cursor_that_is_always_looked_for_is_not_waited_for_for_ever(
    crossing, workers, autojump_clock
):
    crossing._sought.add(7)
    with pytest.raises(GuardError, match="looked for by too many"):
        await ask(crossing, workers[0], "find cursors", ids=[7], claim=CLAIM)
    assert await ask(crossing, workers[0], "find cursors", ids=[8], claim=CLAIM) == {
        "cursors": [],
        "kept": [],
        "silent": [],
    }
    assert crossing._sought == {7}


async def test_failures_at_all_workers_make_one_block(crossing, workers):
    for worker in (workers[0], workers[1]):
        assert (await ask(crossing, worker, "login block", **WHO))["block"] is None
        await ask(crossing, worker, "count login", **WHO, isFailure=True)
    block = (await ask(crossing, workers[2], "login block", **WHO))["block"]
    assert block[0] == "this user from this address"
    crossing.limits_changed(read(SETTINGS.replace("maxFailuresPerUserAndAddress: 2", "blockSecs: 7")))
    assert (await ask(crossing, workers[2], "login block", **{**WHO, "user": b"bob"}))["block"] is None


async def test_a_name_that_is_no_text_is_counted_like_another(crossing, workers):
    odd = {**WHO, "user": "\udc80".encode(errors="surrogatepass"), "address": None}
    for _ in range(2):
        await ask(crossing, workers[0], "count login", **odd, isFailure=True)
    assert (await ask(crossing, workers[1], "login block", **odd))["block"] is not None


async def test_a_users_places_are_counted_together_and_freed_with_their_worker(crossing, workers):
    async def take(number):
        fields = {"user": "alice", "db": "admin", "holder": 1}
        return (await ask(crossing, workers[number], "take connection", **fields))["taken"]

    assert [await take(0), await take(1)] == [True, False]
    await ask(crossing, workers[1], "give connection", holder=1)
    assert not await take(1), "the other's place is not one's own to give"
    await ask(crossing, workers[0], "give connection", holder=1)
    assert await take(1)
    crossing.worker_ended(1)
    assert await take(2)


async def test_the_end_of_the_localhost_exception_is_told_once_and_remembered(crossing, workers):
    for worker in (workers[0], workers[1]):
        await ask(crossing, worker, "exception closed")
    assert crossing.exception_is_closed
    assert [worker.asked for worker in workers.values()] == [["close exception"]] * 3
