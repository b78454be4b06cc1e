"""`$readPreference`: which servers a command may be sent to.

In: a command's body. Out: a `ReadPreference`, and whether the command is one that may read from a secondary. Must not
know which servers there are.

Source: the specifications "Server Selection" and "Max Staleness"; codes and texts measured on mongod 6.0.5, which reads
it on every command. Stricter than mongod: tags are strings in documents, as the tags of servers are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from mongoguard.command.command import Command
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.wire.document import BOOL, DOCUMENT, Document

__all__ = ["ReadPreference", "ReadPreferenceMode", "TagSet", "may_use_secondary", "parse_read_preference"]

SMALLEST_MAX_STALENESS_SECONDS = 90
"""The specification's smallest value: the estimate of a server's staleness is no better than that."""
MAX_STALENESS_SECONDS = 2**31
"""mongod takes more; 68 years are as good as no limit, and fit the arithmetic of every selector."""
MAX_TAG_SETS = 100
"""Each is held against each server for each command; people write two or three."""
MAX_TAGS = 100
"""In one tag set; a member of a replica set has a handful."""

TagSet: TypeAlias = tuple[tuple[str, str], ...]


class ReadPreferenceMode(StrEnum):
    """Which kind of servers."""

    PRIMARY = "primary"
    PRIMARY_PREFERRED = "primaryPreferred"
    SECONDARY = "secondary"
    SECONDARY_PREFERRED = "secondaryPreferred"
    NEAREST = "nearest"


@dataclass(frozen=True, slots=True)
class ReadPreference:
    """A parsed `$readPreference`; hedge is checked and ignored. No tag sets: any server of that mode.

    `max_staleness_seconds` None: however far behind.
    """

    mode: ReadPreferenceMode
    tag_sets: tuple[TagSet, ...] = ()
    max_staleness_seconds: int | None = None

    def __str__(self) -> str:
        """As mongos prints it in its refusals."""
        parts = [f'mode: "{self.mode}"']
        if self.tag_sets:
            parts.append(f"tags: [ {', '.join(_printed(tag_set) for tag_set in self.tag_sets)} ]")
        if self.max_staleness_seconds is not None:
            parts.append(f"maxStalenessSeconds: {self.max_staleness_seconds}")
        return f"{{ {', '.join(parts)} }}"


def _printed(tag_set: TagSet) -> str:
    tags = ", ".join(f'{name}: "{value}"' for name, value in tag_set)
    return f"{{ {tags} }}" if tags else "{}"


_MODES = ", ".join(f"'{mode}'" for mode in list(ReadPreferenceMode)[:-1])


def parse_read_preference(body: Document) -> ReadPreference | None:
    """The `$readPreference` of a command; None when there is none. Raises `CommandError` as mongod does."""
    if "$readPreference" not in body.fields:
        return None
    document = body.document("$readPreference")
    if document is None:
        raise CommandError(
            ErrorCode.TYPE_MISMATCH,
            f"$readPreference has incorrect type: expected object but got {body.type_name('$readPreference')}",
        )
    mode = _mode(document)
    _check_hedge(document, mode)
    return ReadPreference(mode, _tag_sets(document, mode), _max_staleness(document, mode))


def _mode(document: Document) -> ReadPreferenceMode:
    if "mode" not in document.fields:
        raise CommandError(ErrorCode.NO_SUCH_KEY, 'Missing expected field "mode"')
    text = document.string("mode")
    if text is None:
        raise _wrong_type(document, "mode", "string")
    try:
        return ReadPreferenceMode(text)
    except ValueError:
        raise CommandError(
            ErrorCode.BAD_VALUE,
            f"Could not parse $readPreference mode '{text}'. Only the modes {_MODES}, and 'nearest' are supported. :: "
            f"caused by :: Enumeration value '{text}' for field 'mode' is not a valid value.",
        ) from None


def _check_hedge(document: Document, mode: ReadPreferenceMode) -> None:
    if "hedge" not in document.fields:
        return
    hedge = document.document("hedge")
    if hedge is None:
        raise CommandError(
            ErrorCode.TYPE_MISMATCH,
            f"hedge field must be of type object if provided; found {document.type_name('hedge')}",
        )
    for name in hedge:
        if name != "enabled":
            raise CommandError(40415, f"BSON field 'hedge.{name}' is an unknown field.")
    if "enabled" in hedge.fields and hedge.type_of("enabled") != BOOL:
        raise CommandError(
            ErrorCode.TYPE_MISMATCH,
            f"BSON field 'hedge.enabled' is the wrong type '{hedge.type_name('enabled')}', expected type 'bool'",
        )
    if mode is ReadPreferenceMode.PRIMARY and hedge.boolean("enabled") is not False:
        raise CommandError(
            ErrorCode.INVALID_OPTIONS, 'cannot enable hedging for $readPreference mode "primaryOnly"'
        )


def _tag_sets(document: Document, mode: ReadPreferenceMode) -> tuple[TagSet, ...]:
    if "tags" not in document.fields:
        return ()
    array = document.array("tags")
    if array is None:
        raise _wrong_type(document, "tags", "array")
    if len(array) > MAX_TAG_SETS:
        raise CommandError(ErrorCode.BAD_VALUE, f"$readPreference has more than {MAX_TAG_SETS} tag sets")
    found = tuple(_tag_set(array, key) for key in array)
    if found in ((), ((),)):
        return ()  # the same as none, in every mode
    if mode is ReadPreferenceMode.PRIMARY:
        raise CommandError(ErrorCode.BAD_VALUE, "Only empty tags are allowed with primary read preference")
    return found


def _tag_set(array: Document, key: str) -> TagSet:
    tags = array.document(key) if array.type_of(key) == DOCUMENT else None
    values = None if tags is None else [(name, tags.string(name)) for name in tags]
    if values is None or len(values) > MAX_TAGS or any(value is None for _, value in values):
        raise CommandError(
            ErrorCode.BAD_VALUE,
            f"a tag set of $readPreference must be an object of at most {MAX_TAGS} strings",
        )
    return tuple((name, value) for name, value in values if value is not None)


def _max_staleness(document: Document, mode: ReadPreferenceMode) -> int | None:
    if "maxStalenessSeconds" not in document.fields:
        return None
    number = document.number("maxStalenessSeconds")
    if number is None:
        raise CommandError(
            ErrorCode.TYPE_MISMATCH,
            'Expected field "maxStalenessSeconds" to have numeric type, but found '
            f"{document.type_name('maxStalenessSeconds')}",
        )
    if isinstance(number, float) and not number.is_integer():
        raise CommandError(
            ErrorCode.BAD_VALUE,
            'Expected field "maxStalenessSeconds" to have a value exactly representable as a 64-bit integer, but found '
            f"maxStalenessSeconds: {number:g}",
        )
    seconds = int(number)
    if seconds < 0:
        raise CommandError(ErrorCode.BAD_VALUE, "maxStalenessSeconds must be a non-negative integer")
    if 0 < seconds < SMALLEST_MAX_STALENESS_SECONDS:
        raise CommandError(
            ErrorCode.MAX_STALENESS_OUT_OF_RANGE,
            f"maxStalenessSeconds value can not be less than {SMALLEST_MAX_STALENESS_SECONDS}",
        )
    if mode is ReadPreferenceMode.PRIMARY and seconds:
        raise CommandError(ErrorCode.BAD_VALUE, "maxStalenessSeconds can not be set for the primary mode")
    return min(seconds, MAX_STALENESS_SECONDS) or None


def _wrong_type(document: Document, name: str, expected: str) -> CommandError:
    return CommandError(
        ErrorCode.TYPE_MISMATCH,
        f'"{name}" had the wrong type. Expected {expected}, found {document.type_name(name)}',
    )


# ---- which commands -------------------------------------------------------------------------------------------------

_READS = frozenset(
    {
        "collStats",
        "count",
        "dataSize",
        "dbStats",
        "distinct",
        "endSessions",
        "find",
        "listCollections",
        "listDatabases",
        "listIndexes",
    }
)
"""What mongos sends to the servers that the read preference names, whatever the arguments.

And endSessions, with which drivers send primaryPreferred: without a primary, each client's end would wait for one.
"""
_WRITE_STAGES = frozenset({"$merge", "$out"})


def may_use_secondary(name: str, command: Command) -> bool:
    """Whether a command reads and does nothing else; `name` is its row's. What is not certain goes to the primary."""
    body = command.body
    if name in _READS:
        return True
    if name == "aggregate":
        return _only_reads(body)
    if name == "mapReduce":
        out = body.document("out")
        return out is not None and "inline" in out.fields
    if name == "explain":
        explained = body.document(command.name)
        if explained is None:
            return False
        inner = Command(explained, command.db)
        return inner.name != "explain" and may_use_secondary(inner.name, inner)
    return False


def _only_reads(body: Document) -> bool:
    stages = body.documents("pipeline")
    return stages is not None and all(_WRITE_STAGES.isdisjoint(stage.fields) for stage in stages)
