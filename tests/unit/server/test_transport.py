"""Transports over real sockets: whole sends, ends of streams, peers that take nothing."""

import socket
import ssl

import pytest
import trio
import trio.testing

from mongoguard.errors import ProtocolError
from mongoguard.server.transport import STALLED_SECS, SocketTransport, TLSTransport, read_message, shake_hands
from mongoguard.wire.framing import MessageReader
from tests.certificates import Authority
from tests.rawwire import op_msg

MESSAGE = op_msg({"ping": 1, "$db": "admin"})


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    transport = SocketTransport(ours)
    yield transport, theirs
    ours.close()
    theirs.close()


async def test_a_message_is_read_whole_however_it_is_cut(pair):
    transport, theirs = pair
    reader = MessageReader(1000)
    theirs.sendall(MESSAGE)
    assert await read_message(transport, reader) == MESSAGE
    async with trio.open_nursery() as nursery:

        async def send_in_pieces():
            for start in range(0, len(MESSAGE), 7):
                theirs.sendall(MESSAGE[start : start + 7])
                await trio.testing.wait_all_tasks_blocked()

        nursery.start_soon(send_in_pieces)
        assert await read_message(transport, reader) == MESSAGE


@pytest.mark.parametrize("sent", [b"", MESSAGE[:10]])
async def test_the_end_of_the_stream_is_no_message(pair, sent):
    transport, theirs = pair
    theirs.sendall(sent)
    theirs.close()
    assert await read_message(transport, MessageReader(1000)) is None


async def test_a_length_that_no_message_has_is_an_error(pair):
    transport, theirs = pair
    theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ProtocolError):
        await read_message(transport, MessageReader(1000))


async def test_what_comes_soon_is_taken_without_giving_way(pair):
    transport, theirs = pair
    assert transport.receive_soon(0.0) is None
    theirs.sendall(MESSAGE)
    assert transport.receive_soon(0.0) == MESSAGE
    theirs.sendall(MESSAGE)
    assert await read_message(transport, MessageReader(1000), soon_secs=0.001) == MESSAGE
    theirs.close()
    assert await read_message(transport, MessageReader(1000), soon_secs=0.001) is None


async def test_what_does_not_come_soon_is_waited_for(pair):
    transport, theirs = pair
    async with trio.open_nursery() as nursery:

        async def send_later():
            await trio.testing.wait_all_tasks_blocked()
            theirs.sendall(MESSAGE)

        nursery.start_soon(send_later)
        assert await read_message(transport, MessageReader(1000), soon_secs=1e-9) == MESSAGE


async def test_more_than_the_socket_takes_is_sent_whole(pair):
    transport, theirs = pair
    data = bytes(range(256)) * 8192
    received = bytearray()
    theirs.setblocking(False)

    async def receive():
        while len(received) < len(data):
            await trio.lowlevel.wait_readable(theirs)
            received.extend(theirs.recv(1 << 16))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.send_all, data)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(receive)
    assert received == data
    await transport.send_all(b"")


async def test_a_peer_that_takes_nothing_is_given_up(pair, autojump_clock):
    transport, _ = pair
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await transport.send_all(bytes(16 * 1024 * 1024))
    assert trio.current_time() - began == STALLED_SECS


async def test_news_and_the_end_are_told_apart_without_reading(pair):
    transport, theirs = pair
    assert (transport.has_news(), transport.peer_is_gone()) == (False, False)
    theirs.sendall(b"x")
    assert (transport.has_news(), transport.peer_is_gone()) == (True, False)
    assert await transport.receive() == b"x"
    theirs.close()
    assert (transport.has_news(), transport.peer_is_gone()) == (True, True)


async def test_a_closed_transport_is_gone_and_wakes_who_waits_on_it(pair):
    transport, _ = pair
    async with trio.open_nursery() as nursery:

        async def wait():
            with pytest.raises(trio.ClosedResourceError):
                await transport.receive()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        transport.close()
    transport.close()
    assert (transport.has_news(), transport.peer_is_gone()) == (True, True)


