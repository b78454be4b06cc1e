"""Command: a message read as a command.

In: a body document and its document sequences. Out: the command's name, database, arguments, all still in place.
Must not know who sent it or what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.names import EXTERNAL_DB, Namespace
from mongoguard.wire.document import STRING, Document

__all__ = ["MAX_DB_NAME", "MAX_NAMESPACE", "Command", "check_collection"]

_FORBIDDEN_IN_DB = frozenset('./\\ "\0')
MAX_DB_NAME = 63
"""Bytes in a database name; mongod refuses 64 and more."""

MAX_NAMESPACE = 255
"""Bytes in a namespace that a server creates; longer names cannot exist, and must not fill caches."""

_UUID_SUBTYPE = 4


def check_collection(db: str, collection: str) -> None:
    """Raise `CommandError` 73 for a collection name that mongod refuses, in its words.

    A `$` is refused for every command (mongod: some before, some after it checks privileges), because such names mean
    the server's own pseudo-collections; the old oplog `local.oplog.$main` is the one that exists.
    """
    if not collection:
        raise CommandError(ErrorCode.INVALID_NAMESPACE, f"Invalid namespace specified '{db}.'")
    if len(collection) > MAX_NAMESPACE or len(db) > MAX_DB_NAME:
        raise CommandError(
            ErrorCode.INVALID_NAMESPACE, f"Fully qualified namespace is too long. Max: {MAX_NAMESPACE}"
        )
    if collection[0] == ".":
        raise CommandError(
            ErrorCode.INVALID_NAMESPACE, f"Collection names cannot start with '.': {collection}"
        )
    if "\0" in collection:
        raise CommandError(ErrorCode.INVALID_NAMESPACE, "namespaces cannot have embedded null characters")
    if db == EXTERNAL_DB or ("$" in collection and (db, collection) != ("local", "oplog.$main")):
        raise CommandError(
            ErrorCode.INVALID_NAMESPACE, f"Invalid collection name specified '{db}.{collection}"
        )


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

    def target_string(self) -> str:
        """The command field's value, which must be a string.

        Raises `CommandError` 2 as mongod words it for another type, and 73 for a collection given by its UUID: whose
        collection that is, only the server knows.
        """
        text = self.body.string(self.name)
        if text is not None:
            return text
        self.refuse_uuid()
        raise CommandError(
            ErrorCode.BAD_VALUE, f"collection name has invalid type {self.body.type_name(self.name)}"
        )

    def refuse_uuid(self) -> None:
        """Raise `CommandError` 73 when the command field is a UUID: which collection it means cannot be known here."""
        binary = self.body.binary(self.name)
        if binary is not None and binary[0] == _UUID_SUBTYPE:
            raise CommandError(
                ErrorCode.INVALID_NAMESPACE,
                "a collection given by its UUID cannot be authorized here; give its name",
                reason="collection given by UUID",
            )

    def collection(self) -> str:
        """The collection that the command field names on the command's own database.

        Raises `CommandError` as mongod words it, when it is no string or no valid collection name.
        """
        text = self.body.string(self.name)
        if text is None:
            return self.target_string()
        if (
            not 0 < len(text) <= MAX_NAMESPACE
            or text[0] == "."
            or "$" in text
            or "\0" in text
            or self.db == EXTERNAL_DB
        ):
            check_collection(self.db, text)
        return text

    def namespace(self) -> Namespace:
        """The command's database and `collection`."""
        return Namespace(self.db, self.collection())

    def documents(self, name: str) -> list[Document] | None:
        """The documents of an argument that may come as a sequence or as an array; None when absent or ill-typed."""
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
