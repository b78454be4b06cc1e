"""The law of how old an answer may be: no session runs a command by groups that the directory has not given lately.

Sessions are a stand-in's: they keep a user, look at no clock, and ask when they are told to, as `ClientSession` does.
"""

from __future__ import annotations

from contextlib import suppress

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from mongoguard.effects import CheckPassword
from mongoguard.errors import DirectoryUnavailable
from mongoguard.model.names import UserName
from mongoguard.model.user import UserRequest
from mongoguard.server.ldap.user_directory import LdapUserDirectory
from tests.unit.server.ldap.test_user_directory import Base, StandInDirectory

STALENESS = 30.0
COMMAND_SECS = 0.23
NAMES = ("ann", "bob")
GROUPS = tuple(f"cn=g{number},dc=org" for number in range(3))


class Session:
    """What a client connection does about its user."""

    def __init__(self, name, users, law):
        self.request = UserRequest(UserName(name, "$external"))
        self.users, self.law = users, law
        self.user = None
        self.stale = False

    async def log_in(self, audit_secs):
        """The user is fetched, the audit event is written, and only then somebody is logged in."""
        check = await self.users.check_password(CheckPassword(self.request.name.user, "right"))
        assert check.accepted
        user = await self.users.fetch(self.request)
        await trio.sleep(audit_secs)
        self.user = user

    async def command(self):
        """Decide a command, if somebody is logged in and the directory says who that is."""
        if self.stale:
            self.stale = False
            if self.user is None:
                return
            try:
                self.user = await self.users.fetch(self.request)
            except DirectoryUnavailable:
                self.stale = True
                return
        if self.user is not None:
            self.law.check(self.request.name.user, self.user)


class Law:
    """Knows every answer that the directory gave: whose, which groups, asked when."""

    def __init__(self):
        self.given = []
        self.decided = 0

    def check(self, name, user):
        groups = frozenset(role.role for role in user.roles)
        now = trio.current_time()
        assert any(
            whose == name and which == groups and asked_at > now - STALENESS
            for whose, which, asked_at in self.given
        ), f"{name}: {sorted(groups)} at {now:.2f}"
        self.decided += 1


class SlowBase(Base):
    """Takes `secs` to say which roles there are."""

    def __init__(self):
        super().__init__()
        self.roles = frozenset(GROUPS)
        self.secs = 0.0

    async def admin_role_names(self):
        await trio.sleep(self.secs)
        return await super().admin_role_names()


class Directory(StandInDirectory):
    """Gives answers that the law knows."""

    def __init__(self, law):
        super().__init__()
        self.law = law

    async def groups(self, bind_name, provided_user):
        asked_at = trio.current_time()
        groups = await super().groups(bind_name, provided_user)
        self.law.given.append((provided_user, frozenset(groups), asked_at))
        return groups


EVENT = st.one_of(
    st.tuples(st.just("groups"), st.sampled_from(NAMES), st.sets(st.sampled_from(GROUPS))),
    st.tuples(st.just("away"), st.sampled_from([None, 0.0, 1.0, 8.0]), st.none()),
    st.tuples(st.just("login"), st.sampled_from(NAMES), st.sampled_from([0.0, 3.0, 40.0])),
    st.tuples(st.just("slow roles"), st.sampled_from([0.0, 2.0]), st.none()),
)


class World:
    """Sessions, what they ask, and what befalls the directory."""

    def __init__(self, refresh, watch):
        self.law = Law()
        self.directory = Directory(self.law)
        self.directory.people = dict.fromkeys(NAMES, (GROUPS[0],))
        self.base = SlowBase()
        self.sessions = []
        self.users = LdapUserDirectory(self.base, self.directory, STALENESS, watch, refresh, self.withdraw)

    def withdraw(self, names):
        for session in self.sessions:
            if session.user is None or session.request.name.user in names:
                session.stale = True

    async def look(self):
        while True:
            await trio.sleep(self.users.watch_secs)
            current = await self.users.refresh({s.request for s in self.sessions if s.user is not None})
            for session in self.sessions:
                if session.user is not None and current.get(session.request) is not session.user:
                    session.stale = True

    async def work(self, session, audit_secs):
        with suppress(DirectoryUnavailable):
            await session.log_in(audit_secs)
            while True:
                await session.command()
                await trio.sleep(COMMAND_SECS)

    def happen(self, nursery, kind, first, second):
        match kind:
            case "groups":
                self.directory.people[first] = tuple(sorted(second))
            case "away":
                self.directory.error = None if first is None else DirectoryUnavailable("away")
                self.directory.secs = 0.01 if first is None else first
            case "slow roles":
                self.base.secs = first
            case "login":
                self.sessions.append(Session(first, self.users, self.law))
                nursery.start_soon(self.work, self.sessions[-1], second)

    async def run(self, events):
        async with trio.open_nursery() as nursery:
            for task in (self.users.keep_up, self.users.keep_withdrawing, self.look):
                nursery.start_soon(task)
            for (kind, first, second), pause in events:
                self.happen(nursery, kind, first, second)
                await trio.sleep(pause)
            nursery.cancel_scope.cancel()


@settings(max_examples=30)
@given(
    st.lists(st.tuples(EVENT, st.sampled_from([0.05, 1.0, 9.9, 20.0, 29.95, 31.0])), min_size=2, max_size=8),
    st.sampled_from([None, 1.0, 10.0, 30.0]),
    st.sampled_from([1.0, 5.0, 60.0]),
)
def test_no_command_is_decided_by_an_answer_that_is_too_old(events, refresh, watch):
    world = World(refresh, watch)
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(world.run, [(("login", "ann", 0.0), 1.0), *events], clock=clock)
    assert world.law.decided
