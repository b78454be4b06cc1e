"""Connections without a first message: how many there may be, of whom, and what the log says of the others."""

import os
import socket
from contextlib import ExitStack
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from mongoguard.config.sections import Net
from mongoguard.server import app
from mongoguard.server.arrivals import (
    HESITATE_SECS,
    MAX_ARRIVING,
    MAX_ARRIVING_PER_ADDRESS,
    TELL_SECS,
    ArrivalRefused,
    Arrivals,
)
from mongoguard.server.incoming import receive_client
from mongoguard.server.shared_counts import SharedCounts, make_shared_memory

MALLORY, ALICE = ip_address("192.0.2.1"), ip_address("192.0.2.2")


@pytest.fixture
def arrivals():
    return Arrivals(65536)


def arrive(arrivals, address, times):
    """So many connections of that address."""
    made = [arrivals.begin() for _ in range(times)]
    for one in made:
        one.come_from(address)
    return made


def test_one_address_may_have_so_many_on_their_way_and_others_arrive_beside_them(arrivals):
    arrive(arrivals, MALLORY, MAX_ARRIVING_PER_ADDRESS)
    with pytest.raises(ArrivalRefused, match=r"1024 connections of 192\.0\.2\.1, or its /64"):
        arrive(arrivals, MALLORY, 1)
    arrive(arrivals, ALICE, MAX_ARRIVING_PER_ADDRESS)


def test_all_together_may_have_so_many_on_their_way(arrivals):
    for number in range(MAX_ARRIVING):
        arrive(arrivals, ip_address(number), 1)
    with pytest.raises(ArrivalRefused, match="4096 connections have sent no message"):
        arrivals.begin()


def test_who_has_sent_a_message_counts_no_more_and_holds_a_connection_still():
    arrivals = Arrivals(2 * MAX_ARRIVING_PER_ADDRESS)
    for one in arrive(arrivals, MALLORY, MAX_ARRIVING_PER_ADDRESS):
        one.arrived()
        one.arrived()
    arrive(arrivals, MALLORY, MAX_ARRIVING_PER_ADDRESS)
    with pytest.raises(ArrivalRefused, match=r"net\.maxIncomingConnections is reached"):
        arrivals.begin()


def test_places_are_given_back_whatever_ends_a_connection(arrivals):
    def end_by_a_bug():
        with ExitStack() as stack:
            first, second, third = (stack.enter_context(arrivals.begin()) for _ in range(3))
            first.come_from(MALLORY)
            first.arrived()
            second.come_from(MALLORY)
            second.come_from(ALICE)
            third.come_from(None)
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        end_by_a_bug()
    assert (arrivals.open, arrivals.arriving, arrivals.by_address) == (0, 0, {})


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_a_client_has_a_whole_64_of_ipv6_and_one_address_of_ipv4(arrivals, one, other, are_one):
    arrive(arrivals, ip_address(one), MAX_ARRIVING_PER_ADDRESS)
    if are_one:
        with pytest.raises(ArrivalRefused):
            arrive(arrivals, ip_address(other), 1)
    else:
        arrive(arrivals, ip_address(other), 1)


def test_clients_of_unix_sockets_are_one(arrivals):
    arrive(arrivals, None, MAX_ARRIVING_PER_ADDRESS)
    with pytest.raises(ArrivalRefused):
        arrive(arrivals, None, 1)


async def test_a_flood_is_told_of_now_and_then_with_its_size(arrivals, caplog, autojump_clock):
    refused = ArrivalRefused("too many")
    for _ in range(1000):
        arrivals.tell(refused)
    assert caplog.messages == ["too many: a connection is refused (1 since the last time)"]
    await trio.sleep(TELL_SECS)
    arrivals.tell(refused)
    assert caplog.messages[1:] == ["too many: a connection is refused (1000 since the last time)"]


# ---- behind a listener ----------------------------------------------------------------------------------------------


