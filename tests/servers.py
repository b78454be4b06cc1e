"""Real servers for tests: mongod, standalone and as a replica set of one, and mongoguard itself in front of them.

Every server runs on a free loopback port in a folder of its own, is ended by its pid, and ends by itself when the test
run dies (PR_SET_PDEATHSIG). `start()` returns at once, so that several can boot side by side; `wait()` returns when
the server answers.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote, urlencode

import pymongo
import yaml
from pymongo.errors import PyMongoError

from tests.missing import require_mongod

__all__ = [
    "ROOT",
    "TEST_USERS",
    "ChildServer",
    "Deployment",
    "Guard",
    "Mongod",
    "ServerDidNotStart",
    "create_test_users",
    "free_port",
    "init_upstream",
    "password_of",
    "run_mongoguard",
    "wait_for_port",
]

Client: TypeAlias = "pymongo.MongoClient[dict[str, Any]]"

ROOT = "root"
"""The administrator that every test deployment has."""

PROJECT = Path(__file__).parent.parent
"""Where `python -m mongoguard` finds the code under test, installed or not."""

START_SECONDS = 60.0
"""A loaded two-core machine needs about 5 s for mongod's first start."""
STOP_SECONDS = 20.0
"""After SIGTERM; then SIGKILL. mongod writes a checkpoint first."""

FIRST_PORT, PORTS = 20_000, 12_000
"""Below Linux's range for outgoing connections (32768 and up), one of which could take a port before its server does."""

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl


class ServerDidNotStart(RuntimeError):
    """The process ended or did not answer in time; the text holds the end of its log."""


def password_of(user: str) -> str:
    """Every test user's password."""
    return f"{user}-pw"


