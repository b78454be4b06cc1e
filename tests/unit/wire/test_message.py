"""Messages: every rule of OP_MSG and OP_QUERY with its twin, and replies."""

import bson
import pytest

from mongoguard.errors import CommandError, ErrorCode, ProtocolError
from mongoguard.wire.message import (
    MAX_BSON_OBJECT_BYTES,
    OpMsg,
    OpQuery,
    ReplyFlag,
    encode_op_msg,
    encode_op_reply,
    parse_message,
    request_id_of,
)
from tests.rawwire import EXHAUST_ALLOWED, MORE_TO_COME, Message, op_msg, op_query, sequence_section
from tests.unit.wire.cases import CASES, CLOSED, PING, Case, document_of, element


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_message_is_parsed_or_refused_as_its_case_says(case: Case):
    if case.answer is None:
        assert isinstance(parse_message(case.data), OpMsg | OpQuery)
    elif case.answer == CLOSED:
        with pytest.raises(ProtocolError) as closed:
            parse_message(case.data)
        assert case.text in str(closed.value)
    else:
        with pytest.raises(CommandError) as refused:
            parse_message(case.data)
        assert refused.value.code == case.answer
        assert case.text in refused.value.errmsg


def parsed(data: bytes) -> OpMsg:
    message = parse_message(data)
    assert isinstance(message, OpMsg)
    return message


def test_case_names_are_unique():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


def test_an_op_msg_gives_its_body_and_the_spans_of_its_sequences():
    documents = [{"_id": 1}, {"_id": 2, "text": "é"}]
    body = {"insert": "orders", "$db": "shop"}
    for data in (
        op_msg(body, sequence_section("documents", documents), request_id=7),
        op_msg(body, before=sequence_section("documents", documents), request_id=7),
    ):
        message = parsed(data)
        assert message.request_id == request_id_of(data) == 7
        assert message.body.decode() == body
        assert message.end == len(data)
        assert list(message.sequences) == ["documents"]
        assert [bson.decode(data[start:end]) for start, end in message.sequences["documents"]] == documents


def test_a_checksum_is_no_part_of_the_sections():
    data = op_msg(PING, flags=1)
    assert parsed(data).end == len(data) - 4
    assert parsed(op_msg(PING)).end == len(data) - 4


def test_only_the_flag_more_to_come_says_that_nobody_waits():
    assert parsed(op_msg(PING, flags=MORE_TO_COME)).more_to_come
    assert not parsed(op_msg(PING, flags=EXHAUST_ALLOWED | 1)).more_to_come


def _body_of(size: int) -> bytes:
    padding = size - len(document_of(element(5, b"a", b"\0\0\0\0\0")))
    return document_of(element(5, b"a", padding.to_bytes(4, "little") + b"\0" + bytes(padding)))


def test_a_body_has_at_most_16_mb_and_16_kb():
    assert len(_body_of(MAX_BSON_OBJECT_BYTES)) == MAX_BSON_OBJECT_BYTES
    assert parsed(op_msg(_body_of(MAX_BSON_OBJECT_BYTES))).body.end
    with pytest.raises(CommandError) as refused:
        parse_message(op_msg(_body_of(MAX_BSON_OBJECT_BYTES + 1)))
    assert refused.value.code == ErrorCode.BSON_OBJECT_TOO_LARGE
    assert refused.value.errmsg == (
        "BSONObj size: 16793601 (0x1004001) is invalid. Size must be between 0 and 16793600(16MB)"
    )


def test_a_body_that_is_too_large_is_not_scanned():
    unreadable = document_of(element(0x20, b"a", bytes(MAX_BSON_OBJECT_BYTES)))
    with pytest.raises(CommandError) as refused:
        parse_message(op_msg(unreadable))
    assert refused.value.code == ErrorCode.BSON_OBJECT_TOO_LARGE


def test_a_large_sequence_beside_a_small_body_is_no_large_body():
    half = {"a": bytes(MAX_BSON_OBJECT_BYTES // 2)}
    sequence = sequence_section("d", [half, half, half])
    assert parsed(op_msg(PING, before=sequence)).body.decode() == PING
    assert parsed(op_msg(PING, sequence)).body.decode() == PING


def test_an_op_query_gives_its_namespace_and_document():
    message = parse_message(op_query({"isMaster": 1}, "admin.$cmd", request_id=9))
    assert isinstance(message, OpQuery)
    assert (message.request_id, message.namespace) == (9, "admin.$cmd")
    assert message.query.decode() == {"isMaster": 1}


def _read(data: bytes) -> Message:
    assert int.from_bytes(data[:4], "little") == len(data)
    return Message(*(int.from_bytes(data[i : i + 4], "little") for i in (4, 8, 12)), data[16:])


def test_an_encoded_op_msg_is_what_the_protocol_says():
    reply = _read(encode_op_msg(3, 4, bson.encode({"ok": 1.0}), flags=2))
    assert (reply.request_id, reply.response_to, reply.opcode, reply.flags) == (3, 4, 2013, 2)
    assert reply.document == {"ok": 1.0}


def test_an_encoded_op_reply_is_what_the_protocol_says():
    reply = _read(encode_op_reply(3, 4, bson.encode({"ok": 1.0}), ReplyFlag.AWAIT_CAPABLE))
    assert (reply.request_id, reply.response_to, reply.opcode, reply.flags) == (3, 4, 1, 8)
    assert reply.payload[4:20] == bytes(12) + b"\1\0\0\0"  # cursor 0, from 0, one document
    assert reply.document == {"ok": 1.0}


@pytest.mark.parametrize(("count", "answer"), [(16, None), (17, 16)])
def test_a_message_has_a_bounded_number_of_sequences(count: int, answer: int | None):
    data = op_msg({"ping": 1, "$db": "admin"}, *(sequence_section(f"s{i}", []) for i in range(count)))
    assert _code(data) == answer


@pytest.mark.parametrize(("count", "answer"), [(100_000, None), (100_001, 16)])
def test_a_sequence_has_a_bounded_number_of_documents(count: int, answer: int | None):
    empty = b"\5\0\0\0\0"
    section = b"\1" + (14 + 5 * count).to_bytes(4, "little") + b"documents\0" + empty * count
    assert _code(op_msg({"insert": "c", "$db": "t"}, section)) == answer


@pytest.mark.parametrize(("count", "answer"), [(10_000, None), (10_001, 16)])
def test_a_body_has_a_bounded_number_of_fields(count: int, answer: int | None):
    assert _code(op_msg({f"f{i}": None for i in range(count)})) == answer


def _code(data: bytes) -> int | None:
    try:
        parse_message(data)
    except CommandError as error:
        return error.code
    return None
