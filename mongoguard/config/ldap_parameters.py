"""setParameter.ldap...: what Enterprise and Percona Server have besides security.ldap.

In: plain values. Out: other names resolved; one frozen model; how old answers may be; which parameters have no effect,
and why. Must not know sockets.

Sources: MongoDB's page "MongoDB Server Parameters" (types; the user cache's intervals are 1 to 86400 s), Percona's
"LDAP configuration parameters".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from mongoguard.config.ldap_section import DEFAULT_STALENESS_SECS, Ldap
from mongoguard.config.section import Section

__all__ = ["OTHER_NAMES", "LdapParameters", "by_given_name", "freshness_problem", "resolve_other_names"]

DEFAULT_CONNECTIONS = 4
"""A group search takes a millisecond, so four connections serve more logins than one process can check."""
MOST_CONNECTIONS = 1000
"""Enterprise's default is 2147483647, no bound; what directories let one client have is of this size."""
DEFAULT_INVALIDATION_SECS = 30
"""Enterprise's default for ldapUserCacheInvalidationInterval."""

INT32_MAX = 2**31 - 1

OTHER_NAMES: Mapping[str, str] = {
    "ldapServers": "security.ldap.servers",
    "ldapQueryUser": "security.ldap.bind.queryUser",
    "ldapQueryPassword": "security.ldap.bind.queryPassword",
    "ldapTimeoutMS": "security.ldap.timeoutMS",
    "ldapRetryCount": "security.ldap.retryCount",
    "ldapUserToDNMapping": "security.ldap.userToDNMapping",
    "ldapUserCacheStalenessInterval": "security.ldap.userCacheStalenessSecs",
    "ldapConnectionPoolSizePerHost": "setParameter.ldapConnectionPoolMaximumConnectionsPerHost",
}
"""Parameters that are other names of keys."""

_NO_LIBLDAP = "mongoguard does not use libldap"
_NO_DN_CACHE = "names are mapped anew whenever the directory is asked"

_NO_EFFECT: Mapping[str, tuple[str, str]] = {
    "pool_min_connections": (
        "ldapConnectionPoolMinimumConnectionsPerHost",
        "connections are opened when a search needs them",
    ),
    "pool_max_connecting": (
        "ldapConnectionPoolMaximumConnectionsInProgressPerHost",
        "ldapConnectionPoolMaximumConnectionsPerHost bounds those that are being opened, too",
    ),
    "pool_host_refresh_ms": (
        "ldapConnectionPoolHostRefreshIntervalMillis",
        "a connection is looked at when a search takes it",
    ),
    "pool_by_latency": (
        "ldapConnectionPoolUseLatencyForHostPriority",
        "servers are tried in the order of security.ldap.servers",
    ),
    "force_multi_thread": ("ldapForceMultiThreadMode", _NO_LIBLDAP),
    "openldap_logging": ("ldapEnableOpenLDAPLogging", _NO_LIBLDAP),
    "ldap_debug": ("ldapDebug", f"{_NO_LIBLDAP}; see systemLog.verbosity"),
    "user_to_dn_cache_ttl_secs": ("ldapUserToDNCacheTTLSeconds", _NO_DN_CACHE),
    "user_to_dn_cache_size": ("ldapUserToDNCacheSize", _NO_DN_CACHE),
}
"""Field -> the parameter, and why it changes nothing. 0 and false ask for nothing, which is what is done."""


def _seconds(alias: str) -> Any:
    return Field(
        default=None, alias=alias, ge=1, le=86_400, description="a number of seconds from 1 to 86400"
    )


def _number(alias: str, least: int) -> Any:
    return Field(
        default=0, alias=alias, ge=least, le=INT32_MAX, description=f"a number from {least} to {INT32_MAX}"
    )


def _switch(alias: str, default: bool = False) -> Any:
    return Field(default=default, alias=alias, description="true or false")


def _no_referrals(value: bool) -> bool:
    if value:
        raise ValueError(
            "true is not supported: the service's password would go to any host a referral names"
        )
    return value


