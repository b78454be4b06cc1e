"""Signing keys: when an issuer is asked, what of its answers is taken, and what a login gets meanwhile."""

import json
import logging
from collections.abc import Awaitable, Callable

import pytest
import trio

from mongoguard.config.oidc_section import OidcParameters
from mongoguard.effects import FetchSigningKey
from mongoguard.errors import ConfigError, DirectoryUnavailable
from mongoguard.server.https_fetch import FetchFailed
from mongoguard.server.oidc_keys import (
    FETCH_SECS,
    MAX_MISSED_POLLS,
    RETRY_SECS,
    IssuerKeys,
    SigningKeys,
    open_signing_keys,
)
from tests.unit.authn.oidc_tokens import ISSUER, jwk_of, rsa_key

KEY_SET = "https://keys.example.test/jwks"
QUIESCE = 60.0


class Issuer:
    """What an issuer publishes; `before` runs before each answer."""

    def __init__(self):
        self.kids = ["k1"]
        self.asked: list[str] = []
        self.discovery = {"issuer": ISSUER, "jwks_uri": KEY_SET}
        self.before: Callable[[], Awaitable[None]] | None = None

    async def fetch(self, url):
        self.asked.append(url)
        await trio.lowlevel.checkpoint()
        if self.before is not None:
            await self.before()
        if url == f"{ISSUER}/.well-known/openid-configuration":
            return json.dumps(self.discovery).encode()
        assert url == KEY_SET
        return json.dumps({"keys": [jwk_of(rsa_key(), kid=kid) for kid in self.kids]}).encode()

    @property
    def rounds(self):
        return sum(url == KEY_SET for url in self.asked)


async def fail():
    raise FetchFailed("it is on fire")


async def hang():
    await trio.sleep_forever()


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
async def keys(issuer, nursery, autojump_clock):
    return started(issuer, nursery)


def started(issuer, nursery, poll=0.0):
    found = IssuerKeys(ISSUER, issuer.fetch, poll, QUIESCE)
    nursery.start_soon(found.keep_up)
    return found


async def unavailable(keys, kid="new"):
    with pytest.raises(DirectoryUnavailable) as caught:
        await keys.key(kid)
    return str(caught.value)


async def test_the_first_login_waits_for_the_keys(issuer, keys, autojump_clock):
    assert (await keys.key("k1")) is not None
    assert issuer.rounds == 1


async def test_a_known_key_is_given_without_asking(issuer, keys, autojump_clock):
    for _ in range(5):
        assert (await keys.key("k1")) is not None
        await trio.sleep(1000)
    assert issuer.rounds == 1


async def test_an_unknown_key_is_asked_for_once_in_a_quiesce_period(issuer, keys, autojump_clock):
    await keys.key("k1")
    for number in range(10):
        assert await keys.key(f"made up {number}") is None
    assert issuer.rounds == 1
    await trio.sleep(QUIESCE)
    for number in range(10):
        assert await keys.key(f"made up {number}") is None
    assert issuer.rounds == 2


async def test_a_new_key_is_found_after_the_quiesce_period_and_a_withdrawn_one_is_gone(
    issuer, keys, autojump_clock
):
    await keys.key("k1")
    issuer.kids = ["k2"]
    assert await keys.key("k2") is None
    await trio.sleep(QUIESCE)
    assert await keys.key("k2") is not None
    assert await keys.key("k1") is None


async def test_logins_that_come_together_ask_together(issuer, keys, nursery, autojump_clock):
    await keys.key("k1")
    await trio.sleep(QUIESCE)
    found = []

    async def ask():
        found.append(await keys.key("new"))

    issuer.kids = ["k1", "new"]
    async with trio.open_nursery() as logins:
        for _ in range(100):
            logins.start_soon(ask)
    assert len(found) == 100
    assert None not in found
    assert issuer.rounds == 2


async def test_an_issuer_that_hangs_is_given_up_and_known_keys_go_on(issuer, keys, autojump_clock):
    await keys.key("k1")
    await trio.sleep(QUIESCE)
    issuer.before = hang
    began = trio.current_time()
    assert "did not answer in time" in await unavailable(keys)
    assert trio.current_time() - began <= FETCH_SECS + 1
    assert await keys.key("k1") is not None


async def test_known_keys_are_given_while_the_issuer_hangs(issuer, keys, nursery, autojump_clock):
    await keys.key("k1")
    await trio.sleep(QUIESCE)
    issuer.before = hang
    nursery.start_soon(unavailable, keys)
    await trio.sleep(1)
    began = trio.current_time()
    assert await keys.key("k1") is not None
    assert trio.current_time() == began


async def test_a_login_that_leaves_does_not_end_the_question_for_the_others(issuer, keys, autojump_clock):
    await keys.key("k1")
    await trio.sleep(QUIESCE)

    async def slow():
        await trio.sleep(2)

    issuer.before = slow
    issuer.kids = ["new"]
    with trio.move_on_after(1):
        await keys.key("new")
    assert await keys.key("new") is not None
    assert issuer.rounds == 2


async def test_an_issuer_that_is_back_is_asked_again_soon_but_not_at_once(issuer, nursery, autojump_clock):
    issuer.before = fail
    keys = started(issuer, nursery)
    assert "on fire" in await unavailable(keys, "k1")
    issuer.before = None
    assert "on fire" in await unavailable(keys, "k1")
    await trio.sleep(RETRY_SECS)
    assert await keys.key("k1") is not None


async def test_a_refused_key_set_takes_no_known_key_away(issuer, keys, autojump_clock):
    await keys.key("k1")
    await trio.sleep(QUIESCE)
    issuer.kids = ["twice", "twice"]
    assert "two keys have the kid twice" in await unavailable(keys)
    assert await keys.key("k1") is not None


