"""LDAP logins with the drivers that people use, over TLS: PLAIN by password, and certificates whose groups LDAP has.

Each test runs against OpenLDAP and against Active Directory (Samba).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import pymongo
import pytest
from pymongo.errors import OperationFailure

from tests.ldap_guard import LdapGuard, ldap_settings, member_template, running
from tests.ldap_servers import LdapDirectory
from tests.node_clients import ClientFailed, NodeClients
from tests.pki import Pki
from tests.samba_ad import SambaAD
from tests.servers import Mongod, password_of

AUTHENTICATION_FAILED, UNAUTHORIZED = 18, 13

SHOP = [{"resource": {"db": "shop", "collection": ""}, "actions": ["find", "insert"]}]


@dataclass
class Site:
    """A directory, mongoguard with TLS, and mongod, where one group has a role by its DN. alice is in it, kim is not."""

    directory: LdapDirectory
    guard: LdapGuard
    group: str

    @property
    def role(self) -> str:
        """The role's name."""
        return self.directory.group_dn(self.group)

    def uri(self, login: str, **options: str) -> str:
        """A connection string over TLS. `login` is empty, or `user:password@`."""
        chosen = {
            "tls": "true",
            "tlsCAFile": str(self.directory.pki.ca),
            "authSource": "$external",
            **options,
        }
        return f"mongodb://{login}localhost:{self.guard.port}/?{urlencode(chosen)}"

    def password_uri(self, user: str, password: str | None = None) -> str:
        """For PLAIN."""
        secret = password_of(user) if password is None else password
        return self.uri(f"{quote(user, safe='')}:{quote(secret, safe='')}@", authMechanism="PLAIN")

    def certificate_uri(self, certificate: Path) -> str:
        """For MONGODB-X509."""
        return self.uri("", authMechanism="MONGODB-X509", tlsCertificateKeyFile=str(certificate))


@dataclass(frozen=True)
class Outcome:
    """What a client saw: who it is, its roles, and the code of each error; 0 is none."""

    user: str | None
    roles: frozenset[str]
    login: int
    find_in_shop: int


class Attempt(Protocol):
    def __call__(self, uri: str) -> Outcome: ...


def _with_pymongo(uri: str) -> Outcome:
    with pymongo.MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=10_000) as client:
        try:
            info = client.admin.command("connectionStatus")["authInfo"]
        except OperationFailure as error:
            return Outcome(None, frozenset(), error.code or -1, 0)
        try:
            client.shop.orders.count_documents({})
        except OperationFailure as error:
            return _outcome(info["authenticatedUsers"], info["authenticatedUserRoles"], error.code or -1)
        return _outcome(info["authenticatedUsers"], info["authenticatedUserRoles"], 0)


def _outcome(users: list[Any], roles: list[Any], find: int) -> Outcome:
    (user,) = users
    assert user["db"] == "$external"
    return Outcome(user["user"], frozenset(role["role"] for role in roles), 0, find)


_IN_MONGOSH = """
const info = db.getSiblingDB('admin').runCommand({connectionStatus: 1}).authInfo;
let code = 0;
try { db.getSiblingDB('shop').orders.countDocuments(); } catch (error) { code = error.code; }
print(JSON.stringify({users: info.authenticatedUsers, roles: info.authenticatedUserRoles, code}));
"""


@pytest.fixture(params=["pymongo", "mongosh", "node"])
def attempt(request: pytest.FixtureRequest, node_clients: NodeClients) -> Attempt:
    """Log in with one of the clients, and read."""

    def with_mongosh(uri: str) -> Outcome:
        try:
            printed = node_clients.mongosh(uri, _IN_MONGOSH)
        except ClientFailed as error:
            assert "Authentication failed" in str(error)
            return Outcome(None, frozenset(), AUTHENTICATION_FAILED, 0)
        found = json.loads(printed.strip().splitlines()[-1])
        return _outcome(found["users"], found["roles"], found["code"])

    def with_node(uri: str) -> Outcome:
        found = node_clients.node("node_login.js", uri, "shop", "orders")
        if "code" in found["login"]:
            return Outcome(None, frozenset(), found["login"]["code"], 0)
        read = found["read"]["code"] if isinstance(found["read"], dict) else 0
        return _outcome(found["login"]["users"], found["login"]["roles"], read)

    attempts: dict[str, Attempt] = {
        "pymongo": _with_pymongo,
        "mongosh": with_mongosh,
        "node": with_node,
    }
    return attempts[request.param]


def _ldap(directory: LdapDirectory, pattern: str) -> dict[str, Any]:
    """security.ldap; `pattern` is what a name must look like, its group what the directory calls the user."""
    attribute = "sAMAccountName" if isinstance(directory, SambaAD) else "uid"
    mapping = [{"match": pattern, "ldapQuery": f"{directory.people_base}??sub?({attribute}={{0}})"}]
    nested: dict[str, Any] = {}
    if isinstance(directory, SambaAD):
        nested = {
            "nestedGroups": "token_groups",
            "authz": {"queryTemplate": f"{directory.base}??sub?(objectClass=group)"},
        }
    else:
        nested = {"authz": {"queryTemplate": member_template(directory)}}
    return ldap_settings(directory, userToDNMapping=json.dumps(mapping), **nested)


