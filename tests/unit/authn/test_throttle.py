from ipaddress import ip_address

import pytest

from mongoguard.authn import throttle as module
from mongoguard.authn.throttle import Block, LoginLimits, LoginThrottle
from mongoguard.model.names import UserName

LIMITS = LoginLimits(per_user_and_address=3, per_address=5, per_user=7, window_secs=60, block_secs=100)
NOW = 1_700_000_000.0
ALICE, BOB = UserName("alice", "admin"), UserName("bob", "admin")
PAIR, ADDRESS, USER = "this user from this address", "this address", "this user"


def host(number):
    return ip_address(f"192.0.2.{number}")


HOME = host(1)


class Clock:
    """A throttle, and the time that a test lets pass."""

    def __init__(self, limits=LIMITS):
        self.throttle = LoginThrottle(limits)
        self.now = NOW

    def fail(self, user=ALICE, address=HOME, times=1):
        for _ in range(times):
            self.throttle.failed(user, address, self.now)

    def succeed(self, user=ALICE, address=HOME):
        self.throttle.succeeded(user, address, self.now)

    def scope(self, user=ALICE, address=HOME):
        block = self.throttle.block(user, address, self.now)
        return None if block is None else block.scope

    def secs(self, user=ALICE, address=HOME):
        block = self.throttle.block(user, address, self.now)
        return 0 if block is None else block.secs


@pytest.fixture
def clock():
    return Clock()


def test_the_failure_that_reaches_the_limit_blocks_and_the_one_before_does_not(clock):
    clock.fail(times=2)
    assert clock.scope() is None
    clock.fail()
    assert clock.throttle.block(ALICE, HOME, clock.now) == Block(PAIR, 100)


def test_a_pairs_block_is_about_neither_the_users_other_addresses_nor_the_addresses_other_users(clock):
    clock.fail(times=3)
    assert clock.scope() == PAIR
    assert clock.scope(address=host(2)) is None
    assert clock.scope(user=BOB) is None
    assert clock.scope(user=UserName("alice", "shop")) is None


def test_a_block_ends_with_its_time_and_counting_begins_anew(clock):
    clock.fail(times=3)
    clock.now += 99.5
    assert clock.secs() == pytest.approx(0.5)
    clock.now += 0.5
    assert clock.scope() is None
    clock.fail(times=2)
    assert clock.scope() is None
    clock.fail()
    assert clock.scope() == PAIR


def test_failures_before_the_window_do_not_count(clock):
    clock.fail(times=2)
    clock.now += 60
    clock.fail(times=2)
    assert clock.scope() is None


def test_failures_within_the_window_count_from_its_first(clock):
    clock.fail()
    clock.now += 59
    clock.fail(times=2)
    assert clock.secs() == 100


def test_failures_that_come_in_late_do_not_prolong_a_block(clock):
    clock.fail(times=3)
    clock.now += 50
    clock.fail()
    assert clock.secs() == 50


def test_a_login_clears_the_pairs_failures(clock):
    clock.fail(times=2)
    clock.succeed()
    clock.fail(times=2)
    assert clock.scope() is None


def test_spraying_many_users_blocks_the_address_for_users_that_have_not_failed_too(clock):
    for number in range(5):
        clock.fail(UserName(f"user{number}", "admin"))
    assert clock.scope(BOB) == ADDRESS
    assert clock.scope(BOB, host(2)) is None


def test_a_valid_account_does_not_buy_guesses_at_others(clock):
    """Two guesses, one good login of one's own, two guesses ...: the address's count is not cleared by it."""
    mallory = UserName("mallory", "admin")
    for number in range(5):
        clock.fail(UserName(f"user{number}", "admin"))
        clock.succeed(mallory)
    assert clock.scope(BOB) == ADDRESS


def test_guesses_from_many_addresses_block_the_user_at_an_address_that_nobody_knows(clock):
    for number in range(2, 9):
        clock.fail(ALICE, host(number))
    assert clock.scope(ALICE, host(9)) == USER
    assert clock.scope(BOB, host(9)) is None


