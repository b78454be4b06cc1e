"""`mongoguard serve`: run the proxy.

In: a configuration file. Out: an exit status once the proxy has ended. Must not know how it runs.
"""

from __future__ import annotations

import functools

import trio

from mongoguard.cli.arguments import Parsers, add_config
from mongoguard.cli.errors import EXIT_OK
from mongoguard.config.loading import load_settings
from mongoguard.config.settings import Settings
from mongoguard.server.log import configure_logging

__all__ = ["add_parser", "run_proxy"]


def add_parser(commands: Parsers) -> None:
    """Declare the command."""
    parser = commands.add_parser("serve", help="run the proxy", description="Run the proxy.")
    add_config(parser)
    parser.set_defaults(run=lambda options: run_proxy(load_settings(options.config)))


def run_proxy(settings: Settings) -> int:
    """Set up the log, and serve until a signal ends it."""
    from mongoguard.server.serving import serve  # the other commands start faster without it

    configure_logging(settings.system_log)
    trio.run(serve, settings, functools.partial(print, flush=True))
    return EXIT_OK
