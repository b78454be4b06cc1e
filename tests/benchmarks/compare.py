"""What mongoguard costs: the same commands straight to mongod and through mongoguard and its peers, in one run.

    python -m tests.benchmarks.compare [--repeats N] [--seconds S] [--workload W ...] [--connections N ...] [--out FOLDER]

It starts a mongod of its own, and in front of it mongoguard with one worker and with as many as there are cores,
HAProxy in TCP mode and Envoy with its MongoDB filter (each where it is installed): relays that check nothing, as the
yardstick of what any hop costs. The targets take turns, so that whatever else the machine does meets all of them alike,
and what is printed are medians over the repeats and ratios within a repeat. CPU time is that of all processes of a
target, in the timed part, divided by its operations; beside it, what mongod itself used meanwhile.
`--out` writes compare.json, and plots where matplotlib is installed. `--target NAME=URI` (twice or more, the first is
the reference) compares servers that run already.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks import plots
from tests.benchmarks.loadgen import DATABASE, CannotMeasure, Figures, LoadGenerator
from tests.benchmarks.peers import USER, Target, envoy, guard, haproxy, mongod_with_user
from tests.servers import ServerDidNotStart

WORKLOADS = {
    "point": "1 document by _id (1 KiB)",
    "mixed": "80 % reads, 15 % updates, 5 % inserts",
    "thousand": "1,000 documents (1 MB)",
    "insertmany": "1,000 inserts (200 KB)",
}
CONNECTIONS = (1, 8, 64)


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
    server_cpu_us_per_operation: float | None


@dataclass(frozen=True, slots=True)
class _Sample:
    figures: Figures
    cpu_us: float | None
    server_cpu_us: float | None


def compare(
    targets: Sequence[Target],
    repeats: int,
    seconds: float,
    generator: LoadGenerator,
    workloads: Sequence[str] = tuple(WORKLOADS),
    connection_counts: Sequence[int] = CONNECTIONS,
) -> list[Row]:
    """Measure every workload on every target, the targets taking turns; the first target is the reference."""
    generator.prepare(targets[0].uri)
    rows = []
    for workload in workloads:
        for connections in connection_counts:
            samples: dict[str, list[_Sample]] = {target.name: [] for target in targets}
            for repeat in range(repeats):
                # every other repeat backwards: no target always runs after the same neighbour
                for target in targets if repeat % 2 == 0 else reversed(targets):
                    sample = _sample(generator, target, targets[0], workload, connections, seconds)
                    samples[target.name].append(sample)
            rows += [_row(workload, connections, target.name, samples, targets[0].name) for target in targets]
    return rows


def _sample(
    generator: LoadGenerator,
    target: Target,
    reference: Target,
    workload: str,
    connections: int,
    seconds: float,
) -> _Sample:
    own = target.pids if target is not reference else []
    server = reference.pids
    figures = generator.measure(target.uri, workload, connections, seconds, [*own, *server])
    costs = [used * 1e6 / figures.operations for used in figures.cpu_seconds]
    return _Sample(
        figures,
        sum(costs[: len(own)]) if own else None,
        sum(costs[len(own) :]) if server else None,
    )


def _row(
    workload: str, connections: int, name: str, samples: dict[str, list[_Sample]], reference: str
) -> Row:
    own = [sample.figures for sample in samples[name]]
    other = [sample.figures for sample in samples[reference]]
    ratios = [a.per_second / b.per_second for a, b in zip(own, other, strict=True)]
    costs = [sample.cpu_us for sample in samples[name] if sample.cpu_us is not None]
    server = [sample.server_cpu_us for sample in samples[name] if sample.server_cpu_us is not None]
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
        server_cpu_us_per_operation=statistics.median(server) if server else None,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| operation | connections | through | per second | ratio (range) | p50 / p95 / p99 µs | added µs "
        "| its CPU µs | mongod's CPU µs |",
        "| --- | --: | --- | --: | --- | --- | --: | --: | --: |",
    ]
    lines += [
        f"| {WORKLOADS[row.workload]} | {row.connections} | {row.target} | {row.per_second:.0f} "
        f"| {row.ratio:.2f} ({row.ratio_low:.2f}-{row.ratio_high:.2f}) "
        f"| {row.p50_us:.0f} / {row.p95_us:.0f} / {row.p99_us:.0f} | {row.added_us:+.0f} "
        f"| {_number(row.cpu_us_per_operation)} | {_number(row.server_cpu_us_per_operation)} |"
        for row in rows
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


@contextlib.contextmanager
def own_servers() -> Iterator[list[Target]]:
    """A mongod, and in front of it mongoguard and whichever of its peers is installed."""
    with mongod_with_user() as (mongod, folder), contextlib.ExitStack() as stack:
        targets = [
            Target("mongod", mongod.uri(USER), mongod.pid),
            stack.enter_context(guard("mongoguard", folder, mongod, {"workers": 1})),
            stack.enter_context(guard("mongoguard-auto", folder, mongod, {"workers": "auto"})),
        ]
        for peer in (haproxy, envoy):
            target = stack.enter_context(peer(folder, mongod))
            if target is not None:
                targets.append(target)
        yield targets


def write(folder: Path, rows: Sequence[Row], repeats: int, seconds: float) -> None:
    """compare.json with the rows and what they were measured on; compare-*.svg where matplotlib is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "repeats": repeats,
        "seconds": seconds,
        "rows": [asdict(row) for row in rows],
    }
    (folder / "compare.json").write_text(json.dumps(measured, indent=1) + "\n")
    if importlib.util.find_spec("matplotlib") is None:
        return
    throughput: dict[str, dict[str, float]] = {}
    costs: dict[str, dict[str, float]] = {}
    for row in rows:
        group = f"{row.workload}\n{row.connections}"
        throughput.setdefault(group, {})[row.target] = row.ratio
        if row.cpu_us_per_operation and row.server_cpu_us_per_operation:
            share = row.cpu_us_per_operation / row.server_cpu_us_per_operation
            costs.setdefault(group, {})[row.target] = share
    plots.bars(folder / "compare-throughput.svg", throughput, "Operations per second", "ratio to mongod")
    if costs:
        plots.bars(folder / "compare-cpu.svg", costs, "CPU time per operation", "ratio to mongod's own")


