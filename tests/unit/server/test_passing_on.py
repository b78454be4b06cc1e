"""Attacks on replies that go on while they come: real sockets, many of them, and whatever may go wrong in the middle."""

import errno
import os
import random
import socket
from pathlib import Path

import pytest
import trio

from mongoguard.effects import Emit, Relay, perform
from mongoguard.server import passing_on
from mongoguard.server.ready_sockets import run_with_ready_sockets
from mongoguard.server.splicing import Pipe
from tests.rawwire import op_msg
from tests.unit.server.test_quick_requests import (
    REQUEST,
    SECOND,
    SOME,
    Guarded,
    all_of,
    asked,
    cursor_reply,
    reading,
    reply_to,
    run,
)

pytestmark = pytest.mark.usefixtures("way")

MANY = 12


async def closed(guarded):
    """Both ends have gone: nothing of theirs is left."""
    guarded.client.close()
    await guarded.ended.wait()
    assert guarded.pool.in_use == 0
    guarded.server.close()
    guarded.pool.close(interrupt=True)


def no_more_files(*_):
    raise OSError(errno.EMFILE, "Too many open files")


def test_where_no_pipe_can_be_opened_a_long_reply_comes_all_the_same(monkeypatch):
    monkeypatch.setattr(passing_on, "pipe", no_more_files)

    async def test(guarded):
        await asked(guarded)
        await all_of(guarded, cursor_reply(REQUEST), 7)
        await guarded.ask(SECOND)

    run(test, reading)


def test_an_error_of_ours_between_two_sockets_shows_no_other_client_a_byte(monkeypatch):
    """The first client's documents stay in the pipe; the second one's reply goes through the next."""
    own = Pipe()
    monkeypatch.setattr(passing_on, "pipe", lambda: own)
    give = Pipe.give

    def fail_once(self, target):
        monkeypatch.setattr(Pipe, "give", give)
        raise MemoryError

    async def two():
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                first, second = Guarded(nursery, reading), Guarded(nursery, reading)
                await asked(first)
                monkeypatch.setattr(Pipe, "give", fail_once)
                await first.send(first.server, cursor_reply(REQUEST, 2 * SOME))
                while Pipe.give is not give:  # noqa: ASYNC110  (nobody tells)
                    await trio.sleep(0.001)
                await asked(second)
                await all_of(second, cursor_reply(REQUEST, 3 * SOME))
                for guarded in (first, second):
                    guarded.connection.cancel()
                    await closed(guarded)

    run_with_ready_sockets(two)
    own.close()


@pytest.mark.parametrize("cut", [64, 70_000, -1])
def test_a_client_that_is_told_to_go_in_the_middle_leaves_no_connection_in_use(cut):
    async def test(guarded):
        await asked(guarded)
        await guarded.send(guarded.server, cursor_reply(REQUEST, SOME)[:cut])
        await trio.sleep(0.01)
        guarded.connection.cancel()
        await guarded.ended.wait()
        assert guarded.pool.in_use == 0
        assert not guarded.pool._idle, "its server is in the middle of a reply"

    run(test, reading)


def test_a_pool_that_is_closed_in_the_middle_loses_the_reply_and_nothing_follows_its_part():
    async def test(guarded):
        await asked(guarded)
        reply = cursor_reply(REQUEST, SOME)
        await guarded.send(guarded.server, reply[:-10])
        got = await guarded.receive(guarded.client, len(reply) - 200)
        guarded.pool.close(interrupt=True)
        got += await guarded.receive(guarded.client)
        assert reply.startswith(got)
        assert await guarded.receive(guarded.client) == b""

    run(test, reading)


def test_what_a_flow_still_asks_for_before_the_end_goes_on_is_done_first():
    def auditing(message):
        answer = yield from perform(Relay(message, documents_pass=message == REQUEST))
        yield from perform(Emit("read"))
        return answer.message

    async def test(guarded):
        await asked(guarded)
        guarded.shell.events.clear()
        await all_of(guarded, cursor_reply(REQUEST, SOME))
        assert guarded.shell.events == ["read"]
        guarded.shell.events.clear()

    run(test, auditing)


def test_a_flow_that_asks_the_server_again_after_a_part_was_sent_ends_the_connection():
    """Or its second reply would follow the first half of another."""

    def asking_again(message):
        yield from perform(Relay(message, documents_pass=message == REQUEST))
        answer = yield from perform(Relay(SECOND))
        return answer.message

    async def test(guarded):
        await guarded.send(guarded.client, SECOND)
        for _ in range(2):
            assert await guarded.receive(guarded.server) == SECOND
            await guarded.send(guarded.server, reply_to(SECOND))
        await guarded.receive(guarded.client)
        await guarded.send(guarded.client, REQUEST)
        assert await guarded.receive(guarded.server) == REQUEST
        reply = cursor_reply(REQUEST, SOME)
        await guarded.send(guarded.server, reply)
        assert await guarded.receive(guarded.server) == SECOND
        await guarded.send(guarded.server, reply_to(SECOND))
        got = await guarded.receive(guarded.client, 10 * len(reply))
        assert reply.startswith(got)
        assert len(got) < len(reply)

    run(test, asking_again)


