"""Directory servers that hang, drip, reset, lie about who they are, refer to others, or answer without an end."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from typing import Any

import pytest
import trio

from mongoguard.authn.ldap.query import LdapQuery, LdapRefusal, SearchScope
from mongoguard.errors import DirectoryUnavailable
from mongoguard.server.ldap.connection import LdapConnection, LdapServer, Transport
from mongoguard.server.ldap.directory import LdapDirectory
from tests.ldap_directory import directory_of
from tests.ldap_guard import ldap_settings
from tests.ldap_servers import Slapd
from tests.servers import free_port, password_of
from tests.toxic_servers import ToxicServer, Toxin

NAME, PASSWORD = "uid=alice,ou=people,dc=example,dc=org", "canary-of-alice"
SECOND = {"timeoutMS": 1000}


def clear(port: int, **more: Any) -> dict[str, Any]:
    return {"servers": f"127.0.0.1:{port}", "transportSecurity": "none", **SECOND, **more}


async def no_thread_is_busy(directory: LdapDirectory) -> None:
    """A thread's place is free when it has ended."""
    with trio.fail_after(5):
        while directory._threads.borrowed_tokens:  # noqa: ASYNC110 (a limiter has no event for it)
            await trio.sleep(0.01)


async def refused(directory: LdapDirectory, within: float) -> str:
    """A password that is asked about ends in an error in that time, and no thread stays busy."""
    began = time.monotonic()
    with pytest.raises(DirectoryUnavailable) as caught:
        await directory.bind_user(NAME, PASSWORD)
    assert time.monotonic() - began < within
    await no_thread_is_busy(directory)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


TOXIC_ANSWERS = {
    Toxin.SILENCE: b"",
    Toxin.DRIP: bytes.fromhex("308400ffffff"),
    Toxin.RESET: b"",
    Toxin.CLOSE: b"",
    Toxin.ANSWER: b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("toxin", Toxin)
@pytest.mark.parametrize("security", ["none", "tls", "tls without TLS", "startTLS"])
async def test_a_server_that_breaks_ends_the_login_in_time_and_leaves_no_thread(toxin, security, pki):
    certificate = pki.server if security == "tls" else None
    with ToxicServer(toxin, answer=TOXIC_ANSWERS[toxin], certificate=certificate) as server:
        more = {} if security == "none" else {"CAFile": str(pki.ca)}
        settings = clear(server.port, **more, transportSecurity=security.split(" ")[0])
        error = await refused(directory_of(settings), within=2.0)
        assert f"127.0.0.1:{server.port}" in error
        if security != "none" and certificate is None:
            assert PASSWORD.encode() not in server.received


async def test_two_hundred_logins_at_a_silent_server_end_in_time_and_use_eight_threads():
    """Also those that never get a thread."""
    with ToxicServer(Toxin.SILENCE) as server:
        directory = directory_of(clear(server.port))
        before = threading.active_count()
        errors: list[str] = []

        async def login() -> None:
            with pytest.raises(DirectoryUnavailable) as caught:
                await directory.bind_user(NAME, PASSWORD)
            errors.append(str(caught.value))

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(login)
        assert len(errors) == 200
        await no_thread_is_busy(directory)
        # One for each accepted connection is the test server's own.
        assert threading.active_count() - before - server.connections <= 16


async def test_a_cancelled_login_leaves_no_thread_and_no_connection():
    with ToxicServer(Toxin.SILENCE) as server:
        directory = directory_of(clear(server.port, timeoutMS=60_000))
        with trio.move_on_after(0.3):
            await directory.bind_user(NAME, PASSWORD)
        assert server.connections == 1
        await no_thread_is_busy(directory)


async def test_nobody_listens():
    assert "refused" in await refused(directory_of(clear(free_port())), within=2.0)


async def test_a_healthy_server_serves_when_the_first_one_hangs(slapd):
    with ToxicServer(Toxin.SILENCE) as silent:
        both = f"127.0.0.1:{silent.port},127.0.0.1:{slapd.port}"
        directory = directory_of(clear(0, servers=both))
        began = time.monotonic()
        assert (await directory.bind_user(slapd.dn_of("alice"), password_of("alice"))).accepted
        assert 0.9 < time.monotonic() - began < 2.0
        began = time.monotonic()
        for _ in range(20):
            assert (await directory.bind_user(slapd.dn_of("bob"), password_of("bob"))).accepted
        assert time.monotonic() - began < 1.0, "the first one is passed over"
        assert silent.connections == 1


async def test_a_server_without_an_end_is_cut_off():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def send() -> None:
            with listener.accept()[0] as peer, contextlib.suppress(OSError):
                peer.sendall(bytes.fromhex("30847fffffff"))
                while True:
                    peer.sendall(bytes(65536))

        thread = threading.Thread(target=send)
        thread.start()
        directory = directory_of(clear(listener.getsockname()[1], timeoutMS=20_000))
        assert "longer than 16777216 bytes" in await refused(directory, within=10)
        thread.join(5)
        assert not thread.is_alive()


# ---- who the server is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("certificate", "host", "problem"),
    [
        ("server_expired", "127.0.0.1", "certificate has expired"),
        ("server_untrusted", "127.0.0.1", "unable to get local issuer certificate"),
        ("server_wrong_host", "127.0.0.1", "IP address mismatch"),
        ("server_wrong_host", "localhost", "Hostname mismatch"),
        ("server_without_ip", "127.0.0.1", "IP address mismatch"),
    ],
)
@pytest.mark.parametrize("security", ["tls", "startTLS"])
async def test_a_certificate_that_is_not_the_servers_gets_no_password(
    pki, tmp_path, certificate, host, problem, security
):
    slapd = Slapd(tmp_path, pki, certificate=getattr(pki, certificate))
    try:
        slapd.start().wait()
        port = slapd.tls_port if security == "tls" else slapd.port
        settings = {"servers": f"{host}:{port}", "CAFile": str(pki.ca), "transportSecurity": security}
        assert problem in await refused(directory_of({**settings, **SECOND}), within=3.0)
        assert slapd.binds_of(NAME) == 0
    finally:
        slapd.kill()


