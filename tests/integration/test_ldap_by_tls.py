"""LDAP on TLS connections: passwords by PLAIN, and certificates whose roles the directory gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure

from tests.directory_entries import PEOPLE
from tests.ldap_guard import LdapGuard, ldap_settings, running
from tests.ldap_servers import Slapd
from tests.pki import Pki
from tests.servers import Mongod, password_of

FROM_CERTIFICATES = [
    {
        "match": "CN=([^,]+),OU=clients,O=mongoguard tests",
        "ldapQuery": "ou=people,dc=example,dc=org??sub?(uid={0})",
    },
    {"match": "([^=]+)", "ldapQuery": "ou=people,dc=example,dc=org??sub?(uid={0})"},
]


@pytest.fixture(scope="module")
def guard(
    standalone: Mongod, slapd: Slapd, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LdapGuard]:
    table = {slapd.group_dn("dba"): [{"role": "readWrite", "db": "shop"}]}
    tls = {
        "mode": "preferTLS",
        "certificateKeyFile": str(pki.server),
        "CAFile": str(pki.ca),
        "allowConnectionsWithoutCertificates": True,
    }
    directory = tmp_path_factory.mktemp("lt")
    sections: dict[str, Any] = {
        "net": {"tls": tls},
        "setParameter": {"authenticationMechanisms": "SCRAM-SHA-256,PLAIN,MONGODB-X509"},
    }
    ldap = ldap_settings(slapd, userToDNMapping=FROM_CERTIFICATES, roleMapping=table)
    with running(LdapGuard(directory, standalone, ldap, **sections)) as guard:
        yield guard


def client(guard: LdapGuard, pki: Pki, certificate: Path | None = None, **login: Any) -> Any:
    return pymongo.MongoClient(
        f"mongodb://{guard.address}/",
        tls=True,
        tlsCAFile=str(pki.ca),
        tlsCertificateKeyFile=None if certificate is None else str(certificate),
        **login,
    )


def plain(uid: str, password: str | None = None) -> dict[str, str]:
    return {
        "username": uid,
        "password": password or password_of(uid),
        "authMechanism": "PLAIN",
        "authSource": "$external",
    }


@pytest.mark.parametrize("uid", PEOPLE)
def test_everybody_logs_in_by_plain_on_tls(guard, pki, uid):
    with client(guard, pki, **plain(uid)) as mongo:
        (user,) = mongo.admin.command("connectionStatus")["authInfo"]["authenticatedUsers"]
    assert user == {"user": uid, "db": "$external"}
    with client(guard, pki, **plain(uid, "wrong")) as mongo, pytest.raises(OperationFailure) as caught:
        mongo.admin.command("ping")
    assert caught.value.code == 18


def test_the_same_port_without_tls_takes_no_password(guard):
    before = len(guard.reasons())
    with (
        pymongo.MongoClient(f"mongodb://{guard.address}/", **plain("alice")) as mongo,
        pytest.raises(OperationFailure) as caught,
    ):
        mongo.admin.command("ping")
    assert caught.value.code == 18
    assert guard.has_told("neither TLS nor a Unix socket", before)


def test_a_certificates_name_is_mapped_and_its_roles_are_the_groups(guard, pki):
    with client(guard, pki, pki.client, authMechanism="MONGODB-X509") as mongo:
        status = mongo.admin.command("connectionStatus")["authInfo"]
        mongo.shop.orders.insert_one({"by": "certificate"})
    assert status["authenticatedUsers"] == [{"user": pki.client_name, "db": "$external"}]
    assert status["authenticatedUserRoles"] == [{"role": "readWrite", "db": "shop"}]


def test_a_certificate_that_no_rule_maps_does_not_log_in(guard, pki):
    before = len(guard.reasons())
    certificate = pki.awkward["e-mail address and street"]
    with (
        client(guard, pki, certificate, authMechanism="MONGODB-X509") as mongo,
        pytest.raises(OperationFailure),
    ):
        mongo.admin.command("ping")
    assert guard.reason_after(before)
    assert "has no groups here: no element of userToDNMapping matches the user name" in guard.log


def test_somebody_whom_a_certificate_names_and_the_directory_does_not_know_does_not_log_in(guard, pki):
    certificate, _ = pki.authority.client("stranger", "client-stranger.pem")
    with (
        client(guard, pki, certificate, authMechanism="MONGODB-X509") as mongo,
        pytest.raises(OperationFailure),
    ):
        mongo.admin.command("ping")
