"""Messages to begin with: every command that was measured on a 6.0.5 server, as an OP_MSG."""

from __future__ import annotations

import json
from pathlib import Path

from bson import json_util

from tests.rawwire import op_msg, sequence_section

__all__ = ["measured_messages"]

_MEASURED = Path(__file__).parents[2] / "fixtures" / "mongod" / "6.0.5" / "min_privileges.json"


def measured_messages() -> list[bytes]:
    """One message a command, and two writes with document sequences."""
    options = json_util.JSONOptions(json_mode=json_util.JSONMode.RELAXED, uuid_representation=0)
    entries = json.loads(_MEASURED.read_text())["entries"]
    messages = [
        op_msg({**json_util.loads(json.dumps(e["command"]), json_options=options), "$db": e["db"]})
        for e in entries
    ]
    insert = {"insert": "c", "ordered": True, "$db": "t"}
    update = {"update": "c", "$db": "t"}
    return [
        *messages,
        op_msg(insert, sequence_section("documents", [{"_id": 1}, {"_id": 2}])),
        op_msg(
            update, before=sequence_section("updates", [{"q": {}, "u": {"$set": {"a": 1}}, "upsert": True}])
        ),
    ]
