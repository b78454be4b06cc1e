"""One connection to a directory server: opened, secured, bound, searched, closed.

In: a server's name, a bind name and a password, searches as values. Out: entries and bind answers as values, or an
error. Must not know pools, other servers, or what a search is for. It is the only module that calls ldap3.

Sockets are opened by Trio. ldap3 blocks, so it runs in a worker thread; when the caller is cancelled (its deadline
passes, its client leaves) the thread is left behind and its socket shut down, which ends whatever it waits for.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ldap3
import trio
from ldap3.core.exceptions import LDAPException

from mongoguard.authn.ldap.query import LdapEntry, LdapQuery, LdapRefusal, SearchScope
from mongoguard.errors import DirectoryUnavailable
from mongoguard.server.ldap.bind_answer import BindAnswer
from mongoguard.server.ldap.native_tls import MeteredSocket, NativeTls

__all__ = ["MAX_ENTRIES", "DirectoryConnectionLost", "LdapConnection", "LdapServer", "Transport"]

T = TypeVar("T")

MAX_ENTRIES = 2048
"""Entries of one search: twice the groups that a user may have, so that the limit on groups is the one that is met."""

PAGE_SIZE = 500
"""Entries of one page (RFC 2696); Active Directory gives at most 1,000 at a time."""

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Bytes of one answer, a page of a search: a thousand groups' names are some hundred KB."""

THREAD_SECS = 3600
"""The socket's own time limit, for a thread that nobody shuts down: never met, for every caller has a deadline."""

_RECEIVE_BYTES = 65536
"""Read at once; ldap3's own 4 KB would copy a long answer a thousand times."""

_PAGED_RESULTS = "1.2.840.113556.1.4.319"
_SCOPES = {
    SearchScope.BASE: ldap3.BASE,
    SearchScope.ONE: ldap3.LEVEL,
    SearchScope.SUB: ldap3.SUBTREE,
}
_NO_SUCH_OBJECT = 32
_TRY_ANOTHER = frozenset({51, 52})
"""busy and unavailable (RFC 4511 section 4.1.9)."""


class DirectoryConnectionLost(DirectoryUnavailable):
    """The server could not be reached or went away: another server, or another connection, may do better."""


