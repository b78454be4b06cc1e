"""Arrivals: how many connections there may be, and how many of them that have not sent their first message.

In: each accepted connection; where it comes from, as that becomes known; its first message; its end. Out: a place for
it, or `ArrivalRefused`. Must not know sockets, TLS or sessions.

A connection that has sent nothing costs its client next to nothing, and mongoguard as much as a TLS handshake that is
half done holds. So there may be fewer of them than of those that are served; and fewer of one address, or else one host
would keep all others from arriving. Whoever is served notices neither bound.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from types import TracebackType

import trio

from mongoguard.authn.throttle import address_key
from mongoguard.errors import GuardError
from mongoguard.model.restriction import Address
from mongoguard.server.shared_counts import Count, CountsElsewhere, NothingElsewhere

__all__ = [
    "HESITATE_SECS",
    "MAX_ARRIVING",
    "MAX_ARRIVING_PER_ADDRESS",
    "TELL_SECS",
    "Arrival",
    "ArrivalRefused",
    "Arrivals",
]

log = logging.getLogger(__name__)

MAX_ARRIVING = 4_096
"""A handshake that is half done holds 43 KB: 176 MB in all. Honest ones end within some round trips."""

MAX_ARRIVING_PER_ADDRESS = 1_024
"""Drivers open two connections of a pool at a time (maxConnecting), and two for their monitors: 256 clients behind one
address may begin at the same instant, as they do when a server has failed, and four such addresses."""

HESITATE_SECS = 0.001
"""A worker that is woken by the same connection takes it within some tens of µs if it has nothing else to do. Nobody
waits for one that has ended or hangs."""

TELL_SECS = 10
"""How often the log tells of refused connections: whoever floods the listener must not flood the log, too."""


class ArrivalRefused(GuardError):
    """There is no place for a connection; the text says why, for the log."""


class Arrival:
    """One connection's place, given back when the block ends. Nobody knows yet where it comes from."""

    __slots__ = ("_arrivals", "_has_arrived", "_key")

    def __init__(self, arrivals: Arrivals) -> None:
        """For `Arrivals.begin` alone."""
        self._arrivals = arrivals
        self._key: bytes | None = None
        self._has_arrived = False

    def come_from(self, address: Address | None) -> None:
        """Count it for that address (None: a Unix socket) and no longer for one before. Raises `ArrivalRefused`."""
        key = address_key(address)
        if key == self._key:
            return
        if self._arrivals.of_address(key) >= MAX_ARRIVING_PER_ADDRESS:
            raise ArrivalRefused(
                f"{MAX_ARRIVING_PER_ADDRESS} connections of {address}, or its /64, have sent no message"
            )
        self._forget_address()
        self._arrivals.count_address(key, 1)
        self._key = key

    def arrived(self) -> None:
        """Its first message has come, or will not."""
        if not self._has_arrived:
            self._has_arrived = True
            self._arrivals.count(arriving=-1)
            self._forget_address()

    def _forget_address(self) -> None:
        if self._key is not None:
            self._arrivals.count_address(self._key, -1)
            self._key = None

    def __enter__(self) -> Arrival:
        """Hold the place."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the place back: the connection has ended."""
        self.arrived()
        self._arrivals.count(open_=-1)


class Arrivals:
    """The connections of one process: `open`, those `arriving` among them, and these `by_address`.

    The bounds hold for all worker processes together: those of the others are `elsewhere`.
    """

    def __init__(
        self, max_open: int, elsewhere: CountsElsewhere | None = None, max_here: float = math.inf
    ) -> None:
        """There are none; `max_open` is net.maxIncomingConnections, and may be changed.

        `max_here`: how many this process has room for, whatever there are elsewhere.
        """
        self.open = 0
        self.arriving = 0
        self.by_address: Counter[bytes] = Counter()
        self.max_open = max_open
        self._max_here = max_here
        self._elsewhere = elsewhere or NothingElsewhere()
        self._refused = 0
        self._told_at = -math.inf

    def begin(self) -> Arrival:
        """A place for an accepted connection; it must be entered as a context. Raises `ArrivalRefused`."""
        if self.open + self._elsewhere.of(Count.OPEN) >= self.max_open:
            raise ArrivalRefused("net.maxIncomingConnections is reached")
        if self.open >= self._max_here:
            raise ArrivalRefused("the limit of open files (ulimit -n) leaves no room for more clients")
        if self.arriving + self._elsewhere.of(Count.ARRIVING) >= MAX_ARRIVING:
            raise ArrivalRefused(f"{MAX_ARRIVING} connections have sent no message")
        self.count(open_=1, arriving=1)
        return Arrival(self)

    def hesitation_secs(self) -> float:
        """How long other workers may take a waiting connection first, because they have fewer: 0 if they have not."""
        others = self._elsewhere.others
        return HESITATE_SECS if self.open * others > self._elsewhere.of(Count.OPEN) + others else 0.0

    def count(self, *, open_: int = 0, arriving: int = 0) -> None:
        """There are so many more, or less."""
        self.open += open_
        self.arriving += arriving
        self._elsewhere.tell(Count.OPEN, self.open)
        self._elsewhere.tell(Count.ARRIVING, self.arriving)

    def count_address(self, key: bytes, change: int) -> None:
        """There are so many more, or less, of that address on their way."""
        self.by_address[key] += change
        if not self.by_address[key]:
            del self.by_address[key]
        self._elsewhere.tell_address(key, change)

    def of_address(self, key: bytes) -> int:
        """How many of that address are on their way."""
        return self.by_address[key] + self._elsewhere.of_address(key)

    def tell(self, refused: ArrivalRefused) -> None:
        """Log a refusal, every `TELL_SECS` at most, and then how many there were."""
        self._refused += 1
        now = trio.current_time()
        if now - self._told_at >= TELL_SECS:
            log.warning("%s: a connection is refused (%d since the last time)", refused, self._refused)
            self._refused, self._told_at = 0, now
