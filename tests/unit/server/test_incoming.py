"""From an accepted socket to a transport: the first bytes, the handshake, and everything that can go wrong before."""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct

import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding

from mongoguard.config.sections import Net, SetParameter
from mongoguard.errors import ConfigError
from mongoguard.model.names import RoleName
from mongoguard.server import tls as server_tls
from mongoguard.server.arrivals import Arrivals
from mongoguard.server.incoming import IncomingRefused, receive_client
from mongoguard.server.tls import ListenerTLS
from mongoguard.server.transport import SocketTransport, TLSTransport
from tests.pki import AWKWARD_SUBJECTS, Pki
from tests.rawwire import op_msg

ALL = SetParameter(tlsX509ExpirationWarningThresholdDays=0)
HELLO = op_msg({"hello": 1, "$db": "admin"})
TIMEOUT = 5


def tls_fields(pki: Pki, **fields):
    return {"certificateKeyFile": str(pki.member), "CAFile": str(pki.ca), "CRLFile": str(pki.crl), **fields}


@pytest.fixture(autouse=True)
def _everything_is_closed():
    yield
    for one in OPENED:
        one.close()
    OPENED.clear()


OPENED: list[socket.socket] = []


class Listener:
    """What receives connections; `connect` gives a client's socket and the accepted one."""

    def __init__(self, pki: Pki, mode="requireTLS", parameters=ALL, **fields):
        self.pki = pki
        self.net = Net.model_validate(
            {"handshakeTimeoutSecs": TIMEOUT, "tls": {"mode": mode, **tls_fields(pki, **fields)}}
        )
        self.tls = ListenerTLS(self.net.tls, parameters) if self.net.tls.is_on else None
        self.listening = socket.create_server(("127.0.0.1", 0))
        OPENED.append(self.listening)

    def connect(self):
        client = socket.create_connection(self.listening.getsockname())
        accepted, _ = self.listening.accept()
        client.setblocking(False)
        OPENED.extend((client, accepted))
        return client, accepted

    async def receive(self, accepted):
        incoming = await receive_client(accepted, self.net, self.tls, Arrivals(1).begin())
        OPENED.append(incoming.transport._socket)
        return incoming

    async def handshake(self, context):
        """The client's socket and what was received; the client's own failure is left to it."""
        client, accepted = self.connect()
        secured = context.wrap_socket(client, do_handshake_on_connect=False, server_hostname="localhost")
        OPENED.append(secured)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shake, secured)
            try:
                return secured, await self.receive(accepted)
            except IncomingRefused as refused:
                nursery.cancel_scope.cancel()
                secured.close()
                return None, refused


async def shake(secured):
    while True:
        try:
            secured.do_handshake()
            return
        except ssl.SSLWantReadError:
            await trio.lowlevel.wait_readable(secured)
        except OSError:
            return


def client_context(pki, certificate=None):
    context = ssl.create_default_context(cafile=str(pki.ca))
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


async def refused(listener, accepted):
    with pytest.raises(IncomingRefused) as error:
        await listener.receive(accepted)
    return error.value


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_with_a_certificate_is_received(pki, version):
    context = client_context(pki, pki.client)
    context.minimum_version = context.maximum_version = version
    secured, incoming = await Listener(pki).handshake(context)
    assert isinstance(incoming.transport, TLSTransport)
    assert incoming.channel.is_private
    assert incoming.channel.certificate.subject == pki.client_name
    assert incoming.peer.client_port == secured.getsockname()[1]


@pytest.mark.parametrize("kind", AWKWARD_SUBJECTS)
async def test_an_awkward_subject_is_a_user_name_as_mongod_spells_it(pki, kind):
    _, incoming = await Listener(pki).handshake(client_context(pki, pki.awkward[kind]))
    assert incoming.channel.certificate.subject == AWKWARD_SUBJECTS[kind].mongod


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("client_expired", "certificate has expired"),
        ("client_revoked", "certificate revoked"),
        ("client_untrusted", "unable to get local issuer certificate"),
        ("server", "unsuitable certificate purpose"),
        ("client_chained", "unable to get certificate CRL"),
    ],
)
async def test_a_bad_certificate_is_refused_with_the_reason(pki, kind, why):
    _, error = await Listener(pki).handshake(client_context(pki, getattr(pki, kind)))
    assert str(error) == f"the client's certificate is refused: {why}"
    assert (error.event.atype, error.event.result) == ("tlsHandshake", 141)
    assert error.event.param == {"reason": str(error)}


