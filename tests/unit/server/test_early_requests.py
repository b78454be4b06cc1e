"""Early requests, with real sockets: what is answered before a login, whose turn it is, and every way to the task.

The session is faked: it asks what the test says. Everything else is what runs in production.
"""

import gc
import math
import socket
import time
import weakref

import pytest
import trio

from mongoguard.effects import Emit, FetchUser, Now, RandomBytes, Relay, RelayedReply, perform
from mongoguard.errors import ProtocolError
from mongoguard.model.names import UserName
from mongoguard.model.user import UserRequest
from mongoguard.server import client_connection as connections
from mongoguard.server.client_connection import ClientConnection
from mongoguard.server.early_requests import MAX_EARLY_BYTES, EarlySockets, answers_at_once
from mongoguard.server.ready_sockets import ready_sockets, run_with_ready_sockets
from mongoguard.server.transport import SocketTransport, TLSTransport, shake_hands
from tests.rawwire import compressed, op_msg
from tests.unit.server.test_client_connection import ANN, FakeSession, FakeShell, Shell
from tests.unit.server.test_quick_requests import receive_exactly, secured_pair

HELLO = op_msg({"hello": 1, "$db": "admin"})
START = op_msg({"saslStart": 1, "$db": "admin"})
CONTINUE = op_msg({"saslContinue": 1, "$db": "admin"})
FIND = op_msg({"find": "c", "$db": "d"})
KNOWN, OTHER = UserRequest(UserName("ann", "admin")), UserRequest(UserName("bob", "admin"))


def reply_to(request):
    data = op_msg({"ok": 1})
    return data[:8] + request[4:8] + data[12:]


class Upstream(FakeShell):
    """A directory that has `KNOWN` at hand, and a sink that takes events while `takes`."""

    def __init__(self):
        super().__init__()
        self.takes = True
        self.waited_for = []
        self.taken = []

    def at_hand(self, request):
        return ("user",) if request == KNOWN else None

    def take(self, event):
        if self.takes:
            self.taken.append(event)
        return self.takes

    async def fetch(self, request):
        self.waited_for.append(request)
        return await super().fetch(request)

    async def audit(self, event):
        self.waited_for.append(event)
        await super().audit(event)

    async def relay(self, message, server, *_):
        self.waited_for.append(message)
        return RelayedReply(reply_to(message), "h:1")

    def pool_at_once(self, _relay):
        return None


class Early:
    """A client and its served connection in one Trio; `woken` is how often the task got something to do."""

    def __init__(self, nursery, flow):
        ours, self.client = socket.socketpair()
        self.client.setblocking(False)
        self.session = FakeSession(flow)
        self.shell = Upstream()
        self.sockets = EarlySockets(ready_sockets())
        self.connection = connection_of(SocketTransport(ours), self.session, self.shell, self.sockets)
        self.woken = 0
        self.ended = trio.Event()
        serve_quickly = self.connection._serve_quickly

        async def counting(requests):
            came = await serve_quickly(requests)
            self.woken += 1
            return came

        self.connection._serve_quickly = counting
        nursery.start_soon(self._serve)

    async def _serve(self):
        await self.connection.serve()
        self.ended.set()

    async def send(self, data):
        assert self.client.send(data) == len(data)

    async def receive(self, size=1):
        data = b""
        while len(data) < size:
            await trio.lowlevel.wait_readable(self.client)
            more = self.client.recv(1 << 20)
            data += more
            if not more:
                break
        return data

    async def ask(self, request):
        await self.send(request)
        assert await self.receive() == reply_to(request)

    async def arrive(self):
        """The first message is the task's."""
        await self.ask(HELLO)
        self.session.handled.clear()


def connection_of(transport, session, shell, sockets):
    shared = Shell(
        upstream=shell,
        directory=shell,
        audit=shell.audit,
        users_changed=shell.users_changed,
        threads=trio.CapacityLimiter(2),
        message_timeout_secs=30,
        at_once=answers_at_once(shell, shell),
        early=sockets,
    )
    return ClientConnection(transport, session, shared, lambda: None, trio.current_time() + 30)


def answering(message):
    yield from ()
    return reply_to(message)


def logging_in(session_of):
    """saslContinue logs in."""

    def flow(message):
        yield from ()
        if message == CONTINUE:
            session_of().user = ANN
        return reply_to(message)

    return flow


def run(test, flow=answering):
    async def in_time():
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                early = Early(nursery, flow)
                await test(early)
                early.client.close()
                await early.ended.wait()
                assert not early.sockets._calls

    run_with_ready_sockets(in_time)


