"""OpenID Connect identity providers for tests, over https.

`OidcProvider` is a stand-in: it publishes a discovery document and keys as RFC 8414 and RFC 7517 want them and signs any
token that a test asks for, right or wrong, but it signs nobody in. `MongodbOidcProvider` is MongoDB's own test provider
from npm, which somebody else wrote: the flows of real clients are proven with that one.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.missing import CLIENTS, require_node_package, require_program
from tests.pki import Pki
from tests.servers import ChildServer, free_port

__all__ = [
    "AUDIENCE",
    "DISCOVERY",
    "JWKS",
    "Misbehaviour",
    "MongodbOidcProvider",
    "OidcProvider",
    "SigningKey",
    "token_by_hand",
]

AUDIENCE = "mongodb://mongoguard.example.test"
"""Whom the tokens are for when a test says nothing else."""

DISCOVERY, JWKS = "/.well-known/openid-configuration", "/jwks"

DRIP_SECONDS = 0.2
"""Between two octets of a dripping answer: within any timeout for one read, and beyond any deadline for the whole."""


class Misbehaviour(StrEnum):
    """What a provider does in place of an answer, until told otherwise."""

    HANG = "takes the request and never answers"
    DRIP = "answers one octet at a time"
    GARBAGE = "answers with what is no JSON"
    ERROR = "answers with status 500"
    ENDLESS = "answers with a body that has no end"
    REDIRECT = "sends the client to a http address"


class SigningKey:
    """An RSA key pair with the name (kid) under which it is published."""

    def __init__(self, key_id: str, bits: int = 2048) -> None:
        """Make the pair, which takes about 0.1 s."""
        self.key_id = key_id
        self.private = rsa.generate_private_key(public_exponent=65_537, key_size=bits)

    def published(self) -> dict[str, Any]:
        """The public key as a JWK."""
        numbers = self.private.public_key().public_numbers()
        octets = {"n": numbers.n, "e": numbers.e}
        values = {
            name: _base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))
            for name, value in octets.items()
        }
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.key_id, **values}


class OidcProvider:
    """The stand-in, in threads of the test's own process."""

    def __init__(self, pki: Pki, *, certificate: Path | None = None) -> None:
        """Prepare a provider on a free port; `start()` follows."""
        self.port = free_port()
        self.issuer = f"https://localhost:{self.port}"
        self.ca_file = pki.ca
        self.keys = [SigningKey("key-1")]
        self.extra_keys: list[dict[str, Any]] = []
        """Published beside `keys`, whatever they are."""
        self.discovery: dict[str, Any] = {}
        """Fields of the discovery document that differ from the right ones; None leaves one out."""
        self.requests: list[str] = []
        """The paths asked for so far."""
        self.misbehaviour: dict[str, Misbehaviour] = {}
        """path -> what is done there in place of an answer."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate or pki.server)
        self._server: _HttpsServer | None = None
        self._made = 1

    def start(self) -> OidcProvider:
        """Listen."""
        self._server = _HttpsServer(self, self.port, self._context)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def wait(self) -> OidcProvider:
        """It listens from `start()` on."""
        return self

    def stop(self) -> None:
        """Close the port, and the connections that hang."""
        if self._server is not None:
            self._server.stopping.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def restart(self) -> OidcProvider:
        """Stop it and start it again on the same port with the same keys."""
        self.stop()
        return self.start()

    def fetches(self, path: str) -> int:
        """How often that path was asked for."""
        return self.requests.count(path)

    def reset(self) -> None:
        """Behave again, with nothing extra published; the keys stay."""
        self.misbehaviour.clear()
        self.discovery.clear()
        self.extra_keys.clear()

    def rotate(self, *, keep_old: bool = False) -> SigningKey:
        """Sign with a new key from now on; the old ones are published no longer, unless kept."""
        self._made += 1
        new = SigningKey(f"key-{self._made}")
        self.keys = [*self.keys, new] if keep_old else [new]
        return new

    def claims(self, subject: str = "alice", **claims: Any) -> dict[str, Any]:
        """A right token's claims, valid for five minutes; a claim given as None is left out."""
        now = int(time.time())
        right = {"iss": self.issuer, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 300}
        return {name: value for name, value in {**right, **claims}.items() if value is not None}

    def token(
        self,
        subject: str = "alice",
        *,
        expires_in: float | None = None,
        key: SigningKey | None = None,
        algorithm: str = "RS256",
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A signed token, by default right in everything, with the newest key; `header` adds fields or replaces kid."""
        if expires_in is not None:
            claims["exp"] = int(time.time() + expires_in)
        signer = key or self.keys[-1]
        fields = {"kid": signer.key_id, **(header or {})}
        return jwt.encode(self.claims(subject, **claims), signer.private, algorithm=algorithm, headers=fields)

    def _document(self, path: str) -> dict[str, Any] | None:
        if path == JWKS:
            return {"keys": [*(key.published() for key in self.keys), *self.extra_keys]}
        if path != DISCOVERY:
            return None
        right = {
            "issuer": self.issuer,
            "jwks_uri": self.issuer + JWKS,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "device_authorization_endpoint": f"{self.issuer}/device",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return {name: value for name, value in {**right, **self.discovery}.items() if value is not None}


def token_by_hand(
    header: Mapping[str, Any], claims: Mapping[str, Any], sign: Callable[[bytes], bytes]
) -> str:
    """A token that no library would make: alg none, an HMAC under a public key, a header with anything in it."""
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
    return f"{signed}.{_base64url(sign(signed.encode()))}"


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


class _HttpsServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, provider: OidcProvider, port: int, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.provider = provider
        self.stopping = threading.Event()
        self._context = context

    def get_request(self) -> tuple[ssl.SSLSocket, Any]:
        raw, address = super().get_request()
        # the handshake is the connection's own thread's: a client that stalls in it holds nobody else up
        raw.settimeout(60)
        return self._context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that break off are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _HttpsServer

    def do_GET(self) -> None:
        provider = self.server.provider
        provider.requests.append(self.path)
        document = provider._document(self.path)
        misbehaviour = provider.misbehaviour.get(self.path)
        body = json.dumps(document).encode()
        with contextlib.suppress(OSError):
            match misbehaviour:
                case Misbehaviour.HANG:
                    self.server.stopping.wait()
                case Misbehaviour.DRIP:
                    self._drip(body)
                case Misbehaviour.GARBAGE:
                    self._answer(200, b"\x00<html>{]")
                case Misbehaviour.ERROR:
                    self._answer(500, b"{}")
                case Misbehaviour.ENDLESS:
                    self._pour()
                case Misbehaviour.REDIRECT:
                    self._answer(302, b"", location="http://127.0.0.1:9/")
                case None:
                    self._answer(404 if document is None else 200, body)

    def _answer(self, status: int, body: bytes, location: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if location is not None:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def _drip(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for position in range(len(body)):
            self.wfile.write(body[position : position + 1])
            if self.server.stopping.wait(DRIP_SECONDS):
                return

    def _pour(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"keys": [')
        while not self.server.stopping.is_set():
            self.wfile.write(b" " * 65_536)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server's name)
        """Say nothing."""


class MongodbOidcProvider(ChildServer):
    """@mongodb-js/oidc-mock-provider over https: one random key, authorization code with PKCE, and the device flow."""

    def __init__(
        self,
        directory: Path,
        pki: Pki,
        *,
        subject: str = "alice",
        groups: tuple[str, ...] = ("dba",),
        expires_in: int = 300,
    ) -> None:
        """Prepare a provider whose tokens are all for that subject; skips the test without node or the package."""
        super().__init__(directory, "oidc.log")
        require_node_package("@mongodb-js/oidc-mock-provider")
        self._node = require_program("node", "install Node.js 20.19 or later")
        self.issuer = f"https://localhost:{self.port}"
        self.ca_file = pki.ca
        self._settings = {
            "port": self.port,
            "certificateKeyFile": str(pki.server),
            "expires_in": expires_in,
            "payload": {"sub": subject, "aud": AUDIENCE, "groups": groups},
        }

    def start(self) -> MongodbOidcProvider:
        """Start the process; `wait()` must follow before it is used."""
        self._spawn([self._node, str(CLIENTS / "oidc_provider.js"), json.dumps(self._settings)])
        return self

    def wait(self) -> MongodbOidcProvider:
        """Return when it says that it listens."""
        for _ in self._poll():
            if self.issuer in self.log:
                break
        return self

    def restart(self) -> MongodbOidcProvider:
        """Stop it and start it again on the same port, with another key."""
        self.stop()
        self.log_path.unlink()
        return self.start().wait()

    def token(self, client_id: str = "mongoguard-tests") -> str:
        """A token by the device flow, as a program without a browser gets it."""
        device = self._post("/device", {"client_id": client_id, "scope": "openid"})
        return str(self._post("/token", {"device_code": device["device_code"]})["access_token"])

    def _post(self, path: str, fields: Mapping[str, str]) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        request = Request(self.issuer + path, urlencode(fields).encode())
        with urlopen(request, timeout=10, context=context) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
