"""One connection to a real OpenLDAP, and to servers that break."""

from __future__ import annotations

import contextlib
import gc
import socket
import struct
import threading

import pytest
import trio

from mongoguard.authn.ldap.filter_text import escape_filter_value
from mongoguard.authn.ldap.query import LdapQuery, SearchScope
from mongoguard.errors import DirectoryUnavailable
from mongoguard.server.ldap.connection import (
    DirectoryConnectionLost,
    LdapConnection,
    LdapServer,
    Transport,
    _in_ascii,
)
from mongoguard.server.ldap.native_tls import directory_context
from tests.directory_entries import GROUPS, PEOPLE
from tests.ldap_directory import directory_of
from tests.ldap_guard import ldap_settings
from tests.ldap_servers import Slapd
from tests.servers import password_of

THREADS = trio.CapacityLimiter(8)


@pytest.fixture(params=["tls", "startTLS", "none"])
def transport(request, pki) -> Transport:
    context = None if request.param == "none" else directory_context(str(pki.ca))
    return Transport(request.param, context)


def server(directory, transport, host="127.0.0.1") -> LdapServer:
    return LdapServer(host, directory.tls_port if transport.security == "tls" else directory.port)


async def opened(directory, transport) -> LdapConnection:
    return await LdapConnection.open(server(directory, transport), transport, THREADS)


async def test_everybody_binds_with_their_own_password_and_no_other(slapd, transport):
    for uid in PEOPLE:
        connection = await opened(slapd, transport)
        assert (await connection.bind(slapd.dn_of(uid), password_of(uid))).accepted
        answer = await connection.bind(slapd.dn_of(uid), "wrong")
        assert answer.refused
        assert not answer.accepted
        connection.close()


async def test_small_messages_leave_at_once(slapd, transport):
    """Pitfall: with Nagle's algorithm each bind over TLS waits for the 40 ms of a delayed acknowledgement."""
    connection = await opened(slapd, transport)
    assert connection._handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    connection.close()


async def test_a_search_finds_entries_and_their_attributes(slapd, transport):
    connection = await opened(slapd, transport)
    assert (await connection.bind(slapd.service_dn, slapd.service_password)).accepted
    query = LdapQuery(slapd.people_base, SearchScope.SUB, "(uid=jose)", ("cn", "memberOf"))
    (entry,) = await connection.search(query)
    assert entry.texts("cn") == (PEOPLE["jose"].cn,)
    assert entry.texts("memberOf") == (slapd.group_dn("データ分析"),)
    assert connection.is_usable()
    connection.close()
    assert not connection.is_usable()


@pytest.mark.parametrize("password", [" ", "p\u00a0w ", "a:b\\c", "\U0001d11e", "\t", "ﬁ", "x" * 4096])
async def test_a_password_is_sent_as_it_was_typed(slapd, transport, password):
    """ldap3 would change some (SASLprep), and refuse others."""
    slapd.set_password("kim", password)
    try:
        connection = await opened(slapd, transport)
        assert (await connection.bind(slapd.dn_of("kim"), password)).accepted
        assert not (await connection.bind(slapd.dn_of("kim"), password + "x")).accepted
        connection.close()
    finally:
        slapd.set_password("kim", password_of("kim"))


@pytest.mark.parametrize("uid", PEOPLE)
async def test_a_filter_with_anybodys_dn_finds_that_ones_groups(slapd, transport, uid):
    connection = await opened(slapd, transport)
    await connection.bind(slapd.service_dn, slapd.service_password)
    for base in (slapd.groups_base, slapd.groups_base.upper().replace(",", ", ")):
        query = LdapQuery(base, SearchScope.SUB, f"(member={escape_filter_value(slapd.dn_of(uid))})")
        names = {entry.dn for entry in await connection.search(query)}
        assert len(names) == sum(uid in group.people for group in GROUPS.values())
    connection.close()


