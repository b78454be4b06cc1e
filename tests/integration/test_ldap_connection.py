"""One connection to a real OpenLDAP, and to servers that break."""

from __future__ import annotations

import trio
import pytest

from mongoguard.authn.ldap.query import LdapQuery, LdapRefusal, SearchScope
from mongoguard.errors import DirectoryUnavailable
from mongoguard.server.ldap.connection import DirectoryConnectionLost, LdapConnection, LdapServer, Transport
from mongoguard.server.ldap.native_tls import directory_context
from tests.directory_entries import PEOPLE
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
        assert answer.refused and not answer.accepted
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
