"""A message read as a command: its name, its collection, its documents; texts measured on mongod 6.0.5."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary

from mongoguard.command.command import MAX_DB_NAME, MAX_NAMESPACE, Command, check_collection
from mongoguard.errors import CommandError
from mongoguard.model.names import Namespace
from mongoguard.wire.document import Document
from tests.unit.command.commands import command

UUID = Binary(b"u" * 16, 4)


def refusal(read: Any, *arguments: Any) -> tuple[int, str]:
    with pytest.raises(CommandError) as caught:
        read(*arguments)
    return caught.value.code, caught.value.errmsg


def test_the_first_key_is_the_name() -> None:
    sent = command({"find": "c", "filter": {}})
    assert (sent.name, sent.db, sent.target) == ("find", "t", "c")
    assert command({"ping": 1}).target is None


def test_an_empty_body_has_the_empty_name() -> None:
    assert Command(Document(bson.encode({})), "t").name == ""


@pytest.mark.parametrize("name", ["c", "a.b", "system.js", "x" * MAX_NAMESPACE, "\xe9"])
def test_a_collection_that_may_exist_is_named(name: str) -> None:
    assert command({"find": name}).collection() == name
    assert command({"find": name}).namespace() == Namespace("t", name)
    assert command({"find": name}).target_string() == name
    check_collection("t", name)


@pytest.mark.parametrize(
    ("db", "name", "errmsg"),
    [
        ("t", "", "Invalid namespace specified 't.'"),
        ("t", ".x", "Collection names cannot start with '.': .x"),
        ("t", "a\0b", "namespaces cannot have embedded null characters"),
        ("t", "a$b", "Invalid collection name specified 't.a$b"),
        ("t", "oplog.$main", "Invalid collection name specified 't.oplog.$main"),
        ("local", "oplog.$other", "Invalid collection name specified 'local.oplog.$other"),
        ("$external", "c", "Invalid collection name specified '$external.c"),
        ("t", "x" * (MAX_NAMESPACE + 1), "Fully qualified namespace is too long. Max: 255"),
    ],
)
def test_a_collection_that_cannot_exist_is_refused(db: str, name: str, errmsg: str) -> None:
    assert refusal(check_collection, db, name) == (73, errmsg)
    assert refusal(command({"find": name}, db).collection) == (73, errmsg)


def test_the_old_oplog_is_the_one_collection_with_a_dollar() -> None:
    check_collection("local", "oplog.$main")
    assert command({"find": "oplog.$main"}, "local").collection() == "oplog.$main"


def test_a_database_name_that_is_too_long_makes_a_namespace_too_long() -> None:
    check_collection("d" * MAX_DB_NAME, "c")
    assert refusal(check_collection, "d" * (MAX_DB_NAME + 1), "c") == (
        73,
        "Fully qualified namespace is too long. Max: 255",
    )


@pytest.mark.parametrize(
    ("value", "code", "errmsg"),
    [
        (UUID, 73, "a collection given by its UUID cannot be authorized here; give its name"),
        (Binary(b"u" * 16, 3), 2, "collection name has invalid type binData"),
        (5, 2, "collection name has invalid type int"),
        (None, 2, "collection name has invalid type null"),
    ],
)
def test_a_collection_that_is_no_string_is_refused(value: Any, code: int, errmsg: str) -> None:
    assert refusal(command({"drop": value}).collection) == (code, errmsg)
    assert refusal(command({"drop": value}).target_string) == (code, errmsg)


def test_a_refused_uuid_is_told_to_the_audit_stream() -> None:
    with pytest.raises(CommandError) as caught:
        command({"drop": UUID}).refuse_uuid()
    assert caught.value.reason == "collection given by UUID"
    command({"drop": "c"}).refuse_uuid()
    command({"drop": Binary(b"u" * 16, 3)}).refuse_uuid()


def test_documents_come_as_an_array_or_as_a_sequence() -> None:
    entries = [{"a": 1}, {"b": 2}]
    for sent in (
        command({"insert": "c", "documents": entries}),
        command({"insert": "c"}, sequences={"documents": entries}),
    ):
        documents = sent.documents("documents")
        assert documents is not None
        assert [d.decode() for d in documents] == entries
        assert sent.document_count("documents") == 2


def test_a_document_of_a_sequence_is_one_level_deep() -> None:
    documents = command({"insert": "c"}, sequences={"documents": [{"a": 1}]}).documents("documents")
    assert documents is not None
    assert documents[0].depth == 1


def test_what_is_neither_an_array_nor_a_sequence_has_no_documents() -> None:
    for sent in (command({"insert": "c"}), command({"insert": "c", "documents": {}})):
        assert sent.documents("documents") is None
        assert sent.document_count("documents") is None
    assert command({"insert": "c", "documents": [{}, 5]}).documents("documents") is None


@pytest.mark.parametrize("db", ["t", "$external", "a$b", "d" * MAX_DB_NAME, "\xe9" * 31])
def test_a_database_name_that_mongod_accepts_is_accepted(db: str) -> None:
    command({"ping": 1}, db).check_database()


@pytest.mark.parametrize("db", ["", "a.b", "a/b", "a\\b", "a b", 'a"b', "d" * (MAX_DB_NAME + 1), "\xe9" * 32])
def test_a_database_name_that_mongod_refuses_is_refused(db: str) -> None:
    assert refusal(command({"ping": 1}, db).check_database) == (73, f"Invalid database name: '{db}'")


def test_a_string_argument_is_told_from_others() -> None:
    assert command({"find": "c"}).is_string("find")
    assert not command({"find": 1}).is_string("find")
    assert not command({"find": "c"}).is_string("filter")
