"""The acceptor with real tickets of a real realm: which tokens it takes, and that no other brings it down."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from mongoguard.config.sasl_section import Sasl
from mongoguard.effects import (
    AcceptGssToken,
    GssContext,
    GssMessage,
    GssRefusal,
    UnwrapGssMessage,
    WrapGssMessage,
)
from mongoguard.errors import ConfigError
from mongoguard.server.kerberos import KerberosAcceptor
from tests.kerberos import CLIENT_PACKAGES, Kdc
from tests.missing import require_module, require_program
from tests.servers import password_of

NO_LAYER = b"\1\0\0\0"
SPNEGO = "1.3.6.1.5.5.2"


@pytest.fixture
def gssapi(kdc: Kdc, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package, in the test realm."""
    for name, value in kdc.environment.items():
        monkeypatch.setenv(name, value)
    return require_module("gssapi", "pip install 'mongoguard-proxy[kerberos-test]', with gcc and libkrb5-dev")


Begin = Callable[..., tuple[Any, bytes]]


@pytest.fixture
def begin(kdc: Kdc, gssapi: Any) -> Begin:
    """(a client's context, its first token); `user` needs no new ticket when `cache` holds one."""

    def start(
        user: str = "alice",
        service: str = "mongodb@localhost",
        *,
        cache: Path | None = None,
        flags: Any = None,
        mech: Any = None,
    ) -> tuple[Any, bytes]:
        ticket = gssapi.Credentials(usage="initiate", store={"ccache": f"FILE:{cache or kdc.ticket(user)}"})
        name = gssapi.Name(service, gssapi.NameType.hostbased_service)
        how = {} if flags is None else {"flags": flags}
        client = gssapi.SecurityContext(
            name=name, creds=ticket, usage="initiate", mech=mech or gssapi.MechType.kerberos, **how
        )
        return client, client.step()

    return start


def acceptor(keytab: Path, **keys: str) -> KerberosAcceptor:
    return KerberosAcceptor(Sasl.model_validate({"keytab": str(keytab), **keys}))


@pytest.fixture
def server(kdc: Kdc, gssapi: Any) -> KerberosAcceptor:
    """It accepts tickets for mongodb on any host of the keytab."""
    return acceptor(kdc.service_keytab)


async def refusal(server: KerberosAcceptor, token: bytes) -> str:
    answer = await server.accept(AcceptGssToken(token))
    assert isinstance(answer, GssRefusal), answer
    return answer.reason


async def context(server: KerberosAcceptor, token: bytes) -> GssContext:
    answer = await server.accept(AcceptGssToken(token))
    assert isinstance(answer, GssContext), answer
    return answer


async def test_a_ticket_is_accepted_and_both_sides_prove_themselves(
    server: KerberosAcceptor, begin: Begin
) -> None:
    client, token = begin()
    accepted = await context(server, token)
    assert accepted.initiator == b"alice@EXAMPLE.TEST"
    assert accepted.is_mutual
    assert 23 * 3600 < accepted.expires_at - time.time() < 25 * 3600
    client.step(accepted.answer)
    assert client.complete
    offer = await server.wrap(WrapGssMessage(accepted.handle, NO_LAYER))
    assert isinstance(offer, bytes)
    unwrapped = client.unwrap(offer)
    assert (unwrapped.message, unwrapped.encrypted) == (NO_LAYER, False)
    chosen = client.wrap(NO_LAYER + b"alice@EXAMPLE.TEST", False).message
    assert await server.unwrap(UnwrapGssMessage(accepted.handle, chosen)) == GssMessage(
        NO_LAYER + b"alice@EXAMPLE.TEST", False
    )


async def test_an_encrypted_message_is_told_from_a_plain_one(server: KerberosAcceptor, begin: Begin) -> None:
    client, token = begin()
    accepted = await context(server, token)
    client.step(accepted.answer)
    sent = client.wrap(NO_LAYER, True).message
    assert await server.unwrap(UnwrapGssMessage(accepted.handle, sent)) == GssMessage(NO_LAYER, True)


