"""Ready sockets, with real sockets and Trio's real loop: what is served when, and that Trio loses nothing by it."""

import logging
import socket
import threading
import time

import pytest
import trio
from outcome import Value

from mongoguard.server import ready_sockets as module
from mongoguard.server.ready_sockets import (
    ReadySockets,
    call_after_stops,
    ready_sockets,
    run_with_ready_sockets,
)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def run(work, *arguments):
    """In a Trio of its own: the tests' own Trio has another clock."""

    async def in_time():
        with trio.fail_after(30):
            return await work(*arguments)

    return run_with_ready_sockets(in_time)


async def until(condition):
    while not condition():  # noqa: ASYNC110  (what is served wakes no task)
        await trio.sleep(0.001)


async def test_another_clock_has_no_ready_sockets():
    assert ready_sockets() is None


def test_what_comes_is_served_each_time_and_also_when_it_came_before(pair):
    ours, theirs = pair
    came = []

    async def work():
        theirs.send(b"1")
        ready_sockets().watch(ours.fileno(), lambda: came.append(ours.recv(10)))
        await until(lambda: came == [b"1"])
        theirs.send(b"2")
        await until(lambda: came == [b"1", b"2"])

    run(work)


def test_what_was_not_read_is_told_once_and_again_when_asked(pair):
    ours, theirs = pair
    calls = []

    async def work():
        ready = ready_sockets()
        ready.watch(ours.fileno(), lambda: calls.append(1))
        theirs.send(b"1")
        await until(lambda: calls)
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        told = len(calls)
        ready.watch(ours.fileno(), lambda: calls.append(2))
        await until(lambda: calls[-1] == 2)
        return told

    assert run(work) == 1


def test_the_end_that_comes_together_with_the_last_bytes_is_told_too(pair):
    ours, theirs = pair
    came = []

    async def work():
        theirs.send(b"last")
        theirs.shutdown(socket.SHUT_WR)
        ready_sockets().watch(ours.fileno(), lambda: came.append(ours.recv(10)))
        await until(lambda: b"" in came)

    run(work)
    assert came[:2] == [b"last", b""]


def test_a_forgotten_socket_is_not_served(pair):
    ours, theirs = pair
    calls = []

    async def work():
        ready = ready_sockets()
        ready.watch(ours.fileno(), lambda: calls.append(1))
        ready.forget(ours.fileno())
        ready.forget(ours.fileno())  # twice is once
        theirs.send(b"1")
        for _ in range(5):
            await trio.sleep(0.001)

    run(work)
    assert not calls


def test_a_served_socket_can_wake_a_task_at_once(pair):
    ours, theirs = pair

    async def work():
        ready, task = ready_sockets(), trio.lowlevel.current_task()
        ready.watch(ours.fileno(), lambda: trio.lowlevel.reschedule(task, Value(ours.recv(10))))
        theirs.send(b"1")
        started = time.perf_counter()
        got = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
        return got, time.perf_counter() - started

    got, seconds = run(work)
    assert got == b"1"
    assert seconds < 5  # the next deadline of Trio is the test's own, in 30 s


def test_a_task_that_a_served_socket_makes_runnable_in_trios_own_way_runs_at_once(pair):
    """By an event, as a pool does that hands a connection on, or by a cancellation: neither asks `wake`."""
    ours, theirs = pair

    async def work():
        ready, event, scope = ready_sockets(), trio.Event(), trio.CancelScope()
        calls = [event.set, scope.cancel]
        ready.watch(ours.fileno(), lambda: (ours.recv(1), calls.pop(0)()))
        started = time.perf_counter()
        theirs.send(b"1")
        await event.wait()
        theirs.send(b"2")
        with scope:
            await trio.sleep_forever()
        return time.perf_counter() - started

    assert run(work) < 5  # the next deadline of Trio is the test's own, in 30 s


def test_deadlines_threads_and_sockets_of_trio_are_served_while_others_are_busy(pair):
    """Two watched sockets that keep each other busy for ever must not keep Trio from anything."""
    ours, theirs = pair
    theirs.setblocking(False)

    async def work():
        ready = ready_sockets()
        ready.watch(ours.fileno(), lambda: ours.send(ours.recv(10)))
        ready.watch(theirs.fileno(), lambda: theirs.send(theirs.recv(10)))
        ours.send(b"ball")
        await trio.sleep(0.01)
        main = threading.get_ident()
        assert await trio.to_thread.run_sync(threading.get_ident) != main
        left, right = trio.socket.socketpair()
        await right.send(b"x")
        assert await left.recv(1) == b"x"
        left.close()
        right.close()
        ready.forget(ours.fileno())
        ready.forget(theirs.fileno())

    run(work)


def test_watched_sockets_are_served_while_tasks_never_rest(pair):
    ours, theirs = pair
    came = []

    async def work():
        ready_sockets().watch(ours.fileno(), lambda: came.append(ours.recv(10)))
        theirs.send(b"1")
        while not came:
            await trio.lowlevel.checkpoint()

    run(work)
    assert came == [b"1"]


