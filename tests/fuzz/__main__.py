"""Runs every fuzz target, a process each and an equal share of the time, and counts those that found nothing.

    python -m tests.fuzz [--seconds N] [--target NAME ...]

Without --seconds, FUZZ_SECONDS in all (600). A target is a module `target_NAME.py` with a function
`check(data: bytes) -> None` that raises when a law is broken, and the bytes to begin with in `SEEDS`. An input that
breaks a law is kept in fixtures/wire/findings as NAME-….bin, where a unit test replays it from then on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
FINDINGS = _HERE.parents[1] / "fixtures" / "wire" / "findings"
TARGETS = sorted(path.stem.removeprefix("target_") for path in _HERE.glob("target_*.py"))


def main(arguments: list[str]) -> int:
    """Run the named targets, or all. Exit status 1 when one found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=int(os.environ.get("FUZZ_SECONDS", "600")))
    parser.add_argument("--target", action="append", choices=TARGETS)
    options = parser.parse_args(arguments)
    targets = options.target or TARGETS
    share = max(1, options.seconds // len(targets))
    failed = [name for name in targets if not _holds(name, share)]
    if failed:
        print(f"laws broken in {', '.join(failed)}; the inputs are in {FINDINGS}")
    print(f"{len(targets) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def _holds(name: str, seconds: int) -> bool:
    print(f"--- {name}: {seconds} s", flush=True)
    FINDINGS.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.guided", name]
    limits = [
        f"-max_total_time={seconds}",
        "-timeout=10",
        "-max_len=4096",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    outcome = subprocess.run([*command, *limits, f"-artifact_prefix={FINDINGS}/{name}-"], check=False)
    for path in FINDINGS.glob(f"{name}-*"):
        if not path.suffix:
            path.rename(path.with_suffix(".bin"))
    return outcome.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
