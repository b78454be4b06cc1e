"""AuthenticationRestriction: from where, and to which of our addresses, a user may log in.

In: restriction documents (`authenticationRestrictions`) and a connection's two addresses. Out: yes or no.
Must not know users, sockets or configuration.
Source: the manual's "Authentication Restrictions"; rules measured on mongod 6.0.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

__all__ = ["Address", "AuthenticationRestriction", "Network", "Peer", "restrictions_met"]

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Peer:
    """The two ends of a client connection. An address is None for a Unix socket, which is "not an IP".

    `is_proxied`: a balancer stands between. The addresses are then what it says of the client, or the balancer's own
    where it speaks for itself; no such client is on this host as far as anybody here can know.
    """

    client: Address | None
    server: Address | None
    client_port: int = 0
    server_port: int = 0
    is_proxied: bool = False


@dataclass(frozen=True, slots=True)
class AuthenticationRestriction:
    """One restriction document: both lists must be met; None means that the list is absent.

    An empty tuple is a list that nobody meets (mongod accepts and stores `{clientSource: []}`).
    """

    client_source: tuple[Network, ...] | None = None
    server_address: tuple[Network, ...] | None = None

    def is_met_by(self, peer: Peer) -> bool:
        """Families never mix: 0.0.0.0/0 refuses ::1, and a v4-mapped address does not match IPv4 networks."""
        return _within(peer.client, self.client_source) and _within(peer.server, self.server_address)


def _within(address: Address | None, networks: tuple[Network, ...] | None) -> bool:
    if networks is None:
        return True
    return address is not None and any(address.version == n.version and address in n for n in networks)


def restrictions_met(arrays: Iterable[tuple[AuthenticationRestriction, ...]], peer: Peer) -> bool:
    """Every non-empty array (the user's own, and each role's) must have at least one document that is met."""
    return all(any(r.is_met_by(peer) for r in array) for array in arrays if array)
