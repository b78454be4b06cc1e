"""What a SCRAM-SHA-256 login costs mongoguard, and what 200 at once do to a client that reads meanwhile.

    python -m tests.benchmarks.logins [--rounds N] [--seconds S] [--out FOLDER]

The clients derive their keys once, as drivers do that remember them: deriving is the client's work and would hide the
server's. Directly at mongod the same logins are measured beside it, the two taking turns, as other work on the machine
changes what anything costs; CPU times are the least and the median of the rounds. Logins are a hello, a saslStart and a
saslContinue on a connection of their own, one client after the other.

The logins at once come from another process, which begins a burst of 200 whenever the one before has ended: a client
reads for some seconds without them, and then for as long while they go on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mongoguard.authn.upstream_login import UpstreamCredential
from tests.benchmarks.clients import LeanClient, allow_descriptors
from tests.benchmarks.loadgen import CannotMeasure, LoadGenerator
from tests.benchmarks.login_burst import credential
from tests.benchmarks.peers import USER, Target, guard, mongod_with_user
from tests.servers import PROJECT, ServerDidNotStart

AT_ONCE = 200
LOGINS_A_ROUND = 100


@dataclass(frozen=True, slots=True)
class Result:
    """`quiet` and `disturbed`: microseconds of a point read, without logins and during bursts of `AT_ONCE` of them.

    `logins_per_second`: those of the bursts.
    """

    target: str
    least_cpu_ms: float
    median_cpu_ms: float
    quiet_p50_us: float
    quiet_p99_us: float
    disturbed_p50_us: float
    disturbed_p99_us: float
    logins_per_second: float


def measure(targets: Sequence[Target], rounds: int, seconds: float, generator: LoadGenerator) -> list[Result]:
    """CPU per login of one client after the other, then reads without and with logins at once."""
    by = credential()
    spent: dict[str, list[float]] = {target.name: [] for target in targets}
    for target in targets:
        _log_in(target, by)  # derives the keys, and fills what the server keeps of a user
    for _ in range(rounds):
        for target in targets:
            _log_in(target, by)
            before = _cpu_seconds(target)
            for _ in range(LOGINS_A_ROUND):
                _log_in(target, by)
            spent[target.name].append((_cpu_seconds(target) - before) * 1e3 / LOGINS_A_ROUND)
    return [_read_beside_logins(target, spent[target.name], seconds, generator) for target in targets]


def _read_beside_logins(
    target: Target, spent: Sequence[float], seconds: float, generator: LoadGenerator
) -> Result:
    quiet = generator.measure(target.uri, "point", 1, seconds)
    count: list[int] = []
    started = time.perf_counter()
    with _bursts(_address(target), count):
        disturbed = generator.measure(target.uri, "point", 1, seconds)
    return Result(
        target.name,
        min(spent),
        statistics.median(spent),
        quiet.p50_us,
        quiet.p99_us,
        disturbed.p50_us,
        disturbed.p99_us,
        count[0] / (time.perf_counter() - started),
    )


@contextlib.contextmanager
def _bursts(address: str, count: list[int]) -> Iterator[None]:
    """Logins at once while this lasts; `count` then has how many there were. Raises `CannotMeasure` if one failed."""
    command = [sys.executable, "-m", "tests.benchmarks.login_burst", address, str(AT_ONCE)]
    with subprocess.Popen(
        command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # it is a pipe
        process.stdout.readline()
        try:
            if process.stdin is not None:
                process.stdin.write("go\n")
                process.stdin.flush()
            yield
        finally:
            done, _ = process.communicate()
    if process.returncode != 0:
        raise CannotMeasure("logins at once have failed")
    count.append(int(done))


def _log_in(target: Target, by: UpstreamCredential) -> None:
    with contextlib.closing(LeanClient(_address(target))) as client:
        client.log_in(by)


def _address(target: Target) -> str:
    return target.uri.rpartition("@")[2].partition("/")[0]


def _cpu_seconds(target: Target) -> float:
    """User and system time of all threads there have been (/proc counts in steps of 10 ms, which is too coarse here)."""
    return sum(
        time.clock_gettime(~pid << 3 | 2) for pid in target.pids
    )  # the clock of a process, clock_gettime(2)


def table(results: Sequence[Result]) -> str:
    """Markdown."""
    lines = [
        f"| target | CPU ms per login, least / median | read p50 / p99 µs | during {AT_ONCE} logins at once p50 / p99 µs "
        "| these per second |",
        "| --- | --: | --: | --: | --: |",
    ]
    lines += [
        f"| {r.target} | {r.least_cpu_ms:.2f} / {r.median_cpu_ms:.2f} | {r.quiet_p50_us:.0f} / {r.quiet_p99_us:.0f} "
        f"| {r.disturbed_p50_us:.0f} / {r.disturbed_p99_us:.0f} | {r.logins_per_second:.0f} |"
        for r in results
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print. Exit status 1 when this machine can't measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.logins")
    parser.add_argument(
        "--rounds", type=int, default=10, metavar="N", help=f"of {LOGINS_A_ROUND} logins each (default 10)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="of reading (default 4)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write logins.json there")
    options = parser.parse_args(arguments)
    try:
        allow_descriptors(4096)
        with (
            mongod_with_user() as (mongod, folder),
            guard("mongoguard", folder, mongod, {"workers": 1}) as guarded,
            contextlib.closing(LoadGenerator()) as generator,
        ):
            direct = Target("mongod", mongod.uri(USER), mongod.pid)
            generator.prepare(direct.uri)
            results = measure((direct, guarded), options.rounds, options.seconds, generator)
    except (CannotMeasure, ServerDidNotStart) as error:
        print(error, file=sys.stderr)
        return 1
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps([asdict(result) for result in results], indent=1)
        (options.out / "logins.json").write_text(text + "\n")
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
