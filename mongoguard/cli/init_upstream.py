"""`mongoguard init-upstream`: create the service user and its role in the deployment behind.

In: an administrator's connection string. Out: the upstream URI to configure, on standard output. Running it again
brings the role up to date and keeps the password.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from typing import Any

from pymongo import MongoClient
from pymongo.errors import ConfigurationError, InvalidURI

from mongoguard.cli.arguments import Parsers
from mongoguard.cli.errors import EXIT_OK
from mongoguard.cli.service_user import create_service_user, service_uri
from mongoguard.errors import ConfigError

__all__ = ["SERVICE_ROLE", "SERVICE_USER", "add_parser"]

SERVICE_USER = "mongoguard"
SERVICE_ROLE = "mongoguardService"
CONNECT_TIMEOUT_MS = 10_000
"""An administrator waits in front of the terminal; what doesn't answer in this time is the wrong address."""


def add_parser(commands: Parsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "init-upstream",
        help="create the service user upstream",
        description="Create the service user and the role it needs in the deployment behind mongoguard.",
    )
    parser.add_argument(
        "--uri", required=True, help="an administrator's connection string; - reads it from standard input"
    )
    parser.add_argument("--user", default=SERVICE_USER, help=f"the service user (default: {SERVICE_USER})")
    parser.add_argument("--role", default=SERVICE_ROLE, help=f"its role (default: {SERVICE_ROLE})")
    parser.add_argument(
        "--rotate-password", action="store_true", help="give an existing service user a new password"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    uri = options.uri if options.uri != "-" else _read_uri()
    try:
        client = MongoClient[dict[str, Any]](
            uri,
            serverSelectionTimeoutMS=CONNECT_TIMEOUT_MS,
            connectTimeoutMS=CONNECT_TIMEOUT_MS,
            appname="mongoguard init-upstream",
        )
    except (InvalidURI, ConfigurationError, ValueError):
        raise ConfigError("--uri: expected a mongodb:// or mongodb+srv:// connection string") from None
    with client:
        made = create_service_user(
            client, options.user, options.role, rotate_password=options.rotate_password
        )
    print(f"# {made.user}@admin holds {options.role}@admin with {len(made.actions)} actions on any resource.")
    if made.password is None:
        print("# The user was there before and keeps its password (--rotate-password makes a new one).")
    print("# Keep this secret; for mongoguard.yaml, or a file that upstream.uriFile names:")
    print(service_uri(uri, made.user, made.password))
    return EXIT_OK


def _read_uri() -> str:
    return getpass.getpass("URI: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
