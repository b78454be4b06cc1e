"""The pid file: a file with the number of this process while it runs (`processManagement.pidFilePath`).

In: a path. Out: the file, gone at the end. Must not know what runs meanwhile.

Such files live where others may write, so a link that somebody has put there is not followed, and what is no regular
file, or has another name as well, is not overwritten.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mongoguard.errors import ConfigError

__all__ = ["pid_file"]

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: a named pipe would be waited for."""
_READABLE_TO_ALL = 0o644


@contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """Write the file, and remove it at the end; no path, no file. Raises `ConfigError` when it can't be written."""
    if path is None:
        yield
        return
    try:
        _write(path)
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise ConfigError(f"processManagement.pidFilePath: cannot write {path}: {reason}") from None
    try:
        yield
    finally:
        Path(path).unlink(missing_ok=True)


def _write(path: str) -> None:
    descriptor = os.open(path, _FLAGS, _READABLE_TO_ALL)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise OSError(errno.EINVAL, "it is not a regular file of its own")
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
