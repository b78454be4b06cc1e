"""TLS to a directory, checked by OpenSSL itself, and a socket with a meter.

In: a file of trusted certificates; a connected socket. Out: an SSL context, ldap3's `Tls` with it, the socket that
ldap3 reads from. Must not know what is spoken.

ldap3's own `Tls` accepts any certificate unless it is told otherwise, sends no server name, and checks host names with
what Python 3.12 removed, so that IP addresses in a certificate are not found. Here OpenSSL checks the chain, the dates,
DNS names and IP addresses, and gets the server's name as SNI.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from ldap3 import Tls

from mongoguard.errors import ConfigError

__all__ = ["MeteredSocket", "NativeTls", "directory_context"]


def directory_context(ca_file: str | None) -> ssl.SSLContext:
    """Trust the authorities of that file, or the system's. Raises `ConfigError`."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(f"security.ldap.CAFile: cannot read {ca_file}: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class MeteredSocket:
    """A socket that gives a bounded number of bytes for each answer: ldap3 reads any length that a message claims."""

    def __init__(self, sock: socket.socket, answer_bytes: int) -> None:
        """Read through `sock`; `answer_bytes` are left after each `refill`."""
        self.inner = sock
        self._answer_bytes = answer_bytes
        self._left = answer_bytes

    def refill(self) -> None:
        """The next answer begins."""
        self._left = self._answer_bytes

    def recv(self, count: int) -> bytes:
        """As a socket's; `OSError` when the answer is too long."""
        if self._left <= 0:
            raise OSError(f"an answer is longer than {self._answer_bytes} bytes")
        received = self.inner.recv(count)
        self._left -= len(received)
        return received

    def sendall(self, octets: bytes) -> None:
        """As a socket's."""
        self.inner.sendall(octets)

    def getpeercert(self, _binary_form: object) -> bytes | None:
        """The certificate in DER, as a TLS socket's: ldap3 binds a Kerberos ticket to it (RFC 5929)."""
        if not isinstance(self.inner, ssl.SSLSocket):
            raise OSError("there is no TLS")
        return self.inner.getpeercert(binary_form=True)

    def close(self) -> None:
        """As a socket's."""
        self.inner.close()


class NativeTls(Tls):  # type: ignore[misc]  # ldap3 has no types
    """ldap3's TLS for one server; the context is shared by all connections."""

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        """Check certificates for `server_name`, a DNS name or an IP address."""
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = context
        self._server_name = server_name

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """Put TLS on the connection's metered socket, as ldap3 asks for LDAPS and for StartTLS."""
        metered: MeteredSocket = connection.socket
        metered.inner = self._context.wrap_socket(
            metered.inner, server_hostname=self._server_name, do_handshake_on_connect=do_handshake
        )
