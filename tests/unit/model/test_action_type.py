"""The vocabulary is that of a 6.0.5 server, and newer names are marked as such."""

from __future__ import annotations

import json
from pathlib import Path

from mongoguard.model.action_type import ACTIONS_AFTER_6_0, ActionType

FIXTURES = Path(__file__).parents[3] / "fixtures/mongod/6.0.5"


def test_a_6_0_5_server_knows_144_actions() -> None:
    assert len(set(ActionType) - ACTIONS_AFTER_6_0) == 144


def test_every_action_of_the_built_in_roles_is_in_the_vocabulary() -> None:
    roles = json.loads((FIXTURES / "builtin_roles.json").read_text())["admin"]["roles"]
    used = {action for role in roles for privilege in role["privileges"] for action in privilege["actions"]}
    assert used <= set(ActionType) - ACTIONS_AFTER_6_0
    assert len(used) == 115


def test_a_member_and_its_string_are_one_element_of_a_set() -> None:
    assert frozenset({ActionType.FIND}) == frozenset({"find"})
    assert frozenset({"find", "top"}) - {ActionType.FIND} == {"top"}


def test_a_member_is_named_as_its_action() -> None:
    for action in ActionType:
        assert action.name.replace("_", "") == action.value.upper()
