"""LoginThrottle: how many failed logins are borne, before logins are refused for a while.

In: who failed, from where, when; who logged in. Out: whether logins are blocked now, and for how long. Must not know
mechanisms, sessions or clocks: time is passed in, in seconds since the epoch.

Failures are counted by user and address, by address, and by user over all addresses. Three rules keep the counts from
becoming a weapon (docs/threat-model.md has the reasons):

* who has logged in from an address is bound there by the first count alone, so nobody can lock a user out of where
  the user works;
* an attempt that is refused because of a block counts nowhere, so no block is prolonged from outside;
* a login clears the first count alone, so a valid account buys no guesses at others.

Memory is bounded. A full table forgets what has the fewest failures (by their order of magnitude), the oldest first: to
make it forget k failures, somebody has to fail more than k / 2 times under each of `MAX_TRACKED` other keys first.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import OrderedDict
from dataclasses import dataclass

from mongoguard.model.names import UserName
from mongoguard.model.restriction import Address

__all__ = [
    "MAX_KNOWN",
    "MAX_KNOWN_PER_USER",
    "MAX_TRACKED",
    "Block",
    "LoginLimits",
    "LoginThrottle",
    "address_key",
]

MAX_TRACKED = 16_384
"""Keys with failures that each of the three tables remembers: 5 MB a table."""
MAX_KNOWN = 32_768
"""Pairs of user and address that are remembered for a login: 20 MB. Nobody gets in here without a credential."""
MAX_KNOWN_PER_USER = 1_024
"""Addresses of one user among them, so that no user can push out those of the others. A fleet has some hundred."""
KNOWN_SECS = 7 * 24 * 3600
"""How long a login vouches for a pair: over a weekend and a holiday, not until the address belongs to somebody else."""
MAX_NAME = 512
"""Characters of a name that are looked at: normalizing is work (one can become 18), and a stranger chooses the name."""
IPV6_PREFIX_BYTES = 8
"""A /64 is what one customer, or one host, gets: within it a client has as many addresses as it likes."""


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """How many failures within `window_secs` block logins for `block_secs`; a count of 0 is never reached."""

    per_user_and_address: int = 50
    per_address: int = 500
    per_user: int = 1_000
    window_secs: float = 600.0
    block_secs: float = 600.0


@dataclass(frozen=True, slots=True)
class Block:
    """Logins are refused for `secs` more, because of the failures that `scope` names."""

    scope: str
    secs: float


class LoginThrottle:
    """The failed logins of one process."""

    __slots__ = ("_by_address", "_by_pair", "_by_user", "_elapsed", "_known", "_last")

    def __init__(self, limits: LoginLimits) -> None:
        """Nobody has failed yet."""
        window, block = limits.window_secs, limits.block_secs
        self._by_pair = _FailureTable(limits.per_user_and_address, window, block)
        self._by_address = _FailureTable(limits.per_address, window, block)
        self._by_user = _FailureTable(limits.per_user, window, block)
        self._known = _KnownPairs()
        self._elapsed = 0.0
        self._last: float | None = None

    def change(self, limits: LoginLimits) -> None:
        """Other limits from now on, for what has been counted too. Blocks and windows that run keep their end."""
        window, block = limits.window_secs, limits.block_secs
        self._by_pair = self._by_pair.with_limits(limits.per_user_and_address, window, block)
        self._by_address = self._by_address.with_limits(limits.per_address, window, block)
        self._by_user = self._by_user.with_limits(limits.per_user, window, block)

    def block(self, user: UserName, address: Address | None, now: float) -> Block | None:
        """The block that a login of `user` from `address` meets (None: a Unix socket); None when it meets none."""
        at = self._at(now)
        if not (self._by_pair.any_blocked or self._by_address.any_blocked or self._by_user.any_blocked):
            return None  # of nobody: it need not be found out who this is
        who, where = _user_key(user), address_key(address)
        blocks = [Block("this user from this address", self._by_pair.blocked_for(who + where, at))]
        if not self._known.holds(who, where, at):
            blocks.append(Block("this address", self._by_address.blocked_for(where, at)))
            blocks.append(Block("this user", self._by_user.blocked_for(who, at)))
        longest = max(blocks, key=lambda block: block.secs)
        return longest if longest.secs > 0 else None

    def failed(self, user: UserName, address: Address | None, now: float) -> None:
        """Somebody did not prove to be `user`. Attempts that met a block must not be told."""
        at, where = self._at(now), address_key(address)
        self._by_address.add(where, at)
        if user.user:  # otherwise the client did not get as far as a name
            who = _user_key(user)
            self._by_pair.add(who + where, at)
            self._by_user.add(who, at)

    def succeeded(self, user: UserName, address: Address | None, now: float) -> None:
        """`user` has logged in from `address`."""
        at, who, where = self._at(now), _user_key(user), address_key(address)
        self._by_pair.forget(who + where)
        self._known.add(who, where, at)

    def _at(self, now: float) -> float:
        """Seconds that have passed, by a clock that may be set back: then no block is longer for it.

        One that is set forward ends blocks early, once; nobody who may do that needs to guess passwords.
        """
        if self._last is not None:
            self._elapsed += max(0.0, now - self._last)
        self._last = now
        return self._elapsed


@dataclass(slots=True)
class _Failures:
    """`until` is when they are forgotten: the end of the window, or of the block."""

    count: int
    until: float


class _FailureTable:
    """Counts by key. `_levels[n]` holds counts of n + 1 bits and the last one what is blocked, each oldest first."""

    __slots__ = ("_block_secs", "_levels", "_limit", "_window_secs")

    def __init__(self, limit: int, window_secs: float, block_secs: float) -> None:
        self._limit = limit
        self._window_secs = window_secs
        self._block_secs = block_secs
        self._levels: list[OrderedDict[bytes, _Failures]] = [
            OrderedDict() for _ in range(limit.bit_length() + 1)
        ]

    def __len__(self) -> int:
        return sum(map(len, self._levels))

    def with_limits(self, limit: int, window_secs: float, block_secs: float) -> _FailureTable:
        """A table with the same failures; a limit of 0 forgets them."""
        table = _FailureTable(limit, window_secs, block_secs)
        if limit:
            for level in self._levels:
                for key, failures in level.items():
                    table._put(key, failures)
        return table

    def _put(self, key: bytes, failures: _Failures) -> None:
        blocked = failures.count >= self._limit
        self._levels[-1 if blocked else failures.count.bit_length() - 1][key] = failures

    @property
    def any_blocked(self) -> bool:
        """Whether any key is blocked, or was and has not been forgotten since."""
        return bool(self._levels[-1])

    def blocked_for(self, key: bytes, at: float) -> float:
        """Seconds; 0 when the key is not blocked."""
        failures = self._levels[-1].get(key)
        return 0.0 if failures is None else max(0.0, failures.until - at)

    def add(self, key: bytes, at: float) -> None:
        if not self._limit or self.blocked_for(key, at):
            return
        failures = self.forget(key)
        if failures is None or failures.until <= at:
            failures = _Failures(0, at + self._window_secs)
        failures.count += 1
        if failures.count >= self._limit:
            failures.until = at + self._block_secs
        if len(self) >= MAX_TRACKED:
            self._make_room(at)
        self._put(key, failures)

    def forget(self, key: bytes) -> _Failures | None:
        for level in self._levels:
            failures = level.pop(key, None)
            if failures is not None:
                return failures
        return None

    def _make_room(self, at: float) -> None:
        """Drop what does not count any more, or else what counts least."""
        filled = [level for level in self._levels if level]
        for level in filled:
            key, failures = next(iter(level.items()))
            if failures.until <= at:
                del level[key]
                return
        filled[0].popitem(last=False)


class _KnownPairs:
    """From which addresses users have logged in. The user who did last, and each user's latest address, come last."""

    __slots__ = ("_count", "_users")

    def __init__(self) -> None:
        self._users: OrderedDict[bytes, OrderedDict[bytes, float]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def holds(self, who: bytes, where: bytes, at: float) -> bool:
        addresses = self._users.get(who)
        return addresses is not None and at - addresses.get(where, -KNOWN_SECS) < KNOWN_SECS

    def add(self, who: bytes, where: bytes, at: float) -> None:
        addresses = self._users.setdefault(who, OrderedDict())
        self._users.move_to_end(who)
        self._count -= addresses.pop(where, None) is not None
        if len(addresses) >= MAX_KNOWN_PER_USER:
            self._drop_oldest(who)
        elif self._count >= MAX_KNOWN:
            self._drop_oldest(next(iter(self._users)))
        addresses[where] = at
        self._count += 1

    def _drop_oldest(self, who: bytes) -> None:
        addresses = self._users[who]
        addresses.popitem(last=False)
        self._count -= 1
        if not addresses:
            del self._users[who]


def _user_key(user: UserName) -> bytes:
    """Short, however long the name; and the same for spellings that a directory may take for one user.

    LDAP compares names without regard to case and spaces, Active Directory without regard to accents too: each spelling
    would have a count of its own. That users of SCRAM whose names differ in nothing else share a count hurts nobody.
    """
    name = user.user[:MAX_NAME]
    if not name.isascii():
        decomposed = unicodedata.normalize("NFKD", name)[:MAX_NAME]
        name = "".join(character for character in decomposed if not _is_passed_over(character))
    folded = "".join(name.split()).casefold()
    db = user.db[:MAX_NAME]
    identity = f"{len(db)} {db}{folded}".encode(errors="surrogatepass")
    return hashlib.blake2b(identity, digest_size=16).digest()


def _is_passed_over(character: str) -> bool:
    """Accents, and what nobody sees: soft hyphens, joiners, marks of direction, which RFC 4518 maps to nothing."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf", "Cc")


def address_key(address: Address | None) -> bytes:
    """What clients are told apart by. All clients of Unix sockets are one: they have no address."""
    if address is None:
        return b""
    if address.version == 4:
        return address.packed
    mapped = address.ipv4_mapped
    return address.packed[:IPV6_PREFIX_BYTES] if mapped is None else mapped.packed
