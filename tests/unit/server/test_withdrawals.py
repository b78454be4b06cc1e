"""Whom it concerns that groups, keys and certificates do not hold any more."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from mongoguard.model.names import UserName
from mongoguard.model.user import User
from mongoguard.server.withdrawals import end_revoked, withdraw_groups, withdraw_keys


class Connection:
    """Takes down what it is told."""

    def __init__(self, name=None, db="$external"):
        self.told = []
        self.session = SimpleNamespace(
            user=None if name is None else User(UserName(name, db)),
            invalidate=lambda: self.told.append("asks"),
            authentication=SimpleNamespace(withdraw_keys=lambda *told: self.told.append(told)),
        )

    def end_if_revoked(self, is_revoked):
        self.told.append(is_revoked)


@pytest.mark.parametrize(
    ("connection", "asks"),
    [
        (Connection("ann"), True),
        (Connection("bob"), False),
        (Connection("ann", "admin"), False),
        (Connection(), True),
    ],
    ids=[
        "the user",
        "another",
        "one of that name in another database",
        "nobody yet: the login may be theirs",
    ],
)
def test_sessions_of_users_whose_groups_do_not_hold_ask_before_their_next_command(connection, asks):
    withdraw_groups([connection], frozenset({"ann", "eve"}))
    assert bool(connection.told) is asks


def test_keys_are_withdrawn_from_now_on():
    connection, key = Connection("ann"), object()
    before = time.time()
    withdraw_keys([connection], [key])
    ((keys, now),) = connection.told
    assert keys == [key]
    assert before <= now <= time.time()


def test_every_connection_looks_at_its_certificate():
    connections = [Connection(), Connection("ann")]
    end_revoked(connections, bool)
    assert all(connection.told == [bool] for connection in connections)
