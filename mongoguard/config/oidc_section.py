"""setParameter.oidcIdentityProviders: whose tokens log in, in MongoDB's vocabulary.

In: plain values, or the JSON text that mongod's parameter is. Out: a frozen section for each provider, and what logins
and the key fetcher take from it. Must not know files or sockets.

As in mongod the order counts: the first provider whose `matchPattern` fits is the one that a person is sent to.
`serverCAFile` is Percona's. Stricter than there: a provider is asked over https only, on this host too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from mongoguard.authn.ldap.ecmascript_regex import EcmaScriptRegex
from mongoguard.authn.oidc_provider import IdentityProvider
from mongoguard.config.section import FilePath, Section

__all__ = ["IdentityProviderSection", "OidcParameters"]

MAX_PROVIDERS = 64
"""Identity providers of one deployment; each has keys that are asked for again and again."""
DEFAULT_QUIESCE_SECS = 60
"""Percona's default: how long after a question the next may follow, so that strangers' tokens can't make a storm."""

_CLAIM = r"[^\0]{1,256}"


def _issuer(value: Any) -> Any:
    expected = "expected an https:// address without a query or a fragment"
    if not isinstance(value, str) or any(c.isspace() or not c.isprintable() for c in value):
        raise ValueError(expected)
    try:
        parts = urlsplit(value)
        usable = parts.hostname and parts.port != 0
    except ValueError:
        raise ValueError(expected) from None
    if parts.scheme != "https":
        raise ValueError(f"{expected}: whoever changes the keys on their way would log in as anybody")
    if not usable or parts.username is not None or "?" in value or "#" in value:
        raise ValueError(expected)
    return value


MAX_PATTERN_STEPS = 64
"""Of a matchPattern: strangers have it looked for, up to each step at each of 256 places, on the event loop."""


def _pattern(value: Any) -> Any:
    if not isinstance(value, str) or not value:
        raise ValueError("expected a regular expression")
    try:
        EcmaScriptRegex.parse(value)  # alone: `a)(b` must not become whole by what is put around it
        # matchPattern is found anywhere in a name, which holds no NUL. One class: strangers may have it looked for.
        pattern = EcmaScriptRegex.parse(rf"[^\x00]*(?:{value})[^\x00]*")
    except ValueError as error:
        raise ValueError(f"expected a regular expression: {error}") from None
    if len(pattern.program) > MAX_PATTERN_STEPS:
        raise ValueError(
            f"expected a smaller regular expression: at most {MAX_PATTERN_STEPS} steps, with its repeats"
        )
    return pattern


def _texts(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(v, str) and re.fullmatch(_CLAIM, v) for v in value):
        return tuple(value)
    raise ValueError("expected a list of names")


def _list(value: Any) -> Any:
    """A YAML list, or JSON text, which is how mongod has it."""
    if isinstance(value, str):
        try:
            value = json.loads(value, object_pairs_hook=_without_repeats)
        except (ValueError, RecursionError):
            raise ValueError("expected a list of providers, or a JSON array") from None
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_PROVIDERS:
        raise ValueError(f"expected a list of 1 to {MAX_PROVIDERS} providers, or a JSON array")
    return tuple(value)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if _repeats(name for name, _ in pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]


