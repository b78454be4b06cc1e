"""Cursors that cross from one process to another: the same entry, or none."""

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongoguard.effects import CursorClaim, KeptCursor
from mongoguard.model.names import UserName
from mongoguard.model.privilege import NOTHING, AllOf, AnyActionInDatabase, AnyOf, NotHeld, Privilege
from mongoguard.model.resource_pattern import MatchType, ResourcePattern
from mongoguard.proxy.cursor_documents import (
    MAX_NESTING,
    claim_document,
    cursor_document,
    kept_document,
    read_claim,
    read_cursor,
    read_kept,
)
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


SESSIONS = st.none() | st.binary(min_size=16, max_size=16)


@given(
    st.builds(
        CursorClaim, st.none() | st.builds(UserName, TEXT, TEXT), st.booleans(), st.none() | TEXT, SESSIONS
    )
)
def test_a_claim_crosses_whole(claim):
    assert read_claim(crossed(claim_document(claim))) == claim


@given(st.builds(KeptCursor, st.integers(-(2**63), 2**63 - 1), TEXT, TEXT))
def test_a_cursor_that_is_kept_crosses_whole(kept):
    assert read_kept(crossed(kept_document(kept))) == kept


CLAIM = claim_document(CursorClaim(UserName("a", "b"), False, "shop.x", bytes(16)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"more": 1},
        {"user": "a"},
        {"user": ["a"]},
        {"user": [None, "b"]},
        {"ofAnybody": 1},
        {"ofAnybody": None},
        {"ns": 1},
        {"session": "s"},
    ],
)
def test_what_is_not_understood_to_the_letter_is_no_claim(wrong):
    assert read_claim(crossed(CLAIM)).namespace == "shop.x"
    for document in ({**CLAIM, **wrong}, {k: v for k, v in CLAIM.items() if k not in wrong}):
        if document != CLAIM:
            with pytest.raises(ValueError):
                read_claim(document)


@pytest.mark.parametrize("wrong", [None, [], {}, {"more": 1}, {"id": "7"}, {"ns": None}, {"errmsg": 1}])
def test_what_is_not_understood_to_the_letter_is_not_kept(wrong):
    kept = kept_document(KeptCursor(7, "shop.x", "no"))
    with pytest.raises(ValueError):
        read_kept({**kept, **wrong} if wrong else wrong)
