"""Splicing, with real sockets: what goes in comes out, and nothing stays in the pipe."""

import contextlib
import errno
import os
import socket
from pathlib import Path

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
    assert pipe.give(source.fileno()) == b""
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
    left = pipe.give(source.fileno())
    assert left == data[taken - len(left) : taken]
    assert left
    target.close()


def test_what_a_target_that_has_gone_left_goes_to_nobody_else(pipe, pair):
    one, other, source, target = pair
    one.send(b"secret")
    pipe.take(other.fileno(), 6)
    target.close()
    with pytest.raises(OSError, match=r"Broken pipe"):
        pipe.give(source.fileno())
    reaches_another_client_alone(pipe, one, other)


def reaches_another_client_alone(pipe, one, other):
    theirs, client = socket.socketpair()
    with theirs, client:
        one.send(b"public")
        assert pipe.take(other.fileno(), 100) == 6
        assert pipe.give(theirs.fileno()) == b""
        assert client.recv(100) == b"public"


def test_what_was_taken_and_never_given_goes_to_nobody_else(pipe, pair):
    one, other, _source, _target = pair
    one.send(b"secret")
    assert pipe.take(other.fileno(), 6) == 6
    reaches_another_client_alone(pipe, one, other)


def test_what_there_was_no_memory_for_goes_to_nobody_else(pipe, pair, monkeypatch):
    one, other, source, _target = pair
    with contextlib.suppress(BlockingIOError):
        while source.send(b"x" * 1000):
            pass
    one.send(b"secret")
    pipe.take(other.fileno(), 6)

    def refuse(*_):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(os, "read", refuse)
        with pytest.raises(MemoryError):
            pipe.give(source.fileno())
    reaches_another_client_alone(pipe, one, other)


def test_replacing_a_pipe_keeps_no_descriptor(pipe, pair):
    one, other, _source, _target = pair
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        one.send(b"x")
        pipe.take(other.fileno(), 1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    reaches_another_client_alone(pipe, one, other)


def test_a_pipe_that_cannot_be_replaced_is_not_used(pipe, pair, monkeypatch):
    one, other, _source, _target = pair
    one.send(b"secretpublic")
    pipe.take(other.fileno(), 6)

    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pipe2", refuse)
        for _ in range(2):
            with pytest.raises(OSError, match="Too many"):
                pipe.take(other.fileno(), 6)
    assert other.recv(6) == b"public"
    reaches_another_client_alone(pipe, one, other)
