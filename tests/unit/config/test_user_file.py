"""The `file` user directory: what is read, and that every mistake is named with its line."""

from __future__ import annotations

import base64

import pytest

from mongoguard.config.user_file import UserFile, parse_user_file
from mongoguard.errors import ConfigError
from mongoguard.model.names import RoleName, UserName
from mongoguard.model.resource_pattern import CLUSTER, ResourcePattern


def b64(size: int) -> str:
    return base64.b64encode(bytes(range(size))).decode()


SCRAM = f"{{iterationCount: 15000, salt: {b64(28)}, storedKey: {b64(32)}, serverKey: {b64(32)}}}"
CREDENTIALS = f"credentials: {{SCRAM-SHA-256: {SCRAM}}}"
GOOD = f"""
users:
  - user: alice
    db: shop
    {CREDENTIALS}
    roles: [{{role: auditor, db: admin}}, read, read, gone]
    authenticationRestrictions: [{{clientSource: [10.0.0.0/8]}}]
  - user: "CN=bob,O=Example"
    db: $external
    credentials: {{external: true}}
    roles: []
    userId: 00112233-4455-6677-8899-aabbccddeeff
roles:
  - role: auditor
    db: admin
    privileges:
      - {{resource: {{db: shop, collection: orders}}, actions: [find]}}
      - {{resource: {{db: shop, collection: orders}}, actions: [insert]}}
      - {{resource: {{cluster: true}}, actions: [inprog]}}
    roles: [{{role: clusterMonitor, db: admin}}, {{role: lost, db: admin}}]
    authenticationRestrictions: [{{serverAddress: [10.0.0.1]}}]
"""


def read(text: str) -> UserFile:
    return parse_user_file(text, "users.yaml")


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert caught.value.__cause__ is None
    return str(caught.value)


def user(lines: str) -> str:
    return "users:\n  - " + "\n    ".join(lines.splitlines()) + "\n"


def role(lines: str) -> str:
    return "users: []\nroles:\n  - " + "\n    ".join(lines.splitlines()) + "\n"


def test_a_user_has_the_rights_of_the_roles() -> None:
    alice = read(GOOD).users[UserName("alice", "shop")]
    assert alice.roles == (RoleName("auditor", "admin"), RoleName("read", "shop"), RoleName("gone", "shop"))
    assert RoleName("clusterMonitor", "admin") in alice.inherited_roles
    assert alice.privileges[ResourcePattern.for_exact_namespace("shop", "orders")] == {"find", "insert"}
    assert "inprog" in alice.privileges[CLUSTER]
    assert len(alice.restrictions) == 2
    assert alice.credentials["SCRAM-SHA-256"].iteration_count == 15000


def test_an_external_user_has_no_credentials() -> None:
    bob = read(GOOD).users[UserName("CN=bob,O=Example", "$external")]
    assert bob.credentials == {}
    assert bob.user_id.hex() == "00112233445566778899aabbccddeeff"
    assert bob.restrictions == ((),)


def test_missing_roles_are_legal_and_listed() -> None:
    assert read(GOOD).missing_roles == (RoleName("gone", "shop"), RoleName("lost", "admin"))


def test_the_graph_of_the_file_explains_inheritance() -> None:
    auditor, monitor = RoleName("auditor", "admin"), RoleName("clusterMonitor", "admin")
    assert read(GOOD).roles.path_to([auditor], monitor) == (auditor, monitor)


def test_a_new_password_keeps_the_user_id_and_another_name_has_another() -> None:
    def user_id(name: str, count: int) -> bytes:
        text = user(f"user: {name}\ndb: shop\n{CREDENTIALS.replace('15000', str(count))}\nroles: []")
        return read(text).users[UserName(name, "shop")].user_id

    assert user_id("alice", 15000) == user_id("alice", 20000)
    assert user_id("alice", 15000) != user_id("bob", 15000)
    assert len(user_id("alice", 15000)) == 16