def _named_target(text: str) -> Target:
    name, separator, uri = text.partition("=")
    if not separator or not uri.startswith("mongodb"):
        raise argparse.ArgumentTypeError("expected NAME=mongodb://...")
    return Target(name, uri)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.compare", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write compare.json and plots there")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="turns per target (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of one turn (default 3)")
    parser.add_argument("--workload", choices=WORKLOADS, action="append", help="default: all")
    parser.add_argument("--connections", type=int, action="append", metavar="N", help="default: 1, 8, 64")
    parser.add_argument(
        "--target", type=_named_target, action="append", metavar="NAME=URI", help="a running server"
    )
    parser.add_argument(
        "--database", default=DATABASE, help="where the documents are made (default %(default)s)"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print. Exit status 1 when this machine can't measure."""
    options = _options(arguments)
    try:
        generator = LoadGenerator(options.database)
        servers = contextlib.nullcontext(options.target) if options.target else own_servers()
        with contextlib.closing(generator), servers as targets:
            rows = compare(
                targets,
                options.repeats,
                options.seconds,
                generator,
                options.workload or tuple(WORKLOADS),
                options.connections or CONNECTIONS,
            )
    except (CannotMeasure, ServerDidNotStart) as error:
        print(error, file=sys.stderr)
        return 1
    if options.out is not None:
        write(options.out, rows, options.repeats, options.seconds)
    if options.json:
        print(json.dumps({"cpus": os.cpu_count(), "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        machine = f"{platform.machine()}, {os.cpu_count()} CPUs"
        print(f"{machine}; medians of {options.repeats} turns of {options.seconds:g} s\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
