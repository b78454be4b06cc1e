"""Names print as mongod prints them, and namespaces split at the first dot."""

from __future__ import annotations

from mongoguard.model.names import Namespace, RoleName, UserName


def test_names_print_with_their_database() -> None:
    assert str(UserName("alice", "admin")) == "alice@admin"
    assert str(RoleName("read", "shop")) == "read@shop"


def test_a_namespace_splits_at_the_first_dot() -> None:
    assert Namespace.parse("shop.a.b") == Namespace("shop", "a.b")
    assert str(Namespace.parse("shop.a.b")) == "shop.a.b"


def test_a_namespace_without_a_collection_is_the_database() -> None:
    assert Namespace.parse("shop") == Namespace("shop", "")
    assert str(Namespace("shop", "")) == "shop"
