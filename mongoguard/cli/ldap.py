"""`mongoguard ldap`: what the LDAP directory makes of a user, step by step.

In: a configuration file, a user's name, perhaps a password. Out: steps on standard output, as text or JSON; exit
status 1 when one failed. Nobody is logged in, nothing is changed, and no password is printed.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from pathlib import Path

import trio

from mongoguard.cli.arguments import Parsers, add_config
from mongoguard.cli.errors import EXIT_FAILED, EXIT_OK, CommandFailed
from mongoguard.cli.steps import Report, Step, as_lines
from mongoguard.config.loading import load_settings
from mongoguard.config.settings import Settings
from mongoguard.errors import ConfigError

__all__ = ["add_parser"]

MAX_PASSWORD_FILE_BYTES = 4097
"""A password of PLAIN has at most 4096 bytes, and a line's end may follow it."""


def add_parser(commands: Parsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "ldap",
        help="say what the LDAP directory makes of a user, step by step",
        description="Try security.ldap step by step: servers, TLS, binds, the mapping of the name, the password, "
        "groups, and the roles they become. Without a password only the roles are asked for.",
    )
    add_config(parser)
    parser.add_argument(
        "--user", required=True, type=_name, metavar="NAME", help="as the client would write it"
    )
    parser.add_argument(
        "--password-file",
        metavar="FILE",
        help="a file with the user's password on its first line; - asks at the terminal, or reads standard input",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document (docs/ldap.md)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    steps: list[Step] = []
    report = Report(steps.append if options.json else _print)
    report.begin()
    settings = load_settings(options.config)
    if settings.security.ldap is None:
        raise ConfigError(f"{settings.source}: there is no section security.ldap")
    password = None if options.password_file is None else _password(options.password_file)
    _configuration(settings, report, has_password=password is not None)
    trio.run(_probe, settings, report, options.user, password)
    if options.json:
        document = {"user": options.user, "ok": not report.failed, "steps": [s.to_document() for s in steps]}
        print(json.dumps(document, indent=2))
    return EXIT_FAILED if report.failed else EXIT_OK


def _print(step: Step) -> None:
    for line in as_lines(step):
        print(line, flush=True)


async def _probe(settings: Settings, report: Report, name: str, password: str | None) -> None:
    from mongoguard.cli.ldap_login import LoginProbe, WatchedDirectory
    from mongoguard.cli.ldap_servers import ServersProbe

    directory = WatchedDirectory(settings)
    warn_days = settings.set_parameter.tls_x509_expiration_warning_threshold_days
    try:
        if await ServersProbe(directory, report, warn_days).run():
            await LoginProbe(settings, directory, report, name, password).run()
    finally:
        directory.close()


def _configuration(settings: Settings, report: Report, *, has_password: bool) -> None:
    warnings = []
    has_plain = "PLAIN" in settings.mechanisms
    if has_password and not has_plain:
        warnings.append(
            "PLAIN is not in setParameter.authenticationMechanisms: nobody can log in by password"
        )
    if has_plain and not settings.net.tls.is_on and not settings.net.unix_socket_paths:
        warnings.append("neither net.tls.mode nor a Unix socket is on: PLAIN is refused on every connection")
    tell = report.warn if warnings else report.ok
    tell("configuration", f"{settings.source}: security.ldap can be read", *warnings)


def _name(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("expected a name in UTF-8") from None
    return text


def _password(path: str) -> str:
    """The first line of the file. Raises `CommandFailed` for what is no password."""
    if path == "-":
        text = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline()
    else:
        with Path(path).open("rb") as file:
            content = file.read(MAX_PASSWORD_FILE_BYTES + 1)
        if len(content) > MAX_PASSWORD_FILE_BYTES:
            raise CommandFailed(f"--password-file {path}: expected a password of at most 4096 bytes")
        text = content.decode().partition("\n")[0]
    return text.removesuffix("\n").removesuffix("\r")
