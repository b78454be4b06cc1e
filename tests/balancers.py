"""HAProxy in front of a mongoguard, in TCP mode: with PROXY headers of both versions, and without."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from tests.missing import require_program
from tests.servers import ChildServer, free_port

__all__ = ["BALANCER", "FRONT", "HAProxy"]

FRONT = "127.0.0.8"
"""Where clients find the balancer: what a header names as the server's address."""
BALANCER = "127.0.0.9"
"""From where it connects to mongoguard: what mongoguard would see of every client without a header."""

_DEFAULTS = """\
global
    maxconn 512
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    default-server source {balancer} check inter 200ms
"""
_LISTEN = """\
listen {name}
    bind {bind}
    unique-id-format %[uuid()]
    server guard {target} {options}
"""
_OPTIONS = {
    "v1": "send-proxy",
    "v2": "send-proxy-v2 proxy-v2-options crc32c,unique-id",
    "v6": "send-proxy-v2",
    "none": "",
}


class HAProxy(ChildServer):
    """One front per kind of header; `front(kind)` is where clients connect, kinds are v1, v2, v6 and none."""

    def __init__(self, directory: Path, target: str) -> None:
        """`target`: host:port of the mongoguard behind it."""
        super().__init__(directory, "haproxy.log")
        self._binary = require_program("haproxy", "apt-get install haproxy", folders=("/usr/sbin",))
        hosts = {kind: "::1" if kind == "v6" else FRONT for kind in _OPTIONS}
        self._ends = {kind: (host, free_port()) for kind, host in hosts.items()}
        self._config = directory / "haproxy.cfg"
        sections = [
            _LISTEN.format(name=kind, bind=self.front(kind), target=target, options=options)
            for kind, options in _OPTIONS.items()
        ]
        self._config.write_text(_DEFAULTS.format(balancer=BALANCER) + "".join(sections))

    def front(self, kind: str) -> str:
        """host:port of a front, an IPv6 host in brackets."""
        host, port = self._ends[kind]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self) -> HAProxy:
        """Start the process; `wait()` must follow before it is used."""
        self._spawn([self._binary, "-db", "-f", str(self._config)])
        return self

    def wait(self) -> HAProxy:
        """Return when every front is open."""
        for host, port in self._ends.values():
            for _ in self._poll():
                with contextlib.suppress(OSError), socket.create_connection((host, port), 1.0):
                    break
        return self
