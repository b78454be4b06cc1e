"""The part of this room that is in C, where it was built and is wanted.

In: nothing. Out: its functions, or None for each: `_native.c` says what they do. Must not decide what is accepted: for
whatever they do not accept, the Python beside them is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["native_inserted", "native_outline", "native_scan", "native_spans"]


def _found(name: str) -> Callable[..., Any] | None:
    if os.environ.get("MONGOGUARD_PURE_PYTHON") == "1":
        return None
    try:
        module = import_module("mongoguard.wire._native")
    except ImportError:  # no compiler where it was installed
        return None
    function: Callable[..., Any] = getattr(module, name)
    return function


native_inserted = _found("inserted")
native_outline = _found("outline")
native_scan = _found("scan")
native_spans = _found("spans")
