"""Attacks on what mongoguard knows of the servers behind it, by users who may only read."""

from __future__ import annotations

import time

import pytest
from pymongo.errors import OperationFailure
from pymongo.read_preferences import Secondary

from tests.servers import Guard

ROUNDS = 8
ASKED_FOR_A_PRIMARY = {"find": "orders", "readConcern": {"level": "linearizable"}}

THROWN = (
    "throw {code: 10107, errmsg: 'not primary'}",
    "var e = new Error('not master'); e.code = 10107; throw e",
    "throw Object.assign(new Error('node is recovering'), {code: 91, codeName: 'ShutdownInProgress'})",
)


def test_linearizable_reads_at_secondaries_keep_nobody_from_reading_there(guard_of_three: Guard) -> None:
    """A secondary answers them with 10107 NotWritablePrimary, which says nothing of its state."""
    waits = []
    with guard_of_three.client("reader") as attacker, guard_of_three.client("reader") as reader:
        for _ in range(ROUNDS):
            for _ in range(4):  # each of the two is asked, nearly always
                with pytest.raises(OperationFailure) as refused:
                    attacker.shop.command(ASKED_FOR_A_PRIMARY, read_preference=Secondary())
                assert refused.value.code == 6  # what mongos makes of such an error
            began = time.monotonic()
            reader.shop.command({"count": "orders"}, read_preference=Secondary())
            waits.append(time.monotonic() - began)
    assert min(waits) < 0.1, "each read had to wait until a secondary was trusted again"


@pytest.mark.parametrize("thrown", THROWN)
def test_what_a_query_throws_is_no_news_of_the_primary(guard_of_three: Guard, thrown: str) -> None:
    """Whoever may run JavaScript chooses its errors; their codes are not the server's."""
    with guard_of_three.client("app") as client:
        client.shop.thrown.replace_one({"_id": 1}, {"_id": 1}, upsert=True)
        with pytest.raises(OperationFailure) as refused:
            client.shop.thrown.find_one({"$where": f"function() {{ {thrown} }}"})
        assert refused.value.code == 139  # JSInterpreterFailure
        client.shop.thrown.replace_one({"_id": 1}, {"_id": 1})
