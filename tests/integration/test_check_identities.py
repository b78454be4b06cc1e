"""`mongoguard check` asks identity providers, and looks for the keys of the Kerberos service, before clients do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.kerberos import Kdc
from tests.missing import require_module
from tests.oidc_guard import provider_settings
from tests.oidc_provider import OidcProvider
from tests.pki import Pki
from tests.servers import run_mongoguard

FAILED = 1


def _check(folder: Path, **sections: Any) -> list[str]:
    """What is printed; the upstream is away, which must not hide the rest."""
    path = folder / "c.yaml"
    upstream = {"uri": "mongodb://s:p@127.0.0.1:1/", "serverSelectionTimeoutMS": 100}
    path.write_text(yaml.safe_dump({"upstream": upstream, **sections}))
    done = run_mongoguard("check", "-f", str(path))
    assert done.returncode == FAILED, done.stdout + done.stderr
    assert "FAIL  upstream: " in done.stdout
    return done.stdout.splitlines()


def _with_provider(folder: Path, pki: Pki, provider: OidcProvider, **more: Any) -> list[str]:
    tls = {"mode": "requireTLS", "certificateKeyFile": str(pki.server), "CAFile": str(pki.ca)}
    parameters = {
        "authenticationMechanisms": "MONGODB-OIDC",
        "oidcIdentityProviders": [provider_settings(provider, **more)],
    }
    return _check(folder, net={"tls": tls}, setParameter=parameters)


def test_an_identity_provider_that_publishes_keys_is_well(
    pki: Pki, oidc_provider: OidcProvider, tmp_path: Path
) -> None:
    lines = _with_provider(tmp_path, pki, oidc_provider)
    assert f"OK    identity provider {oidc_provider.issuer}: its signing keys can be had" in lines
    assert "OK    net.tls requireTLS: certificates, keys and lists can be used" in lines


def test_an_identity_provider_of_another_authority_fails(
    pki: Pki, oidc_provider: OidcProvider, tmp_path: Path
) -> None:
    lines = _with_provider(tmp_path, pki, oidc_provider, serverCAFile=str(pki.other_ca))
    (line,) = [line for line in lines if line.startswith("FAIL") and "identity provider" in line]
    assert f"the keys of {oidc_provider.issuer} can't be had" in line


def test_a_keytab_with_a_key_of_the_service_is_well(kdc: Kdc, tmp_path: Path) -> None:
    require_module("gssapi", "pip install 'mongoguard-proxy[kerberos]'")
    lines = _check(
        tmp_path,
        security={"sasl": {"keytab": str(kdc.service_keytab)}},
        setParameter={"authenticationMechanisms": "GSSAPI"},
    )
    assert "OK    GSSAPI: the keytab has a key of the service" in lines


def test_a_keytab_that_is_not_there_fails(tmp_path: Path) -> None:
    lines = _check(
        tmp_path,
        security={"sasl": {"keytab": str(tmp_path / "none")}},
        setParameter={"authenticationMechanisms": "GSSAPI"},
    )
    (line,) = [line for line in lines if line.startswith("FAIL  GSSAPI: ")]
    assert "gssapi" in line or "security.sasl.keytab" in line


def test_a_certificate_that_can_not_be_read_fails(tmp_path: Path) -> None:
    tls = {
        "mode": "requireTLS",
        "certificateKeyFile": str(tmp_path / "none.pem"),
        "allowConnectionsWithoutCertificates": True,
    }
    lines = _check(tmp_path, net={"tls": tls})
    assert any(line.startswith("FAIL  net.tls: net.tls.certificateKeyFile: can't read") for line in lines)
