"""Listeners: addresses, permissions of Unix sockets, and accepting when the system has no more to give."""

import errno
import math
import resource
import socket
import stat
from contextlib import suppress
from ipaddress import IPv4Address

import pytest
import trio
import trio.testing

from mongoguard.config.sections import Net
from mongoguard.errors import ConfigError
from mongoguard.model.restriction import Peer
from mongoguard.server import listener
from mongoguard.server.listener import (
    accept_for_ever,
    close_listeners,
    max_clients,
    open_listeners,
    peer_of,
)


def never() -> float:
    return 0.0


@pytest.fixture
def opened():
    """Open listeners; they are closed at the end."""
    found = []

    def open_(**fields):
        found.extend(open_listeners(Net.model_validate({"port": 0, **fields})))
        return found

    yield open_
    close_listeners(found)


def test_a_host_that_two_names_mean_is_listened_on_once(opened):
    (sock,) = opened(bindIp="localhost,127.0.0.1")
    assert sock.getsockname()[0] == "127.0.0.1"


def test_a_name_has_no_ipv6_address_without_net_ipv6(opened, monkeypatch):
    asked = []

    def getaddrinfo(host, port, family, *_arguments, **_fields):
        asked.append(family)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(listener.socket, "getaddrinfo", getaddrinfo)
    opened(bindIp="db.internal")
    opened(bindIp="db.internal", ipv6=True)
    assert asked == [socket.AF_INET, socket.AF_UNSPEC]


def test_any_free_port_is_one_port(opened):
    first, second = opened(bindIp="127.0.0.1,127.0.0.2")
    assert first.getsockname()[1] == second.getsockname()[1] > 0


def test_what_was_opened_is_closed_when_one_address_fails(tmp_path, opened):
    taken = opened(bindIp="127.0.0.1")[0].getsockname()[1]
    path = tmp_path / "guard.sock"
    with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{taken}: Address already in use"):
        open_listeners(Net.model_validate({"port": taken, "bindIp": f"127.0.0.9,127.0.0.1,{path}"}))
    with socket.socket() as again:
        again.bind(("127.0.0.9", taken))
    with pytest.raises(ConfigError, match="net.unixDomainSocket: cannot listen on /nosuch/x: No such file"):
        open_listeners(Net.model_validate({"port": 0, "bindIp": f"{path},/nosuch/x"}))
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o700, 0o600, 0o770, 0o777])
def test_a_unix_socket_has_its_permissions_from_the_first_moment(tmp_path, opened, mode):
    path = tmp_path / "mongodb-0.sock"
    fields = {"enabled": True, "pathPrefix": str(tmp_path), "filePermissions": mode}
    opened(unixDomainSocket=fields)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_closing_twice_does_nothing_and_removes_no_file_of_another(tmp_path, opened):
    path = tmp_path / "guard.sock"
    listeners = opened(bindIp=str(path))
    close_listeners(listeners)
    assert not path.exists()
    path.write_text("another's")
    close_listeners(listeners)
    assert path.exists()


def test_the_two_ends_of_a_connection_are_its_peer(opened):
    (sock,) = opened(bindIp="127.0.0.1")
    sock.setblocking(True)
    with socket.create_connection(sock.getsockname()) as client:
        accepted, _ = sock.accept()
        with accepted:
            loopback = IPv4Address("127.0.0.1")
            assert peer_of(accepted) == Peer(
                loopback, loopback, client.getsockname()[1], sock.getsockname()[1]
            )


def test_a_unix_socket_has_no_addresses():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == Peer(None, None)


class FailingListener:
    """A listening socket whose accept fails first: a fault that no test can have from a real kernel."""

    def __init__(self, sock, *errors):
        self.sock = sock
        self.errors = list(errors)

    def fileno(self):
        return self.sock.fileno()

    def accept(self):
        if self.errors:
            raise self.errors.pop(0)
        return self.sock.accept()


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (BlockingIOError(), 0),
        (OSError(errno.ECONNABORTED, "gone"), 0),
        (OSError(errno.EMFILE, "Too many open files"), listener.RETRY_ACCEPT_SECS),
    ],
)
async def test_accepting_goes_on_after_an_error_of_a_faked_socket(opened, autojump_clock, error, seconds):
    (sock,) = opened(bindIp="127.0.0.1")
    taken = []
    began = trio.current_time()
    with socket.create_connection(sock.getsockname()), trio.CancelScope() as scope:

        def take(accepted):
            taken.append(accepted)
            scope.cancel()

        await accept_for_ever(FailingListener(sock, error, error), take, never)
    assert len(taken) == 1
    assert trio.current_time() - began == pytest.approx(2 * seconds)
    taken[0].close()


async def test_accepting_ends_when_the_listener_is_closed(opened):
    listeners = opened(bindIp="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_for_ever, listeners[0], lambda _: None, never)
        await trio.testing.wait_all_tasks_blocked()
        close_listeners(listeners)
    with suppress(OSError):
        assert listeners[0].fileno() == -1


# ---- several processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("somebody_else_takes_it", [True, False])
async def test_who_hesitates_takes_what_nobody_else_has_taken(opened, autojump_clock, somebody_else_takes_it):
    (sock,) = opened(bindIp="127.0.0.1")
    taken = []

    def hesitate():
        if somebody_else_takes_it:
            sock.accept()[0].close()
        return 5.0

    with socket.create_connection(sock.getsockname()), trio.move_on_after(60):
        await accept_for_ever(sock, taken.append, hesitate)
    assert len(taken) == (not somebody_else_takes_it)
    for one in taken:
        one.close()


def test_nobody_else_may_listen_on_the_same_address(opened):
    port = opened(bindIp="127.0.0.1")[0].getsockname()[1]
    with pytest.raises(ConfigError, match="Address already in use"):
        open_listeners(Net.model_validate({"port": port}))


def test_a_listener_that_fails_closes_those_before_it(opened, tmp_path):
    port = opened(bindIp="127.0.0.2")[0].getsockname()[1]
    path = tmp_path / "guard.sock"
    with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.2:{port}"):
        open_listeners(Net.model_validate({"port": port, "bindIp": f"127.0.0.1,127.0.0.2,{path}"}))
    assert not path.exists()
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))


def test_a_process_that_stops_listening_leaves_the_file_to_the_others(tmp_path):
    path = tmp_path / "guard.sock"
    own = open_listeners(Net.model_validate({"port": 0, "bindIp": str(path)}))
    close_listeners(own, remove=False)
    assert path.exists()
    path.unlink()


@pytest.mark.parametrize(("limit", "clients"), [(100, 80), (1024, 819), (resource.RLIM_INFINITY, math.inf)])
def test_a_fifth_of_the_file_descriptors_is_not_for_clients(monkeypatch, limit, clients):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert max_clients() == clients
