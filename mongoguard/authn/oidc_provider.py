"""Identity providers as the configuration names them, and which of them a login is about.

In: providers in the order of the configuration; a name that a client gave, or a token's issuer and audiences. Out: the
one provider, or None. Must not know tokens' signatures, or where keys come from.
Source: MongoDB's server parameter oidcIdentityProviders. `matchPattern` only advises clients which provider to ask, as
there: a token is judged by issuer and audience alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mongoguard.authn.ldap.ecmascript_regex import EcmaScriptRegex
from mongoguard.model.names import EXTERNAL_DB, RoleName, UserName

__all__ = ["IdentityProvider", "provider_for_name", "provider_of_token"]


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """One of oidcIdentityProviders.

    `authorization_claim` is None where the user's document on `$external` gives the roles. `client_id` is empty where
    people don't log in (`supports_human_flows`). `match_pattern` matches a name as a whole. `log_claims`: those that
    go into the audit event of a login.
    """

    issuer: str
    audience: str
    auth_name_prefix: str
    principal_claim: str = "sub"
    authorization_claim: str | None = None
    client_id: str = ""
    request_scopes: tuple[str, ...] = ()
    supports_human_flows: bool = True
    match_pattern: EcmaScriptRegex | None = None
    log_claims: tuple[str, ...] = ("iss", "sub")

    def user_name(self, principal: str) -> UserName:
        """The user that a principal of this provider is. The prefix has no slash, so no two providers share a name."""
        return UserName(f"{self.auth_name_prefix}/{principal}", EXTERNAL_DB)

    def role_name(self, group: str) -> RoleName:
        """The role that a group of this provider stands for."""
        return RoleName(f"{self.auth_name_prefix}/{group}", "admin")


def provider_for_name(providers: Sequence[IdentityProvider], name: str | None) -> IdentityProvider | None:
    """Where a person who calls itself `name` (None: does not say) should get a token; None when that is not clear."""
    for_people = [provider for provider in providers if provider.supports_human_flows]
    if name is None and len(for_people) == 1:
        return for_people[0]
    for provider in for_people:
        pattern = provider.match_pattern
        if pattern is None or (name is not None and pattern.match_whole(name) is not None):
            return provider
    return None


def provider_of_token(
    providers: Iterable[IdentityProvider], issuer: str, audiences: Sequence[str]
) -> IdentityProvider | None:
    """The one provider that has this issuer and one of these audiences; None when there is none, or more than one."""
    found = [p for p in providers if p.issuer == issuer and p.audience in audiences]
    return found[0] if len(found) == 1 else None
