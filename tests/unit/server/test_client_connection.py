"""The pump of one client connection: deadlines on a virtual clock, effects, and how each kind of end is told.

The session is faked: it answers with what the test says, so that faults no client can cause are had too.
"""

import logging
import socket
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from mongoguard.effects import (
    AskUpstream,
    AwaitTopologyChange,
    Emit,
    FetchUser,
    Now,
    RandomBytes,
    Relay,
    perform,
)
from mongoguard.errors import (
    GuardError,
    ProtocolError,
    UpstreamConnectionLost,
    UpstreamUnavailable,
)
from mongoguard.model.names import UserName
from mongoguard.model.restriction import Peer
from mongoguard.proxy.deployment import Deployment, DeploymentView
from mongoguard.proxy.streaming import Streaming
from mongoguard.proxy.transactions import CarriedTransactions, OpenTransactions
from mongoguard.server.client_connection import LOG_OUT_SECS, MAX_UNAUTHENTICATED_IDLE_SECS, ClientConnection
from mongoguard.server.shell import Shell
from mongoguard.server.transport import SocketTransport
from tests.rawwire import compressed, op_msg

ANN = UserName("ann", "admin")
MESSAGE = op_msg({"ping": 1, "$db": "admin"})
REPLY = op_msg({"ok": 1})
HANDSHAKE_SECS, MESSAGE_SECS = 30, 60


class FakeSession:
    """Answers each message with `flow(message)`."""

    def __init__(self, flow=None):
        self.connection_id = 1
        self.peer = Peer(None, None)
        self.max_message_bytes = 100_000
        self.user = None
        self.streaming = Streaming()
        self.deployment = DeploymentView(Deployment(hello={}, build_info={}))
        self.handled = []
        self.flow = flow or answer
        self.ended = []
        self.authentication = SimpleNamespace(log_out=self.log_out)
        self.transactions = CarriedTransactions(OpenTransactions())

    def handle(self, message, compressed=False):
        self.handled.append((message, compressed))
        return self.flow(message)

    def log_out(self, reason):
        self.ended.append(reason)
        yield from perform(Emit("logout"))


def answer(_message):
    """A flow that asks nothing."""
    yield from ()
    return REPLY


class FakeShell:
    """What connections share; `events` are the audit events."""

    def __init__(self):
        self.events = []
        self.changes = 0
        self.error = None
        self.gate = None

    async def audit(self, event):
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        self.events.append(event)

    async def users_changed(self):
        self.changes += 1

    async def relay(self, message, server, *_):
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        return (message, server)

    async def ask(self, db, command):
        await trio.lowlevel.checkpoint()
        return {"db": db, **command}

    async def fetch(self, name):
        await trio.lowlevel.checkpoint()
        return f"user {name}"


class Client:
    """A served connection and the client's end of it."""

    def __init__(self, nursery, flow=None):
        ours, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.session = FakeSession(flow)
        self.shell = FakeShell()
        shell = Shell(
            upstream=self.shell,
            directory=self.shell,
            audit=self.shell.audit,
            users_changed=self.shell.users_changed,
            threads=trio.CapacityLimiter(2),
            message_timeout_secs=MESSAGE_SECS,
        )
        by = trio.current_time() + HANDSHAKE_SECS
        self.connection = ClientConnection(SocketTransport(ours), self.session, shell, self.arrived, by)
        self.ended_at = 0.0
        self.arrived_after = None
        self._ended = trio.Event()
        nursery.start_soon(self._serve)

    def arrived(self):
        self.arrived_after = len(self.session.handled)

    async def _serve(self):
        await self.connection.serve()
        self.ended_at = trio.current_time()
        self._ended.set()

    async def receive(self):
        await trio.lowlevel.wait_readable(self.sock)
        return self.sock.recv(1 << 20)

    async def ended(self):
        await self._ended.wait()


