"""`python -m tests.private_network LISTEN:TARGET ... -- COMMAND`: a server with fixed ports, on free ones.

The command runs in a network namespace of its own, where port 389 is nobody else's, and loopback ports here are relayed
into it. The namespace has no name and ends with its processes; the command ends with this process, and this process with
the command. Needs CAP_SYS_ADMIN (unshare(2)).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import TypeAlias

CONNECT_SECONDS = 5.0
CLONE_NEWNET = 0x4000_0000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
PR_SET_PDEATHSIG = 1

Answer: TypeAlias = "queue.Queue[socket.socket | None]"

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A thread that lives in a network namespace of its own: what it starts is there, and so are its sockets."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start the command in it."""
        self._command = command
        self._wanted: queue.Queue[tuple[int, Answer]] = queue.Queue()
        threading.Thread(target=self._live, daemon=True).start()

    def connect(self, port: int) -> socket.socket | None:
        """A connection to a loopback port of the namespace; None when nobody listens there."""
        answer: Answer = queue.Queue()
        self._wanted.put((port, answer))
        return answer.get()

    def _live(self) -> None:
        if _libc.unshare(CLONE_NEWNET) != 0:
            print("unshare:", os.strerror(ctypes.get_errno()), flush=True)
            os._exit(1)
        with socket.socket() as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
        child = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
        )
        threading.Thread(target=lambda: os._exit(child.wait()), daemon=True).start()
        while True:
            port, answer = self._wanted.get()
            try:
                answer.put(socket.create_connection(("127.0.0.1", port), CONNECT_SECONDS))
            except OSError:
                answer.put(None)


def main(arguments: Sequence[str]) -> None:
    """Run until the command ends or this process is ended."""
    split = arguments.index("--")
    namespace = Namespace(arguments[split + 1 :])
    for relay in arguments[:split]:
        near, far = map(int, relay.split(":"))
        listener = socket.create_server(("127.0.0.1", near), backlog=128)
        threading.Thread(target=_serve, args=(listener, far, namespace), daemon=True).start()
    threading.Event().wait()


def _serve(listener: socket.socket, target: int, namespace: Namespace) -> None:
    while True:
        near, _ = listener.accept()
        far = namespace.connect(target)
        if far is None:
            near.close()
        else:
            threading.Thread(target=_join, args=(near, far), daemon=True).start()


def _join(near: socket.socket, far: socket.socket) -> None:
    with near, far:
        for end in (near, far):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_copy, args=(far, near), daemon=True)
        back.start()
        _copy(near, far)
        back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while octets := source.recv(65_536):
            sink.sendall(octets)
    for end, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with contextlib.suppress(OSError):
            end.shutdown(how)


if __name__ == "__main__":
    main(sys.argv[1:])
