"""Long replies: the documents may go on, what is read comes behind them, and what is strange waits until it is whole."""

import bson
import pytest
from bson import Int64

from mongoguard.errors import CommandError, ProtocolError, UpstreamConnectionLost
from mongoguard.proxy.replies import cursor_in_reply
from mongoguard.wire.long_reply import MAX_END_BYTES, begin_long_reply
from tests.playbook import decoded, reply_of

DOCUMENTS = [{"_id": i, "padding": "x" * 100} for i in range(50)]


def reply(batch="firstBatch", documents=DOCUMENTS, cursor_id=77, **more):
    cursor = {batch: documents, "id": Int64(cursor_id), "ns": "shop.orders"}
    return reply_of({"cursor": cursor, "ok": 1.0, **more}).message


@pytest.mark.parametrize("batch", ["firstBatch", "nextBatch"])
def test_the_documents_go_on_and_the_end_is_held_back(batch):
    whole = reply(batch)
    begun = begin_long_reply(whole[:100])
    assert begun is not None
    passed = bytes(begun.take(whole[:100]))
    assert passed == whole[:100]
    assert begun.shortened is None
    passed += bytes(begun.take(whole[100:]))
    assert begun.bytes_missing == begun.documents_missing == 0
    assert begun.shortened is not None
    assert decoded(begun.shortened) == {
        "cursor": {batch: [], "id": 77, "ns": "shop.orders"},
        "ok": 1.0,
    }
    end = begun.end_of(begun.shortened)
    assert passed + end == whole
    assert bson.encode({"id": Int64(77)})[4:-1] in end, (
        "the cursor is not known to the client before it is known here"
    )


def test_documents_may_go_on_unseen():
    whole = reply()
    begun = begin_long_reply(whole[:100])
    begun.take(whole[:100])
    missing = begun.documents_missing
    begun.passed(missing)
    assert begun.documents_missing == 0
    assert not begun.take(whole[100 + missing :])
    assert begun.end_of(begun.shortened) == whole[100 + missing :]


def test_another_reply_than_the_one_that_was_begun_cannot_be_sent_behind_it():
    whole = reply()
    begun = begin_long_reply(whole[:100])
    for other in (None, whole, b""):
        with pytest.raises(ProtocolError):
            begun.end_of(other)
    begun.take(whole)
    for other in (None, whole, bytes(bytearray(begun.shortened))):
        with pytest.raises(ProtocolError):
            begun.end_of(other)


def test_bytes_behind_a_reply_are_refused():
    whole = reply()
    begun = begin_long_reply(whole[:100])
    begun.take(whole[:100])
    with pytest.raises(UpstreamConnectionLost):
        begun.take(whole[100:] + b"x")


STRANGE = {
    "whole": reply(),
    "short": reply()[:63],
    "a failure": reply_of({"ok": 0.0, "errmsg": "x" * 100, "code": 1}).message[:100],
    "no cursor": reply_of({"n": 1, "padding": "x" * 100, "ok": 1.0}).message[:100],
    "a cursor behind ok": reply_of({"ok": 1.0, "cursor": {"firstBatch": DOCUMENTS, "id": Int64(1)}}).message[
        :100
    ],
    "an id before the batch": reply_of({"cursor": {"id": Int64(1), "firstBatch": DOCUMENTS}}).message[:100],
    "a batch of another name": reply("otherBatch")[:100],
    "a batch that is no array": reply(documents={"a": "x" * 100})[:100],
    "a long end": reply(more="x" * MAX_END_BYTES)[:100],
    "flags": reply()[:16] + b"\2" + reply()[17:100],
    "another opcode": reply()[:12] + b"\1" + reply()[13:100],
    "a sequence first": reply()[:20] + b"\1" + reply()[21:100],
}


@pytest.mark.parametrize("name", STRANGE)
def test_other_replies_wait_until_they_are_whole(name):
    assert begin_long_reply(STRANGE[name]) is None


LENGTHS = {"message": 0, "body": 21, "cursor": 33, "batch": 49}


@pytest.mark.parametrize("by", [-(2**31), 2**20])
@pytest.mark.parametrize("place", LENGTHS)
def test_lengths_that_do_not_fit_each_other_are_not_believed(place, by):
    assert begin_long_reply(with_length(reply()[:100], LENGTHS[place], by)) is None


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("place", ["cursor", "batch"])
def test_what_a_wrong_length_hides_is_seen_by_who_reads_the_end(place, by):
    first = with_length(reply()[:100], LENGTHS[place], by)
    begun = begin_long_reply(first)
    begun.take(first + reply()[100:])
    with pytest.raises(CommandError):
        cursor_in_reply(begun.shortened)


def with_length(data, place, by):
    length = int.from_bytes(data[place : place + 4], "little") + by
    return data[:place] + (length % 2**32).to_bytes(4, "little") + data[place + 4 :]