async def test_a_client_that_asks_for_no_proof_of_the_server_is_known_by_it(
    server: KerberosAcceptor, begin: Begin, gssapi: Any
) -> None:
    _, token = begin(flags=[gssapi.RequirementFlag.integrity])
    assert not (await context(server, token)).is_mutual


async def test_a_ticket_for_another_service_is_refused_though_the_keytab_has_its_key(
    kdc: Kdc, gssapi: Any, begin: Begin, tmp_path: Path
) -> None:
    keytab = Path(shutil.copy(kdc.service_keytab, tmp_path))
    kdc.add_service("HTTP/localhost", keytab)
    for_web = begin(service="HTTP@localhost")[1]
    assert "HTTP/localhost" in await refusal(acceptor(keytab), for_web)
    assert await context(acceptor(keytab, serviceName="HTTP"), begin(service="HTTP@localhost")[1])


async def test_with_a_host_name_tickets_for_other_hosts_are_refused(
    kdc: Kdc, gssapi: Any, begin: Begin, tmp_path: Path
) -> None:
    keytab = Path(shutil.copy(kdc.service_keytab, tmp_path))
    kdc.add_service("mongodb/second.localhost", keytab)
    service = "mongodb@second.localhost"
    await refusal(acceptor(keytab, hostName="localhost"), begin(service=service)[1])
    assert await context(acceptor(keytab, hostName="localhost"), begin()[1])
    assert await context(acceptor(keytab), begin(service=service)[1])


async def test_a_token_is_accepted_once(server: KerberosAcceptor, begin: Begin) -> None:
    _, token = begin()
    assert await context(server, token)
    assert "replay" in await refusal(server, token)


