"""Command: a message read as a command.

In: a body document and its document sequences. Out: the command's name, database, arguments, all still in place.
Must not know who sent it or what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.names import Namespace
from mongoguard.wire.document import STRING, Document

__all__ = ["Command"]

_FORBIDDEN_IN_DB = frozenset("./\\ \"\0")
MAX_DB_NAME = 63
"""Bytes in a database name; mongod refuses 64 and more."""


class Command:
    """One command: its first key is its name, `$db` its database.

    `body` is the kind-0 document; `sequences` maps the identifiers of kind-1 sections to their documents, unscanned
    (offset pairs are kept as `Document`s only when `documents()` is asked).
    """

    __slots__ = ("body", "db", "name", "sequences")

    def __init__(
        self, body: Document, db: str, sequences: Mapping[str, Sequence[tuple[int, int]]] | None = None
    ) -> None:
        """Take the first key as the name. An empty body has the empty name, which no row has."""
        self.body = body
        self.db = db
        self.sequences = sequences or {}
        self.name = next(iter(body.fields), "")

    @property
    def target(self) -> str | None:
        """The command field's value when it is a string: the collection, for most commands."""
        return self.body.string(self.name)

    def namespace(self) -> Namespace:
        """The namespace that the command field names on the command's own database.

        Raises `CommandError` 73 as mongod words it, when it is no string, empty, or no valid collection name.
        """
        collection = self.body.string(self.name)
        if collection is None:
            raise CommandError(
                ErrorCode.INVALID_NAMESPACE,
                f"collection name has invalid type {self.body.type_name(self.name)}",
            )
        if not collection or collection.startswith(".") or "\0" in collection:
            raise CommandError(
                ErrorCode.INVALID_NAMESPACE, f"Invalid namespace specified '{self.db}.{collection}'"
            )
        return Namespace(self.db, collection)

    def documents(self, name: str) -> list[Document] | None:
        """The documents of an argument that may come as a document sequence or as an array; None when absent or ill-typed."""
        spans = self.sequences.get(name)
        if spans is not None:
            return [Document(self.body.data, start, end, 1) for start, end in spans]
        return self.body.documents(name)

    def document_count(self, name: str) -> int | None:
        """How many documents the argument holds, without opening them; None when it is neither sequence nor array."""
        spans = self.sequences.get(name)
        if spans is not None:
            return len(spans)
        array = self.body.array(name)
        return None if array is None else len(array)

    def check_database(self) -> None:
        """Raise `CommandError` 73 for a database name that mongod refuses."""
        db = self.db
        if not db or len(db.encode()) > MAX_DB_NAME or not _FORBIDDEN_IN_DB.isdisjoint(db):
            raise CommandError(ErrorCode.INVALID_NAMESPACE, f"Invalid database name: '{db}'")

    def is_string(self, name: str) -> bool:
        """Whether that argument is a string."""
        return self.body.type_of(name) == STRING
