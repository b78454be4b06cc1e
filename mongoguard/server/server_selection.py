"""Choosing among several servers that would do.

In: a read preference, a session's id, addresses. Out: a pymongo selector, or one address. Must not know connections.
Source: the specification "Server Selection". Which servers would do (tags, staleness, latency window) is pymongo's.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from pymongo.read_preferences import (
    Nearest,
    Primary,
    PrimaryPreferred,
    Secondary,
    SecondaryPreferred,
)

from mongoguard.command.read_preference import ReadPreference, ReadPreferenceMode

__all__ = ["Selector", "least_busy_of_two", "rendezvous", "selector"]

Selector: TypeAlias = Primary | PrimaryPreferred | Secondary | SecondaryPreferred | Nearest

_MODES: Mapping[ReadPreferenceMode, type[PrimaryPreferred | Secondary | SecondaryPreferred | Nearest]] = {
    ReadPreferenceMode.PRIMARY_PREFERRED: PrimaryPreferred,
    ReadPreferenceMode.SECONDARY: Secondary,
    ReadPreferenceMode.SECONDARY_PREFERRED: SecondaryPreferred,
    ReadPreferenceMode.NEAREST: Nearest,
}


@lru_cache(maxsize=256)
def selector(preference: ReadPreference) -> Selector:
    """pymongo's selector of servers for a read preference."""
    mode = _MODES.get(preference.mode)
    if mode is None:
        return Primary()
    tag_sets = [dict(tag_set) for tag_set in preference.tag_sets] or None
    return mode(tag_sets=tag_sets, max_staleness=preference.max_staleness_seconds or -1)


def least_busy_of_two(addresses: Sequence[str], busy: Callable[[str], int]) -> str:
    """One of two servers drawn at random, that with fewer requests under way."""
    if len(addresses) == 1:
        return addresses[0]
    first, second = random.sample(addresses, 2)
    return first if busy(first) <= busy(second) else second


def rendezvous(key: bytes, addresses: Sequence[str]) -> str:
    """The server for a key: always the same while it is there, whoever asks, and all keys are spread evenly.

    When a server comes or goes, only the keys of that server move (highest random weight).
    """
    return max(addresses, key=lambda address: hashlib.sha256(key + address.encode()).digest())
