"""What hello says when mongoguard is presented as a replica set; and, however it is presented, the cluster's time.

In: what `net.advertise` says, and what the upstream's servers last said of themselves. Out: the fields of hello. Must
not know sockets. Never names an upstream host: what is not mapped to a proxy's address is left out.
Source: "Server Discovery And Monitoring"; the order of the fields is that of mongod 6.0.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bson import Timestamp

from mongoguard.errors import ConfigError

__all__ = ["Advertised", "Hello", "check_advertised", "newest_cluster_time", "replica_set_fields"]

Hello = Mapping[str, Any]
"""A server's answer to hello, as values."""

_OF_THE_MEMBER = ("arbiterOnly", "passive", "hidden", "secondaryDelaySecs", "tags")
"""What a member's hello says of the member, without naming anybody."""


@dataclass(frozen=True, slots=True)
class Advertised:
    """net.advertise. `own`: one address in front of the whole set; else `members`: member -> the proxy in front of it.

    All are "host:port" in lower case, IPv6 addresses in brackets.
    """

    own: str | None = None
    members: Mapping[str, str] = field(default_factory=dict)

    def of(self, names: Any) -> list[str]:
        """The proxies in front of those members; members without one are left out."""
        known = names if isinstance(names, list) else []
        return [proxy for name in known if (proxy := self.proxy_of(name)) is not None]

    def proxy_of(self, name: Any) -> str | None:
        """The proxy in front of that member."""
        return self.members.get(name.lower()) if isinstance(name, str) else None


def check_advertised(advertised: Advertised, introduced: Hello) -> None:
    """Whether a server that says this can be presented as `advertised`. Raises `ConfigError`."""
    if introduced.get("setName") is None:
        raise ConfigError("net.presentAs: replicaSet: the upstream is no member of a replica set")
    me = introduced.get("me")
    if advertised.own is None and advertised.proxy_of(me) is None:
        raise ConfigError(
            f"net.advertise: names no proxy for {me}, the member that upstream.uri leads to (members are named as in "
            "the configuration of the replica set)"
        )


def replica_set_fields(
    advertised: Advertised, introduced: Hello, members: Mapping[str, Hello]
) -> dict[str, Any]:
    """From `hosts` to `lastWrite`; `isWritablePrimary` has that name always.

    `introduced` is what the server said that mongoguard introduced itself to; `members` are those that answer now.
    """
    set_name = introduced.get("setName")
    answers = [hello for hello in members.values() if hello.get("setName") == set_name]
    if advertised.own is None:
        return _as_one_member(advertised, introduced, answers[0] if answers else None)
    return _as_the_whole_set(advertised.own, introduced, answers)


def _as_the_whole_set(own: str, introduced: Hello, members: list[Hello]) -> dict[str, Any]:
    """One host, which is primary whenever the set has one.

    Without a primary it is a secondary as long as one answers: writes wait in the driver, reads with a mode that
    allows a secondary go on. electionId and setVersion order several primaries; one host has nothing to order, and
    several mongoguards behind one address, which learn of an election one after the other, would pass for stale ones.
    """
    primaries = [hello for hello in members if _is_primary(hello)]
    secondaries = [hello for hello in members if hello.get("secondary")]
    fields: dict[str, Any] = {
        "hosts": [own],
        "setName": introduced.get("setName"),
        "isWritablePrimary": bool(primaries),
        "secondary": bool(secondaries) and not primaries,
    }
    if primaries:
        fields["primary"] = own
    fields["me"] = own
    readable = primaries or secondaries
    if readable:
        fields |= _last_write(max(readable, key=_written_at))
    return fields


def _as_one_member(advertised: Advertised, introduced: Hello, member: Hello | None) -> dict[str, Any]:
    """The member's own role. When it does not answer: neither primary nor secondary, so that drivers wait or go on."""
    known = introduced if member is None else member
    fields: dict[str, Any] = {"hosts": advertised.of(known.get("hosts"))}
    for name in ("passives", "arbiters"):
        proxies = advertised.of(known.get(name))
        if proxies:
            fields[name] = proxies
    fields["setName"] = introduced.get("setName")
    if "setVersion" in known:
        fields["setVersion"] = known["setVersion"]
    fields["isWritablePrimary"] = member is not None and _is_primary(member)
    fields["secondary"] = member is not None and bool(member.get("secondary"))
    primary = None if member is None else advertised.proxy_of(member.get("primary"))
    if primary is not None:
        fields["primary"] = primary
    fields |= {name: known[name] for name in _OF_THE_MEMBER if name in known}
    fields["me"] = advertised.proxy_of(known.get("me"))
    if fields["isWritablePrimary"] and "electionId" in known:
        fields["electionId"] = known["electionId"]
    return fields | ({} if member is None else _last_write(member))


def _is_primary(hello: Hello) -> bool:
    """A monitor's first question to a server is isMaster, whose answer has the old name."""
    return bool(hello.get("isWritablePrimary", hello.get("ismaster")))


def _last_write(hello: Hello) -> dict[str, Any]:
    return {"lastWrite": hello["lastWrite"]} if "lastWrite" in hello else {}


def _written_at(hello: Hello) -> float:
    """Seconds since the epoch; 0.0 for a member that does not say."""
    last_write = hello.get("lastWrite")
    date = last_write.get("lastWriteDate") if isinstance(last_write, Mapping) else None
    return 0.0 if date is None else float(date.timestamp())


def newest_cluster_time(introduced: Hello, hellos: Iterable[Hello]) -> Mapping[str, Any] | None:
    """The `$clusterTime` that is ahead of the others, as its server has signed it ("Driver Sessions": gossiping).

    Servers of another set than `introduced` sign with other keys: this one would refuse every command with their time.
    """
    newest: Mapping[str, Any] | None = None
    for hello in hellos:
        said = hello.get("$clusterTime")
        if hello.get("setName") != introduced.get("setName") or not isinstance(said, Mapping):
            continue
        time = said.get("clusterTime")
        if isinstance(time, Timestamp) and (newest is None or time > newest["clusterTime"]):
            newest = said
    return newest