async def test_without_a_ca_file_the_systems_authorities_are_asked(slapd):
    settings = {"servers": f"127.0.0.1:{slapd.tls_port}", **SECOND}
    assert "certificate verify failed" in await refused(directory_of(settings), within=3.0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_right_certificate_is_right_by_address_and_by_name(slapd, pki, host):
    directory = directory_of({"servers": f"{host}:{slapd.tls_port}", "CAFile": str(pki.ca)})
    (server,) = await directory.servers()
    connection = await directory.connect(server)
    assert connection.tls is not None
    assert connection.tls[0] in ("TLSv1.2", "TLSv1.3")
    connection.close()


async def test_the_servers_name_is_sent_before_it_shows_its_certificate(pki):
    names: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.server)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with ToxicServer(Toxin.CLOSE, certificate=pki.server) as server:
        server._context = context
        directory = directory_of({"servers": f"localhost:{server.port}", "CAFile": str(pki.ca), **SECOND})
        with pytest.raises(DirectoryUnavailable):
            await directory.bind_user(NAME, PASSWORD)
    assert names == ["localhost"]


def test_an_old_protocol_version_is_not_spoken(pki):
    directory = directory_of({"servers": "localhost", "CAFile": str(pki.ca)})
    context = directory._transport.context
    assert context is not None
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


# ---- binds that would succeed for anybody -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "password"), [("", "x"), (" ", "x"), (NAME, ""), ("", "")])
async def test_an_empty_name_or_password_is_refused_and_nothing_is_sent(name, password):
    with ToxicServer(Toxin.SILENCE) as server:
        connection = await LdapConnection.open(
            LdapServer("127.0.0.1", server.port), Transport("none"), trio.CapacityLimiter(1)
        )
        with pytest.raises(LdapRefusal, match="must not be empty"):
            await connection.bind(name, password)
        connection.close()
        assert not server.received


@pytest.mark.parametrize("name", ["", " ", "\t"])
async def test_an_empty_user_name_is_no_bind_name(slapd, name):
    directory = directory_of(ldap_settings(slapd, userToDNMapping=""))
    with pytest.raises(LdapRefusal, match="empty"):
        await directory.bind_name(name)


# ---- referrals --------------------------------------------------------------------------------------------------------


async def test_a_referral_is_an_error_and_its_server_hears_nothing(slapd):
    with ToxicServer(Toxin.SILENCE) as rogue:
        dn = slapd.add_referral("elsewhere", f"ldap://127.0.0.1:{rogue.port}/{slapd.base}")
        try:
            directory = directory_of(ldap_settings(slapd))
            for base in (dn, f"cn=x,{dn}"):
                with pytest.raises(DirectoryUnavailable, match="which is not followed"):
                    await directory.search(LdapQuery(base, SearchScope.SUB))
            assert not (await directory.bind_user(f"uid=alice,{dn}", PASSWORD)).accepted
            directory.close()
        finally:
            slapd.delete_referral(dn)
        assert rogue.connections == 0
        assert not rogue.received


