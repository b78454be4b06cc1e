"""Quick requests, with real sockets on both sides: what is answered while the task sleeps, and every way out of that.

The session is faked: it asks what the test says. Everything else is what runs in production.
"""

import contextlib
import socket
import ssl
import time
import tracemalloc
from types import SimpleNamespace

import bson
import pytest
import trio
from bson import Int64

from mongoguard.effects import Emit, Now, Relay, RelayedReply, perform
from mongoguard.errors import ProtocolError, UpstreamConnectionLost
from mongoguard.server.client_connection import ClientConnection
from mongoguard.server.ready_sockets import ready_sockets, run_with_ready_sockets
from mongoguard.server.server_pool import ServerPool
from mongoguard.server.transport import CHUNK_BYTES, SocketTransport, TLSTransport, shake_hands
from mongoguard.server.upstream_connection import UpstreamConnection
from tests.certificates import Authority
from tests.rawwire import op_msg
from tests.unit.server.test_client_connection import ANN, FakeSession, FakeShell, Shell

SETTINGS = SimpleNamespace(max_pool_size=0, connect_timeout_ms=1000, wait_queue_timeout_ms=1000)
REQUEST = op_msg({"find": "c", "$db": "d"})
SECOND = op_msg({"count": "c", "$db": "d"})


def reply_to(request, size=0):
    data = op_msg({"ok": 1, "padding": "x" * size})
    return data[:8] + request[4:8] + data[12:]


def relaying(message):
    """A flow that relays what it was asked."""
    answer = yield from perform(Relay(message))
    return answer.message


