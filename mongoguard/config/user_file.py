"""The `file` user directory: a YAML file of users and roles -> a validated, frozen value.

In: the file's text and its name (for messages). Out: `UserFile`. Must not know who reads the file or when.
The vocabulary is that of MongoDB's own documents (system.users, system.roles):

    users:
      - user: alice
        db: admin
        credentials:                      # made by `mongoguard user`; binary values in base64
          SCRAM-SHA-256: {iterationCount: 15000, salt: …, storedKey: …, serverKey: …}
        roles: [{role: readWrite, db: shop}, auditor]       # a bare name: a role of the user's own database
        authenticationRestrictions: [{clientSource: [10.0.0.0/8]}]
      - user: "CN=bob,O=Example"
        db: $external                     # no credentials: another authority vouches for the name
        roles: [{role: read, db: shop}]
    roles:
      - role: auditor
        db: admin
        privileges: [{resource: {db: shop, collection: orders}, actions: [find]}]
        roles: []

Stricter than MongoDB: unknown keys, unknown actions, repeated keys, and YAML aliases are errors. Every error is a
`ConfigError` with the file, the line, the user or role, and what was expected; none shows a credential.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

from mongoguard.authz.role_graph import EffectiveRoles, RoleGraph, RoleGraphError
from mongoguard.config.yaml_text import NOT_ITS_TYPE, YAMLTextError, compose, scalar
from mongoguard.errors import CommandError, ConfigError
from mongoguard.model.documents import (
    SCRAM_LENGTHS,
    is_valid_database_name,
    merge_privileges,
    parse_credentials,
    parse_privilege,
    parse_restriction,
    parse_role_name,
)
from mongoguard.model.names import EXTERNAL_DB, RoleName, UserName
from mongoguard.model.user import Role, ScramCredentials, User

__all__ = ["UserFile", "parse_user_file"]

T = TypeVar("T")

_USER_KEYS = ("user", "db", "credentials", "roles", "authenticationRestrictions", "userId")
_ROLE_KEYS = ("role", "db", "privileges", "roles", "authenticationRestrictions")
_SCRAM_KEYS = ("iterationCount", "salt", "storedKey", "serverKey")
_PLAIN_TEXT = ("pwd", "password", "passwd")
_NO_PASSWORDS = "passwords are not kept in this file; use `mongoguard user` to make credentials"


@dataclass(frozen=True, slots=True)
class UserFile:
    """What the file says: users with their rights resolved, and the graph of the roles it defines.

    `missing_roles` are named by a user or a role but exist nowhere: legal, as in MongoDB, and worth a warning.
    """

    users: Mapping[UserName, User]
    roles: RoleGraph
    missing_roles: tuple[RoleName, ...] = ()


def parse_user_file(text: str, file_name: str) -> UserFile:
    """Validate the file. Raises `ConfigError`; an empty file, or one without users, is an error too."""
    reader = _Reader(file_name)
    root = reader.compose(text)
    top = reader.fields(root, "the file", ("users", "roles"), required=("users",))
    role_nodes: dict[RoleName, yaml.Node] = {}
    definitions = [_role(reader, node, role_nodes) for node in reader.items(top.get("roles"), "roles")]
    try:
        graph = RoleGraph(definitions)
    except RoleGraphError as error:
        raise reader.error(role_nodes[error.role], f"role {error.role}", error.problem) from None
    users: dict[UserName, User] = {}
    rights = _Rights(graph)
    for node in reader.items(top["users"], "users"):
        user = _user(reader, node, rights)
        if user.name in users:
            raise reader.error(node, f"user {user.name}", "is defined twice")
        users[user.name] = user
    return UserFile(users, graph, tuple(sorted({*graph.missing, *rights.missing})))


class _Rights:
    """What sets of direct roles come to: many users share few of them."""

    def __init__(self, graph: RoleGraph) -> None:
        self._graph = graph
        self._of: dict[tuple[RoleName, ...], EffectiveRoles] = {}

    def of(self, roles: tuple[RoleName, ...]) -> EffectiveRoles:
        found = self._of.get(roles)
        if found is None:
            found = self._of[roles] = self._graph.resolve(roles)
        return found

    @property
    def missing(self) -> set[RoleName]:
        """Roles that do not exist, of all the sets asked for."""
        return {name for effective in self._of.values() for name in effective.missing}


def _role(reader: _Reader, node: yaml.Node, seen: dict[RoleName, yaml.Node]) -> Role:
    fields = reader.fields(node, "a role", _ROLE_KEYS, required=("role", "db"))
    name = RoleName(reader.string(fields, "role", "a role"), reader.string(fields, "db", "a role"))
    who = f"role {name}"
    _check_database(reader, fields["db"], who, name.db)
    seen[name] = node
    privileges = reader.each(fields.get("privileges"), f"{who}: privileges", parse_privilege)
    return Role(
        name=name,
        privileges=merge_privileges(privileges),
        roles=_role_names(reader, fields, who, name.db),
        restrictions=reader.each(
            fields.get("authenticationRestrictions"), f"{who}: authenticationRestrictions", parse_restriction
        ),
    )


def _user(reader: _Reader, node: yaml.Node, rights: _Rights) -> User:
    _refuse_plain_text(reader, node, "a user")
    fields = reader.fields(node, "a user", _USER_KEYS, required=("user", "db", "roles"))
    name = UserName(reader.string(fields, "user", "a user"), reader.string(fields, "db", "a user"))
    who = f"user {name}"
    _check_database(reader, fields["db"], who, name.db)
    if name.db == "local":
        raise reader.error(fields["db"], who, "users can't be defined in the local database")
    roles = _role_names(reader, fields, who, name.db)
    own = reader.each(
        fields.get("authenticationRestrictions"), f"{who}: authenticationRestrictions", parse_restriction
    )
    effective = rights.of(roles)
    return User(
        name=name,
        user_id=_user_id(reader, fields, who, name),
        credentials=_credentials(reader, node, fields, who, name),
        roles=roles,
        inherited_roles=effective.roles,
        privileges=effective.privileges,
        restrictions=(own, *effective.restrictions),
    )


def _role_names(reader: _Reader, fields: Mapping[str, yaml.Node], who: str, db: str) -> tuple[RoleName, ...]:
    names = reader.each(fields.get("roles"), f"{who}: roles", lambda value: parse_role_name(value, db))
    return tuple(dict.fromkeys(names))


def _check_database(reader: _Reader, node: yaml.Node, who: str, db: str) -> None:
    if not is_valid_database_name(db):
        raise reader.error(node, who, f"{db!r} is not a valid database name")


def _refuse_plain_text(reader: _Reader, node: yaml.Node, who: str) -> None:
    """Before any other check of the keys, so that nobody is told how to spell the key of a password."""
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if str(key.value).lower() in _PLAIN_TEXT:
            raise reader.error(key, who, _NO_PASSWORDS)


def _credentials(
    reader: _Reader, node: yaml.Node, fields: Mapping[str, yaml.Node], who: str, name: UserName
) -> Mapping[str, ScramCredentials]:
    given = fields.get("credentials")
    if name.db == EXTERNAL_DB:
        if given is not None and reader.plain(given, who) != {"external": True}:
            raise reader.error(given, who, "users of $external have no credentials here")
        return {}
    if given is None:
        raise reader.error(node, who, "credentials are missing; use `mongoguard user` to make them")
    if isinstance(given, yaml.ScalarNode):
        raise reader.error(given, who, _NO_PASSWORDS)
    _refuse_plain_text(reader, given, who)
    mechanisms = reader.fields(given, f"{who}: credentials", tuple(SCRAM_LENGTHS))
    if not mechanisms:
        raise reader.error(given, who, f"credentials must hold one of {', '.join(SCRAM_LENGTHS)}")
    for mechanism, entry in mechanisms.items():
        reader.fields(entry, f"{who}: credentials.{mechanism}", _SCRAM_KEYS, required=_SCRAM_KEYS)
    return reader.parsed(given, who, parse_credentials)


def _user_id(reader: _Reader, fields: Mapping[str, yaml.Node], who: str, name: UserName) -> bytes:
    """The UUID written in the file, or one that stands for the name.

    Not for the credentials: in MongoDB a new password logs nobody out, and a session ends when the *user* is another
    one. A name that is given to another person without the file being read in between is told apart by a `userId`.
    """
    node = fields.get("userId")
    if node is None:
        digest = hashlib.sha256(
            f"mongoguard user file\0{name.db}\0{name.user}".encode(errors="surrogatepass")
        )
        return digest.digest()[:16]
    text = reader.string(fields, "userId", who).replace("-", "")
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 16:
        raise reader.error(node, who, "userId must be a UUID (32 hexadecimal digits)")
    return value


class _Reader:
    """Reads nodes of one file; every error it makes names the file and the line."""

    def __init__(self, file_name: str) -> None:
        self.file_name = file_name

    def error(self, node: yaml.Node, who: str, problem: str) -> ConfigError:
        return ConfigError(f"{self.file_name}:{node.start_mark.line + 1}: {who}: {problem}")

    def compose(self, text: str) -> yaml.Node:
        """The document's root."""
        try:
            root = compose(text)
        except YAMLTextError as error:
            line = f":{error.line}" if error.line else ""
            raise ConfigError(f"{self.file_name}{line}: not valid YAML: {error.problem}") from None
        if root is None:
            raise ConfigError(f"{self.file_name}: the file is empty; expected `users:`")
        return root

    def fields(
        self, node: yaml.Node, who: str, known: Iterable[str] | None, required: Iterable[str] = ()
    ) -> dict[str, yaml.Node]:
        """A mapping's values by key. Keys must be strings, appear once, and (unless `known` is None) be known."""
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, who, f"expected keys and values, found a {_kind(node)}")
        found: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = key_node.value
            if not isinstance(key, str):
                raise self.error(key_node, who, f"expected a key, found a {_kind(key_node)}")
            if key in found:
                raise self.error(key_node, who, f"the key {key!r} appears twice")
            if known is not None and key not in known:
                raise self.error(key_node, who, f"unknown key {key!r}{_suggest(key, known)}")
            found[key] = value
        for key in required:
            if key not in found:
                raise self.error(node, who, f"the key {key!r} is missing")
        return found

    def items(self, node: yaml.Node | None, who: str) -> list[yaml.Node]:
        """A list's elements; an absent list is empty."""
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, who, f"expected a list, found a {_kind(node)}")
        return list(node.value)

    def string(self, fields: Mapping[str, yaml.Node], key: str, who: str) -> str:
        node = fields[key]
        value = self.plain(node, who)
        if not isinstance(value, str) or not value or "\0" in value:
            raise self.error(
                node, who, f"{key} must be a non-empty string (quote it if it looks like something else)"
            )
        return value

    def each(self, node: yaml.Node | None, who: str, parse: Callable[[Any], T]) -> tuple[T, ...]:
        """Every element of a list, parsed; an error names the element's own line."""
        return tuple(self.parsed(item, who, parse) for item in self.items(node, who))

    def parsed(self, node: yaml.Node, who: str, parse: Callable[[Any], T]) -> T:
        try:
            return parse(self.plain(node, who))
        except CommandError as error:
            raise self.error(node, who, error.errmsg) from None

    def plain(self, node: yaml.Node, who: str) -> Any:
        """The node as dicts, lists and scalars, repeated keys refused at every level."""
        if isinstance(node, yaml.MappingNode):
            return {key: self.plain(value, who) for key, value in self.fields(node, who, None).items()}
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(value, who) for value in node.value]
        assert isinstance(node, yaml.ScalarNode)  # there is no fourth kind
        try:
            return scalar(node)
        except ValueError:
            raise self.error(node, who, NOT_ITS_TYPE) from None


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "list"
    return "mapping" if isinstance(node, yaml.MappingNode) else "single value"


def _suggest(key: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; expected one of {', '.join(known)}"
