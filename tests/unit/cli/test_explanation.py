"""`mongoguard explain`: the proxy's own decision, with the roles behind it."""

import contextlib
import json

import pytest

from mongoguard.authz.role_graph import RoleGraph
from mongoguard.cli.explain import as_text
from mongoguard.cli.explanation import explain, parse_command, smallest_builtin_role
from mongoguard.cli.main import main
from mongoguard.errors import ConfigError
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.privilege import Privilege
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern
from mongoguard.model.user import Role, User

ORDERS = ResourcePattern.for_exact_namespace("shop", "orders")
CLERK, AUDITOR = RoleName("clerk", "admin"), RoleName("auditor", "admin")
GRAPH = RoleGraph(
    [
        Role(AUDITOR, (Privilege(ORDERS, frozenset({"find"})),)),
        Role(CLERK, (Privilege(ORDERS, frozenset({"insert"})),), (AUDITOR,)),
    ]
)


def user(*roles) -> User:
    resolved = GRAPH.resolve(roles)
    return User(
        UserName("alice", "admin"),
        roles=roles,
        inherited_roles=resolved.roles,
        privileges=resolved.privileges,
    )


def why(who, text, db="shop", **kwargs):
    return explain(who, GRAPH, parse_command(text, db), **kwargs)


def test_a_held_privilege_names_the_path_of_roles_that_grants_it():
    explanation = why(user(CLERK), '{"find": "orders"}')
    assert explanation.allowed
    (grant,) = explanation.granted
    assert grant.privilege == Privilege(ORDERS, frozenset({"find"}))
    assert grant.paths == ((CLERK, AUDITOR),)
    assert explanation.missing == ()
    assert "by auditor@admin <- clerk@admin" in as_text(explanation)


def test_a_missing_privilege_names_the_smallest_builtin_role():
    explanation = why(user(AUDITOR), '{"insert": "orders", "documents": [{"a": 1}]}')
    assert not explanation.allowed
    assert explanation.missing == (Privilege(ORDERS, frozenset({"insert"})),)
    assert explanation.suggestion == RoleName("readWrite", "shop")
    text = as_text(explanation)
    assert text.startswith("insert on shop for alice@admin: DENIED\n")
    assert 'lacks insert on {"db": "shop", "collection": "orders"}' in text
    assert text.endswith("smallest built-in role that grants it: readWrite@shop")


def test_a_builtin_role_is_named_too():
    explanation = why(user(RoleName("read", "shop")), '{"find": "customers"}')
    assert explanation.granted[0].paths == ((RoleName("read", "shop"),),)


@pytest.mark.parametrize(
    ("resource", "actions", "role"),
    [
        (ORDERS, {"find"}, RoleName("read", "shop")),
        (ORDERS, {"find", "remove"}, RoleName("readWrite", "shop")),
        (ResourcePattern.for_database("shop"), {"createUser"}, RoleName("userAdmin", "shop")),
        (ResourcePattern.for_database("shop"), {"createUser", "find"}, RoleName("dbOwner", "shop")),
        (CLUSTER, {"serverStatus"}, RoleName("clusterMonitor", "admin")),
        (CLUSTER, {"advanceClusterTime"}, RoleName("__system", "admin")),
        (ORDERS, {"noSuchAction"}, RoleName("__system", "admin")),
    ],
)
def test_the_smallest_role_grants_no_more_than_it_must(resource, actions, role):
    found = smallest_builtin_role([Privilege(resource, frozenset(actions))])
    assert found == (None if role.role == "__system" else role)


def test_a_command_that_needs_no_privilege_is_allowed():
    explanation = why(user(), '{"ping": 1}')
    assert explanation.allowed
    assert "needs no privilege" in as_text(explanation)


@pytest.mark.parametrize(
    ("text", "db", "part"),
    [
        ('{"nonsense": 1}', "shop", "knows no command of this name"),
        ('{"serverStatus": 1}', "a.b", "the command is not valid: Invalid database name"),
        ('{"find": 3}', "shop", "the command is not valid"),
        ('{"getParameter": 1}', "shop", "admin database only"),
    ],
)
def test_what_does_not_depend_on_privileges_is_refused_with_its_reason(text, db, part):
    explanation = why(user(RoleName("root", "admin")), text, db)
    assert not explanation.allowed
    assert part in explanation.refusal
    assert part in as_text(explanation)


def test_users_of_a_file_are_not_changed_by_commands():
    text = '{"dropUser": "bob"}'
    root = user(RoleName("root", "admin"))
    assert why(root, text).allowed
    assert "security.userDirectory: file" in why(root, text, relays_user_management=False).refusal