class FakeUpstream(FakeShell):
    """A real pool with one connection; `slow` are the requests that came the ordinary way."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool
        self.slow = []

    def pool_at_once(self, relay):
        return None if relay.changes_users else self.pool

    async def relay(self, message, _server=None, _preference=None, _transaction=None, recipient=None):
        self.slow.append(message)
        return RelayedReply(await self.pool.exchange(message, recipient), self.pool.address)


class Guarded:
    """A client, a served connection, and the server behind, all in one Trio."""

    def __init__(self, nursery, flow):
        ours, self.client = socket.socketpair()
        behind, self.server = socket.socketpair()
        self.client.setblocking(False)
        self.server.setblocking(False)
        self.session = FakeSession(flow)
        self.session.user = ANN
        self.session.max_message_bytes = 48_000_000
        self.upstream_connection = UpstreamConnection(SocketTransport(behind), "h:1")
        self.upstream_connection.idle_since = time.monotonic()
        self.pool = ServerPool("h:1", SimpleNamespace(compressors=()), SETTINGS)
        self.pool._idle.append(self.upstream_connection)
        self.shell = FakeUpstream(self.pool)
        shell = Shell(
            upstream=self.shell,
            directory=self.shell,
            audit=self.shell.audit,
            users_changed=self.shell.users_changed,
            threads=trio.CapacityLimiter(2),
            message_timeout_secs=30,
        )
        by = trio.current_time() + 30
        self.connection = ClientConnection(SocketTransport(ours), self.session, shell, lambda: None, by)
        self.ended = trio.Event()
        nursery.start_soon(self._serve)

    async def _serve(self):
        await self.connection.serve()
        self.ended.set()

    async def receive(self, sock, size=0):
        """At least that much of what comes."""
        data = b""
        while not data or len(data) < size:
            await trio.lowlevel.wait_readable(sock)
            more = sock.recv(1 << 20)
            data += more
            if not more:
                break
        return data

    async def send(self, sock, data):
        while data:
            await trio.lowlevel.wait_writable(sock)
            data = data[sock.send(data) :]

    async def arrive(self):
        """The first message takes the ordinary way; after it the task sleeps."""
        await self.ask(REQUEST)
        self.session.handled.clear()
        self.shell.slow.clear()

    async def ask(self, request, reply=None):
        await self.send(self.client, request)
        assert await self.receive(self.server) == request
        reply = reply_to(request) if reply is None else reply
        await self.send(self.server, reply)
        assert await self.receive(self.client, len(reply)) == reply


def run(test, flow=relaying):
    async def in_time():
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                guarded = Guarded(nursery, flow)
                await test(guarded)
                guarded.client.close()
                await guarded.ended.wait()
                guarded.server.close()
                guarded.upstream_connection.close()

    run_with_ready_sockets(in_time)


def test_short_requests_are_answered_while_the_task_sleeps():
    async def test(guarded):
        await guarded.arrive()
        for request in (REQUEST, SECOND, REQUEST):
            await guarded.ask(request)
        assert [message for message, _ in guarded.session.handled] == [REQUEST, SECOND, REQUEST]
        assert not guarded.shell.slow
        assert guarded.connection.busy_since is None
        assert guarded.pool._idle == [guarded.upstream_connection]

    run(test)


def test_what_is_allowed_is_asked_of_the_flow_for_each_request():
    """Nothing is sent that the flow has not asked to relay."""

    def refusing(message):
        if message == SECOND:
            return reply_to(SECOND)
        return (yield from relaying(message))

    async def test(guarded):
        await guarded.arrive()
        await guarded.send(guarded.client, SECOND)
        assert await guarded.receive(guarded.client) == reply_to(SECOND)
        with pytest.raises(BlockingIOError):
            guarded.server.recv(1)

    run(test, refusing)


@pytest.mark.parametrize("cuts", [(1,), (16,), (20, 30), (len(REQUEST) - 1,)])
def test_a_message_that_comes_in_pieces_is_the_tasks(cuts):
    async def test(guarded):
        await guarded.arrive()
        start = 0
        for cut in (*cuts, len(REQUEST)):
            await guarded.send(guarded.client, REQUEST[start:cut])
            start = cut
            await trio.sleep(0.01)
        assert await guarded.receive(guarded.server) == REQUEST
        await guarded.send(guarded.server, reply_to(REQUEST))
        assert await guarded.receive(guarded.client) == reply_to(REQUEST)
        await guarded.ask(SECOND)
        assert [message for message, _ in guarded.session.handled] == [REQUEST, SECOND]

    run(test)


def test_messages_that_come_together_are_answered_in_turn():
    async def test(guarded):
        await guarded.arrive()
        await guarded.send(guarded.client, REQUEST + SECOND)
        for request in (REQUEST, SECOND):
            assert await guarded.receive(guarded.server) == request
            await guarded.send(guarded.server, reply_to(request))
            assert await guarded.receive(guarded.client) == reply_to(request)

    run(test)


def test_a_message_that_comes_before_the_reply_to_the_one_before_waits_for_it():
    async def test(guarded):
        await guarded.arrive()
        await guarded.send(guarded.client, REQUEST)
        assert await guarded.receive(guarded.server) == REQUEST
        await guarded.send(guarded.client, SECOND)
        await trio.sleep(0.01)
        with pytest.raises(BlockingIOError):
            guarded.server.recv(1)
        await guarded.send(guarded.server, reply_to(REQUEST))
        assert await guarded.receive(guarded.client) == reply_to(REQUEST)
        assert await guarded.receive(guarded.server) == SECOND
        await guarded.send(guarded.server, reply_to(SECOND))
        assert await guarded.receive(guarded.client) == reply_to(SECOND)

    run(test)


def test_what_came_behind_a_message_that_fills_the_chunk_is_answered_too():
    """The socket tells of both at once; the first leaves the second in it."""
    padding = CHUNK_BYTES - len(op_msg({"find": "", "$db": "d"}))
    full = op_msg({"find": "x" * padding, "$db": "d"})
    assert len(full) == CHUNK_BYTES

    def answering(message):
        yield from ()
        return reply_to(message)

    async def test(guarded):
        await guarded.send(guarded.client, REQUEST)
        assert await guarded.receive(guarded.client) == reply_to(REQUEST)
        guarded.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * CHUNK_BYTES)
        assert guarded.client.send(full + SECOND) == len(full + SECOND)  # before anything is read
        both = reply_to(full) + reply_to(SECOND)
        assert await guarded.receive(guarded.client, len(both)) == both

    run(test, answering)


def test_a_request_that_cannot_be_sent_for_an_error_of_ours_ends_and_keeps_no_connection():
    """The kernel may refuse to watch one more socket; that is no reason to leave the client waiting."""

    async def test(guarded):
        await guarded.arrive()

        def refuse(*_):
            raise OSError("no more watches")

        guarded.upstream_connection._is_watched = False
        guarded.connection._quick._ready = SimpleNamespace(
            watch=refuse, call_again=ready_sockets().call_again
        )
        await guarded.send(guarded.client, SECOND)
        assert await guarded.receive(guarded.client) == b""
        assert guarded.pool.in_use == 0

    run(test)


@pytest.mark.parametrize("size", [70_000, 3_000_000])
def test_a_long_reply_comes_whole_and_the_next_request_is_answered(size):
    async def test(guarded):
        await guarded.arrive()
        reply = reply_to(REQUEST, size)
        await guarded.send(guarded.client, REQUEST)
        assert await guarded.receive(guarded.server) == REQUEST
        got = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guarded.send, guarded.server, reply)
            got.append(await guarded.receive(guarded.client, len(reply)))
        assert got == [reply]
        await guarded.ask(SECOND)

    run(test)


def test_a_reply_in_two_pieces_comes_whole():
    async def test(guarded):
        await guarded.arrive()
        await guarded.send(guarded.client, REQUEST)
        assert await guarded.receive(guarded.server) == REQUEST
        reply = reply_to(REQUEST)
        await guarded.send(guarded.server, reply[:30])
        await trio.sleep(0.01)
        await guarded.send(guarded.server, reply[30:])
        assert await guarded.receive(guarded.client) == reply
        await guarded.ask(SECOND)

    run(test)


def test_an_effect_that_is_not_a_relay_is_the_tasks_and_the_flow_goes_on_there():
    def auditing(message):
        now = yield from perform(Now())
        assert abs(now - time.time()) < 60
        if message == SECOND:
            yield from perform(Emit("event"))
        return (yield from relaying(message))

    async def test(guarded):
        await guarded.arrive()
        await guarded.ask(REQUEST)
        assert not guarded.shell.slow
        await guarded.ask(SECOND)
        assert guarded.shell.events == ["event"]
        assert guarded.shell.slow == [SECOND]
        await guarded.ask(REQUEST)

    async def ending(guarded):
        await test(guarded)
        guarded.shell.events.clear()

    run(ending, auditing)


def test_a_relay_that_changes_users_is_the_tasks():
    def changing(message):
        answer = yield from perform(Relay(message, changes_users=True))
        return answer.message

    async def test(guarded):
        await guarded.arrive()
        before = guarded.shell.changes
        await guarded.ask(REQUEST)
        assert guarded.shell.changes == before + 1

    run(test, changing)


@pytest.mark.parametrize("answer", [b"", b"not a message at all, but long enough", reply_to(SECOND)])
def test_a_wrong_answer_or_none_ends_the_request_and_its_connection(answer):
    """As in the ordinary way: the client's connection is closed, and drivers retry."""
    request = REQUEST[:4] + (77).to_bytes(4, "little") + REQUEST[8:]
    told = []

    def telling(message):
        try:
            return (yield from relaying(message))
        except UpstreamConnectionLost as error:
            told.append(error)
            raise

    async def test(guarded):
        await guarded.arrive()
        await guarded.send(guarded.client, request)
        assert await guarded.receive(guarded.server) == request
        if answer:
            await guarded.send(guarded.server, answer)
        else:
            guarded.server.close()
        assert await guarded.receive(guarded.client) == b""
        await guarded.ended.wait()
        assert len(told) == 1
        assert not guarded.pool._idle
        assert guarded.pool.in_use == 0

    run(test, telling)


