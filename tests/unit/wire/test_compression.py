"""OP_COMPRESSED: every compressor, and every way to lie about a size."""

import importlib
import importlib.util
import struct
import sys
import zlib
from collections.abc import Callable

import pytest

from mongoguard.errors import ProtocolError
from mongoguard.wire import compression
from mongoguard.wire.compression import (
    COMPRESSORS,
    available_compressors,
    compress_message,
    decompress_message,
)
from tests.rawwire import NOOP, OP_COMPRESSED, OP_MSG, SNAPPY, ZLIB, ZSTD, compressed, message, op_msg
from tests.unit.wire.cases import CASES, PING, Case

LIMIT = 48_000_000
EVERY = (NOOP, SNAPPY, ZLIB, ZSTD)
PLAIN = op_msg(PING, request_id=77)


def refused(data: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(ProtocolError) as closed:
        decompress_message(data, limit)
    return str(closed.value)


def with_payload(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return message(OP_COMPRESSED, data[16:25] + change(data[25:]), 77)


@pytest.mark.parametrize("compressor", EVERY)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_compressed_comes_out_as_it_was(case: Case, compressor: int):
    inner_opcode = int.from_bytes(case.data[12:16], "little", signed=True)
    if inner_opcode == OP_COMPRESSED:
        assert "opcode 2012" in refused(compressed(case.data, compressor))
        return
    plain = case.data[:8] + bytes(4) + case.data[12:]
    assert decompress_message(compressed(case.data, compressor), LIMIT) == (plain, compressor)


@pytest.mark.parametrize("compressor", EVERY)
def test_a_reply_is_compressed_so_that_it_can_be_read(compressor: int):
    reply = PLAIN[:8] + struct.pack("<i", 42) + PLAIN[12:]
    wrapped = compress_message(reply, compressor)
    assert struct.unpack_from("<iii", wrapped) == (len(wrapped), 77, 42)
    assert decompress_message(wrapped, LIMIT) == (reply, compressor)


def test_every_compressor_but_noop_may_be_negotiated():
    assert set(available_compressors()) == {"snappy", "zlib", "zstd"}
    assert COMPRESSORS[NOOP].name == "noop"


@pytest.mark.parametrize("compressor", EVERY)
@pytest.mark.parametrize("difference", [-1, 1])
def test_a_size_that_is_wrong_by_one_is_refused(compressor: int, difference: int):
    size = len(PLAIN) - 16
    assert decompress_message(compressed(PLAIN, compressor, claimed_size=size), LIMIT)
    assert refused(compressed(PLAIN, compressor, claimed_size=size + difference))


@pytest.mark.parametrize("compressor", EVERY)
@pytest.mark.parametrize("size", [-1, -(2**31), LIMIT - 15, 2**31 - 1])
def test_a_size_outside_the_limits_is_refused_before_anything_is_decompressed(compressor: int, size: int):
    assert f"{size} bytes" in refused(compressed(PLAIN, compressor, claimed_size=size))


def test_the_limit_counts_the_header():
    assert decompress_message(compressed(PLAIN), len(PLAIN))
    assert refused(compressed(PLAIN), len(PLAIN) - 1)


@pytest.mark.parametrize("compressor", EVERY)
@pytest.mark.parametrize("claimed", [10, 1000, 100_000])
def test_a_bomb_is_refused_whatever_it_claims(compressor: int, claimed: int):
    bomb = message(OP_MSG, bytes(5_000_000))
    assert refused(compressed(bomb, compressor, claimed_size=claimed), 128 * 1024)


def test_a_bomb_that_is_honest_is_refused_by_its_size():
    assert "5000000 bytes" in refused(compressed(message(OP_MSG, bytes(5_000_000))), 128 * 1024)


@pytest.mark.parametrize("compressor", [SNAPPY, ZLIB, ZSTD])
@pytest.mark.parametrize(
    "change",
    [
        lambda payload: payload + b"x",
        lambda payload: payload[:-1],
        lambda payload: b"",
        lambda payload: payload + payload,
        lambda payload: b"\xff" * len(payload),
    ],
    ids=["trailing garbage", "cut off", "nothing", "twice", "all ones"],
)
def test_a_damaged_stream_is_refused(compressor: int, change: Callable[[bytes], bytes]):
    good = compressed(PLAIN, compressor)
    assert decompress_message(with_payload(good, lambda payload: payload), LIMIT)
    assert refused(with_payload(good, change))


def test_a_zlib_stream_with_a_wrong_checksum_is_refused():
    good = compressed(PLAIN, ZLIB)
    assert "damaged" in refused(with_payload(good, lambda payload: payload[:-4] + bytes(4)))


def test_a_raw_deflate_stream_is_no_zlib_stream():
    deflate = zlib.compressobj(wbits=-15)
    raw = deflate.compress(PLAIN[16:]) + deflate.flush()
    assert refused(with_payload(compressed(PLAIN, ZLIB), lambda _payload: raw))


def test_a_snappy_length_of_six_bytes_is_refused():
    assert "another size" in refused(
        with_payload(compressed(PLAIN, SNAPPY), lambda payload: b"\x80" * 5 + b"\1" + payload)
    )


def test_a_zstd_window_above_the_bound_is_refused():
    # RFC 8878 section 3.1.1.1: magic, descriptor 0 (window follows), window descriptor of 2**31 bytes, one raw block
    body = PLAIN[16:]
    block = (len(body) << 3 | 1).to_bytes(3, "little") + body
    for window, fits in ((21 << 3, False), (0, True)):
        frame = b"\x28\xb5\x2f\xfd\0" + bytes([window]) + block
        data = with_payload(compressed(PLAIN, ZSTD), lambda _payload, frame=frame: frame)
        if fits:
            assert decompress_message(data, LIMIT)[0][16:] == body
        else:
            assert "damaged" in refused(data)


def test_compressed_inside_compressed_is_refused():
    assert "opcode 2012" in refused(compressed(compressed(PLAIN)))


@pytest.mark.parametrize("compressor", [4, 5, 128, 255])
def test_an_unknown_compressor_is_refused(compressor: int):
    assert f"compressor {compressor} is not available" in refused(compressed(PLAIN, compressor))


def test_a_message_too_short_for_its_head_is_refused():
    assert "too short" in refused(message(OP_COMPRESSED, b"\xdd\7\0\0\0\0\0\0"))
    empty = message(OP_COMPRESSED, b"\xdd\7\0\0\0\0\0\0\0")
    assert decompress_message(empty, LIMIT) == (message(OP_MSG, b""), NOOP)


def test_a_compressor_whose_library_is_missing_is_not_offered_and_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compression, "snappy", None)
    monkeypatch.setattr(compression, "zstd", None)
    monkeypatch.setattr(compression, "COMPRESSORS", compression._table())
    assert available_compressors() == ("zlib",)
    assert decompress_message(compressed(PLAIN, ZLIB), LIMIT)
    for compressor in (SNAPPY, ZSTD):
        assert f"compressor {compressor} is not available" in refused(compressed(PLAIN, compressor))


def test_the_module_loads_without_the_optional_libraries(monkeypatch: pytest.MonkeyPatch):
    real = importlib.import_module

    def missing(name: str, package: str | None = None) -> object:
        if name in ("snappy", "backports.zstd", "compression.zstd"):
            raise ImportError(name)
        return real(name, package)

    spec = importlib.util.find_spec("mongoguard.wire.compression")
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, copy.__name__, copy)  # dataclasses look there
    monkeypatch.setattr(importlib, "import_module", missing)
    spec.loader.exec_module(copy)
    assert copy.available_compressors() == ("zlib",)
