"""Changed users and roles: effective with the next command of every connection, on mongod and through mongoguard."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
from bson import Int64

from tests.rawwire import RawConnection
from tests.servers import Client, Guard, Mongod, password_of

NAMES = itertools.count()
FIND = {"find": "changes"}
INSERT: dict[str, Any] = {"insert": "changes", "documents": [{}]}
READ = [{"role": "read", "db": "shop"}]
FIND_PRIVILEGE = [{"resource": {"db": "shop", "collection": "changes"}, "actions": ["find"]}]


@pytest.fixture(params=["mongod", "mongoguard"])
def server(request: pytest.FixtureRequest, guard: Guard) -> Guard | Mongod:
    """The same deployment, without mongoguard and through it."""
    return guard.upstream if request.param == "mongod" else guard


@pytest.fixture
def root(server: Guard | Mongod) -> Iterator[Client]:
    """The administrator, on the server under test."""
    with server.client() as client:
        yield client


class Changing:
    """A user with a role of its own, logged in on three connections."""

    def __init__(self, server: Guard | Mongod, root: Client) -> None:
        number = next(NAMES)
        self.user, self.role = f"changing{number}", f"changingRole{number}"
        self.root = root.admin
        self.root.command("createRole", self.role, privileges=[], roles=[])
        self.create()
        with ExitStack() as stack:
            self.connections = [stack.enter_context(RawConnection(server.address)) for _ in range(3)]
            for raw in self.connections:
                raw.log_in(self.user, password_of(self.user))
            self.close = stack.pop_all().close

    def create(self) -> None:
        """createUser, with its role."""
        self.root.command("createUser", self.user, pwd=password_of(self.user), roles=[self.role])

    def codes(self, command: Mapping[str, Any]) -> set[int]:
        """What each connection answers; 0 when it works."""
        replies = [raw.command("shop", command) for raw in self.connections]
        return {0 if reply["ok"] else reply["code"] for reply in replies}

    def logged_out(self) -> bool:
        """Whether every connection is."""
        replies = [raw.command("admin", {"features": 1}) for raw in self.connections]
        told = {reply.get("errmsg") for reply in replies}
        assert len(told) == 1, told
        return told == {"command features requires authentication"}


@pytest.fixture
def changing(server: Guard | Mongod, root: Client) -> Iterator[Changing]:
    """A new one for each test."""
    one = Changing(server, root)
    assert one.codes(FIND) == {13}
    yield one
    one.close()


Change = Callable[[Changing], Any]


def run(*command: Any, **fields: Any) -> Change:
    """A command about the user or the role."""
    return lambda c: c.root.command(command[0], getattr(c, command[1]), **fields)


def granted_and_taken() -> dict[str, tuple[Change, Change]]:
    """Name -> (what grants find on shop.changes, what takes it back)."""
    return {
        "grantRolesToUser": (
            run("grantRolesToUser", "user", roles=READ),
            run("revokeRolesFromUser", "user", roles=READ),
        ),
        "updateUser": (run("updateUser", "user", roles=READ), run("updateUser", "user", roles=[])),
        "grantRolesToRole": (
            run("grantRolesToRole", "role", roles=READ),
            run("revokeRolesFromRole", "role", roles=READ),
        ),
        "grantPrivilegesToRole": (
            run("grantPrivilegesToRole", "role", privileges=FIND_PRIVILEGE),
            run("revokePrivilegesFromRole", "role", privileges=FIND_PRIVILEGE),
        ),
        "updateRole": (
            run("updateRole", "role", privileges=FIND_PRIVILEGE),
            run("updateRole", "role", privileges=[]),
        ),
        "updateRole's roles": (run("updateRole", "role", roles=READ), run("updateRole", "role", roles=[])),
        "dropRole": (run("updateRole", "role", roles=READ), run("dropRole", "role")),
    }


@pytest.mark.parametrize("how", granted_and_taken())
def test_a_right_comes_and_goes_with_the_next_command_of_every_connection(
    changing: Changing, how: str
) -> None:
    grant, take = granted_and_taken()[how]
    grant(changing)
    assert changing.codes(FIND) == {0}
    assert changing.codes(INSERT) == {13}
    take(changing)
    assert changing.codes(FIND) == {13}
    assert not changing.logged_out()


def test_an_inherited_role_that_changes_changes_its_heirs(changing: Changing) -> None:
    base = f"{changing.role}Base"
    changing.root.command("createRole", base, privileges=[], roles=[])
    changing.root.command("grantRolesToRole", changing.role, roles=[base])
    assert changing.codes(FIND) == {13}
    changing.root.command("updateRole", base, privileges=FIND_PRIVILEGE)
    assert changing.codes(FIND) == {0}
    changing.root.command("dropRole", base)
    assert changing.codes(FIND) == {13}


def test_a_role_made_anew_grants_what_it_says_now_to_nobody_of_before(changing: Changing) -> None:
    changing.root.command("dropRole", changing.role)
    changing.root.command("createRole", changing.role, privileges=FIND_PRIVILEGE, roles=[])
    assert changing.codes(FIND) == {13}


def test_a_dropped_user_is_logged_out(changing: Changing) -> None:
    changing.root.command("dropUser", changing.user)
    assert changing.logged_out()


def test_a_user_dropped_and_made_again_is_logged_out(changing: Changing, server: Guard | Mongod) -> None:
    changing.root.command("dropUser", changing.user)
    changing.create()
    assert changing.logged_out()
    with RawConnection(server.address) as raw:
        raw.log_in(changing.user, password_of(changing.user))


def test_a_new_password_logs_nobody_out(changing: Changing, server: Guard | Mongod) -> None:
    changing.root.command("updateUser", changing.user, pwd="another-pw")
    assert not changing.logged_out()
    with RawConnection(server.address) as raw, pytest.raises(AssertionError, match="Authentication failed"):
        raw.log_in(changing.user, password_of(changing.user))
    with RawConnection(server.address) as raw:
        raw.log_in(changing.user, "another-pw")


def test_a_user_dropped_on_the_way_is_asked_for_nothing_else(changing: Changing) -> None:
    """connectionStatus and logout of who is no more."""
    changing.root.command("grantRolesToUser", changing.user, roles=READ)
    assert changing.codes(FIND) == {0}
    changing.root.command("dropUser", changing.user)
    for raw in changing.connections:
        assert raw.command("admin", {"connectionStatus": 1})["authInfo"]["authenticatedUsers"] == []
        assert raw.command("admin", {"logout": 1})["code"] == 13
        assert raw.command("shop", FIND)["code"] == 13


@pytest.mark.parametrize("command", ["dropAllUsersFromDatabase", "dropAllRolesFromDatabase"])
def test_dropping_all_of_a_database_counts_for_everybody_of_it(
    server: Guard | Mongod, root: Client, command: str
) -> None:
    db = f"changes{next(NAMES)}"
    privilege = {"resource": {"db": db, "collection": ""}, "actions": ["find"]}
    root[db].command("createRole", "reader", privileges=[privilege], roles=[])
    root[db].command("createUser", "one", pwd=password_of("one"), roles=["reader"])
    with RawConnection(server.address) as raw:
        raw.log_in("one", password_of("one"), db)
        assert raw.command(db, FIND)["ok"] == 1
        assert root[db].command(command)["ok"] == 1
        refused = raw.command(db, FIND)
        assert refused["code"] == 13
        assert ("requires authentication" in refused["errmsg"]) is (command == "dropAllUsersFromDatabase")


def test_an_open_cursor_ends_with_the_right_that_opened_it(changing: Changing) -> None:
    changing.root.command("grantRolesToUser", changing.user, roles=[{"role": "readWrite", "db": "shop"}])
    first, second, _third = changing.connections
    first.command("shop", {"insert": "changes", "documents": [{}, {}, {}]})
    cursor = first.command("shop", {**FIND, "batchSize": 1})["cursor"]["id"]
    more = {"getMore": Int64(cursor), "collection": "changes", "batchSize": 1}
    assert second.command("shop", more)["ok"] == 1
    changing.root.command("updateUser", changing.user, roles=[])
    refused = first.command("shop", more)
    assert (refused["code"], "not authorized for getMore" in refused["errmsg"]) == (13, True)
    changing.root.command("updateUser", changing.user, roles=READ)
    assert first.command("shop", more)["ok"] == 1, "a refused getMore leaves the cursor open"
