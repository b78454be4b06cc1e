"""`mongoguard user`: an entry for the users file.

In: a name, roles, and a password from the terminal or standard input. Out: YAML on standard output. The password is
never an argument (every process can read those), and only SCRAM credentials made from it are printed.
"""

from __future__ import annotations

import argparse
import base64
import getpass
import secrets
import sys

import yaml

from mongoguard.authn.scram import SCRAM_SHA_256, derive_credentials
from mongoguard.cli.arguments import Parsers, role_name
from mongoguard.cli.errors import EXIT_OK, CommandFailed
from mongoguard.config.user_file import parse_user_file
from mongoguard.model.names import RoleName

__all__ = ["add_parser", "user_entry"]


def add_parser(commands: Parsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "user",
        help="print a users-file entry with credentials",
        description="Print a users-file entry. The password is read from the terminal, or from standard input.",
    )
    parser.add_argument("--name", required=True, help="the user's name")
    parser.add_argument("--db", default="admin", help="the database that defines the user (default: admin)")
    parser.add_argument(
        "--role",
        dest="roles",
        metavar="ROLE@DB",
        type=role_name,
        action="append",
        default=[],
        help="a role of the user; may be repeated",
    )
    parser.set_defaults(run=_run)


def user_entry(name: str, db: str, roles: list[RoleName], password: str) -> str:
    """The entry as a YAML list of one user. Raises `ConfigError` for a name or role that the users file refuses."""
    try:
        credentials = derive_credentials(
            SCRAM_SHA_256,
            name,
            password,
            secrets.token_bytes(SCRAM_SHA_256.salt_bytes),
            SCRAM_SHA_256.default_iterations,
        )
    except ValueError as error:
        raise CommandFailed(str(error)) from None
    entry = {
        "user": name,
        "db": db,
        "credentials": {
            SCRAM_SHA_256.name: {
                "iterationCount": credentials.iteration_count,
                "salt": base64.b64encode(credentials.salt).decode(),
                "storedKey": base64.b64encode(credentials.stored_key).decode(),
                "serverKey": base64.b64encode(credentials.server_key).decode(),
            }
        },
        "roles": [{"role": role.role, "db": role.db} for role in roles],
    }
    parse_user_file(yaml.safe_dump({"users": [entry]}), "users")
    return yaml.safe_dump([entry], sort_keys=False)


def _run(options: argparse.Namespace) -> int:
    print(user_entry(options.name, options.db, options.roles, _password()), end="")
    return EXIT_OK


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().removesuffix("\n")
    password = getpass.getpass()
    if getpass.getpass("Again: ") != password:
        raise CommandFailed("the two passwords differ")
    return password
