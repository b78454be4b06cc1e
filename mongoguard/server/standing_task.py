"""Standing tasks: work beside the clients that goes on for as long as the process does.

In: a task that never ends by itself. Out: nothing; it runs until it is cancelled. Must not know what the task does.

Such tasks ask servers outside the deployment, whose answers may be anything. An error of ours about one of them, which
no test has found, must cost what the task looks after and not every client its connection.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

__all__ = ["RESTART_SECS", "keep_running"]

log = logging.getLogger(__name__)

RESTART_SECS = 5.0
"""Before a task that has failed begins anew: what has made it fail is likely to be still there."""


async def keep_running(
    name: str, task: Callable[[], Awaitable[None]], after_error: Callable[[], None]
) -> None:
    """Run the task, and begin it anew after an error, which is logged; `after_error` undoes what rests on it."""
    while True:
        try:
            await task()
        except Exception:
            log.exception("%s: an internal error; begun anew in %d s", name, RESTART_SECS)
            after_error()
        await trio.sleep(RESTART_SECS)
