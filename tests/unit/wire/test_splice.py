"""Splices: exactly the named changes, everything else byte for byte."""

import struct

import bson
import pytest

from mongoguard.wire.document import Document, encode_element
from mongoguard.wire.message import OpMsg, parse_message
from mongoguard.wire.splice import Splice, append_to_document, splice_message
from tests.rawwire import CHECKSUM_PRESENT, EXHAUST_ALLOWED, MORE_TO_COME, op_msg, sequence_section

BODY = {"insert": "orders", "lsid": {"id": bson.Binary(b"i" * 16, 4)}, "$db": "shop"}
SEQUENCE = sequence_section("documents", [{"_id": 1}, {"_id": 2}])


def parsed(data: bytes) -> OpMsg:
    message = parse_message(data)
    assert isinstance(message, OpMsg)
    return message


def test_no_splice_leaves_a_message_as_it_is():
    data = op_msg(BODY, SEQUENCE, request_id=5)
    assert splice_message(parsed(data), (), b"") == data


def test_a_response_id_of_a_client_is_not_relayed():
    data = op_msg(BODY)
    claimed = data[:8] + struct.pack("<i", 99) + data[12:]
    assert splice_message(parsed(claimed), (), b"") == data


def test_elements_are_appended_to_the_body_and_lengths_are_mended():
    spliced = splice_message(parsed(op_msg(BODY, request_id=5)), (), encode_element("$audit", {"a": 1}))
    assert spliced == op_msg({**BODY, "$audit": {"a": 1}}, request_id=5)


@pytest.mark.parametrize("first", [True, False], ids=["sequence first", "body first"])
def test_a_sequence_is_relayed_byte_for_byte_wherever_it_stands(first: bool):
    data = op_msg(BODY, before=SEQUENCE) if first else op_msg(BODY, SEQUENCE)
    spliced = parsed(splice_message(parsed(data), (), encode_element("x", 1)))
    assert spliced.body.decode() == {**BODY, "x": 1}
    (spans,) = spliced.sequences.values()
    assert b"".join(spliced.data[a:b] for a, b in spans) == bson.encode({"_id": 1}) + bson.encode({"_id": 2})
    assert (spliced.body.start > spans[0][0]) is first


def test_several_replacements_grow_and_shrink_the_body():
    message = parsed(op_msg({"a": "long text", "b": 1, "c": [1, 2], "$db": "x"}))
    fields = message.body.fields
    splices: list[Splice] = [
        (fields["a"].start, fields["a"].end, encode_element("a", "")),
        (fields["c"].start, fields["c"].end, encode_element("c", [1, 2, 3, 4])),
    ]
    spliced = splice_message(message, splices, encode_element("d", None))
    assert spliced == op_msg({"a": "", "b": 1, "c": [1, 2, 3, 4], "$db": "x", "d": None})


@pytest.mark.parametrize("flags", [CHECKSUM_PRESENT, MORE_TO_COME, EXHAUST_ALLOWED, 0xFFFF0003])
def test_flags_and_checksum_are_dropped(flags: int):
    data = op_msg(BODY, SEQUENCE, flags=flags)
    assert splice_message(parsed(data), (), b"") == op_msg(BODY, SEQUENCE)


def test_a_document_grows_by_elements_at_its_end():
    data = b"before" + bson.encode({"a": 1}) + b"after"
    grown = append_to_document(Document(data, 6), encode_element("b", "x"))
    assert grown == bson.encode({"a": 1, "b": "x"})
