"""User directories: freshness, staleness, bounds, and races between loads and changes."""

import threading

import pytest
import trio
import trio.testing

from mongoguard.cli.user import user_entry
from mongoguard.config.settings import parse_settings
from mongoguard.errors import ConfigError, UpstreamError, UpstreamUnavailable
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.user import UserRequest
from mongoguard.server import directory as module
from mongoguard.server.directory import FileDirectory, UpstreamDirectory, open_directory

ANN, BOB = UserRequest(UserName("ann", "admin")), UserRequest(UserName("bob", "admin"))
SETTINGS = parse_settings(
    "{upstream: {uri: 'mongodb://h'},"
    " security: {userCacheInvalidationIntervalSecs: 5, userCacheMaxStaleSecs: 60}}",
    "test",
    environ={},
    read_file=lambda path: path,
)


class FakeUpstream:
    """Answers usersInfo from `roles`: name -> roles. `gate`, when set, holds answers back; `error` is raised."""

    def __init__(self, **roles):
        self.roles = roles
        self.asked = []
        self.error = None
        self.reply = None
        self.gate = None
        self.has_primary = True

    async def ask(self, db, command, *, prefers_primary):
        assert prefers_primary
        name = command["usersInfo"]["user"]
        self.asked.append(name)
        roles = self.roles.get(name)  # what the server knows when the question comes
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if self.reply is not None:
            return self.reply
        assert db == "admin"
        return {"ok": 1, "users": [] if roles is None else [document(name, roles)]}


def document(name, roles):
    entries = [{"role": role, "db": "shop"} for role in roles]
    return {
        "_id": f"admin.{name}",
        "user": name,
        "db": "admin",
        "userId": b"\1" * 16,
        "credentials": {},
        "roles": entries,
        "inheritedRoles": entries,
        "inheritedPrivileges": [],
        "authenticationRestrictions": [],
        "inheritedAuthenticationRestrictions": [],
    }


def roles_of(user):
    return [role.role for role in user.roles]


@pytest.fixture
def upstream():
    return FakeUpstream(ann=["read"], bob=["read"])


@pytest.fixture
def directory(upstream):
    return UpstreamDirectory(SETTINGS, upstream)


async def test_an_answer_holds_for_the_interval_and_no_longer(directory, upstream, autojump_clock):
    first = await directory.fetch(ANN)
    upstream.roles["ann"] = ["readWrite"]
    await trio.sleep(4.9)
    assert await directory.fetch(ANN) is first
    await trio.sleep(0.2)
    assert roles_of(await directory.fetch(ANN)) == ["readWrite"]
    assert upstream.asked == ["ann", "ann"]


async def test_what_is_at_hand_is_what_fetch_would_give_without_asking(directory, upstream, autojump_clock):
    nobody = UserRequest(UserName("nobody", "admin"))
    for request in (ANN, nobody):
        assert directory.at_hand(request) is None
        user = await directory.fetch(request)
        assert directory.at_hand(request) == (user,)
    await trio.sleep(4.9)
    assert directory.at_hand(ANN) is not None
    await trio.sleep(0.2)
    assert directory.at_hand(ANN) is None
    assert directory.at_hand(nobody) is None
    await directory.fetch(ANN)
    directory.invalidate()
    assert directory.at_hand(ANN) is None


async def test_unknown_users_are_remembered_like_known_ones(directory, upstream, autojump_clock):
    assert await directory.fetch(UserRequest(UserName("eve", "admin"))) is None
    assert await directory.fetch(UserRequest(UserName("eve", "admin"))) is None
    assert upstream.asked == ["eve"]


async def test_an_unknown_user_with_a_very_long_name_is_not_remembered(directory, upstream, autojump_clock):
    """Anybody may ask for names as long as a message before a login: memory would grow with each of them."""
    for length, kept in ((1000, True), (100_000, False)):
        name = UserRequest(UserName("x" * length, "admin"))
        before = len(upstream.asked)
        assert await directory.fetch(name) is None
        assert await directory.fetch(name) is None
        assert len(upstream.asked) == before + (1 if kept else 2)
        assert (name in directory._answers) is kept


async def test_two_questions_at_once_are_asked_once(directory, upstream):
    upstream.gate = trio.Event()
    found = []
    async with trio.open_nursery() as nursery:

        async def fetch():
            found.append(await directory.fetch(ANN))

        for _ in range(3):
            nursery.start_soon(fetch)
        await trio.testing.wait_all_tasks_blocked()
        upstream.gate.set()
    assert upstream.asked == ["ann"]
    assert found[0] is found[1] is found[2]


