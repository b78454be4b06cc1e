"""A server with a fixed port on a free one: that it is reached, apart from this machine's network, and ends with the run."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.samba_ad import require_network_namespaces
from tests.servers import PROJECT, free_port

FIXED_PORT = 619

SERVER = f"""
import os, socket
listener = socket.create_server(("127.0.0.1", {FIXED_PORT}))
print(os.getpid(), flush=True)
while True:
    connection, _ = listener.accept()
    question = connection.recv(100)
    if question == b"end":
        os._exit(7)
    connection.sendall(question.upper())
    connection.close()
"""


@contextmanager
def private(port: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The relaying process, and the server's pid."""
    require_network_namespaces()
    command = [sys.executable, "-m", "tests.private_network", f"{port}:{FIXED_PORT}", "--"]
    with subprocess.Popen(
        [*command, sys.executable, "-c", SERVER], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def ask(port: int, question: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(question)
        return client.recv(100)


def ended(pid: int) -> bool:
    """Whether the process is gone, or a zombie that nobody reaps, within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if "State:\tZ" not in status.read_text():
                time.sleep(0.02)
                continue
        return True
    return False


def test_two_servers_of_one_fixed_port_are_reached_and_the_port_is_not_taken_here() -> None:
    first, second = free_port(), free_port()
    with private(first), private(second):
        assert (ask(first, b"one"), ask(second, b"two")) == (b"ONE", b"TWO")
        with pytest.raises(ConnectionRefusedError):
            ask(FIXED_PORT, b"here")


def test_the_server_ends_when_the_relay_is_killed() -> None:
    with private(free_port()) as (process, pid):
        process.send_signal(signal.SIGKILL)
        assert ended(pid)


def test_the_relay_ends_with_the_servers_own_status() -> None:
    port = free_port()
    with private(port) as (process, _):
        assert ask(port, b"end") == b""
        assert process.wait(10) == 7


def test_the_server_sees_nothing_of_this_machines_loopback() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), private(free_port()) as (_, pid):
        listening = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        assert [line.split()[1] for line in listening if line.split()[3] == "0A"] == [
            f"0100007F:{FIXED_PORT:04X}"
        ]