def free_port() -> int:
    """A port that nobody uses now, from a range that the kernel gives to no client."""
    for _ in range(100):
        port = FIRST_PORT + secrets.randbelow(PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise ServerDidNotStart("no free port was found in 100 tries")


def wait_for_port(port: int, seconds: float = 10.0) -> None:
    """Return when something listens on that loopback port; `ServerDidNotStart` when nothing does in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.02)
    raise ServerDidNotStart(f"nothing listens on port {port} after {seconds:.0f} s")


def _die_with_parent() -> None:  # pragma: no cover (runs between fork and exec)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ChildServer:
    """A child process that listens on one loopback port, its log, and its end."""

    def __init__(self, directory: Path, log_name: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.log_path = directory / log_name
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything the server has written to its log so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _spawn(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        assert not self.running, "the server is already running"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                preexec_fn=_die_with_parent,  # noqa: PLW1509  (nothing but prctl runs there)
                cwd=PROJECT,
            )

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def stop(self) -> int:
        """End it in good order (SIGTERM) and return its exit status; 0 when it was not running."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End it as a crash does (SIGKILL) and return its exit status."""
        return self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(number)
        try:
            status = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        self._process = None
        return status

    def _did_not_start(self, why: str) -> ServerDidNotStart:
        return ServerDidNotStart(f"{type(self).__name__} {why}; the end of its log:\n{self.log[-3000:]}")

    def _poll(self) -> Iterator[None]:
        """Yield until the caller breaks out; raise when the process ended or the time is over."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self.running:
                status = None if self._process is None else self._process.returncode
                raise self._did_not_start(f"ended with status {status}")
            yield
            time.sleep(0.02)
        raise self._did_not_start(f"did not answer within {START_SECONDS:.0f} s")


class Mongod(ChildServer):
    """A mongod with access control on, and the user root (role root, password `password_of("root")`)."""

    def __init__(
        self,
        directory: Path,
        *,
        replica_set: str | None = None,
        arguments: Sequence[str] = (),
        cache_gb: str = "0.5",
    ) -> None:
        """Prepare a server in `directory`; `arguments` are added to mongod's command line.

        `cache_gb`: with less than 0.5 a large transaction fails now and then with 388.
        """
        super().__init__(directory, "mongod.log")
        self._cache_gb = cache_gb
        self.replica_set = replica_set
        self._arguments = tuple(arguments)
        self._binary = require_mongod()
        self._initialized = False
        self.upstream_uri: str | None = None

    def start(self) -> Mongod:
        """Start the process; `wait()` must follow before it is used."""
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        self._spawn(
            [
                str(self._binary),
                *("--dbpath", str(data), "--port", str(self.port), "--bind_ip", "127.0.0.1"),
                *("--auth", "--wiredTigerCacheSizeGB", self._cache_gb),
                *("--setParameter", "enableTestCommands=1"),
                *("--setParameter", "diagnosticDataCollectionEnabled=false"),
                *self._replica_set_arguments(),
                *self._arguments,
            ]
        )
        return self

    def wait(self) -> Mongod:
        """Return when it accepts writes; at the first start, set up the replica set and create root."""
        with self._unauthenticated() as client:
            self._wait_for(client)
            if not self._initialized:
                self._initialize(client)
                self._initialized = True
            elif self.replica_set:
                self._wait_for(client, writable=True)
        return self

    def restart(self) -> Mongod:
        """Stop it in good order and start it again on the same port with the same data."""
        self.stop()
        return self.start().wait()

    def uri(self, user: str | None = ROOT, password: str | None = None, **options: str) -> str:
        """A connection string; `user=None` for one without credentials. `password` defaults to `password_of(user)`."""
        if self.replica_set and "directConnection" not in options:
            options = {"replicaSet": self.replica_set, **options}
        return connection_string(self.address, user, password, options)

    def client(self, user: str | None = ROOT, password: str | None = None, **options: str) -> Client:
        """A PyMongo client; close it (`with`)."""
        return pymongo.MongoClient(self.uri(user, password, **options))

    def _replica_set_arguments(self) -> list[str]:
        if self.replica_set is None:
            return []
        return ["--replSet", self.replica_set, "--keyFile", str(self._key_file()), "--oplogSize", "128"]

    def _key_file(self) -> Path:
        key = self.directory / "keyfile"
        if not key.exists():
            key.touch(0o600)
            key.write_text(secrets.token_hex(96))
        return key

    def _unauthenticated(self) -> Client:
        return pymongo.MongoClient(self.uri(None, directConnection="true", serverSelectionTimeoutMS="500"))

    def _wait_for(self, client: Client, *, writable: bool = False) -> None:
        for _ in self._poll():
            with contextlib.suppress(PyMongoError):
                if client.admin.command("hello")["isWritablePrimary"] or not writable:
                    return

    def _initialize(self, client: Client) -> None:
        """Through the localhost exception, which ends with the first user."""
        if self.replica_set:
            members = [{"_id": 0, "host": self.address}]
            client.admin.command("replSetInitiate", {"_id": self.replica_set, "members": members})
            self._wait_for(client, writable=True)
        client.admin.command("createUser", ROOT, pwd=password_of(ROOT), roles=["root"])


TEST_USERS: Mapping[str, tuple[str, list[dict[str, str]]]] = {
    "app": ("admin", [{"role": "readWrite", "db": "shop"}]),
    "reader": ("admin", [{"role": "read", "db": "shop"}]),
    "nobody": ("admin", []),
    "orders_only": ("admin", [{"role": "ordersReader", "db": "admin"}]),
}
"""Who the guarded deployments know beside root: name -> (database, roles)."""


def create_test_users(mongod: Deployment) -> None:
    """Create `TEST_USERS` and the role ordersReader (find on shop.orders) as the administrator."""
    with mongod.client() as client:
        resource = {"db": "shop", "collection": "orders"}
        client.admin.command(
            "createRole", "ordersReader", privileges=[{"resource": resource, "actions": ["find"]}], roles=[]
        )
        for name, (db, roles) in TEST_USERS.items():
            client[db].command("createUser", name, pwd=password_of(name), roles=roles)


def connection_string(
    address: str, user: str | None, password: str | None, options: Mapping[str, str]
) -> str:
    """`mongodb://user:password@address/?options`, percent-encoded."""
    login = "" if user is None else f"{quote(user, safe='')}:{quote(password or password_of(user), safe='')}@"
    return f"mongodb://{login}{address}/?{urlencode(options)}"


def run_mongoguard(*arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end, as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "mongoguard", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=PROJECT,
    )


class Deployment(Protocol):
    """What tests put mongoguard in front of."""

    upstream_uri: str | None
    """The service user's connection string, once `init_upstream` has made that user."""

    def uri(self, user: str | None = ROOT, password: str | None = None, **options: str) -> str:
        """A connection string for the deployment itself."""

    def client(self, user: str | None = ROOT, password: str | None = None, **options: str) -> Client:
        """A PyMongo client of the deployment itself."""


def init_upstream(mongod: Deployment) -> str:
    """Create mongoguard's service user with `mongoguard init-upstream` and return the upstream URI it prints.

    The password is printed only once, so a deployment's URI is remembered.
    """
    if mongod.upstream_uri is not None:
        return mongod.upstream_uri
    done = run_mongoguard("init-upstream", "--uri", mongod.uri())
    found = re.search(r"mongodb(?:\+srv)?://[^\s\"']+", done.stdout)
    if done.returncode != 0 or found is None:
        raise ServerDidNotStart(
            f"init-upstream: exit status {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
        )
    mongod.upstream_uri = found.group()
    return mongod.upstream_uri


class _WithoutAliases(yaml.SafeDumper):
    """Writes whole what comes twice: mongoguard reads no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class Guard(ChildServer):
    """`mongoguard serve` in front of an upstream.

    `settings` are merged over the configuration that the test deployment needs (net.port, net.bindIp, upstream.uri).
    """

    _LISTENING = re.compile(r"listening on .+ \(pid (\d+)\)")

    def __init__(
        self, directory: Path, upstream: Deployment, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Prepare a server in `directory`, and the service user on `upstream` when it is not there yet."""
        super().__init__(directory, "mongoguard.log")
        self.upstream = upstream
        self.config_path = directory / "mongoguard.yaml"
        self._needed = {
            "net": {"port": self.port, "bindIp": "127.0.0.1"},
            "upstream": {"uri": init_upstream(upstream)},
        }
        self.configure(settings or {})

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Write the configuration file anew; a running server sees it after `restart()` or SIGHUP."""
        self.config_path.touch(0o600)
        self.config_path.write_text(yaml.dump(_merged(self._needed, settings), Dumper=_WithoutAliases))

    def start(self) -> Guard:
        """Start the process; `wait()` must follow before it is used."""
        arguments = [sys.executable, "-m", "mongoguard", "serve", "-f", str(self.config_path)]
        self._spawn(arguments, {"PYTHONUNBUFFERED": "1"})
        return self

    def wait(self) -> Guard:
        """Return when it says that it accepts connections."""
        for _ in self._poll():
            if str(self.pid) in self._LISTENING.findall(self.log):
                break
        return self

    def restart(self) -> Guard:
        """Stop it in good order and start it again on the same port."""
        self.stop()
        return self.start().wait()

    def uri(self, user: str | None = ROOT, password: str | None = None, **options: str) -> str:
        """A connection string; `user=None` for one without credentials. `password` defaults to `password_of(user)`."""
        return connection_string(self.address, user, password, options)

    def client(self, user: str | None = ROOT, password: str | None = None, **options: str) -> Client:
        """A PyMongo client; close it (`with`)."""
        return pymongo.MongoClient(self.uri(user, password, **options))


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result
