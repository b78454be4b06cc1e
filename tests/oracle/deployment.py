"""The sides: a mongod with access control, and others with a mongoguard in front, with the same users, roles and documents.

In: a folder. Out: `Sides`: addresses that ought to be indistinguishable, one of mongod and one of a mongoguard for each
user directory. Behind the `file` directory is a mongod that knows none of the users. Elsewhere users and roles are
written into the system collections by a user with the role __system, many at once: createUser would take 30 ms for each.
"""

from __future__ import annotations

import datetime
import signal
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bson import Binary

from tests.oracle.cases.metadata import LISTED_DATABASE
from tests.oracle.offline import SEEDED_ROLES, role_document, users_yaml
from tests.oracle.plan import Directory, Trial
from tests.oracle.subjects import Subject
from tests.oracle.wire import PASSWORD, Connection, credentials
from tests.servers import Client, Guard, Mongod

__all__ = ["FileGuard", "Sides", "all_sides"]

_RIG = "rig"
_NAMES = uuid.UUID("6f726163-6c65-4000-8000-000000000000")
"""Users have the same userId on both sides, so that what usersInfo tells can be compared."""


_RELOAD_SECONDS = 120.0
"""PyYAML reads the 3,000 subjects of the whole table in half a minute on a loaded machine."""
_RELOADED = "SIGHUP: the users file is reloaded"


class FileGuard(Guard):
    """mongoguard with a users file of subjects."""

    def __init__(self, directory: Path, upstream: Mongod) -> None:
        """Prepare it with a file that holds nobody."""
        directory.mkdir(parents=True, exist_ok=True)
        self._users_path = directory / "users.yaml"
        self._users_path.write_text(users_yaml([]))
        security = {"userDirectory": str(Directory.FILE), "userFile": str(self._users_path)}
        super().__init__(directory, upstream, {"security": security})

    def serve_subjects(self, subjects: Iterable[Subject]) -> None:
        """Make the file hold these subjects and nobody else. AssertionError when the file is not taken."""
        self._users_path.write_text(users_yaml(subjects))
        before = self.log.count(_RELOADED)
        self.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + _RELOAD_SECONDS
        while self.log.count(_RELOADED) == before:
            assert "is not reloaded" not in self.log, self.log[-2000:]
            assert time.monotonic() < deadline, "the users file is not reloaded in time"
            time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Sides:
    """A mongod that subjects talk to, another one behind a mongoguard, and a mongoguard with a users file."""

    direct: Mongod
    behind: Mongod
    guard: Guard
    file_guard: FileGuard

    @property
    def guards(self) -> Mapping[Directory, Guard]:
        """The mongoguard of each directory."""
        return {Directory.UPSTREAM: self.guard, Directory.FILE: self.file_guard}

    def add_subjects(self, trials: Iterable[Trial]) -> None:
        """Make users and roles of the trials' subjects on the two mongods; the users file is written anew for those
        that are tried there.
        """
        tried = [trial for trial in trials if trial.subject.logged_in]
        named = {trial.subject.name: trial.subject for trial in tried}.values()
        users = [_user_document(s.name, "admin", s.direct_roles) for s in named]
        roles = [_stored(role_document(s)) for s in named if s.privileges]
        for mongod in (self.direct, self.behind):
            with Connection(mongod.address) as rig:
                rig.log_in(_RIG)
                _insert(rig, "system.roles", roles)
                _insert(rig, "system.users", users)
        on_file = (trial.subject for trial in tried if Directory.FILE in trial.directories)
        self.file_guard.serve_subjects({subject.name: subject for subject in on_file}.values())


@contextmanager
def all_sides(directory: Path) -> Iterator[Sides]:
    """Start all sides side by side, with everything but subjects; end them at the end."""
    with ExitStack() as ends:
        mongods = [
            Mongod(directory / side, replica_set="rs0") for side in ("direct", "behind", "behind_file")
        ]
        for mongod in mongods:
            ends.callback(mongod.kill)
            mongod.start()
        for mongod in mongods:
            mongod.wait()
            with mongod.client() as root:
                _seed_collections(root)
        direct, behind, behind_file = mongods
        _seed_users(direct)
        _seed_users(behind)
        guard = Guard(directory / "guard", behind)
        file_guard = FileGuard(directory / "file_guard", behind_file)
        for one in (guard, file_guard):
            ends.callback(one.stop)
            one.start()
        guard.wait()
        file_guard.wait()
        yield Sides(direct, behind, guard, file_guard)


def _seed_users(mongod: Mongod) -> None:
    with mongod.client() as root:
        root.admin.command("createUser", _RIG, pwd=PASSWORD, roles=["__system"], mechanisms=["SCRAM-SHA-256"])
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
