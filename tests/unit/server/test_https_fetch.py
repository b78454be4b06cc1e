"""Addresses that an identity provider publishes, and that can't be asked: each is an answer, and no error of ours."""

import ssl

import pytest
import trio

from mongoguard.server.https_fetch import FetchFailed, fetch


@pytest.mark.parametrize(
    "url",
    [
        "https://[::1/jwks",
        "https://localhost:99999/jwks",
        "https://localhost:x/jwks",
        "https://a\u2100b.example/jwks",
        f"https://{'a' * 70}.example/jwks",
        "https://.example.org/jwks",
        "https://a..b/jwks",
        "https://" + "\u00e9" * 80 + "/jwks",
        "https:///jwks",
        "http://localhost/jwks",
    ],
)
async def test_an_address_that_is_none_gives_no_document(url):
    with trio.fail_after(5), pytest.raises(FetchFailed):
        await fetch(url, ssl.create_default_context())
