"""A login by the LDAP directory, step by step: mapping, password, groups, roles, admission.

In: settings, a user's name, perhaps a password. Out: steps of a report. Must not know how the report is printed, and
puts no password into it.

The steps are those of the running server, with its searches, its pool and its time limits.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mongoguard.authn.ldap.ldap_url import LdapUrl
from mongoguard.authn.ldap.query import NO_ATTRIBUTES, LdapEntry, LdapQuery, LdapRefusal
from mongoguard.authn.ldap.role_mapping import DnRoles, GroupRoles, read_dn_roles
from mongoguard.cli.errors import FORESEEN, sentences_for
from mongoguard.cli.near_misses import NearMisses
from mongoguard.cli.steps import Report
from mongoguard.config.settings import Settings
from mongoguard.errors import DirectoryUnavailable
from mongoguard.model.names import EXTERNAL_DB, RoleName, UserName
from mongoguard.model.user import User, UserRequest
from mongoguard.server.directory import FileDirectory, UserDirectory, open_directory
from mongoguard.server.ldap.directory import LdapDirectory

__all__ = ["LoginProbe", "WatchedDirectory"]

_REFUSALS = (DirectoryUnavailable, LdapRefusal)


@dataclass(frozen=True, slots=True)
class Search:
    """A search that was made, how many entries it found, and how long it took."""

    query: LdapQuery
    entries: int
    millis: float

    def __str__(self) -> str:
        """In words, on one line."""
        query = self.query
        attributes = (
            "" if query.attributes == NO_ATTRIBUTES else f", attributes {', '.join(query.attributes)}"
        )
        return (
            f"search: base {query.base or 'empty'}, scope {query.scope}, filter {query.filter}{attributes}: "
            f"{self.entries} entries in {self.millis:.1f} ms"
        )


class WatchedDirectory(LdapDirectory):
    """A directory that tells which searches its steps made."""

    def __init__(self, settings: Settings) -> None:
        """See `LdapDirectory`."""
        super().__init__(settings)
        self._searches: list[Search] = []

    async def search(self, query: LdapQuery) -> tuple[LdapEntry, ...]:
        """See `LdapDirectory`."""
        begun = time.perf_counter()
        entries = await super().search(query)
        self._searches.append(Search(query, len(entries), (time.perf_counter() - begun) * 1000))
        return entries

    def searches(self) -> list[Search]:
        """Those since the last call."""
        found, self._searches = self._searches, []
        return found


@dataclass(frozen=True, slots=True)
class _Known:
    """What the directory of roles says: names on admin, the roles of the groups, the user with those that exist."""

    admin_roles: frozenset[str]
    named_as_dns: DnRoles
    outcome: GroupRoles
    user: User | None


@dataclass(frozen=True, slots=True)
class LoginProbe:
    """One user's login; `password` None asks for the roles alone, as a login by certificate does."""

    settings: Settings
    directory: WatchedDirectory
    report: Report
    name: str
    password: str | None = field(repr=False)

    async def run(self) -> None:
        """All steps, until one fails that the next ones need."""
        self.directory.searches()
        bind_name = await self._mapping()
        if bind_name is None or not await self._authentication(bind_name):
            return
        if self.directory.ldap.lookup is None:
            await self._document()
            return
        groups = await self._groups(bind_name)
        if groups is not None:
            await self._roles(groups)

    async def _mapping(self) -> str | None:
        step = "mapping"
        self.report.begin()
        try:
            bind_name = await self.directory.bind_name(self.name)
        except _REFUSALS as error:
            self.report.fail(step, str(error), *self._told())
            return None
        searches = self.directory.searches()
        element, passed_over = self._element(searches)
        details = [*passed_over, *map(str, searches)]
        if element is None:
            text = f"security.ldap.userToDNMapping is not set: the name {bind_name} is bound as it is"
        else:
            text = f"element {element} of security.ldap.userToDNMapping matches: the name is bound as {bind_name}"
        self.report.ok(step, text, *details, bindName=bind_name, element=element)
        return bind_name

    def _element(self, searches: list[Search]) -> tuple[int | None, list[str]]:
        """Which element decided (counted from 0, as in the configuration's messages), and which matched in vain."""
        left = iter(searches)
        passed_over: list[str] = []
        for i, rule in enumerate(self.directory.ldap.mapping.rules):
            if rule.values(self.name) is None:
                continue
            if not isinstance(rule.target, LdapUrl):
                return i, passed_over
            found = next(left).entries
            if found == 1:
                return i, passed_over
            passed_over.append(f"element {i} matches, and its ldapQuery finds {found} entries: passed over")
        return None, passed_over

    async def _authentication(self, bind_name: str) -> bool:
        step = "authentication"
        if self.password is None:
            self.report.skip(step, "no password is given: authorization only")
            return True
        self.report.begin()
        try:
            answer = await self.directory.bind_user(bind_name, self.password)
        except _REFUSALS as error:
            self.report.fail(step, str(error))
            return False
        if not answer.accepted:
            self.report.fail(step, f"the directory refuses it: {answer.reason}")
            return False
        self.report.ok(step, "the directory accepts the name and the password")
        return True

    async def _groups(self, bind_name: str) -> tuple[str, ...] | None:
        step = "groups"
        self.report.begin()
        try:
            groups = await self.directory.groups(bind_name, self.name)
        except _REFUSALS as error:
            self.report.fail(step, str(error), *self._told())
            return None
        text = f"{len(groups)} by security.ldap.authz.queryTemplate ({self.directory.ldap.strategy})"
        hint = (
            [] if groups else ["none: are base and scope right? Without a scope only the base entry is read"]
        )
        self.report.ok(step, text, *self._told(), *hint, *groups, groups=list(groups))
        return groups

    async def _roles(self, groups: tuple[str, ...]) -> None:
        step = "roles"
        self.report.begin()
        try:
            known = await self._ask_for_roles(groups)
        except FORESEEN as error:
            self._fail_with(step, error)
            return
        near = NearMisses.among(known.admin_roles, self.directory.ldap.role_table.table)
        lines, facts = [], []
        for group in groups:
            roles = sorted(map(str, known.outcome.matches.get(group, ())))
            misses = () if roles else near.of(group)
            became = ", ".join(roles) or "no role of that name on admin, and no roleMapping"
            lines += [f"{group} -> {became}", *(f"    near miss: {miss}" for miss in misses)]
            facts.append({"dn": group, "roles": roles, "nearMisses": list(misses)})
        lines += [
            f"the role {name} on admin looks like a group's DN and is none: no group gives it"
            for name in known.named_as_dns.unparsed
        ]
        text = f"{len(groups)} groups, {len(known.outcome.matches)} of them give {len(known.outcome.roles)} roles"
        self.report.ok(step, text, *lines, groups=facts, unparsedRoles=list(known.named_as_dns.unparsed))
        self._existence(known)

    def _existence(self, known: _Known) -> None:
        step = "resulting roles"
        self.report.begin()
        exist = frozenset() if known.user is None else frozenset(known.user.roles)
        lines = [
            f"{role} {'exists' if role in exist else 'does not exist'}"
            for role in sorted(known.outcome.roles)
        ]
        facts = _roles_as_facts(known.outcome.roles, exist)
        missing = known.outcome.roles - exist
        if missing:
            text = f"{len(exist)} exist, {len(missing)} do not and grant nothing"
            self.report.warn(step, text, *lines, roles=facts)
        else:
            self.report.ok(step, f"{len(exist)}, and all of them exist", *lines, roles=facts)
        self._admission(has_roles=bool(exist))

    def _admission(self, *, has_roles: bool) -> None:
        step = "admission"
        self.report.begin()
        requires = self.directory.ldap.authz.require_roles
        if has_roles:
            self.report.ok(step, "the user has a role", requireRoles=requires)
        elif requires:
            text = "the login is refused: no role exists, and security.ldap.authz.requireRoles asks for one"
            self.report.fail(step, text, requireRoles=requires)
        else:
            text = (
                "the login succeeds, and every command fails, for the user has no role "
                "(security.ldap.authz.requireRoles: true would refuse the login)"
            )
            self.report.warn(step, text, requireRoles=requires)

    async def _document(self) -> None:
        """Without queryTemplate the directory checks passwords alone."""
        step = "user"
        self.report.begin()
        name = UserName(self.name, EXTERNAL_DB)
        try:
            async with _role_directory(self.settings) as base:
                user = await base.fetch(UserRequest(name))
        except FORESEEN as error:
            self._fail_with(step, error)
            return
        if user is None:
            self.report.fail(
                step,
                f"there is no user {name}, who must have the roles: security.ldap.authz.queryTemplate is not set",
            )
            return
        roles = frozenset(user.roles)
        lines = map(str, sorted(roles))
        self.report.ok(step, f"{name} has {len(roles)} roles", *lines, roles=_roles_as_facts(roles, roles))

    async def _ask_for_roles(self, groups: tuple[str, ...]) -> _Known:
        async with _role_directory(self.settings) as base:
            names = await base.admin_role_names()
            named_as_dns = read_dn_roles(names)
            outcome = await self.directory.roles(groups, named_as_dns)
            request = UserRequest(UserName(self.name, EXTERNAL_DB), tuple(sorted(outcome.roles)))
            return _Known(names, named_as_dns, outcome, await base.fetch(request))

    def _told(self) -> list[str]:
        return [str(search) for search in self.directory.searches()]

    def _fail_with(self, step: str, error: Exception) -> None:
        told = sentences_for(error)
        if told is None:
            raise error
        self.report.fail(step, "; ".join(told[0]))


@asynccontextmanager
async def _role_directory(settings: Settings) -> AsyncIterator[UserDirectory]:
    """Where roles are: the users file, which needs no upstream, or the deployment."""
    if settings.security.user_directory == "file" and settings.security.user_file is not None:
        yield FileDirectory(settings.security.user_file)
        return
    from mongoguard.server.upstream import open_upstream

    async with open_upstream(settings) as upstream:
        yield open_directory(settings, upstream)


def _roles_as_facts(roles: frozenset[RoleName], exist: frozenset[RoleName]) -> list[dict[str, object]]:
    return [{"role": r.role, "db": r.db, "exists": r in exist} for r in sorted(roles)]
