"""Reloading: rounds one after the other, and one part's failure is its own."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from mongoguard.errors import ConfigError
from mongoguard.server.reloading import Reloading


async def test_rounds_do_not_interleave_and_one_waits_at_most(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    begun: list[int] = []
    may_end = trio.Event()

    async def slow() -> None:
        begun.append(len(begun))
        await may_end.wait()

    reloading = Reloading({"the file": slow})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloading.keep_up)
        reloading.ask()
        await trio.testing.wait_all_tasks_blocked()
        assert begun == [0]
        for _ in range(3):
            reloading.ask()
        await trio.testing.wait_all_tasks_blocked()
        assert begun == [0]
        may_end.set()
        await trio.testing.wait_all_tasks_blocked()
        assert begun == [0, 1]
        nursery.cancel_scope.cancel()
    assert caplog.messages == ["SIGHUP: the file is reloaded"] * 2


async def test_a_part_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def broken() -> None:
        raise ConfigError("no such thing")

    async def sound() -> None:
        pass

    reloading = Reloading({"one": broken, "other": sound})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloading.keep_up)
        reloading.ask()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert caplog.messages == ["SIGHUP: one is not reloaded: no such thing", "SIGHUP: other is reloaded"]
