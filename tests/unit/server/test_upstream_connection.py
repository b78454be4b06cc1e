"""One upstream connection, against servers that misbehave in ways no real one does: each is faked over a real socket."""

import socket

import bson
import pytest
import trio
import trio.testing

from mongoguard.config.secret import Secret
from mongoguard.errors import UpstreamConnectionLost, UpstreamUnavailable
from mongoguard.server.transport import SocketTransport
from mongoguard.server.upstream_connection import (
    IN_THREAD_BYTES,
    UpstreamConnection,
    decode_reply,
    open_upstream_connection,
)
from mongoguard.server.upstream_uri import read_upstream_uri
from mongoguard.wire.compression import compress_message, decompress_message
from tests.rawwire import document_section, header, message, op_msg, sequence_section

REQUEST = op_msg({"ping": 1, "$db": "admin"}, request_id=7)


def reply_to(request, body, **fields):
    """A server's answer to that request."""
    data = bytearray(op_msg(body, request_id=99, **fields))
    data[8:12] = request[4:8]
    return bytes(data)


@pytest.fixture
async def pair():
    ours, theirs = socket.socketpair()
    connection = UpstreamConnection(SocketTransport(ours), "faked:1")
    yield connection, theirs
    connection.close()
    theirs.close()


async def test_a_reply_is_given_back_as_it_came(pair):
    connection, theirs = pair
    reply = reply_to(REQUEST, {"ok": 1})
    theirs.sendall(reply)
    assert await connection.exchange(REQUEST) == reply
    assert theirs.recv(1000) == REQUEST
    assert connection.is_usable()


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (reply_to(b"\0" * 4 + b"\x08\0\0\0", {"ok": 1}), "faked:1 answered another request"),
        (reply_to(REQUEST, {"ok": 1}) * 2, "faked:1 answered another request"),
        (reply_to(REQUEST, {"ok": 1}) + b"\x10", "faked:1 answered another request"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "faked:1 sent what is no message"),
        (header(48_000_001, 2013), "faked:1 sent what is no message"),
        (header(3, 2013), "faked:1 sent what is no message"),
    ],
    ids=["another request's id", "two replies", "more than a reply", "HTTP", "too long", "too short"],
)
async def test_a_faked_server_that_sends_something_else_is_lost(pair, sent, told):
    connection, theirs = pair
    theirs.sendall(sent)
    with pytest.raises(UpstreamConnectionLost, match=told):
        await connection.exchange(REQUEST)


@pytest.mark.parametrize("sent", [b"", reply_to(REQUEST, {"ok": 1})[:10], reply_to(REQUEST, {"ok": 1})[:-1]])
async def test_a_faked_server_that_closes_in_mid_message_is_lost(pair, sent):
    connection, theirs = pair
    theirs.sendall(sent)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(UpstreamConnectionLost, match="faked:1 closed the connection"):
        await connection.exchange(REQUEST)


async def test_a_faked_server_that_resets_the_connection_is_lost(pair):
    connection, theirs = pair
    theirs.close()
    with pytest.raises(UpstreamConnectionLost, match="faked:1: BrokenPipeError"):
        await connection.exchange(REQUEST)
    assert not connection.is_usable()


async def test_closing_wakes_a_request_under_way_as_lost(pair):
    connection, _ = pair
    async with trio.open_nursery() as nursery:

        async def request():
            with pytest.raises(UpstreamConnectionLost):
                await connection.exchange(REQUEST)

        nursery.start_soon(request)
        await trio.testing.wait_all_tasks_blocked()
        connection.close()


async def test_what_comes_unasked_makes_a_connection_unusable(pair):
    connection, theirs = pair
    assert connection.is_usable()
    theirs.sendall(b"x")
    assert not connection.is_usable()


@pytest.mark.parametrize(
    "reply",
    [
        header(16, 2013),
        op_msg(b"\x05\0\0\0\1"),
        op_msg({"ok": 1}, flags=1 << 7),
        header(16, 2012),
        header(36 + 5, 1) + bytes(20) + bson.encode({}),
    ],
)
def test_a_faked_reply_that_is_none_is_a_lost_connection(reply):
    with pytest.raises(UpstreamConnectionLost, match="the upstream sent what is no reply"):
        decode_reply(reply)


