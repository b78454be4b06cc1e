"""The judge of a storm: what in a report breaks the law of `tests.chaos`.

In: a `StormReport`. Out: sentences, none when all is well, and a summary to print. Must not talk to anything.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from tests.chaos.events import TROUBLE, Event, Outcome
from tests.chaos.storm import RECOVERY_SECS, StormReport, is_back, may_fail

__all__ = ["summary", "violations"]

BUSY_SECS = 5.0
"""A thread of a client on a busy machine may be late by so much without a hang of mongoguard's."""

MORE_MEGABYTES = 40.0
"""Memory after a storm may be above the level before by so much: arenas of the allocator, tables that have grown once."""

PATIENT_SECS = 1.5
"""The shortest deadline of a client for one step: who fails later may have met nothing but a busy machine."""

MAX_LATE_SHARE = 0.02
"""So many of all operations may end that way outside of any fault."""

AT_MOST = 12
"""Events of a kind that are told in full."""


def violations(report: StormReport) -> Iterator[str]:
    """Everything that must not be, a sentence each."""
    yield from _first("a wrong reply", (event for event in report.events if event.outcome is Outcome.BREACH))
    yield from _first("a hang", (event for event in report.events if _hangs(event)))
    unexplained = list(_unexplained(report))
    late = [event for event in unexplained if event.ended - event.began >= PATIENT_SECS]
    yield from _first("a failure without a fault", (event for event in unexplained if event not in late))
    if len(late) > MAX_LATE_SHARE * len(report.events):
        yield from _first("a deadline that was missed without a fault", iter(late))
    yield from _recoveries(report)
    yield from _leaks(report)
    if any(status != 0 for status in report.statuses):
        yield f"processes of clients ended with {report.statuses} (None: they hang)"
    yield from _prints(report.prints)
    if report.guard_restarted:
        yield "mongoguard has ended"
    yield from _given_up(report)
    for word in ("Traceback", "internal error"):
        if word in report.guard_log:
            found = report.guard_log.index(word)
            yield f"mongoguard logged: {report.guard_log[max(0, found - 300) : found + 3000]}"


def _given_up(report: StormReport) -> Iterator[str]:
    """Workers that were busy, or suspended with everything else, and were taken for frozen."""
    given_up = set(re.findall(r"worker \d+ \(pid \d+\) (?=has not answered|does not)", report.guard_log))
    if len(given_up) > sum(bout.fault.freezes_worker for bout in report.bouts):
        yield f"mongoguard gave up workers that were not frozen: {sorted(given_up)}"


def _first(what: str, events: Iterator[Event]) -> Iterator[str]:
    for number, event in enumerate(events):
        if number < AT_MOST:
            took = event.ended - event.began
            yield f"{what}: {event.client}, {event.kind}, at {event.began:.2f}, after {took:.2f} s: {event.detail}"
        elif number == AT_MOST:
            yield f"{what}: and more"


def _hangs(event: Event) -> bool:
    return bool(event.limit_secs) and event.ended - event.began > event.limit_secs + BUSY_SECS


def _unexplained(report: StormReport) -> Iterator[Event]:
    """Failures of clients that no fault of that time concerns."""
    for event in report.events:
        if event.outcome is Outcome.FAILED and not any(
            event.began < bout.over_at and event.ended > bout.began and may_fail(bout, report, event.client)
            for bout in report.bouts
        ):
            yield event


def _prints(prints: str) -> Iterator[str]:
    """A client that crashed, and what a driver's background task was refused: it prints what it can't raise."""
    for line in prints.splitlines():
        if line.startswith("Exception in thread"):
            yield f"a client crashed: {prints[-2000:]}"
        elif line.startswith("pymongo.errors.OperationFailure"):
            code = re.search(r"'code': (\d+)", line)
            if code is None or int(code[1]) not in TROUBLE:
                yield f"a driver printed {line[:600]}"


def _recoveries(report: StormReport) -> Iterator[str]:
    for bout in report.bouts:
        for client, seconds in bout.recovered_secs.items():
            if seconds is None or seconds > RECOVERY_SECS:
                took = "not at all" if seconds is None else f"in {seconds:.1f} s"
                yield f"after {bout.fault.name!r} {client} recovered {took}"


def _leaks(report: StormReport) -> Iterator[str]:
    before, after = report.before, report.after
    if not is_back(before, after):
        yield f"a leak: {before} before, {after} after"
    if after.megabytes > before.megabytes + MORE_MEGABYTES:
        yield f"memory grew from {before.megabytes:.0f} to {after.megabytes:.0f} MB"
    left = report.operations_left + sum(bout.operations_left for bout in report.bouts)
    if left:
        yield f"{left} operations of clients that have gone still run upstream"
    if after.upstream_sockets > report.most_upstream_sockets:
        yield f"{after.upstream_sockets} sockets to the upstream, where {report.most_upstream_sockets} are enough"
    if report.upstream_connections > after.upstream_sockets:
        yield (
            f"the upstream holds {report.upstream_connections} connections of mongoguard, "
            f"which has {after.upstream_sockets}"
        )


def summary(report: StormReport) -> str:
    """What happened, in a few lines."""
    outcomes = Counter(event.outcome for event in report.events)
    lines = [
        f"seed {report.seed}: {report.seconds:.0f} s, {len(report.bouts)} faults, {len(report.events)} operations: "
        + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    ]
    for bout in report.bouts:
        recovered = [s for s in bout.recovered_secs.values() if s is not None]
        failed = sum(
            event.outcome is Outcome.FAILED and event.began < bout.over_at and event.ended > bout.began
            for event in report.events
        )
        lines.append(
            f"  {bout.began:.1f} {bout.fault.name:<34} {bout.up_at - bout.began:5.1f} s, {failed:4d} failed, "
            f"all recovered {max(recovered, default=0.0):.2f} s later"
        )
    lines.append(f"  before: {report.before}\n  after:  {report.after}")
    return "\n".join(lines)