def test_a_filter_is_sent_in_visible_ascii_for_the_library_strips_every_kind_of_space():
    assert _in_ascii("(cn=\u00a0a b\u3000)") == "(cn=\\c2\\a0a\\20b\\e3\\80\\80)"
    assert _in_ascii("(&(a=\\2a)(b:1.2:=c*))") == "(&(a=\\2a)(b:1.2:=c*))"


async def test_a_connection_that_was_closed_does_nothing_more(slapd, transport):
    connection = await opened(slapd, transport)
    connection.close()
    connection.close()
    with pytest.raises(DirectoryConnectionLost, match="is closed"):
        await connection.bind(slapd.dn_of("alice"), password_of("alice"))


@pytest.mark.parametrize("host", ["a" * 64, "no-such-host.invalid", "::1"])
async def test_a_host_that_is_not_there_is_an_error_of_the_directory(host):
    address = LdapServer(host, 1)
    with pytest.raises(DirectoryUnavailable) as caught:
        await LdapConnection.open(address, Transport("none"), THREADS)
    assert str(address) in str(caught.value)


async def test_a_client_that_leaves_while_the_server_resets_leaves_no_socket():
    """Whether the reset comes before, while, or after the socket is taken over."""
    for _ in range(100):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def reset(listener: socket.socket = listener) -> None:
                peer = listener.accept()[0]
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.close()

            thread = threading.Thread(target=reset)
            thread.start()
            with contextlib.suppress(DirectoryUnavailable):
                connection = await LdapConnection.open(
                    LdapServer("127.0.0.1", listener.getsockname()[1]), Transport("none"), THREADS
                )
                connection.close()
            thread.join()
    gc.collect()  # an unclosed socket would warn


async def test_a_directory_that_was_restarted_is_searched_without_an_error(pki, tmp_path):
    slapd = Slapd(tmp_path, pki)
    try:
        slapd.start().wait()
        directory = directory_of(ldap_settings(slapd))
        query = LdapQuery(slapd.people_base, SearchScope.SUB, "(uid=alice)")
        assert len(await directory.search(query)) == 1
        slapd.restart()
        assert len(await directory.search(query)) == 1
        directory.close()
    finally:
        slapd.kill()


async def test_a_service_password_that_is_refused_is_not_tried_by_every_login(slapd):
    """Each wrong one would bring its account nearer to a lock-out."""
    bind = {"queryUser": slapd.service_dn, "queryPassword": ["wrong", "wrong, too"]}
    directory = directory_of(ldap_settings(slapd, bind=bind))
    before = slapd.binds_of(slapd.service_dn)
    for _ in range(20):
        with pytest.raises(DirectoryUnavailable, match="does not accept security.ldap.bind.queryUser"):
            await directory.bind_name("alice")
    assert slapd.binds_of(slapd.service_dn) - before == 2


async def test_the_password_that_held_is_the_first_to_be_tried_next_time(slapd):
    bind = {"queryUser": slapd.service_dn, "queryPassword": ["wrong", slapd.service_password]}
    directory = directory_of(ldap_settings(slapd, bind=bind))
    before = slapd.binds_of(slapd.service_dn)
    for _ in range(3):
        assert await directory.bind_name("alice") == slapd.dn_of("alice")
        directory.close()
    assert slapd.binds_of(slapd.service_dn) - before == 2 + 1 + 1


async def test_without_a_service_searches_are_anonymous_where_the_directory_lets_them_be(
    slapd, pki, tmp_path
):
    settings = ldap_settings(slapd)
    del settings["bind"]
    closed = directory_of(settings)
    with pytest.raises(DirectoryUnavailable):
        await closed.bind_name("alice")
    closed.close()
    server = Slapd(tmp_path, pki, anonymous=True)
    try:
        server.start().wait()
        settings["servers"] = f"127.0.0.1:{server.tls_port}"
        directory = directory_of(settings)
        await directory.validate()
        assert await directory.bind_name("alice") == server.dn_of("alice")
        assert server.group_dn("dba") in await directory.groups(server.dn_of("alice"), "alice")
        directory.close()
    finally:
        server.kill()
