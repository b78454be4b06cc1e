"""DER, as much of it as a subject and MongoDB's extensions need, read strictly (X.690 section 10).

In: octets. Out: elements' contents, or `DerError`. Must not know what they mean.

One reading only: definite lengths in their shortest form, one-octet tags, nothing behind the last element.
"""

from __future__ import annotations

__all__ = [
    "INTEGER",
    "OBJECT_IDENTIFIER",
    "SEQUENCE",
    "SET",
    "UTF8_STRING",
    "DerError",
    "DerReader",
    "object_identifier",
]

INTEGER, OBJECT_IDENTIFIER, UTF8_STRING, SEQUENCE, SET = 0x02, 0x06, 0x0C, 0x30, 0x31

MAX_LENGTH_OCTETS = 4
"""Octets of a length: 4 GB is beyond every message that a certificate could come in."""

MAX_ARC_OCTETS = 10
"""Octets of one arc of an object identifier: 70 bits hold every arc that is in use."""


class DerError(ValueError):
    """The octets are not DER of the expected shape."""


class DerReader:
    """Takes elements from the front of some octets."""

    __slots__ = ("_at", "_octets")

    def __init__(self, octets: bytes) -> None:
        """Begin at the first octet."""
        self._octets = octets
        self._at = 0

    @property
    def tag(self) -> int | None:
        """The next element's tag; None at the end."""
        return self._octets[self._at] if self._at < len(self._octets) else None

    def take(self, tag: int | None = None) -> bytes:
        """The content of the next element, which must have that tag (None: any). Raises `DerError`."""
        found = self.tag
        if found is None or (tag is not None and found != tag) or found & 0x1F == 0x1F:
            raise DerError("an element is missing, or of another type")
        start, length = self._length(self._at + 1)
        end = start + length
        if end > len(self._octets):
            raise DerError("an element is longer than what holds it")
        self._at = end
        return self._octets[start:end]

    def enter(self, tag: int) -> DerReader:
        """A reader of the next element's content."""
        return DerReader(self.take(tag))

    def finish(self) -> None:
        """Raises `DerError` unless everything is taken."""
        if self.tag is not None:
            raise DerError("something follows the last element")

    def _length(self, at: int) -> tuple[int, int]:
        """Where the content begins, and how long it is."""
        first = self._octets[at : at + 1]
        if not first:
            raise DerError("a length is missing")
        if first[0] < 0x80:
            return at + 1, first[0]
        count = first[0] & 0x7F
        octets = self._octets[at + 1 : at + 1 + count]
        length = int.from_bytes(octets, "big")
        if not 1 <= count <= MAX_LENGTH_OCTETS or len(octets) < count or octets[0] == 0 or length < 0x80:
            raise DerError("a length has not its shortest form")
        return at + 1 + count, length


def object_identifier(content: bytes) -> str:
    """The dotted form of an OBJECT IDENTIFIER's content. Raises `DerError`."""
    arcs: list[int] = []
    value = octets = 0
    for octet in content:
        if octet == 0x80 and octets == 0:
            raise DerError("an arc has not its shortest form")
        value, octets = value << 7 | octet & 0x7F, octets + 1
        if octets > MAX_ARC_OCTETS:
            raise DerError("an arc is too large")
        if octet < 0x80:
            arcs.append(value)
            value = octets = 0
    if not arcs or octets:
        raise DerError("an object identifier is incomplete")
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))