# ---- what is answered ------------------------------------------------------------------------------------------------


def test_messages_before_a_login_are_answered_while_the_task_sleeps():
    async def test(early):
        await early.arrive()
        for request in (START, CONTINUE, HELLO):
            await early.ask(request)
        assert [message for message, _ in early.session.handled] == [START, CONTINUE, HELLO]
        assert early.woken == 0
        assert early.connection.busy_since is None

    run(test)


def test_what_is_at_hand_is_answered_at_once_and_what_is_not_by_the_task():
    def asking(message):
        assert abs((yield from perform(Now())) - time.time()) < 60
        assert len((yield from perform(RandomBytes(24)))) == 24
        if message != HELLO:
            request = KNOWN if message == START else OTHER
            found = yield from perform(FetchUser(request))
            assert found == ("user" if request == KNOWN else f"user {OTHER}")
            yield from perform(Emit("event"))
        return reply_to(message)

    async def test(early):
        await early.arrive()
        await early.ask(START)
        assert (early.woken, early.shell.waited_for) == (0, [])
        await early.ask(CONTINUE)
        assert (early.woken, early.shell.waited_for) == (1, [OTHER, "event"])
        await early.ask(START)
        assert early.woken == 1
        assert early.shell.taken == ["event", "event"]
        early.shell.taken.clear()

    run(test, asking)


def test_an_event_that_a_full_sink_does_not_take_is_waited_for():
    def auditing(message):
        if message != HELLO:
            yield from perform(Emit("event"))
        return reply_to(message)

    async def test(early):
        await early.arrive()
        early.shell.takes = False
        early.shell.gate = trio.Event()
        await early.send(START)
        await trio.sleep(0.05)
        with pytest.raises(BlockingIOError):
            early.client.recv(1)
        early.shell.gate.set()
        assert await early.receive() == reply_to(START)
        assert early.shell.events == ["event"]

    run(test, auditing)


def test_nothing_is_relayed_from_here():
    def relaying(message):
        if message == HELLO:
            return reply_to(message)
        return (yield from perform(Relay(message))).message

    async def test(early):
        await early.arrive()
        await early.ask(FIND)
        assert (early.woken, early.shell.waited_for) == (1, [FIND])

    run(test, relaying)


def test_what_follows_a_login_is_the_tasks_and_no_silence_ends_it():
    sessions = []

    async def test(early):
        sessions.append(early.session)
        await early.arrive()
        await early.ask(START)
        assert early.connection._early._scope.deadline < math.inf
        await early.ask(CONTINUE)
        assert early.connection._early._scope.deadline == math.inf
        assert early.woken == 0
        await early.ask(FIND)
        assert early.woken == 1
        assert not early.sockets._calls

    run(test, logging_in(lambda: sessions[0]))


# ---- what is not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 16, len(START) - 1])
def test_a_message_in_pieces_is_the_tasks(cut):
    async def test(early):
        await early.arrive()
        await early.send(START[:cut])
        await trio.sleep(0.01)
        await early.send(START[cut:])
        assert await early.receive() == reply_to(START)
        assert early.woken == 1
        await early.ask(CONTINUE)
        assert early.woken == 1

    run(test)


def test_messages_that_come_together_are_answered_in_turn():
    async def test(early):
        await early.arrive()
        await early.send(START + CONTINUE)
        both = reply_to(START) + reply_to(CONTINUE)
        assert await early.receive(len(both)) == both
        await early.ask(HELLO)

    run(test)


@pytest.mark.parametrize("message", [compressed(START, 0), START[:16] + b"\0\0\1\0" + START[20:]])
def test_a_message_that_is_not_plain_is_the_tasks(message):
    """Compressed, or asking for a stream of replies."""

    def told(_message):
        yield from ()
        return reply_to(START)

    async def test(early):
        await early.send(HELLO)
        await early.receive()
        await early.send(message)
        await early.receive()
        assert early.woken == 1

    run(test, told)


def test_a_long_message_is_the_tasks():
    long = op_msg({"saslStart": "x" * MAX_EARLY_BYTES, "$db": "admin"})

    async def test(early):
        await early.arrive()
        await early.ask(long)
        assert early.woken == 1

    run(test)


def test_a_message_longer_than_strangers_may_send_ends_the_connection():
    async def test(early):
        early.session.max_message_bytes = len(START) - 1
        await early.arrive()
        await early.send(START)
        assert await early.receive() == b""
        assert not early.session.handled

    run(test)


