"""What a SCRAM-SHA-256 login costs mongoguard, and what 200 at once do to a client that reads meanwhile.

    python -m tests.benchmarks.logins [--logins N] [--out FOLDER]

The clients derive their keys once, as drivers do that remember them: deriving is the client's work and would hide the
server's. Directly at mongod the same logins are measured beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mongoguard.authn.upstream_login import UpstreamCredential
from tests.benchmarks.clients import LeanClient, allow_descriptors
from tests.benchmarks.loadgen import CannotMeasure, LoadGenerator, process_cpu_seconds
from tests.benchmarks.peers import USER, Target, guard, mongod_with_user
from tests.servers import ServerDidNotStart, password_of

AT_ONCE = 200
READ_SECONDS = 4.0
MECHANISM = "SCRAM-SHA-256"


@dataclass(frozen=True, slots=True)
class Result:
    """`quiet` and `disturbed`: microseconds of a point read, without logins and during `AT_ONCE` of them."""

    target: str
    cpu_ms_per_login: float
    quiet_p50_us: float
    quiet_p99_us: float
    disturbed_p50_us: float
    disturbed_p99_us: float


def measure(target: Target, address: str, logins: int, generator: LoadGenerator) -> Result:
    """CPU per login of one client after the other, then reads without and with logins at once."""
    credential = UpstreamCredential(MECHANISM, USER, password_of(USER), "admin")
    _log_in(address, credential)  # derives the keys, and fills what the server keeps of a user
    before = sum(process_cpu_seconds(pid) for pid in target.pids)
    for _ in range(logins):
        _log_in(address, credential)
    spent = sum(process_cpu_seconds(pid) for pid in target.pids) - before
    quiet = generator.measure(target.uri, "point", 1, READ_SECONDS)
    burst = threading.Timer(READ_SECONDS / 4, _burst, (address, credential))
    burst.start()
    disturbed = generator.measure(target.uri, "point", 1, READ_SECONDS)
    burst.join()
    return Result(
        target.name, spent * 1e3 / logins, quiet.p50_us, quiet.p99_us, disturbed.p50_us, disturbed.p99_us
    )


def _log_in(address: str, credential: UpstreamCredential) -> None:
    with contextlib.closing(LeanClient(address)) as client:
        client.log_in(credential)


def _burst(address: str, credential: UpstreamCredential) -> None:
    threads = [threading.Thread(target=_log_in, args=(address, credential)) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def table(results: Sequence[Result]) -> str:
    """Markdown."""
    lines = [
        f"| target | CPU ms per login | read p50 / p99 µs | during {AT_ONCE} logins at once p50 / p99 µs |",
        "| --- | --: | --: | --: |",
    ]
    lines += [
        f"| {r.target} | {r.cpu_ms_per_login:.2f} | {r.quiet_p50_us:.0f} / {r.quiet_p99_us:.0f} "
        f"| {r.disturbed_p50_us:.0f} / {r.disturbed_p99_us:.0f} |"
        for r in results
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print. Exit status 1 when this machine can't measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.logins")
    parser.add_argument(
        "--logins", type=int, default=500, metavar="N", help="one after the other (default 500)"
    )
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
            results = [
                measure(target, target.uri.rpartition("@")[2].partition("/")[0], options.logins, generator)
                for target in (direct, guarded)
            ]
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
