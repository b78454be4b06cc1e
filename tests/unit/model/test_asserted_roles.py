"""A user whose roles came with a credential has what the directory says of those roles, and nothing else."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from mongoguard.errors import CommandError
from mongoguard.model.asserted_roles import user_with_roles
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.model.restriction import Peer, restrictions_met
from mongoguard.model.user import UserRequest

CLERK, AUDITOR = RoleName("clerk", "shop"), RoleName("auditor", "admin")
REQUEST = UserRequest(UserName("CN=Alice", "$external"), (CLERK, AUDITOR))
ON_ORDERS = {"db": "shop", "collection": "orders"}
ORDERS = ResourcePattern.for_exact_namespace("shop", "orders")


def described(name: RoleName, **fields: Any) -> dict[str, Any]:
    """A role as rolesInfo prints it with showPrivileges and showAuthenticationRestrictions."""
    return {
        "_id": f"{name.db}.{name.role}",
        "role": name.role,
        "db": name.db,
        "isBuiltin": False,
        "privileges": [{"resource": ON_ORDERS, "actions": ["remove"]}],
        "roles": [{"role": "direct", "db": "shop"}],
        "inheritedRoles": [],
        "inheritedPrivileges": [],
        "authenticationRestrictions": [],
        "inheritedAuthenticationRestrictions": [],
        **fields,
    }


def test_the_user_is_the_one_who_was_asked_for_and_is_asked_for_again_in_the_same_way() -> None:
    user = user_with_roles(REQUEST, [described(CLERK)])
    assert user.name == REQUEST.name
    assert user.asserted_roles == REQUEST.roles
    assert user.request == REQUEST
    assert user.user_id == b""
    assert not user.credentials


def test_a_role_that_the_directory_does_not_know_gives_nothing() -> None:
    user = user_with_roles(REQUEST, [])
    assert user.roles == user.inherited_roles == ()
    assert user.restrictions == ()
    assert user.privileges == {}


def test_every_described_role_is_held_and_what_it_inherits_too() -> None:
    docs = [
        described(CLERK, inheritedRoles=[{"role": "reader", "db": "shop"}, "writer"]),
        described(AUDITOR, inheritedRoles=[{"role": "reader", "db": "shop"}, "watcher"]),
    ]
    user = user_with_roles(REQUEST, docs)
    assert user.roles == (AUDITOR, CLERK)
    assert user.inherited_roles == (
        AUDITOR,
        CLERK,
        RoleName("reader", "shop"),
        RoleName("watcher", "admin"),
        RoleName("writer", "shop"),
    )


def test_the_privileges_are_the_inherited_ones_of_all_roles_together() -> None:
    """rolesInfo counts a role's own among them; `privileges` alone is not looked at."""
    docs = [
        described(CLERK, inheritedPrivileges=[{"resource": ON_ORDERS, "actions": ["find", "insert"]}]),
        described(
            AUDITOR,
            inheritedPrivileges=[
                {"resource": ON_ORDERS, "actions": ["update", "laterAction"]},
                {"resource": {"cluster": True}, "actions": ["inprog"]},
                {"resource": {"laterShape": 1}, "actions": ["find"]},
            ],
        ),
    ]
    assert user_with_roles(REQUEST, docs).privileges == {
        ORDERS: {"find", "insert", "update", "laterAction"},
        ResourcePattern.for_cluster(): {"inprog"},
    }


def test_every_role_restricts_from_where_its_holder_comes() -> None:
    docs = [
        described(CLERK, inheritedAuthenticationRestrictions=[[{"clientSource": ["10.0.0.0/8"]}], []]),
        described(AUDITOR, inheritedAuthenticationRestrictions=[[{"serverAddress": ["192.0.2.1"]}]]),
    ]
    restrictions = user_with_roles(REQUEST, docs).restrictions
    assert len(restrictions) == 2  # an empty array restricts nothing
    here, elsewhere = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    assert restrictions_met(restrictions, Peer(ip_address("10.1.2.3"), here))
    assert not restrictions_met(restrictions, Peer(ip_address("10.1.2.3"), elsewhere))
    assert not restrictions_met(restrictions, Peer(ip_address("11.1.2.3"), here))


@pytest.mark.parametrize(
    "docs",
    [
        None,
        {},
        ["clerk"],
        [described(CLERK), None],
        [described(CLERK, role=1)],
        [described(CLERK, db=None)],
        [{key: value for key, value in described(CLERK).items() if key != "role"}],
        [{key: value for key, value in described(CLERK).items() if key != "db"}],
        [{key: value for key, value in described(CLERK).items() if key != "inheritedRoles"}],
        [{key: value for key, value in described(CLERK).items() if key != "inheritedPrivileges"}],
        [
            {
                key: value
                for key, value in described(CLERK).items()
                if key != "inheritedAuthenticationRestrictions"
            }
        ],
        [described(CLERK, inheritedRoles=[1])],
        [described(CLERK, inheritedRoles={"role": "reader", "db": "shop"})],
        [described(CLERK, inheritedPrivileges=[{"resource": ON_ORDERS, "actions": "find"}])],
        [described(CLERK, inheritedAuthenticationRestrictions=[{"clientSource": ["10.0.0.0/8"]}])],
        [described(CLERK, inheritedAuthenticationRestrictions=[[{"clientSource": ["nowhere"]}]])],
    ],
)
def test_a_reply_of_another_shape_gives_no_user_at_all(docs: object) -> None:
    with pytest.raises(CommandError) as error:
        user_with_roles(REQUEST, docs)
    assert error.value.code == 1
    assert error.value.errmsg == "The user directory holds a malformed role document"
    assert error.value.reason
