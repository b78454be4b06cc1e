"""Programs in a terminal of their own (pexpect): how they end.

pexpect itself gives each of its signals a tenth of a second, which is too little on a busy machine.
"""

from __future__ import annotations

import signal
from typing import Any

import pexpect

__all__ = ["end_at_once", "status_at_end"]


def end_at_once(child: Any) -> None:
    """End it whatever it does."""
    if child.isalive():
        child.kill(signal.SIGKILL)
        child.wait()
    child.close()


def status_at_end(child: Any) -> int | None:
    """Wait for its end; the exit status, None when a signal has ended it."""
    child.expect(pexpect.EOF)
    child.wait()
    child.close()
    status: int | None = child.exitstatus
    return status
