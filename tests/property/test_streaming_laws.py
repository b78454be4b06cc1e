"""Streams: whatever is asked and answered, each request that follows is the first one again, under the reply's id."""

import bson
from hypothesis import given
from hypothesis import strategies as st

from mongoguard.proxy.streaming import Streaming
from mongoguard.wire.message import OpMsg, parse_message
from tests.rawwire import CHECKSUM_PRESENT, EXHAUST_ALLOWED, MORE_TO_COME, op_msg, sequence_section

ids = st.integers(-(2**31), 2**31 - 1)
bodies = st.dictionaries(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5),
    st.integers(0, 99) | st.binary(),
)


@given(bodies, ids, ids, st.sampled_from([0, CHECKSUM_PRESENT]), st.booleans(), st.none() | bodies)
def test_the_request_that_follows_is_well_formed_and_the_reply_is_changed_in_its_flag_alone(
    body, request_id, reply_id, checksum, has_sequence, next_body
):
    sections = [sequence_section("documents", [{"x": 1}])] if has_sequence and "documents" not in body else []
    data = op_msg(body, *sections, flags=EXHAUST_ALLOWED | checksum, request_id=request_id)
    request = parse_message(data)
    assert isinstance(request, OpMsg)
    reply = op_msg({"ok": 1.0}, request_id=reply_id)
    streaming = Streaming()
    streaming.begin(request)
    streaming.go_on(None if next_body is None else bson.encode(next_body))
    sent = streaming.after(request, reply)
    assert int.from_bytes(sent[16:20], "little") == MORE_TO_COME
    assert sent[:16] + bytes(4) + sent[20:] == reply
    assert streaming.next_request is not None
    following = parse_message(streaming.next_request)
    assert isinstance(following, OpMsg)
    assert int.from_bytes(streaming.next_request[:4], "little") == len(streaming.next_request)
    assert (following.request_id, following.flags) == (reply_id, EXHAUST_ALLOWED)
    assert following.body.raw == (request.body.raw if next_body is None else bson.encode(next_body))
    if next_body is None:
        assert following.data[20 : following.end] == data[20 : request.end]
    streaming.begin(following)
    assert streaming.next_request is None


@given(bodies, st.sampled_from([0, MORE_TO_COME, CHECKSUM_PRESENT]), st.integers(0, 2**32 - 1))
def test_no_stream_begins_without_leave_or_after_a_reply_with_flags(body, flags, reply_flags):
    without_leave = parse_message(op_msg(body, flags=flags))
    with_leave = parse_message(op_msg(body, flags=flags | EXHAUST_ALLOWED))
    reply = bytearray(op_msg({"ok": 1.0}))
    for request, own_flags in ((without_leave, 0), (with_leave, reply_flags or 1)):
        assert isinstance(request, OpMsg)
        reply[16:20] = own_flags.to_bytes(4, "little")
        streaming = Streaming()
        streaming.begin(request)
        streaming.go_on()
        assert streaming.after(request, bytes(reply)) == reply
        assert streaming.next_request is None
