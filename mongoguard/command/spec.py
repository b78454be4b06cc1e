"""CommandRow: what one row of the catalogue says about a command.

In: a `Command`. Out: its `Requirement`. Must not know who asks. A row is data; `requires` is a named pure function for
the shapes that data can't say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from mongoguard.command.command import Command
from mongoguard.model.names import UserName
from mongoguard.model.privilege import NOTHING, Requirement

__all__ = ["Asker", "CommandRow", "Handling", "Requires", "needs_nothing"]


@dataclass(frozen=True, slots=True)
class Asker:
    """The little of the caller that some requirements depend on: own user, own roles ("self" is free).

    `upstream_uid`: the digest that the upstream shows as `uid` of the caller's sessions, where it is another than that
    of the name.
    """

    user: UserName | None = None
    direct_roles: frozenset[tuple[str, str]] = frozenset()
    upstream_uid: bytes | None = None


Requires = Callable[[Command, Asker], Requirement]
"""Computes a command's requirement. Raises `CommandError` where mongod fails to parse before it checks privileges."""


class Handling(Enum):
    """What happens to a command once it is allowed."""

    RELAY = "relay"
    """The client's bytes go upstream, the reply comes back."""
    LOCAL = "local"
    """Answered by mongoguard (proxy/local_commands.py)."""
    REFUSED = "refused"
    """Never done, whatever the privileges; `refusal` says why."""


def needs_nothing(_command: Command, _asker: Asker) -> Requirement:
    """Any logged-in user."""
    return NOTHING


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One command. `name` is the canonical spelling; `aliases` are accepted and answered alike.

    `requires_auth`: refused with 13 when nobody is logged in. `admin_only`: refused with 13 on another database.
    `opens_cursor`: the reply may hold a cursor to be entered in the cursor table. `changes_users`: the directory's
    cache must be dropped after it. `secret_fields`: printed as "xxx" in refusals and audit events. `since`: the server
    version whose documentation the row follows, when newer than 6.0. `api_v1`: part of API version 1, so allowed with
    apiStrict.

    `fields`: the arguments of its own that the row understands, besides the generic ones; any other is refused with
    40415. None for commands whose privileges do not depend on their arguments. `internal_fields`: arguments that only
    servers send to each other, allowed to holders of `internal`. `sequences`: arguments that may come as a document
    sequence; every other sequence is refused. `unread`: arguments (generic ones and sequences too) whose values nothing
    here depends on, but for their types, so that a request with others of them needs no decision of its own; only for
    commands that need the same whoever asks.
    """

    name: str
    requires: Requires = needs_nothing
    handling: Handling = Handling.RELAY
    aliases: tuple[str, ...] = ()
    requires_auth: bool = True
    admin_only: bool = False
    opens_cursor: bool = False
    changes_users: bool = False
    refusal: str = ""
    since: str = "6.0"
    secret_fields: frozenset[str] = field(default_factory=frozenset)
    api_v1: bool = False
    fields: frozenset[str] | None = None
    internal_fields: frozenset[str] = field(default_factory=frozenset)
    sequences: frozenset[str] = field(default_factory=frozenset)
    unread: frozenset[str] = field(default_factory=frozenset)