def test_a_cancelled_request_closes_its_upstream_connection_and_its_flow():
    closed = []

    def noticing(message):
        try:
            return (yield from relaying(message))
        finally:
            closed.append(message)

    async def test(guarded):
        await guarded.arrive()
        closed.clear()
        await guarded.send(guarded.client, SECOND)
        assert await guarded.receive(guarded.server) == SECOND
        assert guarded.connection.busy_since is not None
        guarded.connection.cancel()
        assert await guarded.receive(guarded.client) == b""
        assert await guarded.receive(guarded.server) == b""
        assert closed == [SECOND]
        assert guarded.pool.in_use == 0

    run(test, noticing)


def test_a_pool_that_is_closed_loses_its_request():
    async def test(guarded):
        await guarded.arrive()
        await guarded.send(guarded.client, REQUEST)
        assert await guarded.receive(guarded.server) == REQUEST
        guarded.pool.close(interrupt=True)
        assert await guarded.receive(guarded.client) == b""
        await guarded.ended.wait()

    run(test)


def test_draining_lets_the_request_under_way_be_answered():
    async def test(guarded):
        await guarded.arrive()
        await guarded.send(guarded.client, REQUEST)
        assert await guarded.receive(guarded.server) == REQUEST
        guarded.connection.drain()
        await guarded.send(guarded.server, reply_to(REQUEST))
        assert await guarded.receive(guarded.client) == reply_to(REQUEST)
        assert await guarded.receive(guarded.client) == b""

    run(test)