@pytest.fixture
async def clients(nursery):
    """Make clients; whatever is left of them ends with the test."""
    made = []

    def make(flow=None):
        made.append(Client(nursery, flow))
        return made[-1]

    yield make
    nursery.cancel_scope.cancel()
    for client in made:
        client.connection.cancel()
        client.connection._transport.close()
        client.sock.close()


# ---- deadlines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", MESSAGE[:20]], ids=["nothing", "half a message"])
async def test_a_first_message_must_come_in_time(clients, autojump_clock, caplog, sent):
    caplog.set_level(logging.INFO, "mongoguard")
    client = clients()
    began = trio.current_time()
    client.sock.send(sent) if sent else None
    await client.ended()
    assert client.ended_at - began == HANDSHAKE_SECS
    assert "connection 1: closed: no message came in time" in caplog.text
    event = client.shell.events[0]
    assert (event.atype, event.param) == ("connectionRefused", {"reason": "no message came in time"})


async def test_what_came_before_the_first_message_has_taken_of_its_time(autojump_clock):
    ours, theirs = socket.socketpair()
    client = SimpleNamespace(shell=FakeShell(), session=FakeSession())
    shell = SimpleNamespace(audit=client.shell.audit, external={}, at_once={}, early=None)
    arrived = []
    by = trio.current_time() + 3
    await ClientConnection(
        SocketTransport(ours), client.session, shell, lambda: arrived.append(1), by
    ).serve()
    assert trio.current_time() == by
    assert not arrived
    theirs.close()


@pytest.mark.parametrize("with_the_message_before", [True, False])
async def test_a_begun_message_must_come_whole_in_time(
    clients, autojump_clock, caplog, with_the_message_before
):
    caplog.set_level(logging.INFO, "mongoguard")
    client = clients()
    client.session.user = ANN
    client.sock.send(MESSAGE + (MESSAGE[:20] if with_the_message_before else b""))
    assert await client.receive() == REPLY
    if not with_the_message_before:
        await trio.sleep(1000)
        client.sock.send(MESSAGE[:20])
    began = trio.current_time()
    await client.ended()
    assert MESSAGE_SECS <= client.ended_at - began < MESSAGE_SECS + 1
    assert "a message did not arrive whole in time" in caplog.text


async def test_a_stranger_may_be_idle_for_a_while_and_a_user_for_ever(clients, autojump_clock):
    stranger, user = clients(), clients()
    user.session.user = ANN
    for client in (stranger, user):
        client.sock.send(MESSAGE)
        assert await client.receive() == REPLY
    began = trio.current_time()
    await stranger.ended()
    assert MAX_UNAUTHENTICATED_IDLE_SECS <= stranger.ended_at - began < MAX_UNAUTHENTICATED_IDLE_SECS + 1
    await trio.sleep(80_000)
    user.sock.send(MESSAGE)
    assert await user.receive() == REPLY


async def test_a_connection_has_arrived_with_its_first_whole_message(clients):
    client = clients()
    client.sock.send(MESSAGE[:20])
    await trio.testing.wait_all_tasks_blocked()
    assert client.arrived_after is None
    client.sock.send(MESSAGE[20:])
    assert await client.receive() == REPLY
    assert client.arrived_after == 0


# ---- messages -------------------------------------------------------------------------------------------------------


async def test_messages_that_come_together_are_answered_in_turn(clients):
    client = clients()
    client.sock.send(MESSAGE * 3)
    received = b""
    while len(received) < 3 * len(REPLY):
        received += await client.receive()
    assert received == REPLY * 3


async def test_a_message_without_an_answer_is_followed_by_the_next(clients):
    def silent_first(_message, turns=iter([None, REPLY])):  # noqa: B008  (one for the test)
        yield from ()
        return next(turns)

    client = clients(silent_first)
    client.sock.send(MESSAGE * 2)
    assert await client.receive() == REPLY


async def test_the_limit_follows_the_session(clients, caplog):
    caplog.set_level(logging.INFO, "mongoguard")
    client = clients()
    client.session.max_message_bytes = len(MESSAGE) - 1
    client.sock.send(MESSAGE)
    assert await client.receive() == REPLY, "the limit counts from the next message on"
    client.sock.send(MESSAGE)
    assert await client.receive() == b""
    assert "a message length of" in caplog.text


