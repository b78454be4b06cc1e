"""A configuration file's path -> Settings: the one place of this room that opens files.

In: a path. Out: `Settings`, or the texts that they are made of, so that several processes make the same of them. Raises
`ConfigError` when a file can't be read or is wrong. Must not know who asks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mongoguard.config.settings import Settings, parse_settings
from mongoguard.errors import ConfigError

__all__ = ["ConfigTexts", "load_settings", "read_config"]

MAX_CONFIG_BYTES = 1_048_576
"""A configuration file is a few KB; a larger one is the wrong file (a log, a device)."""


@dataclass(frozen=True, slots=True)
class ConfigTexts:
    """What a configuration file, and the files that it takes values from, say at one moment.

    `files` are those by their names, as the configuration names them. All of it may hold secrets.
    """

    source: str
    text: str = field(repr=False)
    files: Mapping[str, str] = field(default_factory=dict, repr=False)

    def settings(self) -> Settings:
        """What they mean, with this process's environment. Raises `ConfigError`."""
        return parse_settings(self.text, self.source, environ=os.environ, read_file=self._file)

    def _file(self, path: str) -> str:
        if path not in self.files:
            raise FileNotFoundError(2, "it was not there when the configuration was read")
        return self.files[path]


def load_settings(path: str) -> Settings:
    """Read and validate a configuration file, with this process's environment."""
    return read_config(path)[1]


def read_config(path: str) -> tuple[ConfigTexts, Settings]:
    """Read and validate a configuration file; also the texts, which make the same settings in another process."""
    try:
        text = _read_text(path)
    except (OSError, ValueError) as error:
        reason = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else "it is not a UTF-8 text file of at most 1 MB"
        )
        raise ConfigError(f"{path}: can't be read: {reason}") from None
    files: dict[str, str] = {}

    def read_file(name: str) -> str:
        files[name] = _read_text(name)
        return files[name]

    settings = parse_settings(text, path, environ=os.environ, read_file=read_file)
    return ConfigTexts(path, text, files), settings


def _read_text(path: str) -> str:
    with Path(path).open(encoding="utf-8") as file:
        text = file.read(MAX_CONFIG_BYTES + 1)
    if len(text) > MAX_CONFIG_BYTES:
        raise ValueError("too large")
    return text
