"""The measured entries of fixtures/mongod/6.0.5/min_privileges.json, as cases, with the minimal sets measured for them.

In: the fixture. Out: `CASES`, and `MINIMAL_SETS` by case name. The subject stands for the user that was measured with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bson import json_util

from tests.oracle.cases.case import SELF, Case

__all__ = ["CASES", "MINIMAL_SETS"]

_FIXTURE = Path(__file__).parents[3] / "fixtures" / "mongod" / "6.0.5" / "min_privileges.json"
_OPTIONS = json_util.JSONOptions(json_mode=json_util.JSONMode.RELAXED, uuid_representation=0)

_ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "renameCollection same db": {"t.c": "t.gone", "c": "gone"},
    "renameCollection same db dropTarget": {"t.c": "t.gone", "c": "gone"},
    "renameCollection cross db": {"t.c": "t.gone", "c": "gone"},
    "renameCollection cross db dropTarget": {"t.c": "t.gone", "c": "gone"},
    "convertToCapped": {"c": "gone"},
    "dropUser": {"zu": "gone"},
    "dropRole": {"zr": "gone"},
    "updateUser mechanisms": {"zu": "gone"},
    "dropDatabase": {"t2": "t3"},
    "dropAllUsersFromDatabase": {"t": "t3"},
    "dropAllRolesFromDatabase": {"t": "t3"},
}
"""Allowed, these would take away what other cases need: they are tried on other names, with the privileges measured."""

_OWN_PASSWORD = {"updateUser": SELF, "pwd": "rig", "mechanisms": ["SCRAM-SHA-256"]}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, names) for inner in value]
    return names.get(value, value) if type(value) is str else value  # Code is a str, too


def _privilege(document: Mapping[str, Any]) -> dict[str, Any]:
    """Without the remarks that some actions carry in the fixture."""
    return {
        "resource": document["resource"],
        "actions": [action.split(" ")[0] for action in document["actions"]],
    }


def _entries() -> list[tuple[Case, tuple[Mapping[str, Any], ...]]]:
    made: list[tuple[Case, tuple[Mapping[str, Any], ...]]] = []
    seen: dict[str, int] = {}
    for entry in json.loads(_FIXTURE.read_text())["entries"]:
        name, db = entry["name"], entry["db"]
        command = json_util.loads(json.dumps(entry["command"]), json_options=_OPTIONS)
        privileges = [_privilege(p) for p in entry["minimalPrivileges"]]
        elsewhere = _ELSEWHERE.get(name)
        if elsewhere is not None:
            command, privileges = _renamed(command, elsewhere), _renamed(privileges, elsewhere)
            db = elsewhere.get(db, db)
        command = _renamed(command, {"mp": SELF, "mprole": SELF})
        if name == "updateUser own pwd":
            command = _OWN_PASSWORD
        seen[name] = seen.get(name, 0) + 1
        number = f" {seen[name]}" if seen[name] > 1 else ""
        made.append((Case(f"measured: {name}{number}", db, command), tuple(privileges)))
    return made


_ENTRIES = _entries()
CASES = [case for case, _ in _ENTRIES]
MINIMAL_SETS: Mapping[str, tuple[Mapping[str, Any], ...]] = {case.name: p for case, p in _ENTRIES}
"""Case name -> the smallest set of privileges that mongod 6.0.5 was measured to ask for."""
