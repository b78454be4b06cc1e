"""`python -m tests.drivers.pymongo_suite`: PyMongo's own tests against mongod and through mongoguard, compared.

The tests are those of the installed version, out of its source distribution. Each end has a mongod of its own, and two
ends run side by side. A test must end alike directly and through mongoguard, but for those that docs/differences.md
lists between its markers, each with the reason. What ends otherwise is run again, alone, and counts when it does so
every time. Prints a table, and the tests that count; exit status 1 when there is one. All of it takes an hour and a
half; names of test files, without "test_", choose some of them.
"""

from __future__ import annotations

import argparse
import fnmatch
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.drivers.pymongo_ends import HALVES, PRESENTATIONS, End, Outcomes, Suite
from tests.servers import PROJECT

__all__ = ["Comparison", "compare", "expected_differences", "switches"]

REPETITIONS = 2
"""Of a test that ended otherwise: many of them measure times, and fail now and then on a busy machine."""

_DIFFERENCES = PROJECT / "docs" / "differences.md"
_ROWS = re.compile(r"<!-- pymongo -->(.*?)<!-- /pymongo -->", re.DOTALL)
_ASYNC = re.compile(r"async(hronous)?[._/]?", re.IGNORECASE)
"""What names of the async half have more than those of the other."""

_OTHER_TOPOLOGY = re.compile(
    r"skipped: .*(runOnRequirements|mongos|replica set|replicaset|standalone|sharded|secondaries|exhaust cursors|load balancer)"
)
"""Why PyMongo does not run a test against what it takes for another kind of deployment."""

_OTHER_TOPOLOGIES = frozenset(("mongos", "loadBalanced"))
"""As what a replica set is another kind of deployment to PyMongo."""