def test_who_asks_to_be_called_again_comes_after_the_others():
    calls = []

    async def work():
        ready = ready_sockets()
        ready.call_again(lambda: (calls.append("first"), ready.call_again(lambda: calls.append("third"))))
        ready.call_again(lambda: calls.append("second"))
        await until(lambda: len(calls) == 3)

    run(work)
    assert calls == ["first", "second", "third"]


def test_an_error_while_a_socket_is_served_ends_nothing_else(pair, caplog):
    ours, theirs = pair
    calls = []

    def fail():
        calls.append(ours.recv(10))
        raise KeyError("ours")

    async def work():
        ready_sockets().watch(ours.fileno(), fail)
        theirs.send(b"1")
        await until(lambda: len(calls) == 1)
        theirs.send(b"2")
        await until(lambda: len(calls) == 2)

    with caplog.at_level(logging.ERROR):
        run(work)
    assert [record.message for record in caplog.records] == [
        "an internal error while a socket was served"
    ] * 2


def test_a_deadline_is_kept_when_nothing_comes(pair):
    ours, _ = pair

    async def work():
        ready_sockets().watch(ours.fileno(), lambda: None)
        with trio.move_on_after(0.05) as scope:
            await trio.sleep_forever()
        return scope.cancelled_caught

    assert run(work)


def test_it_is_the_clock_and_tells_the_time():
    async def work():
        assert isinstance(trio.lowlevel.current_clock(), ReadySockets)
        before = trio.current_time()
        await trio.sleep(0.02)
        return trio.current_time() - before

    assert run(work) >= 0.02


def test_a_trio_that_shows_nothing_runs_without_ready_sockets(monkeypatch, caplog, pair):
    def elsewhere():
        raise AttributeError

    monkeypatch.setattr("mongoguard.server.ready_sockets._epoll_of_trio", elsewhere)
    ours, theirs = pair

    async def work():
        threading.Timer(0.05, theirs.send, [b"1"]).start()
        await trio.lowlevel.wait_readable(ours)
        await trio.sleep(0.01)
        return ready_sockets()

    assert run(work) is None
    assert "is not known here" in caplog.text


# ---- stops ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(monkeypatch):
    """How many seconds were slept through, beside those that pass."""
    secs = [0.0]
    monkeypatch.setattr(module, "_time_with_suspension", lambda: time.perf_counter() + secs[0])

    def stop(more):
        secs[0] += more

    return stop


def test_after_a_stop_the_first_thing_is_to_say_so_before_sockets_and_tasks(pair, stopped, caplog):
    ours, theirs = pair

    async def work():
        seen, ready, event = [], ready_sockets(), trio.Event()
        call_after_stops(lambda: seen.append("stopped"))
        ready.watch(ours.fileno(), lambda: (ours.recv(10), seen.append("socket"), event.set()))
        left, right = socket.socketpair()

        async def wait_for_trios():
            await trio.lowlevel.wait_readable(left)
            seen.append("task")

        with left, right:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_trios)
                await trio.sleep(0.01)
                theirs.send(b"request")
                right.send(b"request")
                stopped(3600)
                await event.wait()
        return seen

    with caplog.at_level(logging.WARNING):
        seen = run(work)
    assert seen[0] == "stopped"
    assert sorted(seen[1:]) == ["socket", "task"]
    assert caplog.messages == [
        "this process did not run for 3600 s: it was stopped, or the machine is too busy"
    ]


def test_a_loop_that_is_busy_or_idle_for_a_second_was_not_stopped(stopped):
    async def work():
        seen = []
        call_after_stops(lambda: seen.append("stopped"))
        await trio.sleep(0.01)
        stopped(1.0)
        await trio.sleep(0.01)
        time.sleep(0.2)  # noqa: ASYNC251  (a busy loop)
        await trio.sleep(0.01)
        return seen

    assert run(work) == []


async def test_with_another_clock_there_is_nobody_to_say_it():
    call_after_stops(lambda: None)


def test_what_is_looked_for_is_found_and_looking_ends(pair):
    ours, theirs = pair
    came = []

    async def work():
        ready = ready_sockets()
        ready.watch(ours.fileno(), lambda: came.append(ours.recv(10)))
        await trio.sleep(0.001)
        ready.look_for(0.05)
        theirs.send(b"1")
        began = time.perf_counter()
        assert [descriptor for descriptor, _ in ready._events(10.0)] == [ours.fileno()]
        assert time.perf_counter() - began < 5
        came.append(ours.recv(10))
        ready.look_for(0.01)
        began = time.perf_counter()
        assert ready._events(0.02) == []
        assert time.perf_counter() - began >= 0.03 - 0.001
        assert ready._look_for_secs == 0

    run(work)
    assert came == [b"1"]
