"""What clients report: one event for each operation, as a line of JSON. Times are CLOCK_MONOTONIC, one for all processes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TextIO

from pymongo.errors import BulkWriteError, ConnectionFailure, DuplicateKeyError, OperationFailure

from tests.rawwire import ConnectionEnded

__all__ = ["TROUBLE", "Breach", "Event", "Outcome", "Report"]


class Outcome(StrEnum):
    """How an operation ended."""

    OK = "ok"
    """Answered, and the answer is right."""
    FAILED = "failed"
    """Not answered, or with an error that drivers know from a deployment in trouble."""
    BREACH = "breach"
    """A wrong answer, somebody else's, or a refusal that nothing explains."""


@dataclass(frozen=True, slots=True)
class Event:
    """One operation of one client. `limit_secs`: by when its client's own deadlines must have ended it."""

    client: str
    kind: str
    began: float
    ended: float
    outcome: Outcome
    detail: str = ""
    limit_secs: float = 0.0

    @classmethod
    def from_line(cls, line: str) -> Event:
        """Read what `Report` has written."""
        fields = json.loads(line)
        return cls(**{**fields, "outcome": Outcome(fields["outcome"])})


class Breach(Exception):
    """A reply broke the law; the text says how."""


TROUBLE = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        43,  # CursorNotFound: its server has died
        50,  # MaxTimeMSExpired
        64,  # WriteConcernFailed
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        112,  # WriteConflict
        134,  # ReadConcernMajorityNotAvailableYet
        175,  # QueryPlanKilled
        189,  # PrimarySteppedDown
        206,  # NoSuchSession
        237,  # CursorKilled
        246,  # SnapshotUnavailable
        251,  # NoSuchTransaction
        262,  # ExceededTimeLimit
        290,  # TransactionExceededLifetimeLimitSeconds
        9001,  # SocketException
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11602,  # InterruptedDueToReplStateChange
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
    }
)
"""Codes that a deployment in trouble may answer with. A refusal (13), a failed login (18), a duplicate key or a message
that was not understood is none of them: whoever gets one without a reason has got a wrong reply."""


class Report:
    """Writes events, from several threads."""

    def __init__(self, stream: TextIO) -> None:
        """Write to this stream."""
        self._stream = stream
        self._lock = threading.Lock()

    def add(self, event: Event) -> None:
        """Write one event."""
        line = json.dumps(asdict(event)) + "\n"
        with self._lock:
            self._stream.write(line)
            self._stream.flush()

    @contextmanager
    def operation(self, client: str, kind: str, limit_secs: float) -> Iterator[None]:
        """Time the block and report how it ended. No exception leaves it but those that end the thread."""
        began = time.monotonic()
        outcome, detail = Outcome.OK, ""
        try:
            yield
        except Breach as breach:
            outcome, detail = Outcome.BREACH, str(breach)
        except Exception as error:
            outcome = Outcome.FAILED if _is_trouble(error) else Outcome.BREACH
            detail = f"{type(error).__name__}: {error}"[:600]
        self.add(Event(client, kind, began, time.monotonic(), outcome, detail, limit_secs))


def _is_trouble(error: Exception) -> bool:
    match error:
        case DuplicateKeyError():
            return False
        case BulkWriteError():
            details = error.details
            errors = [*details.get("writeErrors", []), *details.get("writeConcernErrors", [])]
            return all(one.get("code") in TROUBLE for one in errors)
        case OperationFailure():
            return error.code in TROUBLE
        case ConnectionFailure() | ConnectionEnded() | OSError():
            return True
        case _:
            return False
