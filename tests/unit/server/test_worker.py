"""Cursors between workers, over real links and the supervisor's crossing; what the workers serve is faked here."""

import socket
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from mongoguard.config.settings import parse_settings
from mongoguard.effects import CursorClaim, FindCursors, KeptCursor
from mongoguard.errors import UpstreamUnavailable
from mongoguard.model.names import UserName
from mongoguard.model.privilege import NOTHING, AllOf, Privilege
from mongoguard.model.resource_pattern import ResourcePattern
from mongoguard.proxy.cursors import CursorEntry, CursorTable
from mongoguard.server import worker as module
from mongoguard.server.crossing import Crossing
from mongoguard.server.link import MAX_FROM_WORKER_BYTES, Link, LinkRefused
from mongoguard.server.worker import Worker, _LinkedSiblings

SETTINGS = 'upstream: {uri: "mongodb://u:p@127.0.0.1/"}'
ALICE, BOB = UserName("alice", "shop"), UserName("bob", "shop")
KEPT = KeptCursor(7, "shop.x", "cursor id 7 was not created by the authenticated user")


class Seen:
    """A worker as the supervisor sees it, with its real link."""

    def __init__(self, number, sock):
        self.number = self.pid = number
        self.is_serving = True
        self.sock = sock

    async def ask(self, kind, fields=None, *, within_secs):
        try:
            return await self.link.ask(kind, fields, within_secs=within_secs)
        except LinkRefused:
            return None


class Process:
    """A worker, without anything that it would serve."""

    def __init__(self, sock):
        self.worker = Worker(sock, lambda _error: None)
        self.table = CursorTable(has_siblings=True)
        self.worker._application = SimpleNamespace(cursors=self.table)
        self.siblings = _LinkedSiblings(self.worker.link, counts=None, turns=0)
        self.siblings.application = self.worker._application
        self.worker._siblings = self.siblings

    async def find(self, *ids, user=ALICE, namespace="shop.x", session=None, of_anybody=False):
        claim = CursorClaim(user, of_anybody, namespace, session)
        return await self.siblings.effects[FindCursors](FindCursors(ids, claim))


@pytest.fixture
def crew(nursery):
    """Three workers."""
    seen, processes = {}, []
    settings = parse_settings(SETTINGS, "m.yaml", environ={}, read_file=lambda path: path)
    crossing = Crossing(settings, seen)
    for number in range(3):
        ours, theirs = socket.socketpair()
        one = seen[number] = Seen(number, ours)
        one.link = Link(
            ours, crossing.answerers(one), crossing.at_once(one), max_received=MAX_FROM_WORKER_BYTES
        )
        processes.append(Process(theirs))
        nursery.start_soon(one.link.run)
        nursery.start_soon(processes[-1].worker.link.run)
    yield processes
    for one in seen.values():
        one.link.close()


def entry(cursor_id=7, owner=ALICE, requirement=NOTHING):
    return CursorEntry(cursor_id, owner, "shop.x", None, "h:1", requirement)


async def test_the_owner_gets_the_cursor_and_the_other_worker_forgets_it(crew):
    crew[2].table.add(entry())
    assert await crew[0].find(7) == ()
    assert crew[0].table.find(7) == entry()
    assert len(crew[2].table) == 0


@pytest.mark.parametrize("user", [BOB, UserName("alice", "admin"), UserName("alice", ""), None])
async def test_a_stranger_learns_that_it_is_not_theirs_and_it_stays(crew, user):
    crew[2].table.add(entry())
    for namespace in ("shop.x", None):
        assert await crew[0].find(7, 8, user=user, namespace=namespace) == (KEPT,)
    assert (len(crew[0].table), len(crew[2].table)) == (0, 1)


async def test_a_stranger_who_asks_all_the_time_keeps_nobody_from_reading(crew, nursery):
    crew[2].table.add(entry())

    async def annoy():
        while True:
            await crew[1].find(7, user=BOB)

    for _ in range(20):
        nursery.start_soon(annoy)
    for turn in range(20):
        reader = crew[2 * (turn % 2)]
        assert await reader.find(7) == ()
        assert reader.table.find(7) is not None
    nursery.cancel_scope.cancel()


