"""Faked upstream connections, for the tests of pools and of the upstream."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import trio
from pymongo.hello import Hello
from pymongo.server_description import ServerDescription
from pymongo.synchronous.settings import TopologySettings
from pymongo.topology_description import TOPOLOGY_TYPE, TopologyDescription

from mongoguard.config.settings import parse_settings
from tests.rawwire import op_msg


def settings(**upstream):
    fields = "".join(f", {key}: {value}" for key, value in upstream.items())
    return parse_settings(
        f"{{upstream: {{uri: 'mongodb://h'{fields}}}}}", "test", environ={}, read_file=lambda p: p
    )


class FakeConnection:
    """Answers at once, or when `gate` is set; counts what was done to it."""

    def __init__(self, address="h:1"):
        self.address = address
        self.hello = {"ok": 1, "maxWireVersion": 17, "setName": "rs0"}
        self.idle_since = 0.0
        self.gate = None
        self.error = None
        self.usable = True
        self.closed = 0
        self.served = 0
        self.soon = []
        self.takes_secs = 0.0
        self.clock = Clock()
        self.accepts = {"$impersonatedUsers", "$impersonatedUser"}
        self.reads_no_audit = False
        self.asked = []

    async def exchange(self, message, soon_secs=0.0):
        self.soon.append(soon_secs)
        await trio.lowlevel.checkpoint()
        self.clock.now += self.takes_secs
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.served += 1
        return op_msg({"ok": 1, "server": self.address})

    async def ask(self, _db, command):
        await trio.lowlevel.checkpoint()
        self.asked.append(command)
        return {"ok": float(self.reads_no_audit or self._takes(command.get("$audit"))), "version": "6.0.5"}

    def _takes(self, audit):
        return audit is None or any(audit.get(spelling) for spelling in self.accepts)

    def is_usable(self):
        return self.usable

    def close(self):
        self.closed += 1


class Clock:
    """The pool's own clock."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


def server(host, kind="RSPrimary", error=None, port=27017, seconds=0.001, tags=None, version=None, lag=0.0):
    """pymongo's description of a server of that kind."""
    if kind == "Unknown":
        return ServerDescription((host, port), error=error)
    hello = {"ok": 1, "minWireVersion": 0, "maxWireVersion": 17, "isWritablePrimary": False}
    if kind.startswith("RS"):
        hello |= {"setName": "rs0", "hosts": ["a:27017", "b:27017", "c:27017"], "tags": tags or {}}
        hello |= {"lastWrite": {"lastWriteDate": WRITTEN - timedelta(seconds=lag)}}
    hello |= {
        "RSPrimary": {"isWritablePrimary": True},
        "RSSecondary": {"secondary": True},
        "RSArbiter": {"arbiterOnly": True},
        "Mongos": {"isWritablePrimary": True, "msg": "isdbgrid"},
        "Standalone": {"isWritablePrimary": True},
    }[kind]
    if version is not None:
        hello["topologyVersion"] = version
    return ServerDescription((host, port), Hello(hello), seconds)


WRITTEN = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)


def description(*servers, kind="ReplicaSetWithPrimary", threshold_ms=15):
    """pymongo's description of a topology."""
    kinds = TOPOLOGY_TYPE._asdict()
    seeds = {one.address: one for one in servers}
    made = TopologySettings(
        seeds=list(seeds) or [("h", 1)], local_threshold_ms=threshold_ms, heartbeat_frequency=1
    )
    return TopologyDescription(kinds[kind], seeds, "rs0", None, None, made)


class FakeMongoClient:
    """Takes the listener; runs no monitor. `describe` does what a monitor does."""

    def __init__(self, _uri, event_listeners, **_options):
        self.listener = event_listeners[0]
        self.closed = False
        self.topology_description = description(kind="Unknown")

    def describe(self, *servers, tells=True, **options):
        self.topology_description = description(*servers, **options)
        if tells:
            self.listener.description_changed(SimpleNamespace(new_description=self.topology_description))

    def close(self):
        self.closed = True
