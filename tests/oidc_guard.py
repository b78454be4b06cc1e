"""mongoguard with identity providers in front of a mongod, behind TLS, and logins by MONGODB-OIDC."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pymongo
from pymongo.auth_oidc import OIDCCallback, OIDCCallbackContext, OIDCCallbackResult

from tests.oidc_provider import AUDIENCE, MongodbOidcProvider, OidcProvider
from tests.pki import Pki
from tests.servers import Client, Guard, Mongod

__all__ = ["CLIENT_ID", "PREFIX", "OidcGuard", "Tokens", "create_group_role", "provider_settings"]

PREFIX = "idp"
CLIENT_ID = "mongoguard-tests"

WITHOUT_GRACE = (
    "import mongoguard.proxy.reauthentication as r; r.GRACE_SECS = 0.0; "
    "import sys; from mongoguard.cli.main import main; sys.exit(main())"
)
"""Runs mongoguard without the minute in which cursors go on: no test may last that long."""


def provider_settings(provider: OidcProvider | MongodbOidcProvider, **more: Any) -> dict[str, Any]:
    """One of oidcIdentityProviders; a key given as None is left out."""
    settings = {
        "issuer": provider.issuer,
        "audience": AUDIENCE,
        "authNamePrefix": PREFIX,
        "authorizationClaim": "groups",
        "clientId": CLIENT_ID,
        "requestScopes": ["openid"],
        "serverCAFile": str(provider.ca_file),
        **more,
    }
    return {key: value for key, value in settings.items() if value is not None}


def create_group_role(mongod: Mongod, group: str = "dba") -> None:
    """The role of that group: readWrite on the database shop."""
    with mongod.client() as client:
        role = f"{PREFIX}/{group}"
        if not client.admin.command("rolesInfo", role)["roles"]:
            client.admin.command(
                "createRole", role, privileges=[], roles=[{"role": "readWrite", "db": "shop"}]
            )


class Tokens(OIDCCallback):
    """A program's, or a person's, way to a token: the next of `tokens`, the last of them again and again."""

    def __init__(self, *tokens: Any) -> None:
        """Texts, or functions that make one."""
        self.tokens = list(tokens)
        self.contexts: list[OIDCCallbackContext] = []

    def fetch(self, context: OIDCCallbackContext) -> OIDCCallbackResult:
        """What pymongo calls."""
        self.contexts.append(context)
        token = self.tokens[0] if len(self.tokens) == 1 else self.tokens.pop(0)
        return OIDCCallbackResult(access_token=token() if callable(token) else token)


class OidcGuard(Guard):
    """mongoguard with identity providers, TLS required, audit events in a file, everything logged."""

    def __init__(
        self,
        directory: Path,
        upstream: Mongod,
        pki: Pki,
        *providers: Mapping[str, Any],
        grace: bool = True,
        **parameters: Any,
    ) -> None:
        """Prepare a server with those of oidcIdentityProviders; `parameters` are added to setParameter."""
        self.audit_path = directory / "audit.json"
        self._pki = pki
        self._grace = grace
        super().__init__(
            directory,
            upstream,
            {
                "net": {
                    "tls": {
                        "mode": "requireTLS",
                        "certificateKeyFile": str(pki.server),
                        "allowConnectionsWithoutCertificates": True,
                    }
                },
                "setParameter": {
                    "authenticationMechanisms": "SCRAM-SHA-256,MONGODB-OIDC",
                    "oidcIdentityProviders": json.dumps(providers),
                    "JWKSMinimumQuiescePeriodSecs": 1,
                    **parameters,
                },
                "auditLog": {"destination": "file", "path": str(self.audit_path)},
                "systemLog": {"verbosity": 5},
            },
        )

    def start(self) -> OidcGuard:
        """Start the process; `wait()` must follow before it is used."""
        if self._grace:
            super().start()
        else:
            self._spawn([sys.executable, "-c", WITHOUT_GRACE, "serve", "-f", str(self.config_path)])
        return self

    def login(self, tokens: Tokens, **options: Any) -> Client:
        """A program's client; close it (`with`)."""
        return self.connect({"OIDC_CALLBACK": tokens}, **options)

    def connect(self, properties: Mapping[str, Any], **options: Any) -> Client:
        """A client that logs in by MONGODB-OIDC with those properties; close it (`with`)."""
        usual = {"tls": True, "tlsCAFile": str(self._pki.ca), "serverSelectionTimeoutMS": 10_000}
        given = {name: value for name, value in {**usual, **options}.items() if value is not None}
        return pymongo.MongoClient(
            f"mongodb://localhost:{self.port}/",
            authMechanism="MONGODB-OIDC",
            authMechanismProperties=dict(properties),
            **given,
        )

    @property
    def audit(self) -> str:
        """The audit log as it is now."""
        return self.audit_path.read_text() if self.audit_path.exists() else ""

    @property
    def logins(self) -> list[dict[str, Any]]:
        """The audit events of logins so far."""
        events = [json.loads(line) for line in self.audit.splitlines()]
        return [event for event in events if event["atype"] == "authenticate"]

    def wait_for_refusal(self, reason: str, after: int = 0) -> dict[str, Any]:
        """The event of a login, behind the first `after` ones, that was refused for a reason that holds this text.

        Events are written by a thread of their own, so the last one may come after the client's reply.
        """
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for event in self.logins[after:]:
                if event["result"] and reason in event["param"]["reason"]:
                    return event
            time.sleep(0.02)
        raise AssertionError(f"no refusal because of {reason!r}: {self.logins[after:]}")