def test_generic_arguments_are_explained_too():
    text = '{"find": "orders", "$audit": {"$impersonatedUsers": []}}'
    explanation = why(user(AUDITOR), text)
    assert not explanation.allowed
    assert explanation.missing == (Privilege(CLUSTER, frozenset({"impersonate"})),)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "3", '{"find": "a", "find": "b"}', '{"a": {"$oid": "x"}}']
)
def test_a_command_that_is_no_json_object_is_refused(text):
    with pytest.raises(ConfigError, match="--command: expected a JSON object"):
        parse_command(text, "shop")


def test_extended_json_is_understood():
    command = parse_command('{"getMore": {"$numberLong": "7"}, "collection": "orders"}', "shop")
    assert command.name == "getMore"
    assert command.body.type_name("getMore") == "long"


USERS = """
users:
  - {user: alice, db: $external, roles: [{role: auditor, db: admin}]}
roles:
  - role: auditor
    db: admin
    privileges: [{resource: {db: shop, collection: orders}, actions: [find]}]
    roles: []
"""


@pytest.fixture
def file_config(tmp_path):
    (tmp_path / "users.yaml").write_text(USERS)
    path = tmp_path / "m.yaml"
    path.write_text(
        "upstream: {uri: 'mongodb://h'}\n"
        f"security: {{userDirectory: file, userFile: {tmp_path}/users.yaml}}"
    )
    return str(path)


def run(config, *arguments):
    return main(["explain", "-f", config, "--user", "alice@$external", "--db", "shop", *arguments])


def test_a_file_directory_needs_no_upstream(file_config, capsys):
    assert run(file_config, "--command", '{"find": "orders"}') == 0
    assert capsys.readouterr().out.splitlines() == [
        "find on shop for alice@$external: ALLOWED",
        '  has find on {"db": "shop", "collection": "orders"}',
        "      by auditor@admin",
    ]


def test_json_holds_the_same(file_config, capsys):
    assert run(file_config, "--command", '{"find": "customers"}', "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "user": "alice",
        "db": "$external",
        "command": "find",
        "commandDb": "shop",
        "allowed": False,
        "refusal": None,
        "granted": [],
        "missing": [{"resource": {"db": "shop", "collection": "customers"}, "actions": ["find"]}],
        "excess": [],
        "smallestBuiltinRole": "read@shop",
    }


def test_an_unknown_user_is_a_failure(file_config, capsys):
    arguments = ["-f", file_config, "--user", "bob@admin", "--db", "shop", "--command", '{"ping": 1}']
    assert main(["explain", *arguments]) == 1
    assert capsys.readouterr().err == "mongoguard: there is no user bob@admin\n"


USER_DOCUMENT = {
    "_id": "admin.alice",
    "userId": b"0123456789abcdef",
    "user": "alice",
    "db": "admin",
    "credentials": {},
    "roles": [{"role": "auditor", "db": "admin"}],
    "inheritedRoles": [{"role": "auditor", "db": "admin"}],
    "inheritedPrivileges": [{"resource": {"db": "shop", "collection": "orders"}, "actions": ["find"]}],
    "authenticationRestrictions": [],
    "inheritedAuthenticationRestrictions": [],
}
ROLE_DOCUMENT = {
    "role": "auditor",
    "db": "admin",
    "isBuiltin": False,
    "roles": [],
    "inheritedRoles": [],
    "privileges": [{"resource": {"db": "shop", "collection": "orders"}, "actions": ["find"]}],
    "authenticationRestrictions": [],
}


@pytest.mark.parametrize("ok", [1, 0])
def test_an_upstream_directory_is_asked_for_the_user_and_the_roles(monkeypatch, tmp_path, capsys, ok):
    asked = []

    class Upstream:
        async def ask(self, db, command):
            asked.append((db, next(iter(command))))
            if "usersInfo" in command:
                return {"ok": 1, "users": [USER_DOCUMENT]}
            return {"ok": ok, "roles": [ROLE_DOCUMENT], "errmsg": "not authorized"}

    @contextlib.asynccontextmanager
    async def open_upstream(_settings):
        yield Upstream()

    monkeypatch.setattr("mongoguard.server.upstream.open_upstream", open_upstream)
    (tmp_path / "m.yaml").write_text("upstream: {uri: 'mongodb://h'}")
    arguments = ["--user", "alice@admin", "--db", "shop", "--command", '{"find": "orders"}']
    status = main(["explain", "-f", str(tmp_path / "m.yaml"), *arguments])
    captured = capsys.readouterr()
    assert asked == [("admin", "usersInfo"), ("admin", "rolesInfo")]
    if ok:
        assert status == 0
        assert "by auditor@admin" in captured.out
    else:
        assert status == 1
        assert captured.err == "mongoguard: rolesInfo failed upstream: not authorized\n"
