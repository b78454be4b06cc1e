"""Explanations for people."""

from mongoguard.cli.explain_text import as_text
from mongoguard.model.names import RoleName
from tests.unit.cli.explaining import AUDITOR, CHIEF, PEEPER, RENAMER, user, why


def test_what_is_held_is_shown_with_the_pattern_and_the_path():
    assert as_text(why(user(CHIEF), '{"find": "orders"}')).splitlines() == [
        "find on shop for alice@admin: ALLOWED",
        '  has find on {"db": "shop", "collection": "orders"}',
        '      find by {"db": "shop", "collection": "orders"}',
        "          alice@admin -> chief@admin -> clerk@admin -> auditor@admin",
    ]


def test_what_is_missing_is_shown_with_what_would_allow_it():
    assert as_text(why(user(AUDITOR), '{"insert": "orders", "documents": [{"a": 1}]}')).splitlines() == [
        "insert on shop for alice@admin: DENIED",
        '  lacks insert on {"db": "shop", "collection": "orders"}',
        '  to allow it, grant insert on {"db": "shop", "collection": "orders"}',
        "  smallest built-in role that would allow it: readWrite@shop",
    ]


def test_a_tree_is_shown_as_a_tree():
    text = as_text(why(user(RENAMER, PEEPER), '{"renameCollection": "shop.a", "to": "shop.b"}', "admin"))
    assert text.splitlines()[:14] == [
        "renameCollection on admin for alice@admin: DENIED",
        "  needs at least one of these, which is not so:",
        "    - needs all of these, which is not so:",
        '        - has renameCollectionSameDB on {"db": "shop", "collection": ""}',
        '              renameCollectionSameDB by {"db": "shop", "collection": ""}',
        "                  alice@admin -> renamer@admin",
        "        - needs at least one of these, which is not so:",
        '            - lacks find on {"db": "shop", "collection": "a"}',
        "            - must not be met, but is:",
        '                  has find on {"db": "shop", "collection": "b"}',
        '                      find by {"db": "shop", "collection": "b"}',
        "                          alice@admin -> peeper@admin",
        "    - needs all of these, which is not so:",
        '        - lacks dropCollection, find on {"db": "shop", "collection": "a"}',
    ]
    assert "  note: as in mongod, renameCollectionSameDB is not enough" in text


def test_what_to_revoke_is_said():
    view = '{"create": "b", "viewOn": "secrets", "pipeline": [{"$lookup": {"from": "x", "pipeline": [], "as": "y"}}]}'
    denied = as_text(why(user(RoleName("dbAdmin", "shop"), PEEPER), view))
    assert 'to allow it, revoke find on {"db": "shop", "collection": "b"}' in denied
    allowed = as_text(why(user(RoleName("dbAdmin", "shop")), view))
    assert "must not be met, and is not:" in allowed
    assert "to allow it" not in allowed


def test_what_needs_nothing_is_said_so():
    assert as_text(why(user(), '{"ping": 1}')).endswith(
        "ALLOWED\n  needs no privilege that has to be granted"
    )


def test_a_refusal_has_its_reason_and_no_advice():
    assert as_text(why(user(), '{"nonsense": 1}')).splitlines()[1:] == [
        "  mongoguard knows no command of this name, and refuses what it does not know"
    ]


def test_any_privilege_in_a_database_is_said_in_words():
    text = '{"listCollections": 1, "nameOnly": true, "authorizedCollections": true}'
    assert "- has any privilege on something in the database shop" in as_text(why(user(AUDITOR), text))
    assert "- lacks any privilege on something in the database shop" in as_text(why(user(), text))


def test_where_no_builtin_role_helps_this_is_said():
    text = as_text(why(user(), '{"find": "orders", "$audit": {"$impersonatedUsers": []}}'))
    assert text.endswith("no single built-in role would allow it; create one with these privileges")