async def test_a_client_without_a_certificate_is_received_only_where_that_is_allowed(pki):
    _, error = await Listener(pki).handshake(client_context(pki))
    assert "peer did not return a certificate" in str(error)
    listener = Listener(pki, allowConnectionsWithoutCertificates=True)
    _, incoming = await listener.handshake(client_context(pki))
    assert (incoming.channel.is_private, incoming.channel.certificate) == (True, None)


async def test_old_protocols_are_refused(pki):
    context = client_context(pki, pki.client)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    _, error = await Listener(pki, disabledProtocols="TLS1_2").handshake(context)
    assert "unsupported protocol" in str(error)


def client_hello(version: int) -> bytes:
    """A ClientHello as a client that speaks nothing newer sends it (1: TLS 1.0, 2: TLS 1.1)."""
    body = bytes([3, version]) + bytes(32) + b"\0" + struct.pack(">HHHBB", 4, 0xC009, 0xC00A, 1, 0)
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return bytes([0x16, 3, 1]) + struct.pack(">H", len(message)) + message


@pytest.mark.parametrize("version", [1, 2])
async def test_a_hello_of_tls_1_0_or_1_1_is_refused(pki, version):
    listener = Listener(pki)
    client, accepted = listener.connect()
    client.send(client_hello(version))
    assert "unsupported protocol" in str(await refused(listener, accepted))


@pytest.mark.parametrize("mode", ["allowTLS", "preferTLS"])
async def test_both_kinds_of_client_are_received_on_one_port_where_that_is_allowed(pki, mode):
    listener = Listener(pki, mode)
    client, accepted = listener.connect()
    client.send(HELLO)
    incoming = await listener.receive(accepted)
    assert isinstance(incoming.transport, SocketTransport)
    assert (incoming.channel.is_private, incoming.channel.certificate) == (False, None)
    assert await incoming.transport.receive() == HELLO
    _, incoming = await listener.handshake(client_context(pki, pki.client))
    assert incoming.channel.is_private


async def test_a_client_that_speaks_without_tls_is_refused_where_it_is_required(pki):
    listener = Listener(pki)
    client, accepted = listener.connect()
    client.send(HELLO)
    error = await refused(listener, accepted)
    assert str(error) == "the client speaks without TLS, which net.tls.mode requireTLS forbids"
    assert (error.event.atype, error.event.result) == ("tlsHandshake", 141)


@pytest.mark.parametrize("length", [0x16, 0x116, 0x0316, 0x0316 + 5 * 65536])
async def test_a_message_whose_length_begins_like_a_handshake_is_still_a_message(pki, length):
    """Every 256th hello has a length of 0x16 as its first byte, and one of 65536 has 0x16 and 3."""
    listener = Listener(pki, "allowTLS")
    client, accepted = listener.connect()
    client.send(struct.pack("<i", length) + bytes(12))
    incoming = await listener.receive(accepted)
    assert isinstance(incoming.transport, SocketTransport)


async def test_first_bytes_that_drip_are_put_together(pki):
    listener = Listener(pki, "allowTLS")
    client, accepted = listener.connect()
    async with trio.open_nursery() as nursery:

        async def drip():
            for octet in HELLO:
                client.send(bytes([octet]))
                await trio.sleep(0.001)

        nursery.start_soon(drip)
        incoming = await listener.receive(accepted)
    assert isinstance(incoming.transport, SocketTransport)


async def test_without_tls_nothing_is_looked_at_but_the_proxy_header(pki):
    listener = Listener(pki, "disabled")
    client, accepted = listener.connect()
    client.send(client_hello(2))
    assert isinstance((await listener.receive(accepted)).transport, SocketTransport)


@pytest.mark.parametrize("sent", [b"\x16", b"\x16\x03", client_hello(3)[:3], client_hello(3)[:20]])
async def test_a_handshake_that_stalls_ends_at_the_deadline(pki, sent, autojump_clock):
    listener = Listener(pki)
    client, accepted = listener.connect()
    client.send(sent)
    began = trio.current_time()
    error = await refused(listener, accepted)
    assert trio.current_time() - began <= TIMEOUT * 1.01
    stalled = "the TLS handshake did not end in time" if len(sent) > 2 else "no message came in time"
    assert str(error) == stalled
    assert error.event.atype == ("tlsHandshake" if len(sent) > 2 else "connectionRefused")


