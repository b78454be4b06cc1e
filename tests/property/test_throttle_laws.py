"""LoginThrottle against a model that keeps every failure for ever and decides by looking at all of them."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from mongoguard.authn.throttle import LoginLimits, LoginThrottle
from mongoguard.model.names import UserName

USERS = [UserName(name, "admin") for name in ("alice", "bob", "carol")]
ADDRESSES = [ip_address("192.0.2.1"), ip_address("2001:db8::1"), None]
LIMITS = st.builds(
    LoginLimits,
    per_user_and_address=st.integers(0, 4),
    per_address=st.integers(0, 5),
    per_user=st.integers(0, 5),
    window_secs=st.integers(1, 20),
    block_secs=st.integers(1, 20),
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["try badly", "try well"]),
        st.sampled_from(USERS),
        st.sampled_from(ADDRESSES),
        st.integers(0, 8),
    ),
    max_size=60,
)


class Model:
    """The rule, as docs/threat-model.md tells it."""

    def __init__(self, limits: LoginLimits) -> None:
        self.limits = limits
        self.windows: dict[object, tuple[float, int]] = {}
        self.blocked: dict[object, float] = {}
        self.known: set[object] = set()

    def scopes(self, user: UserName, address: object) -> list[tuple[object, int]]:
        limits = self.limits
        own: list[tuple[object, int]] = [((user, address), limits.per_user_and_address)]
        return [*own, (("address", address), limits.per_address), (("user", user), limits.per_user)]

    def is_blocked(self, user: UserName, address: object, now: float) -> bool:
        scopes = self.scopes(user, address)
        if (user, address) in self.known:
            scopes = scopes[:1]
        return any(now < self.blocked.get(key, -1) for key, _ in scopes)

    def failed(self, user: UserName, address: object, now: float) -> None:
        for key, limit in self.scopes(user, address):
            if not limit or now < self.blocked.get(key, -1):
                continue
            if key in self.blocked:
                del self.blocked[key]
                self.windows.pop(key)
            start, count = self.windows.get(key, (now, 0))
            if now >= start + self.limits.window_secs:
                start, count = now, 0
            self.windows[key] = (start, count + 1)
            if count + 1 >= limit:
                self.blocked[key] = now + self.limits.block_secs

    def succeeded(self, user: UserName, address: object) -> None:
        self.windows.pop((user, address), None)
        self.blocked.pop((user, address), None)
        self.known.add((user, address))


@given(LIMITS, EVENTS)
def test_the_throttle_decides_as_a_model_that_forgets_nothing(limits: LoginLimits, events) -> None:
    throttle, model, now = LoginThrottle(limits), Model(limits), 1_700_000_000.0
    for what, user, address, later in events:
        now += later
        block = throttle.block(user, address, now)
        assert (block is not None) == model.is_blocked(user, address, now)
        if block is not None:
            assert 0 < block.secs <= limits.block_secs
        elif what == "try badly":
            throttle.failed(user, address, now)
            model.failed(user, address, now)
        else:
            throttle.succeeded(user, address, now)
            model.succeeded(user, address)


@given(LIMITS, EVENTS, st.lists(st.integers(-5000, 0), max_size=60))
def test_a_clock_that_is_set_back_changes_no_decision(limits: LoginLimits, events, steps) -> None:
    steady, stepping = LoginThrottle(limits), LoginThrottle(limits)
    now, shown = 1_700_000_000.0, 1_700_000_000.0
    for number, (what, user, address, later) in enumerate(events):
        now, shown = now + later, shown + later
        decisions = [steady.block(user, address, now), stepping.block(user, address, shown)]
        assert decisions[0] == decisions[1]
        if decisions[0] is None:
            for throttle, at in ((steady, now), (stepping, shown)):
                (throttle.failed if what == "try badly" else throttle.succeeded)(user, address, at)
        if number < len(steps):
            shown += steps[number]
            stepping.block(user, address, shown)
