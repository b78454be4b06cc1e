"""LDAP users: how old their groups may be, who is asked for them, and what an outage does. The directory is a stand-in."""

import pytest
import trio

from mongoguard.authn.ldap.query import LdapRefusal
from mongoguard.effects import CheckPassword
from mongoguard.errors import DirectoryUnavailable, UpstreamUnavailable
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.user import User, UserRequest
from mongoguard.server.ldap import group_cache
from mongoguard.server.ldap.bind_answer import BindAnswer
from mongoguard.server.ldap.connection import DirectoryConnectionLost
from mongoguard.server.ldap.directory import LdapDirectory
from mongoguard.server.ldap.group_cache import GroupCache
from mongoguard.server.ldap.user_directory import LdapUserDirectory
from tests.ldap_directory import settings_of

ANN = UserRequest(UserName("ann", "$external"))
DBA, DEV = "cn=dba,dc=org", "cn=dev,dc=org"


class StandInDirectory(LdapDirectory):
    """Knows `people`: name -> groups. `error` is raised instead of an answer, which takes `secs`; `errors`: whose groups
    alone can't be had.
    """

    def __init__(self, *, require_roles=False, template=True):
        authz = {"queryTemplate": "{USER}?memberOf?base", "requireRoles": require_roles} if template else {}
        super().__init__(settings_of({"servers": "nowhere", "transportSecurity": "none", "authz": authz}))
        self.people = {"ann": (DBA,), "bob": ()}
        self.passwords = {"ann": "right", "bob": "right"}
        self.error = None
        self.errors = {}
        self.secs = 0.1
        self.asked = []

    async def bind_name(self, user_name):
        if user_name not in self.people:
            raise LdapRefusal("no element of userToDNMapping matches the user name")
        return user_name

    async def bind_user(self, bind_name, password):
        await self._wait()
        right = self.passwords.get(bind_name) == password
        return BindAnswer.read(0 if right else 49, "", "data 52e")

    async def bind_nobody(self, password):
        await self._wait()

    async def groups(self, bind_name, provided_user):
        self.asked.append(provided_user)
        await self._wait()
        if provided_user in self.errors:
            raise self.errors[provided_user]
        return self.people[bind_name]

    async def _wait(self):
        await trio.sleep(self.secs)
        if self.error is not None:
            raise self.error


class Base:
    """A base directory that knows `roles` on admin, and `users`."""

    def __init__(self):
        self.roles = frozenset({DBA, DEV})
        self.users = {}
        self.made = {}
        self.error = None
        self.generation = 0

    async def fetch(self, request):
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        if request.roles is None:
            return self.users.get(request.name)
        existing = tuple(r for r in request.roles if r.role in self.roles)
        user = User(request.name, roles=existing, asserted_roles=request.roles)
        return self.made.setdefault((request, existing), user)

    def invalidate(self):
        self.generation += 1

    async def refresh(self, requests):
        return {} if self.error is not None else {request: await self.fetch(request) for request in requests}

    async def admin_role_names(self):
        return self.roles


@pytest.fixture
def ldap():
    return StandInDirectory()


@pytest.fixture
def base():
    return Base()


def ldap_users(base, ldap, staleness=90, watch=5, refresh=30, withdraw=lambda names: None):
    return LdapUserDirectory(base, ldap, staleness, watch, refresh, withdraw)


@pytest.fixture
def users(base, ldap):
    return ldap_users(base, ldap)


def roles(user):
    return [role.role for role in user.roles]


async def test_groups_become_roles_and_the_user_carries_none_of_its_own(users, autojump_clock):
    user = await users.fetch(ANN)
    assert roles(user) == [DBA]
    assert user.asserted_roles is None, "a refresh must ask for the groups again"
    assert user.request == ANN


async def test_an_unchanged_user_is_the_same_object(users, autojump_clock):
    first = await users.fetch(ANN)
    assert await users.fetch(ANN) is first
    assert (await users.refresh([ANN]))[ANN] is first
    await trio.sleep(31)
    assert await users.fetch(ANN) is first


