"""Splicing, with real sockets: what goes in comes out, and nothing stays in the pipe."""

import contextlib
import os
import socket

import pytest

from mongoguard.server.splicing import PIPE_BYTES, Pipe


@pytest.fixture
def pipe():
    one = Pipe()
    yield one
    with pytest.raises(BlockingIOError):
        os.read(one._reading, 1)
    one.close()


@pytest.fixture(params=["unix", "tcp"])
def pair(request):
    if request.param == "unix":
        one, other = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            one = socket.create_connection(listener.getsockname())
            other, _ = listener.accept()
    source, target = socket.socketpair()
    for sock in (one, other, source, target):
        sock.setblocking(False)
    yield one, other, source, target
    for sock in (one, other, source, target):
        sock.close()


def test_bytes_go_from_one_socket_to_the_other_and_no_more_than_wanted(pipe, pair):
    one, other, source, target = pair
    one.send(b"abcdef")
    assert pipe.take(other.fileno(), 4) == 4
    assert pipe.give(source.fileno(), 4) == b""
    assert target.recv(10) == b"abcd"
    assert other.recv(10) == b"ef"


def test_nothing_and_the_end_are_told_apart(pipe, pair):
    one, other, _source, _target = pair
    with pytest.raises(BlockingIOError):
        pipe.take(other.fileno(), 10)
    one.shutdown(socket.SHUT_WR)
    assert pipe.take(other.fileno(), 10) == 0


def test_what_the_target_does_not_take_is_returned(pipe, pair):
    one, other, source, target = pair
    data = os.urandom(PIPE_BYTES)
    sent = one.send(data)
    taken = pipe.take(other.fileno(), sent)
    assert taken > 0
    source.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with contextlib.suppress(BlockingIOError):
        while source.send(b"x" * 1000):
            pass
    left = pipe.give(source.fileno(), taken)
    assert left == data[taken - len(left) : taken]
    assert left
    target.close()


def test_a_target_that_has_gone_leaves_nothing_in_the_pipe(pipe, pair):
    one, other, source, target = pair
    one.send(b"abcdef")
    taken = pipe.take(other.fileno(), 6)
    target.close()
    with pytest.raises(OSError, match=r"Broken pipe"):
        pipe.give(source.fileno(), taken)
