"""`mongoguard serve`: run the proxy.

In: a configuration file. Out: an exit status once the proxy has ended. Must not know how it runs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from mongoguard.cli.arguments import Parsers, add_config
from mongoguard.config.loading import load_settings
from mongoguard.config.settings import Settings
from mongoguard.errors import ConfigError
from mongoguard.server.log import configure_logging

__all__ = ["add_parser", "run_proxy"]


def add_parser(commands: Parsers) -> None:
    """Declare the command."""
    parser = commands.add_parser("serve", help="run the proxy", description="Run the proxy.")
    add_config(parser)
    parser.set_defaults(run=lambda options: run_proxy(load_settings(options.config)))


def run_proxy(settings: Settings) -> int:
    """Log the warnings, write the pid file, serve until a signal ends it."""
    from mongoguard.server.app import serve  # the other commands start faster without it

    configure_logging(settings.system_log)
    for warning in settings.warnings():
        logging.getLogger("mongoguard.control").warning(warning)
    with _pid_file(settings.process_management.pid_file_path):
        return trio.run(serve, settings) or 0


@contextmanager
def _pid_file(path: str | None) -> Iterator[None]:
    if path is None:
        yield
        return
    try:
        Path(path).write_text(f"{os.getpid()}\n", encoding="ascii")
    except OSError as error:
        raise ConfigError(f"processManagement.pidFilePath: can't write {path}: {error.strerror}") from None
    try:
        yield
    finally:
        Path(path).unlink(missing_ok=True)
