"""The smallest built-in role that would allow what is denied."""

import pytest

from mongoguard.cli.explain_suggestion import smallest_builtin_role
from mongoguard.model.names import RoleName
from mongoguard.model.privilege import AllOf, AnyActionInDatabase, AnyOf, NotHeld, Privilege
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from tests.unit.cli.explaining import AUDITOR, ORDERS, PEEPER, SHOP, user

VIEW = Privilege(ResourcePattern.for_exact_namespace("shop", "b"), frozenset({"find"}))


def needs(resource, *actions):
    return Privilege(resource, frozenset(actions))


@pytest.mark.parametrize(
    ("resource", "actions", "role"),
    [
        (ORDERS, {"find"}, RoleName("read", "shop")),
        (ORDERS, {"find", "remove"}, RoleName("readWrite", "shop")),
        (SHOP, {"createUser"}, RoleName("userAdmin", "shop")),
        (SHOP, {"createUser", "find"}, RoleName("dbOwner", "shop")),
        (CLUSTER, {"serverStatus"}, RoleName("clusterMonitor", "admin")),
        (ResourcePattern.for_any_normal_resource(), {"find"}, RoleName("readAnyDatabase", "admin")),
        (CLUSTER, {"advanceClusterTime"}, None),
        (ORDERS, {"noSuchAction"}, None),
    ],
)
def test_the_smallest_role_grants_no_more_than_it_must(resource, actions, role):
    assert smallest_builtin_role(needs(resource, *actions), user()) == role


def test_what_the_user_holds_already_counts():
    both = AllOf((needs(ORDERS, "find"), needs(CLUSTER, "serverStatus")))
    assert smallest_builtin_role(both, user(AUDITOR)) == RoleName("clusterMonitor", "admin")
    assert smallest_builtin_role(both, user()) == RoleName("backup", "admin")


def test_a_role_that_brings_what_must_not_be_held_is_not_suggested():
    requirement = AllOf((needs(ORDERS, "find"), NotHeld(VIEW)))
    assert smallest_builtin_role(requirement, user()) is None
    either = AnyOf((NotHeld(VIEW), needs(ORDERS, "find")))
    assert smallest_builtin_role(either, user(PEEPER)) == RoleName("read", "shop")


def test_any_privilege_in_a_database_is_brought_by_a_role_of_it():
    found = smallest_builtin_role(AnyActionInDatabase("shop"), user())
    assert found is not None
    assert found.db == "shop"
