"""`python -m tests.oracle`: the whole table, then random trials for ORACLE_SECONDS (default 600) from ORACLE_SEED.

Ends with status 1 when a decision differs without explanation; prints the seed that repeats it.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tests.oracle.deployment import Sides, both_sides
from tests.oracle.plan import ci_plan
from tests.oracle.random_trials import random_trials
from tests.oracle.run import Decision, run
from tests.oracle.verdict import verdict

_SUBJECTS_AT_ONCE = 50


def main() -> int:
    """Run, print, and say by the status whether everything is explained."""
    seconds = float(os.environ.get("ORACLE_SECONDS", "600"))
    seed = int(os.environ.get("ORACLE_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"ORACLE_SECONDS={seconds:.0f} ORACLE_SEED={seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory, both_sides(Path(directory)) as sides:
        table = list(_whole_table(sides))
        tables_verdict = verdict(table)
        print(tables_verdict, flush=True)
        randoms_verdict = verdict(_random(sides, seed, seconds), also=table)
        print(randoms_verdict)
    stale = tables_verdict.stale
    if stale:
        print("accepted differences that are none any more:", *stale, sep="\n  ")
    return 1 if tables_verdict.unexplained or randoms_verdict.unexplained or stale else 0


def _whole_table(sides: Sides) -> Iterator[Decision]:
    trials = list(ci_plan())
    sides.add_subjects(trial.subject for trial in trials)
    yield from run(sides, trials)


def _random(sides: Sides, seed: int, seconds: float) -> Iterator[Decision]:
    deadline = time.monotonic() + seconds
    trials = random_trials(seed)
    while time.monotonic() < deadline:
        batch = list(islice(trials, _SUBJECTS_AT_ONCE))
        sides.add_subjects(trial.subject for trial in batch)
        yield from run(sides, batch)


sys.exit(main())
