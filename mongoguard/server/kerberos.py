"""The Kerberos library, as the service that clients log in to by GSSAPI.

In: `security.sasl`, and effects of `authn.gssapi`. Out: their answers. Must not know users or sessions.

The library blocks: it reads the keytab, and writes each accepted token into the replay cache. So it is called in
threads of its own, which a disk that hangs can't take from anything else. A context lives as long as the conversation
that holds it; what a client delegates is dropped at once.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import trio

from mongoguard.authn.gssapi import GSSAPI
from mongoguard.config.sasl_section import Sasl
from mongoguard.config.settings import Settings
from mongoguard.effects import (
    AcceptGssToken,
    Effect,
    GssContext,
    GssMessage,
    GssRefusal,
    UnwrapGssMessage,
    WrapGssMessage,
)
from mongoguard.errors import ConfigError, DirectoryUnavailable

__all__ = ["KerberosAcceptor", "open_kerberos"]

T = TypeVar("T")

THREADS = 4
"""A token takes a fifth of a millisecond; the others are for those that wait for a slow disk."""

CALL_SECS = 10
"""Every call reads local files at most: one that takes longer hangs. Drivers give a login up after 20 to 30 s."""

MAX_REASON = 500
"""Characters: the library's texts repeat names of the client's choice."""


class KerberosAcceptor:
    """Accepts tokens for one service, with the keys of one keytab. New keys in the file count at once."""

    def __init__(self, sasl: Sasl) -> None:
        """Find the keys. Raises `ConfigError` without the library, and without a key of the service."""
        try:
            import gssapi
        except ImportError as error:
            raise ConfigError(
                "setParameter.authenticationMechanisms: GSSAPI needs the Python package gssapi: "
                f"pip install 'mongoguard-proxy[kerberos]' builds it with gcc and libkrb5-dev ({error})"
            ) from None
        self._kerberos = gssapi.MechType.kerberos
        self._raw = gssapi.raw
        self._limiter = trio.CapacityLimiter(THREADS)
        host = "" if sasl.host_name is None else f"@{sasl.host_name}"
        try:
            self._credentials = gssapi.Credentials(
                usage="accept",
                name=gssapi.Name(f"{sasl.service_name}{host}", gssapi.NameType.hostbased_service),
                mechs=[self._kerberos],
                store=None if sasl.keytab is None else {"keytab": f"FILE:{sasl.keytab}"},
            )
        except self._raw.GSSError as error:
            service = f"{sasl.service_name}/{sasl.host_name or '*'}"
            raise ConfigError(
                f"{_keytab_key(sasl)}: expected a keytab with a key of {service}: {_reason(error)}"
            ) from None

    @property
    def effects(self) -> Mapping[type[Effect[Any]], Callable[[Any], Awaitable[Any]]]:
        """What carries out which effect, as `Shell.external` wants it."""
        return {AcceptGssToken: self.accept, UnwrapGssMessage: self.unwrap, WrapGssMessage: self.wrap}

    async def accept(self, effect: AcceptGssToken) -> GssContext | GssRefusal:
        """See `AcceptGssToken`."""
        return await self._call(lambda: self._accept(effect.token))

    async def wrap(self, effect: WrapGssMessage) -> bytes | GssRefusal:
        """See `WrapGssMessage`."""
        return await self._call(lambda: self._wrap(effect.handle, effect.content))

    async def unwrap(self, effect: UnwrapGssMessage) -> GssMessage | GssRefusal:
        """See `UnwrapGssMessage`."""
        return await self._call(lambda: self._unwrap(effect.handle, effect.token))

    async def _call(self, call: Callable[[], T]) -> T | GssRefusal:
        """Call the library in a thread. An abandoned thread keeps its place in the limiter until it ends."""

        def guarded() -> T | GssRefusal:
            try:
                return call()
            except self._raw.GSSError as error:
                return GssRefusal(_reason(error))

        with trio.move_on_after(CALL_SECS):
            return await trio.to_thread.run_sync(guarded, limiter=self._limiter, abandon_on_cancel=True)
        raise DirectoryUnavailable(f"the Kerberos library gave no answer within {CALL_SECS} s")

    def _accept(self, token: bytes) -> GssContext | GssRefusal:
        found = self._raw.accept_sec_context(token, acceptor_creds=self._credentials)
        if found.more_steps:
            return GssRefusal("the client wants more steps than Kerberos takes")
        if found.mech != self._kerberos:
            return GssRefusal("the mechanism is not Kerberos")
        if not found.lifetime:
            return GssRefusal("the ticket has expired, or says nothing of its end")
        return GssContext(
            handle=found.context,
            answer=found.token or b"",
            initiator=self._raw.display_name(found.initiator_name, name_type=False).name,
            is_mutual=self._raw.RequirementFlag.mutual_authentication in found.flags,
            expires_at=time.time() + found.lifetime,
        )

    def _wrap(self, context: object, content: bytes) -> bytes:
        wrapped: bytes = self._raw.wrap(context, content, confidential=False).message
        return wrapped

    def _unwrap(self, context: object, token: bytes) -> GssMessage:
        # A copy: the library turns the octets of a token around where they are, Python's bytes or not.
        found = self._raw.unwrap(context, bytes(bytearray(token)))
        return GssMessage(found.message, found.encrypted)


def open_kerberos(settings: Settings) -> KerberosAcceptor | None:
    """The acceptor, when GSSAPI is to be served. Raises `ConfigError`."""
    return KerberosAcceptor(settings.security.sasl or Sasl()) if GSSAPI in settings.mechanisms else None


def _keytab_key(sasl: Sasl) -> str:
    if sasl.keytab is not None:
        return f"security.sasl.keytab {sasl.keytab}"
    return "security.sasl.keytab is not set, and KRB5_KTNAME or krb5.conf"


def _reason(error: Exception) -> str:
    return str(error)[:MAX_REASON]
