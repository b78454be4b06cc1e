"""How long mongoguard looks away from running commands while 200 clients log in at once: in CPU time.

    python -m tests.benchmarks.loop_steps [--bursts N] [--json]

A command that comes is noticed when the loop looks at the sockets of running commands the next time. What it does
between two looks is the wait that mongoguard itself is the cause of. Measured as CPU time of the loop's thread it holds
on a busy machine, where latencies are those of everything that runs. Shares are of the busy time: half of what comes
while there is something to do waits for a step of at most "half".
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mongoguard.cli.main import main as mongoguard
from mongoguard.server.ready_sockets import ReadySockets
from tests.benchmarks.clients import LeanClient, allow_descriptors
from tests.benchmarks.loadgen import CannotMeasure
from tests.benchmarks.login_burst import burst, credential
from tests.benchmarks.peers import mongod_with_user
from tests.servers import Guard, ServerDidNotStart

AT_ONCE = 200
SETTLE_SECS = 3.0
"""After its start mongoguard collects garbage once, and learns of the upstream."""


class WatchedGuard(Guard):
    """mongoguard that writes down, at its end, when it looked: pairs of wall-clock and CPU seconds."""

    @property
    def looks(self) -> Path:
        """Where."""
        return self.config_path.with_suffix(".looks")

    def start(self) -> WatchedGuard:
        """See `Guard`."""
        arguments = ["-m", "tests.benchmarks.loop_steps", "--serve", str(self.config_path), str(self.looks)]
        self._spawn([sys.executable, *arguments], {"PYTHONUNBUFFERED": "1"})
        return self


def serve(config: str, looks_path: str) -> int:
    """Be mongoguard, and write down its looks."""
    looks: list[tuple[float, float]] = []
    look = ReadySockets._look

    def noting(self: ReadySockets, deadline: float) -> bool:
        looks.append((time.monotonic(), time.thread_time()))
        return look(self, deadline)

    ReadySockets._look = noting  # type: ignore[method-assign]  # the one place where it looks
    atexit.register(lambda: Path(looks_path).write_text(json.dumps(looks)))
    return mongoguard(["serve", "-f", config])


def steps_between(looks: Sequence[Sequence[float]], begin: float, end: float) -> Mapping[str, float]:
    """Milliseconds of CPU between two looks."""
    steps = sorted(
        (after[1] - before[1]) * 1e3 for before, after in itertools.pairwise(looks) if begin < after[0] < end
    )
    busy = list(itertools.accumulate(steps))
    shares = {"half": 0.5, "nine tenths": 0.9, "99 %": 0.99}
    found = {
        name: next(step for step, so_far in zip(steps, busy, strict=True) if so_far >= share * busy[-1])
        for name, share in shares.items()
    }
    return {**found, "longest": steps[-1]}


def measure(bursts: int) -> Mapping[str, float]:
    """Of that many bursts, one after the other. Raises `ServerDidNotStart`."""
    by = credential()
    with mongod_with_user() as (mongod, folder):
        guarded = WatchedGuard(folder / "mongoguard", mongod, {"workers": 1})
        guarded.start().wait()
        try:
            with contextlib.closing(LeanClient(guarded.address)) as client:
                client.log_in(by)
            time.sleep(SETTLE_SECS)
            begin = time.monotonic()
            for _ in range(bursts):
                burst(guarded.address, by, AT_ONCE)
            end = time.monotonic()
        finally:
            guarded.stop()
        return steps_between(json.loads(guarded.looks.read_text()), begin, end)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print. Exit status 1 when this machine can't measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.loop_steps")
    parser.add_argument(
        "--bursts", type=int, default=10, metavar="N", help=f"of {AT_ONCE} logins (default 10)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--serve", nargs=2, metavar=("CONFIG", "LOOKS"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        return serve(*options.serve)
    try:
        allow_descriptors(4096)
        found = measure(options.bursts)
    except (CannotMeasure, ServerDidNotStart) as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(found))
    else:
        print(f"| ms of CPU between two looks | {' | '.join(found)} |")
        print(f"| --- |{' --: |' * len(found)}")
        print(f"| {AT_ONCE} logins at once | {' | '.join(f'{step:.2f}' for step in found.values())} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
