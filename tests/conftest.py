"""Fixtures that all tests share: real servers, started once a run and only when a test asks for one."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.kerberos import Kdc
from tests.ldap_servers import Slapd
from tests.node_clients import NodeClients
from tests.oidc_provider import MongodbOidcProvider, OidcProvider
from tests.pki import Pki
from tests.replica_sets import ReplicaSetOfThree
from tests.samba_ad import SambaAD
from tests.servers import Guard, Mongod, create_test_users

ON_CI = bool(os.environ.get("MONGOGUARD_CI"))
"""CI installs every server and client, so there nothing may be skipped."""

# Examples differ from run to run on a developer's machine; CI runs the same ones every time, and prints how to repeat.
settings.register_profile("ci", derandomize=True, print_blob=True, deadline=None)
settings.register_profile("local", deadline=None)
# For `tox -e pytest -- tests/property --hypothesis-profile=long`: minutes, not seconds.
settings.register_profile("long", deadline=None, max_examples=20_000)
settings.load_profile("ci" if ON_CI else "local")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """On CI a skipped test is a failed one: what it needs is not installed."""
    report = yield
    if ON_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """As above, for a test file that skips itself as a whole."""
    report = yield
    if ON_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


@pytest.fixture(autouse=True)
def _logging_is_left_as_it_was() -> Iterator[None]:
    """A test that runs the command line sets up mongoguard's log; the next test starts without it."""
    logger = logging.getLogger("mongoguard")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:] = before[0]
    logger.setLevel(before[1])
    logger.propagate = before[2]


@pytest.fixture(scope="session")
def mongods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mongod, Mongod]]:
    """A standalone mongod and a replica set of one, booting side by side; ask for `standalone` or `replica_set`."""
    directory = tmp_path_factory.mktemp("mongod")
    servers = (Mongod(directory / "standalone"), Mongod(directory / "replica_set", replica_set="rs0"))
    try:
        yield servers[0].start(), servers[1].start()
    finally:
        for server in servers:
            server.kill()  # its data is thrown away, so it need not write a checkpoint


@pytest.fixture(scope="session")
def standalone(mongods: tuple[Mongod, Mongod]) -> Mongod:
    """A standalone mongod with access control; administrator root."""
    return mongods[0].wait()


@pytest.fixture(scope="session")
def replica_set(mongods: tuple[Mongod, Mongod]) -> Mongod:
    """A replica set of one member with access control; administrator root."""
    return mongods[1].wait()


@pytest.fixture(scope="session")
def replica_set_of_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSetOfThree]:
    """A replica set of three members with access control; ask for `three_members`."""
    deployment = ReplicaSetOfThree(tmp_path_factory.mktemp("replica_set_of_three"))
    try:
        deployment.start().wait()
        create_test_users(deployment)
        yield deployment
    finally:
        deployment.kill()


@pytest.fixture
def three_members(replica_set_of_three: ReplicaSetOfThree) -> Iterator[ReplicaSetOfThree]:
    """A replica set of three members, which knows `servers.TEST_USERS`; whatever the test breaks is healed."""
    yield replica_set_of_three
    replica_set_of_three.heal()


def _guarded(mongod: Mongod, directory: Path) -> Iterator[Guard]:
    create_test_users(mongod)
    guard = Guard(directory, mongod)
    try:
        yield guard.start().wait()
    finally:
        guard.stop()  # in good order: its coverage is written at the end


@pytest.fixture(scope="session")
def guard_standalone(standalone: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """mongoguard in front of `standalone`, which knows `servers.TEST_USERS`."""
    yield from _guarded(standalone, tmp_path_factory.mktemp("guard_standalone"))


@pytest.fixture(scope="session")
def guard_replica_set(replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """mongoguard in front of `replica_set`, which knows `servers.TEST_USERS`."""
    yield from _guarded(replica_set, tmp_path_factory.mktemp("guard_replica_set"))


@pytest.fixture(scope="session")
def guard_of_three(
    replica_set_of_three: ReplicaSetOfThree, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guard]:
    """mongoguard in front of `replica_set_of_three`; ask for `three_members` too when a test breaks something."""
    guard = Guard(tmp_path_factory.mktemp("guard_of_three"), replica_set_of_three)
    try:
        yield guard.start().wait()
    finally:
        guard.stop()


@pytest.fixture(params=["standalone", "replica_set"])
def guard(request: pytest.FixtureRequest) -> Guard:
    """Each guarded deployment in turn; `guard.upstream` is the mongod behind it."""
    found: Guard = request.getfixturevalue(f"guard_{request.param}")
    return found


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certificates of every kind, by name."""
    return Pki(tmp_path_factory.mktemp("pki"))


def _running_slapd(server: Slapd) -> Iterator[Slapd]:
    try:
        server.start().wait()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def slapd(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """OpenLDAP with the people and groups of `directory_entries`; memberOf holds direct groups."""
    yield from _running_slapd(Slapd(tmp_path_factory.mktemp("slapd"), pki))


@pytest.fixture(scope="session")
def slapd_dynlist(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """As `slapd`; memberOf holds nested groups too, computed by the overlay dynlist."""
    yield from _running_slapd(Slapd(tmp_path_factory.mktemp("dynlist"), pki, overlay="dynlist"))


@pytest.fixture(scope="session")
def samba_ad(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SambaAD]:
    """A real Active Directory domain controller with the people and groups of `directory_entries` and odd accounts."""
    server = SambaAD(tmp_path_factory.mktemp("samba_ad"), pki)
    try:
        server.start().wait()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def kdc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    """An MIT Kerberos realm with alice, bob and the service mongodb/localhost."""
    server = Kdc(tmp_path_factory.mktemp("kdc"))
    try:
        yield server.start().wait()
    finally:
        server.kill()


@pytest.fixture(scope="session")
def oidc_server(pki: Pki) -> Iterator[OidcProvider]:
    """The stand-in identity provider; ask for `oidc_provider`."""
    provider = OidcProvider(pki).start()
    try:
        yield provider
    finally:
        provider.stop()


@pytest.fixture
def oidc_provider(oidc_server: OidcProvider) -> Iterator[OidcProvider]:
    """The stand-in identity provider, which publishes and signs what a test asks for; it behaves again afterwards."""
    yield oidc_server
    oidc_server.reset()


@pytest.fixture(scope="session")
def mongodb_oidc_provider(
    pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MongodbOidcProvider]:
    """MongoDB's own test identity provider: every token is alice's, of the group dba."""
    provider = MongodbOidcProvider(tmp_path_factory.mktemp("oidc"), pki)
    try:
        yield provider.start().wait()
    finally:
        provider.kill()


@pytest.fixture
def node_clients(tmp_path: Path) -> NodeClients:
    """mongosh and Node scripts, with a home folder of their own."""
    return NodeClients(tmp_path / "home")
