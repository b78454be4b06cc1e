"""Choosing one of several servers."""

from collections import Counter

import pytest
from pymongo.read_preferences import Nearest, Primary, PrimaryPreferred, Secondary, SecondaryPreferred

from mongoguard.command.read_preference import ReadPreference, ReadPreferenceMode
from mongoguard.server.server_selection import least_busy_of_two, rendezvous, selector

SERVERS = [f"h:{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (ReadPreferenceMode.PRIMARY, Primary),
        (ReadPreferenceMode.PRIMARY_PREFERRED, PrimaryPreferred),
        (ReadPreferenceMode.SECONDARY, Secondary),
        (ReadPreferenceMode.SECONDARY_PREFERRED, SecondaryPreferred),
        (ReadPreferenceMode.NEAREST, Nearest),
    ],
)
def test_a_read_preference_becomes_pymongos(mode, kind):
    assert type(selector(ReadPreference(mode))) is kind


def test_tags_and_staleness_are_handed_over():
    found = selector(ReadPreference(ReadPreferenceMode.SECONDARY, ((("dc", "east"),), ()), 120))
    assert found.tag_sets == [{"dc": "east"}, {}]
    assert found.max_staleness == 120


def test_the_less_busy_of_two_is_taken_and_the_busiest_of_all_never():
    busy = {server: number for number, server in enumerate(SERVERS)}
    drawn = Counter(least_busy_of_two(SERVERS, busy.__getitem__) for _ in range(2000))
    assert SERVERS[-1] not in drawn
    assert drawn[SERVERS[0]] > drawn[SERVERS[3]] > 0
    assert least_busy_of_two(["h:1"], busy.__getitem__) == "h:1"


def test_a_key_has_one_server_whatever_the_order_they_are_known_in():
    keys = [number.to_bytes(16, "big") for number in range(500)]
    chosen = [rendezvous(key, SERVERS) for key in keys]
    assert chosen == [rendezvous(key, SERVERS[::-1]) for key in keys]
    assert min(Counter(chosen).values()) > 60, "keys are spread"


def test_only_the_keys_of_a_server_that_left_move():
    keys = [number.to_bytes(16, "big") for number in range(500)]
    left = SERVERS[1:]
    for key in keys:
        before, after = rendezvous(key, SERVERS), rendezvous(key, left)
        assert after == before or before == SERVERS[0]