async def test_a_compressed_message_gets_a_compressed_answer(clients):
    client = clients()
    client.sock.send(compressed(MESSAGE))
    assert await client.receive() == compressed(REPLY)
    assert client.session.handled == [(MESSAGE, True)]


async def test_a_compressed_message_that_wants_no_answer_gets_none(clients):
    def silent(_message):
        yield from ()

    client = clients(silent)
    client.sock.send(compressed(MESSAGE))
    client.sock.shutdown(socket.SHUT_WR)
    assert await client.receive() == b""


async def test_a_long_message_is_decompressed_and_answered_like_a_short_one(clients):
    text = op_msg({"ping": "x" * 300_000, "$db": "admin"})

    def long(_message):
        yield from ()
        return text

    client = clients(long)
    client.session.max_message_bytes = 1_000_000
    client.sock.send(compressed(text))
    assert await client.receive() == compressed(text)


# ---- effects --------------------------------------------------------------------------------------------------------


async def test_every_effect_is_carried_out(clients):
    found = []

    def asks(_message):
        found.append((yield from perform(Relay(b"m", "h:1", changes_users=True))))
        found.append((yield from perform(Relay(b"n"))))
        found.append((yield from perform(AskUpstream("admin", {"ping": 1}))))
        found.append((yield from perform(FetchUser(ANN))))
        found.append(len((yield from perform(RandomBytes(18)))))
        found.append((yield from perform(Now())) > 1_700_000_000)
        yield from perform(Emit("an event"))
        return REPLY

    client = clients(asks)
    client.sock.send(MESSAGE)
    assert await client.receive() == REPLY
    assert found == [
        (b"m", "h:1"),
        (b"n", None),
        {"db": "admin", "ping": 1},
        "user ann@admin",
        18,
        True,
    ]
    assert (client.shell.changes, client.shell.events) == (1, ["an event"])


async def test_an_error_of_the_upstream_is_thrown_into_the_flow_and_users_count_as_changed(clients, caplog):
    caplog.set_level(logging.INFO, "mongoguard")

    def asks(_message):
        try:
            yield from perform(Relay(b"m", None, changes_users=True))
        except UpstreamUnavailable:
            return REPLY

    client = clients(asks)
    client.shell.error = UpstreamUnavailable("h:1 is away")
    client.sock.send(MESSAGE)
    assert await client.receive() == REPLY
    assert client.shell.changes == 1
    assert "connection 1: a command was not sent: h:1 is away" in caplog.text


# ---- ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ProtocolError("bad flags"), "connection 1: closed: bad flags"),
        (UpstreamConnectionLost("h:1 closed"), "connection 1: closed with its upstream: h:1 closed"),
        (RuntimeError("a bug"), "connection 1: closed by an internal error"),
        (OSError("no route"), "connection 1: broken"),
    ],
)
async def test_each_kind_of_error_ends_the_connection_and_is_told(clients, caplog, error, told):
    caplog.set_level(logging.DEBUG, "mongoguard")

    def fails(_message):
        yield from ()
        raise error

    client = clients(fails)
    client.sock.send(MESSAGE)
    assert await client.receive() == b""
    await client.ended()
    assert told in caplog.text
    assert client.session.ended == ["Client has disconnected"]
    assert client.shell.events == ["logout"]


async def test_an_audit_sink_that_hangs_holds_the_end_for_a_bound_time(clients, autojump_clock):
    client = clients()
    client.shell.gate = trio.Event()
    client.sock.close()
    began = trio.current_time()
    await client.ended()
    assert LOG_OUT_SECS <= client.ended_at - began <= LOG_OUT_SECS + 1


async def test_a_logout_event_that_can_not_be_written_is_told(clients, caplog):
    client = clients()

    def log_out(_reason):
        yield from ()
        raise GuardError("disk full")

    client.session.authentication.log_out = log_out
    client.sock.close()
    await client.ended()
    assert "connection 1: no logout event: disk full" in caplog.text


