"""A worker process as its supervisor sees it: signs of life, on a virtual clock. The process itself is faked here."""

import logging
import socket

import pytest
import trio
import trio.testing

from mongoguard.server.link import STEP_SECS, Link
from mongoguard.server.worker_process import FROZEN_SECS, PING_SECS, START_SECS, WorkerProcess


class FakeProcess:
    """Ends when it is killed."""

    pid = 4711

    def __init__(self):
        self.returncode = None
        self._ended = trio.Event()

    async def wait(self):
        await self._ended.wait()
        return self.returncode

    def kill(self):
        self.returncode = -9
        self._ended.set()


class Served:
    """A worker that serves, both ends of its link, and what it does with a question for a sign of life."""

    def __init__(self, nursery, *, serves=True):
        ours, theirs = socket.socketpair()
        self.process = FakeProcess()
        self.delay_secs = 0.0
        self.asked = 0
        self.thawed = trio.Event()
        self.thawed.set()
        self.worker = WorkerProcess(1, 0, self.process, ours)
        self.worker.answer_with({}, {})
        nursery.start_soon(self.worker.run, {})
        nursery.start_soon(Link(theirs, {"ping": self._ping}).run)
        if serves:
            self.worker.serves()

    @property
    def lives(self):
        return self.process.returncode is None

    async def _ping(self, _fields):
        self.asked += 1
        await self.thawed.wait()
        await trio.sleep(self.delay_secs)
        return {}


async def test_a_worker_that_answers_lives_however_slow_it_is_within_the_bound(nursery, autojump_clock):
    served = Served(nursery)
    for served.delay_secs in (0.0, 1.0, FROZEN_SECS - 0.5):
        await trio.sleep(60)
        assert served.lives
    assert served.asked > 30
    served.worker.kill()


async def test_a_worker_that_does_not_answer_is_killed_within_the_bound_and_said_to_be(
    nursery, autojump_clock, caplog
):
    served = Served(nursery)
    await trio.sleep(20)
    assert served.lives
    served.thawed = trio.Event()
    begun = trio.current_time()
    with caplog.at_level(logging.ERROR):
        await served.process.wait()
    assert FROZEN_SECS <= trio.current_time() - begun <= PING_SECS + FROZEN_SECS + 0.1
    assert caplog.messages == [
        "worker 1 (pid 4711) has not answered for 10 s: it is stopped, or hangs; it is killed, and its clients lose"
        " their connections"
    ]


async def test_one_that_goes_on_in_time_lives(nursery, autojump_clock):
    served = Served(nursery)
    served.thawed = trio.Event()
    await trio.sleep(PING_SECS + FROZEN_SECS - 1)
    served.thawed.set()
    await trio.sleep(60)
    assert served.lives
    served.worker.kill()


async def test_after_the_machine_was_suspended_nobody_is_killed(nursery, mock_clock):
    """The supervisor finds its deadline passed before it sees an answer."""
    crew = [Served(nursery) for _ in range(3)]
    await trio.testing.wait_all_tasks_blocked()
    for served in crew:
        served.thawed = trio.Event()
    mock_clock.jump(PING_SECS)
    await trio.testing.wait_all_tasks_blocked()
    assert [served.asked for served in crew] == [1, 1, 1]
    mock_clock.jump(3600)
    await trio.testing.wait_all_tasks_blocked()
    for served in crew:
        served.thawed.set()
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(PING_SECS)
    await trio.testing.wait_all_tasks_blocked()
    assert all(served.lives for served in crew)
    assert [served.asked for served in crew] == [2, 2, 2]
    for served in crew:
        served.worker.kill()


async def test_one_that_stays_stopped_after_that_is_killed_all_the_same(nursery, mock_clock):
    served = Served(nursery)
    served.thawed = trio.Event()
    for secs in (PING_SECS, 3600, *[STEP_SECS] * (round(FROZEN_SECS / STEP_SECS) - 1)):
        await trio.testing.wait_all_tasks_blocked()
        assert served.lives
        mock_clock.jump(secs)
    await trio.testing.wait_all_tasks_blocked()
    assert not served.lives


@pytest.mark.parametrize("answers", [True, False])
async def test_one_that_never_serves_is_killed_whether_it_answers_or_not(nursery, autojump_clock, answers):
    served = Served(nursery, serves=False)
    if not answers:
        served.thawed = trio.Event()
    await trio.sleep(START_SECS - 1)
    assert served.lives
    await trio.sleep(2)
    assert not served.lives
