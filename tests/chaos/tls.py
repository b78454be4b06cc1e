"""TLS for a storm: a mongod that takes nothing else, and connections without a driver.

In: a certification authority of the storm's own. Out: a server, connections. Everything is on 127.0.0.1.
"""

from __future__ import annotations

import itertools
import select
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

from tests.certificates import Authority
from tests.rawwire import RawConnection
from tests.servers import Mongod

__all__ = ["TLSMongod", "connect_raw", "driver_options", "listener_settings"]


def driver_options(authority: Authority) -> dict[str, str]:
    """What a connection string needs."""
    return {"tls": "true", "tlsCAFile": str(authority.ca_file)}


def listener_settings(authority: Authority) -> dict[str, object]:
    """mongoguard's `net.tls`."""
    return {
        "mode": "requireTLS",
        "certificateKeyFile": str(authority.server("mongoguard.pem", ["127.0.0.1"])),
        "CAFile": str(authority.ca_file),
        "allowConnectionsWithoutCertificates": True,
    }


class TLSMongod(Mongod):
    """A mongod that takes TLS only."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        """Prepare it, with a certificate of that authority."""
        self._authority = authority
        super().__init__(
            directory,
            arguments=[
                *("--tlsMode", "requireTLS"),
                *("--tlsCertificateKeyFile", str(authority.server("mongod.pem", ["127.0.0.1"]))),
                *("--tlsCAFile", str(authority.ca_file), "--tlsAllowConnectionsWithoutCertificates"),
            ],
        )

    def uri(self, user: str | None = "root", password: str | None = None, **options: str) -> str:
        """With TLS."""
        return super().uri(user, password, **{**driver_options(self._authority), **options})


class _TLSConnection(RawConnection):
    def __init__(self, address: str, timeout: float, ca_file: str) -> None:
        host, _, port = address.rpartition(":")
        context = ssl.create_default_context(cafile=ca_file)
        # Wrapped before it is connected: of one whose peer resets it meanwhile, nothing would be left to close.
        self._tls = context.wrap_socket(socket.socket(), server_hostname=host, do_handshake_on_connect=False)
        self._socket = self._tls
        self._request_ids = itertools.count(1)
        try:
            self._tls.settimeout(timeout)
            self._tls.connect((host, int(port)))
            self._tls.do_handshake()
        except BaseException:
            self.close()
            raise

    def silent_for(self, seconds: float) -> bool:
        """As without TLS, where bytes can be looked at without being taken."""
        return not self._tls.pending() and not select.select([self._tls], [], [], seconds)[0]


def connect_raw(address: str, timeout: float, options: Mapping[str, str]) -> RawConnection:
    """A connection without a driver to a server to which drivers connect with these options."""
    ca_file = options.get("tlsCAFile")
    return RawConnection(address, timeout) if ca_file is None else _TLSConnection(address, timeout, ca_file)