async def test_a_bind_that_is_answered_with_a_referral_gives_the_password_to_nobody_else():
    with (
        ToxicServer(Toxin.SILENCE) as rogue,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        received: list[bytes] = []
        uri = f"ldap://127.0.0.1:{rogue.port}/".encode()

        def refer() -> None:
            with listener.accept()[0] as peer:
                received.append(peer.recv(4096))
                message_id = received[0][2 : 4 + received[0][3]]
                result = b"\x0a\x01\x0a\x04\x00\x04\x00" + tlv(0xA3, tlv(0x04, uri))
                peer.sendall(tlv(0x30, message_id + tlv(0x61, result)))
                peer.recv(1)

        thread = threading.Thread(target=refer)
        thread.start()
        error = await refused(directory_of(clear(listener.getsockname()[1])), within=2.0)
        thread.join(5)
        assert error == "the directory answers 10 referral"
        assert PASSWORD.encode() in received[0]
        assert rogue.connections == 0


def tlv(tag: int, content: bytes) -> bytes:
    """A short BER element."""
    return bytes([tag, len(content)]) + content


async def test_a_continuation_reference_is_no_entry(slapd):
    with ToxicServer(Toxin.SILENCE) as rogue:
        dn = slapd.add_referral("elsewhere", f"ldap://127.0.0.1:{rogue.port}/{slapd.base}")
        try:
            directory = directory_of(ldap_settings(slapd))
            (entry,) = await directory.search(LdapQuery(slapd.base, SearchScope.SUB, "(uid=alice)"))
            assert entry.dn == slapd.dn_of("alice")
            directory.close()
        finally:
            slapd.delete_referral(dn)
        assert rogue.connections == 0


# ---- how much ---------------------------------------------------------------------------------------------------------


async def test_ten_thousand_groups_are_refused_and_two_pages_are_not(pki, tmp_path):
    slapd = Slapd(tmp_path, pki)
    try:
        slapd.start().wait()
        slapd.load_groups_offline("kim", 10_000)
        slapd.load_groups_offline("bob", 900, prefix="fewer")
        settings = ldap_settings(slapd)
        for template in (settings["authz"]["queryTemplate"], "{USER}?memberOf?base"):
            directory = directory_of({**settings, "authz": {"queryTemplate": template}})
            began = time.monotonic()
            with pytest.raises(LdapRefusal, match="more than"):
                await directory.groups(slapd.dn_of("kim"), "kim")
            assert time.monotonic() - began < 5
            assert len(await directory.groups(slapd.dn_of("bob"), "bob")) == 902
            directory.close()
    finally:
        slapd.kill()


async def test_an_answer_that_the_server_cut_short_is_none(pki, tmp_path):
    slapd = Slapd(tmp_path, pki, size_limit=3)
    try:
        slapd.start().wait()
        directory = directory_of(ldap_settings(slapd))
        with pytest.raises(DirectoryUnavailable, match="4 sizeLimitExceeded"):
            await directory.search(LdapQuery(slapd.people_base, SearchScope.SUB))
        directory.close()
    finally:
        slapd.kill()


async def test_a_base_that_does_not_exist_is_an_error_but_for_a_single_entry(slapd):
    directory = directory_of(ldap_settings(slapd))
    missing = f"ou=nowhere,{slapd.base}"
    assert await directory.search(LdapQuery(missing)) == ()
    with pytest.raises(DirectoryUnavailable, match="32 noSuchObject"):
        await directory.search(LdapQuery(missing, SearchScope.SUB))
    directory.close()


# ---- the cost of a bind -----------------------------------------------------------------------------------------------


async def test_a_bind_over_tls_does_not_wait_for_delayed_acknowledgements(slapd):
    """With Nagle's algorithm each one would take more than 40 ms."""
    directory = directory_of(ldap_settings(slapd))
    began = time.monotonic()
    for _ in range(20):
        assert (await directory.bind_user(slapd.dn_of("alice"), password_of("alice"))).accepted
    assert (time.monotonic() - began) / 20 < 0.035
