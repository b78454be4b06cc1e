"""A worker process of `mongoguard serve`: not for the command line, the supervisor starts it.

In: the descriptor of its end of the link. Out: an exit status; what it could not start for, told to the supervisor.
Must not print: what is said of several processes is said once.
"""

from __future__ import annotations

import signal

# Before anything else: a terminal or a service manager signals all processes, and the supervisor says what is meant.
for _number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(_number, signal.SIG_IGN)

import socket  # noqa: E402
import sys  # noqa: E402

from mongoguard.cli.errors import EXIT_FAILED, EXIT_OK, sentences_for  # noqa: E402
from mongoguard.server.ready_sockets import run_with_ready_sockets  # noqa: E402
from mongoguard.server.worker import Worker  # noqa: E402

__all__ = ["main"]


def main(descriptor: int) -> int:
    """Serve, until the supervisor says otherwise or is gone."""
    served: bool = run_with_ready_sockets(_serve, socket.socket(fileno=descriptor))
    return EXIT_OK if served else EXIT_FAILED


async def _serve(sock: socket.socket) -> bool:
    return await Worker(sock, sentences_for).run()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
