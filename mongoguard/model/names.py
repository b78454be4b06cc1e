"""Names: users, roles, namespaces.

In: strings. Out: values that compare and hash fast (tuples). Must not know where a name came from.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["EXTERNAL_DB", "Namespace", "RoleName", "UserName"]

EXTERNAL_DB = "$external"


class UserName(NamedTuple):
    """A user's name: `user` on the database `db` that defines it (`$external` for users without a password here)."""

    user: str
    db: str

    def __str__(self) -> str:
        """`user@db`, as mongod prints it and as it hashes it for a session's `uid`."""
        return f"{self.user}@{self.db}"


class RoleName(NamedTuple):
    """A role's name: `role` on the database `db` that defines it."""

    role: str
    db: str

    def __str__(self) -> str:
        """`role@db`, as mongod prints it."""
        return f"{self.role}@{self.db}"


class Namespace(NamedTuple):
    """A database and a collection; an empty collection means the database itself."""

    db: str
    collection: str

    def __str__(self) -> str:
        """`db.collection`, or `db` alone."""
        return f"{self.db}.{self.collection}" if self.collection else self.db

    @classmethod
    def parse(cls, text: str) -> Namespace:
        """Split at the first dot, as mongod does."""
        db, _, collection = text.partition(".")
        return cls(db, collection)
