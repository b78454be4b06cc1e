"""`mongoguard check`: what works and what does not, step by step.

In: a configuration file. Out: one line a step on standard output; exit status 1 when a step failed. Changes nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, assert_never

import trio

from mongoguard.authn.gssapi import GSSAPI
from mongoguard.cli.arguments import Parsers, add_config
from mongoguard.cli.errors import EXIT_FAILED, EXIT_OK, FORESEEN, sentences_for
from mongoguard.cli.service_user import WITHHELD_ACTIONS
from mongoguard.cli.steps import Report, Step, StepResult, printable
from mongoguard.config.loading import load_settings
from mongoguard.config.oidc_section import OidcParameters
from mongoguard.config.settings import Settings
from mongoguard.config.user_file import parse_user_file
from mongoguard.effects import FetchSigningKey
from mongoguard.errors import DirectoryUnavailable

__all__ = ["Findings", "add_parser"]


_PROBE = {
    "usersInfo": {"user": "mongoguard", "db": "admin"},
    "showCredentials": True,
    "showPrivileges": True,
    "showAuthenticationRestrictions": True,
}
"""What the directory asks for each login, for a name that need not exist."""


class _Upstream(Protocol):
    @property
    def hello(self) -> Mapping[str, Any]: ...
    @property
    def build_info(self) -> Mapping[str, Any]: ...
    @property
    def impersonation(self) -> str: ...
    async def ask(self, db: str, command: Mapping[str, Any]) -> dict[str, Any]: ...


class Findings:
    """The steps' results, printed as they come."""

    def __init__(self, write: Callable[[str], None] = print) -> None:
        """`write` takes a line."""
        self._write = write
        self.failed = False

    def ok(self, text: str) -> None:
        """A step that works."""
        self._write(f"OK    {text}")

    def warn(self, text: str) -> None:
        """Works, and somebody should know."""
        self._write(f"WARN  {text}")

    def fail(self, text: str) -> None:
        """A step that does not work."""
        self.failed = True
        self._write(f"FAIL  {text}")

    def step(self, step: Step) -> None:
        """A step of the LDAP directory; one that was not tried is left out."""
        text = printable("; ".join((f"security.ldap: {step.name}: {step.text}", *step.details)))
        match step.result:
            case StepResult.OK:
                self.ok(text)
            case StepResult.WARN:
                self.warn(text)
            case StepResult.FAIL:
                self.fail(text)
            case StepResult.SKIP:
                pass
            case _:
                assert_never(step.result)


