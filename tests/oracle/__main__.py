"""`python -m tests.oracle`: the whole table, then random trials for ORACLE_SECONDS (default 600) from ORACLE_SEED.

All of it is tried through a mongoguard with the users of the deployment, and through one with a users file. Ends with
status 1 when a decision differs without explanation; prints the seed that repeats it.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from tests.oracle.deployment import Sides, all_sides
from tests.oracle.plan import Directory, ci_plan, through_both
from tests.oracle.random_trials import random_trials
from tests.oracle.run import Decision, run
from tests.oracle.verdict import Verdict, stale, verdict

_SUBJECTS_AT_ONCE = 50


def main() -> int:
    """Run, print, and say by the status whether everything is explained."""
    seconds = float(os.environ.get("ORACLE_SECONDS", "600"))
    seed = int(os.environ.get("ORACLE_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"ORACLE_SECONDS={seconds:.0f} ORACLE_SEED={seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory, all_sides(Path(directory)) as sides:
        started = time.monotonic()
        table = list(_whole_table(sides))
        verdicts = _judge(f"the whole table in {time.monotonic() - started:.0f} s", table)
        none_any_more = stale(*verdicts)
        started = time.monotonic()
        random_decisions = list(_random(sides, seed, seconds))
        took = time.monotonic() - started
        verdicts += _judge(f"random trials in {took:.0f} s", random_decisions, also=table)
    if none_any_more:
        print("accepted differences that are none any more:", *none_any_more, sep="\n  ")
    return 1 if none_any_more or any(found.unexplained for found in verdicts) else 0


def _judge(what: str, decisions: Sequence[Decision], also: Sequence[Decision] = ()) -> list[Verdict]:
    """A verdict for each directory, printed."""
    print(what, flush=True)
    found = []
    for directory in Directory:
        of_it = [d for d in decisions if d.directory == directory]
        found.append(verdict(of_it, also=[d for d in also if d.directory == directory]))
        print(f"directory {directory}: {found[-1]}", flush=True)
    return found


def _whole_table(sides: Sides) -> Iterator[Decision]:
    trials = list(through_both(ci_plan()))
    sides.add_subjects(trials)
    yield from run(sides, trials)


def _random(sides: Sides, seed: int, seconds: float) -> Iterator[Decision]:
    deadline = time.monotonic() + seconds
    trials = through_both(random_trials(seed))
    while time.monotonic() < deadline:
        batch = list(islice(trials, _SUBJECTS_AT_ONCE))
        sides.add_subjects(batch)
        yield from run(sides, batch)


sys.exit(main())
