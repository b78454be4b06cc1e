"""The raw wire client against a real mongod: what it sends is what mongod understands."""

from __future__ import annotations

import pytest

from tests.rawwire import (
    CHECKSUM_PRESENT,
    MORE_TO_COME,
    OP_COMPRESSED,
    OP_REPLY,
    SNAPPY,
    ZLIB,
    ZSTD,
    ConnectionEnded,
    RawConnection,
    compressed,
    crc32c,
    header,
    op_msg,
    op_query,
    sequence_section,
)
from tests.servers import Mongod, password_of


def test_crc32c_of_the_check_string_is_the_published_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_hello_over_op_query_is_answered_with_op_reply(standalone: Mongod) -> None:
    with RawConnection(standalone.address) as raw:
        reply = raw.exchange(op_query({"isMaster": 1}, request_id=7))
    assert (reply.opcode, reply.response_to, reply.document["ok"]) == (OP_REPLY, 7, 1)


def test_a_login_opens_what_was_refused_before(standalone: Mongod) -> None:
    with RawConnection(standalone.address) as raw:
        assert raw.command("admin", {"listDatabases": 1})["code"] == 13
        raw.log_in("root", password_of("root"))
        assert raw.command("admin", {"listDatabases": 1})["ok"] == 1


def test_a_wrong_password_does_not_log_in(standalone: Mongod) -> None:
    with (
        RawConnection(standalone.address) as raw,
        pytest.raises(AssertionError, match="AuthenticationFailed"),
    ):
        raw.log_in("root", "wrong")


@pytest.mark.parametrize("compressor", [SNAPPY, ZLIB, ZSTD])
def test_a_compressed_command_is_answered_compressed(standalone: Mongod, compressor: int) -> None:
    with RawConnection(standalone.address) as raw:
        raw.command("admin", {"hello": 1, "compression": ["snappy", "zlib", "zstd"]})
        reply = raw.exchange(compressed(op_msg({"ping": 1, "$db": "admin"}), compressor))
    assert reply.opcode == OP_COMPRESSED
    assert reply.decompressed().document["ok"] == 1


def test_a_right_checksum_is_taken_and_a_wrong_one_ends_the_connection(standalone: Mongod) -> None:
    good = op_msg({"ping": 1, "$db": "admin"}, flags=CHECKSUM_PRESENT)
    with RawConnection(standalone.address) as raw:
        assert raw.exchange(good).document["ok"] == 1
        raw.send(good[:-1] + bytes([good[-1] ^ 1]))
        assert raw.is_closed_by_peer()


def test_sections_come_in_any_order(standalone: Mongod) -> None:
    documents = sequence_section("documents", [{"_id": 1}, {"_id": 2}])
    insert = {"insert": "raw", "$db": "environment"}
    with RawConnection(standalone.address) as raw:
        raw.log_in("root", password_of("root"))
        assert raw.exchange(op_msg(insert, before=documents)).document["n"] == 2
        assert raw.command("environment", {"drop": "raw"})["ok"] == 1


def test_a_command_with_more_to_come_gets_no_reply(standalone: Mongod) -> None:
    with RawConnection(standalone.address) as raw:
        raw.send(op_msg({"ping": 1, "$db": "admin"}, flags=MORE_TO_COME))
        assert raw.silent_for(0.2)
        assert raw.command("admin", {"ping": 1})["ok"] == 1


def test_a_message_longer_than_the_limit_ends_the_connection(standalone: Mongod) -> None:
    with RawConnection(standalone.address) as raw:
        raw.send(header(48_000_001, 2013))
        with pytest.raises((ConnectionEnded, ConnectionResetError)):
            raw.receive()
