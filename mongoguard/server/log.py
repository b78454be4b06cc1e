"""mongoguard's own log: one JSON object a line, in the form of mongod's log messages (t, s, c, msg, attr).

In: stdlib log records of the logger "mongoguard" and below; `extra={"attr": {...}}` for values. Out: lines on standard
error or in a file. Must not know who logs. Passwords of connection strings are cut out of every line, as a last net:
nobody should hand them in.
Source: the manual's "Log Messages" (structured logging).
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import IO, Any

from mongoguard.config.sections import SystemLog
from mongoguard.errors import ConfigError

__all__ = ["JsonFormatter", "configure_logging", "redact", "set_verbosity"]

_URI_LOGIN = re.compile(r"(mongodb(?:\+srv)?:/+)[^\s\"']*@")
_SEVERITIES = {"DEBUG": "D1", "INFO": "I", "WARNING": "W", "ERROR": "E", "CRITICAL": "F"}


def redact(text: str) -> str:
    """The text with the login of every connection string in it replaced by `<secret>`."""
    return _URI_LOGIN.sub(r"\1<secret>@", text)


class JsonFormatter(logging.Formatter):
    """A record as one line; control characters are escaped, so no client can write a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "t": {"$date": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")},
            "s": _SEVERITIES.get(record.levelname, "I"),
            "c": record.name.rpartition(".")[2].upper(),
            "msg": record.getMessage(),
        }
        attr = getattr(record, "attr", None)
        if attr:
            line["attr"] = attr
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, default=str))


class _PrivateFileHandler(WatchedFileHandler):
    """Appends, opens a new file by itself when the old one was renamed, and creates it for its owner only."""

    def _open(self) -> IO[str]:  # type: ignore[override]
        return open(
            self.baseFilename,
            "a",
            encoding="utf-8",
            opener=lambda path, flags: os.open(path, flags, 0o600),
        )


def configure_logging(system_log: SystemLog, *, append: bool = False) -> None:
    """Send the log where `systemLog` says; replaces what an earlier call has set up.

    With `logAppend: false` an existing file is renamed with the time as its suffix, as mongod does, unless `append`
    says that another process of this server has opened it. Raises `ConfigError` when the file can't be opened.
    """
    logger = logging.getLogger("mongoguard")
    handler = _handler(system_log, append=append or system_log.log_append)
    handler.setFormatter(JsonFormatter())
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    set_verbosity(system_log)
    logger.propagate = False


def set_verbosity(system_log: SystemLog) -> None:
    """Log debug messages, or not."""
    logging.getLogger("mongoguard").setLevel(logging.DEBUG if system_log.verbosity else logging.INFO)


def _handler(system_log: SystemLog, *, append: bool) -> logging.Handler:
    if system_log.path is None:
        return logging.StreamHandler(sys.stderr)
    try:
        if not append:
            _set_aside(Path(system_log.path))
        return _PrivateFileHandler(system_log.path)
    except OSError as error:
        raise ConfigError(f"systemLog.path: can't open {system_log.path}: {error.strerror}") from None


def _set_aside(path: Path) -> None:
    if path.is_file() and path.stat().st_size:
        path.rename(f"{path}.{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%f}")
