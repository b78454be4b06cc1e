"""Withdrawals: what live sessions rest on, and what does not hold any more.

In: the connections of a process; whose groups, which keys, which certificates do not hold. Out: nothing; the sessions
ask, log in again, or end. Must not know who says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from mongoguard.authn.channel import ClientCertificate
from mongoguard.effects import SigningKey
from mongoguard.model.names import EXTERNAL_DB
from mongoguard.server.client_connection import ClientConnection

__all__ = ["end_revoked", "withdraw_groups", "withdraw_keys"]


def withdraw_groups(connections: Iterable[ClientConnection], names: frozenset[str]) -> None:
    """The groups of these `$external` users: before its next command, a session of theirs asks the directory.

    So does one without a user, for a login of theirs may be under way.
    """
    for connection in connections:
        user = connection.session.user
        if user is None or (user.name.db == EXTERNAL_DB and user.name.user in names):
            connection.session.invalidate()


def withdraw_keys(connections: Iterable[ClientConnection], keys: Collection[SigningKey]) -> None:
    """Keys of identity providers: a login by a token that they have signed has expired."""
    now = time.time()
    for connection in connections:
        connection.session.authentication.withdraw_keys(keys, now)


def end_revoked(
    connections: Iterable[ClientConnection], is_revoked: Callable[[ClientCertificate | None], bool]
) -> None:
    """Certificates of clients: their connections end, whoever is logged in."""
    for connection in connections:
        connection.end_if_revoked(is_revoked)
