"""What pymongo's monitors know, as mongoguard sees it, and the wait for a primary. The monitors are faked."""

import pytest
import trio
import trio.testing
from pymongo.errors import AutoReconnect, ConfigurationError, NetworkTimeout

from mongoguard.command.read_preference import ReadPreference, ReadPreferenceMode
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
    with pytest.raises(UpstreamUnavailable, match=rf"^no upstream server takes writes {told}$") as refused:
        await found.primary(5)
    assert refused.value.told.startswith(("no server is a primary", "no server answers"))
    assert "27017" not in refused.value.told
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


# ---- who may be read from -------------------------------------------------------------------------------------------

ALL = frozenset({"a:27017", "b:27017", "c:27017"})


def prefer(mode, *tag_sets, staleness=None):
    return ReadPreference(ReadPreferenceMode(mode), tag_sets, staleness)


async def test_readers_are_those_that_pymongo_allows(opened):
    found, client, _ = opened
    client.describe(
        server("a"),
        server("b", "RSSecondary", tags={"dc": "east"}),
        server("c", "RSSecondary", tags={"dc": "west"}, lag=200),
    )
    assert found.readers(prefer("primaryPreferred"), ALL) == ["a:27017"]
    assert sorted(found.readers(prefer("secondary"), ALL)) == ["b:27017", "c:27017"]
    assert sorted(found.readers(prefer("nearest"), ALL)) == sorted(ALL)
    assert found.readers(prefer("secondary", (("dc", "moon"),), (("dc", "west"),)), ALL) == ["c:27017"]
    assert found.readers(prefer("secondary", (("dc", "moon"),)), ALL) == []
    assert found.readers(prefer("secondaryPreferred", (("dc", "moon"),)), ALL) == ["a:27017"]
    assert found.readers(prefer("secondary", staleness=90), ALL) == ["b:27017"]
    assert found.readers(prefer("secondary"), frozenset({"c:27017"})) == ["c:27017"]
    assert found.readers(prefer("secondary"), frozenset()) == []


async def test_readers_are_within_the_latency_window(opened):
    found, client, _ = opened
    servers = (
        server("a"),
        server("b", "RSSecondary", seconds=0.01),
        server("c", "RSSecondary", seconds=0.05),
    )
    client.describe(*servers)
    assert found.readers(prefer("secondary"), ALL) == ["b:27017"]
    client.describe(*servers, threshold_ms=100)
    assert sorted(found.readers(prefer("secondary"), ALL)) == ["b:27017", "c:27017"]


async def test_an_arbiter_is_no_reader(opened):
    found, client, _ = opened
    client.describe(server("a"), server("b", "RSArbiter"))
    found.refresh()
    assert found.snapshot.readable == {"a:27017"}
    assert found.readers(prefer("nearest"), ALL) == ["a:27017"]


async def test_the_one_server_of_a_direct_connection_serves_whatever_it_is(opened):
    found, client, _ = opened
    client.describe(server("b", "RSSecondary"), kind="Single")
    assert await found.primary(5) == "b:27017"
    assert not found.snapshot.is_replica_set


async def test_of_several_mongos_the_near_ones_are_told_apart(opened):
    found, client, _ = opened
    client.describe(server("far", "Mongos", seconds=0.2), server("near", "Mongos"), kind="Sharded")
    found.refresh()
    assert found.snapshot.routers == ("far:27017", "near:27017")
    assert found.snapshot.near_routers == ("near:27017",)


# ---- doubts ---------------------------------------------------------------------------------------------------------


def version(counter, process="p"):
    return {"processId": process, "counter": counter}


async def test_a_reply_newer_than_the_monitors_counts_until_they_know(opened, autojump_clock):
    found, client, changes = opened
    client.describe(server("a", version=version(3)), server("b", "RSSecondary"))
    found.refresh()
    assert found.snapshot.primary == "a:27017"
    found.doubt("a:27017", version(4))
    assert found.snapshot.primary is None
    assert changes[-1].primary is None
    await trio.sleep(1)
    found.refresh()
    assert found.snapshot.primary is None
    client.describe(server("a", "RSSecondary", version=version(4)), server("b"), tells=False)
    assert await found.primary(5) == "b:27017"
    assert found.readers(prefer("secondary"), ALL) == ["a:27017"]


async def test_a_reply_older_than_the_monitors_says_nothing(opened):
    found, client, _ = opened
    client.describe(server("a", version=version(5)))
    found.doubt("a:27017", version(4))
    assert found.snapshot.primary == "a:27017"


async def test_pymongo_is_looked_at_before_a_reply_is_called_old(opened):
    found, client, _ = opened
    client.describe(server("a", version=version(3)), server("b", "RSSecondary"))
    found.refresh()
    client.describe(server("a", "RSSecondary", version=version(5)), server("b"), tells=False)
    found.doubt("a:27017", version(5))
    assert found.snapshot.primary == "b:27017"


@pytest.mark.parametrize("told", [None, version(3), version(3, "another process")])
async def test_a_doubt_without_end_ends(opened, autojump_clock, told):
    found, client, _ = opened
    client.describe(server("a", version=version(3)))
    found.doubt("a:27017", told)
    assert found.snapshot.primary is None
    began = trio.current_time()
    assert await found.primary(5) == "a:27017"
    assert trio.current_time() - began <= topology.DOUBT_SECS + topology.LOOK_AGAIN_SECS


async def test_a_doubted_secondary_is_not_read_from(opened, autojump_clock):
    found, client, _ = opened
    client.describe(server("a"), server("b", "RSSecondary"), server("c", "RSSecondary"))
    found.doubt("b:27017", None)
    assert found.readers(prefer("secondary"), ALL) == ["c:27017"]
    await trio.sleep(topology.SHORT_DOUBT_SECS + 0.01)
    found.refresh()
    assert sorted(found.readers(prefer("secondary"), ALL)) == ["b:27017", "c:27017"]