# ---- opening --------------------------------------------------------------------------------------------------------

ADDRESS = read_upstream_uri(Secret("mongodb://u:canary@h/?authMechanism=SCRAM-SHA-256"))
NOBODY = read_upstream_uri(Secret("mongodb://h"))


@pytest.fixture
async def faked_server(nursery, tmp_path):
    """A server on a Unix socket; the answers it gives, in turn, are appended to the list."""
    path = str(tmp_path / "faked.sock")
    answers = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    listener.setblocking(False)
    accepted = []

    async def serve():
        await trio.lowlevel.wait_readable(listener)
        sock, _ = listener.accept()
        accepted.append(sock)
        sock.setblocking(False)
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                request = sock.recv(65536)
            except OSError:
                return
            if not request:
                return
            if answers:
                answer = answers.pop(0)
                sock.send(reply_to(request, answer) if isinstance(answer, dict) else answer)

    nursery.start_soon(serve)
    yield path, answers
    nursery.cancel_scope.cancel()
    for sock in [listener, *accepted]:
        sock.close()


async def test_a_connection_that_logs_nobody_in_has_only_said_hello(faked_server):
    path, answers = faked_server
    answers.append({"ok": 1, "maxWireVersion": 17})
    connection = await open_upstream_connection(path, NOBODY, 5)
    assert connection.hello["maxWireVersion"] == 17
    connection.close()


async def test_a_faked_server_that_is_silent_is_given_up_in_time(faked_server, autojump_clock):
    path, _ = faked_server
    began = trio.current_time()
    with pytest.raises(UpstreamUnavailable, match=r"faked.sock did not answer within 2.5 s"):
        await open_upstream_connection(path, NOBODY, 2.5)
    assert trio.current_time() - began == 2.5


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"ok": 0, "code": 18, "errmsg": "Authentication failed."}, "Authentication failed."),
        ({"ok": 1, "conversationId": 1, "done": False}, "a reply has no payload"),
        (
            {"ok": 1, "conversationId": 1, "done": False, "payload": b"r=x,s=AAAA,i=15000"},
            "login of u@admin with SCRAM-SHA-256",
        ),
        (b"garbage garbage garbage", "sent what is no message"),
    ],
)
async def test_a_faked_server_that_does_not_log_in_is_unavailable(faked_server, answer, told):
    path, answers = faked_server
    answers.extend([{"ok": 1}, answer])
    with pytest.raises(UpstreamUnavailable, match=told) as failed:
        await open_upstream_connection(path, ADDRESS, 5)
    assert "canary" not in str(failed.value)


async def test_where_nobody_listens_is_unavailable(tmp_path):
    for address in (str(tmp_path / "none.sock"), "127.0.0.1:1", "[::1]:1"):
        with pytest.raises(UpstreamUnavailable, match="sock|connect|refused"):
            await open_upstream_connection(address, NOBODY, 5)


async def test_tls_with_a_faked_server_that_speaks_none_is_unavailable_and_says_so(nursery):
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve(stream):
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    nursery.start_soon(trio.serve_listeners, serve, [listener])
    host, port = listener.socket.getsockname()
    upstream = read_upstream_uri(Secret("mongodb://h/?tls=true"))
    with pytest.raises(UpstreamUnavailable, match=f"^{host}:{port}: .*(?i:ssl|wrong version)"):
        await open_upstream_connection(f"{host}:{port}", upstream, 5)
    nursery.cancel_scope.cancel()


