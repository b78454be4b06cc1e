"""What one client has written, and therefore what it may be told.

In: what was tried and what came back. Out: `Breach` for an answer that can't be true. Must not talk to anything.

A write that was not acknowledged may have happened or may still happen: it stays open until it is seen, and then must
be seen for ever. So everything here is a set of what must be there and a set of what may be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from tests.chaos.events import Breach

__all__ = ["Ledger", "document_of"]

SMALL_BYTES, LARGE_BYTES, HUGE_BYTES = 120, 90_000, 400_000
LARGE_EVERY, HUGE_EVERY = 11, 37
"""Most documents fit into one packet; each eleventh takes many, so that a reset hits the middle of its message. Some
are so long that mongoguard reads their messages in a thread."""


def document_of(client: str, number: int) -> dict[str, Any]:
    """The one right content of a client's document of that number."""
    stamp = hashlib.sha256(f"{client}/{number}".encode()).hexdigest()
    size = SMALL_BYTES
    if number % LARGE_EVERY == 0:
        size = LARGE_BYTES
    if number % HUGE_EVERY == 0:
        size = HUGE_BYTES
    return {
        "_id": number,
        "owner": client,
        "stamp": stamp,
        "filling": (stamp * (size // len(stamp) + 1))[:size],
    }


class Ledger:
    """One client's documents, its counter and its log. One thread uses it."""

    def __init__(self, client: str) -> None:
        """Start with an empty database."""
        self.client = client
        self.there: set[int] = set()
        """Numbers of documents that must be found."""
        self.open: set[int] = set()
        """Numbers of those whose insert was not acknowledged and which nobody has seen."""
        self.logged: set[int] = set()
        """Entries of the log that must be in it, once."""
        self.log_open: set[int] = set()
        self.pairs: set[int] = set()
        """Numbers of transactions whose two documents must both be there."""
        self.pairs_open: set[int] = set()
        self._counted = 0
        self._counts_open = 0
        self._next = 0

    def new_number(self) -> int:
        """A number that was never used."""
        self._next += 1
        return self._next

    # ---- documents --------------------------------------------------------------------------------------------------

    def try_insert(self, number: int) -> dict[str, Any]:
        """The document to insert; until `inserted` it may or may not be there."""
        self.open.add(number)
        return document_of(self.client, number)

    def inserted(self, number: int) -> None:
        """The insert was acknowledged."""
        self.open.discard(number)
        self.there.add(number)

    def check_read(self, number: int, found: Mapping[str, Any] | None, token: str) -> None:
        """A point read of one of this client's documents with `{echo: token}` projected into it."""
        if found is None:
            if number in self.there:
                raise Breach(f"document {number} was acknowledged and is not found")
            return
        if found.get("echo") != token:
            raise Breach(f"the reply to another read: {_shortly(found)} instead of {token}")
        self._check_content(found)
        if found["_id"] != number:
            raise Breach(f"document {found['_id']} instead of {number}")

    def check_range(self, first: int, last: int, found: Iterable[Mapping[str, Any]], token: str) -> None:
        """A query for the documents from `first` to `last`, sorted, read to its end."""
        must = {n for n in self.there if first <= n <= last}
        numbers = []
        for document in found:
            if document.get("echo") != token:
                raise Breach(f"a batch of another query: {_shortly(document)} instead of {token}")
            self._check_content(document)
            numbers.append(document["_id"])
        if numbers != sorted(set(numbers)) or (numbers and not first <= numbers[0] <= numbers[-1] <= last):
            raise Breach(f"the query from {first} to {last} brought {numbers}")
        if not must <= set(numbers):
            raise Breach(f"the query from {first} to {last} did not bring {sorted(must - set(numbers))}")

    def check_change(self, change: Mapping[str, Any], database: str) -> int:
        """An event of a change stream over this client's documents; the number of the document that was inserted."""
        if change["operationType"] != "insert" or change["ns"] != {"db": database, "coll": "documents"}:
            raise Breach(f"a change of something else: {_shortly(change)}")
        self._check_content(change["fullDocument"])
        return int(change["documentKey"]["_id"])

    def _check_content(self, document: Mapping[str, Any]) -> None:
        content = {key: value for key, value in document.items() if key != "echo"}
        number = content.get("_id")
        if not isinstance(number, int) or content != document_of(self.client, number):
            raise Breach(f"content that is not of {self.client}: {_shortly(document)}")
        if number not in self.there:
            if number not in self.open:
                raise Breach(f"document {number} was never inserted")
            self.inserted(number)

    # ---- the counter and the log ------------------------------------------------------------------------------------

    def try_count(self) -> None:
        """The counter is about to be raised by one."""
        self._counts_open += 1

    def counted(self, value: int) -> None:
        """Raising it was acknowledged with this new value. Every value is handed out at most once, in order."""
        if not self._counted < value <= self._counted + self._counts_open:
            raise Breach(
                f"the counter was raised to {value}; {self._counted} is known, {self._counts_open} are under way"
            )
        self._counts_open -= value - self._counted
        self._counted = value

    def check_counter(self, value: int) -> None:
        """A read of the counter."""
        if not self._counted <= value <= self._counted + self._counts_open:
            raise Breach(
                f"the counter is {value}; {self._counted} is known, {self._counts_open} are under way"
            )
        self._counts_open -= value - self._counted
        self._counted = value

    def try_log(self, number: int) -> None:
        """An entry is about to be appended to the log."""
        self.log_open.add(number)

    def has_logged(self, number: int) -> None:
        """Appending was acknowledged."""
        self.log_open.discard(number)
        self.logged.add(number)

    def check_log(self, entries: Iterable[int]) -> None:
        """A read of the whole log: each acknowledged entry once, each other at most once."""
        found = list(entries)
        twice = sorted({n for n in found if found.count(n) > 1}) if len(set(found)) < len(found) else []
        if twice:
            raise Breach(f"written twice: {twice}")
        if not self.logged <= set(found):
            raise Breach(f"acknowledged and not in the log: {sorted(self.logged - set(found))}")
        unknown = set(found) - self.logged - self.log_open
        if unknown:
            raise Breach(f"in the log and never written: {sorted(unknown)}")
        self.logged |= set(found)
        self.log_open -= set(found)

    # ---- transactions -----------------------------------------------------------------------------------------------

    def try_pair(self, number: int) -> None:
        """A transaction is about to write its two documents."""
        self.pairs_open.add(number)

    def has_paired(self, number: int) -> None:
        """Its commit was acknowledged."""
        self.pairs_open.discard(number)
        self.pairs.add(number)

    def check_pairs(self, left: Iterable[int], right: Iterable[int]) -> None:
        """The two collections, read in one snapshot: the same numbers in both, and all that were committed."""
        one, other = set(left), set(right)
        if one != other:
            raise Breach(f"half a transaction: {sorted(one ^ other)}")
        if not self.pairs <= one:
            raise Breach(f"committed and not there: {sorted(self.pairs - one)}")
        if one - self.pairs - self.pairs_open:
            raise Breach(f"there and never tried: {sorted(one - self.pairs - self.pairs_open)}")


def _shortly(document: Mapping[str, Any]) -> str:
    return str({key: value for key, value in document.items() if key != "filling"})[:300]
