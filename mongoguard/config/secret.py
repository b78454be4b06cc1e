"""Secret: a text that must not be printed.

In: a password, or a URI that holds one. Out: the text, only to whoever calls `reveal`. Must not know
where it came from.
"""

from __future__ import annotations

__all__ = ["Secret"]


class Secret:
    """A text whose `repr`, `str` and `format` are `<secret>`, so that it can't reach a log or an error by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Keep the text."""
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that must send it."""
        return self._text

    def __repr__(self) -> str:
        """Never the text."""
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        """Equal when the texts are: settings are compared to see what a reload changes."""
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        """Consistent with equality."""
        return hash((Secret, self._text))

    def __reduce__(self) -> str:
        """Refused: a pickle would hold the text in the clear."""
        raise TypeError("a Secret can't be pickled")