async def test_who_waited_for_a_question_that_failed_asks_again(directory, upstream):
    upstream.gate = trio.Event()
    upstream.error = UpstreamUnavailable("away")
    failed = []
    async with trio.open_nursery() as nursery:

        async def fetch():
            try:
                await directory.fetch(ANN)
            except UpstreamError as error:
                failed.append(error)

        nursery.start_soon(fetch)
        nursery.start_soon(fetch)
        await trio.testing.wait_all_tasks_blocked()
        upstream.gate.set()
    assert len(failed) == 2
    assert upstream.asked == ["ann", "ann"]


async def test_who_waited_for_a_question_that_was_cancelled_asks_again(directory, upstream):
    upstream.gate = trio.Event()
    found = []
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def leaves():
            with scope:
                await directory.fetch(ANN)

        async def stays():
            found.append(await directory.fetch(ANN))

        nursery.start_soon(leaves)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(stays)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        upstream.gate.set()
    assert roles_of(found[0]) == ["read"]


async def test_a_change_during_a_question_makes_it_be_asked_again(directory, upstream):
    """An answer that was on its way when the users changed may be older than the change."""
    upstream.gate = trio.Event()
    found = []
    async with trio.open_nursery() as nursery:

        async def fetch():
            found.append(await directory.fetch(ANN))

        nursery.start_soon(fetch)
        await trio.testing.wait_all_tasks_blocked()
        upstream.roles["ann"] = []
        directory.invalidate()
        upstream.gate.set()
    assert roles_of(found[0]) == []
    assert upstream.asked == ["ann", "ann"]


async def test_an_invalidation_forgets_every_answer(directory, upstream):
    await directory.fetch(ANN)
    await directory.fetch(BOB)
    directory.invalidate()
    upstream.roles.clear()
    assert await directory.fetch(ANN) is None
    assert await directory.fetch(BOB) is None


async def test_a_silent_directory_is_replaced_by_the_last_answer_for_a_bound_time(
    directory, upstream, autojump_clock, caplog
):
    first = await directory.fetch(ANN)
    upstream.error = UpstreamUnavailable("away")
    await trio.sleep(64)
    assert await directory.fetch(ANN) is first
    assert "ann@admin is taken from the cache" in caplog.text
    assert await directory.refresh([ANN]) == {ANN: first}
    await trio.sleep(2)
    with pytest.raises(UpstreamUnavailable):
        await directory.fetch(ANN)
    assert await directory.refresh([ANN]) == {}, "whoever is still logged in is denied now"


async def test_an_invalidation_leaves_no_last_answer(directory, upstream):
    await directory.fetch(ANN)
    directory.invalidate()
    upstream.error = UpstreamUnavailable("away")
    with pytest.raises(UpstreamUnavailable):
        await directory.fetch(ANN)


async def test_a_refresh_gives_the_same_object_for_a_user_that_has_not_changed(directory, upstream):
    ann, bob = await directory.fetch(ANN), await directory.fetch(BOB)
    upstream.roles["bob"] = ["readWrite"]
    current = await directory.refresh([ANN, BOB])
    assert current[ANN] is ann
    assert current[BOB] is not bob
    assert current[BOB] is await directory.fetch(BOB)


async def test_a_change_that_a_login_saw_first_is_still_a_change_for_older_sessions(
    directory, upstream, autojump_clock
):
    held = await directory.fetch(ANN)
    upstream.roles["ann"] = []
    await trio.sleep(5.1)
    newer = await directory.fetch(ANN)
    current = (await directory.refresh([ANN]))[ANN]
    assert current is newer
    assert current is not held


async def test_a_user_that_was_taken_away_and_given_back_is_the_new_one(directory, upstream):
    held = await directory.fetch(ANN)
    upstream.roles["ann"] = []
    await directory.refresh([ANN])
    upstream.roles["ann"] = ["read"]
    current = (await directory.refresh([ANN]))[ANN]
    assert current == held
    assert current is not held


async def test_the_cache_forgets_the_least_recently_used_first(directory, upstream, monkeypatch):
    monkeypatch.setattr(module, "MAX_CACHED_USERS", 2)
    for request in (ANN, BOB, ANN, UserRequest(UserName("eve", "admin")), ANN, BOB):
        await directory.fetch(request)
    assert upstream.asked == ["ann", "bob", "eve", "bob"]


@pytest.mark.parametrize(
    "reply",
    [
        {"ok": 0, "code": 13, "codeName": "Unauthorized", "errmsg": "no"},
        {"ok": 1, "users": [{"user": "ann"}]},
    ],
    ids=["refused", "not understood"],
)
async def test_an_answer_of_a_faked_upstream_that_is_no_user_is_no_answer(directory, upstream, reply):
    upstream.reply = reply
    with pytest.raises(UpstreamUnavailable, match="usersInfo|not understood"):
        await directory.fetch(ANN)


# ---- files ----------------------------------------------------------------------------------------------------------


