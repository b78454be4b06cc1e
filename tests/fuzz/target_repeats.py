"""The law of repeats: what was learned from one message changes nothing for another, whatever its bytes are."""

from __future__ import annotations

import bson

from mongoguard.proxy.deployment import Impersonation
from tests.property.test_repeat_laws import LSID, both_ways
from tests.rawwire import OP_MSG, message, op_msg, sequence_section

_DOCUMENTS = sequence_section("documents", [{"_id": 1}, {"_id": 2}])
_LEARNED = (
    op_msg({"find": "orders", "filter": {"a": 1}, "limit": 1, "lsid": LSID, "$db": "shop"}),
    op_msg({"find": "orders", "singleBatch": True, "sort": {"a": 1}, "comment": "x", "$db": "shop"}),
    op_msg({"count": "orders", "query": {}, "lsid": LSID, "readConcern": {}, "$db": "shop"}),
    op_msg({"distinct": "orders", "key": "a", "query": {}, "$db": "shop"}),
    op_msg({"insert": "orders", "ordered": True, "lsid": LSID, "$db": "shop"}, _DOCUMENTS),
    op_msg(
        {"insert": "orders", "txnNumber": bson.Int64(1), "lsid": LSID, "$db": "shop"},
        sequence_section("documents", [{}]),
    ),
)

SEEDS = [bytes([number]) + data[16:] for number, data in enumerate(_LEARNED)]


def check(data: bytes) -> None:
    """The first byte chooses what was asked before, and how the upstream takes the user's name."""
    if len(data) < 6:  # a framed message has flags and a section at least
        return
    first = _LEARNED[data[0] % len(_LEARNED)]
    impersonation = tuple(Impersonation)[data[0] // len(_LEARNED) % len(Impersonation)]
    with_repeats, without = both_ways(first, message(OP_MSG, data[1:]), impersonation)
    assert with_repeats == without