def test_draining_ends_who_sleeps():
    async def test(guarded):
        await guarded.arrive()
        guarded.connection.drain()
        assert await guarded.receive(guarded.client) == b""

    run(test)


def test_what_breaks_the_protocol_ends_the_connection():
    def breaking(message):
        if message == SECOND:
            raise ProtocolError("no")
        return (yield from relaying(message))

    async def test(guarded):
        await guarded.arrive()
        await guarded.send(guarded.client, SECOND)
        assert await guarded.receive(guarded.client) == b""

    run(test, breaking)


def test_a_client_that_does_not_read_gets_the_rest_when_it_does():
    reply = reply_to(REQUEST, 60_000)

    async def test(guarded):
        await guarded.arrive()
        guarded.connection._transport._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await guarded.send(guarded.client, REQUEST)
        assert await guarded.receive(guarded.server) == REQUEST
        await guarded.send(guarded.server, reply)
        await trio.sleep(0.05)
        assert guarded.connection.busy_since is not None
        assert guarded.pool._idle == [guarded.upstream_connection]  # others may have it meanwhile
        assert await guarded.receive(guarded.client, len(reply)) == reply
        await guarded.ask(SECOND)

    run(test)


# ---- over TLS -------------------------------------------------------------------------------------------------------


def secured_pair(tmp_path):
    """Our end, its handshake not yet done, and a function that makes the other end in a thread."""
    authority = Authority(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(authority.server())
    client = ssl.create_default_context(cafile=authority.ca_file)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    secured = server.wrap_socket(ours, server_side=True, do_handshake_on_connect=False)
    return secured, lambda: client.wrap_socket(theirs, server_hostname="localhost")


def receive_exactly(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            return data
        data += more
    return data


def answer_all(connect, size):
    """The server: answers each request, until the connection ends."""
    with connect() as sock:
        while True:
            head = receive_exactly(sock, 4)
            if not head:
                return
            request = head + receive_exactly(sock, int.from_bytes(head, "little") - 4)
            sock.sendall(reply_to(request, size))


def ask_often(connect, size, count):
    """The client: one request after the other, then two records at once, so that no event tells of the second."""
    with connect() as sock:
        for number in range(count):
            request = REQUEST if number % 2 else SECOND
            sock.sendall(request)
            assert receive_exactly(sock, len(reply_to(request, size))) == reply_to(request, size)
        for _ in range(count):
            sock.sendall(REQUEST)
            sock.sendall(SECOND)
            for request in (REQUEST, SECOND):
                assert receive_exactly(sock, len(reply_to(request, size))) == reply_to(request, size)


@pytest.mark.parametrize("size", [10, 70_000])
def test_records_of_tls_are_served_on_both_sides(tmp_path, size):
    for name in ("client", "upstream"):
        (tmp_path / name).mkdir()
    client, connect = secured_pair(tmp_path / "client")
    upstream, accept = secured_pair(tmp_path / "upstream")

    async def work():
        pool = ServerPool("h:1", SimpleNamespace(compressors=()), SETTINGS)
        shell = FakeUpstream(pool)
        session = FakeSession(relaying)
        session.user = ANN
        external = Shell(
            upstream=shell,
            directory=shell,
            audit=shell.audit,
            users_changed=shell.users_changed,
            threads=trio.CapacityLimiter(2),
            message_timeout_secs=30,
        )
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, answer_all, accept, size)
                nursery.start_soon(trio.to_thread.run_sync, ask_often, connect, size, 20)
                await shake_hands(upstream)
                await shake_hands(client)
                behind = UpstreamConnection(TLSTransport(upstream), "h:1")
                behind.idle_since = time.monotonic()
                pool._idle.append(behind)
                by = trio.current_time() + 30
                await ClientConnection(TLSTransport(client), session, external, lambda: None, by).serve()
                pool.close(interrupt=True)
        return len(session.handled), len(shell.slow)

    handled, slow = run_with_ready_sockets(work)
    assert handled == 60
    assert slow <= 21  # the first, and those that came before their task slept again


@pytest.mark.parametrize("place", ["took", "give_back"])
def test_an_error_of_ours_when_a_reply_has_come_ends_the_connection_and_does_not_leave_it_waiting(
    place, monkeypatch
):
    def fail(*_):
        raise RuntimeError("an error of ours")

    async def test(guarded):
        await guarded.arrive()
        await guarded.ask(SECOND)
        monkeypatch.setattr(
            guarded.pool if place == "give_back" else ready_sockets().looking.__class__, place, fail
        )
        await guarded.send(guarded.client, SECOND)
        assert await guarded.receive(guarded.server) == SECOND
        await guarded.send(guarded.server, reply_to(SECOND))
        assert await guarded.receive(guarded.client) == b""
        await guarded.ended.wait()
        assert guarded.pool.in_use == 0

    run(test)


# ---- long requests that come in pieces ------------------------------------------------------------------------------


def long_request(size=200_000):
    return op_msg({"insert": "c", "documents": [{"padding": "x" * size}], "$db": "d"})


@pytest.mark.parametrize("behind", [b"", SECOND])
@pytest.mark.parametrize("size", [CHUNK_BYTES, 150_000, 200_000, 255_000, 300_000])
def test_a_long_request_comes_whole_and_what_is_behind_it_is_answered(size, behind):
    def answering(message):
        yield from ()
        return reply_to(message)

    async def test(guarded):
        await guarded.send(guarded.client, REQUEST)
        assert await guarded.receive(guarded.client) == reply_to(REQUEST)
        expected = reply_to(long_request(size)) + (reply_to(SECOND) if behind else b"")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guarded.send, guarded.client, long_request(size) + behind)
            assert await guarded.receive(guarded.client, len(expected)) == expected
        await guarded.send(guarded.client, SECOND)
        assert await guarded.receive(guarded.client) == reply_to(SECOND)
        assert guarded.session.handled[1][0] == long_request(size)

    run(test, answering)


