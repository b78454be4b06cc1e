"""Counts of several processes: each has its own, and reads those of the others."""

import os
from ipaddress import ip_address

import pytest

from mongoguard.server.arrivals import MAX_ARRIVING_PER_ADDRESS, ArrivalRefused, Arrivals
from mongoguard.server.shared_counts import Count, SharedCounts, make_shared_memory

SECRET = b"s" * 32
MALLORY = ip_address("192.0.2.1")


@pytest.fixture
def memory():
    descriptor = make_shared_memory(3)
    yield descriptor
    os.close(descriptor)


def test_a_worker_sees_what_the_others_count_and_the_supervisor_all(memory):
    workers = [SharedCounts(memory, 3, number, SECRET) for number in range(3)]
    supervisor = SharedCounts(memory, 3, None, SECRET)
    for number, worker in enumerate(workers):
        worker.tell(Count.OPEN, 10**number)
    assert [worker.of(Count.OPEN) for worker in workers] == [110, 101, 11]
    assert supervisor.of(Count.OPEN) == 111
    assert supervisor.of(Count.ARRIVING) == 0
    supervisor.clear(1)
    assert workers[0].of(Count.OPEN) == 100


def test_the_limit_holds_for_all_together(memory):
    first, second = (Arrivals(5, SharedCounts(memory, 3, number, SECRET)) for number in range(2))
    held = [first.begin(), first.begin(), second.begin(), second.begin(), first.begin()]
    for arrivals in (first, second):
        with pytest.raises(ArrivalRefused, match="maxIncomingConnections"):
            arrivals.begin()
    held[0].__exit__(None, None, None)
    second.begin()


def test_an_address_may_have_so_many_on_their_way_at_all_together(memory):
    first, second = (Arrivals(65536, SharedCounts(memory, 3, number, SECRET)) for number in range(2))
    held = []
    for number in range(MAX_ARRIVING_PER_ADDRESS):
        held.append((first, second)[number % 2].begin())
        held[-1].come_from(MALLORY)
    for arrivals in (first, second):
        with pytest.raises(ArrivalRefused, match="have sent no message"):
            arrivals.begin().come_from(MALLORY)
        arrivals.begin().come_from(ip_address("192.0.2.2"))
    held[0].arrived()
    second.begin().come_from(MALLORY)


def test_what_a_worker_held_that_has_ended_is_free(memory):
    supervisor = SharedCounts(memory, 3, None, SECRET)
    first, second = (Arrivals(2, SharedCounts(memory, 3, number, SECRET)) for number in range(2))
    for _ in range(2):
        first.begin().come_from(MALLORY)
    supervisor.clear(0)
    second.begin()
    assert second.of_address(b"\xc0\0\2\1") == 0


def test_what_a_worker_has_done_stays_done_when_it_ends(memory):
    supervisor = SharedCounts(memory, 3, None, SECRET)
    for _ in range(2):
        worker = SharedCounts(memory, 3, 1, SECRET)
        for count in Count:
            worker.tell(count, 7)
        supervisor.clear(1)
    done = {Count.ACCEPTED, Count.RELAYED, Count.REFUSED}
    assert {count: supervisor.of(count) for count in Count} == {
        count: 14 * (count in done) for count in Count
    }