@pytest.mark.parametrize(
    ("discovery", "reason"),
    [
        ({"issuer": ISSUER + "/"}, "another issuer"),
        ({"issuer": None}, "another issuer"),
        ({"jwks_uri": "http://keys.example.test/jwks"}, "no jwks_uri"),
        ({"jwks_uri": "file:///etc/passwd"}, "no jwks_uri"),
        ({"jwks_uri": None}, "no jwks_uri"),
        ({"jwks_uri": ["https://keys.example.test/jwks"]}, "no jwks_uri"),
    ],
)
async def test_a_discovery_document_that_is_not_the_issuers_is_refused(
    issuer, nursery, autojump_clock, discovery, reason
):
    issuer.discovery |= discovery
    keys = started(issuer, nursery)
    assert reason in await unavailable(keys, "k1")
    assert issuer.rounds == 0


async def test_polling_notices_a_withdrawn_key_without_a_login(issuer, nursery, autojump_clock):
    keys = started(issuer, nursery, poll=100)
    await keys.key("k1")
    issuer.kids = ["k2"]
    await trio.sleep(101)
    assert await keys.key("k1") is None
    assert issuer.rounds == 2


async def test_keys_that_could_not_be_polled_for_long_are_trusted_no_more(issuer, nursery, autojump_clock):
    keys = started(issuer, nursery, poll=100)
    await keys.key("k1")
    issuer.before = fail
    await trio.sleep(100 * MAX_MISSED_POLLS - 50)
    assert await keys.key("k1") is not None
    await trio.sleep(100)
    assert "on fire" in await unavailable(keys, "k1")


async def test_a_login_is_not_held_when_nobody_asks_any_more(issuer, autojump_clock):
    keys = IssuerKeys(ISSUER, issuer.fetch, 0, QUIESCE)  # keep_up does not run: the server is ending
    assert "did not come in time" in await unavailable(keys, "k1")


async def test_keys_that_are_published_no_longer_are_told_of_once(issuer, nursery, autojump_clock):
    issuer.kids = ["k1", "k2"]
    found = IssuerKeys(ISSUER, issuer.fetch, 10, QUIESCE)
    told = []
    nursery.start_soon(found.keep_up, told.append)
    first = await found.key("k1")
    issuer.kids = ["k2", "k3"]
    await trio.sleep(35)
    assert told == [[first]]
    assert await found.key("k2") is not None


async def test_a_key_whose_name_has_become_anothers_is_told_of(nursery, autojump_clock):
    number = 0

    async def fetch(url):
        nonlocal number
        await trio.lowlevel.checkpoint()
        if url != KEY_SET:
            return json.dumps({"issuer": ISSUER, "jwks_uri": KEY_SET}).encode()
        number += 1
        return json.dumps({"keys": [jwk_of(rsa_key(name=str(number // 2)), kid="k1")]}).encode()

    found = IssuerKeys(ISSUER, fetch, 10, QUIESCE)
    told = []
    nursery.start_soon(found.keep_up, told.append)
    first = await found.key("k1")
    await trio.sleep(15)
    assert told == [[first]]
    assert await found.key("k1") != first


async def test_an_issuer_that_is_away_has_withdrawn_nothing(issuer, nursery, autojump_clock):
    found = IssuerKeys(ISSUER, issuer.fetch, 10, QUIESCE)
    told = []
    nursery.start_soon(found.keep_up, told.append)
    assert await found.key("k1")
    issuer.before = fail
    await trio.sleep(500)
    assert told == []


async def test_what_is_passed_over_is_logged(issuer, nursery, autojump_clock, caplog):
    async def other_key(url):
        if url != KEY_SET:
            return await issuer.fetch(url)
        return b'{"keys": [{"kty": "oct", "k": "c4n4ry"}]}'

    keys = IssuerKeys(ISSUER, other_key, 0, QUIESCE)
    with caplog.at_level(logging.INFO, "mongoguard"):
        nursery.start_soon(keys.keep_up)
        assert await keys.key("k1") is None
    assert "a key of the type 'oct', which is passed over" in caplog.text
    assert "c4n4ry" not in caplog.text


async def test_each_issuer_has_its_own_keys(issuer, nursery, autojump_clock):
    first = IssuerKeys(ISSUER, issuer.fetch, 0, QUIESCE)
    hanging = Issuer()
    hanging.before = hang
    second = IssuerKeys(ISSUER, hanging.fetch, 0, QUIESCE)
    both = SigningKeys({"a": first, "b": second})
    nursery.start_soon(both.keep_up)
    fetch = both.effects[FetchSigningKey]
    began = trio.current_time()
    assert await fetch(FetchSigningKey("a", "k1")) is not None
    assert trio.current_time() - began < 1
    with pytest.raises(DirectoryUnavailable):
        await fetch(FetchSigningKey("b", "k1"))


def parameters(**more):
    provider = {
        "issuer": ISSUER,
        "audience": "a",
        "authNamePrefix": "p",
        "authorizationClaim": "g",
        "clientId": "c",
        **more,
    }
    return OidcParameters.model_validate({"oidcIdentityProviders": [provider]})


def test_without_providers_there_is_nothing_to_carry_out():
    assert open_signing_keys(OidcParameters()).effects == {}
    assert set(open_signing_keys(parameters()).effects) == {FetchSigningKey}


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_file_without_authorities_is_named_at_start(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match="serverCAFile: can't read"):
        open_signing_keys(parameters(serverCAFile=str(path)))