async def test_a_cursor_that_nobody_asked_for_changes_nothing(crew):
    """As if a sibling had lost its mind: what this worker knows is not overwritten."""
    crew[0].table.add(entry(9))
    forged = module.cursor_document(entry(9, BOB))
    crew[0].siblings._take_cursors(frozenset([7]), {"cursors": [forged, {"id": 7}, None]})
    assert crew[0].table.find(9).owner == ALICE
    assert len(crew[0].table) == 1


async def test_what_is_too_long_to_be_handed_over_stays_and_no_link_ends(crew):
    privileges = [
        Privilege(ResourcePattern.for_exact_namespace("shop", f"{n:0100}"), frozenset(["find"]))
        for n in range(10_000)
    ]
    crew[2].table.add(entry(requirement=AllOf(tuple(privileges))))
    crew[1].table.add(entry(8))
    with pytest.raises(UpstreamUnavailable):  # it is somewhere: not found would be untrue
        await crew[0].find(7, 8)
    assert (len(crew[0].table), len(crew[1].table), len(crew[2].table)) == (1, 0, 1)
    assert await crew[0].find(8) == ()


async def test_a_question_that_is_too_long_is_refused_here_and_ends_no_link(crew):
    crew[2].table.add(entry())
    with pytest.raises(UpstreamUnavailable):
        await crew[0].find(7, namespace="x" * MAX_FROM_WORKER_BYTES)
    with pytest.raises(UpstreamUnavailable):
        await crew[0].find(7, user=UserName("\udc80", "x"))
    assert await crew[0].find(7) == ()
    assert len(crew[0].table) == 1


async def test_a_claim_that_is_none_gets_nothing(crew):
    crew[2].table.add(entry())
    for claim in (None, {}, {"user": None, "ofAnybody": 1, "ns": None, "session": None}):
        answer = await crew[0].worker.link.ask("find cursors", {"ids": [7], "claim": claim}, within_secs=5)
        assert (answer["cursors"], answer["kept"], sorted(answer["silent"])) == ([], [], [1, 2])
    assert len(crew[2].table) == 1


# ---- workers that do not answer -------------------------------------------------------------------------------------


@pytest.fixture
def frozen(crew, autojump_clock):
    """The last worker; it goes on when the event is set."""
    goes_on, give = trio.Event(), crew[2].worker._give_cursors

    async def give_late(fields):
        await goes_on.wait()
        return await give(fields)

    crew[2].worker.link._answerers = {**crew[2].worker.link._answerers, "give cursors": give_late}
    return goes_on


async def test_a_cursor_that_a_silent_worker_may_know_is_not_said_to_be_unknown(crew, frozen):
    crew[1].table.add(entry(8))
    with pytest.raises(UpstreamUnavailable, match="do not say whether they know"):
        await crew[0].find(7)
    assert await crew[0].find(8) == (), "who answers is enough for what it knows"
    crew[1].table.add(entry(9, BOB))
    assert [kept.cursor_id for kept in await crew[0].find(9)] == [9]
    with pytest.raises(UpstreamUnavailable):
        await crew[0].find(9, 10)


async def test_a_cursor_that_is_handed_over_late_is_not_lost(crew, frozen):
    crew[2].table.add(entry())
    with pytest.raises(UpstreamUnavailable):
        await crew[0].find(7)
    frozen.set()
    await trio.testing.wait_all_tasks_blocked()
    assert crew[0].table.find(7) == entry()
    assert len(crew[2].table) == 0


async def test_what_comes_late_changes_nothing_that_is_known_and_nothing_that_nobody_asked_for(crew):
    crew[0].table.add(entry(9))
    forged = [module.cursor_document(entry(number, BOB)) for number in (8, 9)]
    await crew[0].worker._take_late_cursors({"ids": [7, 9], "cursors": forged})
    assert crew[0].table.find(9).owner == ALICE
    assert len(crew[0].table) == 1