async def test_the_first_bytes_and_the_handshake_have_one_deadline(pki, autojump_clock):
    listener = Listener(pki)
    client, accepted = listener.connect()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def send_late():
            await trio.sleep(TIMEOUT - 1)
            client.send(client_hello(3)[:20])

        nursery.start_soon(send_late)
        assert str(await refused(listener, accepted)) == "the TLS handshake did not end in time"
    assert trio.current_time() - began == pytest.approx(TIMEOUT)


async def test_a_handshake_that_drips_ends_at_the_deadline(pki, autojump_clock):
    listener = Listener(pki)
    client, accepted = listener.connect()
    hello = client_hello(3)
    client.send(hello[:5])
    async with trio.open_nursery() as nursery:

        async def drip():
            for octet in hello[5:]:
                client.send(bytes([octet]))
                await trio.sleep(1)

        nursery.start_soon(drip)
        assert str(await refused(listener, accepted)) == "the TLS handshake did not end in time"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("sent", [client_hello(3)[:3], client_hello(3)[:20]])
@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_client_that_leaves_in_the_handshake_is_told_of(pki, sent, how):
    listener = Listener(pki)
    client, accepted = listener.connect()
    client.send(sent)
    if how == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    async with trio.open_nursery() as nursery:

        async def leave():
            await trio.sleep(0.01)
            client.close()

        nursery.start_soon(leave)
        error = await refused(listener, accepted)
    assert str(error) == "the client left during the TLS handshake"


async def test_a_client_that_leaves_without_a_word_is_no_event(pki):
    listener = Listener(pki)
    client, accepted = listener.connect()
    client.close()
    with pytest.raises(OSError, match="before its first byte"):
        await listener.receive(accepted)
    accepted.close()


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x16\x03\x01" + b"\xff" * 200,
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x00\x00",
        b"\x16\x03\x03" + bytes(200),
    ],
)
async def test_rubbish_instead_of_a_handshake_is_refused_in_words_of_ours(pki, rubbish):
    listener = Listener(pki)
    client, accepted = listener.connect()
    client.send(rubbish)
    assert str(await refused(listener, accepted)).startswith("the TLS handshake failed: ")


async def test_a_unix_socket_is_private_without_tls(pki):
    ours, theirs = socket.socketpair()
    OPENED.extend((ours, theirs))
    theirs.send(HELLO)
    incoming = await Listener(pki).receive(ours)
    assert isinstance(incoming.transport, SocketTransport)
    assert incoming.channel.is_private


# ---- authorities that grant roles -----------------------------------------------------------------------------------


def trusting(*authorities):
    prints = [hashlib.sha256(a.certificate.public_bytes(Encoding.DER)).hexdigest() for a in authorities]
    trusts = [{"sha256": one, "roles": [{}]} for one in prints]
    return SetParameter(tlsCATrusts=trusts, tlsX509ExpirationWarningThresholdDays=0)


async def certificate_of(listener, path, context=None):
    _, incoming = await listener.handshake(context or client_context(listener.pki, path))
    return incoming.channel.certificate


async def test_roles_in_a_certificate_count_only_where_their_authority_is_trusted(pki):
    off = await certificate_of(Listener(pki), pki.client_roles)
    assert (off.roles, off.refusal) == (None, "")
    on = await certificate_of(Listener(pki, parameters=trusting(pki.authority)), pki.client_roles)
    assert on.roles == (RoleName("read", "reports"), RoleName("readWrite", "shop"))
    other = await certificate_of(Listener(pki, parameters=trusting(pki.other_authority)), pki.client_roles)
    assert "may not grant" in other.refusal


@pytest.mark.parametrize("trusted", ["authority", "intermediate"])
async def test_the_chain_of_a_client_is_the_verified_one(pki, trusted):
    """The root is known; the intermediate comes with the client."""
    listener = Listener(pki, parameters=trusting(getattr(pki, trusted)), CRLFile=None)
    found = await certificate_of(listener, pki.client_chained_roles)
    assert found.roles == (RoleName("read", "shop"),)


