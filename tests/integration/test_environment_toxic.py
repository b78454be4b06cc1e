"""The broken servers: that they break in the way that their names say."""

from __future__ import annotations

import socket
import ssl
import time

import pytest

from tests.pki import Pki
from tests.toxic_servers import DRIP_SECONDS, ToxicServer, Toxin


def connect(server: ToxicServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 1.0)


def test_a_silent_server_reads_and_never_answers() -> None:
    with ToxicServer(Toxin.SILENCE) as server, connect(server) as client:
        client.sendall(b"password")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert (bytes(server.received), server.connections) == (b"password", 1)


def test_a_dripping_server_sends_one_octet_at_a_time() -> None:
    with ToxicServer(Toxin.DRIP, answer=b"ab") as server, connect(server) as client:
        begin = time.monotonic()
        assert [client.recv(100) for _ in range(3)] == [b"a", b"b", b"a"]
        assert time.monotonic() - begin > DRIP_SECONDS


def test_a_resetting_server_resets() -> None:
    with ToxicServer(Toxin.RESET) as server, connect(server) as client:
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_closing_server_closes_and_an_answering_one_answers_first() -> None:
    with ToxicServer(Toxin.CLOSE) as server, connect(server) as client:
        assert client.recv(1) == b""
    with ToxicServer(Toxin.ANSWER, answer=b"no LDAP") as server, connect(server) as client:
        client.sendall(b"x")
        assert client.recv(100) == b"no LDAP"
        assert client.recv(1) == b""


def test_a_stopped_server_lets_go_of_its_clients_and_its_port() -> None:
    server = ToxicServer(Toxin.SILENCE).start()
    with connect(server) as client:
        client.sendall(b"x")
        while not server.received:
            time.sleep(0.01)
        server.stop()
        assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(server)


@pytest.mark.parametrize("kind", ["server_expired", "server_wrong_host", "server_untrusted"])
def test_it_presents_the_certificate_that_it_is_given(pki: Pki, kind: str) -> None:
    context = ssl.create_default_context(cafile=str(pki.ca))
    with (
        ToxicServer(Toxin.SILENCE, certificate=getattr(pki, kind)) as server,
        connect(server) as client,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(client, server_hostname="localhost")
    with (
        ToxicServer(Toxin.ANSWER, answer=b"hello", certificate=pki.server) as server,
        connect(server) as client,
        context.wrap_socket(client, server_hostname="localhost") as encrypted,
    ):
        encrypted.sendall(b"x")
        assert encrypted.recv(5) == b"hello"