async def test_an_error_of_ours_while_logging_out_ends_that_connection_and_no_other(clients, caplog):
    broken, other = clients(), clients()

    def log_out(_reason):
        yield from ()
        raise RuntimeError("a bug")

    broken.session.authentication.log_out = log_out
    broken.sock.close()
    await broken.ended()
    assert "connection 1: no logout event: an internal error" in caplog.text
    other.sock.send(MESSAGE)
    assert await other.receive() == REPLY


async def test_draining_ends_an_idle_connection_now_and_a_busy_one_after_its_answer(clients):
    gate = trio.Event()
    idle, busy = clients(), clients(asks_for_audit)
    busy.shell.gate = gate
    for client in (idle, busy):
        client.sock.send(MESSAGE)
    assert await idle.receive() == REPLY
    await trio.testing.wait_all_tasks_blocked()
    for client in (idle, busy):
        client.connection.drain()
    assert await idle.receive() == b""
    assert busy.connection.busy_since is not None
    gate.set()
    assert await busy.receive() == REPLY
    assert await busy.receive() == b""


def asks_for_audit(_message):
    """A flow that takes as long as the audit sink."""
    yield from perform(Emit("an event"))
    return REPLY


async def test_a_request_ends_when_its_client_has_left_and_not_before(clients):
    client = clients(asks_for_audit)
    client.shell.gate = trio.Event()
    client.sock.send(MESSAGE + MESSAGE[:20])
    await trio.testing.wait_all_tasks_blocked()
    client.connection.look_after()
    await trio.testing.wait_all_tasks_blocked()
    assert client.session.ended == []
    client.sock.close()
    client.connection.look_after()
    await trio.testing.wait_all_tasks_blocked()
    assert client.session.ended == ["Client has disconnected"]
    client.connection.look_after()  # its logout event is still to be written
    client.shell.gate.set()
    await client.ended()
    assert client.shell.events == ["logout"]


# ---- streams and waits ----------------------------------------------------------------------------------------------


def streams(session, replies, gate=None):
    """A flow for that session: as many replies as there are, of which all but the last are followed by another."""
    left = iter(replies)

    def flow(_message):
        if gate is not None:
            yield from perform(Emit("waits"))
        reply = next(left)
        session.streaming.next_request = MESSAGE if reply is not replies[-1] else None
        return reply
        yield

    return flow


async def test_a_stream_is_sent_without_another_request(clients):
    client = clients()
    replies = [op_msg({"n": n}) for n in range(3)]
    client.session.flow = streams(client.session, replies)
    client.sock.send(MESSAGE)
    received = b""
    while len(received) < len(b"".join(replies)):
        received += await client.receive()
    assert received == b"".join(replies)
    assert [message for message, _ in client.session.handled] == [MESSAGE] * 3


@pytest.mark.parametrize("is_stream", [True, False], ids=["a stream", "messages that came together"])
async def test_others_have_their_turn_between_the_replies_to_a_client(clients, nursery, is_stream):
    """Also where nothing has to be waited for: a client that takes everything at once would be the only one served."""
    turns, seen = [], []

    async def take_turns():
        while True:
            await trio.lowlevel.checkpoint()
            turns.append(None)

    def flow(_message):
        yield from ()
        seen.append(len(turns))
        client.session.streaming.next_request = MESSAGE if is_stream and len(seen) < 20 else None
        return REPLY

    client = clients(flow)
    nursery.start_soon(take_turns)
    client.sock.send(MESSAGE if is_stream else MESSAGE * 20)
    received = b""
    while len(received) < 20 * len(REPLY):
        received += await client.receive()
    assert received == REPLY * 20
    assert len(set(seen)) > 5  # Trio shuffles who comes first in a turn


async def test_a_compressed_request_has_a_compressed_stream(clients):
    client = clients()
    replies = [op_msg({"n": n}) for n in range(2)]
    client.session.flow = streams(client.session, replies)
    client.sock.send(compressed(MESSAGE))
    expected = b"".join(compressed(reply) for reply in replies)
    received = b""
    while len(received) < len(expected):
        received += await client.receive()
    assert received == expected


