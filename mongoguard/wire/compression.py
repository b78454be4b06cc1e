"""OP_COMPRESSED, both ways.

In: a framed OP_COMPRESSED message, or a message to wrap. Out: the message inside, or the wrapped one. Must not know
what was negotiated or what the message means.
Source: the MongoDB specification "Wire Compression in Drivers" (OP_COMPRESSED; compressor ids 0 noop, 1 snappy,
2 zlib, 3 zstd).

A decompression bomb is met twice: the size that the message declares is bounded before anything is decompressed, and
each decompressor is given that size as its limit and must fill it exactly.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mongoguard.errors import ProtocolError
from mongoguard.wire.message import HEADER_SIZE, OpCode

snappy: Any = None
zstd: Any = None
with suppress(ImportError):  # both come with the extra "compression"
    snappy = import_module("snappy")
with suppress(ImportError):
    zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")

__all__ = ["COMPRESSORS", "Compressor", "available_compressors", "compress_message", "decompress_message"]

_header = struct.Struct("<iiii")
_compressed_head = struct.Struct("<iiB")
_BODY = HEADER_SIZE + _compressed_head.size
_MAX_WINDOW_LOG = 27
"""At most 2**27 bytes of zstd window: what a decoder accepts by default, and above what 48 MB are compressed with."""


@dataclass(frozen=True, slots=True)
class Compressor:
    """One algorithm: `decompress(data, size)` returns at most `size + 1` bytes or raises.

    `compress(data, zlib_level)`: only zlib has levels, -1 (its default) or 0 (quickest) to 9.
    """

    id: int
    name: str
    compress: Callable[[bytes, int], bytes]
    decompress: Callable[[bytes, int], bytes]


def _zlib_decompress(data: bytes, size: int) -> bytes:
    decompressor = zlib.decompressobj()
    out = decompressor.decompress(data, size + 1)
    if not decompressor.eof or decompressor.unused_data:
        raise ProtocolError("a zlib stream does not end where its message ends")
    return out


def _snappy_decompress(data: bytes, size: int) -> bytes:
    # The block format opens with its uncompressed length (a varint); the library allocates that much, so look first.
    length = shift = 0
    for byte in data[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if length != size:
        raise ProtocolError("a snappy block declares another size than its message")
    return bytes(snappy.uncompress(data))


def _zstd_decompress(data: bytes, size: int) -> bytes:
    # The window is allocated before the first byte comes out, so its size is bounded.
    decompressor = zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
    )
    out = bytes(decompressor.decompress(data, size + 1))
    if not decompressor.eof or decompressor.unused_data:
        raise ProtocolError("a zstd frame does not end where its message ends")
    return out


def _table() -> dict[int, Compressor]:
    table = {
        0: Compressor(0, "noop", lambda data, _level: data, lambda data, _size: data),
        2: Compressor(2, "zlib", zlib.compress, _zlib_decompress),
    }
    if snappy is not None:
        table[1] = Compressor(
            1, "snappy", lambda data, _level: bytes(snappy.compress(data)), _snappy_decompress
        )
    if zstd is not None:
        table[3] = Compressor(3, "zstd", lambda data, _level: bytes(zstd.compress(data)), _zstd_decompress)
    return table


COMPRESSORS: Mapping[int, Compressor] = _table()
"""Compressor id -> algorithm, for those whose library is installed."""


def available_compressors() -> tuple[str, ...]:
    """Names that a hello may negotiate (noop is never offered: it only costs)."""
    return tuple(c.name for c in COMPRESSORS.values() if c.id)


def decompress_message(data: bytes, max_message_bytes: int) -> tuple[bytes, int]:
    """The message inside an OP_COMPRESSED, and the compressor's id (the reply is compressed with the same one).

    Raises `ProtocolError` for an unknown compressor, a size above `max_message_bytes`, a message that does not have
    the declared size, or an OP_COMPRESSED inside.
    """
    if len(data) < _BODY:
        raise ProtocolError("an OP_COMPRESSED is too short")
    op_code, size, compressor_id = _compressed_head.unpack_from(data, HEADER_SIZE)
    compressor = COMPRESSORS.get(compressor_id)
    if compressor is None:
        raise ProtocolError(f"compressor {compressor_id} is not available")
    if op_code == OpCode.COMPRESSED or not 0 <= size <= max_message_bytes - HEADER_SIZE:
        raise ProtocolError(f"an OP_COMPRESSED declares opcode {op_code} and {size} bytes")
    try:
        body = compressor.decompress(data[_BODY:], size)
    except ProtocolError:
        raise
    except Exception as error:  # each library has errors of its own; all mean that the bytes are bad
        raise ProtocolError(f"{compressor.name}: the compressed bytes are damaged") from error
    if len(body) != size:
        raise ProtocolError(f"{compressor.name}: the message does not have the size that it declares")
    _, request_id, response_to, _ = _header.unpack_from(data)
    return _header.pack(HEADER_SIZE + size, request_id, response_to, op_code) + body, compressor_id


def compress_message(message: bytes, compressor_id: int, zlib_level: int = -1) -> bytes:
    """The message wrapped in an OP_COMPRESSED; see `Compressor` for the level."""
    body = COMPRESSORS[compressor_id].compress(message[HEADER_SIZE:], zlib_level)
    _, request_id, response_to, op_code = _header.unpack_from(message)
    return b"".join(
        (
            _header.pack(_BODY + len(body), request_id, response_to, OpCode.COMPRESSED),
            _compressed_head.pack(op_code, len(message) - HEADER_SIZE, compressor_id),
            body,
        )
    )
