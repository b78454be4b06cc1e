"""Shared counts: what every worker process counts for itself, where the others can read it.

In: one piece of memory that all workers of a supervisor map, and which part of it is one's own. Out: sums. Must not
know what is counted. Each word has one writer, so nothing is locked; a sum may be as old as the time that it takes to
read. The part of a worker that has ended is cleared by the supervisor.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

__all__ = [
    "Count",
    "CountsElsewhere",
    "NothingElsewhere",
    "SharedCounts",
    "make_shared_memory",
    "tell_status",
]

log = logging.getLogger(__name__)

WORD_BYTES = 8
ADDRESS_BYTES = 2
ADDRESSES = 65_536
"""Places for addresses; two share one by chance (the key is secret), which lets one of them in later in a flood."""


class Count(IntEnum):
    """The words of a worker's part. Some say how much there is now, some how much there was since its start."""

    OPEN = 0
    """Connections."""
    ARRIVING = 1
    """Those of them without a first message."""
    ACCEPTED = 2
    """Connections since the start."""
    CURSORS = 3
    RELAYED = 4
    """Requests that the upstream has answered, mongoguard's own too."""
    REFUSED = 5
    """Commands that the user's rights did not allow."""


_SINCE_START = (Count.ACCEPTED, Count.RELAYED, Count.REFUSED)
_WORDS = 8
_PART_BYTES = _WORDS * WORD_BYTES + ADDRESSES * ADDRESS_BYTES


class CountsElsewhere(Protocol):
    """What other workers count, and where one's own counts are told to them."""

    others: int
    """How many there are."""

    def of(self, count: Count) -> int:
        """The sum over the others."""

    def of_address(self, key: bytes) -> int:
        """The connections of that address on their way at the others."""

    def tell(self, count: Count, value: int) -> None:
        """One's own count."""

    def tell_address(self, key: bytes, change: int) -> None:
        """One's own count for that address has changed by so much."""


class NothingElsewhere:
    """For the only process of a server."""

    others = 0

    def of(self, _count: Count) -> int:
        """See `CountsElsewhere`."""
        return 0

    def of_address(self, _key: bytes) -> int:
        """See `CountsElsewhere`."""
        return 0

    def tell(self, count: Count, value: int) -> None:
        """Nobody listens."""

    def tell_address(self, key: bytes, change: int) -> None:
        """Nobody listens."""


def tell_status(workers: int, of: Callable[[Count], int]) -> None:
    """Say in the log how much there is to do."""
    counts = {count.name.lower(): of(count) for count in Count}
    log.info("status", extra={"attr": {"workers": workers, **counts}})


def make_shared_memory(workers: int) -> int:
    """A file descriptor of memory for so many workers, all zero; it is the caller's to close."""
    descriptor = os.memfd_create("mongoguard counts", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, workers * _PART_BYTES)
    return descriptor


class SharedCounts:
    """The memory, as the worker of number `own` sees it (None: the supervisor). `secret` is the same in all."""

    def __init__(self, descriptor: int, workers: int, own: int | None, secret: bytes) -> None:
        """Map it."""
        self._memory = memoryview(mmap.mmap(descriptor, workers * _PART_BYTES))
        self._secret = secret
        parts = [self._memory[n * _PART_BYTES : (n + 1) * _PART_BYTES] for n in range(workers)]
        self._words = [part[: _WORDS * WORD_BYTES].cast("q") for part in parts]
        self._addresses = [part[_WORDS * WORD_BYTES :].cast("H") for part in parts]
        self._own = own
        self._of_ended = dict.fromkeys(Count, 0)
        """What workers had done that have ended: who reads the sums takes the server's start for theirs."""
        self._others = [number for number in range(workers) if number != own]
        self.others = len(self._others)

    def of(self, count: Count) -> int:
        """See `CountsElsewhere`."""
        return self._of_ended[count] + sum(self._words[number][count] for number in self._others)

    def of_address(self, key: bytes) -> int:
        """See `CountsElsewhere`."""
        place = self._place(key)
        return sum(self._addresses[number][place] for number in self._others)

    def tell(self, count: Count, value: int) -> None:
        """See `CountsElsewhere`."""
        assert self._own is not None  # the supervisor counts nothing
        self._words[self._own][count] = value

    def tell_address(self, key: bytes, change: int) -> None:
        """See `CountsElsewhere`."""
        assert self._own is not None  # the supervisor counts nothing
        self._addresses[self._own][self._place(key)] += change

    def clear(self, number: int) -> None:
        """That worker has ended, and holds nothing any more; what it has done is done."""
        for count in _SINCE_START:
            self._of_ended[count] += self._words[number][count]
        self._memory[number * _PART_BYTES : (number + 1) * _PART_BYTES] = bytes(_PART_BYTES)

    def _place(self, key: bytes) -> int:
        return int.from_bytes(hashlib.blake2b(key, digest_size=2, key=self._secret).digest(), "little")
