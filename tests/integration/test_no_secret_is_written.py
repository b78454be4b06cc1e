"""Canaries: at the greatest verbosity every kind of login, right and wrong, and a directory that fails in several ways,
leave no password, token or key's password in the log, in the audit log, or on standard error.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pymongo
import pytest
from pymongo.errors import OperationFailure, PyMongoError

from tests.ldap_guard import LdapGuard, ldap_settings, running
from tests.ldap_servers import Slapd
from tests.oidc_guard import Tokens, create_group_role, provider_settings
from tests.oidc_provider import OidcProvider
from tests.pki import KEY_PASSWORD, Pki
from tests.servers import Client, Mongod, password_of
from tests.toxic_servers import ToxicServer, Toxin

WRONG_PASSWORD = "c4nary-wr0ng-Pässword"
OLD_SERVICE_PASSWORD = "c4nary-0ld-service-pw"
RESET, NO_LDAP, SILENT, BUSY = "reset", "no LDAP", "silent", "busy"


def bind_answer(result: int) -> bytes:
    """A BindResponse to message 1 with that result code."""
    body = bytes((0x61, 7, 0x0A, 1, result, 4, 0, 4, 0))
    return bytes((0x30, 3 + len(body), 2, 1, 1)) + body


FAILURES = {
    RESET: (Toxin.RESET, b""),
    NO_LDAP: (Toxin.ANSWER, b"HTTP/1.0 400 Bad Request\r\n\r\n"),
    SILENT: (Toxin.SILENCE, b""),
    BUSY: (Toxin.ANSWER, bind_answer(51)),
}


class Written:
    """Everything that a mongoguard has written, and what must not be in it."""

    def __init__(self, guard: LdapGuard) -> None:
        """The secrets of its configuration; add those of logins."""
        self._guard = guard
        upstream = re.search(r"//[^:]+:([^@]+)@", guard.config_path.read_text())
        assert upstream is not None
        self.secrets = {unquote(upstream[1]), upstream[1]}

    def add(self, *secrets: str) -> None:
        """Secrets that were used from here on."""
        self.secrets.update(secrets)

    def leaked(self) -> dict[str, list[str]]:
        """File name -> secrets found in it, as they are or in base64, whatever the file's own escapes."""
        found = {}
        for path in self._guard.directory.iterdir():
            if path.is_file() and path != self._guard.config_path:
                text = path.read_text(errors="replace")
                inside = [secret for secret in self.secrets if any(form in text for form in forms(secret))]
                if inside:
                    found[path.name] = inside
        return found


def forms(secret: str) -> set[str]:
    """How a secret may be written: as it is, in JSON, in a repr, in a URI, in base64 at the start of a text."""
    octets = secret.encode()
    whole = len(octets) - len(octets) % 3
    return {
        secret,
        json.dumps(secret)[1:-1],
        repr(octets)[2:-1],
        quote(secret, safe=""),
        octets.hex(),
        base64.b64encode(octets[:whole]).decode(),
    }


def sections(pki: Pki, provider: OidcProvider, directory: Path) -> dict[str, Any]:
    """TLS with an encrypted key, and every mechanism."""
    return {
        "net": {
            "unixDomainSocket": {"enabled": True, "pathPrefix": str(directory)},
            "tls": {
                "mode": "requireTLS",
                "certificateKeyFile": str(pki.server_with_password),
                "certificateKeyFilePassword": KEY_PASSWORD,
                "allowConnectionsWithoutCertificates": True,
            },
        },
        "setParameter": {
            "authenticationMechanisms": "SCRAM-SHA-1,SCRAM-SHA-256,PLAIN,MONGODB-OIDC",
            "oidcIdentityProviders": json.dumps([provider_settings(provider)]),
        },
        "systemLog": {"verbosity": 5},
    }


def by_tls(guard: LdapGuard, pki: Pki, **login: Any) -> Client:
    """A client on TCP."""
    return pymongo.MongoClient(
        f"mongodb://localhost:{guard.port}/",
        tls=True,
        tlsCAFile=str(pki.ca),
        serverSelectionTimeoutMS=10_000,
        **login,
    )


def refused(client: Client) -> None:
    """The client's login does not succeed, whatever it is told."""
    with client, pytest.raises(PyMongoError):
        client.admin.command("ping")


