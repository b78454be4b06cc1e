"""`mongoguard demo`: a throw-away mongod with sample data, and the proxy in front of it.

In: a port, perhaps mongod's path. Out: connection strings and things to try on standard output; runs until Ctrl-C or
SIGTERM, and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from pymongo import MongoClient

from mongoguard.cli.arguments import Parsers
from mongoguard.cli.demo_content import DEMO_USERS, fill
from mongoguard.cli.demo_mongod import DemoMongod, find_mongod
from mongoguard.cli.errors import EXIT_OK, CommandFailed
from mongoguard.cli.init_upstream import SERVICE_ROLE, SERVICE_USER
from mongoguard.cli.serve import run_proxy
from mongoguard.cli.service_user import create_service_user, service_uri
from mongoguard.config.loading import load_settings
from mongoguard.config.secret import Secret

__all__ = ["add_parser"]

DEFAULT_PORT = 27017
EXPLAINED = '{"delete": "orders", "deletes": [{"q": {}, "limit": 0}]}'


def add_parser(commands: Parsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "demo",
        help="try it: a throw-away mongod and the proxy in front of it",
        description="Start a throw-away mongod with sample data and the proxy in front of it. Ctrl-C ends both.",
    )
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help=f"the proxy's port (default: {DEFAULT_PORT})"
    )
    parser.add_argument(
        "--mongod", metavar="PATH", help="the mongod program (default: $MONGOGUARD_MONGOD, PATH)"
    )
    parser.set_defaults(run=_run)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError("expected a port number from 1 to 65535")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    program = find_mongod(options.mongod)
    _require_free(options.port)
    with (
        _terminated_as_interrupted(),
        tempfile.TemporaryDirectory(prefix="mongoguard-demo-") as name,
        contextlib.suppress(KeyboardInterrupt),
    ):
        directory = Path(name)
        print("Starting a throw-away mongod ...", flush=True)
        with DemoMongod(program, directory) as mongod:
            passwords = {user: Secret(secrets.token_hex(6)) for user in ("admin", *DEMO_USERS)}
            upstream_uri = _fill(mongod.prepare(passwords["admin"]), passwords)
            config = _write_config(directory, options.port, upstream_uri)
            print(_introduction(options.port, passwords, config), flush=True)
            run_proxy(load_settings(str(config)))
    print("The demo has ended; nothing is left of it.", flush=True)
    return EXIT_OK


def _fill(admin_uri: str, passwords: Mapping[str, Secret]) -> str:
    with MongoClient[dict[str, Any]](admin_uri) as client:
        service = create_service_user(client, SERVICE_USER, SERVICE_ROLE)
        fill(client, passwords)
    return service_uri(admin_uri, service.user, service.password)


def _write_config(directory: Path, port: int, upstream_uri: str) -> Path:
    uri, config = directory / "upstream-uri", directory / "mongoguard.yaml"
    uri.touch(0o600)
    uri.write_text(upstream_uri, encoding="utf-8")
    values = {
        "net": {"port": port, "bindIp": "127.0.0.1"},
        "upstream": {"uriFile": str(uri)},
        "security": {"explainDenials": True},
        "setParameter": {"auditAuthorizationSuccess": True},
        "auditLog": {"destination": "file", "path": str(directory / "audit.json")},
    }
    config.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return config


def _introduction(port: int, passwords: Mapping[str, Secret], config: Path) -> str:
    def uri(user: str) -> str:
        return f"mongodb://{user}:{passwords[user].reveal()}@127.0.0.1:{port}/shop?authSource=admin"

    about = {"admin": "root: everything", **{user: text for user, (text, _) in DEMO_USERS.items()}}
    lines = ["", "Connect as one of these users, with mongosh, Compass or any driver:"]
    lines += [f"  {user:<8} {text:<36} {uri(user)}" for user, text in about.items()]
    lines += [
        "",
        "Things to try, for example in: mongosh '<one of the strings above>'",
        "  alice    allowed  db.orders.insertOne({item: 'shelf', total: 70})",
        "  alice    denied   db.getSiblingDB('hr').salaries.find()",
        "  bob      allowed  db.orders.aggregate([{$group: {_id: '$status', n: {$sum: 1}}}])",
        "  bob      denied   db.orders.deleteMany({})",
        "  auditor  allowed  db.orders.find()",
        "  auditor  denied   db.orders.aggregate([{$unionWith: 'customers'}])",
        "",
        "Why, and what was written down:",
        f"  mongoguard explain -f {config} --user bob@admin --db shop --command '{EXPLAINED}'",
        f"  tail -f {config.with_name('audit.json')}",
        "",
        "Ctrl-C ends the demo and removes everything.",
    ]
    return "\n".join(lines)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CommandFailed(
                f"port {port} can't be used: {reason}; give another one with --port"
            ) from None


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """While mongod starts, SIGTERM unwinds as Ctrl-C does; later the proxy has its own handler."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