_COLUMNS = (
    "passed at both",
    "failed at both",
    "skipped at both",
    "other topology",
    "explained",
    "alike alone",
    "unexplained",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the tests, run them at all ends, compare; return the exit status."""
    options = _options(arguments)
    expected = expected_differences(_DIFFERENCES.read_text())
    print(" | ".join(("end, half", "tests", *_COLUMNS)))
    is_alike = True
    with tempfile.TemporaryDirectory(prefix="pymongo-suite-") as name, ExitStack() as stack:
        folder = Path(name)
        suite = Suite(folder, switches(options.compressors, options.api_version))
        direct, guarded = _start_ends(folder, options.present_as or list(PRESENTATIONS), stack)
        for half in options.half or HALVES:
            out = (options.out or folder / "out") / half
            files = suite.files(half, options.files)
            ends = [*direct.values(), *guarded.values()]
            with ThreadPoolExecutor(2) as pool:
                runs = pool.map(lambda end, files=files, out=out: suite.run(end, files, out / end.name), ends)
                found = {end.name: run for end, run in zip(ends, runs, strict=True)}
            for present_as, end in guarded.items():
                beside = direct[PRESENTATIONS[present_as]]
                comparison = compare(
                    found[beside.name],
                    found[end.name],
                    expected,
                    is_other_topology=present_as in _OTHER_TOPOLOGIES,
                )
                for number in range(REPETITIONS):
                    again = out / f"{end.name}-again-{number + 1}"
                    left = comparison.unexplained
                    comparison.repeat(
                        suite.run_alone(beside, left, again / "direct"),
                        suite.run_alone(end, left, again / "guarded"),
                    )
                print("\n".join(comparison.lines(f"{end.name}, {half}")), flush=True)
                is_alike &= comparison.is_alike
    return 0 if is_alike else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.drivers.pymongo_suite", description=__doc__)
    parser.add_argument("--present-as", choices=PRESENTATIONS, action="append", help="one of the four only")
    parser.add_argument("--half", choices=HALVES, action="append", help="one of the two only")
    parser.add_argument("--compressors", help="what PyMongo compresses with, of zlib, snappy and zstd")
    parser.add_argument("--api-version", help="the Stable API version that PyMongo declares")
    parser.add_argument("--out", type=Path, help="a folder for logs and reports, to be kept")
    parser.add_argument("files", nargs="*", help="test files without test_ and .py; all otherwise")
    return parser.parse_args(arguments)


def switches(compressors: str | None, api_version: str | None) -> dict[str, str]:
    """The environment variables by which PyMongo's tests take what was chosen; none for what was not."""
    chosen = {"COMPRESSORS": compressors, "MONGODB_API_VERSION": api_version}
    return {name: value for name, value in chosen.items() if value}


def _start_ends(
    folder: Path, presentations: Sequence[str], stack: ExitStack
) -> tuple[dict[str | None, End], dict[str, End]]:
    """By replica set, those without mongoguard; by presentation, those with it. All end with the stack."""
    direct: dict[str | None, End] = {}
    guarded: dict[str, End] = {}
    for present_as in presentations:
        replica_set = PRESENTATIONS[present_as]
        if replica_set not in direct:
            direct[replica_set] = End.direct(folder / f"direct-{replica_set}", replica_set, stack)
        guarded[present_as] = End.guarded(folder / f"guarded-{present_as}", present_as, stack)
    return direct, guarded


@dataclass(slots=True)
class Comparison:
    """What became of the tests at two ends. `unexplained`: those that have ended otherwise whenever they ran.

    `other_topology`: those that one end skips because it is of another kind, and the other does not fail. `explained`
    end otherwise as they are expected to, `alike_alone` only among others.
    """

    direct: Outcomes
    guarded: Outcomes
    other_topology: list[str] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    alike_alone: list[str] = field(default_factory=list)

    @property
    def is_alike(self) -> bool:
        """Whether nothing is unexplained, and something passed."""
        return not self.unexplained and self._count("passed") > 0

    def repeat(self, direct: Outcomes, guarded: Outcomes) -> None:
        """What was unexplained has been run again."""
        alike = [
            test
            for test in self.unexplained
            if test in direct and _ended(test, direct) == _ended(test, guarded)
        ]
        self.alike_alone += alike
        self.unexplained = [test for test in self.unexplained if test not in alike]

    def lines(self, name: str) -> Iterator[str]:
        """A row of the table, and what there is to be said of single tests."""
        counts = [self._count("passed"), self._count("failed"), self._count("skipped")]
        lists = (self.other_topology, self.explained, self.alike_alone, self.unexplained)
        total = len(self.direct.keys() | self.guarded.keys())
        yield " | ".join((name, str(total), *map(str, counts), *(str(len(tests)) for tests in lists)))
        for test in self.alike_alone:
            yield f"  alike when alone: {test}"
        for test in self.unexplained:
            one, other = _ended(test, self.direct), _ended(test, self.guarded)
            yield f"  unexplained: {test}: {one} directly, {other} through mongoguard"

    def _count(self, state: str) -> int:
        return sum(_ended(test, self.direct) == _ended(test, self.guarded) == state for test in self.direct)


def compare(
    direct: Outcomes, guarded: Outcomes, expected: Sequence[str], *, is_other_topology: bool = False
) -> Comparison:
    """Sort out the tests that ended otherwise. Names of the async half count as those of the other.

    `is_other_topology`: PyMongo takes what it finds through mongoguard for another kind of deployment.
    """
    comparison = Comparison(direct, guarded)
    patterns = [_ASYNC.sub("", pattern) for pattern in expected]
    for test in sorted(direct.keys() | guarded.keys()):
        if _ended(test, direct) == _ended(test, guarded):
            continue
        if is_other_topology and _is_skipped_there(test, direct, guarded):
            comparison.other_topology.append(test)
        elif any(fnmatch.fnmatchcase(_plain(test), pattern) for pattern in patterns):
            comparison.explained.append(test)
        else:
            comparison.unexplained.append(test)
    return comparison


def _ended(test: str, outcomes: Outcomes) -> str:
    """passed, failed, skipped or absent, without the reason."""
    return outcomes.get(test, "absent").partition(":")[0]


def _is_skipped_there(test: str, direct: Outcomes, guarded: Outcomes) -> bool:
    """Whether one end says that it has no place in such a topology, and mongoguard did not fail it."""
    reasons = (direct.get(test, "absent"), guarded.get(test, "absent"))
    return _ended(test, guarded) in {"passed", "skipped"} and any(map(_OTHER_TOPOLOGY.match, reasons))


def _plain(test: str) -> str:
    """`test_x::TestX::test_y`, whichever half it is of."""
    return _ASYNC.sub("", test.removeprefix("test/")).replace(".py::", "::", 1)


def expected_differences(text: str) -> tuple[str, ...]:
    """The patterns of docs/differences.md: `file::class::test`, with * for anything."""
    found = _ROWS.search(text)
    assert found is not None, "docs/differences.md has no list of PyMongo's tests"
    return tuple(re.findall(r"`([^`]+::[^`]+)`", found[1]))


if __name__ == "__main__":
    sys.exit(main())
