"""A storm: clients at work, one fault after the other, and afterwards a look at what is left.

In: a deployment, faults, a seed, and for how long. Out: a `StormReport`, which `verdict` judges. The same seed gives the
same faults in the same order and the same operations of each client; what they meet there, only the machine knows.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.chaos.clients import ClientProcess
from tests.chaos.deployment import Chaos
from tests.chaos.events import Event, Outcome
from tests.chaos.faults import Concerned, Fault
from tests.chaos.footprint import Footprint

__all__ = ["RECOVERY_SECS", "Bout", "StormReport", "run_storm"]

RECOVERY_SECS = 5.0
"""After the upstream answers a direct client again, so long may it take until each client succeeds."""

CALM_SECS = 1.0
"""Between two faults: everybody works."""

GIVE_UP_SECS = 30.0
"""A client that has not recovered by then is not waited for any longer."""

QUIET_SECS = 30.0
"""By then everything that clients have left behind must be gone."""

IDLE_THREADS = 4
"""A process may have so many more threads than before: those that long messages were read in go after 10 s."""

LAZY_DESCRIPTORS = 2
"""A process that serves may have so many more than before: the pipe that long replies go through is opened with the
first of them."""

COUNTED_KINDS = frozenset({"leave", "visit"})
"""Operations that are no work: a client that did nothing else has not recovered."""


@dataclass(frozen=True, slots=True)
class Bout:
    """One fault as it happened. `up_at` is when the upstream answered a direct client again (monotonic seconds).

    It is over when everybody has recovered and the upstream's members agree: an old primary that rolls back then answers
    for the cursors that are still open there as a server in a state change does.
    """

    fault: Fault
    began: float
    up_at: float
    over_at: float
    recovered_secs: dict[str, float | None] = field(default_factory=dict)
    """For each client how long after `up_at` it succeeded; None when it did not."""
    operations_left: int = 0
    """Operations of the clients that it killed which still ran five seconds later."""


@dataclass(slots=True)
class StormReport:
    """Everything that was seen."""

    seed: int
    events: Sequence[Event]
    bouts: Sequence[Bout]
    seconds: float
    relayed: frozenset[str]
    before: Footprint
    after: Footprint
    most_upstream_sockets: int
    """What so many clients may leave behind in mongoguard's pools; they are closed when they have been idle for long."""
    upstream_connections: int
    operations_left: int
    statuses: Sequence[int | None]
    """How the processes of clients ended; those that were killed are not among them."""
    prints: str
    """What the clients printed: tracebacks."""
    guard_log: str
    guard_restarted: bool


def run_storm(chaos: Chaos, faults: Sequence[Fault], seed: int, seconds: float) -> StormReport:
    """Let faults happen in an order of the seed's until the time is over; each at least once, however long it takes."""
    dice = random.Random(seed)
    pid = chaos.guard.pid
    calm = ClientProcess(chaos.plan(seed), chaos.directory, "calm")
    _wait_for_all(calm, time.monotonic())
    statuses = [calm.settle()]
    before = _when_quiet(chaos, None)
    clients = ClientProcess(chaos.plan(seed + 1), chaos.directory, "storm")
    names = [plan.name for plan in clients.plans]
    began = time.monotonic()
    _wait_for_all(clients, began)
    bouts = [_bout(chaos, clients, fault, dice) for fault in _schedule(faults, dice, began, seconds)]
    lasted = time.monotonic() - began
    statuses.append(clients.settle())
    every = [*names, *(plan.name for doomed in chaos.doomed for plan in doomed.plans)]
    operations = _operations_left(chaos, every)
    after = _when_quiet(chaos, before)
    processes = [calm, clients, *chaos.doomed]
    return StormReport(
        seed=seed,
        events=[event for process in processes for event in process.events],
        bouts=bouts,
        seconds=lasted,
        relayed=frozenset(p.name for p in clients.plans if p.address == chaos.access.address),
        before=before,
        after=after,
        most_upstream_sockets=_most_upstream_sockets(chaos, len(clients.plans)),
        upstream_connections=chaos.connections_of_mongoguard(),
        operations_left=operations,
        statuses=statuses,
        prints="".join(process.log for process in processes),
        guard_log=chaos.guard.log,
        guard_restarted=chaos.guard.pid != pid or not chaos.guard.running,
    )


