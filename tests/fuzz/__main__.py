"""Runs every fuzz target, a process each and an equal share of FUZZ_SECONDS, and counts those that found nothing.

    FUZZ_SECONDS=3600 python -m tests.fuzz [TARGET ...]

A target is a module `target_NAME.py` with a function `check(data: bytes) -> None` that raises when a law is broken,
and the bytes to begin with in `SEEDS`. An input that breaks a law is kept in the folder that is printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).parent


def main(names: list[str]) -> int:
    """Run the named targets, or all. Exit status 1 when one found something."""
    targets = names or sorted(path.stem.removeprefix("target_") for path in _HERE.glob("target_*.py"))
    share = max(1, int(os.environ.get("FUZZ_SECONDS", "600")) // len(targets))
    artifacts = Path(tempfile.mkdtemp(prefix="mongoguard-fuzz-"))
    failed = [name for name in targets if not _holds(name, share, artifacts)]
    if failed:
        print(f"laws broken in {', '.join(failed)}; the inputs are in {artifacts}")
    else:
        artifacts.rmdir()
    print(f"{len(targets) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def _holds(name: str, seconds: int, artifacts: Path) -> bool:
    print(f"--- {name}: {seconds} s", flush=True)
    command = [sys.executable, "-m", "tests.fuzz.guided", name]
    limits = [
        f"-max_total_time={seconds}",
        "-timeout=10",
        "-max_len=4096",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    return (
        subprocess.run([*command, *limits, f"-artifact_prefix={artifacts}/{name}-"], check=False).returncode
        == 0
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