def test_no_message_or_repr_shows_credentials() -> None:
    assert b64(28) not in repr(read(GOOD))
    broken = refusal(GOOD.replace(b64(32), b64(31), 1))
    assert (
        broken
        == "users.yaml:5: user alice@shop: credentials.SCRAM-SHA-256.storedKey must be 32 bytes in base64"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "users.yaml: the file is empty; expected `users:`"),
        ("- a", "users.yaml:1: the file: expected keys and values, found a list"),
        ("roles: []", "users.yaml:1: the file: the key 'users' is missing"),
        ("users: []\nuser: []", "users.yaml:2: the file: unknown key 'user'; did you mean 'users'?"),
        ("users: []\nzzz: []", "users.yaml:2: the file: unknown key 'zzz'; expected one of users, roles"),
        ("users: []\nusers: []", "users.yaml:2: the file: the key 'users' appears twice"),
        ("users: []\n? [a]\n: b", "users.yaml:2: the file: expected a key, found a list"),
        ("users: {}", "users.yaml:1: users: expected a list, found a mapping"),
        ("users:\n", "users.yaml:1: users: expected a list, found a single value"),
        ("users: [\n", "users.yaml:2: not valid YAML: expected the node content"),
        ("users: []\n--- \na: 1", "users.yaml:2: not valid YAML: but found another document"),
        ("a: \x00", "users.yaml: not valid YAML: it has characters that are not printable"),
        (
            "users: &a []\nroles: *a",
            "users.yaml:2: not valid YAML: YAML aliases (*name) are not allowed here",
        ),
        ("users: !!set {a}", "users.yaml:1: not valid YAML: YAML tags (!name) are not allowed here"),
        ("users: " + "[" * 600, "users.yaml: not valid YAML: nested too deeply"),
    ],
)
def test_a_file_of_another_shape_is_refused(text: str, message: str) -> None:
    assert refusal(text) == message


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("db: t\nroles: []", "2: a user: the key 'user' is missing"),
        (
            "user: 5\ndb: t\nroles: []",
            "2: a user: user must be a non-empty string (quote it if it looks like something",
        ),
        ("user: ''\ndb: t\nroles: []", "2: a user: user must be a non-empty string"),
        ("user: a\ndb: a.b\nroles: []", "3: user a@a.b: 'a.b' is not a valid database name"),
        ("user: a\ndb: local\nroles: []", "3: user a@local: users can't be defined in the local database"),
        (
            "user: a\ndb: t\npwd: x\nroles: []",
            "4: a user: passwords are not kept in this file; use `mongoguard user`",
        ),
        (
            "user: a\ndb: t\nroles: []\ncredentials: hunter2",
            "5: user a@t: passwords are not kept in this file",
        ),
        (
            "user: a\ndb: t\nroles: []\ncredentials: {password: x}",
            "5: user a@t: passwords are not kept in this file",
        ),
        (
            "user: a\ndb: t\nroles: []\ncredentials: {}",
            "5: user a@t: credentials must hold one of SCRAM-SHA-1, SCRAM-",
        ),
        (
            "user: a\ndb: t\nroles: []\ncredentials: []",
            "5: user a@t: credentials: expected keys and values, found a list",
        ),
        (
            "user: a\ndb: t\nroles: []",
            "2: user a@t: credentials are missing; use `mongoguard user` to make them",
        ),
        (
            "user: a\ndb: t\nroles: []\ncredentials: {SCRAM-SHA-512: {}}",
            "5: user a@t: credentials: unknown key 'SCRAM-SHA-512'; did you mean 'SCRAM-SHA-",
        ),
        (
            "user: a\ndb: t\nroles: []\ncredentials: {SCRAM-SHA-256: {salt: x}}",
            "5: user a@t: credentials.SCRAM-SHA-256: the key 'iterationCount' is missing",
        ),
        (
            f"user: a\ndb: $external\nroles: []\n{CREDENTIALS}",
            "5: user a@$external: users of $external have no credentials here",
        ),
        (
            f"user: a\ndb: t\nroles: [1]\n{CREDENTIALS}",
            "4: user a@t: roles: Role name must be either a document or",
        ),
        (
            f"user: a\ndb: t\nroles:\n  - read\n  - {{role: x}}\n{CREDENTIALS}",
            "6: user a@t: roles: RoleName must contain a field named: db",
        ),
        (
            f"user: a\ndb: t\nroles:\n  - {{role: x, role: y, db: t}}\n{CREDENTIALS}",
            "5: user a@t: roles: the key 'role' appears twice",
        ),
        (
            f"user: a\ndb: t\nroles: []\nauthenticationRestrictions: [{{clientSource: [localhost]}}]\n{CREDENTIALS}",
            "5: user a@t: authenticationRestrictions: Invalid IP address in CIDR string",
        ),
        (f"user: a\ndb: t\nroles: []\nuserId: xyz\n{CREDENTIALS}", "5: user a@t: userId must be a UUID"),
        (f"user: a\ndb: t\nroles: []\nuserId: '0011'\n{CREDENTIALS}", "5: user a@t: userId must be a UUID"),
        (
            f"user: a\ndb: t\nroles: []\nrole: []\n{CREDENTIALS}",
            "5: a user: unknown key 'role'; did you mean 'roles'?",
        ),
        (
            "user: !!python/name:os.system x\ndb: t\nroles: []",
            "2: a user: the value does not fit its YAML type",
        ),
        ('user: "\\ud800"\ndb: t\nroles: []', "2: a user: the value does not fit its YAML type"),
        ("user: !!bool x\ndb: t\nroles: []", "2: a user: the value does not fit its YAML type"),
        ("user: 2025-02-30\ndb: t\nroles: []", "2: a user: the value does not fit its YAML type"),
    ],
)
def test_a_mistake_in_a_user_is_named_with_its_line(lines: str, message: str) -> None:
    assert refusal(user(lines)).startswith(f"users.yaml:{message}")


