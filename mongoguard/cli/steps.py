"""Steps: what was tried, what came of it, how long it took.

In: results of steps as they come. Out: lines for a terminal, or values for JSON. Must not know what is tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["Report", "Step", "StepResult", "as_lines", "printable"]


class StepResult(StrEnum):
    """How a step ended. WARN: it works, and somebody should know. SKIP: it was not tried, and the text says why."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `millis` is None where nothing was waited for; `facts` are for JSON alone."""

    name: str
    result: StepResult
    text: str
    details: tuple[str, ...] = ()
    millis: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """The step as JSON has it."""
        document = {"step": self.name, "result": str(self.result), "text": self.text, **self.facts}
        if self.details:
            document["details"] = list(self.details)
        if self.millis is not None:
            document["ms"] = round(self.millis, 1)
        return document


class Report:
    """Takes steps as they end, hands each on at once, and knows whether one has failed."""

    def __init__(self, write: Callable[[Step], None]) -> None:
        """`write` gets each step; a step that hangs is so seen behind those that did not."""
        self._write = write
        self._begun = time.perf_counter()
        self.failed = False

    def begin(self) -> None:
        """The next step begins now."""
        self._begun = time.perf_counter()

    def ok(self, name: str, text: str, *details: str, **facts: Any) -> None:
        """A step that works; it began with `begin`."""
        self._end(StepResult.OK, name, text, details, facts)

    def warn(self, name: str, text: str, *details: str, **facts: Any) -> None:
        """A step that works, of which somebody should know."""
        self._end(StepResult.WARN, name, text, details, facts)

    def fail(self, name: str, text: str, *details: str, **facts: Any) -> None:
        """A step that does not work."""
        self.failed = True
        self._end(StepResult.FAIL, name, text, details, facts)

    def skip(self, name: str, text: str) -> None:
        """A step that is not tried."""
        self._write(Step(name, StepResult.SKIP, text))

    def _end(
        self, result: StepResult, name: str, text: str, details: tuple[str, ...], facts: Mapping[str, Any]
    ) -> None:
        millis = (time.perf_counter() - self._begun) * 1000
        self._write(Step(name, result, text, details, millis, facts))


def as_lines(step: Step) -> Iterator[str]:
    """The step for a terminal, its details below it."""
    took = "" if step.millis is None else f" ({step.millis:.1f} ms)"
    yield printable(f"{f'[{step.result}]':6} {step.name}{took}: {step.text}")
    for detail in step.details:
        yield printable(f"         {detail}")


def printable(text: str) -> str:
    """The text without control characters: a directory chooses what its entries are called, and terminals obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
