"""Attribute values of distinguished names: escaping, the `#hex` form, and the form that is compared.

In: a value's text or its BER octets. Out: the escaped text, the decoded value, the comparable value. Must not know
types, DNs or directories.

Directories compare as RFC 4518 has it (caseIgnoreMatch of RFC 4517), each as far as it goes: OpenLDAP folds no sharp s
and few scripts, Samba normalizes nothing, so `acceß` and `access`, or `admins` in wide letters, are entries of their
own there. What is equal here must be one entry in all of them, or whoever may make a group makes one with another
group's roles. So case counts for nothing in the letters that all of them fold, outer spaces and runs of spaces count
for nothing, and whatever else differs is different (measured on OpenLDAP 2.5 and Samba 4.17).
"""

from __future__ import annotations

import re
from unicodedata import normalize

__all__ = ["comparable_value", "decode_ber", "escape_rdn_value", "resembling_value"]

_ESCAPED_ANYWHERE = frozenset(',+"\\<>;=')
_TEXT_TAGS = {
    0x0C: "utf-8",  # UTF8String
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
"""ASN.1 string types that are text without a doubt. TeletexString is not: its octets mean what the writer thought."""

_FOLDED_EVERYWHERE = (("A", "Z"), ("À", "Ž"), ("Ά", "Ϋ"), ("Ё", "Ќ"), ("Ў", "Я"))
"""Latin, Greek and Cyrillic: of these letters every directory takes a capital for its small one."""


def _is_capital_of_one(letter: str) -> bool:
    """Not `İ`, whose small form is two characters."""
    return letter.lower() != letter and letter.lower().upper() == letter and len(letter.lower()) == 1


_LOWER = {
    ord(letter): letter.lower()
    for first, last in _FOLDED_EVERYWHERE
    for letter in map(chr, range(ord(first), ord(last) + 1))
    if _is_capital_of_one(letter)
}


def escape_rdn_value(text: str) -> str:
    r"""`text` as a value inside a DN, wherever it may stand (RFC 4514 section 2.4).

    Controls become `\XX`, so that a DN stays one line. Raises `ValueError` for empty text (no DN has an empty value)
    and for lone surrogates, which have no UTF-8.
    """
    if not text:
        raise ValueError("an attribute value must not be empty")
    text.encode()
    last = len(text) - 1
    return "".join(_escape(c, at_start=i == 0, at_end=i == last) for i, c in enumerate(text))


def _escape(character: str, *, at_start: bool, at_end: bool) -> str:
    if character < " " or character == "\x7f":
        return f"\\{ord(character):02X}"
    if character in _ESCAPED_ANYWHERE or (character == " " and (at_start or at_end)):
        return "\\" + character
    return "\\#" if character == "#" and at_start else character


def comparable_value(text: str) -> str:
    """What two values must share to be one in every directory; see the module's docstring."""
    return _single_spaced(text.translate(_LOWER))


def resembling_value(text: str) -> str:
    """What two values share that look alike, or are one by RFC 4518: for refusals, never to grant anything."""
    # Folding can denormalise and normalising can unfold, hence both twice (Unicode 3.13, toNFKC_Casefold).
    folded = normalize("NFKC", normalize("NFKC", normalize("NFD", text).casefold()).casefold())
    return _single_spaced(folded)


def _single_spaced(text: str) -> str:
    return re.sub(" +", " ", text).strip(" ") or " "


def decode_ber(octets: bytes) -> str | bytes:
    """The value behind `#hex` (RFC 4514 section 2.4): text for ASN.1's text strings, else the octets themselves.

    Raises `ValueError` unless the octets are exactly one element, its length in the shortest form, its text valid.
    """
    if len(octets) < 2 or octets[0] & 0x1F == 0x1F:
        raise ValueError("a #hex value must hold one BER element")
    start, length = 2, octets[1]
    if length >= 0x80:
        start += length & 0x7F
        length = int.from_bytes(octets[2:start], "big")
        if length < 0x80 or octets[2] == 0:
            raise ValueError("the length inside a #hex value must have its shortest form")
    if len(octets) != start + length or length == 0:
        raise ValueError("a #hex value must hold one BER element, complete and not empty")
    encoding = _TEXT_TAGS.get(octets[0])
    if encoding is None:
        return octets
    try:
        return octets[start:].decode(encoding)
    except UnicodeDecodeError:
        raise ValueError("a #hex value holds text that its own type does not allow") from None
