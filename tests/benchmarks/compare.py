"""What mongoguard costs: the same reads straight from mongod and through mongoguard, in one run.

    python -m tests.benchmarks.compare [--json] [--repeats N] [--seconds S] [--haproxy]

It starts a mongod and a mongoguard of its own. The targets take turns, so that whatever else the machine does meets all
of them alike, and what is printed are medians over the repeats and ratios within a repeat. `--haproxy` adds HAProxy in
TCP mode, a relay that checks nothing, as the yardstick of what any hop costs (apt-get install haproxy).
`--target NAME=URI` (twice or more, the first is the reference) compares servers that run already.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.loadgen import DATABASE, CannotMeasure, Figures, LoadGenerator, cpu_seconds
from tests.servers import (
    Guard,
    Mongod,
    ServerDidNotStart,
    create_test_users,
    free_port,
    wait_for_port,
)

WORKLOADS = ("point", "thousand")
CONNECTIONS = (1, 16)


@dataclass(frozen=True, slots=True)
class Target:
    """A server to be measured; `pid` of the process whose CPU time is divided by the operations, when it is ours."""

    name: str
    uri: str
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One target under one workload: medians over the repeats; `ratio` is operations per second to the reference's."""

    workload: str
    connections: int
    target: str
    per_second: float
    ratio: float
    ratio_low: float
    ratio_high: float
    p50_us: float
    p95_us: float
    p99_us: float
    added_us: float
    cpu_us_per_operation: float | None


@dataclass(frozen=True, slots=True)
class _Sample:
    figures: Figures
    cpu_us: float | None


def compare(
    targets: Sequence[Target],
    repeats: int,
    seconds: float,
    generator: LoadGenerator,
) -> list[Row]:
    """Measure every workload on every target, the targets taking turns; the first target is the reference."""
    generator.prepare(targets[0].uri)
    rows = []
    for workload in WORKLOADS:
        for connections in CONNECTIONS:
            samples: dict[str, list[_Sample]] = {target.name: [] for target in targets}
            for repeat in range(repeats):
                # every other repeat backwards: no target always runs after the same neighbour
                for target in targets if repeat % 2 == 0 else reversed(targets):
                    samples[target.name].append(_sample(generator, target, workload, connections, seconds))
            rows += [_row(workload, connections, target.name, samples, targets[0].name) for target in targets]
    return rows


def _sample(
    generator: LoadGenerator, target: Target, workload: str, connections: int, seconds: float
) -> _Sample:
    before = None if target.pid is None else cpu_seconds(target.pid)
    figures = generator.measure(target.uri, workload, connections, seconds)
    if target.pid is None or before is None:
        return _Sample(figures, None)
    spent = cpu_seconds(target.pid) - before
    return _Sample(figures, spent * 1e6 / figures.operations_with_warm_up)


def _row(
    workload: str, connections: int, name: str, samples: dict[str, list[_Sample]], reference: str
) -> Row:
    own = [sample.figures for sample in samples[name]]
    other = [sample.figures for sample in samples[reference]]
    ratios = [a.per_second / b.per_second for a, b in zip(own, other, strict=True)]
    costs = [sample.cpu_us for sample in samples[name] if sample.cpu_us is not None]
    return Row(
        workload=workload,
        connections=connections,
        target=name,
        per_second=statistics.median(f.per_second for f in own),
        ratio=statistics.median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        p50_us=statistics.median(f.p50_us for f in own),
        p95_us=statistics.median(f.p95_us for f in own),
        p99_us=statistics.median(f.p99_us for f in own),
        added_us=statistics.median(a.p50_us - b.p50_us for a, b in zip(own, other, strict=True)),
        cpu_us_per_operation=statistics.median(costs) if costs else None,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| read | connections | through | reads/s | ratio (range) | p50 / p95 / p99 µs | added µs | CPU µs/read |",
        "| --- | --: | --- | --: | --- | --- | --: | --: |",
    ]
    for row in rows:
        cpu = "" if row.cpu_us_per_operation is None else f"{row.cpu_us_per_operation:.0f}"
        lines.append(
            f"| {_READS[row.workload]} | {row.connections} | {row.target} | {row.per_second:.0f} "
            f"| {row.ratio:.2f} ({row.ratio_low:.2f}-{row.ratio_high:.2f}) "
            f"| {row.p50_us:.0f} / {row.p95_us:.0f} / {row.p99_us:.0f} | {row.added_us:+.0f} | {cpu} |"
        )
    return "\n".join(lines)


_READS = {"point": "1 document by _id (1 KiB)", "thousand": "1,000 documents (1 MB)"}


@contextlib.contextmanager
def own_servers(*, haproxy: bool) -> Iterator[list[Target]]:
    """A mongod, and mongoguard (and HAProxy) in front of it."""
    with tempfile.TemporaryDirectory(prefix="mongoguard-benchmark-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        mongod = Mongod(folder / "mongod")
        stack.callback(mongod.kill)
        mongod.start().wait()
        create_test_users(mongod)
        guard = Guard(folder / "mongoguard", mongod)
        stack.callback(guard.stop)
        guard.start().wait()
        targets = [
            Target("mongod", mongod.uri(), mongod.pid),
            Target("mongoguard", guard.uri(), guard.pid),
        ]
        if haproxy:
            targets.append(stack.enter_context(_haproxy(folder, mongod)))
        yield targets


@contextlib.contextmanager
def _haproxy(folder: Path, mongod: Mongod) -> Iterator[Target]:
    program = shutil.which("haproxy")
    if program is None:
        raise CannotMeasure("haproxy is missing: apt-get install haproxy")
    port = free_port()
    configuration = folder / "haproxy.cfg"
    configuration.write_text(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n"
        f"listen mongod\n bind 127.0.0.1:{port}\n server only {mongod.address}\n"
    )
    with subprocess.Popen([program, "-db", "-f", str(configuration)], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port)
            yield Target("haproxy", mongod.uri().replace(mongod.address, f"127.0.0.1:{port}"), process.pid)
        finally:
            process.terminate()


def _named_target(text: str) -> Target:
    name, separator, uri = text.partition("=")
    if not separator or not uri.startswith("mongodb"):
        raise argparse.ArgumentTypeError("expected NAME=mongodb://...")
    return Target(name, uri)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print. Exit status 1 when this machine can't measure."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.compare", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="turns per target (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of one turn (default 3)")
    parser.add_argument(
        "--haproxy", action="store_true", help="measure HAProxy in TCP mode beside mongoguard"
    )
    parser.add_argument(
        "--target", type=_named_target, action="append", metavar="NAME=URI", help="a running server"
    )
    parser.add_argument(
        "--database", default=DATABASE, help="where the documents are made (default %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        generator = LoadGenerator(options.database)
        servers = (
            contextlib.nullcontext(options.target) if options.target else own_servers(haproxy=options.haproxy)
        )
        with contextlib.closing(generator), servers as targets:
            rows = compare(targets, options.repeats, options.seconds, generator)
    except (CannotMeasure, ServerDidNotStart) as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({"cpus": os.cpu_count(), "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        machine = f"{platform.machine()}, {os.cpu_count()} CPUs"
        print(f"{machine}; medians of {options.repeats} turns of {options.seconds:g} s\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
