"""Reloading: rounds one after the other, and what the log says of them."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from mongoguard.server.reloading import Reloading, tell_not_reloaded, tell_reloaded


async def test_rounds_do_not_interleave_and_one_waits_at_most() -> None:
    begun: list[int] = []
    may_end = trio.Event()

    async def slow() -> None:
        begun.append(len(begun))
        await may_end.wait()

    reloading = Reloading(slow)
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


async def test_a_round_that_fails_in_a_way_that_nobody_foresaw_ends_no_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rounds: list[int] = []

    async def fail_first() -> None:
        rounds.append(1)
        if len(rounds) == 1:
            raise ExceptionGroup("from a worker's answer", [KeyError("parts")])

    reloading = Reloading(fail_first)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloading.keep_up)
        for _ in range(2):
            reloading.ask()
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(rounds) == 2
    assert "SIGHUP: the configuration is not reloaded: an internal error" in caplog.text


def test_what_is_in_use_now_and_what_waits_for_a_restart_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tell_reloaded(["net.tls"], {"changed": ["a.b", "c"], "needsRestart": ["net.port", "workers"]})
    assert caplog.messages == [
        "SIGHUP: new values are in use of a.b, c",
        "SIGHUP: net.port has a new value, which needs a restart; the old one stays in use",
        "SIGHUP: workers has a new value, which needs a restart; the old one stays in use",
        "SIGHUP: the configuration is reloaded",
        "SIGHUP: net.tls is reloaded",
    ]


def test_a_mistake_is_named_with_its_part(caplog: pytest.LogCaptureFixture) -> None:
    tell_not_reloaded("net.tls", "no such file")
    tell_not_reloaded("the configuration", "an unknown key")
    assert caplog.messages == [
        "SIGHUP: net.tls is not reloaded: no such file",
        "SIGHUP: the configuration is not reloaded: an unknown key",
    ]
