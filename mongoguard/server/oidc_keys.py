"""SigningKeys: the keys of the configured identity providers, fetched, kept, and fetched again.

In: the configured providers; an issuer and a `kid`. Out: the key, None, or `DirectoryUnavailable`. Must not know tokens
or logins.

Each issuer has one task, which alone asks it: at start, every `JWKSPollSecs`, and when a login names a key that is not
known, but then no sooner than `JWKSMinimumQuiescePeriodSecs` after the last question, so that tokens with made-up keys
can't make a storm of questions. Logins wait for the task, and give up with it; logins with known keys never wait. An
issuer that hangs, drips or lies costs its own users a login, and nobody else anything. A key that it publishes no
longer has been withdrawn: whoever keeps sessions is told.
Source: OpenID Connect Discovery 1.0, section 4 (the document's issuer must be the one that was asked).
"""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import trio

from mongoguard.authn.oidc_keys import parse_key_set
from mongoguard.authn.oidc_token import TokenRefused, strict_json
from mongoguard.config.oidc_section import IdentityProviderSection, OidcParameters
from mongoguard.effects import FetchSigningKey, SigningKey
from mongoguard.errors import ConfigError, DirectoryUnavailable
from mongoguard.server.https_fetch import FetchFailed, fetch

__all__ = ["SigningKeys", "open_signing_keys"]

log = logging.getLogger(__name__)

DISCOVERY_PATH = "/.well-known/openid-configuration"

FETCH_SECS = 5.0
"""For both documents together, which the slowest provider gives within one. Drivers give a login up after 20 to 30 s,
and some of them try a second time before."""

WAIT_SECS = FETCH_SECS + 2.0
"""For a login that waits for keys: a little longer, so that it learns why there are none."""

RETRY_SECS = 5.0
"""After a question that failed: an issuer that is back must not be taken for away for a whole quiesce period."""

MAX_MISSED_POLLS = 10
"""Polls in a row that may fail before the keys are trusted no longer: one of them may have been withdrawn since."""

Fetch = Callable[[str], Awaitable[bytes]]

Withdraw = Callable[[Collection[SigningKey]], None]
"""Is told of keys that their issuer has withdrawn."""


def _nobody_rests_on(_keys: Collection[SigningKey]) -> None:
    """Where nobody logs in, withdrawn keys are nobody's."""


