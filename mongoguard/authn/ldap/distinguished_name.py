"""Distinguished names as values: equal when a directory means the same entry, however they are spelled.

In: the text of a DN (RFC 4514, with what RFC 2253 section 4 lets people type: spaces around separators, `;`, `OID.`).
Out: `DistinguishedName`, hashable, and errors that name the position. Must not know what the DN is used for.

A text that could be read in two ways is an error, never a guess: an unescaped comma inside a value, a quoted value,
an empty value, one attribute type twice in one RDN.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from mongoguard.authn.ldap.attribute_types import canonical_type
from mongoguard.authn.ldap.attribute_values import comparable_value, decode_ber

__all__ = ["MAX_DN_LENGTH", "MAX_RDNS", "AttributeTypeAndValue", "DistinguishedName", "DnSyntaxError", "Rdn"]

MAX_DN_LENGTH = 8192
"""Characters of a DN that are read at all. Active Directory's longest is 255 an RDN; this is far beyond any real one,
and small enough that parsing a hostile one costs less than the search that brought it."""

MAX_RDNS = 128
"""RDNs of one DN, and attributes of one RDN: real trees are less than twenty deep."""

_SEPARATORS = ",;+"
_ESCAPABLE = frozenset(' "#+,;<=>\\')
_HEX = frozenset("0123456789abcdefABCDEF")


class DnSyntaxError(ValueError):
    """The text is not one DN. `position` counts characters from 1; the text itself is not quoted."""

    def __init__(self, problem: str, index: int) -> None:
        """Keep the place beside the sentence; `index` counts from 0."""
        super().__init__(f"{problem} (at character {index + 1})")
        self.position = index + 1


@dataclass(frozen=True, slots=True)
class AttributeTypeAndValue:
    """One attribute of an RDN: its type as typed, and its value with all escapes decoded.

    `value` is text, or octets for a `#hex` value whose ASN.1 type is not a text string.
    """

    type: str
    value: str | bytes

    @property
    def comparable(self) -> tuple[str, bool, str | bytes]:
        """Type and value as they are compared; octets never equal text."""
        if isinstance(self.value, bytes):
            return canonical_type(self.type), True, self.value
        return canonical_type(self.type), False, comparable_value(self.value)


Rdn: TypeAlias = tuple[AttributeTypeAndValue, ...]
"""A relative distinguished name in the order it was typed, which means nothing when there are several attributes."""


@dataclass(frozen=True, slots=True)
class DistinguishedName:
    """A parsed DN. Equality and hash are those of the entry meant; `str()` is the text it was read from."""

    text: str = field(compare=False)
    rdns: tuple[Rdn, ...] = field(compare=False, repr=False)
    key: tuple[frozenset[tuple[str, bool, str | bytes]], ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> DistinguishedName:
        """Read a DN of at least one RDN; raises `DnSyntaxError`."""
        rdns = _Reader(text).rdns()
        return cls(text, rdns, tuple(frozenset(a.comparable for a in rdn) for rdn in rdns))

    def __str__(self) -> str:
        """The original text."""
        return self.text


class _Reader:
    """Reads a DN from left to right; `_at` is the index of the next character."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_DN_LENGTH:
            raise DnSyntaxError(f"a DN has at most {MAX_DN_LENGTH} characters", MAX_DN_LENGTH)
        if not text.strip(" "):
            raise DnSyntaxError("an empty DN names no entry", 0)
        self._text = text
        self._at = 0

    def rdns(self) -> tuple[Rdn, ...]:
        """Everything up to the end of the text."""
        rdns: list[Rdn] = []
        while True:
            if len(rdns) == MAX_RDNS:
                raise DnSyntaxError(f"a DN has at most {MAX_RDNS} RDNs", self._at)
            rdns.append(self._rdn())
            if self._at == len(self._text):
                return tuple(rdns)
            self._at += 1

    def _rdn(self) -> Rdn:
        """One RDN; stops at the separator behind it, or at the end."""
        attributes: list[AttributeTypeAndValue] = []
        seen: set[str] = set()
        while True:
            start = self._at
            attribute = self._attribute()
            attributes.append(attribute)
            seen.add(canonical_type(attribute.type))
            if len(seen) != len(attributes):
                raise DnSyntaxError("one RDN holds an attribute type twice", start)
            if len(attributes) > MAX_RDNS:
                raise DnSyntaxError(f"an RDN has at most {MAX_RDNS} attributes", start)
            if self._next() != "+":
                return tuple(attributes)
            self._at += 1

    def _attribute(self) -> AttributeTypeAndValue:
        equals = self._text.find("=", self._at)
        if equals < 0:
            raise DnSyntaxError("expected an attribute type and '='", self._at)
        name = self._text[self._at : equals].strip(" ")
        try:
            canonical_type(name)
        except ValueError as error:
            raise DnSyntaxError(str(error), self._at) from None
        self._at = equals + 1
        self._skip_spaces()
        return AttributeTypeAndValue(name, self._hex_value() if self._next() == "#" else self._text_value())

    def _hex_value(self) -> str | bytes:
        start = self._at
        self._at += 1
        while self._next() in _HEX:
            self._at += 1
        digits = self._text[start + 1 : self._at]
        self._skip_spaces()
        if self._next() not in ("", *_SEPARATORS):
            raise DnSyntaxError(
                "a #hex value holds hex digits alone (escape a leading '#' as '\\#')", self._at
            )
        try:
            return decode_ber(bytes.fromhex(digits))
        except ValueError as error:
            problem = "a #hex value has two digits an octet" if len(digits) % 2 else str(error)
            raise DnSyntaxError(problem, start) from None

    def _text_value(self) -> str:
        start = self._at
        octets = bytearray()
        kept = 0  # octets up to the last one that is no unescaped space
        while self._next() not in ("", *_SEPARATORS):
            is_space = self._next() == " "
            octets += self._escaped() if self._next() == "\\" else self._plain()
            kept = kept if is_space else len(octets)
        if not kept:
            raise DnSyntaxError("an attribute value must not be empty", start)
        try:
            return octets[:kept].decode()
        except UnicodeDecodeError:
            raise DnSyntaxError("the escaped octets of this value are not UTF-8", start) from None

    def _plain(self) -> bytes:
        character = self._text[self._at]
        if character in '"<>\0':
            hint = "; quoted values are not read, escape with '\\'" if character == '"' else ""
            raise DnSyntaxError(f"{character!a} must be escaped{hint}", self._at)
        try:
            encoded = character.encode()
        except UnicodeEncodeError:
            raise DnSyntaxError("a lone surrogate has no UTF-8", self._at) from None
        self._at += 1
        return encoded

    def _escaped(self) -> bytes:
        pair = self._text[self._at + 1 : self._at + 3]
        if pair[:1] in _ESCAPABLE:
            self._at += 2
            return pair[0].encode()
        if len(pair) == 2 and _HEX.issuperset(pair):
            self._at += 3
            return bytes.fromhex(pair)
        raise DnSyntaxError("'\\' stands before a special character or two hex digits", self._at)

    def _next(self) -> str:
        """The next character, or "" at the end."""
        return self._text[self._at : self._at + 1]

    def _skip_spaces(self) -> None:
        while self._next() == " ":
            self._at += 1
