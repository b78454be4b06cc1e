"""Running a plan: each trial on mongod and through mongoguard over one connection each, every pair of replies compared.

In: `Sides`, `Trial`s. Out: `Decision`s, one for each case of each subject on each directory, with the kind of
difference, if any.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import bson

from tests.oracle.cases.case import Case, Result
from tests.oracle.deployment import Sides
from tests.oracle.plan import Directory, Trial
from tests.oracle.subjects import Subject
from tests.oracle.wire import Connection
from tests.rawwire import ConnectionEnded, op_msg, sequence_section

__all__ = ["Answer", "Decision", "Difference", "compare", "offline_decision", "run"]

_PIPELINED = 24
"""Requests sent ahead of their replies: few enough that no socket's buffer fills."""

UNAUTHORIZED = 13
RAN = frozenset({0, 11, 26, 27, 31, 48, 166, 10210, 51002, 51003, 51132})
"""Codes that a command ends with when it was run: done; no such user, collection, index or role, or there already is one;
a document without _id comes to `$merge` (out of a view, which one side may have changed); a stored function without a value
(10210, at the first `$where` after system.js was written to).

Which of them depends on what was run before, and what one side refuses on purpose the other has done.
"""
_OF_ONE_SIDE = frozenset({"mongoguard", "rig", "root"})
"""The service user, which only one side has, and administrators made by createUser, each with a userId of its own."""


class Difference(StrEnum):
    """How two answers differ; the more dangerous first."""

    ALLOWS = "mongoguard allows"
    """mongod refuses with 13, mongoguard relays."""
    REFUSES = "mongoguard refuses"
    """mongoguard refuses with 13, mongod does not."""
    CODE = "refused with another code"
    """mongod refuses with 13, mongoguard with another error of its own: nothing is relayed."""
    WORDS = "refused in other words"
    ERROR = "another error"
    """Neither refuses with 13, and their codes differ."""
    RESULT = "another result"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a side answered: its code (0 for ok), its text, and what of the result is to be compared.

    `relayed`: the answer is a mongod's. Members of a replica set put `operationTime` on all they say, mongoguard on
    nothing of its own.
    """

    code: int
    errmsg: str = ""
    relayed: bool = False
    result: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Decision:
    """One case tried by one subject on mongod and through a mongoguard with this directory."""

    subject: Subject
    case: Case
    mongod: Answer
    mongoguard: Answer
    directory: Directory = Directory.UPSTREAM

    @property
    def difference(self) -> Difference | None:
        """How the answers differ; None when they don't."""
        return compare(self.mongod, self.mongoguard)


def compare(mongod: Answer, mongoguard: Answer) -> Difference | None:
    """The kind of difference between two answers."""
    refused = mongod.code == UNAUTHORIZED, mongoguard.code == UNAUTHORIZED
    if refused == (True, False):
        return Difference.ALLOWS if mongoguard.relayed or not mongoguard.code else Difference.CODE
    if refused == (False, True):
        return Difference.REFUSES
    if refused == (True, True):
        return None if mongod.errmsg == mongoguard.errmsg else Difference.WORDS
    if mongod.code != mongoguard.code:
        both_ran = mongoguard.relayed and {mongod.code, mongoguard.code} <= RAN
        return None if both_ran else Difference.ERROR
    return None if mongod.result == mongoguard.result else Difference.RESULT


def run(sides: Sides, trials: Iterable[Trial]) -> Iterator[Decision]:
    """Carry the trials out. Their subjects must have been added to all sides."""
    shared: dict[str, bytes] = {}
    for trial in trials:
        guards = [sides.guards[directory] for directory in trial.directories]
        with ExitStack() as ends:
            connections = [
                ends.enter_context(Connection(server.address)) for server in (sides.direct, *guards)
            ]
            if trial.subject.logged_in:
                for connection in connections:
                    connection.log_in(trial.subject.name)
            yield from _try(connections, trial, shared)