def test_a_user_that_is_no_mapping_is_refused() -> None:
    assert refusal("users: [alice]") == "users.yaml:1: a user: expected keys and values, found a single value"


def test_a_user_defined_twice_is_refused() -> None:
    one = f"  - {{user: a, db: t, roles: [], {CREDENTIALS}}}\n"
    assert refusal("users:\n" + one + one) == "users.yaml:3: user a@t: is defined twice"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("role: r", "3: a role: the key 'db' is missing"),
        ("role: r\ndb: 'a b'", "4: role r@a b: 'a b' is not a valid database name"),
        ("role: r\ndb: local", "3: role r@local: roles can't be defined in the local database"),
        ("role: read\ndb: t", "3: role read@t: read is a built-in role of the t database"),
        ("role: r\ndb: t\nroles: [r]", "3: role r@t: inherits from itself"),
        (
            "role: r\ndb: t\nroles: [{role: read, db: u}]",
            "3: role r@t: roles of the t database can't inherit from other",
        ),
        (
            "role: r\ndb: t\nprivileges:\n  - {resource: {db: t, collection: c}, actions: [fnd]}",
            "6: role r@t: privileges: Unrecognized action: fnd",
        ),
        (
            "role: r\ndb: t\nprivileges:\n  - {resource: {db: t}, actions: [find]}",
            "6: role r@t: privileges: resource must set both db and collection or neither",
        ),
        (
            "role: r\ndb: t\nprivileges: [{resource: {cluster: true}, actions: [top]}]",
            "3: role r@t: roles of the t database can hold privileges on that database",
        ),
        ("role: r\ndb: t\nprivilege: []", "5: a role: unknown key 'privilege'; did you mean 'privileges'?"),
    ],
)
def test_a_mistake_in_a_role_is_named_with_its_line(lines: str, message: str) -> None:
    assert refusal(role(lines)).startswith(f"users.yaml:{message}")


def test_the_first_of_two_equal_roles_does_not_hide_the_second() -> None:
    text = "users: []\nroles:\n  - {role: r, db: t}\n  - {role: r, db: t}\n"
    assert refusal(text) == "users.yaml:4: role r@t: is defined twice"