@pytest.fixture
def contexts(tmp_path):
    """The TLS contexts of a server and of a client who trusts it."""
    authority = Authority(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(authority.server())
    server.num_tickets = 0  # as the listener has it
    return server, ssl.create_default_context(cafile=authority.ca_file)


@pytest.fixture
async def tls_pair(contexts):
    """A TLS transport, and the other end as Trio has it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    secured = contexts[0].wrap_socket(ours, server_side=True, do_handshake_on_connect=False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    peer = trio.SSLStream(stream, contexts[1], server_hostname="localhost", https_compatible=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake_hands, secured)
        nursery.start_soon(peer.do_handshake)
    transport = TLSTransport(secured)
    yield transport, peer
    transport.close()
    stream.socket.close()


async def test_messages_go_over_tls(tls_pair):
    transport, server = tls_pair
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.send_all, MESSAGE)
        assert await server.receive_some() == MESSAGE
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, MESSAGE * 2)
        reader = MessageReader(1000)
        assert await read_message(transport, reader) == MESSAGE
        assert reader.next_message() == MESSAGE
        nursery.start_soon(server.send_all, MESSAGE[:20])
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(server.send_all, MESSAGE[20:])
        assert await read_message(transport, reader) == MESSAGE


async def test_nothing_is_taken_soon_over_tls(tls_pair):
    assert tls_pair[0].receive_soon(1.0) is None


async def test_an_idle_tls_stream_has_no_news(tls_pair):
    transport, _ = tls_pair
    assert (transport.has_news(), transport.peer_is_gone()) == (False, False)


async def test_session_tickets_of_an_upstream_are_no_news(contexts):
    pair = socket.socketpair()
    for end in pair:
        end.setblocking(False)
    contexts[0].num_tickets = 2
    ours = contexts[1].wrap_socket(pair[0], do_handshake_on_connect=False, server_hostname="localhost")
    theirs = contexts[0].wrap_socket(pair[1], do_handshake_on_connect=False, server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake_hands, ours)
        nursery.start_soon(shake_hands, theirs)
    transport = TLSTransport(ours)
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(ours)  # the tickets wait to be read
        assert (transport.has_news(), transport.peer_is_gone()) == (False, False)
        theirs.send(MESSAGE)
        assert await transport.receive() == MESSAGE
    transport.close()
    theirs.close()


async def test_the_end_of_an_idle_tls_stream_is_seen_behind_its_last_records(tls_pair):
    transport, peer = tls_pair
    await peer.aclose()
    assert (transport.has_news(), transport.peer_is_gone()) == (True, True)
    assert await transport.receive() == b""


async def test_an_end_without_a_goodbye_is_the_end_too(tls_pair):
    transport, peer = tls_pair
    peer.transport_stream.socket.close()
    assert transport.peer_is_gone()
    assert await transport.receive() == b""


async def test_a_closed_tls_transport_is_gone_and_wakes_who_waits_on_it(tls_pair):
    transport, _ = tls_pair
    async with trio.open_nursery() as nursery:

        async def wait():
            with pytest.raises(trio.ClosedResourceError):
                await transport.receive()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        transport.close()
    transport.close()
    assert transport.peer_is_gone()


async def test_the_other_end_is_told_that_a_tls_transport_closes(tls_pair):
    transport, peer = tls_pair
    transport.close()
    peer._https_compatible = False  # now an end without close_notify would be an error
    assert await peer.receive_some() == b""


async def test_long_messages_go_over_tls_both_ways(tls_pair):
    transport, peer = tls_pair
    data = op_msg({"insert": "c", "text": "x" * 3_000_000, "$db": "d"})
    received = bytearray()

    async def receive():
        while len(received) < len(data):
            received.extend(await peer.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await transport.send_all(data)
    assert received == data
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send_all, data)
        assert await read_message(transport, MessageReader(4_000_000)) == data


async def test_what_is_left_of_a_record_is_not_waited_for(tls_pair):
    transport, peer = tls_pair
    await peer.send_all(MESSAGE * 2)
    room = bytearray(10)
    assert await transport.receive_into(memoryview(room)) == 10
    with trio.fail_after(1):
        assert bytes(room) + await transport.receive() == MESSAGE * 2


async def test_a_tls_peer_that_takes_nothing_is_given_up(tls_pair, autojump_clock):
    transport, _ = tls_pair
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await transport.send_all(bytes(16 * 1024 * 1024))
    assert trio.current_time() - began == STALLED_SECS
