"""The order in which servers are tried, and names that are looked up."""

import socket
import threading

import dns.message
import dns.resolver
import dns.rrset
import pytest
import trio

from mongoguard.config.ldap_section import ServerName
from mongoguard.errors import DirectoryUnavailable
from mongoguard.server.ldap.connection import LdapServer
from mongoguard.server.ldap.servers import Servers
from mongoguard.server.ldap.srv import SrvLookup

A, B, C = (LdapServer(host, 636) for host in "abc")


def servers(*names, lookup=None):
    return Servers([ServerName.parse(name) for name in names], 636, lookup)


async def test_servers_are_tried_in_the_configured_order():
    assert await servers("a", "b:3269", "[::1]").candidates() == [
        A,
        LdapServer("b", 3269),
        LdapServer("::1", 636),
    ]
    assert str(LdapServer("::1", 636)) == "[::1]:636"


async def test_one_that_failed_is_tried_last_and_first_again_when_it_answers():
    three = servers("a", "b", "c")
    three.failed(A, "refused")
    assert await three.candidates() == [B, C, A]
    three.failed(B, "refused")
    assert await three.candidates() == [C, A, B]
    three.answered(A)
    assert await three.candidates() == [A, C, B]


async def test_after_half_a_minute_one_question_tries_it_again_and_the_others_do_not(autojump_clock):
    two = servers("a", "b")
    two.failed(A, "silent")
    await trio.sleep(29)
    assert await two.candidates() == [B, A]
    await trio.sleep(2)
    assert await two.candidates() == [A, B]
    assert await two.candidates() == [B, A]
    await trio.sleep(31)
    assert await two.candidates() == [A, B]
    two.answered(A)
    assert await two.candidates() == [A, B]
    assert await two.candidates() == [A, B]


async def test_when_all_are_down_all_are_tried_the_longest_down_first(autojump_clock):
    two = servers("a", "b")
    two.failed(B, "x")
    await trio.sleep(1)
    two.failed(A, "x")
    assert await two.candidates() == [B, A]


class Lookup:
    """Answers with `found`, or raises it."""

    def __init__(self, found):
        self.found = found
        self.asked = 0

    async def hosts(self, _name):
        self.asked += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


async def test_a_name_is_looked_up_once_a_minute_and_kept_while_it_cannot_be(autojump_clock):
    lookup = Lookup([("a", 636), ("b", 636)])
    found = servers("srv:example.org", "c", lookup=lookup)
    assert await found.candidates() == [A, B, C]
    assert found.count == 3
    await trio.sleep(59)
    await found.candidates()
    assert lookup.asked == 1
    lookup.found = DirectoryUnavailable("no DNS")
    await trio.sleep(2)
    assert await found.candidates() == [A, B, C]
    assert lookup.asked == 2


async def test_a_name_that_cannot_be_looked_up_leaves_the_others():
    lookup = Lookup(DirectoryUnavailable("no DNS"))
    assert await servers("srv:example.org", "c", lookup=lookup).candidates() == [C]
    with pytest.raises(DirectoryUnavailable, match="no DNS"):
        await servers("srv:example.org", lookup=lookup).candidates()


class NameServer:
    """A DNS server on loopback (UDP) that knows SRV records: name -> lines of priority, weight, port, target."""

    def __init__(self, records):
        self.records = records
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.resolver = dns.resolver.Resolver(configure=False)
        self.resolver.nameservers = ["127.0.0.1"]
        self.resolver.port = self._socket.getsockname()[1]

    def _serve(self):
        while True:
            data, client = self._socket.recvfrom(4096)
            if data == b"end":
                return
            query = dns.message.from_wire(data)
            name = query.question[0].name
            answer = dns.message.make_response(query)
            lines = self.records.get(str(name).rstrip("."), ())
            if lines:
                answer.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", *lines))
            else:
                answer.set_rcode(3)
            self._socket.sendto(answer.to_wire(), client)

    def close(self):
        self._socket.sendto(b"end", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


@pytest.fixture
def name_server():
    server = NameServer(
        {
            "_ldap._tcp.gc._msdcs.corp.example": [
                "0 100 3268 dc2.corp.example.",
                "0 200 3268 DC1.corp.example.",
            ],
            "_ldap._tcp.corp.example": ["0 100 389 wrong.corp.example."],
            "_ldap._tcp.plain.example": ["20 0 389 b.plain.example.", "10 0 1389 a.plain.example."],
            "_ldap._tcp.stolen.example": ["0 0 389 ldap.evil.example."],
            "_ldap._tcp.lookalike.example": ["0 0 389 ldap.notlookalike.example."],
        }
    )
    yield server
    server.close()


@pytest.mark.parametrize(
    ("name", "is_tls", "expected"),
    [
        ("srv:corp.example", True, [("dc1.corp.example", 3269), ("dc2.corp.example", 3269)]),
        ("srv:corp.example", False, [("dc1.corp.example", 3268), ("dc2.corp.example", 3268)]),
        ("srv:plain.example", True, [("a.plain.example", 1389), ("b.plain.example", 636)]),
        ("srv_raw:_ldap._tcp.plain.example", False, [("a.plain.example", 1389), ("b.plain.example", 389)]),
    ],
)
async def test_records_are_taken_by_priority_and_weight(name_server, name, is_tls, expected):
    lookup = SrvLookup(5, is_tls=is_tls, resolver=name_server.resolver)
    assert await lookup.hosts(ServerName.parse(name)) == expected


@pytest.mark.parametrize(
    "name", ["srv:stolen.example", "srv:lookalike.example", "srv_raw:_ldap._tcp.stolen.example"]
)
async def test_a_record_that_leads_out_of_the_domain_is_refused(name_server, name):
    lookup = SrvLookup(5, is_tls=True, resolver=name_server.resolver)
    with pytest.raises(DirectoryUnavailable, match="which is not in"):
        await lookup.hosts(ServerName.parse(name))


async def test_a_name_without_records_is_an_error(name_server):
    lookup = SrvLookup(5, is_tls=True, resolver=name_server.resolver)
    with pytest.raises(DirectoryUnavailable, match="no SRV records: _ldap._tcp.nothing.example"):
        await lookup.hosts(ServerName.parse("srv:nothing.example"))