def write(path, *names):
    entries = "".join(user_entry(name, "admin", [RoleName("read", "shop")], "pw") for name in names)
    path.write_text("users:\n" + entries)


async def reload(files: FileDirectory) -> None:
    """Take over what the file says now."""
    files.adopt(None, await files.read())


async def test_a_file_is_read_at_the_start_and_at_a_reload_only(tmp_path):
    path = tmp_path / "users.yaml"
    write(path, "ann")
    files = FileDirectory(str(path))
    ann = await files.fetch(ANN)
    write(path, "bob")
    files.invalidate()
    assert await files.fetch(ANN) is ann
    assert await files.refresh([ANN, BOB]) == {ANN: ann, BOB: None}
    await reload(files)
    assert await files.fetch(ANN) is None
    assert (await files.fetch(BOB)).name == BOB.name
    path.write_text("users: [")
    with pytest.raises(ConfigError):
        await reload(files)
    assert (await files.fetch(BOB)).name == BOB.name


async def test_roles_that_do_not_exist_are_warned_of_at_the_start_and_at_a_reload(tmp_path, caplog):
    path = tmp_path / "users.yaml"
    write(path, "ann")
    files = FileDirectory(str(path))
    assert not caplog.messages
    path.write_text("users: [{user: CN=x, db: $external, roles: [{role: gone, db: shop}]}]")
    expected = f"security.userFile {path}: the role gone@shop does not exist and grants nothing"
    await reload(files)
    assert caplog.messages == [expected]
    FileDirectory(str(path))
    assert caplog.messages == [expected] * 2


def test_the_settings_choose_the_directory(tmp_path, upstream):
    assert isinstance(open_directory(SETTINGS, upstream), UpstreamDirectory)
    path = tmp_path / "users.yaml"
    text = f"{{upstream: {{uri: 'mongodb://h'}}, security: {{userDirectory: file, userFile: '{path}'}}}}"
    settings = parse_settings(text, "test", environ={}, read_file=lambda p: p)
    with pytest.raises(ConfigError, match="security.userFile: cannot read"):
        open_directory(settings, upstream)
    write(path, "ann")
    assert isinstance(open_directory(settings, upstream), FileDirectory)


# ---- users whose roles came with the credential ------------------------------------------------------------------------

EXTERNAL = UserName("CN=ann", "$external")
READ, GONE = RoleName("read", "shop"), RoleName("gone", "admin")


class FakeRoles(FakeUpstream):
    """Answers rolesInfo: only `read` exists."""

    has_primary = True

    async def ask(self, db, command, *, prefers_primary):
        self.asked.append([role["role"] for role in command["rolesInfo"]])
        await trio.lowlevel.checkpoint()
        find = {"resource": {"db": "shop", "collection": ""}, "actions": ["find"]}
        fields = {"role": "read", "db": "shop", "inheritedRoles": [], "inheritedPrivileges": [find]}
        return {"ok": 1, "roles": [{**fields, "inheritedAuthenticationRestrictions": []}]}


async def test_asserted_roles_need_no_user_and_only_existing_ones_count():
    upstream = FakeRoles()
    user = await UpstreamDirectory(SETTINGS, upstream).fetch(UserRequest(EXTERNAL, (READ, GONE)))
    assert upstream.asked == [["read", "gone"]]
    assert (user.name, user.roles, user.inherited_roles) == (EXTERNAL, (READ,), (READ,))
    assert user.request == UserRequest(EXTERNAL, (READ, GONE))
    assert user.privileges


async def test_no_asserted_role_is_a_user_without_privileges_and_nobody_is_asked():
    upstream = FakeRoles()
    user = await UpstreamDirectory(SETTINGS, upstream).fetch(UserRequest(EXTERNAL, ()))
    assert (user.roles, dict(user.privileges), upstream.asked) == ((), {}, [])


async def test_a_file_resolves_asserted_roles_too(tmp_path):
    path = tmp_path / "users.yaml"
    write(path, "ann")
    files = FileDirectory(str(path))
    request = UserRequest(EXTERNAL, (READ, GONE))
    user = await files.fetch(request)
    assert (user.name, user.roles) == (EXTERNAL, (READ,))
    assert user.privileges
    assert await files.fetch(request) is user
    assert (await files.fetch(UserRequest(EXTERNAL, ()))).privileges == {}


class FakeRoleNames:
    """Answers `rolesInfo: 1` from `names`; `error` is raised."""

    def __init__(self, *names):
        self.names = list(names)
        self.asked = 0
        self.error = None

    has_primary = True

    async def ask(self, db, command, *, prefers_primary):
        assert (db, command) == ("admin", {"rolesInfo": 1})
        self.asked += 1
        names = list(self.names)
        await trio.sleep(0.1)
        if self.error is not None:
            raise self.error
        return {"ok": 1, "roles": [{"role": name, "db": "admin"} for name in names]}