async def test_an_error_of_another_kind_closes_the_connection_and_is_not_hidden(faked_server, monkeypatch):
    path, answers = faked_server
    answers.append({"ok": 1})

    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("mongoguard.server.upstream_connection.upstream_login", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        await open_upstream_connection(path, ADDRESS, 5)


# ---- compression ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, IN_THREAD_BYTES + 10])
async def test_messages_are_compressed_both_ways_once_agreed(pair, size):
    connection, theirs = pair
    connection.compressor = 2
    request = op_msg({"insert": "x", "text": "y" * size, "$db": "shop"}, request_id=7)
    reply = reply_to(request, {"ok": 1, "text": "z" * size})
    theirs.sendall(compress_message(reply, 2))
    assert await connection.exchange(request) == reply
    sent = theirs.recv(1_000_000)
    assert sent[12:16] == (2012).to_bytes(4, "little")
    assert decompress_message(sent, 48_000_000)[0] == request


@pytest.mark.parametrize("size", [10, IN_THREAD_BYTES + 10])
async def test_zlib_compresses_as_hard_as_the_uri_says(pair, size):
    connection, theirs = pair
    connection.compressor = 2
    request = op_msg({"insert": "x", "text": "mongoguard " * (size // 11), "$db": "shop"}, request_id=7)
    sent = {}
    for connection.zlib_level in (-1, 0, 1, 9):
        theirs.sendall(reply_to(request, {"ok": 1}))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.exchange, request)
            sent[connection.zlib_level] = await trio.to_thread.run_sync(whole_message, theirs)
        assert decompress_message(sent[connection.zlib_level], 48_000_000) == (request, 2)
        assert sent[connection.zlib_level][4:24] == compress_message(request, 2)[4:24]
    assert sent[-1] == compress_message(request, 2)
    assert len(sent[0]) > len(request), "level 0 compresses nothing"
    if size > 10:
        assert len(sent[9]) < len(sent[1]) < len(request)


def whole_message(sock):
    sock.setblocking(True)
    data = sock.recv(4)
    while len(data) < int.from_bytes(data[:4], "little"):
        data += sock.recv(1_000_000)
    return data


async def test_the_level_is_zlibs_alone(pair):
    connection, theirs = pair
    connection.compressor, connection.zlib_level = 0, 9
    theirs.sendall(reply_to(REQUEST, {"ok": 1}))
    await connection.exchange(REQUEST)
    assert theirs.recv(1000) == compress_message(REQUEST, 0)


async def test_a_server_may_answer_a_compressed_request_plainly(pair):
    connection, theirs = pair
    connection.compressor = 2
    reply = reply_to(REQUEST, {"ok": 1})
    theirs.sendall(reply)
    assert await connection.exchange(REQUEST) == reply


@pytest.mark.parametrize(
    "name", ["saslStart", "saslContinue", "authenticate", "hello", "createUser", "updateUser"]
)
async def test_what_holds_a_secret_is_never_compressed(pair, name):
    connection, theirs = pair
    connection.compressor = 2
    request = op_msg({name: 1, "$db": "admin"}, request_id=7)
    theirs.sendall(reply_to(request, {"ok": 1}))
    await connection.exchange(request)
    assert theirs.recv(1000) == request


async def test_a_message_that_does_not_begin_with_its_body_is_sent_plainly(pair):
    connection, theirs = pair
    connection.compressor = 2
    body = document_section({"insert": "x", "$db": "shop"})
    request = message(2013, bytes(4) + sequence_section("documents", [{}]) + body, request_id=7)
    theirs.sendall(reply_to(request, {"ok": 1}))
    await connection.exchange(request)
    assert theirs.recv(1000) == request


@pytest.mark.parametrize("damage", ["bytes", "size", "compressor", "empty"])
async def test_a_faked_reply_that_cannot_be_decompressed_is_a_lost_connection(pair, damage):
    connection, theirs = pair
    connection.compressor = 2
    reply = bytearray(compress_message(reply_to(REQUEST, {"ok": 1}), 2))
    if damage == "bytes":
        reply[30] ^= 0xFF
    elif damage == "size":
        reply[20:24] = (2**31 - 1).to_bytes(4, "little")
    elif damage == "compressor":
        reply[24] = 99
    else:
        reply = reply[:16]
        reply[:4] = (16).to_bytes(4, "little")
    theirs.sendall(bytes(reply))
    with pytest.raises(UpstreamConnectionLost, match="sent what is no message"):
        await connection.exchange(REQUEST)
