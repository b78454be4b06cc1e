"""What an upstream URI may say: mongodb+srv, one server of many, Unix sockets, compression. Real servers, in process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import dns.flags
import dns.message
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest
import trio

from mongoguard.config.settings import Settings, parse_settings
from mongoguard.errors import ConfigError, UpstreamUnavailable
from mongoguard.proxy.deployment import PresentAs
from mongoguard.server.upstream import open_upstream
from mongoguard.wire.document import encode
from mongoguard.wire.message import encode_op_msg
from tests.replica_sets import ReplicaSetOfThree
from tests.servers import Guard, Mongod, init_upstream, password_of


def settings(uri: str, **upstream: Any) -> Settings:
    more = "".join(f", {key}: {value}" for key, value in upstream.items())
    return parse_settings(
        f"{{upstream: {{uri: '{uri}'{more}}}}}", "test", environ={}, read_file=lambda path: path
    )


def login_of(uri: str) -> str:
    """user:password@"""
    return uri.partition("://")[2].rpartition("@")[0] + "@"


# ---- mongodb+srv ----------------------------------------------------------------------------------------------------


class NameServer:
    """Answers SRV and TXT over UDP from a table, as DNS does."""

    def __init__(self, records: dict[str, dict[str, list[str]]]) -> None:
        self.asked: list[str] = []
        self._records = records
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, peer = self._socket.recvfrom(4096)
            if data == b"end":
                return
            query = dns.message.from_wire(data)
            question = query.question[0]
            name, kind = str(question.name).rstrip("."), dns.rdatatype.to_text(question.rdtype)
            self.asked.append(f"{kind} {name}")
            answer = dns.message.make_response(query)
            answer.flags |= dns.flags.RA
            texts = self._records.get(name, {}).get(kind)
            if texts:
                answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *texts))
            else:
                answer.set_rcode(3)
            self._socket.sendto(answer.to_wire(), peer)

    def close(self) -> None:
        self._socket.sendto(b"end", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()


@pytest.fixture
def name_server(replica_set: Mongod, monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """Knows db.guard.test; the system's own resolver would have to know its hosts, which a patch does here."""
    found = NameServer(
        {
            "_mongodb._tcp.db.guard.test": {"SRV": [f"0 0 {replica_set.port} one.guard.test."]},
            "db.guard.test": {"TXT": ['"authSource=admin&replicaSet=rs0"']},
            "_mongodb._tcp.stolen.guard.test": {"SRV": ["0 0 27017 one.evil.test."]},
        }
    )
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], found.port
    monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
    known = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        return known("127.0.0.1" if str(host).endswith("guard.test") else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        yield found
    finally:
        found.close()


async def test_a_srv_uri_names_the_servers_and_their_set(
    replica_set: Mongod, name_server: NameServer
) -> None:
    login = login_of(init_upstream(replica_set))
    async with open_upstream(settings(f"mongodb+srv://{login}db.guard.test/?tls=false")) as upstream:
        assert upstream.hello["setName"] == "rs0"
        assert upstream.deployment.current.present_as is PresentAs.MONGOS
        assert (await upstream.ask("admin", {"ping": 1}))["ok"] == 1
    assert {"SRV _mongodb._tcp.db.guard.test", "TXT db.guard.test"} <= set(name_server.asked)


@pytest.mark.parametrize("host", ["stolen.guard.test", "nothing.guard.test"])
async def test_a_srv_uri_that_leads_nowhere_or_elsewhere_is_an_error_without_secrets(
    name_server: NameServer, host: str
) -> None:
    with pytest.raises(ConfigError, match=r"^upstream\.uri: ") as failed:
        async with open_upstream(settings(f"mongodb+srv://mongoguard:canary@{host}/?tls=false")):
            raise AssertionError
    assert "canary" not in str(failed.value)


# ---- one server -----------------------------------------------------------------------------------------------------


async def test_a_direct_connection_speaks_to_that_member_whatever_it_is(
    three_members: ReplicaSetOfThree,
) -> None:
    login = login_of(init_upstream(three_members))
    secondary = three_members.secondaries()[0]
    uri = f"mongodb://{login}{secondary.address}/?authSource=admin&directConnection=true"
    async with open_upstream(settings(uri)) as upstream:
        assert upstream.hello["me"] == secondary.address
        assert upstream.hello["secondary"] is True
        reply = await upstream.ask("admin", {"hello": 1})
        assert reply["me"] == secondary.address


async def test_a_unix_socket_is_an_upstream_too(standalone: Mongod) -> None:
    login = login_of(init_upstream(standalone))
    path = f"%2Ftmp%2Fmongodb-{standalone.port}.sock"
    async with open_upstream(settings(f"mongodb://{login}{path}/?authSource=admin")) as upstream:
        assert (await upstream.ask("admin", {"ping": 1}))["ok"] == 1


async def test_an_upstream_that_is_a_load_balancer_is_refused() -> None:
    with pytest.raises(ConfigError, match="loadBalanced=true is not supported"):
        async with open_upstream(settings("mongodb://canary:canary@127.0.0.1/?loadBalanced=true")):
            raise AssertionError


async def test_a_uri_that_asks_not_to_connect_at_once_is_connected_all_the_same(replica_set: Mongod) -> None:
    uri = f"{init_upstream(replica_set)}&connect=false"
    async with open_upstream(settings(uri)) as upstream:
        assert (await upstream.ask("admin", {"ping": 1}))["ok"] == 1


async def test_a_set_of_another_name_is_no_upstream(replica_set: Mongod) -> None:
    uri = init_upstream(replica_set).replace("replicaSet=rs0", "replicaSet=rs1")
    assert "rs1" in uri
    with pytest.raises(UpstreamUnavailable):
        async with open_upstream(settings(uri, serverSelectionTimeoutMS=1500)):
            raise AssertionError


# ---- compression ----------------------------------------------------------------------------------------------------


def decompressed(mongod: Mongod, compressor: str) -> int:
    """Bytes that mongod has decompressed with it."""
    with mongod.client() as client:
        counts = client.admin.command("serverStatus")["network"]["compression"][compressor]
        return int(counts["decompressor"]["bytesIn"])


@pytest.mark.parametrize("compressor", ["zlib", "snappy", "zstd"])
async def test_the_upstream_leg_is_compressed_when_the_uri_asks_for_it(
    replica_set: Mongod, compressor: str
) -> None:
    uri = f"{init_upstream(replica_set)}&compressors={compressor}"
    before = decompressed(replica_set, compressor)
    long = [{"_id": number, "text": "x" * 1_000} for number in range(2_000)]
    async with open_upstream(settings(uri)) as upstream:
        for documents in (long, long[:1]):
            collection = f"compressed_{compressor}_{len(documents)}"
            await upstream.ask("mongoguard_test", {"drop": collection})
            inserted = await upstream.ask("mongoguard_test", {"insert": collection, "documents": documents})
            assert inserted["n"] == len(documents)
            found = await upstream.ask("mongoguard_test", {"find": collection, "batchSize": 10_000})
            assert found["cursor"]["firstBatch"] == documents
    assert decompressed(replica_set, compressor) > before


async def test_mongod_reads_what_zlib_compresses_at_every_level(replica_set: Mongod) -> None:
    sizes = {}
    documents = [{"_id": number, "text": f"mongoguard {number} " * 20} for number in range(500)]
    for level in (0, 1, 9):
        uri = f"{init_upstream(replica_set)}&compressors=zlib&zlibCompressionLevel={level}"
        before = decompressed(replica_set, "zlib")
        async with open_upstream(settings(uri)) as upstream:
            await upstream.ask("mongoguard_test", {"drop": "levels"})
            inserted = await upstream.ask("mongoguard_test", {"insert": "levels", "documents": documents})
            assert inserted["n"] == len(documents)
        sizes[level] = decompressed(replica_set, "zlib") - before
    assert sizes[0] > 2 * sizes[1] > 2 * sizes[9], sizes


async def test_passwords_are_never_compressed(replica_set: Mongod) -> None:
    """Their length would tell of them."""
    uri = f"{init_upstream(replica_set)}&compressors=zlib"
    async with open_upstream(settings(uri)) as upstream:
        before = decompressed(replica_set, "zlib")
        message = {"createUser": "x", "pwd": "y" * 10_000, "roles": 1, "$db": "mongoguard_test"}
        for _ in range(3):
            with trio.fail_after(10):
                await upstream.relay(encode_op_msg(1, 0, encode(message)))
        grown = decompressed(replica_set, "zlib") - before
    assert grown < 30_000 / 100, "30 kB of passwords went plain"


def test_clients_are_served_over_a_compressed_leg(
    replica_set: Mongod, guard_replica_set: Guard, tmp_path: Any
) -> None:
    own = Guard(tmp_path, replica_set)
    own.configure({"upstream": {"uri": f"{init_upstream(replica_set)}&compressors=zstd,zlib"}})
    before = decompressed(replica_set, "zstd")
    own.start().wait()
    try:
        with own.client("app", password_of("app"), compressors="zlib") as client:
            client.shop.compressed_leg.drop()
            client.shop.compressed_leg.insert_many([{"_id": n, "text": "x" * 500} for n in range(3_000)])
            assert [one["_id"] for one in client.shop.compressed_leg.find().sort("_id")] == list(range(3_000))
    finally:
        own.stop()
    assert decompressed(replica_set, "zstd") > before
