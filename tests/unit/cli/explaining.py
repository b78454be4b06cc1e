"""A small role graph that the tests of `explain` share."""

from typing import Any

from mongoguard.authz.role_graph import RoleGraph
from mongoguard.cli.explanation import Explanation, explain, parse_command
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.model.user import Role, User

ORDERS = ResourcePattern.for_exact_namespace("shop", "orders")
SHOP = ResourcePattern.for_database("shop")
CLERK, AUDITOR, CHIEF = (RoleName(name, "admin") for name in ("clerk", "auditor", "chief"))
RENAMER, PEEPER = RoleName("renamer", "admin"), RoleName("peeper", "admin")
GRAPH = RoleGraph(
    [
        Role(AUDITOR, (Privilege(ORDERS, frozenset({"find"})),)),
        Role(CLERK, (Privilege(ORDERS, frozenset({"insert"})),), (AUDITOR,)),
        Role(CHIEF, (), (CLERK,)),
        Role(RENAMER, (Privilege(SHOP, frozenset({"renameCollectionSameDB"})),)),
        Role(PEEPER, (Privilege(ResourcePattern.for_exact_namespace("shop", "b"), frozenset({"find"})),)),
    ]
)


def user(*roles: RoleName) -> User:
    """alice@admin with those roles."""
    resolved = GRAPH.resolve(roles)
    return User(
        UserName("alice", "admin"),
        roles=roles,
        inherited_roles=resolved.roles,
        privileges=resolved.privileges,
    )


def why(who: User, text: str, db: str = "shop", **options: Any) -> Explanation:
    """The explanation of a command written in JSON."""
    return explain(who, GRAPH, parse_command(text, db), **options)
