"""PyMongo's own tests, and the servers that they run against.

In: which ends, halves and files of the suite. Out: what became of each test. Must not know what was to be expected.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pymongo

from tests.servers import ROOT, Guard, Mongod, password_of

__all__ = ["FILE_DID_NOT_END", "HALVES", "PRESENTATIONS", "End", "Outcomes", "Suite", "outcomes"]

PRESENTATIONS: Mapping[str, str | None] = {
    "standalone": None,
    "mongos": "rs0",
    "replicaSet": "rs0",
    "loadBalanced": "rs0",
}
"""What PyMongo takes mongoguard for -> the replica set that stands behind; None: a standalone mongod.

net.presentAs, but for loadBalanced: that is for the client to say.
"""

HALVES: Mapping[str, str] = {"sync": "test", "async": "test/asynchronous"}
"""Where the tests of both are: the second folder holds what the first was generated from."""

Outcomes = dict[str, str]
"""pytest's id of a test -> passed, failed, or skipped with the reason: "skipped: Not connected to a replica set"."""

FILE_DID_NOT_END = "(the whole file)"
"""The test, failed, of a file whose run had to be ended or left no report."""

_OTHER_SERVERS = (
    "auth_oidc connections_survive_primary_stepdown_spec dns encryption kms_connect kms_connect_prose ocsp_cache "
    "ocsp_support on_demand_csfle sfp srv_polling ssl ssl_support"
)
"""Test files for what is not here: SRV records, TLS, key providers, three members that can be told to step down."""

_MARKERS = "default or default_async or auth or load_balancer"
"""The tests that PyMongo itself runs against one server without further services."""

_SECONDS_PER_TEST = 150
_SECONDS_PER_FILE = 1800.0
"""The longest takes two minutes on an idle machine; one in which many tests hang may take this long."""


@dataclass(frozen=True, slots=True)
class End:
    """A mongod of its own, and mongoguard in front of it unless the tests go there directly."""

    name: str
    mongod: Mongod
    guard: Guard | None = None
    is_load_balanced: bool = False

    @classmethod
    def direct(cls, folder: Path, replica_set: str | None, stack: ExitStack) -> End:
        """mongod itself, until the stack ends."""
        return cls(f"direct-{replica_set or 'standalone'}", _mongod(folder, replica_set, stack))

    @classmethod
    def guarded(cls, folder: Path, present_as: str, stack: ExitStack) -> End:
        """The same with mongoguard; what it is presented as is left to itself where it finds that out."""
        mongod = _mongod(folder, PRESENTATIONS[present_as], stack)
        guard = Guard(folder / "guard", mongod)
        net: dict[str, object] = {"unixDomainSocket": {"enabled": True}}  # where tests look for mongod's
        if present_as == "replicaSet":
            net |= {"presentAs": present_as, "advertise": guard.address}
        guard.configure({"net": net})
        stack.callback(guard.kill)
        return cls(f"guarded-{present_as}", mongod, guard.start().wait(), present_as == "loadBalanced")

    @property
    def environment(self) -> Mapping[str, str]:
        """Where the tests connect to, in the variables that they read."""
        address = (self.guard or self.mongod).address
        host, port = address.split(":")
        login = {"DB_IP": host, "DB_PORT": port, "DB_USER": ROOT, "DB_PASSWORD": password_of(ROOT)}
        if not self.is_load_balanced:
            return login
        uri = f"mongodb://{address}/?loadBalanced=true"
        return login | {"TEST_LOAD_BALANCER": "1", "SINGLE_MONGOS_LB_URI": uri, "MULTI_MONGOS_LB_URI": uri}


def _mongod(folder: Path, replica_set: str | None, stack: ExitStack) -> Mongod:
    # Twice the cache of other tests: one of these writes 48 MB in a transaction, which failed with 388 now and then.
    mongod = Mongod(folder / "mongod", replica_set=replica_set, cache_gb="1")
    stack.callback(mongod.kill)
    return mongod.start().wait()


class Suite:
    """The tests of the installed PyMongo without its package, which would be imported instead of the installed one."""

    def __init__(self, folder: Path, switches: Mapping[str, str]) -> None:
        """Fetch them. `switches`: environment variables by which PyMongo runs them in another way."""
        self._switches = dict(switches)
        wanted = f"pymongo=={pymongo.version}"
        download = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary",
            "pymongo",
            wanted,
        ]
        subprocess.run([*download, "-d", str(folder)], check=True)
        (archive,) = folder.glob("pymongo-*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        self._folder = folder / "suite"
        self._folder.mkdir()
        for name in ("test", "pyproject.toml"):
            (folder / f"pymongo-{pymongo.version}" / name).rename(self._folder / name)

    def files(self, half: str, wanted: Sequence[str] = ()) -> list[str]:
        """The test files of a half, or those of them that are wanted: names without test_ and .py."""
        names = [path.stem.removeprefix("test_") for path in (self._folder / HALVES[half]).glob("test_*.py")]
        chosen = [
            name for name in names if (name in wanted if wanted else name not in _OTHER_SERVERS.split())
        ]
        return [f"{HALVES[half]}/test_{name}.py" for name in sorted(chosen)]

    def run(self, end: End, files: Iterable[str], out: Path) -> Outcomes:
        """Run whole files at one end, one after the other; their logs and reports go to `out`."""
        found: Outcomes = {}
        for file in files:
            found |= self._run_file(end, file, [file], out)
        return found

    def run_alone(self, end: End, tests: Iterable[str], out: Path) -> Outcomes:
        """Run single tests, those of one file in one process."""
        by_file: dict[str, list[str]] = {}
        for test in tests:
            by_file.setdefault(test.partition("::")[0], []).append(test)
        found: Outcomes = {}
        for file, chosen in by_file.items():
            is_single = not any(test.endswith(FILE_DID_NOT_END) for test in chosen)
            found |= self._run_file(end, file, chosen if is_single else [file], out)
        return found

    def _run_file(self, end: End, file: str, chosen: Sequence[str], out: Path) -> Outcomes:
        out.mkdir(parents=True, exist_ok=True)
        report = out / f"{Path(file).stem}.xml"
        report.unlink(missing_ok=True)
        # Nothing else of this environment: some tests look for variables of cloud providers and tools.
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self._folder),
            **self._switches,
            **end.environment,
        }
        pytest = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            _MARKERS,
            "-p",
            "no:cacheprovider",
        ]
        options = ["addopts=", "log_cli=false", "junit_logging=no"]
        with report.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *pytest,
                    *(part for option in options for part in ("-o", option)),
                    f"--timeout={_SECONDS_PER_TEST}",
                    f"--junitxml={report}",
                    *chosen,
                ],
                cwd=self._folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                process.wait(_SECONDS_PER_FILE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if not report.exists():
            return {f"{file}::{FILE_DID_NOT_END}": "failed"}
        return outcomes(file, report.read_text())


def outcomes(file: str, report: str) -> Outcomes:
    """What pytest's JUnit report of one file says. A test may be in it again, because of its subtests or its end."""
    found: Outcomes = {}
    module = file.removesuffix(".py").replace("/", ".")
    for case in ElementTree.fromstring(report).iter("testcase"):
        group = str(case.get("classname")).removeprefix(module).removeprefix(".")
        test = "::".join(part for part in (file, group, str(case.get("name"))) if part)
        states = {child.tag: child.get("message", "") for child in case}
        state = "failed" if states.keys() & {"failure", "error"} else "passed"
        if state == "passed" and "skipped" in states:
            state = f"skipped: {states['skipped']}"
        if found.get(test) != "failed":
            found[test] = state
    return found
