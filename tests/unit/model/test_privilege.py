"""Privileges print as usersInfo prints them; requirements never compare equal across kinds."""

from __future__ import annotations

from mongoguard.model.privilege import NOTHING, AllOf, AnyOf, NotHeld, Privilege
from mongoguard.model.resource_pattern import CLUSTER


def test_a_privilege_prints_its_actions_sorted() -> None:
    privilege = Privilege(CLUSTER, frozenset({"top", "inprog"}))
    assert privilege.to_document() == {"resource": {"cluster": True}, "actions": ["inprog", "top"]}


def test_combinators_of_the_same_parts_are_different_requirements() -> None:
    part = Privilege(CLUSTER, frozenset({"top"}))
    assert len({AllOf((part,)), AnyOf((part,)), NotHeld(part), part, NOTHING}) == 5