@pytest.mark.parametrize("error", [ProtocolError("no"), RuntimeError("ours")])
def test_an_error_ends_this_connection_and_no_other(error):
    def failing(message):
        yield from ()
        if message == START:
            raise error
        return reply_to(message)

    async def test(early):
        await early.arrive()
        ours, theirs = socket.socketpair()
        other = connection_of(SocketTransport(ours), FakeSession(answering), early.shell, early.sockets)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.serve)
            await early.send(START)
            assert await early.receive() == b""
            theirs.setblocking(False)
            for _ in range(2):
                theirs.send(CONTINUE)
                await trio.lowlevel.wait_readable(theirs)
                assert theirs.recv(1000) == reply_to(CONTINUE)
            theirs.close()

    run(test, failing)


def test_a_silent_stranger_is_sent_away(monkeypatch):
    monkeypatch.setattr(connections, "MAX_UNAUTHENTICATED_IDLE_SECS", 0.2)

    async def test(early):
        await early.arrive()
        assert await early.receive() == b""

    run(test)


def test_each_request_begins_the_silence_anew():
    async def test(early):
        await early.arrive()
        await early.ask(START)
        first = early.connection._early._scope.deadline
        await early.ask(HELLO)
        assert early.connection._early._scope.deadline > first

    run(test)


def test_a_connection_that_is_told_to_end_does_so_between_requests():
    async def test(early):
        await early.arrive()
        early.connection.drain()
        assert await early.receive() == b""

    run(test)


def test_a_reply_that_the_client_does_not_take_is_the_tasks():
    def at_length(message):
        yield from ()
        return reply_to(message) if message == HELLO else bytes(3_000_000)

    async def test(early):
        await early.arrive()
        await early.send(START)
        assert len(await early.receive(3_000_000)) == 3_000_000
        assert early.woken == 1

    run(test, at_length)


# ---- taking turns ----------------------------------------------------------------------------------------------------


def test_a_running_command_waits_for_one_login_message_and_not_for_all():
    """Each early call makes a quick socket ready, which is served before the next early one."""
    order = []

    async def work():
        ready = ready_sockets()
        sockets = EarlySockets(ready)
        quick, ping = socket.socketpair()
        quick.setblocking(False)
        pairs = [socket.socketpair() for _ in range(50)]

        def serve(sock):
            order.append("early")
            sock.recv(10)
            ping.send(b"!")

        def serve_quick():
            order.append("quick")
            quick.recv(10)

        for ours, theirs in pairs:
            ours.setblocking(False)
            theirs.send(b"?")
            sockets.watch(ours.fileno(), lambda ours=ours: serve(ours))
        ready.watch(quick.fileno(), serve_quick)
        with trio.fail_after(30):
            while len(order) < 100:  # noqa: ASYNC110  (what is served wakes no task)
                await trio.sleep(0.001)
        ready.forget(quick.fileno())
        for ours, theirs in pairs:
            sockets.forget(ours.fileno())
            ours.close()
            theirs.close()
        quick.close()
        ping.close()

    run_with_ready_sockets(work)
    assert order == ["early", "quick"] * 50


def test_tasks_have_their_turn_between_early_calls():
    order = []

    async def work():
        sockets = EarlySockets(ready_sockets())
        pairs = [socket.socketpair() for _ in range(20)]
        for ours, theirs in pairs:
            ours.setblocking(False)
            theirs.send(b"?")
            sockets.watch(ours.fileno(), lambda: order.append("early"))
        with trio.fail_after(30):
            while order.count("early") < 20:
                order.append("task")
                await trio.lowlevel.checkpoint()
        for ours, theirs in pairs:
            sockets.forget(ours.fileno())
            ours.close()
            theirs.close()

    run_with_ready_sockets(work)
    assert "early early" not in " ".join(order)


def test_who_waits_for_a_turn_gets_it_and_one_a_round():
    """Those who have sent something; between two of them a quick socket that is ready is served."""
    order = []

    async def work():
        ready, sockets = ready_sockets(), EarlySockets(ready_sockets())
        quick, ping = socket.socketpair()
        quick.setblocking(False)
        pairs = [socket.socketpair() for _ in range(10)]

        async def wait(ours):
            await sockets.wait_readable(ours)
            order.append("early")
            ping.send(b"!")

        def serve_quick():
            order.append("quick")
            quick.recv(10)

        ready.watch(quick.fileno(), serve_quick)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for ours, theirs in pairs:
                    theirs.send(b"?")
                    nursery.start_soon(wait, ours)
        ready.forget(quick.fileno())
        assert not sockets._calls
        for sock in (quick, ping, *(sock for pair in pairs for sock in pair)):
            sock.close()

    run_with_ready_sockets(work)
    assert order.count("early") == 10
    assert "early early early" not in " ".join(order)  # two looks may pass before tasks run


