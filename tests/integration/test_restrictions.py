"""Authentication restrictions: from where, and to which address, mongod and mongoguard let a user log in.

Every row runs on the plain mongod too, over the same kinds of connection.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.rawwire import RawConnection
from tests.servers import Client, Guard, Mongod, password_of

ADDRESSES = "127.0.0.1,127.0.0.2,::1"
NAMES = itertools.count()
HOME, OTHER_SOURCE, OTHER_SERVER, V6, UNIX = "home", "other source", "other server", "IPv6", "Unix socket"
ROUTES: dict[str, tuple[str, str]] = {
    HOME: ("127.0.0.1", "127.0.0.1"),
    OTHER_SOURCE: ("127.0.0.2", "127.0.0.1"),
    OTHER_SERVER: ("127.0.0.1", "127.0.0.2"),
    V6: ("::1", "::1"),
}
"""Name -> (the client's address, the server's)."""
V4 = {HOME, OTHER_SOURCE, OTHER_SERVER}
ALL = {*V4, V6, UNIX}


class Restricted(Mongod):
    """A mongod on two IPv4 addresses, an IPv6 one and a Unix socket."""

    def _spawn(self, arguments: Sequence[str], environment: Any = None) -> None:
        wide = [
            ADDRESSES if before == "--bind_ip" else one
            for before, one in itertools.pairwise(["", *arguments])
        ]
        super()._spawn([*wide, "--ipv6", "--unixSocketPrefix", str(self.directory)], environment)


class Through(RawConnection):
    """A connection by one of the routes."""

    def __init__(self, server: Guard | Mongod, route: str) -> None:
        if route == UNIX:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(20)
            self._socket.connect(str(server.directory / f"mongodb-{server.port}.sock"))
        else:
            source, target = ROUTES[route]
            self._socket = socket.create_connection((target, server.port), 20, (source, 0))
        self._request_ids = itertools.count(1)


@pytest.fixture(scope="module")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A server of our own: `standalone` listens on one address."""
    server = Restricted(tmp_path_factory.mktemp("restricted"))
    try:
        yield server.start().wait()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def mongoguard(mongod: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """In front of it, on the same kinds of address."""
    directory = tmp_path_factory.mktemp("restricted_guard")
    net = {
        "bindIp": ADDRESSES,
        "ipv6": True,
        "unixDomainSocket": {"enabled": True, "pathPrefix": str(directory)},
    }
    guard = Guard(directory, mongod, {"net": net})
    try:
        yield guard.start().wait()
    finally:
        assert guard.stop() == 0


@pytest.fixture(params=["mongod", "mongoguard"])
def server(request: pytest.FixtureRequest, mongod: Mongod, mongoguard: Guard) -> Guard | Mongod:
    """The same users, without mongoguard and through it."""
    return mongod if request.param == "mongod" else mongoguard


@pytest.fixture
def root(server: Guard | Mongod) -> Iterator[Client]:
    """The administrator, on the server under test: changes made through mongoguard hold at once."""
    with server.client() as client:
        yield client


def new_user(root: Client, roles: Sequence[Any] = (), **fields: Any) -> str:
    """A user nobody has had."""
    name = f"restricted{next(NAMES)}"
    root.admin.command("createUser", name, pwd=password_of(name), roles=list(roles), **fields)
    return name


def new_role(root: Client, restrictions: list[Any], roles: Sequence[Any] = ()) -> str:
    """A role nobody has had."""
    name = f"restrictedRole{next(NAMES)}"
    root.admin.command(
        "createRole", name, privileges=[], roles=list(roles), authenticationRestrictions=restrictions
    )
    return name


def logs_in(server: Guard | Mongod, user: str, route: str) -> bool:
    """Whether that login succeeds; a refused one must say no more than any other."""
    with Through(server, route) as raw:
        try:
            raw.log_in(user, password_of(user))
        except AssertionError as error:
            assert "'code': 18" in str(error)
            assert "'Authentication failed.'" in str(error)
            assert raw.command("admin", {"features": 1})["code"] == 13
            return False
        return bool(raw.command("admin", {"features": 1})["ok"])


def source(*networks: str) -> dict[str, Any]:
    """A restriction of the client's address."""
    return {"clientSource": list(networks)}


def address(*networks: str) -> dict[str, Any]:
    """A restriction of the server's address."""
    return {"serverAddress": list(networks)}


ROWS: dict[str, tuple[list[dict[str, Any]], set[str]]] = {
    "none": ([], ALL),
    "one client": ([source("127.0.0.1")], {HOME, OTHER_SERVER}),
    "another client": ([source("127.0.0.2")], {OTHER_SOURCE}),
    "a client by its net": ([source("127.0.0.2/32")], {OTHER_SOURCE}),
    "either client": ([source("127.0.0.1", "127.0.0.2")], V4),
    "host bits are ignored": ([source("127.0.0.77/8")], V4),
    "a far client": ([source("192.0.2.1")], set()),
    "a far net": ([source("10.0.0.0/8")], set()),
    "every IPv4 client": ([source("0.0.0.0/0")], V4),
    "every IPv6 client": ([source("::/0")], {V6}),
    "every client with an address": ([source("0.0.0.0/0", "::/0")], {*V4, V6}),
    "the IPv6 client": ([source("::1")], {V6}),
    "the IPv6 client by its net": ([source("::/64")], {V6}),
    "an IPv4 client written as IPv6": ([source("::ffff:127.0.0.1")], set()),
    "no client": ([{"clientSource": []}], set()),
    "one server address": ([address("127.0.0.1")], {HOME, OTHER_SOURCE}),
    "another server address": ([address("127.0.0.2")], {OTHER_SERVER}),
    "the IPv6 server address": ([address("::1")], {V6}),
    "every IPv4 server address": ([address("0.0.0.0/0")], V4),
    "a far server address": ([address("192.0.2.1")], set()),
    "no server address": ([{"serverAddress": []}], set()),
    "both, met": ([{**source("127.0.0.1"), **address("127.0.0.2")}], {OTHER_SERVER}),
    "both, never met": ([{**source("127.0.0.1"), **address("192.0.2.1")}], set()),
    "either document": ([source("127.0.0.2"), address("127.0.0.2")], {OTHER_SOURCE, OTHER_SERVER}),
    "either document, one never met": ([source("192.0.2.1"), source("127.0.0.1")], {HOME, OTHER_SERVER}),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_users_own_restrictions_say_from_where(server: Guard | Mongod, root: Client, row: str) -> None:
    restrictions, expected = ROWS[row]
    user = new_user(root, authenticationRestrictions=restrictions)
    assert {route for route in ALL if logs_in(server, user, route)} == expected


SEVERAL: dict[str, tuple[list[Any], list[list[Any]], bool, set[str]]] = {
    # own restrictions, those of its roles, whether the roles are inherited one by another, and from where it logs in
    "a role's": ([], [[source("127.0.0.2")]], False, {OTHER_SOURCE}),
    "an inherited role's": ([], [[source("127.0.0.2")], []], True, {OTHER_SOURCE}),
    "own and a role's": ([source("127.0.0.1")], [[address("127.0.0.2")]], False, {OTHER_SERVER}),
    "own against a role's": ([source("127.0.0.1")], [[source("127.0.0.2")]], False, set()),
    "two roles'": ([], [[source("127.0.0.0/8")], [address("127.0.0.2")]], False, {OTHER_SERVER}),
    "two roles' that contradict": ([], [[source("127.0.0.1")], [source("127.0.0.2")]], False, set()),
    "a role's and its heir's": (
        [],
        [[source("127.0.0.0/8")], [address("127.0.0.1")]],
        True,
        {HOME, OTHER_SOURCE},
    ),
    "own wider than a role's": ([source("0.0.0.0/0", "::/0")], [[source("::1")]], False, {V6}),
    "roles without any": ([], [[], []], False, ALL),
}


@pytest.mark.parametrize("row", SEVERAL)
def test_every_array_of_a_user_and_of_all_its_roles_must_be_met(
    server: Guard | Mongod, root: Client, row: str
) -> None:
    own, of_roles, inherited, expected = SEVERAL[row]
    roles: list[str] = []
    for restrictions in of_roles:
        name = new_role(root, restrictions, roles if inherited else ())
        roles = [name] if inherited else [*roles, name]
    user = new_user(root, roles, authenticationRestrictions=own)
    assert {route for route in ALL if logs_in(server, user, route)} == expected


# ---- while logged in ------------------------------------------------------------------------------------------------

UNMET, MET = [source("192.0.2.1")], [source("127.0.0.1")]


def test_a_restriction_that_comes_up_logs_out_on_the_next_command(
    server: Guard | Mongod, root: Client
) -> None:
    user = new_user(root)
    with Through(server, HOME) as home, Through(server, OTHER_SOURCE) as other:
        for raw in (home, other):
            raw.log_in(user, password_of(user))
        root.admin.command("updateUser", user, authenticationRestrictions=MET)
        assert home.command("admin", {"features": 1})["ok"] == 1
        refused = other.command("admin", {"features": 1})
        assert (refused["code"], refused["errmsg"]) == (13, "command features requires authentication")
        root.admin.command("updateUser", user, authenticationRestrictions=[])
        assert other.command("admin", {"features": 1})["code"] == 13, "who was logged out stays so"
        assert home.command("admin", {"features": 1})["ok"] == 1
        other.log_in(user, password_of(user))


@pytest.mark.parametrize("how", ["granted", "changed", "inherited"])
def test_a_roles_restriction_that_comes_up_logs_out_on_the_next_command(
    server: Guard | Mongod, root: Client, how: str
) -> None:
    role, unmet = new_role(root, []), new_role(root, UNMET)
    user, bystander = new_user(root, [role]), new_user(root)
    with Through(server, HOME) as raw, Through(server, HOME) as other:
        raw.log_in(user, password_of(user))
        other.log_in(bystander, password_of(bystander))
        match how:
            case "granted":
                root.admin.command("grantRolesToUser", user, roles=[unmet])
            case "changed":
                root.admin.command("updateRole", role, authenticationRestrictions=UNMET)
            case _:
                root.admin.command("grantRolesToRole", role, roles=[unmet])
        refused = raw.command("admin", {"features": 1})
        assert (refused["code"], refused["errmsg"]) == (13, "command features requires authentication")
        assert other.command("admin", {"features": 1})["ok"] == 1


def test_not_even_root_logs_in_from_elsewhere(server: Guard | Mongod, root: Client) -> None:
    user = new_user(root, ["root"], authenticationRestrictions=UNMET)
    assert not logs_in(server, user, HOME)


def test_restrictions_are_shown_as_they_are_stored(server: Guard | Mongod, root: Client) -> None:
    role = new_role(root, [source("127.0.0.9/8")])
    user = new_user(root, [role], authenticationRestrictions=[source("127.0.0.1")])
    shown = root.admin.command("usersInfo", user, showAuthenticationRestrictions=True)["users"][0]
    assert shown["authenticationRestrictions"] == [source("127.0.0.1")]
    assert shown["inheritedAuthenticationRestrictions"] == [[source("127.0.0.9/8")]]


def test_the_sockets_are_where_they_should_be(mongod: Mongod, mongoguard: Guard) -> None:
    for one in (mongod, mongoguard):
        assert Path(one.directory / f"mongodb-{one.port}.sock").is_socket()
