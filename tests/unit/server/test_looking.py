"""Looking or sleeping: whichever was faster lately, and the other one tried now and then."""

from mongoguard.server.looking import SOON_SECS, TRIED_EVERY, Looking


def after(
    looking_secs: float, sleeping_secs: float, requests: int = 40 * TRIED_EVERY
) -> tuple[Looking, float]:
    """What has seen so many requests, and which share of the last ones it looked for."""
    looking, looked = Looking(), 0
    for number in range(requests):
        is_next = looking.is_next()
        looking.took(is_next, looking_secs if is_next else sleeping_secs)
        looked += is_next and number >= requests // 2
    return looking, looked / (requests // 2)


def test_who_gains_by_looking_looks_nearly_always():
    _, share = after(looking_secs=0.0001, sleeping_secs=0.00015)
    assert 1 - 2 / TRIED_EVERY < share < 1


def test_who_loses_by_looking_sleeps_nearly_always_and_goes_on_trying():
    looking, share = after(looking_secs=0.0003, sleeping_secs=0.0002)
    assert 0 < share < 2 / TRIED_EVERY
    for _ in range(40 * TRIED_EVERY):
        looking.took(is_next := looking.is_next(), 0.0001 if is_next else 0.0002)
    assert looking.is_next()
    assert looking.is_next()


def test_replies_that_take_long_are_never_looked_for():
    _, share = after(looking_secs=0.001, sleeping_secs=4 * SOON_SECS)
    assert share == 0


def test_it_begins_with_sleeping():
    assert not Looking().is_next()
