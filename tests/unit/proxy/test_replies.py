"""Replies: our own documents, and the little that is read of the upstream's."""

from typing import Any

import bson
import pytest
from bson import Int64, ObjectId

from mongoguard.errors import CommandError
from mongoguard.proxy.replies import (
    begins_with_failure,
    cursor_in_reply,
    error_code_in_reply,
    error_document,
    ok_body,
)
from tests.playbook import reply_of


def test_a_reply_ends_with_ok():
    assert list(bson.decode(ok_body({"a": 1}))) == ["a", "ok"]


def test_an_error_has_mongods_fields_in_mongods_order():
    error = CommandError(13, "no", labels=("L",), err_info={"missing": []})
    assert error_document(error) == {
        "ok": 0.0,
        "errmsg": "no",
        "code": 13,
        "codeName": "Unauthorized",
        "errorLabels": ["L"],
        "errInfo": {"missing": []},
    }
    assert list(error_document(CommandError(40413, "x"))) == ["ok", "errmsg", "code", "codeName"]
    assert error_document(CommandError(40413, "x"))["codeName"] == "Location40413"


ROWS = [{"id": Int64(9), "cursor": {"id": Int64(9)}}]


@pytest.mark.parametrize(
    ("document", "opened"),
    [
        ({"cursor": {"firstBatch": ROWS, "id": Int64(0), "ns": "a.b"}, "ok": 1.0}, (0, "")),
        ({"cursor": {"nextBatch": ROWS, "id": Int64(0), "ns": "a.b"}, "ok": 1.0}, (0, "")),
        ({"cursor": {"firstBatch": ROWS, "id": Int64(7), "ns": "a.b"}, "ok": 1.0}, (7, "a.b")),
        ({"cursor": {"id": Int64(7), "ns": "a.b", "firstBatch": ROWS}, "ok": 1.0}, (7, "a.b")),
        ({"cursor": {"id": Int64(0), "ns": "a.b", "firstBatch": ROWS}, "ok": 1.0}, (0, "a.b")),
        ({"cursor": {"partialResultsReturned": True, "firstBatch": [], "id": Int64(7)}, "ok": 1.0}, (7, "")),
        ({"ok": 1.0, "cursor": {"firstBatch": ROWS, "id": Int64(7), "ns": "a.b"}}, (7, "a.b")),
        ({"cursor": {"id": 7, "ns": "a.b"}, "ok": 1.0}, None),
        ({"cursor": 7, "ok": 1.0}, None),
        ({"ok": 1.0}, None),
    ],
)
def test_a_cursor_is_found_wherever_it_stands(document: dict[str, Any], opened: tuple[int, str] | None):
    assert cursor_in_reply(reply_of(document).message) == opened


@pytest.mark.parametrize(
    ("document", "code"),
    [({"ok": 1.0}, 0), ({"ok": 1}, 0), ({"ok": 0.0, "code": 13}, 13), ({"ok": 0.0}, 1), ({}, 1)],
)
def test_an_error_is_known_by_its_code(document: dict[str, Any], code: int):
    assert error_code_in_reply(reply_of(document).message) == code


VERSION = {"processId": ObjectId(), "counter": Int64(7)}


@pytest.mark.parametrize(
    "document",
    [
        {"ok": 0.0, "errmsg": "x", "code": 13},
        {"topologyVersion": VERSION, "ok": 0.0, "code": 10107},
        {"errorLabels": ["RetryableWriteError"], "topologyVersion": VERSION, "ok": 0.0, "code": 10107},
        {"errorLabels": ["TransientTransactionError"], "ok": 0.0, "code": 112},
    ],
)
def test_a_failure_is_seen_by_its_first_field(document: dict[str, Any]):
    assert begins_with_failure(reply_of(document).message)


@pytest.mark.parametrize("document", [{"ok": 1.0}, {"n": 1, "ok": 1.0}, {"cursor": {}, "ok": 1.0}])
def test_a_success_is_no_failure(document: dict[str, Any]):
    assert not begins_with_failure(reply_of(document).message)
