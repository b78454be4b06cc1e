"""Looking: whether to look for a reply all the time until it comes, or to sleep until then.

In: how long replies took, either way. Out: which way is to be taken next. Must not know sockets.

Falling asleep and being woken takes a CPU some 20 µs, which is a fifth of a point read; but where there is no CPU to
spare, looking takes away the very one that the server needs. Neither can be known, so both are tried.
"""

from __future__ import annotations

__all__ = ["Looking"]

TRIED_EVERY = 32
"""One request of so many goes the way that was slower lately."""

SHARE = 1 / 16
"""What one request counts in the usual time."""

SOON_SECS = 0.0003
"""Looking is for replies that take no longer: a point read takes a server 0.1 ms."""


MAX_USUAL_SECS = 2 * SOON_SECS
"""Where sleeping takes longer than this, looking would end without a reply, and sleeping come after it."""


class Looking:
    """What one process knows of both ways, of requests that were the only one under way."""

    __slots__ = ("_requests", "_usual_secs")

    def __init__(self) -> None:
        """Nothing yet: begin with sleeping."""
        self._requests = 0
        self._usual_secs = [0.0, 0.0]  # sleeping, looking

    def is_next(self) -> bool:
        """Whether to look for the next reply."""
        sleeping, looking = self._usual_secs
        self._requests += 1
        if sleeping > MAX_USUAL_SECS:
            return False
        if self._requests % TRIED_EVERY == 0:
            return sleeping <= looking
        return looking < sleeping

    def took(self, looked: bool, secs: float) -> None:
        """A reply came so long after its request."""
        usual = self._usual_secs[looked]
        self._usual_secs[looked] = usual + (secs - usual) * SHARE if usual else secs
