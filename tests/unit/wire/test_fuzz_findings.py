"""What fuzzing found once, and the seeds that it begins with, hold their laws."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FINDINGS = sorted((ROOT / "fixtures" / "wire" / "findings").glob("*.bin"))
TARGETS = sorted(path.stem for path in (ROOT / "tests" / "fuzz").glob("target_*.py"))


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_holds_the_laws(name: str):
    target = importlib.import_module(f"tests.fuzz.{name}")
    assert target.SEEDS
    for seed in target.SEEDS:
        target.check(seed)


def test_what_was_found_once_holds_the_laws_now():
    for path in FINDINGS:
        importlib.import_module(f"tests.fuzz.target_{path.stem.partition('-')[0]}").check(path.read_bytes())
