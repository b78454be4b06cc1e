"""Standing tasks begin anew after an error; an error before a client's first message costs that client alone; a
directory that hangs keeps nobody in.
"""

import logging
import socket
from functools import partial
from types import SimpleNamespace

import pytest
import trio

from mongoguard.model.names import UserName
from mongoguard.model.user import User
from mongoguard.server import app
from mongoguard.server.arrivals import Arrivals
from mongoguard.server.directory import REFRESH_SHARE
from mongoguard.server.standing_task import RESTART_SECS, keep_running


async def test_a_task_that_fails_begins_anew_and_its_neighbours_go_on(autojump_clock, caplog):
    begun: list[float] = []
    undone: list[float] = []

    async def task():
        begun.append(trio.current_time())
        async with trio.open_nursery() as nursery:  # errors of nested tasks come as a group
            nursery.start_soon(fail)

    async def fail():
        raise ValueError("an answer that nobody thought of")

    with caplog.at_level(logging.ERROR), trio.move_on_after(RESTART_SECS * 2.5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_running, "the task", task, lambda: undone.append(trio.current_time()))
            await trio.sleep_forever()
    assert len(begun) == len(undone) == 3
    assert begun[1] - begun[0] == pytest.approx(RESTART_SECS)
    assert caplog.messages == ["the task: an internal error; begun anew in 5 s"] * 3


async def test_a_cancelled_task_ends(autojump_clock):
    with trio.move_on_after(1) as scope:
        await keep_running("the task", trio.sleep_forever, lambda: pytest.fail("there was no error"))
    assert scope.cancelled_caught


async def test_an_error_of_ours_before_the_first_message_costs_one_connection(monkeypatch, caplog):
    async def receive_client(*_):
        raise KeyError("a certificate that nobody thought of")

    monkeypatch.setattr(app, "receive_client", receive_client)
    near, far = socket.socketpair()
    application = SimpleNamespace(_settings=SimpleNamespace(net=None), _tls=None)
    application._receive = partial(app.Application._receive, application)
    arrivals = Arrivals(1)
    with far:
        await app.Application._serve(application, near, arrivals.begin())
        assert far.recv(1) == b""
    assert (arrivals.open, arrivals.arriving) == (0, 0)
    assert caplog.messages == ["a connection is closed by an internal error"]


class HangingDirectory:
    """Asked for its users, it gives no answer."""

    async def refresh(self, _requests):
        await trio.sleep_forever()


async def test_sessions_ask_for_themselves_when_their_users_can_not_be_asked_for_in_time(autojump_clock):
    """Else everybody would keep the roles of before for as long as the upstream hangs, times the number of users."""
    user = User(UserName("ann", "$external"))
    asked: list[float] = []
    session = SimpleNamespace(user=user, invalidate=lambda: asked.append(trio.current_time() - begun))
    application = SimpleNamespace(
        _settings=SimpleNamespace(security=SimpleNamespace(user_cache_invalidation_interval_secs=30)),
        _ldap_users=None,
        _directory=HangingDirectory(),
        _connections=[SimpleNamespace(session=session)],
    )
    begun = trio.current_time()
    with trio.move_on_after(45):
        await app.Application._watch_users(application)
    assert asked == [pytest.approx(30 * (1 + REFRESH_SHARE))]