def test_guesses_from_many_addresses_do_not_lock_a_user_out_of_where_the_user_has_logged_in(clock):
    clock.succeed(ALICE, HOME)
    for number in range(2, 9):
        clock.fail(ALICE, host(number))
    assert clock.scope(ALICE, host(9)) == USER
    assert clock.scope(ALICE, HOME) is None


def test_spraying_does_not_lock_users_out_of_an_address_that_they_share_with_the_attacker(clock):
    clock.succeed(ALICE, HOME)
    for number in range(5):
        clock.fail(UserName(f"user{number}", "admin"))
    assert clock.scope(ALICE) is None
    assert clock.scope(BOB) == ADDRESS


def test_a_known_address_is_bound_by_its_own_failures(clock):
    clock.succeed()
    clock.fail(times=3)
    assert clock.scope() == PAIR


def test_a_login_vouches_for_an_address_for_a_week(clock):
    clock.succeed()
    clock.now += module.KNOWN_SECS
    for number in range(2, 9):
        clock.fail(ALICE, host(number))
    assert clock.scope() == USER


def test_the_longest_of_several_blocks_is_told(clock):
    clock.fail(times=3)
    clock.now += 10
    for number in range(4):
        clock.fail(UserName(f"user{number}", "admin"))
    assert clock.throttle.block(ALICE, HOME, clock.now) == Block(ADDRESS, 100)


def test_a_failure_without_a_name_counts_for_the_address_alone(clock):
    nobody = UserName("", "admin")
    clock.fail(nobody, times=5)
    assert clock.scope(BOB) == ADDRESS
    assert clock.scope(nobody, host(2)) is None


@pytest.mark.parametrize(
    ("limits", "scope"),
    [
        (LoginLimits(per_user_and_address=0, per_address=3, per_user=0), ADDRESS),
        (LoginLimits(per_user_and_address=0, per_address=0, per_user=3), USER),
        (LoginLimits(per_user_and_address=3, per_address=0, per_user=0), PAIR),
        (LoginLimits(per_user_and_address=0, per_address=0, per_user=0), None),
    ],
)
def test_each_count_is_switched_off_by_zero(limits, scope):
    clock = Clock(limits)
    clock.fail(times=2)
    assert clock.scope() is None
    clock.fail(times=1000)
    assert clock.scope() == scope


def test_a_limit_of_one_blocks_at_the_first_failure():
    clock = Clock(LoginLimits(per_user_and_address=1))
    assert clock.scope() is None
    clock.fail()
    assert clock.scope() == PAIR


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("117.110.105.120", None, False),
        ("0.0.0.0", "::", False),
        (None, None, True),
    ],
)
def test_an_address_counts_with_its_64_and_unix_sockets_are_one(one, other, same, clock):
    one, other = (None if text is None else ip_address(text) for text in (one, other))
    clock.fail(address=one, times=3)
    assert clock.scope(address=one) == PAIR
    assert (clock.scope(address=other) == PAIR) is same


@pytest.mark.parametrize(
    "spelling",
    ["ALICE", "Alice", " alice ", "al ice", "alic\u00e9", "\uff41lice", "al\u00adice", "\u200dalice"],
)
def test_spellings_that_a_directory_takes_for_one_user_share_a_count(clock, spelling):
    for name in ("alice", spelling, "alice"):
        clock.fail(UserName(name, "$external"))
    assert clock.scope(UserName(spelling, "$external")) == PAIR


def test_names_that_differ_in_a_letter_do_not(clock):
    clock.fail(UserName("alice", "$external"), times=3)
    assert clock.scope(UserName("alicf", "$external")) is None


def test_a_name_and_a_database_can_not_be_shifted_into_one_another(clock):
    clock.fail(UserName("b", "a\0"), times=3)
    assert clock.scope(UserName("\0b", "a")) is None