@dataclass(frozen=True, slots=True)
class LdapServer:
    """Where to connect; the server's certificate must be for `host`."""

    host: str
    port: int

    def __str__(self) -> str:
        """host:port, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Transport:
    """How connections are secured: "tls" from the first byte, "startTLS", or "none"."""

    security: str
    context: ssl.SSLContext | None = field(default=None, repr=False)


class LdapConnection:
    """An open connection that runs one operation at a time. After any error it is closed."""

    def __init__(
        self,
        server: LdapServer,
        transport: Transport,
        sock: trio.socket.SocketType,
        threads: trio.CapacityLimiter,
    ) -> None:
        """Take a connected socket, which stays the caller's to close. `open` secures the connection. Raises OSError."""
        self.server = server
        self.idle_since = 0.0
        self._transport = transport
        self._threads = threads
        # Shutting down a second descriptor ends what a thread waits for on the first, and no descriptor is closed
        # under a thread that uses it.
        address = sock.getpeername()[0].partition("%")[0]
        self._handle = socket.socket(fileno=os.dup(sock.fileno()))
        try:
            self._socket = MeteredSocket(socket.socket(fileno=os.dup(sock.fileno())), MAX_ANSWER_BYTES)
        except OSError:
            self._handle.close()
            raise
        self._ldap = _ldap3_connection(address, server, transport, self._socket)
        self._lock = threading.Lock()
        self._busy = False
        self._closed = False

    @classmethod
    async def open(
        cls, server: LdapServer, transport: Transport, threads: trio.CapacityLimiter
    ) -> LdapConnection:
        """Connect, and do what `transport` asks. Raises `DirectoryConnectionLost`."""
        try:
            stream = await trio.open_tcp_stream(server.host, server.port)
            with stream.socket as sock:
                connection = cls(server, transport, sock, threads)
        except (OSError, ValueError) as error:  # ValueError: a name that DNS can't hold
            raise DirectoryConnectionLost(f"{server}: {_words(error)}") from None
        await connection._in_thread(connection._begin)
        return connection

    @property
    def tls(self) -> tuple[str, str] | None:
        """Protocol and cipher, such as ("TLSv1.3", "TLS_AES_256_GCM_SHA384"); None without TLS."""
        sock = self._socket.inner
        if not isinstance(sock, ssl.SSLSocket):
            return None
        cipher = sock.cipher()
        return (sock.version() or "", cipher[0] if cipher else "")

    @property
    def certificate(self) -> bytes | None:
        """The server's certificate in DER; None without TLS."""
        sock = self._socket.inner
        return sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None

    @property
    def closed(self) -> bool:
        """Whether it can't be used any more."""
        return self._closed

    def is_usable(self) -> bool:
        """Whether an idle connection is still open: nothing may come on it unasked."""
        if self._closed:
            return False
        try:
            self._handle.setblocking(False)
            self._handle.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def bind(self, name: str, password: str) -> BindAnswer:
        """A simple bind; any answer of the server is returned. Raises `DirectoryConnectionLost`.

        An empty name or password would bind as nobody, and succeed (RFC 4513 section 5.1): `LdapRefusal`, and nothing
        is sent.
        """
        if not name.strip() or not password:
            raise LdapRefusal("a name and a password must not be empty")
        return await self._in_thread(self._bind, name, password)

    async def bind_by_sasl(
        self, mechanism: str, user: str | None, password: str, threads: trio.CapacityLimiter
    ) -> BindAnswer:
        """A bind by GSSAPI (RFC 4752) or DIGEST-MD5 (RFC 2831) as the service; any answer of the server is returned.

        GSSAPI takes the Kerberos ticket of `user`, or the one there is, from the library's own places: KRB5CCNAME,
        KRB5_CLIENT_KTNAME. The library may wait for a KDC, which nobody can shut down: so it has `threads` of its own.
        No security layer is asked for, TLS must be there. Raises `DirectoryConnectionLost`, also without a ticket.
        """
        return await self._in_thread(self._bind_by_sasl, mechanism, user, password, threads=threads)

    async def search(self, query: LdapQuery) -> tuple[LdapEntry, ...]:
        """All entries, continuation references left out. A base entry that does not exist is none.

        Raises `LdapRefusal` for more than `MAX_ENTRIES`, `DirectoryConnectionLost`, and `DirectoryUnavailable` for any
        other result than success: what was cut short is no answer.
        """
        return await self._in_thread(self._search, query)

    def close(self) -> None:
        """Close it, from the event loop; a thread that still uses it wakes up and closes its own descriptor."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)
            self._handle.close()
            if not self._busy:
                self._socket.close()

    # ---- in the thread ----------------------------------------------------------------------------------------------

    async def _in_thread(
        self, work: Callable[..., T], *arguments: object, threads: trio.CapacityLimiter | None = None
    ) -> T:
        try:
            return await trio.to_thread.run_sync(
                self._guarded, work, *arguments, abandon_on_cancel=True, limiter=threads or self._threads
            )
        except BaseException:
            self.close()
            raise

    def _guarded(self, work: Callable[..., T], *arguments: object) -> T:
        """Run `work`; errors of ldap3 and the socket become ours, without a word of what was sent."""
        with self._lock:
            if self._closed:
                raise DirectoryConnectionLost(f"{self.server}: the connection is closed")
            self._busy = True
        try:
            return work(*arguments)
        except (DirectoryUnavailable, LdapRefusal):
            raise
        except (LDAPException, OSError) as error:
            raise DirectoryConnectionLost(f"{self.server}: {_words(error)}") from None
        except Exception as error:  # noqa: BLE001
            # ldap3 decodes with whatever a broken message breaks; its text may repeat what was sent.
            raise DirectoryConnectionLost(
                f"{self.server}: an answer that is not LDAP ({type(error).__name__})"
            ) from None
        finally:
            with self._lock:
                self._busy = False
                if self.closed:  # meanwhile
                    self._socket.close()

    def _begin(self) -> None:
        sock = self._socket.inner
        sock.settimeout(THREAD_SECS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each bind over TLS waits for 40 ms
        self._ldap.open(read_server_info=False)
        if self._transport.security == "startTLS":
            self._ldap.start_tls(read_server_info=False)

    def _about_to_ask(self) -> Any:
        self._socket.refill()
        return self._ldap

    def _bind(self, name: str, password: str) -> BindAnswer:
        ldap = self._about_to_ask()
        ldap.fast_decoder = False  # it knows no referral in a bind response (KeyError in ldap3 2.9.1)
        ldap.user, ldap.password = name, password.encode()  # octets are sent as they are, without SASLprep
        try:
            _, result, _, _ = ldap.bind(read_server_info=False)
        finally:
            ldap.password = None
            ldap.fast_decoder = True
        return BindAnswer.read(result["result"], result["description"], str(result["message"]))

    def _bind_by_sasl(self, mechanism: str, user: str | None, password: str) -> BindAnswer:
        ldap = self._about_to_ask()
        ldap.fast_decoder = False
        ldap.authentication, ldap.sasl_mechanism = ldap3.SASL, mechanism
        ldap.server.host = (
            self.server.host
        )  # the service is ldap/HOST in both mechanisms; no name is looked up by it
        if mechanism == "GSSAPI":
            ldap.user, ldap.sasl_credentials = user, (self.server.host,)
        else:
            ldap.sasl_credentials = (None, user, password, None)
        try:
            _, result, _, _ = ldap.bind(read_server_info=False)
        except Exception as error:
            if type(error).__module__.startswith("gssapi."):
                raise DirectoryConnectionLost(f"{self.server}: Kerberos: {_words(error)}") from None
            raise
        finally:
            ldap.authentication, ldap.sasl_mechanism, ldap.sasl_credentials = ldap3.SIMPLE, None, None
            ldap.fast_decoder = True
        return BindAnswer.read(result["result"], result["description"], str(result["message"]))

    def _search(self, query: LdapQuery) -> tuple[LdapEntry, ...]:
        entries: list[LdapEntry] = []
        cookie: bytes | None = None
        for _ in range(MAX_ENTRIES // PAGE_SIZE + 2):
            result, page = self._page(query, cookie)
            if result["result"] == _NO_SUCH_OBJECT and query.scope is SearchScope.BASE:
                return ()
            self._check(result)
            entries += page
            if len(entries) > MAX_ENTRIES:
                break
            cookie = _cookie(result)
            if not cookie:
                return tuple(entries)
        raise LdapRefusal(f"the directory returns more than {MAX_ENTRIES} entries")

    def _page(self, query: LdapQuery, cookie: bytes | None) -> tuple[Mapping[str, Any], list[LdapEntry]]:
        is_paged = query.scope is not SearchScope.BASE
        _, result, response, _ = self._about_to_ask().search(
            query.base,
            _in_ascii(query.filter),
            _SCOPES[query.scope],
            ldap3.DEREF_NEVER,
            attributes=list(query.attributes),
            paged_size=PAGE_SIZE if is_paged else None,
            paged_cookie=cookie,
        )
        found = [entry for entry in response or () if entry["type"] == "searchResEntry"]
        return result, [_entry(entry) for entry in found]

    def _check(self, result: Mapping[str, Any]) -> None:
        code = result["result"]
        if code == 0:
            return
        text = f"{self.server} answers a search with {code} {result['description']}"
        if code == 10:
            raise DirectoryUnavailable(f"{text} to another server, which is not followed")
        if code in _TRY_ANOTHER:
            raise DirectoryConnectionLost(text)
        raise DirectoryUnavailable(text)


def _ldap3_connection(address: str, server: LdapServer, transport: Transport, sock: MeteredSocket) -> Any:
    """An ldap3 connection that is not open yet. `address` is a number, so that ldap3 looks up no name."""
    tls = None if transport.context is None else NativeTls(transport.context, server.host)
    is_tls = transport.security == "tls"
    ldap = ldap3.Connection(
        ldap3.Server(address, server.port, use_ssl=is_tls, tls=tls, get_info=ldap3.NONE),
        client_strategy=ldap3.SAFE_SYNC,
        auto_referrals=False,  # else the password goes to whatever server a referral names
        auto_range=False,
        auto_escape=False,
        check_names=False,
        raise_exceptions=False,
    )
    ldap.authentication = ldap3.SIMPLE  # not by the constructor, which wants a password at once
    ldap.strategy.socket_size = _RECEIVE_BYTES

    def adopt(_address: object, use_ssl: bool = False, unix_socket: bool = False) -> None:  # noqa: ARG001
        """Instead of connecting: only TLS is left to do."""
        ldap.socket = sock
        if tls is not None and use_ssl:
            tls.wrap_socket(ldap, do_handshake=True)
        ldap.closed = False

    ldap.strategy._open_socket = adopt  # noqa: SLF001
    return ldap


def _entry(found: Mapping[str, Any]) -> LdapEntry:
    try:
        dn = bytes(found["raw_dn"]).decode()
    except UnicodeDecodeError:
        raise LdapRefusal("the directory returned a DN that is not UTF-8") from None
    return LdapEntry(dn, {name: tuple(values or ()) for name, values in found["raw_attributes"].items()})


def _cookie(result: Mapping[str, Any]) -> bytes | None:
    """Where the next page begins; nothing behind the last page, and from servers that know no pages."""
    control = (result.get("controls") or {}).get(_PAGED_RESULTS)
    return control["value"]["cookie"] if control else None


def _in_ascii(text: str) -> str:
    """The filter with everything but visible ASCII escaped: ldap3 strips spaces of any kind around values."""
    return "".join(c if "!" <= c <= "~" else "".join(f"\\{octet:02x}" for octet in c.encode()) for c in text)


def _words(error: BaseException) -> str:
    """The first cause's text on one line, or its name."""
    while isinstance(error, BaseExceptionGroup) or error.__cause__ is not None:
        error = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__  # type: ignore[assignment]
    only = error.args[0] if len(error.args) == 1 else None
    text = " ".join((only if isinstance(only, str) else str(error)).split())[:300]
    return text or type(error).__name__