class IdentityProviderSection(Section):
    """One of setParameter.oidcIdentityProviders."""

    issuer: Annotated[str, BeforeValidator(_issuer)] = Field(description="an https:// address")
    audience: str = Field(min_length=1, max_length=2048, description="the audience of the tokens")
    auth_name_prefix: str = Field(
        alias="authNamePrefix",
        pattern="^[A-Za-z0-9_-]{1,256}$",
        description="a name of letters, digits, - and _",
    )
    match_pattern: Annotated[EcmaScriptRegex | None, BeforeValidator(_pattern)] = Field(
        default=None, alias="matchPattern", description="a regular expression"
    )
    client_id: str | None = Field(default=None, alias="clientId", min_length=1, description="a client's id")
    request_scopes: Texts = Field(default=(), alias="requestScopes", description="a list of scopes")
    principal_name: str = Field(
        default="sub", alias="principalName", min_length=1, max_length=256, description="the name of a claim"
    )
    use_authorization_claim: bool = Field(
        default=True, alias="useAuthorizationClaim", description="true or false"
    )
    authorization_claim: str | None = Field(
        default=None,
        alias="authorizationClaim",
        min_length=1,
        max_length=256,
        description="the name of a claim",
    )
    log_claims: Texts = Field(default=("iss", "sub"), alias="logClaims", description="a list of claims")
    jwks_poll_secs: int = Field(
        default=0,
        alias="JWKSPollSecs",
        ge=0,
        le=2_592_000,
        description="a number of seconds from 0 to 2592000",
    )
    supports_human_flows: bool = Field(default=True, alias="supportsHumanFlows", description="true or false")
    server_ca_file: FilePath | None = Field(
        default=None, alias="serverCAFile", description="the path of a file of certificates"
    )

    @model_validator(mode="after")
    def _complete(self) -> IdentityProviderSection:
        if self.supports_human_flows and self.client_id is None:
            raise ValueError("clientId: required unless supportsHumanFlows is false")
        if self.use_authorization_claim and self.authorization_claim is None:
            raise ValueError("authorizationClaim: required unless useAuthorizationClaim is false")
        if not self.use_authorization_claim and self.authorization_claim is not None:
            raise ValueError("authorizationClaim: not used where useAuthorizationClaim is false")
        return self

    @property
    def provider(self) -> IdentityProvider:
        """The provider as logins take it."""
        return IdentityProvider(
            issuer=self.issuer,
            audience=self.audience,
            auth_name_prefix=self.auth_name_prefix,
            principal_claim=self.principal_name,
            authorization_claim=self.authorization_claim,
            client_id=self.client_id or "",
            request_scopes=self.request_scopes,
            supports_human_flows=self.supports_human_flows,
            match_pattern=self.match_pattern,
            log_claims=self.log_claims,
        )


class OidcParameters(Section):
    """The server parameters about identity providers."""

    oidc_identity_providers: Annotated[tuple[IdentityProviderSection, ...], BeforeValidator(_list)] = Field(
        default=(), alias="oidcIdentityProviders", description="a list of providers, or a JSON array"
    )
    jwks_minimum_quiesce_secs: int = Field(
        default=DEFAULT_QUIESCE_SECS,
        alias="JWKSMinimumQuiescePeriodSecs",
        ge=1,
        le=3600,
        description="a number of seconds from 1 to 3600",
    )

    @property
    def providers(self) -> tuple[IdentityProvider, ...]:
        """The providers as logins take them, in the order of the configuration."""
        return tuple(section.provider for section in self.oidc_identity_providers)

    @model_validator(mode="after")
    def _providers_fit(self) -> OidcParameters:
        problem = _problem(self.oidc_identity_providers)
        if problem is not None:
            raise ValueError(f"setParameter.oidcIdentityProviders: {problem}")
        return self


def _problem(providers: tuple[IdentityProviderSection, ...]) -> str | None:
    """What is wrong with the providers together; the rules are mongod's."""
    patterns = [p.match_pattern is not None for p in providers]
    for_people = [p for p in providers if p.supports_human_flows]
    of_one_issuer = {p.issuer: (p.jwks_poll_secs, p.server_ca_file) for p in providers}
    checks = (
        (
            patterns != sorted(patterns, reverse=True),
            "providers with a matchPattern must stand before those without",
        ),
        (
            len(for_people) > 1 and any(p.match_pattern is None for p in for_people),
            "with more than one provider that supportsHumanFlows, each of them needs a matchPattern",
        ),
        (
            _repeats((p.issuer, p.audience) for p in providers),
            "an issuer is given twice with the same audience",
        ),
        (
            any(of_one_issuer[p.issuer] != (p.jwks_poll_secs, p.server_ca_file) for p in providers),
            "JWKSPollSecs and serverCAFile must be the same wherever the issuer is the same",
        ),
        (
            _repeats({(p.auth_name_prefix, p.issuer) for p in providers}, lambda pair: pair[0]),
            "providers with different issuers need different authNamePrefixes: their users would share names",
        ),
    )
    return next((text for wrong, text in checks if wrong), None)


def _repeats(values: Iterable[Any], key: Any = lambda value: value) -> bool:
    seen = [key(value) for value in values]
    return len(set(seen)) != len(seen)
