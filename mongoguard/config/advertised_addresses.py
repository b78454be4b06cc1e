"""net.advertise: the addresses under which clients find a mongoguard that is presented as a replica set.

In: a plain value. Out: `Advertised`. Must not know what the upstream is; raises ValueError with what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv6Address
from typing import Annotated, Any

from pydantic import PlainValidator

from mongoguard.proxy.replica_set import Advertised

__all__ = ["AdvertisedAddresses"]

MAX_MEMBERS = 50
"""A replica set has no more members."""

_HOST = re.compile(r"(?!.*\.\.)[0-9A-Za-z_]([0-9A-Za-z._-]{0,252})")
_EXPECTED = (
    'expected "host:port" of this proxy, or a mapping of "host:port" of each member of the replica set to "host:port" '
    "of the proxy in front of it"
)


def _advertised(value: Any) -> Advertised:
    if isinstance(value, Advertised):
        return value
    if isinstance(value, str):
        return Advertised(own=_address(value))
    if not isinstance(value, Mapping) or not 0 < len(value) <= MAX_MEMBERS:
        raise ValueError(_EXPECTED)
    members = {_address(member): _address(proxy) for member, proxy in value.items()}
    if len(members) < len(value):
        raise ValueError("a member is given twice")
    if len(set(members.values())) < len(members):
        raise ValueError(
            "two members have the same proxy: each needs one of its own, or write one address for all"
        )
    return Advertised(members=members)


def _address(text: Any) -> str:
    """A host name or an IP address, and a port that clients can connect to; IPv6 in brackets. In lower case."""
    if not isinstance(text, str):
        raise ValueError(_EXPECTED)
    host, colon, port = text.rpartition(":")
    if not colon or not _is_host(host) or not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535:
        raise ValueError(f'{_EXPECTED}; IPv6 addresses stand in brackets: "[2001:db8::1]:27017"')
    return text.lower()


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return _HOST.fullmatch(host) is not None
    try:
        IPv6Address(host[1:-1])
    except AddressValueError:
        return False
    return host.endswith("]") and "%" not in host  # a zone means something on one machine only


AdvertisedAddresses = Annotated[Advertised, PlainValidator(_advertised)]