async def test_an_authority_that_was_sent_along_for_show_grants_nothing(pki, tmp_path):
    """The certificate of a trusted authority in the client's file does not make it the client's issuer."""
    path = tmp_path / "with-other-authority.pem"
    path.write_bytes(pki.client_roles.read_bytes() + pki.intermediate_ca.read_bytes())
    listener = Listener(pki, parameters=trusting(pki.intermediate), CRLFile=None)
    assert "may not grant" in (await certificate_of(listener, path)).refusal


async def test_a_resumed_session_proves_no_authority(pki):
    """TLS 1.2 alone resumes here; what is not verified again grants no role, and still names its owner."""
    context = client_context(pki, pki.client_roles)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    listener = Listener(pki, parameters=trusting(pki.authority))
    secured, first = await listener.handshake(context)
    assert first.channel.certificate.roles
    client, accepted = listener.connect()
    again = context.wrap_socket(
        client, do_handshake_on_connect=False, server_hostname="localhost", session=secured.session
    )
    OPENED.append(again)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake, again)
        incoming = await listener.receive(accepted)
    certificate = incoming.channel.certificate
    assert certificate.subject == first.channel.certificate.subject
    assert certificate.roles == (None if again.session_reused else first.channel.certificate.roles)


# ---- new files ------------------------------------------------------------------------------------------------------


def reload(listener):
    """Take over what the files say now."""
    settings = listener.net.tls, SetParameter()
    listener.tls.adopt(*settings, listener.tls.read(*settings))


async def test_a_reload_is_for_new_connections_and_all_or_nothing(pki, tmp_path):
    crl = tmp_path / "list.crl"
    crl.write_bytes(pki.crl.read_bytes())
    listener = Listener(pki, CRLFile=str(crl))
    before, _ = await listener.handshake(client_context(pki, pki.client))
    crl.write_text("half a file")
    with pytest.raises(ConfigError, match=r"net\.tls\.CRLFile"):
        reload(listener)
    _, still = await listener.handshake(client_context(pki, pki.client))
    assert still.channel.certificate.subject == pki.client_name
    crl.unlink()
    with pytest.raises(ConfigError, match=r"net\.tls\.CRLFile"):
        reload(listener)
    crl.write_bytes(pki.other_authority.revocation_list().read_bytes())
    reload(listener)
    _, error = await listener.handshake(client_context(pki, pki.client))
    assert "unable to get certificate CRL" in str(error)
    assert before.version() is not None


async def test_a_client_certificate_that_ends_soon_is_warned_of_once(pki, caplog):
    listener = Listener(pki, parameters=SetParameter())
    caplog.clear()
    for _ in range(3):
        await listener.handshake(client_context(pki, pki.client))
    assert [r.getMessage() for r in caplog.records if pki.client_name in r.getMessage()] == [
        r.getMessage() for r in caplog.records
    ]
    assert len(caplog.records) == 1


def revoking(pki, *certificates):
    """A list on which these are, too; the authority forgets it at once."""
    before = pki.authority._revoked[:]
    pki.authority.revoke(*certificates)
    try:
        path = pki.authority.revocation_list("now.crl")
        text = path.read_bytes()
        path.unlink()
        return text
    finally:
        pki.authority._revoked[:] = before


async def test_a_new_list_revokes_certificates_that_were_verified_before_and_no_other(pki, tmp_path):
    crl = tmp_path / "list.crl"
    crl.write_bytes(pki.crl.read_bytes())
    listener = Listener(pki, CRLFile=str(crl))
    shown = [await certificate_of(listener, path) for path in (pki.client, pki.client_roles)]
    assert [listener.tls.revokes(one) for one in (*shown, None)] == [False, False, False]
    crl.write_bytes(revoking(pki, pki.client))
    reload(listener)
    assert [listener.tls.revokes(one) for one in (*shown, None)] == [True, False, False]


async def test_a_list_that_comes_during_a_handshake_counts_for_it(pki, tmp_path, monkeypatch):
    crl = tmp_path / "list.crl"
    crl.write_bytes(pki.crl.read_bytes())
    listener = Listener(pki, CRLFile=str(crl))
    shake_hands = server_tls.shake_hands

    async def slowly(secured):
        await shake_hands(secured)
        crl.write_bytes(revoking(pki, pki.client))
        reload(listener)

    monkeypatch.setattr(server_tls, "shake_hands", slowly)
    _, error = await listener.handshake(client_context(pki, pki.client))
    assert "certificate revoked" in str(error)