class IssuerKeys:
    """The keys of one issuer. `poll_secs` 0: nothing is asked but what logins need."""

    def __init__(self, issuer: str, fetch_document: Fetch, poll_secs: float, quiesce_secs: float) -> None:
        """Nothing is known yet; `keep_up` must run."""
        self._issuer = issuer
        self._fetch_document = fetch_document
        self._poll_secs = poll_secs
        self._quiesce_secs = quiesce_secs
        self._keys: Mapping[str, SigningKey] = {}
        self._loaded_at = -math.inf
        self._asked_at = -math.inf
        self._problem: str | None = "it was not asked yet"
        self._is_asking = False
        self._wanted = trio.Event()
        self._answered = trio.Event()

    async def key(self, key_id: str) -> SigningKey | None:
        """The key of that `kid`, or None. Raises `DirectoryUnavailable`."""
        if (found := self._trusted_keys().get(key_id)) is not None:
            return found
        if self._is_asking or trio.current_time() - self._asked_at >= self._pause_secs:
            await self._next_answer()
        found = self._trusted_keys().get(key_id)
        if found is None and self._problem is not None:
            raise DirectoryUnavailable(f"the keys of {self._issuer} can't be had: {self._problem}")
        return found

    async def keep_up(self, withdraw: Withdraw = _nobody_rests_on) -> None:
        """Ask the issuer, whenever it is time, for ever."""
        while True:
            self._wanted = trio.Event()
            before = self._keys
            await self._ask()
            withdrawn = [key for key_id, key in before.items() if self._keys.get(key_id) != key]
            if withdrawn:
                log.info("the identity provider %s has withdrawn %d keys", self._issuer, len(withdrawn))
                withdraw(withdrawn)
            self._answered.set()
            self._answered = trio.Event()
            with trio.move_on_after(self._poll_secs or math.inf):
                await self._wanted.wait()

    @property
    def _pause_secs(self) -> float:
        """How long after the last question no other may follow."""
        return self._quiesce_secs if self._problem is None else min(RETRY_SECS, self._quiesce_secs)

    async def _next_answer(self) -> None:
        """Wait for what comes of the question under way, or of a new one."""
        if not self._is_asking:
            self._wanted.set()
        with trio.move_on_after(WAIT_SECS):
            await self._answered.wait()
            return
        raise DirectoryUnavailable(f"the keys of {self._issuer} did not come in time")

    def _trusted_keys(self) -> Mapping[str, SigningKey]:
        lifetime = self._poll_secs * MAX_MISSED_POLLS or math.inf
        return self._keys if trio.current_time() - self._loaded_at <= lifetime else {}

    async def _ask(self) -> None:
        self._asked_at = trio.current_time()
        problem: str | None = "it did not answer in time"
        before, self._is_asking = self._problem, True
        try:
            with trio.move_on_after(FETCH_SECS):
                problem = await self._load()
        finally:
            self._problem, self._is_asking = problem, False
        if problem is not None:
            log.warning("the keys of the identity provider %s can't be had: %s", self._issuer, problem)
        elif before is not None:
            log.info("the identity provider %s has published %d keys", self._issuer, len(self._keys))

    async def _load(self) -> str | None:
        """Take over what the issuer publishes now; the answer is why that can't be."""
        try:
            key_set = parse_key_set(await self._fetch_document(await self._key_set_address()))
        except (FetchFailed, TokenRefused) as error:
            return str(error)
        for unfit in key_set.passed_over:
            log.warning("the identity provider %s publishes %s, which is passed over", self._issuer, unfit)
        self._keys, self._loaded_at = key_set.keys, trio.current_time()
        return None

    async def _key_set_address(self) -> str:
        body = await self._fetch_document(self._issuer.rstrip("/") + DISCOVERY_PATH)
        document = strict_json(body, "the discovery document")
        if document.get("issuer") != self._issuer:
            raise FetchFailed("its discovery document has another issuer, to the letter")
        address = document.get("jwks_uri")
        if not isinstance(address, str) or not address.startswith("https://"):
            raise FetchFailed("its discovery document has no jwks_uri that is an https:// address")
        return address


class SigningKeys:
    """The keys of all configured issuers."""

    def __init__(self, issuers: Mapping[str, IssuerKeys]) -> None:
        """`issuers` by their names."""
        self._issuers = issuers

    @property
    def effects(self) -> Mapping[type[Any], Callable[[Any], Awaitable[Any]]]:
        """What carries out which effect, as `Shell.external` wants it."""
        return {FetchSigningKey: self._fetch} if self._issuers else {}

    async def keep_up(self, withdraw: Withdraw = _nobody_rests_on) -> None:
        """Ask the issuers, each in a task of its own, for ever."""
        async with trio.open_nursery() as nursery:
            for issuer in self._issuers.values():
                nursery.start_soon(issuer.keep_up, withdraw)

    async def _fetch(self, effect: FetchSigningKey) -> SigningKey | None:
        return await self._issuers[effect.issuer].key(effect.key_id)


def open_signing_keys(parameters: OidcParameters) -> SigningKeys:
    """The keys of the configured providers; nothing is asked yet. Raises `ConfigError` for a file of authorities."""
    sections = {section.issuer: section for section in parameters.oidc_identity_providers}
    quiesce = float(parameters.jwks_minimum_quiesce_secs)
    return SigningKeys({name: _issuer_keys(section, quiesce) for name, section in sections.items()})


def _issuer_keys(section: IdentityProviderSection, quiesce_secs: float) -> IssuerKeys:
    context = _context(section.server_ca_file)

    async def fetch_document(url: str) -> bytes:
        return await fetch(url, context)

    return IssuerKeys(section.issuer, fetch_document, float(section.jwks_poll_secs), quiesce_secs)


def _context(ca_file: str | None) -> ssl.SSLContext:
    """`ca_file` alone is trusted where it is given, the system's authorities otherwise."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # SSLError is one
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no certificates"
        raise ConfigError(
            f"setParameter.oidcIdentityProviders.serverCAFile: can't read {ca_file}: {reason}"
        ) from None