async def test_an_answer_is_asked_for_again_after_a_third_of_the_bound(users, ldap, autojump_clock):
    await users.fetch(ANN)
    ldap.people["ann"] = (DEV,)
    await trio.sleep(29)
    assert roles(await users.fetch(ANN)) == [DBA]
    await trio.sleep(2)
    assert roles(await users.fetch(ANN)) == [DEV]
    assert ldap.asked == ["ann", "ann"]


async def test_users_of_live_sessions_are_asked_for_in_the_background(users, ldap, autojump_clock):
    first = await users.fetch(ANN)
    await users.refresh([ANN])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(users.keep_up)
        await trio.sleep(29)
        assert ldap.asked == ["ann"]
        ldap.people["ann"] = (DBA, DEV)
        await trio.sleep(3)
        assert ldap.asked == ["ann", "ann"]
        fresh = (await users.refresh([ANN]))[ANN]
        assert fresh is not first
        assert roles(fresh) == [DBA, DEV]
        await users.refresh([])
        await trio.sleep(90)
        assert ldap.asked == ["ann", "ann"], "nobody is logged in"
        nursery.cancel_scope.cancel()


async def test_in_an_outage_the_last_answer_holds_until_the_bound_and_not_longer(users, ldap, autojump_clock):
    first = await users.fetch(ANN)
    asked_at = trio.current_time() - 0.1
    await users.refresh([ANN])
    ldap.error = DirectoryUnavailable("ldap1: refused")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(users.keep_up)
        while trio.current_time() - asked_at < 84:
            assert (await users.refresh([ANN]))[ANN] is first
            assert await users.fetch(ANN) is first
            await trio.sleep(5)
        await trio.sleep_until(asked_at + 89.8)
        assert (await users.refresh([ANN]))[ANN] is first
        assert await users.fetch(ANN) is first
        await trio.sleep_until(asked_at + 89.9)
        assert ANN not in await users.refresh([ANN])
        with pytest.raises(DirectoryUnavailable, match="ldap1: refused"):
            await users.fetch(ANN)
        ldap.error = None
        assert await users.fetch(ANN) == first
        nursery.cancel_scope.cancel()


# ---- when a user must not be used any more ----------------------------------------------------------------------------


class Told:
    """What `withdraw` was told, and when."""

    def __init__(self):
        self.at = {}

    def __call__(self, names):
        self.at.update(dict.fromkeys(names, trio.current_time()))


@pytest.fixture
def told():
    return Told()


@pytest.fixture
async def told_users(base, ldap, told, nursery):
    """Users who are asked for in the background, as in a server that runs; whose end comes is `told`."""
    users = ldap_users(base, ldap, withdraw=told)
    nursery.start_soon(users.keep_up)
    nursery.start_soon(users.keep_withdrawing)
    return users


async def test_the_end_of_an_answer_is_told_before_it_is_too_old_and_not_earlier(
    told_users, ldap, told, autojump_clock
):
    for name in ("ann", "bob"):
        begun = trio.current_time()
        await told_users.fetch(UserRequest(UserName(name, "$external")))
        await told_users.refresh([ANN])
        ldap.error = DirectoryUnavailable("gone")
        await trio.sleep_until(begun + 89.8)
        assert told.at == {}
        await trio.sleep_until(begun + 89.99)
        assert set(told.at) == {name}, "whoever is not kept up as well"
        told.at.clear()
        ldap.error = None


async def test_the_end_of_one_answer_hides_no_other(told_users, ldap, told, autojump_clock):
    await told_users.fetch(ANN)
    begun = trio.current_time()
    await trio.sleep(0.01)
    await told_users.fetch(UserRequest(UserName("bob", "$external")))
    ldap.error = DirectoryUnavailable("gone")
    await trio.sleep_until(begun + 91)
    assert set(told.at) == {"ann", "bob"}
    assert all(time < begun + 90.11 for time in told.at.values())


async def test_an_answer_that_is_given_again_has_a_new_end_and_nobody_is_told(
    told_users, ldap, told, autojump_clock
):
    first = await told_users.fetch(ANN)
    for _ in range(60):
        await told_users.refresh([ANN])
        await trio.sleep(5)
    assert told.at == {}
    assert len(ldap.asked) >= 9
    ldap.error = DirectoryUnavailable("gone")
    await trio.sleep(50)
    assert await told_users.fetch(ANN) is first
    await trio.sleep(41)
    assert set(told.at) == {"ann"}


