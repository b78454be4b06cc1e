import socket
from ipaddress import ip_address

import pytest
import trio
import trio.testing

from mongoguard.config.proxy_protocol_section import ProxyProtocol
from mongoguard.config.sections import Net
from mongoguard.errors import ProtocolError
from mongoguard.model.restriction import Peer
from mongoguard.server.arrivals import Arrivals
from mongoguard.server.incoming import IncomingRefused, receive_client
from mongoguard.server.proxy_header import true_peer
from mongoguard.server.tls import begins_tls

BALANCER = Peer(ip_address("10.0.0.5"), ip_address("10.0.0.9"), 50000, 27017)
STRANGER = Peer(ip_address("192.0.2.66"), ip_address("10.0.0.9"), 50000, 27017)
TRUST = ProxyProtocol.model_validate({"trustedSources": ["10.0.0.0/24"]})
LINE = b"PROXY TCP4 198.51.100.7 198.51.100.1 40001 27017\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"
    + ip_address("198.51.100.7").packed
    + ip_address("198.51.100.1").packed
    + b"\x9c\x41\x69\x89"
)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"
CLIENT = Peer(ip_address("198.51.100.7"), ip_address("198.51.100.1"), 40001, 27017, is_proxied=True)
MESSAGE = b"\x10\0\0\0 and so on"


@pytest.fixture
def ends():
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        yield near, far


def left(sock):
    try:
        return sock.recv(65536)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("header", [LINE, V2])
@pytest.mark.parametrize("behind", [b"", MESSAGE, b"\x16\x03\x01\x02\x00"])
async def test_a_trusted_source_names_the_client_and_what_is_behind_the_header_stays(ends, header, behind):
    near, far = ends
    far.sendall(header + behind)
    assert await true_peer(near, BALANCER, TRUST) == CLIENT
    assert left(near) == behind


@pytest.mark.parametrize("header", [LINE, V2])
async def test_a_header_may_come_byte_by_byte(ends, header):
    near, far = ends
    results = []

    async def read():
        results.append(await true_peer(near, BALANCER, TRUST))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for byte in header + MESSAGE:
            await trio.testing.wait_all_tasks_blocked()
            far.sendall(bytes([byte]))
    assert results == [CLIENT]
    assert left(near) == MESSAGE


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
async def test_a_balancer_that_speaks_for_itself_keeps_its_address_but_is_not_local(ends, header):
    near, far = ends
    far.sendall(header + MESSAGE)
    peer = await true_peer(near, BALANCER, TRUST)
    assert (peer.client, peer.client_port, peer.is_proxied) == (BALANCER.client, 50000, True)
    assert left(near) == MESSAGE


