"""SASLprep: one spelling for every password that looks the same (RFC 4013, a profile of RFC 3454 stringprep).

In: the text that a user typed. Out: the prepared text, or `ValueError`. Must not know passwords, mechanisms or users:
its errors never quote the text.

RFC 3454 is defined on Unicode 3.2, so the tables and the normalisation are those of `unicodedata.ucd_3_2_0`: a newer
normalisation would give another key than the one that mongod and the drivers derive.
"""

from __future__ import annotations

import stringprep
from unicodedata import ucd_3_2_0

__all__ = ["saslprep"]

_PROHIBITED = (
    (stringprep.in_table_c12, "a non-ASCII space"),
    (stringprep.in_table_c21_c22, "a control character"),
    (stringprep.in_table_c3, "a private-use character"),
    (stringprep.in_table_c4, "a non-character code point"),
    (stringprep.in_table_c5, "a surrogate"),
    (stringprep.in_table_c6, "a character unfit for plain text"),
    (stringprep.in_table_c7, "a character unfit for canonical representation"),
    (stringprep.in_table_c8, "a character that changes display or is deprecated"),
    (stringprep.in_table_c9, "a tagging character"),
    (stringprep.in_table_a1, "a code point that Unicode 3.2 does not assign"),
)
"""RFC 4013 sections 2.3 and 2.5: what a *stored* string must not hold, and how the error calls it."""


def saslprep(text: str) -> str:
    """The prepared form of `text` as a stored string: unassigned code points are refused.

    Raises `ValueError` for prohibited characters and for a mix of writing directions that RFC 3454 section 6 forbids.
    """
    if text.isascii() and text.isprintable():
        return text
    prepared = ucd_3_2_0.normalize("NFKC", "".join(_mapped(character) for character in text))
    for character in dict.fromkeys(prepared):  # each once, in order: a text may repeat one 100,000 times
        for is_prohibited, what in _PROHIBITED:
            if is_prohibited(character):
                raise ValueError(f"the text contains {what}, which SASLprep prohibits")
    _check_direction(prepared)
    return prepared


def _mapped(character: str) -> str:
    """RFC 4013 section 2.1: other spaces become the space, and what is "commonly mapped to nothing" goes.

    U+200B is in both tables; as in mongod it becomes a space.
    """
    if stringprep.in_table_c12(character):
        return " "
    return "" if stringprep.in_table_b1(character) else character


def _check_direction(text: str) -> None:
    """RFC 3454 section 6: right-to-left text holds no left-to-right character, and starts and ends right-to-left."""
    if not any(stringprep.in_table_d1(character) for character in text):
        return
    if any(stringprep.in_table_d2(character) for character in text):
        raise ValueError(
            "the text mixes right-to-left and left-to-right characters, which SASLprep prohibits"
        )
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise ValueError("right-to-left text must start and end with a right-to-left character")
