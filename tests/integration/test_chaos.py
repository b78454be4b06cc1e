"""Two minutes of chaos, one on each deployment: no wrong reply, no hang, everybody recovers, nothing leaks.

`python -m tests.chaos` does the same for as long as one likes. A failure prints the seed: CHAOS_SEED repeats it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.chaos.deployment import Chaos, chaos_on_a_set, chaos_on_a_standalone
from tests.chaos.faults import ON_A_SET, ON_A_STANDALONE, Fault
from tests.chaos.storm import run_storm
from tests.chaos.verdict import summary, violations

STORM_SECONDS = 60.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "faults"),
    [(chaos_on_a_standalone, ON_A_STANDALONE), (chaos_on_a_set, ON_A_SET)],
    ids=["standalone", "set"],
)
def test_a_minute_of_chaos_breaks_nothing(
    place: Callable[[Path], AbstractContextManager[Chaos]], faults: Sequence[Fault], tmp_path: Path
) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(1 << 32))
    with place(tmp_path) as chaos:
        report = run_storm(chaos, faults, seed, STORM_SECONDS)
    print(summary(report))
    assert not list(violations(report)), f"CHAOS_SEED={seed}"
    assert report.seconds >= STORM_SECONDS
