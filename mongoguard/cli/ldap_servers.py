"""What can be seen of an LDAP directory without a user: servers, TLS, the service's bind, what nested groups need.

In: a directory. Out: steps of a report. Must not know users, passwords, or who reads the report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import trio
from cryptography import x509

from mongoguard.authn.ldap.filter_template import IN_CHAIN
from mongoguard.authn.ldap.group_lookup import NestedGroups, strategy_problem
from mongoguard.authn.ldap.query import LdapFlow, LdapRefusal
from mongoguard.cli.steps import Report
from mongoguard.errors import DirectoryUnavailable
from mongoguard.server.ldap.connection import LdapConnection, LdapServer
from mongoguard.server.ldap.directory import LdapDirectory

__all__ = ["ServersProbe"]


@dataclass(frozen=True, slots=True)
class ServersProbe:
    """Tries every server, not only the first that works: the others are what an outage leaves."""

    directory: LdapDirectory
    report: Report
    warn_days: int
    """From how many days before its end on a server's certificate is warned of."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def run(self) -> bool:
        """Whether at least one server can be used; what fails is in the report."""
        self.report.begin()
        try:
            servers = await self.directory.servers()
        except DirectoryUnavailable as error:
            self.report.fail("servers", str(error))
            return False
        names = [str(server) for server in servers]
        self.report.ok("servers", f"{len(servers)} to try, in this order: {', '.join(names)}", servers=names)
        may_bind = True
        usable = 0
        for server in servers:
            connection = await self._connect(server)
            if connection is None:
                continue
            try:
                bound = await self._bind(connection, may_bind=may_bind)
            finally:
                connection.close()
            may_bind = may_bind and bound
            usable += bound
        if usable:
            await self._nested_groups()
        return usable > 0

    async def _connect(self, server: LdapServer) -> LdapConnection | None:
        name = f"connection to {server}"
        self.report.begin()
        try:
            connection = await self.directory.connect(server)
        except DirectoryUnavailable as error:
            self.report.fail(name, str(error), server=str(server))
            return None
        security = self.directory.ldap.transport_security
        if connection.tls is None:
            self.report.warn(
                name, "without TLS (security.ldap.transportSecurity: none)", server=str(server), tls=None
            )
            return connection
        version, cipher = connection.tls
        tls = {"version": version, "cipher": cipher}
        text = f"{security}: {version}, {cipher}"
        if connection.certificate is None:
            self.report.ok(name, text, server=str(server), tls=tls)
            return connection
        certificate = x509.load_der_x509_certificate(connection.certificate)
        ends = certificate.not_valid_after_utc
        tls |= {"subject": _subject(certificate), "notAfter": ends.isoformat()}
        detail = f"certificate of {tls['subject']}, which ends on {ends:%Y-%m-%d %H:%M:%S} UTC"
        is_late = ends - self.now() < timedelta(days=self.warn_days)
        if is_late:
            detail += f", in less than {self.warn_days} days"
        (self.report.warn if is_late else self.report.ok)(name, text, detail, server=str(server), tls=tls)
        return connection

    async def _bind(self, connection: LdapConnection, *, may_bind: bool) -> bool:
        name = f"service bind on {connection.server}"
        bind = self.directory.ldap.bind
        if bind.is_anonymous:
            self.report.skip(name, "there is no security.ldap.bind.queryUser: searches are anonymous")
            return True
        if not may_bind:
            self.report.skip(name, "not tried again: more wrong passwords could lock the service out")
            return False
        self.report.begin()
        timeout = self.directory.ldap.timeout_ms / 1000
        try:
            with trio.move_on_after(timeout) as scope:
                await self.directory.bind_service(connection)
        except DirectoryUnavailable as error:
            self.report.fail(name, str(error))
            return False
        if scope.cancelled_caught:
            self.report.fail(name, f"no answer within {timeout:g} s")
            return False
        several = len(bind.query_passwords) > 1
        which = f" with one of {len(bind.query_passwords)} passwords" if several else ""
        self.report.ok(name, f"as {bind.name}{which}", queryUser=bind.query_user)
        return True

    async def _nested_groups(self) -> None:
        ldap = self.directory.ldap
        name = "nested groups"
        if ldap.authz.query_template is None:
            return
        self.report.begin()
        try:
            problem = await self._strategy_problem(ldap.authz.query_template)
        except (DirectoryUnavailable, LdapRefusal) as error:
            self.report.fail(name, str(error))
            return
        if problem is not None:
            self.report.fail(name, problem, nestedGroups=str(ldap.strategy))
            return
        needs_active_directory = ldap.strategy in (NestedGroups.IN_CHAIN, NestedGroups.TOKEN_GROUPS)
        fits = "which this server offers" if needs_active_directory else "which every server offers"
        self.report.ok(name, f"{ldap.strategy}, {fits}", nestedGroups=str(ldap.strategy))

    async def _strategy_problem(self, query_template: str) -> str | None:
        if IN_CHAIN not in query_template:
            return await self.directory.strategy_problem()
        # Copied from a configuration for Active Directory: it is part of the template, and of no strategy.
        if await self._ask(strategy_problem(NestedGroups.IN_CHAIN)) is None:
            return None
        return (
            f"security.ldap.authz.queryTemplate holds the rule {IN_CHAIN}, and this server does not say it is Active "
            "Directory; OpenLDAP answers such a search with no group and no error (use nestedGroups: recursive)"
        )

    async def _ask(self, flow: LdapFlow[str | None]) -> str | None:
        """Carry out a flow on the pool."""
        try:
            query = next(flow)
            while True:
                query = flow.send(await self.directory.search(query))
        except StopIteration as stop:
            problem: str | None = stop.value
            return problem


def _subject(certificate: x509.Certificate) -> str:
    try:
        return certificate.subject.rfc4514_string() or "an empty subject"
    except ValueError:
        return "a subject that cannot be read"
