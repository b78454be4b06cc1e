"""Two minutes of chaos around a standalone server and around a replica set: no wrong reply, no hang, everybody recovers,
nothing leaks.

`python -m tests.chaos` does the same for as long as one likes. A failure prints the seed: CHAOS_SEED repeats it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.chaos.deployment import Chaos, chaos_on_a_set, chaos_on_a_standalone
from tests.chaos.faults import ON_A_SET, ON_A_STANDALONE, Fault
from tests.chaos.storm import run_storm
from tests.chaos.verdict import summary, violations
from tests.replica_sets import ReplicaSetOfThree

pytestmark = pytest.mark.slow

STANDALONE_SECONDS, SET_SECONDS = 75.0, 45.0
"""Two minutes in all. Each fault happens once; then any of them, until the time is over."""


@pytest.fixture(scope="module")
def booting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSetOfThree]:
    """A replica set that starts while the first storm rages."""
    members = ReplicaSetOfThree(tmp_path_factory.mktemp("chaos") / "set").start()
    yield members
    members.kill()


@pytest.fixture(scope="module")
def seed() -> int:
    """One number for everything that is left to chance, the deployments included."""
    return int(os.environ.get("CHAOS_SEED") or random.randrange(1 << 32))


def rage(chaos: Chaos, faults: Sequence[Fault], seed: int, seconds: float) -> None:
    """A storm that must break nothing."""
    report = run_storm(chaos, faults, seed, seconds)
    print(summary(report))
    broken = list(violations(report))
    assert not broken, f"CHAOS_SEED={seed}"
    assert report.seconds >= seconds


def test_chaos_around_a_standalone_server_breaks_nothing(
    booting: ReplicaSetOfThree, seed: int, tmp_path: Path
) -> None:
    """With TLS on both sides of mongoguard for every other seed."""
    with chaos_on_a_standalone(tmp_path, tls=bool(seed & 1)) as chaos:
        rage(chaos, ON_A_STANDALONE, seed, STANDALONE_SECONDS)


def test_chaos_around_a_replica_set_breaks_nothing(
    booting: ReplicaSetOfThree, seed: int, tmp_path: Path
) -> None:
    """Presented as a replica set for every other pair of seeds."""
    with chaos_on_a_set(tmp_path, booting, as_set=bool(seed & 2)) as chaos:
        rage(chaos, ON_A_SET, seed, SET_SECONDS)
