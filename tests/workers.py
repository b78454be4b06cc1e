"""The worker processes of a mongoguard: which there are, and connections to one of choice."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path

from tests.rawwire import RawConnection
from tests.servers import Guard, password_of

__all__ = ["Crew", "children_of", "is_alive", "within", "workers_of"]


def within(seconds: float, condition: Callable[[], object]) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def workers_of(guard: Guard) -> dict[int, int]:
    """Number -> process id of the workers that serve, as the log names them."""
    found = re.findall(r"worker (\d+) \(pid (\d+)\) serves", guard.log)
    return {int(number): int(pid) for number, pid in found}


def children_of(pid: int) -> list[int]:
    """The process ids of its children, whichever of its threads has started them."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            found += map(int, thread.read_text().split())
    return found


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def inode_owner(pid: int, connection: RawConnection) -> bool:
    """Whether that process holds the other end of this connection."""
    host, port = connection._socket.getsockname()[:2]
    return f"{host}:{port}" in _established(pid)


def _established(pid: int) -> set[str]:
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    peers = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes:
            address, port = fields[2].split(":")
            octets = bytes.fromhex(address)[::-1]
            peers.add(f"{'.'.join(map(str, octets))}:{int(port, 16)}")
    return peers


class Crew:
    """A guard with several workers, and connections to workers of choice."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.opened: list[RawConnection] = []

    @property
    def pids(self) -> dict[int, int]:
        """Number -> process id of the workers of now."""
        return workers_of(self.guard)

    def connect(self, worker: int, user: str | None = None) -> RawConnection:
        """A connection that this worker serves, logged in."""
        others = []
        try:
            for _ in range(300):
                raw = RawConnection(self.guard.address)
                raw.command("admin", {"hello": 1})
                if inode_owner(self.pids[worker], raw):
                    self.opened.append(raw)
                    if user is not None:
                        raw.log_in(user, password_of(user))
                    return raw
                others.append(raw)  # kept, or else the same worker would take the next one, too: it has fewer
        finally:
            for other in others:
                other.close()
        raise AssertionError(f"worker {worker} took no connection")

    def close(self) -> None:
        """Close all connections."""
        for raw in self.opened:
            raw.close()
        self.opened.clear()
