"""Arguments that several commands share.

In: an argparse parser, or an argument's text. Out: arguments added, or values. Must not know what a command does.
"""

from __future__ import annotations

import argparse
from typing import TypeAlias

from mongoguard.model.names import RoleName, UserName

__all__ = ["Parsers", "add_config", "role_name", "user_name"]

Parsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 (it has no other name)


def add_config(parser: argparse.ArgumentParser) -> None:
    """`-f FILE`, and `--config FILE` as mongod has it."""
    parser.add_argument(
        "-f", "--config", dest="config", metavar="FILE", required=True, help="the configuration file"
    )


def user_name(text: str) -> UserName:
    """`alice@admin`; a user's name may hold an @, a database's may not."""
    return UserName(*_split(text, "alice@admin"))


def role_name(text: str) -> RoleName:
    """`readWrite@shop`."""
    return RoleName(*_split(text, "readWrite@shop"))


def _split(text: str, example: str) -> tuple[str, str]:
    name, _, db = text.rpartition("@")
    if not name or not db:
        raise argparse.ArgumentTypeError(f"expected a name and its database, such as {example}")
    return name, db