class LdapParameters(Section):
    """The server parameters about LDAP that are not other names of security.ldap's keys."""

    refreshes_groups: bool = _switch("ldapShouldRefreshUserCacheEntries", True)
    refresh_interval_secs: int | None = _seconds("ldapUserCacheRefreshInterval")
    invalidation_interval_secs: int | None = _seconds("ldapUserCacheInvalidationInterval")
    keeps_connections: bool = _switch("ldapUseConnectionPool", True)
    ldap_pool_max_connections: int = Field(
        default=DEFAULT_CONNECTIONS,
        alias="ldapConnectionPoolMaximumConnectionsPerHost",
        ge=1,
        le=INT32_MAX,
        description=f"a number of connections from 1 to {INT32_MAX}",
    )
    ldap_pool_idle_secs: int = Field(
        default=300,
        alias="ldapConnectionPoolIdleHostTimeoutSecs",
        ge=1,
        le=86_400,
        description="a number of seconds from 1 to 86400",
    )
    follows_referrals: Annotated[bool, AfterValidator(_no_referrals)] = _switch("ldapFollowReferrals")
    pool_min_connections: int = _number("ldapConnectionPoolMinimumConnectionsPerHost", 0)
    pool_max_connecting: int = _number("ldapConnectionPoolMaximumConnectionsInProgressPerHost", 1)
    pool_host_refresh_ms: int = _number("ldapConnectionPoolHostRefreshIntervalMillis", 1)
    pool_by_latency: bool = _switch("ldapConnectionPoolUseLatencyForHostPriority")
    force_multi_thread: bool = _switch("ldapForceMultiThreadMode")
    openldap_logging: bool = _switch("ldapEnableOpenLDAPLogging")
    ldap_debug: bool = _switch("ldapDebug")
    user_to_dn_cache_ttl_secs: int = _number("ldapUserToDNCacheTTLSeconds", 0)
    user_to_dn_cache_size: int = _number("ldapUserToDNCacheSize", 0)

    @property
    def search_connections(self) -> int:
        """How many connections for searches there may be."""
        return min(self.ldap_pool_max_connections, MOST_CONNECTIONS)

    @property
    def search_idle_secs(self) -> int:
        """After how many seconds an unused connection is closed; 0: at once, none is kept."""
        return self.ldap_pool_idle_secs if self.keeps_connections else 0

    def staleness_secs(self, ldap: Ldap) -> int:
        """The one number: for how many seconds an answer about groups may be used."""
        if self.refreshes_groups or "user_cache_staleness_secs" in ldap.model_fields_set:
            return ldap.user_cache_staleness_secs
        return self.invalidation_interval_secs or DEFAULT_INVALIDATION_SECS

    def refresh_secs(self, ldap: Ldap) -> float | None:
        """How often the groups of live sessions' users are asked for in the background; None: never."""
        if not self.refreshes_groups:
            return None
        return self.refresh_interval_secs or self.staleness_secs(ldap) / 3

    def warnings(self, ldap: Ldap | None) -> tuple[str, ...]:
        """One sentence for each parameter that is given and changes nothing."""
        if ldap is None:
            fields = LdapParameters.model_fields
            names = [f.alias for key, f in fields.items() if key in self.model_fields_set]
            return tuple(f"setParameter.{name} has no effect: there is no security.ldap" for name in names)
        found = [_NO_EFFECT[field] for field in _NO_EFFECT if getattr(self, field)]
        if self.refreshes_groups and self.invalidation_interval_secs is not None:
            why = "it counts with ldapShouldRefreshUserCacheEntries: false alone (as since MongoDB 5.2)"
            found.append(("ldapUserCacheInvalidationInterval", why))
        if not self.refreshes_groups and self.refresh_interval_secs is not None:
            why = "nothing is refreshed with ldapShouldRefreshUserCacheEntries: false"
            found.append(("ldapUserCacheRefreshInterval", why))
        texts = [f"setParameter.{name} has no effect: {why}" for name, why in found]
        if self.ldap_pool_max_connections > MOST_CONNECTIONS:
            name = "setParameter.ldapConnectionPoolMaximumConnectionsPerHost"
            texts.append(f"{name} is taken as {MOST_CONNECTIONS}: no more connections are opened")
        return tuple(texts)


def freshness_problem(ldap: Ldap, parameters: LdapParameters) -> str | None:
    """What is wrong with the cache's intervals together."""
    staleness, refresh = parameters.staleness_secs(ldap), parameters.refresh_secs(ldap)
    invalidation = parameters.invalidation_interval_secs
    if refresh is not None and refresh > staleness:
        return (
            "setParameter.ldapUserCacheRefreshInterval: must not exceed security.ldap.userCacheStalenessSecs "
            f"(setParameter.ldapUserCacheStalenessInterval), which is {DEFAULT_STALENESS_SECS} unless it is set: "
            "answers would be too old to be used before they are refreshed"
        )
    if refresh is None and invalidation is not None and invalidation != staleness:
        return (
            "setParameter.ldapUserCacheInvalidationInterval: with ldapShouldRefreshUserCacheEntries: false another "
            "name for security.ldap.userCacheStalenessSecs (setParameter.ldapUserCacheStalenessInterval), which "
            "is set to another value; set one of them"
        )
    return None


def resolve_other_names(values: dict[str, Any]) -> tuple[list[str], dict[str, Any], dict[str, str]]:
    """Put what is given by one of `OTHER_NAMES` where it belongs: (problems, values, key -> the name it was given by).

    A key that is given by both names must have the same value. No problem repeats a value.
    """
    parameters = values.get("setParameter")
    if not isinstance(parameters, dict):
        return [], values, {}
    problems: list[str] = []
    given = {name: parameters[name] for name in OTHER_NAMES if name in parameters}
    rest = {name: value for name, value in parameters.items() if name not in given}
    values = {**values, "setParameter": rest}
    names: dict[str, str] = {}
    for name, value in given.items():
        key = OTHER_NAMES[name]
        *sections, last = key.split(".")
        problem, values = _put(values, sections, last, value)
        if problem:
            problems.append(
                f"setParameter.{name}: another name for {key}, which has another value; set one of them"
            )
        names[key] = f"setParameter.{name}"
    return problems, values, names


def by_given_name(problem: str, names: Mapping[str, str]) -> str:
    """The problem with a key under the name that the key was given by."""
    for key, name in names.items():
        if problem.startswith(f"{key}: "):
            return problem.replace(key, name, 1)
        if problem.startswith(key):
            return f"{name}: {problem}"
    return problem


def _put(values: dict[str, Any], sections: list[str], key: str, value: Any) -> tuple[bool, dict[str, Any]]:
    """Whether another value is there already, and the values with this one. What is no section is left alone."""
    if not sections:
        if key not in values:
            return False, {**values, key: value}
        there = values[key]
        return type(there) is not type(value) or there != value, values
    first, *rest = sections
    inner = values.get(first)
    if inner is not None and not isinstance(inner, dict):
        return False, values
    problem, inner = _put(inner or {}, rest, key, value)
    return problem, {**values, first: inner}