async def test_groups_that_have_changed_are_told_at_once(told_users, ldap, told, autojump_clock):
    await told_users.fetch(ANN)
    await told_users.refresh([ANN])
    ldap.people["ann"] = (DEV,)
    begun = trio.current_time()
    await trio.sleep(32)
    assert ldap.asked == ["ann", "ann"]
    assert begun + 30 <= told.at["ann"] <= begun + 31.5, "a third of the bound, the next look, the question"
    assert roles(await told_users.fetch(ANN)) == [DEV]


@pytest.mark.parametrize("in_background", [True, False])
async def test_a_user_whom_the_directory_refuses_is_told_at_once_whoever_has_asked(
    told_users, ldap, told, in_background, autojump_clock
):
    await told_users.fetch(ANN)
    if in_background:
        await told_users.refresh([ANN])
    del ldap.people["ann"]
    await trio.sleep(31.5)
    if not in_background:
        assert told.at == {}
        assert await told_users.fetch(ANN) is None
        await trio.sleep(0.1)
    assert set(told.at) == {"ann"}


async def test_an_answer_that_came_too_late_for_any_use_is_not_used(base, autojump_clock):
    ldap = StandInDirectory()
    users = ldap_users(base, ldap, 3, 1, 1)
    ldap.secs = 2.95
    with pytest.raises(DirectoryUnavailable, match="too old for any use"):
        await users.fetch(ANN)
    ldap.secs = 2.5
    assert roles(await users.fetch(ANN)) == [DBA]


async def test_an_answer_that_ends_while_roles_are_asked_for_is_asked_for_again(base, ldap, autojump_clock):
    users = ldap_users(base, ldap)
    await users.fetch(ANN)
    ldap.people["ann"] = (DEV,)
    await users.refresh([ANN])
    await trio.sleep(89)
    ask = base.admin_role_names

    async def slowly():
        await trio.sleep(5)
        return await ask()

    base.admin_role_names = slowly
    assert roles(await users.fetch(ANN)) == [DEV]


async def test_a_deployment_that_hangs_longer_than_answers_hold_lets_nobody_in(base, ldap, autojump_clock):
    users = ldap_users(base, ldap)

    async def hang():
        await trio.sleep(100)
        return base.roles

    base.admin_role_names = hang
    with pytest.raises(DirectoryUnavailable, match="while roles were asked for"):
        await users.fetch(ANN)
    assert len(ldap.asked) == 3


async def test_a_user_whose_last_answer_is_too_old_does_not_come_in_by_it(users, ldap, autojump_clock):
    await users.fetch(ANN)
    await trio.sleep(90)
    ldap.error = DirectoryUnavailable("gone")
    with pytest.raises(DirectoryUnavailable):
        await users.fetch(ANN)


async def test_a_silent_directory_is_asked_about_few_users_at_a_time(base, ldap, autojump_clock):
    users = ldap_users(base, ldap)
    requests = [UserRequest(UserName(f"u{n}", "$external")) for n in range(50)]
    for request in requests:
        ldap.people[request.name.user] = (DBA,)
        await users.fetch(request)
    await users.refresh(requests)
    ldap.asked.clear()
    ldap.error, ldap.secs = DirectoryConnectionLost("silent"), 10.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(users.keep_up)
        await trio.sleep(60)
        assert 4 <= len(ldap.asked) <= 16
        ldap.error, ldap.secs = None, 0.001
        await trio.sleep(16)
        assert set(ldap.asked) >= {request.name.user for request in requests}, "all of them when it is back"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("broken", [1, 5])