async def test_a_stream_is_not_made_faster_than_it_is_taken(clients):
    client = clients()
    large = op_msg({"x": "x" * 4_000_000})
    client.session.flow = streams(client.session, [large] * 50 + [REPLY])
    client.sock.send(MESSAGE)
    await trio.testing.wait_all_tasks_blocked()
    assert len(client.session.handled) == 1, "the second is made when the first has been taken"
    client.sock.close()
    await client.ended()
    assert len(client.session.handled) == 1


async def test_draining_ends_a_stream_between_two_replies(clients):
    client = clients()
    client.shell.gate = trio.Event()
    client.session.flow = streams(client.session, [REPLY] * 5, gate=True)
    client.sock.send(MESSAGE)
    await trio.testing.wait_all_tasks_blocked()
    client.connection.drain()
    client.shell.gate.set()
    assert await client.receive() == REPLY
    assert await client.receive() == b""
    assert len(client.session.handled) == 1


def waits(session, counter=0, seconds=10.0):
    """A flow that waits for a change."""

    def flow(_message):
        yield from perform(AwaitTopologyChange(counter, seconds))
        return REPLY

    return flow


def change(session):
    """Hello says something else from now on."""
    session.deployment.current = Deployment(hello={"maxWireVersion": 17}, build_info={})


async def test_a_wait_ends_with_its_time(clients, autojump_clock):
    client = clients()
    client.session.flow = waits(client.session)
    began = trio.current_time()
    client.sock.send(MESSAGE)
    assert await client.receive() == REPLY
    assert 10 <= trio.current_time() - began < 11


async def test_a_change_ends_every_wait_at_once(clients):
    several = [clients() for _ in range(20)]
    view = several[0].session.deployment
    for client in several:
        client.session.deployment = view
        client.session.flow = waits(client.session, seconds=1000.0)
        client.sock.send(MESSAGE)
    await trio.testing.wait_all_tasks_blocked()
    change(several[0].session)
    for client in several:
        assert await client.receive() == REPLY
    assert not view._told, "nobody is told twice"


async def test_what_has_changed_before_is_not_waited_for(clients):
    client = clients()
    change(client.session)
    client.session.flow = waits(client.session, counter=0, seconds=1000.0)
    client.sock.send(MESSAGE)
    assert await client.receive() == REPLY


async def test_a_client_that_waits_is_not_busy_and_its_leaving_is_noticed(clients):
    client = clients()
    client.session.flow = waits(client.session, seconds=1000.0)
    client.sock.send(MESSAGE)
    await trio.testing.wait_all_tasks_blocked()
    assert client.connection.busy_since is None
    client.sock.close()
    await client.ended()
    assert not client.session.deployment._told


async def test_a_client_that_waits_and_has_sent_the_next_message_is_looked_after(clients):
    client = clients()
    client.session.flow = waits(client.session, seconds=1000.0)
    client.sock.send(MESSAGE)
    await trio.testing.wait_all_tasks_blocked()
    client.sock.send(MESSAGE)
    await trio.testing.wait_all_tasks_blocked()
    assert client.connection.busy_since is not None
    assert len(client.session.handled) == 1
    change(client.session)
    assert (await client.receive()).startswith(REPLY)


async def test_draining_ends_a_wait_at_once(clients):
    client = clients()
    client.session.flow = waits(client.session, seconds=1000.0)
    client.sock.send(MESSAGE)
    await trio.testing.wait_all_tasks_blocked()
    client.connection.drain()
    assert await client.receive() == b""


async def test_a_stranger_may_wait_for_longer_than_it_may_be_idle(clients, autojump_clock):
    client = clients()
    client.session.flow = waits(client.session, seconds=2.0 * MAX_UNAUTHENTICATED_IDLE_SECS)
    client.sock.send(MESSAGE)
    assert await client.receive() == REPLY
