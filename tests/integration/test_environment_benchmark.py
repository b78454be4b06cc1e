"""The benchmark measures what it says: its generator counts, and its table has a row for everything that it ran."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.benchmarks import compare, decisions, growth, hop, loop_steps
from tests.benchmarks.loadgen import CannotMeasure, LoadGenerator
from tests.missing import missing
from tests.servers import PROJECT, Mongod


@pytest.fixture
def generator() -> Iterator[LoadGenerator]:
    try:
        ready = LoadGenerator()
    except CannotMeasure as error:
        missing("the load generator", str(error))
    yield ready
    ready.close()


def test_two_names_for_one_server_are_compared(
    standalone: Mongod, generator: LoadGenerator, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = [f"--target={name}={standalone.uri()}" for name in ("one", "other")]
    counts = ["--connections", "1", "--connections", "2"]
    assert compare.main(["--json", "--repeats", "1", "--seconds", "0.1", *counts, *targets]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["workload"], row["connections"], row["target"]) for row in rows] == [
        (workload, connections, target)
        for workload in compare.WORKLOADS
        for connections in (1, 2)
        for target in ("one", "other")
    ]
    assert all(0 < row["p50_us"] <= row["p95_us"] <= row["p99_us"] for row in rows)
    assert [row["ratio"] for row in rows if row["target"] == "one"] == [1.0] * 8


def test_a_read_that_is_refused_stops_the_measurement(
    standalone: Mongod, generator: LoadGenerator, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"--target=direct={standalone.uri(user=None)}"
    assert compare.main(["--repeats", "1", "--seconds", "0.1", target]) == 1
    assert "requires authentication" in capsys.readouterr().err


def test_the_benchmark_of_one_hop_relays_every_exchange() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.hop", "--json", "--rounds", "1", "--requests", "20"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=True,
    )
    rows = json.loads(done.stdout)
    assert set(rows) == set(hop.EXCHANGES)
    assert all(row["quick_us"] > 0 and row["tasks_us"] > 0 for row in rows.values())


def test_the_benchmark_of_growth_has_a_curve_for_each_dimension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "ROUNDS", 1)
    monkeypatch.setattr(decisions, "CALLS", 10)
    monkeypatch.setattr(growth, "SIZES", (1, 10))
    curves = growth.measure()
    assert set(curves) == set(growth.DIMENSIONS)
    assert all([size for size, _ in points] == [1, 10] for points in curves.values())


def test_the_benchmark_of_decisions_measures_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "ROUNDS", 1)
    monkeypatch.setattr(decisions, "CALLS", 10)
    rows = decisions.measure()
    assert {row["command"] for row in rows} == set(decisions.COMMANDS)
    assert all(row["cached_us"] > 0 and row["uncached_us"] > 0 for row in rows)


def test_steps_of_the_loop_are_weighed_by_the_time_that_they_take() -> None:
    """Nine short steps and one long one: most of what comes meets the long one. What is outside does not count."""
    times = [0.0, *(1 + number / 1000 for number in range(10)), 1.109, 5.0]
    looks = [(time, time) for time in times]  # a look in each millisecond, until there is a long step
    found = loop_steps.steps_between(looks, 1.0, 2.0)
    assert found["half"] == found["longest"] == pytest.approx(100.0)
    assert loop_steps.steps_between(looks, 1.0, 1.1)["longest"] == pytest.approx(1.0)
