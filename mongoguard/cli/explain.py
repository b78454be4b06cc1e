"""`mongoguard explain`: what a command needs, which role grants it, or what is missing.

In: a configuration file, a user, a command. Out: text or JSON on standard output. The command is not run.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import trio

from mongoguard.authz.role_graph import RoleGraph
from mongoguard.cli.arguments import Parsers, add_config, user_name
from mongoguard.cli.errors import EXIT_OK, CommandFailed
from mongoguard.cli.explain_text import as_text
from mongoguard.cli.explanation import Explanation, explain, parse_command
from mongoguard.command.command import Command
from mongoguard.config.loading import load_settings
from mongoguard.config.settings import Settings
from mongoguard.config.user_file import parse_user_file
from mongoguard.model.documents import role_from_directory
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.user import User, UserRequest

__all__ = ["add_parser", "explain_with", "held_by"]


def add_parser(commands: Parsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "explain",
        help="say why a user may run a command, or why not",
        description="Say which privileges a command needs and which role grants each, or what is missing. "
        "The command is not run. With a users file (security.userDirectory: file) no server is contacted.",
    )
    add_config(parser)
    parser.add_argument("--user", required=True, type=user_name, metavar="USER@DB", help="who would run it")
    parser.add_argument("--db", required=True, help="the database that it would run on")
    parser.add_argument(
        "--command",
        required=True,
        dest="document",
        metavar="JSON",
        help='in MongoDB Extended JSON, such as {"find": "orders"}',
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document (docs/explain.md)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    settings = load_settings(options.config)
    command = parse_command(options.document, options.db)
    user, graph = trio.run(held_by, settings, options.user)
    explanation = explain_with(settings, user, graph, command)
    print(json.dumps(explanation.to_document(), indent=2) if options.json else as_text(explanation))
    return EXIT_OK


async def held_by(settings: Settings, name: UserName) -> tuple[User, RoleGraph]:
    """The user as the configured directory knows it, and the graph of its roles.

    Raises `CommandFailed` for an unknown user, and what reading the file or asking the upstream raises.
    """
    if settings.security.user_directory == "file" and settings.security.user_file is not None:
        path = settings.security.user_file
        user_file = parse_user_file(await trio.Path(path).read_text(encoding="utf-8"), path)
        return _found(user_file.users.get(name), name), user_file.roles
    from mongoguard.server.directory import open_directory
    from mongoguard.server.upstream import open_upstream

    async with open_upstream(settings) as upstream:
        user = _found(await open_directory(settings, upstream).fetch(UserRequest(name)), name)
        roles = list(dict.fromkeys((*user.roles, *user.inherited_roles)))
        reply: dict[str, Any] = await upstream.ask("admin", _roles_info(roles))
        if not reply.get("ok"):
            raise CommandFailed(f"rolesInfo failed upstream: {reply.get('errmsg')}")
        return user, RoleGraph(role_from_directory(document) for document in reply["roles"])


def explain_with(settings: Settings, user: User, graph: RoleGraph, command: Command) -> Explanation:
    """The verdict of a server with that configuration."""
    return explain(
        user,
        graph,
        command,
        relays_user_management=settings.security.user_directory == "upstream",
        authorization_enabled=settings.security.authorization == "enabled",
    )


def _found(user: User | None, name: UserName) -> User:
    if user is None:
        raise CommandFailed(f"there is no user {name}")
    return user


def _roles_info(roles: list[RoleName]) -> dict[str, Any]:
    return {"rolesInfo": [{"role": role.role, "db": role.db} for role in roles], "showPrivileges": True}
