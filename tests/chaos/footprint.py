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
    """Sums over a process and its children. `other_descriptors` are neither clients' nor the upstream's sockets.

    A TCP socket that was reset is in no table any more: it is one of the upstream's, in a pool that will look at it
    before it is used, for a client's is read from all the time.
    """

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
    ends, others = _ends_of_sockets(pids), _sockets_without_ends(pids)
    clients = upstream = other = 0
    for one in pids:
        for name, is_socket in _descriptors(one):
            local, remote = ends.get(name, (0, 0))
            if remote and local == port:
                clients += 1
            elif remote in servers or (is_socket and name not in ends and name not in others):
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


def _descriptors(pid: int) -> Iterator[tuple[str, bool]]:
    """Each open descriptor, and whether it is a socket, which is named by its inode."""
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                target = str(entry.readlink())
                found = re.fullmatch(r"socket:\[(\d+)\]", target)
                yield (found.group(1), True) if found else (target, False)


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


def _sockets_without_ends(pids: Iterable[int]) -> set[str]:
    """The inodes of other sockets that these processes can see."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            found |= {line.split()[6] for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]}
        for table in (f"/proc/{pid}/net/udp", f"/proc/{pid}/net/udp6"):
            with suppress(OSError):
                found |= {line.split()[9] for line in Path(table).read_text().splitlines()[1:]}
    return found


def _status(pid: int, field: str) -> int:
    with suppress(OSError):
        found = re.search(rf"^{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        if found:
            return int(found.group(1))
    return 0
