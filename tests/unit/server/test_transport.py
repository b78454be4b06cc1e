"""Transports over real sockets: whole sends, ends of streams, peers that take nothing."""

import socket
import ssl

import pytest
import trio
import trio.testing

from mongoguard.errors import ProtocolError
from mongoguard.server.transport import STALLED_SECS, SocketTransport, TLSTransport, read_message
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
async def tls_pair(tmp_path):
    """A TLS transport as mongoguard has it to its upstream, and the server's stream."""
    authority = Authority(tmp_path)
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(authority.server())
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.open_tcp_stream(*listener.socket.getsockname())
    server = trio.SSLStream(await listener.accept(), server_context, server_side=True)
    stream = trio.SSLStream(
        client,
        ssl.create_default_context(cafile=authority.ca_file),
        server_hostname="localhost",
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.do_handshake)
        nursery.start_soon(server.do_handshake)
    transport = TLSTransport(stream)
    yield transport, server
    transport.close()
    server.transport_stream.socket.close()
    await listener.aclose()


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


async def test_session_tickets_are_no_news_over_tls(tls_pair):
    transport, _ = tls_pair
    assert (transport.has_news(), transport.peer_is_gone()) == (False, False)


async def test_the_end_of_an_idle_tls_stream_is_seen_behind_its_last_records(tls_pair):
    transport, server = tls_pair
    with trio.CancelScope() as scope:  # send close_notify, and do not wait for the answer
        scope.cancel()
        await server.aclose()
    server.transport_stream.socket.close()
    await trio.lowlevel.wait_readable(transport._stream.transport_stream.socket)
    assert (transport.has_news(), transport.peer_is_gone()) == (True, True)


async def test_a_closed_tls_transport_is_gone(tls_pair):
    transport, _ = tls_pair
    transport.close()
    transport.close()
    assert transport.peer_is_gone()
