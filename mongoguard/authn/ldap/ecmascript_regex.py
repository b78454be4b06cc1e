r"""ECMAScript regular expressions that match a whole name, in time linear in the name's length.

In: a pattern in ECMAScript's syntax (ECMA-262, without flags), a name. Out: the groups of a match. Must not know what
the groups are for.

Python's `re` is not used. Its `\d`, `\w`, `\s`, `.` and `$` mean other characters than ECMAScript's, and it
backtracks: a stranger's name could hold it for hours before any password is seen. Here the pattern becomes a program
(Thompson), and each pair of instruction and position is tried once; without back-references, which are refused as
are look-arounds, what failed once at a place fails there always. Priorities, and so the groups, are ECMAScript's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mongoguard.authn.ldap.ecmascript_syntax import (
    Alternatives,
    CharacterSet,
    Edge,
    Group,
    Node,
    Repeat,
    read_pattern,
)

__all__ = ["MAX_INSTRUCTIONS", "EcmaScriptRegex"]

MAX_INSTRUCTIONS = 500
"""Instructions of one program: counted repeats are written out. Times the length of a name, this bounds a match."""


@dataclass(frozen=True, slots=True)
class _Split:
    """Go on at `first`, and at `second` if that fails."""

    first: int
    second: int


@dataclass(frozen=True, slots=True)
class _Save:
    """Remember the position in a slot: 2n where group n starts, 2n + 1 where it ends."""

    slot: int


@dataclass(frozen=True, slots=True)
class _Forget:
    """Groups `first` up to `end` start an iteration unset (ECMA-262, RepeatMatcher)."""

    first: int
    end: int


_Instruction: TypeAlias = CharacterSet | Edge | _Split | _Save | _Forget
_Slots: TypeAlias = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class EcmaScriptRegex:
    """A compiled pattern; `groups` counts its capture groups."""

    pattern: str
    groups: int
    program: tuple[_Instruction, ...]

    @classmethod
    def parse(cls, pattern: str) -> EcmaScriptRegex:
        """Compile a pattern; raises `ValueError` that says what is not supported, and where."""
        node, groups = read_pattern(pattern)
        compiler = _Compiler()
        compiler.add(node)
        return cls(pattern, groups, tuple(compiler.program))

    def match_whole(self, text: str) -> tuple[str | None, ...] | None:
        """The groups when the pattern matches all of `text` (None for one that took no part), or None."""
        slots = self._run(text)
        if slots is None:
            return None
        spans = zip(slots[::2], slots[1::2], strict=True)
        return tuple(None if a is None or b is None else text[a:b] for a, b in spans)

    def _run(self, text: str) -> _Slots | None:
        start: _Slots = (None,) * (2 * self.groups)
        waiting = [(0, 0, start)]
        tried: set[tuple[int, int]] = set()
        while waiting:
            counter, at, slots = waiting.pop()
            if (counter, at) in tried:
                continue
            tried.add((counter, at))
            if counter == len(self.program):
                if at == len(text):
                    return slots
                continue
            waiting += _step(self.program[counter], counter, text, at, slots)
        return None


def _step(
    instruction: _Instruction, counter: int, text: str, at: int, slots: _Slots
) -> list[tuple[int, int, _Slots]]:
    """Where one instruction leads; the last is tried first."""
    match instruction:
        case CharacterSet():
            return [(counter + 1, at + 1, slots)] if at < len(text) and instruction.holds(text[at]) else []
        case Edge():
            return [(counter + 1, at, slots)] if at == (len(text) if instruction.is_end else 0) else []
        case _Split(first, second):
            return [(second, at, slots), (first, at, slots)]
        case _Save(slot):
            return [(counter + 1, at, (*slots[:slot], at, *slots[slot + 1 :]))]
    unset = (None,) * (2 * (instruction.end - instruction.first))
    return [(counter + 1, at, (*slots[: 2 * instruction.first], *unset, *slots[2 * instruction.end :]))]


class _Compiler:
    """Writes the program of a syntax tree. A jump is a split that leads to one place."""

    def __init__(self) -> None:
        self.program: list[_Instruction] = []

    def add(self, node: Node) -> None:
        """Append the instructions of a node."""
        match node:
            case CharacterSet() | Edge():
                self._append(node)
            case Group(number, body):
                self._append(_Save(2 * number))
                self.add(body)
                self._append(_Save(2 * number + 1))
            case Alternatives(choices):
                self._add_choices(choices)
            case Repeat():
                self._add_repeat(node)
            case _:
                for part in node:
                    self.add(part)

    def _append(self, instruction: _Instruction) -> int:
        if len(self.program) >= MAX_INSTRUCTIONS:
            raise ValueError(
                f"the pattern is too large (over {MAX_INSTRUCTIONS} steps with its repeats written out)"
            )
        self.program.append(instruction)
        return len(self.program) - 1

    def _add_choices(self, choices: tuple[Node, ...]) -> None:
        """Each choice but the last: split to it or past it, and jump over the rest behind it."""
        jumps: list[int] = []
        for choice in choices[:-1]:
            split = self._append(_Split(0, 0))
            self.add(choice)
            jumps.append(self._append(_Split(0, 0)))
            self.program[split] = _Split(split + 1, len(self.program))
        self.add(choices[-1])
        for jump in jumps:
            self.program[jump] = _Split(len(self.program), len(self.program))

    def _add_repeat(self, repeat: Repeat) -> None:
        for _ in range(repeat.least):
            self._add_iteration(repeat)
        if repeat.most is None:
            split = self._append(_Split(0, 0))
            self._add_iteration(repeat)
            self._append(_Split(split, split))
            self._decide(split, repeat)
            return
        splits: list[int] = []
        for _ in range(repeat.most - repeat.least):
            splits.append(self._append(_Split(0, 0)))
            self._add_iteration(repeat)
        for split in splits:
            self._decide(split, repeat)

    def _add_iteration(self, repeat: Repeat) -> None:
        if repeat.first_group < repeat.end_group:
            self._append(_Forget(repeat.first_group, repeat.end_group))
        self.add(repeat.body)

    def _decide(self, split: int, repeat: Repeat) -> None:
        """One more iteration, or go on behind the repeat: greedy ones prefer the former."""
        once_more, go_on = split + 1, len(self.program)
        self.program[split] = _Split(go_on, once_more) if repeat.is_lazy else _Split(once_more, go_on)