def test_a_client_that_has_sent_all_it_will_gets_its_long_reply():
    async def test(guarded):
        await asked(guarded)
        guarded.client.shutdown(socket.SHUT_WR)
        await all_of(guarded, cursor_reply(REQUEST), 7)
        assert await guarded.receive(guarded.client) == b""

    run(test, reading)


def test_requests_sent_ahead_are_answered_behind_the_long_reply():
    async def test(guarded):
        await asked(guarded)
        await guarded.send(guarded.client, REQUEST + SECOND)
        await all_of(guarded, cursor_reply(REQUEST), 7)
        for request in (REQUEST, SECOND):
            assert await guarded.receive(guarded.server) == request
            await all_of(guarded, cursor_reply(request), 2)

    run(test, reading)


class Talk:
    """One client and its server, who send in pieces of any size, through small buffers, and may leave in the middle."""

    def __init__(self, number, chance, guarded):
        self.number, self.chance, self.guarded = number, chance, guarded

    async def go_through(self):
        guarded, chance = self.guarded, self.chance
        await guarded.arrive()
        self.narrow()
        for turn in range(3):
            request = op_msg({"find": f"c{self.number}", "filter": {"turn": turn}, "$db": "d"})
            await guarded.send(guarded.client, request)
            assert await guarded.receive(guarded.server) == request
            reply = cursor_reply(request, chance.choice([70_000, 300_000]))
            reply = reply.replace(b"x", bytes([65 + self.number]))  # nobody else's
            if turn == 2 and self.number % 3 == 0:
                await self.leave_in(reply)
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.feed, reply)
                assert await guarded.receive(guarded.client, len(reply)) == reply

    def narrow(self):
        for sock in (self.guarded.client, self.guarded.server, self.guarded.connection._transport._socket):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                if self.chance.random() < 0.3:
                    sock.setsockopt(socket.SOL_SOCKET, option, self.chance.choice([2048, 16_384]))

    async def feed(self, data):
        while data:
            size = self.chance.choice([1, 60, 1000, 70_000, 400_000])
            try:
                await self.guarded.send(self.guarded.server, data[:size])
            except OSError:  # the connection is given up
                return
            data = data[size:]
            if self.chance.random() < 0.3:
                await trio.lowlevel.checkpoint()

    async def leave_in(self, reply):
        guarded = self.guarded
        await self.feed(reply[:65_000])
        if self.chance.random() < 0.5:
            guarded.client.close()
            await self.feed(reply[65_000:])
        else:
            guarded.server.close()
            assert reply.startswith(await guarded.receive(guarded.client, len(reply)))


@pytest.mark.parametrize("seed", range(4))
def test_many_clients_with_long_replies_at_once_get_each_its_own(seed):
    async def work():
        talks = []
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(MANY):
                    chance = random.Random(1000 * seed + number)
                    talks.append(Talk(number, chance, Guarded(nursery, reading)))
                async with trio.open_nursery() as talking:
                    for talk in talks:
                        talking.start_soon(talk.go_through)
                for talk in talks:
                    await closed(talk.guarded)

    before = len(list(Path("/proc/self/fd").iterdir()))
    run_with_ready_sockets(work)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2, "the process's pipe, and nothing else"


def test_a_client_whose_reply_never_ends_keeps_nobody_from_theirs():
    """A server sends one of them documents as fast as it can; the other's short requests are answered meanwhile."""

    async def flood(guarded, reply):
        data = memoryview(reply)
        while data:
            await trio.lowlevel.wait_writable(guarded.server)
            data = data[guarded.server.send(data) :]

    async def drain(guarded, size):
        while size:
            await trio.lowlevel.wait_readable(guarded.client)
            size -= len(guarded.client.recv(1 << 20))

    async def work():
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                long, short = Guarded(nursery, reading), Guarded(nursery, reading)
                await asked(long)
                await short.arrive()
                reply = cursor_reply(REQUEST, 30_000_000)
                answered = 0
                async with trio.open_nursery() as streams:
                    streams.start_soon(flood, long, reply)
                    streams.start_soon(drain, long, len(reply))
                    while long.connection.busy_since is not None:
                        await short.ask(SECOND)
                        answered += 1
                assert answered >= 5
                for guarded in (long, short):
                    await closed(guarded)

    run_with_ready_sockets(work)


def test_the_pipe_of_a_process_is_not_handed_to_what_it_starts():
    one = Pipe()
    assert not os.get_inheritable(one._reading)
    assert not os.get_inheritable(one._writing)
    one.close()
