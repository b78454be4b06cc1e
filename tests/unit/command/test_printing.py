"""The printed command: texts measured on mongod 6.0.5 that a driver cannot send as they are."""

from __future__ import annotations

from typing import Any

import pytest

from mongoguard.command.command import Command
from mongoguard.command.printing import MAX_PRINTED, not_authorized, print_command
from mongoguard.wire.document import Document
from tests.unit.command.commands import command


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"insert": "c", "documents": [{"a": 1}]}, '{ insert: "c", documents: [ { a: 1 } ], $db: "t" }'),
        ({"insert": "c", "documents": [{}] * 2}, '{ insert: "c", documents: 2, $db: "t" }'),
        ({"update": "c", "updates": [{}] * 3}, '{ update: "c", updates: 3, $db: "t" }'),
        ({"delete": "c", "deletes": [{}] * 2}, '{ delete: "c", deletes: 2, $db: "t" }'),
        ({"createUser": "u", "pwd": "secret"}, '{ createUser: "u", pwd: "xxx", $db: "t" }'),
        ({"saslStart": 1, "payload": b"secret"}, '{ saslStart: 1, payload: "xxx", $db: "t" }'),
        ({"nope": None}, '{ nope: null, $db: "t" }'),
    ],
)
def test_a_command_is_printed_without_its_secrets_and_batches(body: dict[str, Any], text: str) -> None:
    assert print_command(command(body)) == text


def test_document_sequences_are_not_printed() -> None:
    sent = command({"insert": "c"}, sequences={"documents": [{"ssn": "1"}]})
    assert not_authorized(sent).errmsg == 'not authorized on t to execute command { insert: "c", $db: "t" }'


def test_a_huge_command_is_cut() -> None:
    filters = [{"a": "x" * 100}] * 2000
    assert len(print_command(command({"find": "c", "filter": {"$or": filters}}))) <= MAX_PRINTED + 10


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (0x06, b"", "undefined"),
        (0x0E, b"\4\0\0\0sym\0", '"sym"'),
        (0x0C, b"\4\0\0\0a.b\0" + b"x" * 12, "DBRef('a.b',787878787878787878787878)"),
        (0x09, (2**62).to_bytes(8, "little"), "new Date(4611686018427387904)"),
        (0x03, b"\x0d\0\0\0\x08a\0\0\x08a\0\0\0", "..."),
    ],
)
def test_rare_types_are_printed_as_mongod_prints_them(kind: int, value: bytes, text: str) -> None:
    element = bytes([kind]) + b"f\0" + value
    data = (len(element) + 5).to_bytes(4, "little") + element + b"\0"
    assert print_command(Command(Document(data), "t")) == f"{{ f: {text} }}"


def test_refused_list_databases_has_a_text_of_its_own() -> None:
    assert (
        not_authorized(command({"listDatabases": 1}, "admin")).errmsg
        == "Insufficient permissions to list all databases"
    )


@pytest.mark.parametrize("name", ["endSessions", "killSessions", "refreshSessions"])
def test_naming_sessions_of_others_is_refused_in_words_of_its_own(name: str) -> None:
    assert (
        not_authorized(command({name: []}, "t")).errmsg
        == "Unauthorized to set user digest in LogicalSessionId"
    )