def test_a_long_request_that_stalls_is_left_to_the_task_and_its_deadline():
    async def test(guarded):
        await guarded.arrive()
        data = long_request()
        await guarded.send(guarded.client, data[:100_000])
        await trio.sleep(0.01)
        assert guarded.connection.busy_since is not None
        guarded.connection.look_after()
        await trio.sleep(0.01)
        assert guarded.connection.busy_since is None
        guarded.connection.look_after()  # there is nothing left to leave
        await guarded.send(guarded.client, data[100_000:])
        assert await guarded.receive(guarded.server, len(data)) == data
        await guarded.send(guarded.server, reply_to(data))
        assert await guarded.receive(guarded.client) == reply_to(data)
        await guarded.ask(SECOND)

    run(test)


def test_a_client_that_leaves_in_the_middle_of_a_long_request_is_gone():
    async def test(guarded):
        await guarded.arrive()
        await guarded.send(guarded.client, long_request()[:100_000])
        await trio.sleep(0.01)
        guarded.client.close()
        await guarded.ended.wait()
        assert not guarded.session.handled

    run(test)


def test_a_request_that_promises_more_than_is_allowed_ends_its_connection():
    async def test(guarded):
        await guarded.arrive()
        guarded.session.max_message_bytes = 150_000
        await guarded.send(guarded.client, long_request()[:100_000])
        with contextlib.suppress(ConnectionResetError):  # what it sent is left unread
            assert await guarded.receive(guarded.client) == b""
        await guarded.ended.wait()
        assert not guarded.session.handled

    run(test)


