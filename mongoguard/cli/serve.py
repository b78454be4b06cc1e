"""`mongoguard serve`: run the proxy.

In: a configuration file. Out: an exit status once the proxy has ended. Must not know how it runs.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys

import trio

from mongoguard.cli.arguments import Parsers, add_config
from mongoguard.cli.errors import EXIT_OK
from mongoguard.config.loading import read_config
from mongoguard.config.settings import Settings
from mongoguard.server.log import configure_logging

__all__ = ["add_parser", "run_proxy"]

# -P: what lies in the working directory is no module.
_WORKER = (sys.executable, "-P", "-m", "mongoguard.cli.worker")


def add_parser(commands: Parsers) -> None:
    """Declare the command."""
    parser = commands.add_parser("serve", help="run the proxy", description="Run the proxy.")
    add_config(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    texts, settings = read_config(options.config)
    workers = settings.workers or len(os.sched_getaffinity(0))
    if workers == 1:
        return run_proxy(settings)
    from mongoguard.server.supervisor import supervise

    configure_logging(settings.system_log)
    trio.run(supervise, texts, settings, workers, _WORKER, functools.partial(print, flush=True))
    return EXIT_OK


def run_proxy(settings: Settings) -> int:
    """Set up the log, and serve in this process until a signal ends it."""
    from mongoguard.server.ready_sockets import run_with_ready_sockets
    from mongoguard.server.serving import serve  # the other commands start faster without it

    configure_logging(settings.system_log)
    run_with_ready_sockets(serve, settings, functools.partial(print, flush=True))
    return EXIT_OK
