"""What pymongo's monitors know, as mongoguard sees it, and the wait for a primary. The monitors are faked."""

import pytest
import trio
import trio.testing
from pymongo.errors import AutoReconnect, ConfigurationError, NetworkTimeout

from mongoguard.config.secret import Secret
from mongoguard.errors import ConfigError, UpstreamUnavailable
from mongoguard.server import topology
from mongoguard.server.topology import Topology, TopologySnapshot
from mongoguard.server.upstream_uri import read_upstream_uri
from tests.unit.server.upstream_fakes import FakeMongoClient, server

ADDRESS = read_upstream_uri(Secret("mongodb://u:canary@h"))


@pytest.fixture
async def opened(monkeypatch):
    monkeypatch.setattr(topology, "MongoClient", FakeMongoClient)
    changes = []
    found = Topology(ADDRESS, changes.append, 1000)
    return found, found._client, changes


async def test_a_primary_that_is_found_ends_the_wait(opened):
    found, client, changes = opened
    answers = []
    async with trio.open_nursery() as nursery:

        async def wait():
            answers.append(await found.primary(5))

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        client.listener.opened(None)
        client.describe(server("a", "RSSecondary"), server("b", "Unknown"), kind="ReplicaSetNoPrimary")
        await trio.testing.wait_all_tasks_blocked()
        assert answers == []
        client.describe(server("a"), server("b", "RSSecondary"))
    assert answers == ["a:27017"]
    assert found.snapshot is changes[-1]
    assert found.snapshot.servers == {"a:27017", "b:27017"}
    await found.close()
    assert client.closed


@pytest.mark.parametrize(
    ("servers", "told"),
    [
        ([], r"\(no server answers\)"),
        ([server("a", "RSSecondary")], r"\(no server is a primary\)"),
        (
            [
                server(
                    "a",
                    "Unknown",
                    AutoReconnect(
                        "SSL handshake failed: a:27017: certificate verify failed"
                        " (configured timeouts: socketTimeoutMS: 20000.0ms)"
                    ),
                ),
                server("b", "Unknown", AutoReconnect("")),
            ],
            r"\(a:27017: SSL handshake failed: certificate verify failed; b:27017: AutoReconnect\)",
        ),
    ],
)
async def test_without_a_primary_the_wait_ends_in_time_with_the_reason(opened, autojump_clock, servers, told):
    found, client, _ = opened
    client.describe(*servers, kind="ReplicaSetNoPrimary")
    with pytest.raises(UpstreamUnavailable, match=rf"^no upstream server takes writes {told}$"):
        await found.primary(5)
    assert trio.current_time() >= 5


async def test_the_nearest_of_several_writable_servers_is_taken(opened):
    found, client, _ = opened
    client.describe(
        server("far", "Mongos", seconds=0.2), server("near", "Mongos", seconds=0.1), kind="Sharded"
    )
    assert await found.primary(5) == "near:27017"


async def test_addresses_are_written_as_connections_take_them(opened):
    found, client, _ = opened
    client.describe(server("::1", "RSSecondary"), server("/tmp/m.sock", port=None))
    assert await found.primary(5) == "/tmp/m.sock"
    assert found.snapshot.servers == {"[::1]:27017", "/tmp/m.sock"}


async def test_a_server_that_did_not_answer_in_time_is_frozen_and_one_that_refused_is_not(opened):
    _, client, changes = opened
    client.describe(
        server("a", "Unknown", NetworkTimeout("timed out")),
        server("b", "Unknown", AutoReconnect("no")),
        kind="ReplicaSetNoPrimary",
    )
    await trio.testing.wait_all_tasks_blocked()
    while not changes:
        await trio.lowlevel.checkpoint()
    assert changes[-1].frozen == {"a:27017"}
    assert changes[-1].servers == frozenset()


async def test_a_uri_that_pymongo_refuses_is_a_configuration_error_without_secrets(monkeypatch):
    def refuse(uri, **_options):
        raise ConfigurationError(f"cannot use {uri}")

    monkeypatch.setattr(topology, "MongoClient", refuse)
    with pytest.raises(ConfigError, match="upstream.uri: cannot use <secret>"):
        Topology(ADDRESS, lambda _: None, 1000)


def test_a_change_after_the_end_is_dropped(monkeypatch):
    monkeypatch.setattr(topology, "MongoClient", FakeMongoClient)

    async def main():
        return Topology(ADDRESS, lambda _: None, 1000)

    found = trio.run(main)
    found._client.describe(server("a"))
    found._client.listener.closed(None)
    assert found.snapshot == TopologySnapshot()
