"""Two minutes of chaos on a standalone server and on a replica set: no wrong reply, no hang, everybody recovers, nothing leaks.

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

ON_STANDALONE_SECONDS, ON_SET_SECONDS = 75.0, 45.0
"""Two minutes in all. Each fault happens once; then any of them, until the time is over."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "faults", "seconds"),
    [
        (chaos_on_a_standalone, ON_A_STANDALONE, ON_STANDALONE_SECONDS),
        (chaos_on_a_set, ON_A_SET, ON_SET_SECONDS),
    ],
    ids=["standalone", "set"],
)
def test_chaos_breaks_nothing(
    place: Callable[[Path], AbstractContextManager[Chaos]],
    faults: Sequence[Fault],
    seconds: float,
    tmp_path: Path,
) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(1 << 32))
    with place(tmp_path) as chaos:
        report = run_storm(chaos, faults, seed, seconds)
    print(summary(report))
    assert not list(violations(report)), f"CHAOS_SEED={seed}"
    assert report.seconds >= seconds
