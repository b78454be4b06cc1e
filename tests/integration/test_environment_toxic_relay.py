"""The toxic relay does to a connection what it says, and no more."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.toxic_relay import Direction, Link, ToxicRelay


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while octets := connection.recv(65_536):
                connection.sendall(octets)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def relay(echo: str) -> Iterator[ToxicRelay]:
    with ToxicRelay(echo) as relay:
        yield relay


@pytest.fixture
def client(relay: ToxicRelay) -> Iterator[socket.socket]:
    with connected(relay) as client:
        client.sendall(b"first")
        assert client.recv(5) == b"first"
        yield client


def connected(relay: ToxicRelay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), 10)


def everything(client: socket.socket) -> bytes:
    """Until the end of the stream; a reset raises."""
    parts = bytearray()
    while octets := client.recv(65_536):
        parts += octets
    return bytes(parts)


def until_reset(client: socket.socket) -> bytes:
    """What comes before a reset; its absence fails."""
    parts = bytearray()
    try:
        while octets := client.recv(65_536):
            parts += octets
    except ConnectionResetError:
        return bytes(parts)
    raise AssertionError("closed in good order")


def test_a_perfect_link_brings_everything_and_the_end_of_it(client: socket.socket) -> None:
    threading.Thread(target=lambda: (client.sendall(b"x" * 300_000), client.shutdown(socket.SHUT_WR))).start()
    assert everything(client) == b"x" * 300_000


def test_a_slow_link_takes_its_time_and_brings_everything(relay: ToxicRelay, client: socket.socket) -> None:
    relay.slow_down(Link(latency_secs=0.2, piece_bytes=2, pause_secs=0.1), Direction.REPLIES)
    began = time.monotonic()
    client.sendall(b"abcdef")
    client.shutdown(socket.SHUT_WR)
    assert everything(client) == b"abcdef"
    assert time.monotonic() - began >= 0.5
    relay.heal()
    with connected(relay) as other:
        other.sendall(b"x" * 10_000)
        other.shutdown(socket.SHUT_WR)
        assert everything(other) == b"x" * 10_000


@pytest.mark.parametrize("direction", Direction)
def test_a_reset_comes_in_the_middle_of_the_next_message(
    relay: ToxicRelay, client: socket.socket, direction: Direction
) -> None:
    assert relay.reset_next_message(direction) == 1
    client.sendall(b"abcdefgh")
    got = until_reset(client)
    # half a request reached the server, which may have sent it back before the reset
    assert got == b"abcd" or (direction is Direction.REQUESTS and got == b"")
    with connected(relay) as other:
        other.sendall(b"unharmed")
        assert other.recv(8) == b"unharmed"


def test_a_cut_comes_after_so_many_bytes_in_good_order(relay: ToxicRelay, client: socket.socket) -> None:
    relay.cut_after(Direction.REPLIES, 12)
    client.sendall(b"0123456")
    assert client.recv(7) == b"0123456"
    client.sendall(b"789abcdef")
    assert everything(client) == b"789ab"


def test_a_half_open_connection_brings_nothing_and_never_ends(
    relay: ToxicRelay, client: socket.socket
) -> None:
    assert relay.leave_half_open() == 1
    client.sendall(b"into the void")
    client.settimeout(0.5)
    with pytest.raises(TimeoutError):
        client.recv(1)
    with connected(relay) as other:
        other.sendall(b"new")
        assert other.recv(3) == b"new"
    relay.heal()
    with pytest.raises(TimeoutError):
        client.recv(1)
    assert relay.reset_all(half_open_only=True) == 1
    client.settimeout(10)
    until_reset(client)


def test_new_connections_may_be_half_open_too(relay: ToxicRelay) -> None:
    relay.leave_half_open(new_too=True)
    with connected(relay) as client:
        client.settimeout(0.5)
        client.sendall(b"hello?")
        with pytest.raises(TimeoutError):
            client.recv(1)
    relay.heal()
    with connected(relay) as other:
        other.sendall(b"new")
        assert other.recv(3) == b"new"


def test_a_server_that_is_not_there_resets_its_clients(echo: str) -> None:
    with ToxicRelay("127.0.0.1:1") as relay, connected(relay) as client:
        until_reset(client)
