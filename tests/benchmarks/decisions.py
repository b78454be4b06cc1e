"""What a decision costs: the requirement of a command and its authorization, without any server.

    python -m tests.benchmarks.decisions [--json]

Each row is the best of several rounds, in microseconds of CPU: other work on the machine only ever adds. "cached" is a
session that has decided the same before, "uncached" one that has not; both include reading what the command needs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import bson

from mongoguard.authz.authorization_session import AuthorizationSession
from mongoguard.authz.builtin_roles import builtin_role
from mongoguard.command.catalog import find_row
from mongoguard.command.command import Command
from mongoguard.command.generic import generic_requirement
from mongoguard.command.requirement import requirement_of
from mongoguard.command.spec import Asker
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.model.user import User
from mongoguard.wire.document import Document

ASKER = Asker(UserName("app", "admin"))
"""A session makes one when its user changes, not for each command."""

ROUNDS = 7
CALLS = 2000

COMMANDS: Mapping[str, Mapping[str, Any]] = {
    "find": {"find": "orders", "filter": {"_id": 1}, "limit": 1, "$db": "shop"},
    "insert": {"insert": "orders", "documents": [{"_id": 1}], "$db": "shop"},
    "update": {"update": "orders", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 1}}}], "$db": "shop"},
    "aggregate, $lookup": {
        "aggregate": "orders",
        "pipeline": [
            {"$match": {}},
            {"$lookup": {"from": "c", "localField": "a", "foreignField": "b", "as": "x"}},
        ],
        "cursor": {},
        "$db": "shop",
    },
}


def user(privileges: int = 0) -> User:
    """Somebody with readWrite on shop, and that many more privileges elsewhere."""
    role = builtin_role(RoleName("readWrite", "shop"))
    assert role is not None
    held = {p.resource: p.actions for p in role.privileges}
    held |= {
        ResourcePattern.for_exact_namespace("other", f"c{i}"): frozenset({"find"}) for i in range(privileges)
    }
    return User(UserName("app", "admin"), privileges=held)


def decide(command: Command, session: AuthorizationSession) -> bool:
    """All that stands between a parsed command and its decision."""
    row = find_row(command.name)
    assert row is not None
    generic_requirement(command, ASKER)
    return session.authorize(requirement_of(row, command, ASKER)).allowed


def _decide_anew(command: Command, somebody: User) -> bool:
    return decide(command, AuthorizationSession(somebody))


def best_microseconds(call: Callable[[], object]) -> float:
    """CPU time of one call, the best of the rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(CALLS):
            call()
        best = min(best, time.process_time() - start)
    return best / CALLS * 1e6


def measure() -> list[dict[str, Any]]:
    """The rows: command, number of the user's other privileges, cached and uncached cost."""
    rows = []
    for name, document in COMMANDS.items():
        for privileges in (0, 100_000) if name == "find" else (0,):
            somebody = user(privileges)
            warm = AuthorizationSession(somebody)
            command = Command(Document(bson.encode(document)), "shop")
            assert decide(command, warm), name
            cached = best_microseconds(partial(decide, command, warm))
            uncached = best_microseconds(partial(_decide_anew, command, somebody))
            rows.append(
                {"command": name, "privileges": privileges, "cached_us": cached, "uncached_us": uncached}
            )
    return rows


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description="What a decision costs, in microseconds of CPU.")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    as_json = parser.parse_args().json
    rows = measure()
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print("| command | other privileges of the user | cached µs | uncached µs |\n| --- | --: | --: | --: |")
    for row in rows:
        print(
            f"| {row['command']} | {row['privileges']} | {row['cached_us']:.1f} | {row['uncached_us']:.1f} |"
        )


if __name__ == "__main__":
    main()
