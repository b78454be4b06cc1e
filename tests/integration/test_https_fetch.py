"""Fetching a document from a real https server: what is an answer, and why anything else is none."""

from __future__ import annotations

import ssl
import threading

import pytest
import trio

from mongoguard.server.https_fetch import MAX_BODY_BYTES, FetchFailed, fetch
from tests.oidc_provider import DISCOVERY, JWKS, Misbehaviour, OidcProvider
from tests.pki import Pki
from tests.servers import free_port


def trusting(pki: Pki) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pki.ca))


async def failure(url: str, context: ssl.SSLContext) -> str:
    with pytest.raises(FetchFailed) as caught:
        await fetch(url, context)
    assert caught.value.__cause__ is None
    return str(caught.value)


async def test_a_document_is_fetched_whole(oidc_provider: OidcProvider, pki: Pki) -> None:
    body = await fetch(oidc_provider.issuer + DISCOVERY, trusting(pki))
    assert oidc_provider.issuer.encode() in body


@pytest.mark.parametrize(
    ("misbehaviour", "reason"),
    [
        (Misbehaviour.ERROR, "status 500"),
        (Misbehaviour.REDIRECT, "status 302"),
        (Misbehaviour.ENDLESS, f"longer than {MAX_BODY_BYTES} bytes"),
    ],
)
async def test_nothing_but_a_short_answer_with_status_200_is_one(
    oidc_provider: OidcProvider, pki: Pki, misbehaviour: Misbehaviour, reason: str
) -> None:
    oidc_provider.misbehaviour[JWKS] = misbehaviour
    assert reason in await failure(oidc_provider.issuer + JWKS, trusting(pki))
    assert "status 404" in await failure(oidc_provider.issuer + "/elsewhere", trusting(pki))


@pytest.mark.parametrize("misbehaviour", [Misbehaviour.HANG, Misbehaviour.DRIP])
async def test_giving_up_leaves_no_thread_and_no_connection_behind(
    oidc_provider: OidcProvider, pki: Pki, misbehaviour: Misbehaviour
) -> None:
    oidc_provider.misbehaviour[JWKS] = misbehaviour
    ours = [thread for thread in threading.enumerate() if "trio" in thread.name.lower()]
    with trio.move_on_after(0.5) as scope:
        await fetch(oidc_provider.issuer + JWKS, trusting(pki))
    assert scope.cancelled_caught
    # one worker, kept for the next look-up of a name
    assert len([t for t in threading.enumerate() if "trio" in t.name.lower()]) <= len(ours) + 1


@pytest.mark.parametrize("kind", ["expired", "unknown authority"])
async def test_a_certificate_that_proves_nothing_ends_it(pki: Pki, kind: str) -> None:
    provider = OidcProvider(pki, certificate=pki.server_expired if kind == "expired" else None).start()
    try:
        context = trusting(pki) if kind == "expired" else ssl.create_default_context()
        assert "certificate is not trusted" in await failure(provider.issuer + JWKS, context)
        assert provider.requests == []
    finally:
        provider.stop()


@pytest.mark.parametrize("url", ["http://localhost/jwks", "file:///etc/passwd", "https:///jwks", "jwks"])
async def test_no_other_address_is_asked(pki: Pki, url: str) -> None:
    assert "no https:// address" in await failure(url, trusting(pki))


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/é"])
async def test_an_address_that_is_no_request_is_not_sent(
    oidc_provider: OidcProvider, pki: Pki, path: str
) -> None:
    before = len(oidc_provider.requests)
    with pytest.raises(FetchFailed):
        await fetch(oidc_provider.issuer + path, trusting(pki))
    assert not any("X:" in request for request in oidc_provider.requests[before:])


async def test_an_address_where_nobody_listens_is_said_to_be_so(pki: Pki) -> None:
    assert await failure(f"https://localhost:{free_port()}/", trusting(pki))