async def test_many_who_ask_for_the_roles_names_at_once_ask_the_deployment_once(autojump_clock):
    upstream = FakeRoleNames("cn=dba", "auditor")
    directory = UpstreamDirectory(SETTINGS, upstream)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(directory.admin_role_names)
    assert upstream.asked == 1
    first = await directory.admin_role_names()
    assert first == {"cn=dba", "auditor"}
    await trio.sleep(6)
    assert await directory.admin_role_names() is first
    assert upstream.asked == 2


async def test_a_role_made_while_its_names_are_asked_for_is_among_them(autojump_clock):
    upstream = FakeRoleNames("a")
    directory = UpstreamDirectory(SETTINGS, upstream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(directory.admin_role_names)
        await trio.sleep(0.05)
        upstream.names.append("b")
        directory.invalidate()
    assert await directory.admin_role_names() == {"a", "b"}
    assert upstream.asked == 2


async def test_roles_names_hold_while_the_deployment_is_silent_and_not_for_ever(autojump_clock):
    upstream = FakeRoleNames("a")
    directory = UpstreamDirectory(SETTINGS, upstream)
    assert await directory.admin_role_names() == {"a"}
    upstream.error = UpstreamUnavailable("gone")
    await trio.sleep(60)
    assert await directory.admin_role_names() == {"a"}
    await trio.sleep(6)
    with pytest.raises(UpstreamUnavailable):
        await directory.admin_role_names()


async def test_a_files_roles_on_admin_are_named_and_no_others(tmp_path):
    path = tmp_path / "users.yaml"
    path.write_text(
        "users: []\nroles:\n"
        "- {role: 'cn=dba,ou=groups', db: admin, privileges: [], roles: []}\n"
        "- {role: other, db: shop, privileges: [], roles: []}\n"
    )
    directory = FileDirectory(str(path))
    assert await directory.admin_role_names() == {"cn=dba,ou=groups"}
    path.write_text("users: []\nroles:\n- {role: new, db: admin, privileges: [], roles: []}\n")
    await reload(directory)
    assert await directory.admin_role_names() == {"new"}


async def test_everybody_in_a_file_is_at_hand_and_who_is_not_in_it_too(tmp_path):
    path = tmp_path / "users.yaml"
    write(path, "ann")
    directory = FileDirectory(str(path))
    assert directory.at_hand(ANN) == (await directory.fetch(ANN),)
    assert directory.at_hand(ANN) != (None,)
    assert directory.at_hand(UserRequest(UserName("nobody", "admin"))) == (None,)


async def test_users_are_answered_for_while_the_file_is_read_again(tmp_path, monkeypatch):
    path = tmp_path / "users.yaml"
    write(path, "ann")
    files = FileDirectory(str(path))
    ann = await files.fetch(ANN)
    write(path, "bob")
    may_read, reads = threading.Event(), module._read_user_file

    def slow(*names):
        assert may_read.wait(10)
        return reads(*names)

    monkeypatch.setattr(module, "_read_user_file", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reload, files)
        await trio.testing.wait_all_tasks_blocked()
        assert await files.fetch(ANN) is ann
        assert await files.fetch(BOB) is None
        may_read.set()
    assert await files.fetch(ANN) is None
    assert (await files.fetch(BOB)).name == BOB.name


async def test_without_a_primary_the_last_answer_is_used_at_once_until_it_is_too_old(
    directory, upstream, autojump_clock
):
    assert roles_of(await directory.fetch(ANN)) == ["read"]
    upstream.has_primary = False
    upstream.error = UpstreamUnavailable("no primary")
    await trio.sleep(64)
    assert roles_of(await directory.fetch(ANN)) == ["read"]
    assert upstream.asked == ["ann"], "nobody waits for an answer"
    await trio.sleep(2)
    with pytest.raises(UpstreamError):
        await directory.fetch(ANN)
    upstream.error = None
    upstream.roles["ann"] = []
    assert roles_of(await directory.fetch(ANN)) == []


async def test_when_there_is_a_primary_again_it_is_asked(directory, upstream, autojump_clock):
    await directory.fetch(ANN)
    upstream.has_primary = False
    await trio.sleep(6)
    await directory.fetch(ANN)
    upstream.has_primary = True
    upstream.roles["ann"] = ["readWrite"]
    assert roles_of(await directory.fetch(ANN)) == ["readWrite"]


async def test_who_is_not_known_is_asked_for_without_a_primary_too(directory, upstream):
    upstream.has_primary = False
    assert roles_of(await directory.fetch(BOB)) == ["read"]
    directory.invalidate()
    await directory.fetch(BOB)
    assert upstream.asked == ["bob", "bob"]
