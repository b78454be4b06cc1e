"""Cursors that cross from one process to another: the same entry, or none."""

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongoguard.model.names import UserName
from mongoguard.model.privilege import NOTHING, AllOf, AnyActionInDatabase, AnyOf, NotHeld, Privilege
from mongoguard.model.resource_pattern import MatchType, ResourcePattern
from mongoguard.proxy.cursor_documents import MAX_NESTING, cursor_document, read_cursor
from mongoguard.proxy.cursors import CursorEntry
from mongoguard.wire.document import Document

TEXT = st.text(max_size=20)
PRIVILEGES = st.builds(
    Privilege,
    st.builds(ResourcePattern, st.sampled_from(MatchType), TEXT, TEXT),
    st.frozensets(st.sampled_from(["find", "insert", "listCollections"])),
)
REQUIREMENTS = st.recursive(
    PRIVILEGES | st.builds(AnyActionInDatabase, TEXT),
    lambda parts: (
        st.builds(AllOf, st.lists(parts, max_size=3).map(tuple))
        | st.builds(AnyOf, st.lists(parts, max_size=3).map(tuple))
        | st.builds(NotHeld, parts)
    ),
    max_leaves=10,
)
ENTRIES = st.builds(
    CursorEntry,
    st.integers(-(2**63), 2**63 - 1),
    st.none() | st.builds(UserName, TEXT, TEXT),
    TEXT,
    st.none() | st.binary(min_size=16, max_size=16),
    TEXT,
    REQUIREMENTS,
    st.booleans(),
)


def crossed(document):
    """As it comes out at the other end."""
    return Document(bson.encode(document)).decode()


@given(ENTRIES)
def test_an_entry_crosses_whole(entry):
    assert read_cursor(crossed(cursor_document(entry))) == entry


ENTRY = cursor_document(CursorEntry(7, UserName("a", "b"), "shop.x", None, "h:1", NOTHING))
PRIVILEGE = {"on": [6, "shop", "x"], "actions": ["find"]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"more": 1},
        {"id": "7"},
        {"id": 7.0},
        {"owner": "a"},
        {"owner": ["a"]},
        {"owner": ["a", "b", "c"]},
        {"owner": ["a", None]},
        {"ns": None},
        {"session": "s"},
        {"server": None},
        {"onlyAuthorized": None},
        {"onlyAuthorized": 0},
        {"requirement": None},
        {"requirement": {}},
        {"requirement": {"allOf": [], "anyOf": []}},
        {"requirement": {"allOf": [None]}},
        {"requirement": {**PRIVILEGE, "more": 1}},
        {"requirement": {**PRIVILEGE, "on": [99, "shop", "x"]}},
        {"requirement": {**PRIVILEGE, "on": [6, "shop"]}},
        {"requirement": {**PRIVILEGE, "actions": [1]}},
        {"requirement": {"notHeld": 1}},
        {"requirement": {"anyActionIn": 1}},
    ],
)
def test_what_is_not_understood_to_the_letter_is_no_cursor(wrong):
    assert read_cursor(crossed(ENTRY)).cursor_id == 7
    with pytest.raises(ValueError):
        read_cursor(crossed({**ENTRY, **wrong}))


@pytest.mark.parametrize("document", [None, [], {}, {k: v for k, v in ENTRY.items() if k != "owner"}])
def test_what_has_not_all_fields_is_no_cursor(document):
    with pytest.raises(ValueError):
        read_cursor(document)


def test_a_requirement_without_end_is_none():
    deep = NOTHING
    for _ in range(MAX_NESTING - 1):
        deep = NotHeld(deep)
    entry = CursorEntry(7, None, "shop.x", None, "h:1", deep)
    assert read_cursor(cursor_document(entry)) == entry
    with pytest.raises(ValueError):
        read_cursor(cursor_document(CursorEntry(7, None, "shop.x", None, "h:1", NotHeld(deep))))