async def test_users_whose_groups_can_not_be_had_do_not_keep_those_of_others_from_being_asked_for(
    broken, base, ldap, autojump_clock, caplog
):
    users = ldap_users(base, ldap)
    requests = [UserRequest(UserName(f"u{n}", "$external")) for n in range(20)]
    names = {request.name.user for request in requests}
    ldap.people = dict.fromkeys(names, (DBA,))
    async with trio.open_nursery() as nursery:
        for request in requests:
            nursery.start_soon(users.fetch, request)
    await users.refresh(requests)
    ldap.errors = {f"u{n}": DirectoryUnavailable("operationsError") for n in range(broken)}
    ldap.asked.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(users.keep_up)
        await trio.sleep(33)
        assert set(ldap.asked) == names
        ldap.people = dict.fromkeys(names, (DEV,))
        await trio.sleep(40)
        fresh = await users.refresh(requests)
        changed = {request.name.user for request, user in fresh.items() if roles(user) == [DEV]}
        assert changed == names - set(ldap.errors)
        nursery.cancel_scope.cancel()
    told = [message for message in caplog.messages if "keep their last groups" in message]
    assert told
    assert all(f"{broken} in all, such as u" in message for message in told), "one line a round"


async def test_many_who_want_the_same_users_groups_ask_once(users, ldap, autojump_clock):
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(users.fetch, ANN)
    assert ldap.asked == ["ann"]


async def test_many_who_wait_for_a_silent_directory_end_together(users, ldap, autojump_clock):
    ldap.error, ldap.secs = DirectoryUnavailable("silent"), 10.0
    ended = []

    async def fetch():
        with pytest.raises(DirectoryUnavailable, match="silent"):
            await users.fetch(ANN)
        ended.append(trio.current_time())

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(fetch)
    assert len(ended) == 50
    assert max(ended) - began < 10.5
    assert ldap.asked == ["ann"]


async def test_who_waits_for_somebody_who_leaves_asks_by_itself(users, ldap, autojump_clock):
    found = []

    async def fetch():
        found.append(await users.fetch(ANN))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as leaver:
                leaver.start_soon(users.fetch, ANN)
                await trio.sleep(0.01)
                nursery.start_soon(fetch)
                await trio.sleep(0.01)
                scope.cancel()
    assert roles(found[0]) == [DBA]
    assert ldap.asked == ["ann", "ann"]


async def test_a_role_that_comes_or_goes_changes_users_without_asking_the_directory(
    users, base, ldap, autojump_clock
):
    await users.fetch(ANN)
    base.roles = frozenset({DEV})
    users.invalidate()
    assert base.generation == 1
    assert roles(await users.fetch(ANN)) == []
    base.roles = frozenset({"CN=DBA, DC=org"})
    assert roles(await users.fetch(ANN)) == ["CN=DBA, DC=org"]
    assert ldap.asked == ["ann"]


