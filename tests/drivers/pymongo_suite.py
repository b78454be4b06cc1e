"""`python -m tests.drivers.pymongo_suite`: PyMongo's own tests against mongod and through mongoguard, compared.

The tests are those of the installed version, out of its source distribution. Every test must end alike at both ends, but
for those that docs/differences.md lists between its markers, each with the reason. Prints the others; exit status 1
when there is one. Takes ten minutes or more for each end; names of test files, without "test_", choose some of them.
"""

from __future__ import annotations

import argparse
import fnmatch
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pymongo

from tests.servers import PROJECT, ROOT, Guard, Mongod, password_of

__all__ = ["expected_differences", "outcomes", "unexplained"]

_FILES = (
    "auth bulk causal_consistency change_stream client client_bulk_write client_context collation collection "
    "collection_management command_logging command_monitoring comment connection_logging connection_monitoring "
    "crud_unified csot cursor custom_types database dbref decimal128 discovery_and_monitoring examples grid_file "
    "gridfs gridfs_bucket gridfs_spec handshake_unified heartbeat_monitoring index_management json_util_integration "
    "load_balancer max_staleness monitor monitoring operation_id_retry pooling raw_bson read_concern read_preferences "
    "read_write_concern_spec retryable_reads retryable_reads_unified retryable_writes retryable_writes_unified "
    "run_command sdam_monitoring_spec server_selection session sessions_unified streaming_protocol threads "
    "transactions transactions_unified unified_format versioned_api_integration write_concern"
)
"""Test files that talk to a server. SRV, TLS, encryption and OIDC need servers that are not here."""

_SECONDS_PER_TEST = 100
_SECONDS = 3600.0
"""For one end; on two busy cores it took 15 minutes."""

_DIFFERENCES = PROJECT / "docs" / "differences.md"
_ROWS = re.compile(r"<!-- pymongo -->(.*?)<!-- /pymongo -->", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the tests, run them at both ends, compare; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.drivers.pymongo_suite", description=__doc__)
    parser.add_argument("--deployment", choices=("standalone", "set"), default="standalone")
    parser.add_argument(
        "files", nargs="*", help="test files without test_ and .py; all that need a server otherwise"
    )
    options = parser.parse_args(arguments)
    replica_set = "rs0" if options.deployment == "set" else None
    with tempfile.TemporaryDirectory(prefix="pymongo-suite-") as name:
        folder = Path(name)
        suite = _fetch(folder)
        mongod = Mongod(folder / "mongod", replica_set=replica_set).start()
        guard = None
        try:
            guard = _guard(folder / "guard", mongod.wait())
            direct = _run(suite, mongod.port, folder / "direct.xml", options.files)
            through = _run(suite, guard.port, folder / "through.xml", options.files)
        finally:
            if guard is not None:
                guard.kill()
            mongod.kill()
    left = list(unexplained(direct, through, expected_differences(_DIFFERENCES.read_text())))
    print(f"{len(direct)} tests, {sum(state == 'passed' for state in direct.values())} passed directly")
    print(*left, f"{len(left)} differences that docs/differences.md does not explain", sep="\n")
    return 1 if left or not direct else 0


def _fetch(folder: Path) -> Path:
    """The tests of the installed PyMongo, without its package: that would be imported instead of the installed one."""
    wanted = f"pymongo=={pymongo.version}"
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "pymongo", wanted]
    subprocess.run([*download, "-d", str(folder)], check=True)
    (archive,) = folder.glob("pymongo-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    suite = folder / "suite"
    suite.mkdir()
    (folder / f"pymongo-{pymongo.version}" / "test").rename(suite / "test")
    (folder / f"pymongo-{pymongo.version}" / "pyproject.toml").rename(suite / "pyproject.toml")
    return suite


def _guard(folder: Path, mongod: Mongod) -> Guard:
    guard = Guard(folder, mongod)
    net: dict[str, object] = {"unixDomainSocket": {"enabled": True}}
    if mongod.replica_set:
        net |= {"presentAs": "replicaSet", "advertise": guard.address}
    guard.configure({"net": net})
    return guard.start().wait()


def _run(suite: Path, port: int, report: Path, files: Sequence[str]) -> dict[str, str]:
    tests = [f"test/test_{name}.py" for name in files or _FILES.split()]
    # Nothing else of this environment: some tests look for variables of cloud providers and tools.
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(suite), "DB_IP": "127.0.0.1", "DB_PORT": str(port)}
    login = {"DB_USER": ROOT, "DB_PASSWORD": password_of(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "default", "-p", "no:cacheprovider"]
    options = [
        "-o",
        "addopts=",
        "-o",
        "log_cli=false",
        f"--timeout={_SECONDS_PER_TEST}",
        f"--junitxml={report}",
    ]
    with report.with_suffix(".log").open("wb") as log:
        subprocess.run(
            [*command, *options, *tests],
            cwd=suite,
            env=environment | login,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,
            check=False,
        )
    return outcomes(report.read_text())


def outcomes(report: str) -> dict[str, str]:
    """Test -> passed, failed or skipped, out of pytest's JUnit report."""
    found = {}
    for case in ElementTree.fromstring(report).iter("testcase"):
        file, _, group = str(case.get("classname")).removeprefix("test.").rpartition(".")
        states = {child.tag for child in case}
        state = "failed" if states & {"failure", "error"} else "skipped" if "skipped" in states else "passed"
        found[f"{file}::{group}::{case.get('name')}"] = state
    return found


def expected_differences(text: str) -> tuple[str, ...]:
    """The patterns of docs/differences.md: `file::class::test`, with * for anything."""
    found = _ROWS.search(text)
    assert found is not None, "docs/differences.md has no list of PyMongo's tests"
    return tuple(re.findall(r"`([^`]+::[^`]+)`", found[1]))


def unexplained(
    direct: Mapping[str, str], through: Mapping[str, str], expected: Sequence[str]
) -> Iterator[str]:
    """A line for each test that ended otherwise, and is not expected to."""
    for test in sorted(direct.keys() | through.keys()):
        one, other = direct.get(test, "absent"), through.get(test, "absent")
        if one != other and not any(fnmatch.fnmatchcase(test, pattern) for pattern in expected):
            yield f"{test}: {one} directly, {other} through mongoguard"


if __name__ == "__main__":
    sys.exit(main())