@pytest.mark.parametrize("first", [MESSAGE, b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n", bytes(300)])
async def test_a_trusted_source_without_a_header_is_refused(ends, first):
    near, far = ends
    far.sendall(first)
    with pytest.raises(ProtocolError, match="does not begin with a PROXY header"):
        await true_peer(near, BALANCER, TRUST)


@pytest.mark.parametrize("first", [MESSAGE, b"\x16\x03\x01\x02\x00\x01", b"P\0\0\0 and so on", b"\r\n\0\0x"])
async def test_anybody_else_sends_no_header_and_keeps_what_was_sent(ends, first):
    near, far = ends
    far.sendall(first)
    assert await true_peer(near, STRANGER, TRUST) == STRANGER
    assert left(near) == first


@pytest.mark.parametrize("trust", [TRUST, ProxyProtocol()])
@pytest.mark.parametrize("header", [LINE, V2, LOCAL])
async def test_a_header_from_anybody_else_is_refused(ends, header, trust):
    near, far = ends
    far.sendall(header + MESSAGE)
    with pytest.raises(ProtocolError, match="trustedSources does not name"):
        await true_peer(near, STRANGER, trust)


@pytest.mark.parametrize("header", [LINE, V2])
async def test_a_header_from_anybody_else_is_refused_byte_by_byte_too(ends, header, autojump_clock):
    near, far = ends
    with pytest.RaisesGroup(pytest.RaisesExc(ProtocolError, match="trustedSources does not name")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(true_peer, near, STRANGER, TRUST)
            for byte in header[:4]:
                far.sendall(bytes([byte]))
                await trio.sleep(1)


async def test_a_peek_at_too_few_bytes_does_not_spin(ends, autojump_clock):
    """With a clock that only moves when everybody sleeps, a loop without a sleep would never end."""
    near, far = ends
    far.sendall(b"PRO")
    with trio.move_on_after(5) as scope:
        await true_peer(near, STRANGER, TRUST)
    assert scope.cancelled_caught


class CountedLooks(socket.socket):
    """A socket that counts how often it is read."""

    looks = 0

    def recv(self, *arguments):
        type(self).looks += 1
        return super().recv(*arguments)


@pytest.mark.parametrize(
    ("waits", "first"),
    [
        (lambda sock: true_peer(sock, STRANGER, TRUST), b"PRO"),
        (begins_tls, b"\x16"),
        (begins_tls, b"\x16\x03"),
    ],
)
async def test_a_stranger_who_stops_in_the_first_bytes_is_hardly_looked_at(
    ends, autojump_clock, monkeypatch, waits, first
):
    """Thousands of them, who cost nothing, would keep the event loop from everybody else."""
    near, far = ends
    monkeypatch.setattr(CountedLooks, "looks", 0)
    with CountedLooks(fileno=near.detach()) as counted:
        far.sendall(first)
        with trio.move_on_after(30):
            await waits(counted)
    assert CountedLooks.looks < 15


async def test_two_headers_are_one_too_many(ends):
    """What is behind the first is the client's own, and no balancer's: it is read as a message, which it can't be."""
    near, far = ends
    far.sendall(LINE + LINE)
    assert await true_peer(near, BALANCER, TRUST) == CLIENT
    assert left(near) == LINE


async def test_a_source_that_leaves_without_a_word_is_no_protocol_error(ends):
    near, far = ends
    far.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError, match="before its PROXY header"):
        await true_peer(near, BALANCER, TRUST)
    assert await true_peer(near, STRANGER, TRUST) == STRANGER


@pytest.mark.parametrize("header", [LINE, V2])
async def test_a_header_that_is_cut_off_is_refused(ends, header):
    near, far = ends
    far.sendall(header[:-3])
    far.shutdown(socket.SHUT_WR)
    with pytest.raises(ProtocolError, match="ended within its PROXY header"):
        await true_peer(near, BALANCER, TRUST)


# ---- receive_client -------------------------------------------------------------------------------------------------


def net(**keys):
    return Net.model_validate({"handshakeTimeoutSecs": 5, **keys})


UNIX_TRUST = {"proxyProtocol": {"trustedSources": ["unix"]}}


async def test_a_unix_socket_is_private_unless_a_balancer_stands_before_it(ends):
    near, far = ends
    far.sendall(MESSAGE)
    incoming = await receive_client(near, net(), None, Arrivals(1).begin())
    assert incoming.channel.is_private
    assert (incoming.peer.client, incoming.peer.is_proxied) == (None, False)
    left(near)
    far.sendall(LINE)
    incoming = await receive_client(near, net(**UNIX_TRUST), None, Arrivals(1).begin())
    assert not incoming.channel.is_private
    assert incoming.peer == CLIENT


async def test_a_refusal_says_who_was_refused_and_why(ends):
    near, far = ends
    far.sendall(LINE)
    with pytest.raises(IncomingRefused, match="trustedSources does not name") as error:
        await receive_client(near, net(), None, Arrivals(1).begin())
    assert error.value.event.peer == Peer(None, None)


@pytest.mark.parametrize("first", [b"", LINE[:-1], V2[:20]])
async def test_a_header_that_does_not_come_in_time_ends_the_connection(ends, first, autojump_clock):
    near, far = ends
    far.sendall(first)
    began = trio.current_time()
    with pytest.raises(IncomingRefused, match="the PROXY header did not come in time") as error:
        await receive_client(near, net(**UNIX_TRUST), None, Arrivals(1).begin())
    assert trio.current_time() - began == pytest.approx(5)
    assert (error.value.event.atype, error.value.event.peer) == ("connectionRefused", Peer(None, None))


async def test_a_client_that_sends_nothing_is_audited(ends, autojump_clock):
    near, _ = ends
    with pytest.raises(IncomingRefused, match="no message came in time") as error:
        await receive_client(near, net(), None, Arrivals(1).begin())
    assert error.value.event.param == {"reason": "no message came in time"}


async def test_what_the_header_takes_of_the_time_is_taken_from_what_comes_after(ends, autojump_clock):
    near, far = ends
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def send_late():
            await trio.sleep(4)
            far.sendall(LINE)

        nursery.start_soon(send_late)
        incoming = await receive_client(near, net(**UNIX_TRUST), None, Arrivals(1).begin())
    assert trio.current_time() - began == pytest.approx(4)
    assert incoming.first_message_by - began == pytest.approx(5)


async def test_a_drip_does_not_move_the_deadline(ends, autojump_clock):
    near, far = ends
    async with trio.open_nursery() as nursery:

        async def drip():
            for byte in LINE:
                far.sendall(bytes([byte]))
                await trio.sleep(0.5)

        nursery.start_soon(drip)
        began = trio.current_time()
        with pytest.raises(IncomingRefused):
            await receive_client(near, net(**UNIX_TRUST), None, Arrivals(1).begin())
        assert trio.current_time() - began == pytest.approx(5)
        nursery.cancel_scope.cancel()