def _try(connections: Sequence[Connection], trial: Trial, shared: dict[str, bytes]) -> Iterator[Decision]:
    """`connections`: mongod's, and one for each of the trial's directories."""
    sides = ("mongod", *(f"mongoguard ({directory})" for directory in trial.directories))
    for start in range(0, len(trial.cases), _PIPELINED):
        batch = trial.cases[start : start + _PIPELINED]
        messages = [_message(case, trial.subject, shared) for case in batch]
        for connection in connections:
            connection.send(messages)
        for case in batch:
            mongod, *mongoguards = [
                _answer(case, _receive(connection, f"{side} to {case.name} as {trial.subject.name}"))
                for side, connection in zip(sides, connections, strict=True)
            ]
            for directory, mongoguard in zip(trial.directories, mongoguards, strict=True):
                yield Decision(trial.subject, case, mongod, mongoguard, directory)


def _receive(connection: Connection, what: str) -> Mapping[str, Any]:
    """`what`: whose answer to what is waited for."""
    try:
        return connection.receive()
    except (ConnectionEnded, OSError) as error:
        raise AssertionError(f"no answer from {what}: {error}") from error


def _message(case: Case, subject: Subject, shared: dict[str, bytes]) -> bytes:
    if case.names_self:
        return _encode(case, subject.name)
    found = shared.get(case.name)
    if found is None:
        found = shared[case.name] = _encode(case, "")
    return found


def _encode(case: Case, name: str) -> bytes:
    body = dict(case.command_for(name))
    if not case.sequence:
        return op_msg({**body, "$db": case.db})
    documents = body.pop(case.sequence)
    return op_msg({**body, "$db": case.db}, sequence_section(case.sequence, documents))


def _answer(case: Case, reply: Mapping[str, Any]) -> Answer:
    relayed = "operationTime" in reply
    if reply.get("ok"):
        return Answer(0, "", relayed, _result(case.result, reply))
    return Answer(int(reply.get("code", 1)), str(reply.get("errmsg", "")), relayed)


def _result(kind: Result, reply: Mapping[str, Any]) -> str:
    """What is compared of a successful reply, in an order of its own."""
    match kind:
        case Result.DATABASES:
            compared: Any = sorted(
                d["name"]
                for d in reply["databases"]
                if d["name"] in {"t", "admin", "config", "local", "lists"}
            )
        case Result.COLLECTIONS:
            cursor = reply["cursor"]
            compared = [cursor["ns"], sorted(c["name"] for c in cursor["firstBatch"])]
        case Result.USERS:
            compared = _sorted(
                [_without_secrets(u) for u in reply["users"] if u.get("user") not in _OF_ONE_SIDE]
            )
        case Result.ROLES:
            shown = "roles" if "roles" in reply else "userFragment"
            compared = [shown, _sorted(reply[shown])]
        case Result.STATUS:
            compared = _sorted(reply["authInfo"])
        case _:
            return ""
    return json.dumps(compared, default=repr)


def _without_secrets(user: Mapping[str, Any]) -> dict[str, Any]:
    """createUser salts at random, so that credentials differ; whether they are shown must not."""
    return {key: "shown" if key == "credentials" else value for key, value in user.items()}


def _sorted(value: Any) -> Any:
    """Lists in an order that does not depend on hashes."""
    if isinstance(value, Mapping):
        return {key: _sorted(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return sorted((_sorted(inner) for inner in value), key=lambda v: json.dumps(v, default=repr))
    return bson.Binary(value).hex() if isinstance(value, bytes) else value


def offline_decision(decision: Decision, code: int, errmsg: str) -> Decision:
    """The same decision with another answer of mongoguard's: one that was come to without a server.

    What is let through would end as it did on mongod.
    """
    ended = decision.mongod if decision.mongod.code != UNAUTHORIZED else Answer(0)
    answer = Answer(code, errmsg) if code else Answer(ended.code, ended.errmsg, True, ended.result)
    return Decision(decision.subject, decision.case, decision.mongod, answer)
