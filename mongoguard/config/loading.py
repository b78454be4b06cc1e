"""A configuration file's path -> Settings: the one place of this room that opens files.

In: a path. Out: `Settings`. Raises `ConfigError` when the file can't be read or is wrong. Must not know who asks.
"""

from __future__ import annotations

import os
from pathlib import Path

from mongoguard.config.settings import Settings, parse_settings
from mongoguard.errors import ConfigError

__all__ = ["load_settings"]

MAX_CONFIG_BYTES = 1_048_576
"""A configuration file is a few KB; a larger one is the wrong file (a log, a device)."""


def load_settings(path: str) -> Settings:
    """Read and validate a configuration file, with this process's environment."""
    try:
        text = _read_text(path)
    except (OSError, ValueError) as error:
        reason = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else "it is not a UTF-8 text file of at most 1 MB"
        )
        raise ConfigError(f"{path}: can't be read: {reason}") from None
    return parse_settings(text, path, environ=os.environ, read_file=_read_text)


def _read_text(path: str) -> str:
    with Path(path).open(encoding="utf-8") as file:
        text = file.read(MAX_CONFIG_BYTES + 1)
    if len(text) > MAX_CONFIG_BYTES:
        raise ValueError("too large")
    return text
