r"""The syntax of ECMAScript's regular expressions, as far as names need it.

In: a pattern. Out: its syntax tree and its number of groups, or `ValueError` naming the position. Must not know how a
tree is matched.

Read as ECMA-262 section 22.2 without flags: alternatives, groups, classes, `. \d \w \s` and their opposites, `^ $`,
greedy and lazy quantifiers. Refused, because engines disagree about them or they cannot be matched in linear time:
back-references, look-around, named groups, inline flags, word boundaries, `[]` and `[^]`, a literal `{` or `}`, and
repeats of what may be empty, such as `(a*)*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "MAX_PATTERN_LENGTH",
    "Alternatives",
    "CharacterSet",
    "Edge",
    "Group",
    "Node",
    "Repeat",
    "read_pattern",
]

MAX_PATTERN_LENGTH = 1000
"""Characters of one pattern; an administrator's is a line."""

_MAX_NESTING = 20
"""Groups inside groups: the reader calls itself."""

Ranges: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """One character out of inclusive ranges, or one outside of all of them."""

    ranges: Ranges
    is_negated: bool = False

    def holds(self, character: str) -> bool:
        """Whether the character belongs to the set."""
        return any(a <= character <= b for a, b in self.ranges) is not self.is_negated


@dataclass(frozen=True, slots=True)
class Edge:
    """`^`, or `$`: the start or the end of the whole text, for there is no multi-line flag."""

    is_end: bool


@dataclass(frozen=True, slots=True)
class Group:
    """A capture group; the first one is number 0."""

    number: int
    body: Node


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One of several nodes, the earlier preferred."""

    choices: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A node `least` to `most` times (None: without end). It holds the groups `first_group` up to `end_group`."""

    body: Node
    least: int
    most: int | None
    is_lazy: bool
    first_group: int
    end_group: int


Node: TypeAlias = "CharacterSet | Edge | Group | Alternatives | Repeat | tuple[Node, ...]"