async def test_a_recorded_login_is_worthless_without_a_replay_cache_too(
    kdc: Kdc, gssapi: Any, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hosts with one keytab know nothing of each other's tokens."""
    monkeypatch.setenv("KRB5RCACHENAME", "none:")
    first, second = acceptor(kdc.service_keytab), acceptor(kdc.service_keytab)
    client, token = begin()
    recorded, replayed = await context(first, token), await context(second, token)
    client.step(recorded.answer)
    choice = client.wrap(NO_LAYER, False).message
    assert isinstance(await second.unwrap(UnwrapGssMessage(replayed.handle, choice)), GssRefusal)
    assert isinstance(await first.unwrap(UnwrapGssMessage(recorded.handle, choice)), GssMessage)


async def test_a_message_of_one_context_is_refused_in_another_and_a_second_time(
    server: KerberosAcceptor, begin: Begin
) -> None:
    (alice, token), (bob, of_bob) = begin("alice"), begin("bob")
    accepted, other = await context(server, token), await context(server, of_bob)
    alice.step(accepted.answer)
    bob.step(other.answer)
    choice = alice.wrap(NO_LAYER, False).message
    before = bytes(bytearray(choice))
    assert isinstance(await server.unwrap(UnwrapGssMessage(other.handle, choice)), GssRefusal)
    assert choice == before
    assert isinstance(await server.unwrap(UnwrapGssMessage(accepted.handle, choice)), GssMessage)
    assert isinstance(await server.unwrap(UnwrapGssMessage(accepted.handle, choice)), GssRefusal)
    assert isinstance(await server.unwrap(UnwrapGssMessage(accepted.handle, b"\0" * 40)), GssRefusal)


async def test_a_token_of_another_mechanism_is_refused_kerberos_inside_or_not(
    server: KerberosAcceptor, begin: Begin, gssapi: Any
) -> None:
    _, token = begin(mech=gssapi.OID.from_int_seq(SPNEGO))
    await refusal(server, token)


async def test_a_context_that_takes_more_steps_is_refused(
    server: KerberosAcceptor, begin: Begin, gssapi: Any
) -> None:
    flags = [gssapi.RequirementFlag.dce_style, gssapi.RequirementFlag.mutual_authentication]
    assert "more steps" in await refusal(server, begin(flags=flags)[1])


async def test_broken_tokens_are_refused_and_the_next_one_is_accepted(
    server: KerberosAcceptor, begin: Begin
) -> None:
    rng = random.Random(4752)
    _, token = begin()
    broken = [token[:length] for length in range(1, len(token), 7)]
    broken += [rng.randbytes(rng.randrange(1, 2000)) for _ in range(100)]
    broken += [token[:17] + rng.randbytes(rng.randrange(1, 200)) for _ in range(100)]
    for _ in range(300):
        position = rng.randrange(len(token))
        broken.append(
            token[:position] + bytes([token[position] ^ 1 << rng.randrange(8)]) + token[position + 1 :]
        )
    broken += [
        token[:2] + b"\xff\xff\xff\xff" + token[6:],
        b"\x60\x84\xff\xff\xff\xff" + token,
        bytes(65_536),
    ]
    accepted = 0
    for one in broken:
        answer = await server.accept(AcceptGssToken(one))
        if isinstance(answer, GssContext):  # a bit outside of what is encrypted: still alice, and once
            assert answer.initiator == b"alice@EXAMPLE.TEST"
            accepted += 1
    assert accepted <= 1
    assert await context(server, begin()[1])


async def test_a_service_name_that_is_no_text_is_refused(server: KerberosAcceptor, begin: Begin) -> None:
    _, token = begin()
    position = token.index(b"localhost")
    assert await refusal(server, token[: position - 60] + b"\xff" * 9 + token[position - 51 :])
    spoilt = token[:position] + b"\xff\xfe\0\n\x80lhos" + token[position + 9 :]
    answer = await server.accept(AcceptGssToken(spoilt))
    assert isinstance(answer, GssRefusal) or answer.initiator == b"alice@EXAMPLE.TEST"


@pytest.fixture
def punctual(kdc: Kdc, gssapi: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks may differ by one second only."""
    text = kdc.configuration.read_text().replace("[libdefaults]\n", "[libdefaults]\nclockskew = 1\n")
    path = tmp_path / "punctual.conf"
    path.write_text(text)
    monkeypatch.setenv("KRB5_CONFIG", str(path))


async def test_an_expired_ticket_is_refused(kdc: Kdc, punctual: None, begin: Begin) -> None:
    server = acceptor(kdc.service_keytab)
    kdc.add_principal("fleeting", life_seconds=3)
    cache = kdc.ticket("fleeting")
    accepted = await context(server, begin(cache=cache)[1])
    assert accepted.expires_at - time.time() < 5
    _, token = begin(cache=cache)
    await trio.sleep(accepted.expires_at - time.time() + 1)
    assert "expired" in await refusal(server, token)


CLOCK_IS_KNOWN = bytes.fromhex("0504000c00010008")
"""How a credential cache begins (MIT's file format, version 4) that says how far the KDC's clock is ahead."""


def set_clock_ahead(cache: Path, seconds: int) -> None:
    """Clients of this cache take the time to be later than it is."""
    content = cache.read_bytes()
    assert content.startswith(CLOCK_IS_KNOWN)
    end = len(CLOCK_IS_KNOWN)
    cache.write_bytes(content[:end] + seconds.to_bytes(4, "big") + content[end + 4 :])


@pytest.fixture
def postdated(kdc: Kdc, gssapi: Any, tmp_path: Path) -> Path:
    """alice's ticket for the service, which begins in an hour."""
    cache = tmp_path / "postdated.ccache"
    kinit = require_program("kinit", CLIENT_PACKAGES)
    options = ["-c", f"FILE:{cache}", "-s", "1h", "-S", "mongodb/localhost", "alice@EXAMPLE.TEST"]
    password = password_of("alice") + "\n"
    subprocess.run([kinit, *options], input=password, text=True, check=True, capture_output=True)
    return cache


async def test_a_ticket_that_begins_in_an_hour_is_refused_until_then(
    server: KerberosAcceptor, begin: Begin, postdated: Path
) -> None:
    set_clock_ahead(postdated, 3700)
    assert "not yet valid" in await refusal(server, begin(cache=postdated)[1])


async def test_a_client_whose_clock_is_far_ahead_is_refused(
    kdc: Kdc, server: KerberosAcceptor, begin: Begin
) -> None:
    cache = kdc.ticket("bob")
    assert await context(server, begin(cache=cache)[1])  # now the cache has the service's ticket, too
    set_clock_ahead(cache, 400)
    assert "Clock skew too great" in await refusal(server, begin(cache=cache)[1])
    set_clock_ahead(cache, 200)
    assert await context(server, begin(cache=cache)[1])


async def test_new_keys_in_the_file_count_at_once_and_the_old_ones_as_long_as_they_are_there(
    kdc: Kdc, gssapi: Any, begin: Begin, tmp_path: Path
) -> None:
    keytab = tmp_path / "rotated.keytab"
    service = "mongodb@rotated.localhost"
    kdc.add_service("mongodb/rotated.localhost", keytab)
    server = acceptor(keytab)
    old = kdc.ticket("bob")
    assert await context(server, begin(service=service, cache=old)[1])
    kdc._administer("ktadd", "-k", str(keytab), "mongodb/rotated.localhost")
    assert await context(server, begin(service=service)[1])
    assert await context(server, begin(service=service, cache=old)[1])
    keytab.unlink()
    await refusal(server, begin(service=service)[1])


@pytest.mark.parametrize("name", [r"ali\@ce", "two words", "zoë", "a(b)*c=d,e"])
async def test_odd_names_are_told_apart(kdc: Kdc, server: KerberosAcceptor, begin: Begin, name: str) -> None:
    kdc.add_principal(name)
    cache = kdc.ticket(name)
    assert (await context(server, begin(cache=cache)[1])).initiator == f"{name}@EXAMPLE.TEST".encode()


class OtherKdc(Kdc):
    """A second realm."""

    realm = "OTHER.TEST"


@pytest.fixture
def other_realm(kdc: Kdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OtherKdc]:
    """OTHER.TEST, which EXAMPLE.TEST trusts."""
    other = OtherKdc(tmp_path / "other")
    try:
        other.start().wait()
        for realm in (kdc, other):
            realm.add_principal("krbtgt/EXAMPLE.TEST@OTHER.TEST", password="the-trust")
        here, there = kdc.configuration.read_text(), other.configuration.read_text()
        section = there[there.index("OTHER.TEST = {") : there.index("[domain_realm]")]
        for one in (other.configuration, tmp_path / "both.conf"):
            one.write_text(here.replace("[domain_realm]", f"{section}[domain_realm]"))
        monkeypatch.setenv("KRB5_CONFIG", str(tmp_path / "both.conf"))
        yield other
    finally:
        other.kill()


async def test_a_user_of_another_realm_keeps_its_realm(
    kdc: Kdc, gssapi: Any, other_realm: OtherKdc, begin: Begin
) -> None:
    foreign = begin(cache=other_realm.ticket("alice"))[1]
    assert (await context(acceptor(kdc.service_keytab), foreign)).initiator == b"alice@OTHER.TEST"


@pytest.mark.parametrize("name", ["missing.keytab", "", "text.keytab", "other.keytab"])
def test_a_keytab_that_has_no_key_of_the_service_is_refused_with_its_path(
    kdc: Kdc, gssapi: Any, tmp_path: Path, name: str
) -> None:
    (tmp_path / "text.keytab").write_text("no keytab")
    if name == "other.keytab":
        kdc.add_service("host/other", tmp_path / name)
    with pytest.raises(ConfigError) as caught:
        acceptor(tmp_path / name)
    assert f"security.sasl.keytab {tmp_path / name}: expected a keytab with a key of mongodb/*" in str(
        caught.value
    )


async def test_without_a_path_the_keytab_is_found_as_mongod_finds_it(
    kdc: Kdc, gssapi: Any, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5_KTNAME", str(kdc.service_keytab))
    assert await context(KerberosAcceptor(Sasl()), begin()[1])
    monkeypatch.setenv("KRB5_KTNAME", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match=r"security\.sasl\.keytab is not set, and KRB5_KTNAME"):
        KerberosAcceptor(Sasl())


async def test_fifty_tokens_at_once_are_all_accepted(
    server: KerberosAcceptor, begin: Begin, kdc: Kdc
) -> None:
    cache = kdc.ticket("alice")
    tokens = [begin(cache=cache)[1] for _ in range(50)]
    async with trio.open_nursery() as nursery:
        for token in tokens:
            nursery.start_soon(context, server, token)