def test_a_wait_for_a_turn_ends_with_its_cancellation():
    async def work():
        sockets = EarlySockets(ready_sockets())
        ours, theirs = socket.socketpair()
        with ours, theirs, trio.fail_after(30):
            for _ in range(2):
                with trio.move_on_after(0.01) as scope:
                    await sockets.wait_readable(ours)
                assert scope.cancelled_caught
                assert not sockets._calls
            theirs.send(b"?")
            await sockets.wait_readable(ours)

    run_with_ready_sockets(work)


def test_neither_looking_again_nor_what_comes_keeps_the_other_waiting():
    """Each call asks for another look, and gets something more."""
    order = []

    async def work():
        sockets = EarlySockets(ready_sockets())
        one, other = socket.socketpair(), socket.socketpair()

        def look_again():
            order.append("again")
            sockets.look_again(one[0].fileno())

        def come():
            order.append("come")
            other[0].recv(10)
            other[1].send(b"?")

        sockets.watch(one[0].fileno(), look_again)
        sockets.watch(other[0].fileno(), come)
        sockets.look_again(one[0].fileno())
        other[1].send(b"?")
        with trio.fail_after(30):
            while len(order) < 20:  # noqa: ASYNC110
                await trio.sleep(0.001)
        for pair in (one, other):
            sockets.forget(pair[0].fileno())
            for sock in pair:
                sock.close()

    run_with_ready_sockets(work)
    assert order[:20].count("come") == 10


def test_a_connection_that_has_ended_is_gone_without_the_garbage_collector():
    """A collection that finds thousands of them would keep everybody waiting for milliseconds."""
    kept = []

    async def test(early):
        await early.arrive()
        await early.ask(START)
        del early.connection._serve_quickly  # the counting one, which knows the connection
        kept.append(weakref.ref(early.connection))
        early.client.close()
        await early.ended.wait()
        early.connection = None

    gc.collect()
    gc.disable()
    try:
        run(test)
        assert kept[0]() is None
    finally:
        gc.enable()


def test_a_call_that_fails_does_not_end_the_others_turns():
    called = []

    async def work():
        sockets = EarlySockets(ready_sockets())
        pairs = [socket.socketpair() for _ in range(3)]

        def fail(number):
            called.append(number)
            raise RuntimeError("ours")

        for number, (ours, theirs) in enumerate(pairs):
            theirs.send(b"?")
            sockets.watch(ours.fileno(), lambda number=number: fail(number))
        with trio.fail_after(30):
            while len(called) < 3:  # noqa: ASYNC110
                await trio.sleep(0.001)
        for ours, theirs in pairs:
            sockets.forget(ours.fileno())
            ours.close()
            theirs.close()

    run_with_ready_sockets(work)
    assert sorted(called) == [0, 1, 2]


# ---- over TLS --------------------------------------------------------------------------------------------------------


def ask_often(connect, requests):
    """One request after the other, then two records at once, so that no event tells of the second."""
    with connect() as sock:
        for request in requests:
            sock.sendall(request)
            assert receive_exactly(sock, len(reply_to(request))) == reply_to(request)
        sock.sendall(START)
        sock.sendall(CONTINUE)
        both = reply_to(START) + reply_to(CONTINUE)
        assert receive_exactly(sock, len(both)) == both


def test_records_of_tls_are_answered_too(tmp_path):
    client, connect = secured_pair(tmp_path)

    async def work():
        session, shell = FakeSession(answering), Upstream()
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, ask_often, connect, [HELLO, START, CONTINUE] * 5)
                await shake_hands(client)
                sockets = EarlySockets(ready_sockets())
                await connection_of(TLSTransport(client), session, shell, sockets).serve()
        return len(session.handled)

    assert run_with_ready_sockets(work) == 17


def test_answers_are_random_where_they_must_be():
    draw = answers_at_once(Upstream(), Upstream())[RandomBytes]
    assert draw(RandomBytes(24)) != draw(RandomBytes(24))
    assert len(draw(RandomBytes(24))[0]) == 24
