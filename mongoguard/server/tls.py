"""TLS on the listener: handshakes, what the client's certificate says, and new files without a restart.

In: accepted sockets of clients that begin TLS. Out: transports, and `ClientCertificate`s. Must not know what is spoken
on them. A reload is for the connections that come after it; of those before, who keeps them asks which are revoked.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import trio

from mongoguard.authn.channel import ClientCertificate
from mongoguard.authn.x509.certificate import read_client_certificate
from mongoguard.config.sections import SetParameter
from mongoguard.config.tls_section import TLS
from mongoguard.server.tls_context import DAY_SECS, LoadedTLS, load_tls
from mongoguard.server.transport import CHUNK_BYTES, TLSTransport, shake_hands

__all__ = ["ListenerTLS", "begins_tls", "handshake_problem"]

log = logging.getLogger(__name__)

TELLING_BYTES = 3
"""A TLS record of a handshake begins 16 03 0x. As a message's length that is at least 66,326 bytes, which no first
message has; its first byte alone is the length of every 256th hello."""

LOOK_AGAIN_SECS = 0.02
"""Until the second look at a connection of which less than three bytes have come: peeking can't wait for more. Each
later wait is twice as long: thousands of strangers who send one byte must not keep the event loop busy."""

MAX_WARNED = 1000
"""Client certificates of which it is remembered that they were warned of: one line for each, not one a connection."""


async def begins_tls(sock: socket.socket) -> bool:
    """Whether the client begins a TLS handshake; nothing is taken from the socket. Waits for the first three bytes.

    Raises OSError when the client leaves without a word (as simple health checks do).
    """
    wait_secs = LOOK_AGAIN_SECS
    while True:
        try:
            data = sock.recv(TELLING_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
            continue
        if not data:
            raise ConnectionAbortedError("the connection ended before its first byte")
        if not b"\x16\x03".startswith(data[:2]):
            return False
        if len(data) == TELLING_BYTES:
            return 1 <= data[2] <= 4
        await trio.sleep(wait_secs)
        wait_secs *= 2


class ListenerTLS:
    """What all handshakes share. `read` and `adopt` take over other files, all or nothing."""

    def __init__(self, tls: TLS, parameters: SetParameter) -> None:
        """Read the files. Raises `ConfigError`."""
        self._tls = tls
        self._parameters = parameters
        self._warned: set[bytes] = set()
        self._loaded = self.read(tls, parameters)
        self._warn(self._loaded)

    def read(self, tls: TLS, parameters: SetParameter) -> LoadedTLS:
        """Read the files that these settings name; nothing changes yet. Raises `ConfigError`."""
        return load_tls(tls, parameters, time.time())

    def adopt(self, tls: TLS, parameters: SetParameter, loaded: LoadedTLS) -> None:
        """Use these settings, and what was read of their files, for handshakes from now on."""
        self._tls, self._parameters, self._loaded = tls, parameters, loaded
        self._warn(loaded)

    def revokes(self, certificate: ClientCertificate | None) -> bool:
        """Whether the revocation lists in use name a certificate that was verified by earlier ones."""
        return certificate is not None and self._loaded.revokes(certificate)

    async def shake_hands(self, sock: socket.socket) -> tuple[TLSTransport, ClientCertificate | None]:
        """Take over a socket and do the handshake on it; a failure closes it, and raises OSError. Sets no deadline."""
        loaded = self._loaded
        secured = loaded.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        try:
            await shake_hands(secured)
            certificate = self._certificate(secured, loaded)
            if self._loaded is not loaded and self.revokes(certificate):
                raise ssl.SSLError("certificate revoked")
            return TLSTransport(secured), certificate
        except BaseException:
            _take_what_waits(secured)
            secured.close()
            raise

    def _warn(self, loaded: LoadedTLS) -> None:
        self._warned.clear()
        for warning in loaded.warnings:
            log.warning("%s", warning)

    def _certificate(self, secured: ssl.SSLSocket, loaded: LoadedTLS) -> ClientCertificate | None:
        der = secured.getpeercert(binary_form=True)
        if der is None:
            return None
        try:
            certificate = read_client_certificate(der, _verified_issuers(secured), loaded.policy)
        except ValueError:
            raise ssl.SSLError("the client's certificate can't be read") from None
        self._check_end(certificate, hashlib.sha256(der).digest())
        return certificate

    def _check_end(self, certificate: ClientCertificate, fingerprint: bytes) -> None:
        """Resumed sessions are not verified again, so the end is looked at here too."""
        left = certificate.not_after - time.time()
        if left <= 0:
            raise ssl.SSLError("certificate has expired")
        threshold = self._parameters.tls_x509_expiration_warning_threshold_days * DAY_SECS
        if left < threshold and fingerprint not in self._warned and len(self._warned) < MAX_WARNED:
            self._warned.add(fingerprint)
            ends = datetime.fromtimestamp(certificate.not_after, UTC)
            log.warning("a client's certificate expires on %s: %s", f"{ends:%Y-%m-%d}", certificate.subject)


def _take_what_waits(secured: ssl.SSLSocket) -> None:
    """Read what the client sent behind its certificate: closing over it is a reset, which may overtake the alert."""
    with suppress(OSError):
        socket.socket.recv(secured, CHUNK_BYTES)


def _verified_issuers(secured: ssl.SSLSocket) -> Sequence[bytes]:
    """DER of the verified chain without the certificate itself; empty for a resumed session of TLS 1.2.

    Python has it since 3.10 and shows it since 3.13.
    """
    if hasattr(secured, "get_verified_chain"):
        return list(secured.get_verified_chain())[1:]
    chain = secured._sslobj.get_verified_chain() or []  # type: ignore[attr-defined]  # noqa: SLF001
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain[1:]]


def handshake_problem(error: OSError) -> str:
    """Why a handshake has failed, in words that hold nothing of what the client sent."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"the client's certificate is refused: {error.verify_message}"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | ConnectionError():
            return "the client left during the TLS handshake"
        case ssl.SSLError():
            text = getattr(error, "reason", "") or str(error)  # those raised here have no reason
            words = text.lower().replace("_", " ")
            return f"the TLS handshake failed: {words}"
        case _:
            return f"the TLS handshake failed: {error.strerror or type(error).__name__}"