async def received(arrivals, settings, header):
    """What becomes of a connection on a Unix socket that begins with those bytes."""
    near, far = socket.socketpair()
    with near, far, arrivals.begin() as arrival:
        far.send(header + b"\x3a\0\0\0")
        return await receive_client(near, Net.model_validate(settings), None, arrival)


async def test_behind_a_balancer_the_clients_address_counts_and_not_the_balancers(arrivals):
    trusted = {"proxyProtocol": {"trustedSources": "unix"}}
    arrive(arrivals, None, MAX_ARRIVING_PER_ADDRESS)
    arrive(arrivals, MALLORY, MAX_ARRIVING_PER_ADDRESS)
    with pytest.raises(ArrivalRefused, match=r"192\.0\.2\.1"):
        await received(arrivals, trusted, b"PROXY TCP4 192.0.2.1 192.0.2.9 4000 27017\r\n")
    incoming = await received(arrivals, trusted, b"PROXY TCP4 192.0.2.2 192.0.2.9 4000 27017\r\n")
    assert incoming.peer.client == ALICE


async def test_who_is_no_balancer_counts_before_a_byte_is_read(arrivals):
    arrive(arrivals, None, MAX_ARRIVING_PER_ADDRESS)
    near, far = socket.socketpair()
    with near, far, arrivals.begin() as arrival, trio.fail_after(1), pytest.raises(ArrivalRefused):
        await receive_client(near, Net(), None, arrival)


@pytest.mark.parametrize("at", ["the door", "its address"])
async def test_one_too_many_is_closed_and_told(at, caplog, nursery):
    arrivals = Arrivals(0 if at == "the door" else 2 * MAX_ARRIVING_PER_ADDRESS)
    application = SimpleNamespace(_arrivals=arrivals, _settings=SimpleNamespace(net=Net()), _tls=None)
    application._shell = SimpleNamespace(wait_readable=trio.lowlevel.wait_readable)
    application._receive = lambda *arguments: app.Application._receive(application, *arguments)
    application._serve = lambda *arguments: app.Application._serve(application, *arguments)
    if at == "its address":
        arrive(arrivals, None, MAX_ARRIVING_PER_ADDRESS)
    before = arrivals.open, arrivals.arriving
    near, far = socket.socketpair()
    far.setblocking(False)
    with far:
        app.Application._take(application, near, nursery)
        await trio.lowlevel.wait_readable(far)
        assert far.recv(1) == b""
        await trio.testing.wait_all_tasks_blocked()
    assert (arrivals.open, arrivals.arriving) == before
    (told,) = caplog.messages
    assert told.endswith("a connection is refused (1 since the last time)")


def test_a_worker_with_more_connections_than_the_others_lets_them_go_first():
    descriptor = make_shared_memory(3)
    one, two, three = (Arrivals(100, SharedCounts(descriptor, 3, number, bytes(32))) for number in range(3))
    assert one.hesitation_secs() == 0
    one.count(open_=1)
    assert one.hesitation_secs() == 0, "one more than the others is no difference"
    one.count(open_=1)
    assert (one.hesitation_secs(), two.hesitation_secs()) == (HESITATE_SECS, 0)
    two.count(open_=2)
    three.count(open_=2)
    assert one.hesitation_secs() == 0
    os.close(descriptor)


def test_an_only_process_never_hesitates():
    arrivals = Arrivals(100)
    arrivals.count(open_=50)
    assert arrivals.hesitation_secs() == 0


def test_clients_do_not_take_the_file_descriptors_that_the_upstream_needs():
    arrivals = Arrivals(100, max_here=3)
    held = ExitStack()
    for one in arrive(arrivals, ALICE, 3):
        held.enter_context(one).arrived()
    with pytest.raises(ArrivalRefused, match="ulimit -n"):
        arrivals.begin()
    held.close()
    arrive(arrivals, ALICE, 3)