async def test_a_user_whom_the_directory_knows_no_more_is_gone(users, ldap, autojump_clock):
    await users.fetch(ANN)
    await users.refresh([ANN])
    del ldap.people["ann"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(users.keep_up)
        await trio.sleep(32)
        assert ANN not in await users.refresh([ANN])
        assert await users.fetch(ANN) is None
        nursery.cancel_scope.cancel()


async def test_without_a_template_the_base_directory_decides(base, autojump_clock):
    ldap = StandInDirectory(template=False)
    users = ldap_users(base, ldap)
    assert await users.fetch(ANN) is None
    base.users[ANN.name] = known = User(ANN.name)
    assert await users.fetch(ANN) is known
    assert (await users.refresh([ANN])) == {ANN: known}
    assert (await users.check_password(CheckPassword("ann", "right"))).accepted
    assert ldap.asked == []


@pytest.mark.parametrize(
    "request_",
    [UserRequest(UserName("ann", "admin")), UserRequest(ANN.name, (RoleName(DEV, "admin"),))],
)
async def test_others_and_those_with_roles_of_their_own_are_not_the_directorys(users, base, ldap, request_):
    base.users[request_.name] = User(request_.name)
    assert await users.fetch(request_) is not None
    assert request_ in await users.refresh([request_])
    assert ldap.asked == []


# ---- passwords --------------------------------------------------------------------------------------------------------


async def test_a_password_is_checked_and_the_groups_are_there_for_the_login(users, ldap, autojump_clock):
    assert (await users.check_password(CheckPassword("ann", "right"))).accepted
    assert roles(await users.fetch(ANN)) == [DBA]
    assert ldap.asked == ["ann"]


async def test_a_wrong_password_is_refused_with_the_reason_and_no_group_is_asked_for(
    users, ldap, autojump_clock
):
    check = await users.check_password(CheckPassword("ann", "wrong"))
    assert not check.accepted
    assert "data 52e" in check.reason
    assert ldap.asked == []


async def test_a_name_that_is_not_mapped_is_refused(users, autojump_clock):
    check = await users.check_password(CheckPassword("eve", "right"))
    assert (check.accepted, check.reason) == (False, "no element of userToDNMapping matches the user name")


@pytest.mark.parametrize("name", ["ann", "eve"])
async def test_the_time_of_a_refusal_tells_nobody_who_exists(users, ldap, autojump_clock, name):
    begun = trio.current_time()
    assert not (await users.check_password(CheckPassword(name, "wrong"))).accepted
    assert trio.current_time() - begun == pytest.approx(ldap.secs)


@pytest.mark.parametrize("name", ["ann", "eve"])
async def test_nor_does_an_outage(users, ldap, autojump_clock, name):
    ldap.error = DirectoryUnavailable("away")
    with pytest.raises(DirectoryUnavailable):
        await users.check_password(CheckPassword(name, "wrong"))


async def test_nobody_logs_in_while_the_directory_is_away_even_with_groups_that_are_known(
    users, ldap, autojump_clock
):
    await users.fetch(ANN)
    ldap.error = DirectoryUnavailable("gone")
    with pytest.raises(DirectoryUnavailable, match="gone"):
        await users.check_password(CheckPassword("ann", "right"))


async def test_a_user_without_a_role_is_let_in_unless_roles_are_required(base, ldap, autojump_clock, caplog):
    users = ldap_users(base, ldap)
    assert (await users.check_password(CheckPassword("bob", "right"))).accepted
    assert "authenticated, 0 groups, 0 matched" in caplog.text
    users = ldap_users(base, StandInDirectory(require_roles=True))
    check = await users.check_password(CheckPassword("bob", "right"))
    assert not check.accepted
    assert "0 groups, 0 matched" in check.reason
    assert await users.fetch(UserRequest(UserName("bob", "$external"))) is None
    assert (await users.check_password(CheckPassword("ann", "right"))).accepted


async def test_a_deployment_that_gives_no_roles_leaves_a_session_unrefreshed(users, base, autojump_clock):
    await users.fetch(ANN)
    base.error = UpstreamUnavailable("no primary")
    assert ANN not in await users.refresh([ANN])
    with pytest.raises(UpstreamUnavailable):
        await users.fetch(ANN)


# ---- intervals of refreshing ------------------------------------------------------------------------------------------


async def in_the_background(users, secs, look=None):
    """Let `keep_up` run for so long, with sessions being looked at as often as they must be."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(users.keep_up)
        end = trio.current_time() + secs
        while trio.current_time() < end:
            await trio.sleep(users.watch_secs)
            answers = await users.refresh([ANN])
            if look is not None:
                look(answers)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("refresh", "times"), [(10, 6), (30, 2), (60, 1)])
async def test_live_users_are_asked_for_as_often_as_configured(base, ldap, autojump_clock, refresh, times):
    users = ldap_users(base, ldap, 90, 5, refresh)
    await users.fetch(ANN)
    await users.refresh([ANN])
    await in_the_background(users, 69)
    assert len(ldap.asked) - 1 == times


async def test_an_interval_as_long_as_the_bound_leaves_no_answer_in_use_beyond_it(base, ldap, autojump_clock):
    users = ldap_users(base, ldap, 30, 60, 30)
    assert users.watch_secs == 10, "sessions are looked at before answers are too old"
    await users.fetch(ANN)
    asked_at = trio.current_time() - 0.1
    await users.refresh([ANN])
    ldap.error = DirectoryUnavailable("gone")
    seen = []
    await in_the_background(users, 45, lambda answers: seen.append((trio.current_time(), ANN in answers)))
    assert [time for time, there in seen if there]
    assert all(time < asked_at + 30 for time, there in seen if there)


async def test_without_refreshing_nothing_is_asked_in_the_background(base, ldap, autojump_clock):
    users = ldap_users(base, ldap, 30, 5, None)
    await users.fetch(ANN)
    await users.refresh([ANN])
    await in_the_background(users, 300)
    assert ldap.asked == ["ann"]


async def test_without_refreshing_a_command_asks_when_the_answer_would_become_too_old(
    base, ldap, autojump_clock
):
    users = ldap_users(base, ldap, 30, 5, None)
    first = await users.fetch(ANN)
    ldap.people["ann"] = (DEV,)
    await trio.sleep(15)
    assert (await users.refresh([ANN]))[ANN] is first
    assert await users.fetch(ANN) is first
    await trio.sleep(9)
    assert ANN not in await users.refresh([ANN]), "it would be too old before the next look"
    assert roles(await users.fetch(ANN)) == [DEV], "although ann is live"
    assert ldap.asked == ["ann", "ann"]


async def test_without_refreshing_an_answer_older_than_the_interval_is_not_used(base, ldap, autojump_clock):
    users = ldap_users(base, ldap, 30, 5, None)
    first = await users.fetch(ANN)
    await users.refresh([ANN])
    ldap.error = DirectoryUnavailable("gone")
    await trio.sleep(29)
    assert await users.fetch(ANN) is first
    await trio.sleep(1)
    with pytest.raises(DirectoryUnavailable, match="gone"):
        await users.fetch(ANN)


async def test_without_refreshing_idle_connections_are_closed_all_the_same(
    base, ldap, autojump_clock, monkeypatch
):
    closed = []
    monkeypatch.setattr(ldap.pool, "close_idle", lambda: closed.append(trio.current_time()))
    await in_the_background(ldap_users(base, ldap, 30, 5, None), 10)
    assert len(closed) >= 9


# ---- the cache --------------------------------------------------------------------------------------------------------


def test_the_cache_forgets_the_least_recently_used_when_it_holds_too_many_groups(monkeypatch):
    monkeypatch.setattr(group_cache, "MAX_GROUPS_KEPT", 10)
    cache = GroupCache(90, 30)
    cache.keep("a", ("g",) * 3, 0)
    cache.keep("b", ("g",) * 3, 0)
    assert cache.usable("a", 1)
    cache.keep("c", ("g",) * 3, 0)
    assert cache.usable("b", 1) is None
    assert cache.usable("a", 1)
    assert cache.usable("c", 1)
    cache.keep("d", ("g",) * 100, 0)
    assert cache.usable("a", 1) is None
    assert cache.usable("d", 1), "the newest stays, however many it has"


def test_the_cache_tells_whom_it_has_forgotten_and_who_is_too_old(monkeypatch):
    monkeypatch.setattr(group_cache, "MAX_GROUPS_KEPT", 10)
    cache = GroupCache(90, 30)
    assert cache.next_withdrawal == float("inf")
    for time, name in enumerate("abc"):
        cache.keep(name, ("g",) * 3, time)
    assert cache.withdrawn(3) == {"a"}
    assert cache.withdrawn(3) == frozenset(), "told once"
    cache.keep("b", ("g",) * 3, 50)
    cache.keep("c", ("other",) * 3, 50)
    assert cache.withdrawn(51) == {"c"}, "who is asked about again is told of only when the answer is another"
    assert cache.withdrawn(139.8) == frozenset()
    assert cache.withdrawn(139.9) == {"b", "c"}
    assert cache.next_withdrawal == float("inf")


def test_ends_that_are_put_off_again_and_again_take_one_place_a_user():
    cache = GroupCache(90, 30)
    for time in range(1000):
        cache.keep("ann", ("g",), time)
        cache.forget("ann")
        cache.keep("ann", ("g", str(time)), time)
        assert cache.withdrawn(time) == {"ann"}
    assert len(cache._ends) == len(cache._scheduled) == 1


@pytest.mark.parametrize(("watch", "expected"), [(5, 5), (60, 30)])
def test_sessions_are_looked_at_often_enough_for_the_bound(base, ldap, watch, expected):
    assert ldap_users(base, ldap, 90, watch, 30).watch_secs == expected


async def test_of_users_of_the_directory_nobody_is_at_hand_and_of_others_who_is_at_hand_below(users, base):
    other = UserRequest(UserName("ann", "admin"))
    base.at_hand = lambda request: (request,)
    assert users.at_hand(other) == (other,)
    await users.fetch(ANN)
    assert users.at_hand(ANN) is None
