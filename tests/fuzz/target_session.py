"""The theorem (tests/theorem.py) on arbitrary messages, for a user with a few privileges, an administrator and nobody."""

from __future__ import annotations

import bson

from mongoguard.model.names import UserName
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.proxy.cursors import CursorTable
from tests.fuzz.commands import measured_messages
from tests.playbook import make_session, user_with
from tests.rawwire import OP_MSG, OP_QUERY, header
from tests.theorem import check_message
from tests.unit.wire.cases import CASES

_USERS = (
    None,
    user_with({ResourcePattern.for_database("t"): frozenset({"find", "insert", "listCollections"})}),
    user_with({ResourcePattern.for_any_resource(): frozenset({"anyAction"})}, UserName("root", "admin")),
    user_with({}, UserName("bob", "admin")),
)
_REPLY = {"cursor": {"firstBatch": [{"name": "c"}], "id": bson.Int64(5), "ns": "t.c"}, "ok": 1.0}

SEEDS = [
    bytes([number % 8]) + data[16:]
    for number, data in enumerate([*measured_messages(), *(case.data for case in CASES)])
]


def check(data: bytes) -> None:
    """The first byte chooses who sends it (two bits), the opcode (one) and whether it was compressed (one)."""
    if not data:
        return
    choice, payload = data[0], data[1:]
    message = header(16 + len(payload), OP_QUERY if choice & 4 and choice & 16 else OP_MSG) + payload
    session = make_session(_USERS[choice & 3], cursors=CursorTable())
    check_message(
        session, message, compressed=bool(choice & 8), reply=_REPLY, owns_operations=bool(choice & 32)
    )
