"""What mongoguard holds: descriptors, sockets on either side, threads, memory; from /proc, its workers included."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Footprint", "children_of", "footprint"]


@dataclass(frozen=True, slots=True)
class Footprint:
    """Sums over a process and its children. `other_descriptors` are neither clients' nor the upstream's sockets."""

    processes: int
    client_sockets: int
    upstream_sockets: int
    other_descriptors: int
    threads: int
    megabytes: float


def children_of(pid: int) -> list[int]:
    """The processes whose parent it is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # pid (name) state ppid …: the name may hold spaces and brackets
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid:
                    found.append(int(entry.name))
    return sorted(found)


def footprint(pid: int, port: int, upstream_ports: Iterable[int]) -> Footprint:
    """Count now. `port` is where clients come in, `upstream_ports` are what mongoguard connects to."""
    pids = [pid, *children_of(pid)]
    servers = set(upstream_ports)
    ends = _ends_of_sockets(pids)
    clients = upstream = other = 0
    for one in pids:
        for inode in _descriptors(one):
            local, remote = ends.get(inode, (0, 0))
            if remote and local == port:
                clients += 1
            elif remote in servers:
                upstream += 1
            else:
                other += 1
    return Footprint(
        processes=len(pids),
        client_sockets=clients,
        upstream_sockets=upstream,
        other_descriptors=other,
        threads=sum(_status(one, "Threads") for one in pids),
        megabytes=sum(_status(one, "VmRSS") for one in pids) / 1024,
    )


def _descriptors(pid: int) -> Iterator[str]:
    """Each open descriptor; a socket's as its inode."""
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                target = str(entry.readlink())
                found = re.fullmatch(r"socket:\[(\d+)\]", target)
                yield found.group(1) if found else target


def _ends_of_sockets(pids: Iterable[int]) -> dict[str, tuple[int, int]]:
    """Inode -> (local port, remote port) of every TCP socket that these processes can see."""
    found = {}
    for table in {f"/proc/{pid}/net/{name}" for pid in pids for name in ("tcp", "tcp6")}:
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                local, remote = (int(end.rpartition(":")[2], 16) for end in fields[1:3])
                found[fields[9]] = local, remote
    return found


def _status(pid: int, field: str) -> int:
    with suppress(OSError):
        found = re.search(rf"^{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        if found:
            return int(found.group(1))
    return 0