def test_names_that_are_no_text_are_counted_too(clock):
    clock.fail(UserName("\udc80", "admin"), times=3)
    assert clock.scope(UserName("\udc80", "admin")) == PAIR


# ---- clocks ---------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_prolongs_no_block(clock):
    clock.fail(times=3)
    clock.now -= 3600
    assert clock.secs() == 100
    clock.now += 100
    assert clock.scope() is None


def test_a_clock_that_is_set_back_does_not_begin_a_window_anew(clock):
    clock.fail(times=2)
    clock.now -= 3600
    clock.fail()
    assert clock.scope() == PAIR


def test_a_clock_that_is_set_forward_ends_a_block_once_and_for_no_other(clock):
    clock.fail(times=3)
    clock.now += 3600
    assert clock.scope() is None
    clock.fail(times=3)
    assert clock.secs() == 100


# ---- memory ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(module, "MAX_TRACKED", 8)
    monkeypatch.setattr(module, "MAX_KNOWN", 6)
    monkeypatch.setattr(module, "MAX_KNOWN_PER_USER", 3)
    return Clock(
        LoginLimits(per_user_and_address=3, per_address=0, per_user=0, window_secs=60, block_secs=100)
    )


def tables(clock):
    throttle = clock.throttle
    return [len(table) for table in (throttle._by_pair, throttle._by_address, throttle._by_user)]


def test_strangers_long_and_many_names_take_bounded_memory(clock):
    for number in range(3000):
        clock.fail(UserName(f"{number}" * 50, "x" * 10_000), host(number % 250))
    assert max(tables(clock)) <= module.MAX_TRACKED
    table = clock.throttle._by_pair
    assert {len(key) for level in table._levels for key in level} == {20}


def test_a_full_table_forgets_what_failed_least_and_so_never_what_is_blocked(small):
    small.fail(ALICE, times=3)
    small.fail(BOB, times=2)
    for number in range(1000):
        small.fail(UserName(f"user{number}", "admin"))
    assert max(tables(small)) == 8
    assert small.scope(ALICE) == PAIR, "who is blocked stays so"
    small.fail(BOB)
    assert small.scope(BOB) == PAIR, "who has failed twice is not forgotten for those who failed once"


def test_a_full_table_of_blocks_still_takes_the_next(small):
    for number in range(20):
        small.fail(UserName(f"user{number}", "admin"), times=3)
    assert max(tables(small)) == 8
    assert small.scope(UserName("user19", "admin")) == PAIR
    assert small.scope(UserName("user0", "admin")) is None


def test_what_does_not_count_any_more_makes_room_first(small):
    for number in range(8):
        small.fail(UserName(f"old{number}", "admin"), times=3)
    small.now += 50
    small.throttle._by_pair.forget(next(iter(small.throttle._by_pair._levels[-1])))
    small.fail(BOB)
    small.now += 50
    small.fail(ALICE)
    small.fail(BOB, times=2)
    assert small.scope(BOB) == PAIR


def test_one_user_can_not_push_out_the_known_addresses_of_others():
    clock = Clock(LoginLimits(per_user_and_address=0, per_address=0, per_user=1))
    clock.succeed(ALICE, HOME)
    for number in range(module.MAX_KNOWN_PER_USER * 2):
        clock.succeed(BOB, ip_address(0x0A000000 + number))
    clock.fail(ALICE, host(9))
    assert clock.scope(ALICE, HOME) is None
    assert len(clock.throttle._known) == module.MAX_KNOWN_PER_USER + 1


def test_known_addresses_are_bounded_and_the_latest_are_kept(small):
    for number in range(20):
        small.succeed(UserName(f"user{number}", "admin"), HOME)
        small.succeed(UserName(f"user{number}", "admin"), HOME)
    known = small.throttle._known
    assert len(known) == sum(map(len, known._users.values())) == 6
    assert len(known._users) == 6, "no user is kept without an address"
    for number in range(20):
        small.succeed(ALICE, host(number))
    assert len(known._users[next(reversed(known._users))]) == 3