@contextmanager
def _site(
    directory: LdapDirectory, upstream: Mongod, folder: Path, mechanisms: str, pattern: str, group: str
) -> Iterator[Site]:
    tls = {
        "mode": "allowTLS",
        "certificateKeyFile": str(directory.pki.server),
        "CAFile": str(directory.pki.ca),
        "allowConnectionsWithoutCertificates": True,
    }
    guard = LdapGuard(
        folder,
        upstream,
        _ldap(directory, pattern),
        net={"tls": tls},
        setParameter={"authenticationMechanisms": mechanisms},
    )
    site = Site(directory, guard, group)
    with upstream.client() as root, running(guard):
        root.admin.command("createRole", site.role, privileges=SHOP, roles=[])
        try:
            yield site
        finally:
            root.admin.command("dropRole", site.role)


@pytest.fixture(scope="module", params=["slapd", "samba_ad"])
def by_password(
    request: pytest.FixtureRequest, standalone: Mongod, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    directory: LdapDirectory = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp("by_password")
    with _site(directory, standalone, folder, "SCRAM-SHA-256,PLAIN", "(.+)", "dba") as site:
        yield site


@pytest.fixture(scope="module", params=["slapd", "samba_ad"])
def by_certificate(
    request: pytest.FixtureRequest, replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Authorization only: the directory is asked for groups, and sees no password but the service's.

    Another deployment than `by_password`, whose role these users would have too.
    """
    directory: LdapDirectory = request.getfixturevalue(request.param)
    pattern = "CN=([^,]+),OU=clients,O=mongoguard tests"
    folder = tmp_path_factory.mktemp("by_certificate")
    with _site(directory, replica_set, folder, "MONGODB-X509", pattern, "データ分析") as site:
        yield site


# ---- by password ------------------------------------------------------------------------------------------------------


def test_a_member_of_the_group_logs_in_and_may_read(by_password: Site, attempt: Attempt) -> None:
    outcome = attempt(by_password.password_uri("alice"))
    assert (outcome.user, outcome.login, outcome.find_in_shop) == ("alice", 0, 0)
    assert outcome.roles == {by_password.role}


def test_somebody_outside_the_group_logs_in_and_may_not_read(by_password: Site, attempt: Attempt) -> None:
    outcome = attempt(by_password.password_uri("kim"))
    assert outcome == Outcome("kim", frozenset(), 0, UNAUTHORIZED)


@pytest.mark.parametrize("user", ["alice", "nobody"])
def test_a_wrong_password_and_an_unknown_user_are_refused_alike(
    by_password: Site, attempt: Attempt, user: str
) -> None:
    outcome = attempt(by_password.password_uri(user, "canary-wrong"))
    assert outcome.login == AUTHENTICATION_FAILED
    assert "canary-wrong" not in by_password.guard.log
    assert "canary-wrong" not in by_password.guard.audit_path.read_text()


def test_a_role_grants_what_it_names_and_nothing_beside_it(by_password: Site) -> None:
    with pymongo.MongoClient[dict[str, Any]](by_password.password_uri("grace")) as client:
        client.shop.orders.insert_one({"by": "grace"})
        assert client.shop.orders.find_one({"by": "grace"}) is not None
        for refused in (client.shop.orders.drop, client.other.things.find_one):
            with pytest.raises(OperationFailure, match="not authorized") as caught:
                refused()
            assert caught.value.code == UNAUTHORIZED


def test_a_password_on_a_connection_without_tls_is_not_even_tried(by_password: Site) -> None:
    before = len(by_password.guard.reasons())
    uri = f"mongodb://localhost:{by_password.guard.port}/"
    options = {"username": "alice", "password": password_of("alice"), "authMechanism": "PLAIN"}
    with (
        pymongo.MongoClient[dict[str, Any]](uri, **options) as client,  # type: ignore[arg-type]
        pytest.raises(OperationFailure) as caught,
    ):
        client.admin.command("ping")
    assert caught.value.code == AUTHENTICATION_FAILED
    assert "neither TLS nor a Unix socket" in by_password.guard.reason_after(before)


# ---- by certificate ---------------------------------------------------------------------------------------------------


def test_a_certificates_name_has_the_groups_of_its_entry(
    by_certificate: Site, attempt: Attempt, pki: Pki
) -> None:
    outcome = attempt(by_certificate.certificate_uri(pki.client))
    assert outcome == Outcome(pki.client_name, frozenset({by_certificate.role}), 0, 0)


def test_a_certificate_of_somebody_outside_the_group_may_not_read(
    by_certificate: Site, attempt: Attempt, pki: Pki
) -> None:
    certificate = pki.short_lived_client(86_400, "kim")
    outcome = attempt(by_certificate.certificate_uri(certificate))
    assert outcome == Outcome("CN=kim,OU=clients,O=mongoguard tests", frozenset(), 0, UNAUTHORIZED)


def test_a_certificate_that_the_directory_does_not_know_is_refused(
    by_certificate: Site, attempt: Attempt, pki: Pki
) -> None:
    certificate = pki.short_lived_client(86_400, "stranger")
    assert attempt(by_certificate.certificate_uri(certificate)).login == AUTHENTICATION_FAILED


def test_no_password_logs_in_where_the_directory_only_authorizes(by_certificate: Site) -> None:
    outcome = _with_pymongo(by_certificate.password_uri("alice"))
    assert outcome.login not in (0, None)
    assert outcome.user is None