_DIGITS: Ranges = (("0", "9"),)
_WORD: Ranges = (("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z"))
_SPACES: Ranges = tuple(
    (c[0], c[-1])
    for c in (
        "\t\r",
        " ",
        "\xa0",
        "\u1680",
        "\u2000\u200a",
        "\u2028\u2029",
        "\u202f",
        "\u205f",
        "\u3000",
        "\ufeff",
    )
)
_LINE_ENDS: Ranges = (("\n", "\n"), ("\r", "\r"), ("\u2028", "\u2029"))
_CLASS_ESCAPES: Mapping[str, Ranges] = {"d": _DIGITS, "w": _WORD, "s": _SPACES}
_CONTROL_ESCAPES: Mapping[str, str] = {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
_HEX_ESCAPES: Mapping[str, int] = {"x": 2, "u": 4}
_QUANTIFIERS: Mapping[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


def read_pattern(pattern: str) -> tuple[Node, int]:
    """The tree of a pattern, and how many capture groups it has."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise ValueError(f"a pattern has at most {MAX_PATTERN_LENGTH} characters")
    reader = _Reader(pattern)
    node = reader.alternatives(0)
    if reader.next:
        raise reader.problem("')' closes no group")
    return node, reader.groups


class _Reader:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self.groups = 0

    @property
    def next(self) -> str:
        """The next character, or "" at the end."""
        return self._pattern[self._at : self._at + 1]

    def problem(self, text: str) -> ValueError:
        """An error that names the place."""
        return ValueError(f"{text} (at character {self._at + 1} of the pattern)")

    def alternatives(self, depth: int) -> Node:
        """Everything up to a closing parenthesis or the end."""
        if depth > _MAX_NESTING:
            raise self.problem(f"groups are nested more than {_MAX_NESTING} deep")
        choices = [self._sequence(depth)]
        while self._take("|"):
            choices.append(self._sequence(depth))
        return choices[0] if len(choices) == 1 else Alternatives(tuple(choices))

    def _sequence(self, depth: int) -> Node:
        nodes: list[Node] = []
        while self.next not in ("", "|", ")"):
            nodes.append(self._term(depth))
        return tuple(nodes)

    def _term(self, depth: int) -> Node:
        if self.next in ("^", "$"):
            return Edge(is_end=self._advance() == "$")
        first_group = self.groups
        atom = self._atom(depth)
        limits = self._limits()
        if limits is None:
            return atom
        if limits[0] != limits[1] and _can_be_empty(atom):
            raise self.problem(
                "what is repeated must not match the empty text, for it could do so without end"
            )
        return Repeat(atom, *limits, self._take("?"), first_group, self.groups)

    def _atom(self, depth: int) -> Node:
        if self.next in ("*", "+", "?", "{", "}", "]"):
            raise self.problem(f"'{self.next}' must follow what it belongs to, or be escaped with '\\'")
        match self._advance():
            case "(":
                return self._group(depth)
            case "[":
                return self._class()
            case ".":
                return CharacterSet(_LINE_ENDS, is_negated=True)
            case "\\":
                return self._escape()
            case character:
                return CharacterSet(((character, character),))

    def _group(self, depth: int) -> Node:
        number = None
        if self._take("?"):
            if not self._take(":"):
                raise self.problem("of the groups with '(?' only '(?:' is supported")
        else:
            number = self.groups
            self.groups += 1
        body = self.alternatives(depth + 1)
        if not self._take(")"):
            raise self.problem("a group is not closed")
        return body if number is None else Group(number, body)

    def _limits(self) -> tuple[int, int | None] | None:
        """A quantifier's bounds, or None when there is no quantifier here."""
        if self.next in _QUANTIFIERS:
            return _QUANTIFIERS[self._advance()]
        if not self._take("{"):
            return None
        least = self._number()
        most: int | None = least
        if self._take(","):
            most = None if self.next == "}" else self._number()
        if not self._take("}"):
            raise self.problem("a counted quantifier is '{n}', '{n,}' or '{n,m}'")
        if most is not None and most < least:
            raise self.problem("the numbers of a quantifier are out of order")
        return least, most

    def _number(self) -> int:
        start = self._at
        while self.next in tuple("0123456789"):
            self._at += 1
        if not 1 <= self._at - start <= 4:
            raise self.problem("a quantifier's number has one to four digits")
        return int(self._pattern[start : self._at])

    def _class(self) -> CharacterSet:
        is_negated = self._take("^")
        if self.next == "]":
            raise self.problem("an empty class means different things to different engines")
        ranges: list[tuple[str, str]] = []
        while not self._take("]"):
            ranges += self._class_part()
        return CharacterSet(tuple(ranges), is_negated)

    def _class_part(self) -> Ranges:
        """One character, a range of two, or an escape that stands for several."""
        first = self._class_atom()
        if not (self.next == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("]", "")):
            return first.ranges
        self._at += 1
        last = self._class_atom()
        low, high = _single(first), _single(last)
        if low is None or high is None or low > high:
            raise self.problem("a range goes from a character to a higher one")
        return ((low, high),)

    def _class_atom(self) -> CharacterSet:
        if not self.next:
            raise self.problem("a class is not closed")
        character = self._advance()
        if character != "\\":
            return CharacterSet(((character, character),))
        escape = self._escape()
        if escape.is_negated:
            raise self.problem("\\D, \\W and \\S are not supported inside a class")
        return escape

    def _escape(self) -> CharacterSet:
        """What follows a backslash."""
        letter = self._advance()
        if letter.lower() in _CLASS_ESCAPES:
            return CharacterSet(_CLASS_ESCAPES[letter.lower()], is_negated=letter.isupper())
        character = _CONTROL_ESCAPES.get(letter, letter)
        if letter in _HEX_ESCAPES:
            character = self._hex(_HEX_ESCAPES[letter])
        elif not letter or (character == letter and (letter.isalnum() or letter == "_")):
            raise self.problem(f"the escape '\\{letter}' is not supported")
        return CharacterSet(((character, character),))

    def _hex(self, count: int) -> str:
        digits = self._pattern[self._at : self._at + count]
        if len(digits) != count or not set(digits) <= set("0123456789abcdefABCDEF"):
            raise self.problem("\\x takes two hex digits, \\u four")
        self._at += count
        return chr(int(digits, 16))

    def _advance(self) -> str:
        character = self.next
        self._at += len(character)
        return character

    def _take(self, character: str) -> bool:
        """Step over the character if it is the next one."""
        found = self.next == character
        self._at += found
        return found


def _single(characters: CharacterSet) -> str | None:
    """The one character of a set that came from one character."""
    low, high = characters.ranges[0]
    return low if len(characters.ranges) == 1 and low == high else None


def _can_be_empty(node: Node) -> bool:
    """Whether a node may match without taking a character."""
    match node:
        case CharacterSet():
            return False
        case Edge():
            return True
        case Group(_, body):
            return _can_be_empty(body)
        case Alternatives(choices):
            return any(_can_be_empty(choice) for choice in choices)
        case Repeat(body, least):
            return least == 0 or _can_be_empty(body)
    return all(_can_be_empty(part) for part in node)