def add_parser(commands: Parsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "check",
        help="check a configuration and the upstream it names",
        description="Validate the file, connect to the upstream, and list what works and what does not.",
    )
    add_config(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    settings = load_settings(options.config)
    findings = Findings()
    findings.ok(f"configuration {settings.source}")
    for warning in settings.warnings():
        findings.warn(warning)
    _check_files(settings, findings)
    trio.run(_check_others, settings, findings)
    return EXIT_FAILED if findings.failed else EXIT_OK


def _check_files(settings: Settings, findings: Findings) -> None:
    audit_path = settings.audit_log.path if settings.audit_log else None
    for key, name in (("auditLog.path", audit_path), ("systemLog.path", settings.system_log.path)):
        if name is None:
            continue
        path = Path(name)
        if os.access(path if path.exists() else path.parent, os.W_OK):
            findings.ok(f"{key} {path} can be written")
        else:
            findings.fail(f"{key} {path} can't be written")
    if settings.security.user_file is not None:
        _check_user_file(settings.security.user_file, findings)
    if settings.net.tls.is_on:
        _check_tls(settings, findings)


def _check_tls(settings: Settings, findings: Findings) -> None:
    from mongoguard.server.tls_context import load_tls

    try:
        loaded = load_tls(settings.net.tls, settings.set_parameter, time.time())
    except FORESEEN as error:
        _fail_with(findings, "net.tls", error)
        return
    findings.ok(f"net.tls {settings.net.tls.mode}: certificates, keys and lists can be used")
    for warning in loaded.warnings:
        findings.warn(warning)


def _check_user_file(path: str, findings: Findings) -> None:
    try:
        users = parse_user_file(Path(path).read_text(encoding="utf-8"), path)
    except FORESEEN as error:
        _fail_with(findings, "security.userFile", error)
        return
    findings.ok(f"security.userFile {path}: {len(users.users)} users")
    for role in users.missing_roles:
        findings.warn(f"security.userFile {path}: the role {role} does not exist and grants nothing")


async def _check_others(settings: Settings, findings: Findings) -> None:
    """Whoever is asked while clients log in; what fails at one says nothing of the others."""
    if GSSAPI in settings.mechanisms:
        _check_keytab(settings, findings)
    if settings.set_parameter.oidc_identity_providers:
        await _check_identity_providers(settings.set_parameter, findings)
    if settings.security.ldap is not None:
        await _check_ldap(settings, findings)
    await _check_connection(settings, findings)


def _check_keytab(settings: Settings, findings: Findings) -> None:
    from mongoguard.server.kerberos import open_kerberos

    try:
        open_kerberos(settings)
    except FORESEEN as error:
        _fail_with(findings, "GSSAPI", error)
        return
    findings.ok("GSSAPI: the keytab has a key of the service")


async def _check_identity_providers(parameters: OidcParameters, findings: Findings) -> None:
    """Ask each provider for a key that it need not have: what it publishes must be read for that."""
    from mongoguard.server.oidc_keys import open_signing_keys

    try:
        signing_keys = open_signing_keys(parameters)
    except FORESEEN as error:
        _fail_with(findings, "setParameter.oidcIdentityProviders", error)
        return
    ask = signing_keys.effects[FetchSigningKey]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(signing_keys.keep_up)
        for issuer in dict.fromkeys(section.issuer for section in parameters.oidc_identity_providers):
            try:
                await ask(FetchSigningKey(issuer, "mongoguard check"))
            except DirectoryUnavailable as error:
                findings.fail(f"identity provider {error}")
            else:
                findings.ok(f"identity provider {issuer}: its signing keys can be had")
        nursery.cancel_scope.cancel()


async def _check_ldap(settings: Settings, findings: Findings) -> None:
    from mongoguard.cli.ldap_servers import ServersProbe
    from mongoguard.server.ldap.directory import LdapDirectory

    try:
        directory = LdapDirectory(settings)
    except FORESEEN as error:
        _fail_with(findings, "security.ldap", error)
        return
    try:
        warn_days = settings.set_parameter.tls_x509_expiration_warning_threshold_days
        await ServersProbe(directory, Report(findings.step), warn_days).run()
    finally:
        directory.close()


async def _check_connection(settings: Settings, findings: Findings) -> None:
    from mongoguard.server.upstream import open_upstream

    try:
        async with open_upstream(settings) as upstream:
            await _check_upstream(settings, upstream, findings)
    except FORESEEN as error:
        _fail_with(findings, "upstream", error)


def _fail_with(findings: Findings, step: str, error: Exception) -> None:
    told = sentences_for(error)
    if told is None:
        raise error
    for sentence in told[0]:
        findings.fail(f"{step}: {sentence}")


async def _check_upstream(settings: Settings, upstream: _Upstream, findings: Findings) -> None:
    version = upstream.build_info.get("version", "unknown version")
    findings.ok(f"upstream answers: {_kind(upstream.hello)}, version {version}")
    if upstream.impersonation == "none":
        findings.warn(
            "the upstream refuses impersonation: its own log, profiler and currentOp name only the service user,"
            " and sessions are kept apart by mongoguard alone (mongoguard init-upstream makes the role for it)"
        )
    else:
        findings.ok(f"the upstream takes the real user's name with each command ({upstream.impersonation})")
    await _check_service_role(upstream, findings)
    if settings.security.user_directory == "upstream":
        reply = await upstream.ask("admin", _PROBE)
        if reply.get("ok"):
            findings.ok("the upstream's user directory can be read, credentials and privileges included")
        else:
            findings.fail(f"the upstream's user directory can't be read: {reply.get('errmsg')}")


async def _check_service_role(upstream: _Upstream, findings: Findings) -> None:
    reply = await upstream.ask("admin", {"connectionStatus": 1, "showPrivileges": True})
    login = reply.get("authInfo", {})
    users = login.get("authenticatedUsers", [])
    if not users:
        findings.warn("upstream.uri logs nobody in")
        return
    findings.ok(f"logged in upstream as {users[0]['user']}@{users[0]['db']}")
    held = {action for p in login.get("authenticatedUserPrivileges", []) for action in p["actions"]}
    dangerous = sorted(WITHHELD_ACTIONS & held)
    if dangerous:
        findings.warn(
            f"the service user holds {', '.join(dangerous)}, which every client then benefits from;"
            " mongoguard init-upstream makes a role without"
        )


def _kind(hello: Mapping[str, Any]) -> str:
    if hello.get("msg") == "isdbgrid":
        return "a sharded cluster"
    return f"replica set {hello['setName']}" if "setName" in hello else "a standalone server"
