"""Compiles and runs loadgen.c, the load generator, and reads what a server's processes cost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DATABASE", "CannotMeasure", "Figures", "LoadGenerator", "process_cpu_seconds", "with_children"]

DATABASE = "mongoguard_benchmark"

_SOURCE = Path(__file__).with_name("loadgen.c")
_NEEDS = "the load generator needs a C compiler and libmongoc: apt-get install gcc pkg-config libmongoc-dev"


class CannotMeasure(RuntimeError):
    """The machine lacks something that a measurement needs, or the load generator failed; the text says what."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One run: throughput, latencies in microseconds, and the CPU time that each process asked for used meanwhile."""

    operations: int
    per_second: float
    p50_us: float
    p95_us: float
    p99_us: float
    cpu_seconds: tuple[float, ...]


class LoadGenerator:
    """loadgen, compiled when it is first asked for, into a folder that ends with the object."""

    def __init__(self, database: str = DATABASE) -> None:
        """`database` is where the documents are made. Raises `CannotMeasure` when it can't be compiled here."""
        self._database = database
        self._folder = tempfile.TemporaryDirectory(prefix="mongoguard-loadgen-")
        self._binary = Path(self._folder.name) / "loadgen"
        compiler, pkg_config = shutil.which("cc"), shutil.which("pkg-config")
        if compiler is None or pkg_config is None:
            raise CannotMeasure(_NEEDS)
        flags = subprocess.run(
            [pkg_config, "--cflags", "--libs", "libmongoc-1.0"], capture_output=True, text=True, check=False
        )
        if flags.returncode != 0:
            raise CannotMeasure(_NEEDS)
        source = [compiler, "-O2", "-o", str(self._binary), str(_SOURCE)]
        done = subprocess.run(
            [*source, *flags.stdout.split(), "-lpthread"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise CannotMeasure(f"loadgen.c does not compile:\n{done.stderr}")

    def close(self) -> None:
        """Remove the compiled program."""
        self._folder.cleanup()

    def prepare(self, uri: str) -> None:
        """Make the documents that the workloads read."""
        self._run(uri, self._database, "prepare")

    def measure(
        self, uri: str, workload: str, connections: int, seconds: float, pids: Sequence[int] = ()
    ) -> Figures:
        """Run a workload (loadgen.c lists them); `pids` of those processes whose CPU time is wanted."""
        found = json.loads(
            self._run(uri, self._database, workload, str(connections), str(seconds), *map(str, pids))
        )
        found["cpu_seconds"] = tuple(found["cpu_seconds"])
        return Figures(**{name: found[name] for name in Figures.__slots__})

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([str(self._binary), *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotMeasure(done.stderr.strip() or f"loadgen ended with status {done.returncode}")
        return done.stdout


def with_children(pid: int) -> list[int]:
    """A process and its children that are alive now (workers)."""
    listed = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [pid, *(int(child) for text in listed for child in text.split())]


def process_cpu_seconds(pid: int) -> float:
    """User and system time of a process, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime
