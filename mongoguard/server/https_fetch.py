"""Fetching one small document over https.

In: an address and a TLS context. Out: the body, or `FetchFailed`, whose text says why. Must not know what is in it.

Everything is done on the event loop, so that giving up, which the caller's deadline does, leaves no thread behind (but
one that waits for a name server, until the system's resolver gives up too). No redirect is followed, nothing but status
200 is an answer, and the body's size is bounded. Proxies are not used.
"""

from __future__ import annotations

import ssl
from urllib.parse import SplitResult, urlsplit

import h11
import trio

from mongoguard.errors import GuardError

__all__ = ["FetchFailed", "fetch"]

MAX_BODY_BYTES = 256 * 1024
"""Discovery documents and key sets have a few KB; a key with its certificate chain has 10."""

CHUNK_BYTES = 16 * 1024


class FetchFailed(GuardError):
    """There is no document; the text says why."""


async def fetch(url: str, context: ssl.SSLContext) -> bytes:
    """The body at an https:// address. Raises `FetchFailed`; the caller bounds the time."""
    parts, host, port = _parts(url)
    try:
        stream = await trio.open_ssl_over_tcp_stream(host, port, ssl_context=context, https_compatible=True)
        async with stream:
            return await _exchange(stream, parts)
    except (OSError, trio.BrokenResourceError) as error:
        raise FetchFailed(_reason(error)) from None
    except h11.RemoteProtocolError:
        raise FetchFailed("the answer is no HTTP") from None
    except UnicodeError:  # a label of the host is empty or too long
        raise FetchFailed("the address has a host that DNS can't hold") from None


def _parts(url: str) -> tuple[SplitResult, str, int]:
    """The address with its host and port. Issuers publish some of them, so nothing is sure of their form."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise FetchFailed("it is no address") from None
    if parts.scheme != "https" or host is None:
        raise FetchFailed("it is no https:// address")
    return parts, host, port or 443


async def _exchange(stream: trio.SSLStream[trio.SocketStream], parts: SplitResult) -> bytes:
    http = h11.Connection(h11.CLIENT)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = [
        ("Host", parts.netloc.rpartition("@")[2]),
        ("Accept", "application/json"),
        ("Connection", "close"),
    ]
    try:
        request = http.send(h11.Request(method="GET", target=target, headers=headers))
    except (h11.LocalProtocolError, UnicodeEncodeError):
        raise FetchFailed("the address can't be asked for") from None
    assert request is not None  # only a ConnectionClosed has no octets
    await stream.send_all(request + (http.send(h11.EndOfMessage()) or b""))
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(CHUNK_BYTES)))
        elif isinstance(event, h11.Response) and event.status_code != 200:
            raise FetchFailed(f"the answer has the status {event.status_code}")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise FetchFailed(f"the answer is longer than {MAX_BODY_BYTES} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)
        elif isinstance(event, h11.ConnectionClosed):
            raise FetchFailed("the connection was closed before the answer ended")


def _reason(error: BaseException) -> str:
    """The innermost cause, which says more than "failed"."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
