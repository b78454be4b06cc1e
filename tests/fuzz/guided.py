"""One target under atheris: `python -m tests.fuzz.guided NAME [libFuzzer options]`."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

import atheris


def main(name: str, options: list[str]) -> None:
    """Fuzz until libFuzzer's own limits end the process; it exits non-zero when `check` raised."""
    with atheris.instrument_imports(include=["mongoguard"]):
        target = importlib.import_module(f"tests.fuzz.target_{name}")
    with tempfile.TemporaryDirectory(prefix=f"mongoguard-fuzz-{name}-") as corpus:
        for number, seed in enumerate(target.SEEDS):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *options, corpus], target.check)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
