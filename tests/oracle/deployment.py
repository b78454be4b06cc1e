"""Both sides: a mongod with access control, and another one with mongoguard in front, with the same users, roles and documents.

In: a folder. Out: `Sides`: two addresses that ought to be indistinguishable. Users and roles are written into the
system collections by a user with the role __system, many at once: createUser would take 30 ms for each.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bson import Binary

from tests.oracle.cases.metadata import LISTED_DATABASE
from tests.oracle.offline import SEEDED_ROLES, role_document
from tests.oracle.subjects import Subject
from tests.oracle.wire import PASSWORD, Connection, credentials
from tests.servers import Client, Guard, Mongod

__all__ = ["Sides", "both_sides"]

_RIG = "rig"
_NAMES = uuid.UUID("6f726163-6c65-4000-8000-000000000000")
"""Users have the same userId on both sides, so that what usersInfo tells can be compared."""


@dataclass(frozen=True, slots=True)
class Sides:
    """The two mongods and the mongoguard in front of the second."""

    direct: Mongod
    behind: Mongod
    guard: Guard

    @property
    def addresses(self) -> tuple[str, str]:
        """Where subjects connect: mongod itself, mongoguard."""
        return self.direct.address, self.guard.address

    def add_subjects(self, subjects: Iterable[Subject]) -> None:
        """Make their users and roles on both mongods."""
        named = [s for s in subjects if s.logged_in]
        users = [_user_document(s.name, "admin", s.direct_roles) for s in named]
        roles = [_stored(role_document(s)) for s in named if s.privileges]
        for mongod in (self.direct, self.behind):
            with Connection(mongod.address) as rig:
                rig.log_in(_RIG)
                _insert(rig, "system.roles", roles)
                _insert(rig, "system.users", users)


@contextmanager
def both_sides(directory: Path, *, replica_set: bool = True) -> Iterator[Sides]:
    """Start both sides side by side, with everything but subjects; end them at the end."""
    name = "rs0" if replica_set else None
    mongods = [Mongod(directory / side, replica_set=name) for side in ("direct", "behind")]
    guard = None
    try:
        for mongod in mongods:
            mongod.start()
        for mongod in mongods:
            mongod.wait()
            _seed(mongod)
        guard = Guard(directory / "guard", mongods[1])
        guard.start().wait()
        yield Sides(mongods[0], mongods[1], guard)
    finally:
        if guard is not None:
            guard.stop()
        for mongod in mongods:
            mongod.kill()


def _seed(mongod: Mongod) -> None:
    with mongod.client() as root:
        root.admin.command("createUser", _RIG, pwd=PASSWORD, roles=["__system"], mechanisms=["SCRAM-SHA-256"])
        _seed_collections(root)
    with Connection(mongod.address) as rig:
        rig.log_in(_RIG)
        _insert(rig, "system.roles", [_stored(dict(role)) for role in SEEDED_ROLES])
        _insert(
            rig,
            "system.users",
            [
                _user_document("zu", "t", [("read", "t"), ("zr", "t")]),
                _user_document("zv", "t", [("root", "admin")]),
                _user_document("fixed", "admin", [("zadmin", "admin")]),
            ],
        )


def _seed_collections(root: Client) -> None:
    documents = [{"_id": i, "a": i % 3, "b": i} for i in range(10)]
    for name in ("c", "o", "p"):
        root.t[name].insert_many([*documents])
    root.t2.c2.insert_many([*documents])
    root.t.create_collection("vw", viewOn="c", pipeline=[])
    root.t.create_collection("ts", timeseries={"timeField": "t"})
    root.t["system.js"].insert_one({"_id": "twice", "value": 1})
    listed = root[LISTED_DATABASE]
    for name in ("c", "o", "orders", "replset.x", "systemx", "fs.files"):
        listed[name].insert_one({"_id": 1})
    listed.create_collection("vw", viewOn="c", pipeline=[])
    listed.create_collection("ts", timeseries={"timeField": "t"})
    listed["ts"].insert_one({"t": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)})
    listed["system.js"].insert_one({"_id": "f", "value": 1})


def _user_document(user: str, db: str, roles: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {
        "_id": f"{db}.{user}",
        "userId": Binary.from_uuid(uuid.uuid5(_NAMES, f"{db}.{user}")),
        "user": user,
        "db": db,
        "credentials": credentials(),
        "roles": [{"role": role, "db": role_db} for role, role_db in roles],
    }


def _stored(role: dict[str, Any]) -> dict[str, Any]:
    return {"_id": f"{role['db']}.{role['role']}", **role}


def _insert(rig: Connection, collection: str, documents: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(documents), 500):
        batch = list(documents[start : start + 500])
        reply = rig.command("admin", {"insert": collection, "documents": batch})
        assert reply.get("n") == len(batch), str(reply)[:2000]