def _most_upstream_sockets(chaos: Chaos, clients: int) -> int:
    """Each of mongoguard's processes: a connection a client and those of killed ones, two monitors, one question."""
    at_once = clients + max((len(doomed.plans) for doomed in chaos.doomed), default=0)
    processes = max(1, chaos.footprint().processes - 1)
    return len(chaos.mongods) * (at_once + 3 * processes)


def _schedule(faults: Sequence[Fault], dice: random.Random, began: float, seconds: float) -> Iterator[Fault]:
    yield from dice.sample(faults, len(faults))
    while time.monotonic() - began < seconds:
        yield dice.choice(faults)


def _bout(chaos: Chaos, clients: ClientProcess, fault: Fault, dice: random.Random) -> Bout:
    began = time.monotonic()
    fault.happen(chaos, dice)
    up_at = chaos.wait_until_upstream_answers()
    recovered = _beyond(fault.deadlines_secs, _wait_for_all(clients, up_at))
    if fault.end is not None:
        fault.end(chaos, dice)
        recovered = _worst(recovered, _wait_for_all(clients, time.monotonic()))
    chaos.wait_until_members_agree()
    for relay in (chaos.network, chaos.access):
        if relay is not None:
            relay.reset_all(half_open_only=True)  # mongoguard and clients learn now who has gone
    doomed = [plan.name for process in chaos.doomed for plan in process.plans]
    left = _operations_left(chaos, doomed) if fault.kills_clients else 0
    bout = Bout(fault, began, up_at, time.monotonic(), recovered, left)
    threading.Event().wait(CALM_SECS)
    return bout


def _wait_for_all(clients: ClientProcess, since: float) -> dict[str, float | None]:
    """How long after that moment each client had its first success."""
    recovered: dict[str, float | None] = {plan.name: None for plan in clients.plans if plan.kind != "leaver"}
    seen = 0
    deadline = time.monotonic() + GIVE_UP_SECS
    while time.monotonic() < deadline and None in recovered.values():
        events = clients.events
        for event in events[seen:]:
            if (
                event.outcome is Outcome.OK
                and event.ended >= since
                and event.kind not in COUNTED_KINDS
                and recovered.get(event.client, 0.0) is None
            ):
                recovered[event.client] = event.ended - since
        seen = len(events)
        threading.Event().wait(0.05)
    return recovered


def _beyond(seconds: float, recovered: dict[str, float | None]) -> dict[str, float | None]:
    """How much longer than that each client took."""
    return {client: None if secs is None else max(0.0, secs - seconds) for client, secs in recovered.items()}


def _worst(*recoveries: dict[str, float | None]) -> dict[str, float | None]:
    """The longest that each client took; None when it did not recover each time."""
    worst: dict[str, float | None] = {}
    for client in recoveries[0]:
        taken = [recovered[client] for recovered in recoveries]
        worst[client] = None if None in taken else max(secs for secs in taken if secs is not None)
    return worst


def _operations_left(chaos: Chaos, names: Sequence[str]) -> int:
    """How many operations of clients that have all gone still run, after at most five seconds."""
    chaos.wait_until_upstream_answers()
    deadline = time.monotonic() + 5
    while (left := len(chaos.operations_of(names))) and time.monotonic() < deadline:
        threading.Event().wait(0.2)
    return left


def _when_quiet(chaos: Chaos, before: Footprint | None) -> Footprint:
    """What is held when no client is there: as soon as it is no more than before, or as it is after a while."""
    deadline = time.monotonic() + QUIET_SECS
    found = chaos.footprint()
    while time.monotonic() < deadline:
        if found.client_sockets == 0 and (before is None or is_back(before, found)):
            break
        threading.Event().wait(0.2)
        found = chaos.footprint()
    return found


def is_back(before: Footprint, after: Footprint) -> bool:
    """Whether nothing is held that was not held before (memory apart, which an allocator gives back when it likes)."""
    return (
        after.client_sockets == 0
        and after.other_descriptors
        <= before.other_descriptors + LAZY_DESCRIPTORS * max(1, before.processes - 1)
        and after.threads <= before.threads + IDLE_THREADS * before.processes
        and after.processes == before.processes
    )


def may_fail(bout: Bout, report: StormReport, client: str) -> bool:
    """Whether an operation of that client may fail because of that fault."""
    match bout.fault.concerned:
        case Concerned.ALL:
            return True
        case Concerned.RELAYED:
            return client in report.relayed
        case _:
            return False
