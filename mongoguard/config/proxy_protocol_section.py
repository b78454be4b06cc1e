"""net.proxyProtocol: whose word about a client's address is taken.

In: plain values. Out: a section that knows whom it trusts. Must not know sockets, nor what a header looks like.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mongoguard.config.section import Section
from mongoguard.model.restriction import Address, Network

__all__ = ["ProxyProtocol"]

UNIX = "unix"
"""Stands for whoever connects to a Unix socket of ours."""

_EXPECTED = 'a list of IP networks (10.0.0.0/8, 2001:db8::/32), single addresses, and "unix"'


def _sources(value: Any) -> Any:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"expected {_EXPECTED}")
    return tuple(one if one == UNIX else _network(one) for one in value)


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError(f"expected {_EXPECTED}; no bits may be set behind the prefix") from None


class ProxyProtocol(Section):
    """Connections from these sources must begin with a header; from all others a header is refused."""

    trusted_sources: Annotated[tuple[Network | str, ...], BeforeValidator(_sources)] = Field(
        default=(), alias="trustedSources", description=_EXPECTED
    )

    def trusts(self, source: Address | None) -> bool:
        """Whether the other end of a connection (None: on a Unix socket) speaks for its clients."""
        if source is None:
            return UNIX in self.trusted_sources
        mapped = source.ipv4_mapped if source.version == 6 else None
        address = mapped or source
        return any(
            not isinstance(one, str) and one.version == address.version and address in one
            for one in self.trusted_sources
        )

    @property
    def trusts_everybody(self) -> bool:
        """Whether some source is a whole address family, and so every client may say to be any other."""
        return any(not isinstance(one, str) and one.prefixlen == 0 for one in self.trusted_sources)
