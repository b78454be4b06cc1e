"""The `mongoguard` command.

In: arguments. Out: an exit status: 0 done, 1 failed, 2 bad usage or configuration. On an error one sentence
a problem on standard error. Must not do any work itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mongoguard import __version__
from mongoguard.cli import check, demo, explain, init_upstream, ldap, serve, user
from mongoguard.cli.errors import sentences_for

__all__ = ["main"]

_COMMANDS = (serve, demo, check, explain, ldap, init_upstream, user)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except BaseException as error:
        told = sentences_for(error)
        if told is None:
            raise
        for sentence in told[0]:
            print(f"mongoguard: {sentence}", file=sys.stderr)
        return told[1]
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mongoguard",
        description="A server in front of MongoDB that authenticates clients and decides every command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mongoguard {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser
