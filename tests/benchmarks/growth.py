"""Whether a command gets dearer as users, roles, privileges and open cursors become many: CPU of the flow, no servers.

    python -m tests.benchmarks.growth [--json] [--out FOLDER]

Measured is all that mongoguard does for a command but its sockets: parsing, deciding, splicing, reading the reply.
Users: that many sessions of different users, which take turns. Roles, privileges: what the one user holds. Cursors: open
ones of others; the command is a find that opens a cursor, and the getMore that exhausts it. Each figure is the best of
several rounds: other work on the machine only ever adds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path

import bson

from mongoguard.effects import Relay
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.privilege import NOTHING
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.proxy.client_session import ClientSession
from mongoguard.proxy.cursors import CursorEntry, CursorTable
from tests.benchmarks import plots
from tests.benchmarks.decisions import best_microseconds
from tests.playbook import SERVER, make_session, reply_of, user_with
from tests.rawwire import op_msg

SIZES = (1, 10, 100, 1_000, 10_000, 100_000)
MOST = {"users": 10_000, "roles": 10_000, "privileges": 100_000, "cursors": 100_000}
"""The numbers that a large deployment has; a session takes kilobytes, so 100,000 users are not tried."""

FIND = frozenset({"find"})
READ = {ResourcePattern.for_database("shop"): FIND}
REQUEST = op_msg({"find": "orders", "filter": {"_id": 5}, "limit": 1, "singleBatch": True, "$db": "shop"})
REPLY = reply_of(
    {"cursor": {"firstBatch": [{"_id": 5}], "id": bson.Int64(0), "ns": "shop.orders"}, "ok": 1.0}
)


def _run(session: ClientSession, request: bytes, reply: object) -> None:
    flow = session.handle(request)
    assert isinstance(flow.send(None), Relay)
    try:
        flow.send(reply)
    except StopIteration:
        return
    raise AssertionError("a find asks for one relay and nothing else")


def with_users(size: int) -> Callable[[], None]:
    """Sessions of that many users, in turn."""
    turns = cycle([make_session(user_with(READ, UserName(f"user{i}", "shop"))) for i in range(size)])
    return lambda: _run(next(turns), REQUEST, REPLY)


def with_roles(size: int) -> Callable[[], None]:
    """One user with that many roles."""
    roles = tuple(RoleName(f"role{i}", "shop") for i in range(size))
    session = make_session(user_with(READ, roles=roles))
    return lambda: _run(session, REQUEST, REPLY)


def with_privileges(size: int) -> Callable[[], None]:
    """One user with that many privileges besides the one that is needed."""
    others = {ResourcePattern.for_exact_namespace("other", f"c{i}"): FIND for i in range(size)}
    session = make_session(user_with({**others, **READ}))
    return lambda: _run(session, REQUEST, REPLY)


def with_cursors(size: int) -> Callable[[], None]:
    """That many open cursors of somebody else."""
    table = CursorTable()
    for i in range(size):
        entry = CursorEntry(i + 1, UserName("other", "shop"), "shop.orders", None, SERVER, NOTHING)
        table.add(entry)
    session = make_session(user_with(READ), cursors=table)
    opening = op_msg({"find": "orders", "filter": {}, "$db": "shop"})
    ids = count(1 << 40)

    def find_and_get_more() -> None:
        cursor = bson.Int64(next(ids))
        batch = {"firstBatch": [], "id": cursor, "ns": "shop.orders"}
        _run(session, opening, reply_of({"cursor": batch, "ok": 1.0}))
        last = {"nextBatch": [], "id": bson.Int64(0), "ns": "shop.orders"}
        request = op_msg({"getMore": cursor, "collection": "orders", "$db": "shop"})
        _run(session, request, reply_of({"cursor": last, "ok": 1.0}))

    return find_and_get_more


DIMENSIONS: dict[str, Callable[[int], Callable[[], None]]] = {
    "users": with_users,
    "roles": with_roles,
    "privileges": with_privileges,
    "cursors": with_cursors,
}


def measure() -> dict[str, list[tuple[float, float]]]:
    """(size, microseconds per command) by dimension."""
    return {name: list(_curve(name, make)) for name, make in DIMENSIONS.items()}


def _curve(name: str, make: Callable[[int], Callable[[], None]]) -> Iterator[tuple[float, float]]:
    for size in SIZES:
        if size <= MOST[name]:
            yield size, best_microseconds(make(size))


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth")
    parser.add_argument("--json", action="store_true", help="print the curves as JSON")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write growth.json, and growth.svg, there")
    options = parser.parse_args()
    curves = measure()
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "growth.json").write_text(json.dumps(curves, indent=1) + "\n")
        if importlib.util.find_spec("matplotlib") is not None:
            title = "CPU of a command without its sockets"
            plots.curves(options.out / "growth.svg", curves, title, "how many there are", "µs")
    if options.json:
        print(json.dumps(curves, indent=1))
        return
    print(f"| µs per command with | {' | '.join(f'{size:,}' for size in SIZES)} |")
    print(f"| --- |{' --: |' * len(SIZES)}")
    for name, points in curves.items():
        costs = [f"{cost:.1f}" for _, cost in points]
        print(f"| {name} | {' | '.join(costs + [''] * (len(SIZES) - len(costs)))} |")


if __name__ == "__main__":
    main()
