"""The catalogue against what a 6.0.5 server was measured to need: fixtures/mongod/6.0.5/min_privileges.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bson import json_util

from mongoguard.command.spec import Asker
from mongoguard.errors import CommandError
from mongoguard.model.names import UserName
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import ResourcePattern
from tests.unit.command.commands import allowed, required

FIXTURES = Path(__file__).parents[3] / "fixtures" / "mongod" / "6.0.5"
MEASURED = Asker(UserName("mp", "admin"), frozenset({("mprole", "admin")}))

BETWEEN_SERVERS = "between servers: 115 for everybody"
DIFFERENT_ON_PURPOSE = {
    "find by UUID": "which collection it is, only the server knows: 73 for everybody",
    "updateUser mechanisms": "6.0.5 asks for nothing; here changePassword is needed, as in later servers",
    "updateUser own mechanisms": "6.0.5 asks for nothing; here changeOwnPassword is needed, as in later servers",
    "$search": "servers with Atlas Search check find first; what 6.0.5 does not know (40324) it says after that",
    "$listCachedAndActiveUsers": "it depends on how mongod was started: with enableTestCommands it asks for the "
    "privilege, as here, without it refuses everybody (224)",
    "internalRenameIf": f"{BETWEEN_SERVERS}; clients have renameCollection",
    "replSetGetRBID": BETWEEN_SERVERS,
    "_getUserCacheGeneration": BETWEEN_SERVERS,
    "_flushRoutingTableCacheUpdates": BETWEEN_SERVERS,
    "abortShardSplit": BETWEEN_SERVERS,
    "replSetHeartbeat": BETWEEN_SERVERS,
    "replSetUpdatePosition": BETWEEN_SERVERS,
    "replSetRequestVotes": BETWEEN_SERVERS,
    "_mergeAuthzCollections": BETWEEN_SERVERS,
}
PAGE = Path(__file__).parents[3] / "docs" / "differences.md"


def _entries() -> list[dict[str, Any]]:
    text = (FIXTURES / "min_privileges.json").read_text()
    return list(json.loads(text)["entries"])


def _command(entry: dict[str, Any]) -> dict[str, Any]:
    options = json_util.JSONOptions(json_mode=json_util.JSONMode.RELAXED, uuid_representation=0)
    decoded: dict[str, Any] = json_util.loads(json.dumps(entry["command"]), json_options=options)
    return decoded


def _privilege(document: dict[str, Any]) -> Privilege:
    resource = document["resource"]
    actions = frozenset(action.split(" ")[0] for action in document["actions"])
    if "cluster" in resource:
        return Privilege(ResourcePattern.for_cluster(), actions)
    if "anyResource" in resource:
        return Privilege(ResourcePattern.for_any_resource(), actions)
    db, collection = resource["db"], resource["collection"]
    if db and collection:
        return Privilege(ResourcePattern.for_exact_namespace(db, collection), actions)
    if db:
        return Privilege(ResourcePattern.for_database(db), actions)
    return Privilege(ResourcePattern.for_any_normal_resource(), actions)


ENTRIES = [e for e in _entries() if e["name"] not in DIFFERENT_ON_PURPOSE]
IDS = [f"{e['name']} on {e['db']}" for e in ENTRIES]


def _is_allowed(entry: dict[str, Any], held: list[Privilege]) -> bool:
    try:
        return allowed(required(_command(entry), entry["db"], MEASURED), held)
    except CommandError as error:
        # mongod, too, answers some commands with the same error to everyone, privileged or not.
        if error.code != entry["replyWithThose"]["code"]:
            raise
        return True


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_a_command_is_allowed_with_the_privileges_that_mongod_needs(entry: dict[str, Any]) -> None:
    assert _is_allowed(entry, [_privilege(p) for p in entry["minimalPrivileges"]])


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_a_command_is_refused_without_any_one_of_them(entry: dict[str, Any]) -> None:
    try:
        requirement = required(_command(entry), entry["db"], MEASURED)
    except CommandError:  # refused whatever is held; the test above checks that mongod says the same
        return
    privileges = [_privilege(p) for p in entry["minimalPrivileges"]]
    for index, privilege in enumerate(privileges):
        for action in privilege.actions:
            fewer = [*privileges]
            fewer[index] = Privilege(privilege.resource, privilege.actions - {action})
            assert not allowed(requirement, fewer), f"allowed without {action}"


def test_every_difference_on_purpose_is_still_a_difference() -> None:
    for entry in _entries():
        if entry["name"] not in DIFFERENT_ON_PURPOSE:
            continue
        held = [_privilege(p) for p in entry["minimalPrivileges"]]
        try:
            assert not allowed(required(_command(entry), entry["db"], MEASURED), held), entry["name"]
        except CommandError:
            continue


def test_every_difference_on_purpose_is_in_the_documentation_with_its_reason() -> None:
    rows = "".join(f"| {name} | {reason} |\n" for name, reason in DIFFERENT_ON_PURPOSE.items())
    assert f"| case | why |\n|---|---|\n{rows}\n" in PAGE.read_text()


def test_every_difference_on_purpose_is_a_measured_case() -> None:
    assert DIFFERENT_ON_PURPOSE.keys() <= {entry["name"] for entry in _entries()}
