"""What idle authenticated connections cost mongoguard: memory, and latency of the one client that is busy.

    python -m tests.benchmarks.idle [--connections N] [--out FOLDER]

Memory is the growth of the process's resident set (VmRSS) divided by the connections; the kernel's socket buffers are
not counted. The descriptors that it needs are asked for; where the limit is lower, it says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mongoguard.authn.upstream_login import UpstreamCredential
from tests.benchmarks.clients import LeanClient, allow_descriptors
from tests.benchmarks.loadgen import CannotMeasure, Figures, LoadGenerator
from tests.benchmarks.peers import USER, Target, guard, mongod_with_user
from tests.servers import ServerDidNotStart, password_of

READ_SECONDS = 4.0
SPARE_DESCRIPTORS = 500
WARM_UP = 100
"""Connections that fill caches before the first look at the memory."""


@dataclass(frozen=True, slots=True)
class Result:
    """`alone` and `among`: one busy client's point reads without and with the idle connections, in microseconds."""

    connections: int
    bytes_per_connection: float
    alone_p50_us: float
    alone_p99_us: float
    alone_cpu_us: float
    among_p50_us: float
    among_p99_us: float
    among_cpu_us: float


def measure(target: Target, connections: int, generator: LoadGenerator) -> Result:
    """Memory and latency before and after."""
    assert target.pid is not None
    address = target.uri.rpartition("@")[2].partition("/")[0]
    credential = UpstreamCredential("SCRAM-SHA-256", USER, password_of(USER), "admin")
    with contextlib.ExitStack() as stack:
        _open(stack, address, credential, WARM_UP)
        alone = generator.measure(target.uri, "point", 1, READ_SECONDS, [target.pid])
        before = resident_bytes(target.pid)
        _open(stack, address, credential, connections)
        each = (resident_bytes(target.pid) - before) / connections
        among = generator.measure(target.uri, "point", 1, READ_SECONDS, [target.pid])
    return Result(
        connections,
        each,
        alone.p50_us,
        alone.p99_us,
        _cpu_us(alone),
        among.p50_us,
        among.p99_us,
        _cpu_us(among),
    )


def _cpu_us(figures: Figures) -> float:
    return sum(figures.cpu_seconds) * 1e6 / figures.operations


def _open(stack: contextlib.ExitStack, address: str, credential: UpstreamCredential, count: int) -> None:
    for _ in range(count):
        client = LeanClient(address)
        stack.callback(client.close)
        client.log_in(credential)


def resident_bytes(pid: int) -> int:
    """VmRSS of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print. Exit status 1 when this machine can't measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.idle")
    parser.add_argument("--connections", type=int, default=10_000, metavar="N", help="(default 10000)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write idle.json there")
    options = parser.parse_args(arguments)
    try:
        allow_descriptors(options.connections + SPARE_DESCRIPTORS)
        settings = {"workers": 1, "net": {"maxIncomingConnections": options.connections + SPARE_DESCRIPTORS}}
        with (
            mongod_with_user() as (mongod, folder),
            guard("mongoguard", folder, mongod, settings) as target,
            contextlib.closing(LoadGenerator()) as generator,
        ):
            generator.prepare(mongod.uri(USER))
            result = measure(target, options.connections, generator)
    except (CannotMeasure, ServerDidNotStart) as error:
        print(error, file=sys.stderr)
        return 1
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "idle.json").write_text(json.dumps(asdict(result), indent=1) + "\n")
    print(
        f"{result.connections} idle connections: {result.bytes_per_connection / 1000:.1f} kB each\n"
        f"one busy client alone: p50 {result.alone_p50_us:.0f} µs, p99 {result.alone_p99_us:.0f} µs, "
        f"CPU {result.alone_cpu_us:.0f} µs per read\n"
        f"among them:            p50 {result.among_p50_us:.0f} µs, p99 {result.among_p99_us:.0f} µs, "
        f"CPU {result.among_cpu_us:.0f} µs per read"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
