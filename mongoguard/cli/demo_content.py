"""What the demo's deployment holds (data), and the function that stores it.

In: a client logged in as the administrator, passwords. Out: databases, roles and users. Must not know the proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import MongoClient

from mongoguard.config.secret import Secret

__all__ = ["DEMO_USERS", "fill"]

COLLECTIONS: Mapping[str, Mapping[str, list[dict[str, Any]]]] = {
    "shop": {
        "orders": [
            {"_id": 1, "customer": 1, "item": "lamp", "total": 40, "status": "shipped"},
            {"_id": 2, "customer": 2, "item": "desk", "total": 250, "status": "open"},
            {"_id": 3, "customer": 1, "item": "chair", "total": 90, "status": "open"},
        ],
        "customers": [
            {"_id": 1, "name": "Ada", "city": "London"},
            {"_id": 2, "name": "Linus", "city": "Helsinki"},
        ],
    },
    "hr": {
        "salaries": [{"_id": 1, "name": "Grace", "salary": 9000}, {"_id": 2, "name": "Alan", "salary": 8000}]
    },
}

DEMO_USERS: Mapping[str, tuple[str, list[dict[str, str]]]] = {
    "alice": ("readWrite on shop", [{"role": "readWrite", "db": "shop"}]),
    "bob": ("read on shop", [{"role": "read", "db": "shop"}]),
    "auditor": ("find on shop.orders, nothing else", [{"role": "ordersAuditor", "db": "admin"}]),
}
"""Name -> what the user may do, and the roles that say so. The administrator `admin` exists before."""


def fill(client: MongoClient[dict[str, Any]], passwords: Mapping[str, Secret]) -> None:
    """Store collections, the role ordersAuditor, and the users; `passwords` has one for each of `DEMO_USERS`."""
    for db, collections in COLLECTIONS.items():
        for name, documents in collections.items():
            client[db][name].insert_many(documents)
    resource = {"db": "shop", "collection": "orders"}
    privileges = [{"resource": resource, "actions": ["find"]}]
    client.admin.command("createRole", "ordersAuditor", privileges=privileges, roles=[])
    for name, (_, roles) in DEMO_USERS.items():
        client.admin.command("createUser", name, pwd=passwords[name].reveal(), roles=roles)
