"""The cursor table: whose cursor it is, and when it is forgotten."""

import pytest

from mongoguard.effects import CursorClaim, KeptCursor
from mongoguard.errors import CommandError
from mongoguard.model.names import Namespace, UserName
from mongoguard.model.privilege import NOTHING
from mongoguard.proxy import cursors
from mongoguard.proxy.cursors import MAX_IDLE_TICKS, CursorEntry, CursorTable

ALICE, BOB = UserName("alice", "shop"), UserName("bob", "shop")
NAMESPACE = Namespace("shop", "orders")
SESSION = bytes(range(16))


def entry(
    cursor_id: int = 5, server: str = "a:1", owner: UserName | None = ALICE, namespace: str = "shop.orders"
) -> CursorEntry:
    return CursorEntry(cursor_id, owner, namespace, SESSION, server, NOTHING)


def claim(user: UserName | None, namespace: Namespace, session: bytes | None) -> CursorClaim:
    return CursorClaim(user, namespace=str(namespace), session=session)


def refusal(user: UserName | None, namespace: Namespace, session: bytes | None) -> str:
    with pytest.raises(CommandError) as refused:
        entry().check(claim(user, namespace, session))
    assert refused.value.code == 13
    return refused.value.errmsg


def test_the_owner_may_go_on_in_the_same_session_and_namespace():
    entry().check(claim(ALICE, NAMESPACE, SESSION))


def test_another_user_may_not():
    assert refusal(BOB, NAMESPACE, SESSION) == "cursor id 5 was not created by the authenticated user"
    assert refusal(UserName("alice", "admin"), NAMESPACE, SESSION)
    assert refusal(None, NAMESPACE, SESSION)


def test_another_namespace_may_not():
    assert refusal(ALICE, Namespace("shop", "other"), SESSION) == (
        "Requested getMore on namespace 'shop.other', but cursor belongs to a different namespace shop.orders"
    )


def test_another_session_may_not_nor_none():
    text = refusal(ALICE, NAMESPACE, bytes(16))
    assert "00010203-0405-0607-0809-0a0b0c0d0e0f" in text
    assert "00000000-0000-0000-0000-000000000000" in text
    assert "session id (none)" in refusal(ALICE, NAMESPACE, None)


def test_whoever_opened_it_the_namespace_and_the_session_must_fit():
    entry().check(CursorClaim(None, True, str(NAMESPACE), SESSION))
    for other in (
        CursorClaim(None, True, "shop.other", SESSION),
        CursorClaim(None, True, str(NAMESPACE), None),
    ):
        assert entry().refusal_of(other)


def test_a_claim_without_a_namespace_asks_for_the_owner_alone():
    for owner, user, fits in (
        (ALICE, ALICE, True),
        (None, None, True),
        (ALICE, BOB, False),
        (ALICE, UserName("alice", "admin"), False),
        (ALICE, None, False),
        (None, ALICE, False),
    ):
        assert (entry(owner=owner).refusal_of(CursorClaim(user)) is None) is fits
        assert entry(owner=owner).refusal_of(CursorClaim(user, of_anybody=True)) is None


def test_a_cursor_is_given_to_its_owner_alone_and_shown_to_nobody_else():
    table = CursorTable()
    table.add(entry())
    assert table.claim(5, claim(BOB, NAMESPACE, SESSION)) == KeptCursor(
        5, "shop.orders", "cursor id 5 was not created by the authenticated user"
    )
    assert table.claim(6, claim(ALICE, NAMESPACE, SESSION)) is None
    assert table.claim(5, claim(ALICE, NAMESPACE, SESSION)) is table.find(5)


def test_a_cursor_is_found_until_it_is_removed():
    table = CursorTable()
    table.add(entry())
    assert table.find(5) is not None
    assert table.find(6) is None
    table.remove(5)
    table.remove(5)
    assert table.find(5) is None
    assert len(table) == 0


@pytest.mark.parametrize("other", [entry(server="b:2"), entry(namespace="shop.other")])
def test_an_id_that_two_servers_use_is_forgotten(other: CursorEntry):
    table = CursorTable()
    table.add(entry())
    table.add(other)
    assert table.find(5) is None


def test_an_id_that_its_server_uses_again_belongs_to_the_new_owner():
    table = CursorTable()
    table.add(entry())
    table.add(entry(owner=BOB))
    found = table.find(5)
    assert found is not None
    assert found.owner == BOB


def test_the_least_recently_used_cursor_goes_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cursors, "MAX_CURSORS", 2)
    table = CursorTable()
    table.add(entry(1))
    table.add(entry(2))
    table.find(1)
    table.add(entry(3))
    assert [table.find(i) is not None for i in (1, 2, 3)] == [True, False, True]


def test_a_cursor_is_forgotten_after_a_day_without_use():
    table = CursorTable()
    table.add(entry(1))
    table.add(entry(2))
    for _ in range(MAX_IDLE_TICKS):
        table.tick()
    assert table.find(2) is not None
    table.tick()
    assert len(table) == 1
    assert table.find(1) is None
    assert table.find(2) is not None


def test_an_empty_table_lets_time_pass():
    table = CursorTable()
    table.add(entry())
    for _ in range(MAX_IDLE_TICKS + 2):
        table.tick()
    assert len(table) == 0