# ---- long replies that go on while they come ------------------------------------------------------------------------


SOME = 100_000
"""More than a chunk, and less than a socket holds."""


def cursor_reply(request, size=400_000, cursor_id=0):
    documents = [{"_id": i, "padding": "x" * 1000} for i in range(size // 1000)]
    data = op_msg({"cursor": {"firstBatch": documents, "id": Int64(cursor_id), "ns": "d.c"}, "ok": 1.0})
    return data[:8] + request[4:8] + data[12:]


def reading(message):
    """A flow whose reply's documents pass."""
    answer = yield from perform(Relay(message, documents_pass=True))
    return answer.message


async def asked(guarded):
    await guarded.arrive()
    await guarded.send(guarded.client, REQUEST)
    assert await guarded.receive(guarded.server) == REQUEST


async def nothing_in_use(guarded):
    while guarded.pool.in_use:  # noqa: ASYNC110  (a pool tells nobody)
        await trio.sleep(0.001)


async def all_of(guarded, reply, pieces=1):
    """Sent in that many pieces; the client gets all of it."""
    size = len(reply) // pieces + 1
    got = []

    async def take():
        got.append(await guarded.receive(guarded.client, len(reply)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        for start in range(0, len(reply), size):
            await guarded.send(guarded.server, reply[start : start + size])
            await trio.lowlevel.checkpoint()
    assert got == [reply]


@pytest.mark.parametrize("pieces", [1, 2, 7, 50])
@pytest.mark.parametrize("size", [70_000, 400_000, 5_000_000])
def test_the_documents_of_a_long_reply_come_whole(way, size, pieces):
    async def test(guarded):
        await asked(guarded)
        await all_of(guarded, cursor_reply(REQUEST, size), pieces)
        await guarded.ask(SECOND)
        assert guarded.pool._idle == [guarded.upstream_connection]

    run(test, reading)


def test_documents_go_on_before_the_reply_has_all_come_and_its_end_only_after_the_flow_has_had_it(way):
    seen = []

    def knowing(message):
        answer = yield from perform(Relay(message, documents_pass=True))
        seen.append(answer.message)
        return answer.message

    async def test(guarded):
        await asked(guarded)
        seen.clear()
        reply = cursor_reply(REQUEST, SOME, cursor_id=77)
        await guarded.send(guarded.server, reply[:-1])
        passed = await guarded.receive(guarded.client, len(reply) - 200)
        assert bson.encode({"id": Int64(77)})[4:-1] not in passed
        await trio.sleep(0.01)
        with pytest.raises(BlockingIOError):
            guarded.client.recv(1)
        assert not seen
        await guarded.send(guarded.server, reply[-1:])
        assert passed + await guarded.receive(guarded.client, len(reply) - len(passed)) == reply
        assert len(seen[0]) < 200, "the flow reads what is left of a reply without its documents"
        await guarded.ask(SECOND)

    run(test, knowing)


def test_a_reply_whose_documents_may_not_pass_is_whole_before_a_byte_of_it_goes_on(way):
    async def test(guarded):
        await asked(guarded)
        reply = cursor_reply(REQUEST)
        await guarded.send(guarded.server, reply[:-1])
        await trio.sleep(0.05)
        with pytest.raises(BlockingIOError):
            guarded.client.recv(1)
        await all_of_rest(guarded, reply)

    async def all_of_rest(guarded, reply):
        await guarded.send(guarded.server, reply[-1:])
        assert await guarded.receive(guarded.client, len(reply)) == reply

    run(test)


def test_a_flow_that_changes_a_reply_of_which_a_part_is_sent_ends_the_connection(way):
    def changing(message):
        yield from perform(Relay(message, documents_pass=message == REQUEST))
        return reply_to(message)

    async def test(guarded):
        await guarded.send(guarded.client, SECOND)
        assert await guarded.receive(guarded.server) == SECOND
        await guarded.send(guarded.server, reply_to(SECOND))
        assert await guarded.receive(guarded.client) == reply_to(SECOND)
        await guarded.send(guarded.client, REQUEST)
        assert await guarded.receive(guarded.server) == REQUEST
        reply = cursor_reply(REQUEST)
        got = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guarded.send, guarded.server, reply)
            got.append(await guarded.receive(guarded.client, 10 * len(reply)))
        assert reply.startswith(got[0])
        assert len(got[0]) < len(reply)

    run(test, changing)


def test_a_client_that_does_not_read_keeps_its_server_waiting_and_no_memory(way):
    """Of the reply, there is what the kernel's buffers hold, and the pipe."""

    async def test(guarded):
        await asked(guarded)
        reply = cursor_reply(REQUEST, 40_000_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guarded.send, guarded.server, memoryview(reply))
            tracemalloc.start()
            with trio.move_on_after(0.5):
                await guarded.ended.wait()
            assert tracemalloc.get_traced_memory()[0] < 4_000_000
            tracemalloc.stop()
            assert guarded.pool.in_use == 1
            assert await guarded.receive(guarded.client, len(reply)) == reply
        await nothing_in_use(guarded)
        await guarded.ask(SECOND)

    run(test, reading)


@pytest.mark.parametrize("size", [SOME, 3_000_000])
@pytest.mark.parametrize("more", [b"", b"bytes behind the reply"])
def test_a_server_that_goes_in_the_middle_of_a_long_reply_or_says_too_much_ends_the_clients_connection(
    way, more, size
):
    async def test(guarded):
        await asked(guarded)
        reply = cursor_reply(REQUEST, size)

        async def break_off():
            await guarded.send(guarded.server, reply[:-1000])
            if more:
                await guarded.send(guarded.server, reply[-1000:] + more)
            else:
                guarded.server.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(break_off)
            got = await guarded.receive(guarded.client, 10 * len(reply))
        assert reply.startswith(got)
        assert len(got) < len(reply)
        assert guarded.pool.in_use == 0
        assert not guarded.pool._idle

    run(test, reading)


def test_a_client_that_goes_in_the_middle_of_a_long_reply_leaves_no_connection_in_use(way):
    async def test(guarded):
        await asked(guarded)
        reply = cursor_reply(REQUEST)
        await guarded.send(guarded.server, reply[:100_000])
        await guarded.receive(guarded.client)
        guarded.client.close()
        with contextlib.suppress(OSError):
            await guarded.send(guarded.server, reply[100_000:])
        await nothing_in_use(guarded)

    run(test, reading)
