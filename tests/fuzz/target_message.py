"""Laws of wire.message: a framed message of arbitrary bytes is a message, a CommandError or a ProtocolError.

What is a message has its documents inside its own bytes, apart from each other, and no section is read twice.
"""

from __future__ import annotations

import itertools

from mongoguard.errors import CommandError, ProtocolError
from mongoguard.wire.message import OpMsg, parse_message
from tests.rawwire import OP_MSG, OP_QUERY, header, op_msg, op_query, sequence_section

_INSERT = {"insert": "orders", "$db": "shop"}
SEEDS = [
    b"\0" + op_msg({"ping": 1, "$db": "admin"})[16:],
    b"\0" + op_msg(_INSERT, sequence_section("documents", [{"_id": 1}, {"_id": 2}]))[16:],
    b"\0" + op_msg(_INSERT, before=sequence_section("documents", [{"_id": 1}]))[16:],
    b"\1" + op_query({"isMaster": 1, "client": {"driver": {"name": "x"}}})[16:],
]


def check(data: bytes) -> None:
    """The first byte chooses the opcode; the header is right, as framing leaves it."""
    payload = data[1:]
    opcode = OP_QUERY if data[:1] == b"\1" else OP_MSG
    try:
        message = parse_message(header(16 + len(payload), opcode) + payload)
    except (CommandError, ProtocolError):
        return
    if not isinstance(message, OpMsg):
        assert message.query.end <= len(message.data)
        return
    spans = [
        (message.body.start, message.body.end),
        *(s for spans in message.sequences.values() for s in spans),
    ]
    spans.sort()
    assert spans[0][0] >= 21
    assert spans[-1][1] <= message.end
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