@contextlib.contextmanager
def serving(
    standalone: Mongod, pki: Pki, provider: OidcProvider, path: Path, ldap: dict[str, Any]
) -> Iterator[tuple[LdapGuard, Written]]:
    guard = LdapGuard(path, standalone, ldap, **sections(pki, provider, path))
    with running(guard):
        yield guard, Written(guard)


def test_logins_of_every_kind_leave_no_secret_behind(
    standalone: Mongod, slapd: Slapd, pki: Pki, oidc_provider: OidcProvider, tmp_path: Path
) -> None:
    create_group_role(standalone)
    bind = {"queryUser": slapd.service_dn, "queryPassword": [OLD_SERVICE_PASSWORD, slapd.service_password]}
    with serving(standalone, pki, oidc_provider, tmp_path, ldap_settings(slapd, bind=bind)) as (
        guard,
        written,
    ):
        written.add(KEY_PASSWORD, OLD_SERVICE_PASSWORD, slapd.service_password, WRONG_PASSWORD)
        written.add(password_of("alice"), password_of("root"))
        guard.roles("alice")
        guard.refused("alice", WRONG_PASSWORD)
        guard.refused("nobody at all", WRONG_PASSWORD)
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
            with by_tls(
                guard, pki, username="root", password=password_of("root"), authMechanism=mechanism
            ) as client:
                client.admin.command("ping")
            refused(by_tls(guard, pki, username="root", password=WRONG_PASSWORD, authMechanism=mechanism))
        good = oidc_provider.token(groups=["dba"])
        expired = oidc_provider.token(groups=["dba"], expires_in=-1)
        forged = good[:-8] + "AAAAAAAA"
        for token in (good, expired, forged):
            written.add(*(part for part in token.split(".") if part))
            client = by_tls(
                guard,
                pki,
                authMechanism="MONGODB-OIDC",
                authMechanismProperties={"OIDC_CALLBACK": Tokens(token)},
            )
            with client, contextlib.nullcontext() if token == good else pytest.raises(OperationFailure):
                client.shop.numbers.find_one()
        with by_tls(
            guard,
            pki,
            username="alice",
            password=password_of("alice"),
            authMechanism="PLAIN",
            authSource="$external",
        ) as client:
            client.admin.command("ping")
    assert len(guard.reasons()) >= 5, "the refused logins are in the audit log"
    assert written.leaked() == {}
    assert "Traceback" not in guard.log


@pytest.mark.parametrize("failure", FAILURES)
def test_a_directory_that_fails_leaves_no_secret_behind(
    failure: str, standalone: Mongod, slapd: Slapd, pki: Pki, oidc_provider: OidcProvider, tmp_path: Path
) -> None:
    toxin, answer = FAILURES[failure]
    with ToxicServer(toxin, answer=answer) as server:
        ldap = ldap_settings(
            slapd,
            servers=f"127.0.0.1:{server.port}",
            transportSecurity="none",
            timeoutMS=500,
            validateLDAPServerConfig=False,
        )
        del ldap["CAFile"]
        with serving(standalone, pki, oidc_provider, tmp_path, ldap) as (guard, written):
            written.add(KEY_PASSWORD, slapd.service_password, password_of("alice"))
            refused(guard.login("alice"))
            # Bound as the user at once: the directory is sent the password itself.
            guard.stop()
            guard.configure_ldap(
                {
                    **{key: value for key, value in ldap.items() if key not in ("bind", "authz")},
                    "userToDNMapping": [{"match": "(.+)", "substitution": "uid={0},dc=example,dc=org"}],
                }
            )
            guard.start().wait()
            refused(guard.login("alice"))
        if failure != RESET:
            assert password_of("alice").encode() in server.received
        assert len(guard.reasons()) >= 2
        assert written.leaked() == {}


def test_a_secret_that_is_written_would_be_found(tmp_path: Path) -> None:
    """The search itself: each form in which a text could be written."""

    class Told:
        directory = tmp_path
        config_path = tmp_path / "mongoguard.yaml"

    Told.config_path.write_text("uri: mongodb://svc:s%2Fp@h")
    for form in forms(WRONG_PASSWORD) | {"s/p", "s%2Fp"}:
        written = Written(Told)  # type: ignore[arg-type]  # all that it reads of a guard
        written.add(WRONG_PASSWORD)
        (tmp_path / "mongoguard.log").write_text(f'{{"msg": "{form}"}}')
        assert list(written.leaked()) == ["mongoguard.log"], form
