"""An LDAP client for the tests of the directories themselves: it shares no code with mongoguard's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ldap3

from tests.ldap_servers import CheckedTls, LdapDirectory

__all__ = ["answer_to_bind", "bind", "connected", "search"]


@contextmanager
def connected(
    directory: LdapDirectory,
    dn: str | None,
    password: str | None,
    *,
    by: str = "ldaps",
) -> Iterator[Any]:
    """An unbound connection that checks the server's certificate."""
    tls = CheckedTls(directory.pki.ca)
    uri = directory.tls_uri if by == "ldaps" else directory.uri
    server = ldap3.Server(uri, tls=tls, get_info=ldap3.NONE, connect_timeout=5)
    connection = ldap3.Connection(
        server,
        dn,
        password,
        client_strategy=ldap3.SAFE_SYNC,
        auto_referrals=False,
        check_names=False,
        receive_timeout=5,
    )
    try:
        connection.open()
        if by == "starttls":
            connection.start_tls()
        yield connection
    finally:
        connection.unbind()


def bind(directory: LdapDirectory, dn: str | None, password: str | None, *, by: str = "ldaps") -> int:
    """The result code."""
    return answer_to_bind(directory, dn, password, by=by)[0]


def answer_to_bind(
    directory: LdapDirectory, dn: str | None, password: str | None, *, by: str = "ldaps"
) -> tuple[int, str]:
    """The result code and the diagnostic message."""
    with connected(directory, dn, password, by=by) as connection:
        result = connection.bind()[1]
        return int(result["result"]), str(result["message"])


def search(
    directory: LdapDirectory,
    base: str,
    text: str,
    *attributes: str,
    scope: str = ldap3.SUBTREE,
    by: str = "ldaps",
) -> list[dict[str, Any]]:
    """What the service user finds; continuation references left out."""
    with connected(directory, directory.service_dn, directory.service_password, by=by) as connection:
        assert connection.bind()[1]["result"] == 0
        _, result, response, _ = connection.search(base, text, scope, attributes=list(attributes) or ["1.1"])
        assert result["result"] == 0, result
        return [entry for entry in response if entry["type"] == "searchResEntry"]
