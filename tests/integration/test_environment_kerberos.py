"""The test realm: that it gives tickets to who knows the password, and keys to the service."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.kerberos import CLIENT_PACKAGES, Kdc
from tests.missing import require_module, require_program


def listed(kdc: Kdc, *arguments: str, **environment: str) -> str:
    klist = require_program("klist", CLIENT_PACKAGES)
    variables: Mapping[str, str] = {**os.environ, **kdc.environment, **environment}
    return subprocess.run(
        [klist, *arguments], env=variables, capture_output=True, text=True, check=True
    ).stdout


def test_a_user_gets_a_ticket_with_the_password_and_not_with_another(kdc: Kdc) -> None:
    assert "alice@EXAMPLE.TEST" in listed(kdc, "-c", str(kdc.ticket("alice")))
    with pytest.raises(subprocess.CalledProcessError):
        kdc.ticket("alice", "wrong")
    with pytest.raises(subprocess.CalledProcessError):
        kdc.ticket("nobody")


def test_the_service_has_its_key_and_a_user_gets_a_ticket_for_it(kdc: Kdc) -> None:
    assert "mongodb/localhost@EXAMPLE.TEST" in listed(kdc, "-k", str(kdc.service_keytab))
    kvno = require_program("kvno", CLIENT_PACKAGES)
    variables = {**os.environ, **kdc.environment, "KRB5CCNAME": f"FILE:{kdc.ticket('bob')}"}

    def version(*arguments: str) -> int:
        return subprocess.run([kvno, *arguments], env=variables, capture_output=True, check=False).returncode

    assert version("-k", str(kdc.service_keytab), "mongodb/localhost") == 0
    assert version("mongodb/elsewhere") != 0


def test_principals_and_services_are_added(kdc: Kdc, tmp_path: Path) -> None:
    kdc.add_principal("brief", life_seconds=8)
    assert "brief@EXAMPLE.TEST" in listed(kdc, "-c", str(kdc.ticket("brief")))
    assert "mongodb/other" in listed(
        kdc, "-k", str(kdc.add_service("mongodb/other", tmp_path / "other.keytab"))
    )


def test_a_stopped_realm_gives_no_tickets_and_a_restarted_one_knows_its_principals(kdc: Kdc) -> None:
    kdc.stop()
    with pytest.raises(subprocess.CalledProcessError):
        kdc.ticket("alice")
    kdc.start().wait()
    assert kdc.ticket("alice").exists()


def test_a_client_and_a_service_authenticate_each_other(kdc: Kdc, monkeypatch: pytest.MonkeyPatch) -> None:
    gssapi = require_module(
        "gssapi", "pip install 'mongoguard-proxy[kerberos-test]', with gcc and libkrb5-dev"
    )
    monkeypatch.setenv("KRB5_CONFIG", str(kdc.configuration))
    service = gssapi.Name("mongodb@localhost", gssapi.NameType.hostbased_service)
    client_ticket = gssapi.Credentials(usage="initiate", store={"ccache": f"FILE:{kdc.ticket('alice')}"})
    service_key = gssapi.Credentials(usage="accept", store={"keytab": str(kdc.service_keytab)})
    client = gssapi.SecurityContext(name=service, creds=client_ticket, usage="initiate")
    server = gssapi.SecurityContext(creds=service_key, usage="accept")
    token = None
    while not (client.complete and server.complete):
        token = client.step(token)
        token = server.step(token) if token is not None else None
    assert str(server.initiator_name) == "alice@EXAMPLE.TEST"
    assert 23 * 3600 < server.lifetime < 25 * 3600  # a day, and the clock skew that the acceptor allows
