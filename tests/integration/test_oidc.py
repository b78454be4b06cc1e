"""Logins by MONGODB-OIDC through mongoguard: real drivers, real providers, real keys that change, tokens that expire."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from tests.node_clients import NodeClients
from tests.oidc_guard import CLIENT_ID, PREFIX, OidcGuard, Tokens, create_group_role, provider_settings
from tests.oidc_provider import (
    JWKS,
    Misbehaviour,
    MongodbOidcProvider,
    OidcProvider,
    SigningKey,
    token_by_hand,
)
from tests.pki import Pki
from tests.servers import Mongod


@pytest.fixture(scope="module")
def upstream(standalone: Mongod) -> Mongod:
    """A mongod that knows the groups dba (readWrite on shop)."""
    create_group_role(standalone)
    with standalone.client() as client:
        client.shop.numbers.drop()
        client.shop.numbers.insert_many([{"_id": n} for n in range(100)])
    return standalone


@pytest.fixture(scope="module")
def guard(
    upstream: Mongod, oidc_server: OidcProvider, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OidcGuard]:
    """mongoguard that takes the stand-in's tokens."""
    server = OidcGuard(tmp_path_factory.mktemp("oidc_guard"), upstream, pki, provider_settings(oidc_server))
    try:
        yield server.start().wait()
    finally:
        server.stop()


def dba(provider: OidcProvider, **claims: Any) -> str:
    return provider.token(**{"groups": ["dba"], **claims})


def who(client: Any) -> tuple[list[str], list[str]]:
    """The names of who is logged in, and of the roles, as connectionStatus has them."""
    found = client.admin.command("connectionStatus")["authInfo"]
    return (
        [user["user"] for user in found["authenticatedUsers"]],
        sorted(role["role"] for role in found["authenticatedUserRoles"]),
    )


def refuse(guard: OidcGuard, token: str, reason: str) -> None:
    """A token that must not log in, for that reason, which is the auditor's alone."""
    before = len(guard.logins)
    with guard.login(Tokens(token)) as client, pytest.raises(OperationFailure) as caught:
        client.shop.numbers.find_one()
    assert caught.value.details is not None
    assert (caught.value.code, caught.value.details["errmsg"]) == (18, "Authentication failed.")
    assert guard.wait_for_refusal(reason, before)["result"] == 18


# ---- who gets in ----------------------------------------------------------------------------------------------------


def test_a_program_logs_in_by_its_token_with_the_roles_of_its_groups(
    guard: OidcGuard, oidc_provider: OidcProvider
) -> None:
    tokens = Tokens(dba(oidc_provider, subject="ci", groups=["dba", "unknown to mongod"]))
    with guard.login(tokens) as client:
        assert client.shop.numbers.count_documents({}) == 100
        names, roles = who(client)
        with pytest.raises(OperationFailure, match="not authorized"):
            client.other.numbers.find_one()
    assert (names, f"{PREFIX}/dba" in roles, len(tokens.contexts)) == ([f"{PREFIX}/ci"], True, 1)
    (event,) = [event for event in guard.logins if event["param"]["user"] == f"{PREFIX}/ci"]
    assert (event["result"], event["param"]["mechanism"]) == (0, "MONGODB-OIDC")
    assert event["param"]["claims"] == {"iss": oidc_provider.issuer, "sub": "ci"}


def test_a_cached_token_logs_in_with_the_first_message_of_the_next_connection(
    guard: OidcGuard, oidc_provider: OidcProvider
) -> None:
    tokens = Tokens(dba(oidc_provider))
    with guard.login(tokens, maxPoolSize=10) as client:
        client.shop.numbers.find_one()
        threads = [threading.Thread(target=client.shop.numbers.count_documents, args=({},)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(tokens.contexts) == 1


def test_a_person_is_told_where_to_get_a_token(guard: OidcGuard, oidc_provider: OidcProvider) -> None:
    tokens = Tokens(dba(oidc_provider, subject="alice"))
    with guard.connect({"OIDC_HUMAN_CALLBACK": tokens, "ALLOWED_HOSTS": ["localhost"]}) as client:
        assert client.shop.numbers.count_documents({}) == 100
        assert who(client)[0] == [f"{PREFIX}/alice"]
    (context,) = tokens.contexts
    assert context.idp_info is not None
    told = (context.idp_info.issuer, context.idp_info.clientId, context.idp_info.requestScopes)
    assert told == (oidc_provider.issuer, CLIENT_ID, ["openid"])


def test_a_person_who_gives_a_name_must_be_that_person(guard: OidcGuard, oidc_provider: OidcProvider) -> None:
    for name, subject, right in [("alice", "alice", True), ("alice", "mallory", False)]:
        properties = {
            "OIDC_HUMAN_CALLBACK": Tokens(dba(oidc_provider, subject=subject)),
            "ALLOWED_HOSTS": ["localhost"],
        }
        with guard.connect(properties, username=name) as client:
            if right:
                client.shop.numbers.find_one()
            else:
                with pytest.raises(OperationFailure) as caught:
                    client.shop.numbers.find_one()
                assert caught.value.code == 18
    guard.wait_for_refusal("not of the user who asked")


def test_a_person_must_allow_the_proxys_host_name(guard: OidcGuard, oidc_provider: OidcProvider) -> None:
    tokens = Tokens(dba(oidc_provider))
    with (
        guard.connect({"OIDC_HUMAN_CALLBACK": tokens, "ALLOWED_HOSTS": ["*.example.test"]}) as client,
        pytest.raises(ConfigurationError, match="localhost"),
    ):
        client.shop.numbers.find_one()
    assert tokens.contexts == []


# ---- who does not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"expires_in": -1}, "the token expired"),
        ({"aud": "somebody else"}, "no identity provider, or more than one, has the token's issuer"),
        (
            {"iss": "https://elsewhere.example.test"},
            "no identity provider, or more than one, has the token's issuer",
        ),
        ({"algorithm": "PS256"}, "the token's alg"),
        ({"groups": None}, "the claim groups is missing"),
        ({"subject": "a\0b"}, "holds a NUL"),
        ({"nbf": 4_000_000_000}, "the claim nbf is"),
        ({"header": {"kid": "key-unknown"}}, "publishes no key 'key-unknown'"),
        ({"header": {"typ": "secevent+jwt"}}, "typ is not JWT"),
    ],
)
def test_a_wrong_token_is_refused_with_code_18_and_the_reason_is_the_auditors_alone(
    guard: OidcGuard, oidc_provider: OidcProvider, claims: dict[str, Any], reason: str
) -> None:
    refuse(guard, dba(oidc_provider, **claims), reason)


def test_another_key_under_a_published_name_signs_nothing(
    guard: OidcGuard, oidc_provider: OidcProvider
) -> None:
    impostor = SigningKey(oidc_provider.keys[-1].key_id)
    refuse(guard, dba(oidc_provider, key=impostor), "the signature does not hold")


def test_a_token_without_a_signature_is_refused(guard: OidcGuard, oidc_provider: OidcProvider) -> None:
    header = {"alg": "none", "kid": oidc_provider.keys[-1].key_id}
    token = token_by_hand(header, oidc_provider.claims(groups=["dba"]), lambda signed: b"")
    refuse(guard, token, "alg is none that the key")


def test_no_token_is_taken_where_it_can_be_read(
    upstream: Mongod, oidc_provider: OidcProvider, pki: Pki, tmp_path: Path
) -> None:
    server = OidcGuard(tmp_path, upstream, pki, provider_settings(oidc_provider))
    text = server.config_path.read_text().replace("requireTLS", "allowTLS")
    server.config_path.write_text(text)
    server.start().wait()
    try:
        tokens = Tokens(dba(oidc_provider))
        with (
            server.login(tokens) as encrypted,
            server.login(tokens, tls=False, tlsCAFile=None) as clear,
        ):
            assert encrypted.shop.numbers.count_documents({}) == 100
            with pytest.raises(OperationFailure) as caught:
                clear.shop.numbers.find_one()
        assert caught.value.code == 334
    finally:
        server.stop()


def test_no_token_reaches_a_log_or_an_event(guard: OidcGuard, oidc_provider: OidcProvider) -> None:
    good, bad = dba(oidc_provider, canary="c4n4ry"), dba(oidc_provider, expires_in=-1)
    with guard.login(Tokens(good)) as client:
        client.shop.numbers.find_one()
    refuse(guard, bad, "expired")
    written = guard.audit + guard.log
    for token in (good, bad):
        for part in token.split("."):
            assert part not in written
    assert "c4n4ry" not in written


# ---- tokens end, keys change ----------------------------------------------------------------------------------------


def test_an_expired_token_is_replaced_once_and_the_command_is_repeated(
    guard: OidcGuard, oidc_provider: OidcProvider
) -> None:
    tokens = Tokens(lambda: dba(oidc_provider, expires_in=2), lambda: dba(oidc_provider))
    with guard.login(tokens, maxPoolSize=1) as client:
        client.shop.log.drop()
        client.shop.log.insert_one({"_id": 1})
        before = who(client)
        time.sleep(2.1)
        client.shop.log.insert_one({"_id": 2})
        assert client.shop.log.count_documents({}) == 2
        assert (who(client), len(tokens.contexts)) == (before, 2)


def test_a_cursor_goes_on_after_the_token_has_expired_and_the_next_command_brings_a_new_one(
    guard: OidcGuard, oidc_provider: OidcProvider
) -> None:
    tokens = Tokens(lambda: dba(oidc_provider, expires_in=2), lambda: dba(oidc_provider))
    with guard.login(tokens, maxPoolSize=1) as client:
        cursor = client.shop.numbers.find(batch_size=10)
        assert next(cursor) == {"_id": 0}
        time.sleep(2.1)
        assert len(list(cursor)) == 99
        assert len(tokens.contexts) == 1
        assert client.shop.numbers.count_documents({}) == 100
        assert len(tokens.contexts) == 2


def test_a_driver_that_is_asked_in_the_middle_of_a_cursor_goes_on_with_it(
    upstream: Mongod, oidc_provider: OidcProvider, pki: Pki, tmp_path: Path
) -> None:
    server = OidcGuard(tmp_path, upstream, pki, provider_settings(oidc_provider), grace=False)
    server.start().wait()
    try:
        tokens = Tokens(lambda: dba(oidc_provider, expires_in=2), lambda: dba(oidc_provider))
        with server.login(tokens, maxPoolSize=1) as client:
            cursor = client.shop.numbers.find(batch_size=10)
            assert next(cursor) == {"_id": 0}
            time.sleep(2.1)
            assert len(list(cursor)) == 99
            assert len(tokens.contexts) == 2
    finally:
        server.stop()


def test_an_expired_session_does_not_become_somebody_elses(
    guard: OidcGuard, oidc_provider: OidcProvider
) -> None:
    tokens = Tokens(
        lambda: dba(oidc_provider, subject="alice", expires_in=2), lambda: dba(oidc_provider, subject="bob")
    )
    with guard.login(tokens, maxPoolSize=1) as client:
        client.shop.numbers.find_one()
        time.sleep(2.1)
        with pytest.raises(PyMongoError):
            client.shop.numbers.find_one()
    guard.wait_for_refusal("Already authenticated as")


def test_new_keys_are_fetched_when_they_are_first_used_and_old_ones_are_forgotten(
    guard: OidcGuard, oidc_provider: OidcProvider
) -> None:
    old = dba(oidc_provider)
    with guard.login(Tokens(old)) as client:
        client.shop.numbers.find_one()
    oidc_provider.rotate()
    time.sleep(1.1)  # the quiesce period
    with guard.login(Tokens(dba(oidc_provider))) as client:
        client.shop.numbers.find_one()
    time.sleep(1.1)
    refuse(guard, old, "publishes no key")


def test_who_has_logged_in_by_a_key_that_is_withdrawn_must_bring_a_new_token(
    guard: OidcGuard, oidc_provider: OidcProvider
) -> None:
    tokens = Tokens(dba(oidc_provider), lambda: dba(oidc_provider))
    with guard.login(tokens, maxPoolSize=1) as client:
        client.shop.numbers.find_one()
        oidc_provider.rotate()
        client.shop.numbers.find_one()
        assert len(tokens.contexts) == 1, "nobody has asked for the keys yet"
        time.sleep(1.1)  # the quiesce period
        with guard.login(Tokens(dba(oidc_provider))) as other:
            other.shop.numbers.find_one()
        client.shop.numbers.find_one()
        assert len(tokens.contexts) == 2


def test_made_up_keys_make_no_storm_of_questions(guard: OidcGuard, oidc_provider: OidcProvider) -> None:
    with guard.login(Tokens(dba(oidc_provider))) as client:
        client.shop.numbers.find_one()
    before, began = oidc_provider.fetches(JWKS), time.monotonic()
    for number in range(20):
        token = dba(oidc_provider, header={"kid": f"made-up-{number}"})
        with guard.login(Tokens(token)) as client, pytest.raises(OperationFailure):
            client.shop.numbers.find_one()
    periods = int(time.monotonic() - began) + 2  # one question a second
    assert oidc_provider.fetches(JWKS) - before <= periods


@pytest.mark.parametrize("misbehaviour", list(Misbehaviour))
def test_a_provider_that_misbehaves_costs_its_own_users_a_login_and_nobody_else_anything(
    guard: OidcGuard, oidc_provider: OidcProvider, misbehaviour: Misbehaviour
) -> None:
    with guard.login(Tokens(dba(oidc_provider))) as client:
        client.shop.numbers.find_one()
    time.sleep(1.1)
    oidc_provider.misbehaviour[JWKS] = misbehaviour
    codes: list[int | None] = []
    before = len(guard.logins)

    def unknown_key() -> None:
        token = dba(oidc_provider, header={"kid": f"unknown-{misbehaviour.name}"})
        try:
            with guard.login(Tokens(token), retryReads=False) as client:
                client.shop.numbers.find_one()
        except OperationFailure as error:
            codes.append(error.code)

    began = time.monotonic()
    waiting = threading.Thread(target=unknown_key)
    waiting.start()
    with guard.login(Tokens(dba(oidc_provider))) as client:  # a known key
        client.shop.numbers.find_one()
    assert time.monotonic() - began < 5
    waiting.join(20)
    assert (codes, time.monotonic() - began < 10) == ([6], True)
    guard.wait_for_refusal("can't be had", before)


# ---- who gives the roles --------------------------------------------------------------------------------------------


def test_without_an_authorization_claim_the_document_on_external_gives_the_roles(
    upstream: Mongod, oidc_provider: OidcProvider, pki: Pki, tmp_path: Path
) -> None:
    settings = provider_settings(oidc_provider, useAuthorizationClaim=False, authorizationClaim=None)
    with upstream.client() as client:
        client["$external"].command(
            "createUser", f"{PREFIX}/documented", roles=[{"role": "read", "db": "shop"}]
        )
    server = OidcGuard(tmp_path, upstream, pki, settings)
    server.start().wait()
    try:
        with server.login(Tokens(dba(oidc_provider, subject="documented"))) as client:
            assert client.shop.numbers.count_documents({}) == 100
            with pytest.raises(OperationFailure, match="not authorized"):
                client.shop.numbers.insert_one({})
        refuse(server, dba(oidc_provider, subject="stranger"), "no such user on $external")
    finally:
        server.stop()
        with upstream.client() as client:
            client["$external"].command("dropUser", f"{PREFIX}/documented")


# ---- MongoDB's own provider, and other clients -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def guard_of_mongodbs_provider(
    upstream: Mongod,
    mongodb_oidc_provider: MongodbOidcProvider,
    pki: Pki,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OidcGuard]:
    """mongoguard that takes the tokens of MongoDB's test provider."""
    settings = provider_settings(mongodb_oidc_provider)
    server = OidcGuard(tmp_path_factory.mktemp("oidc_guard"), upstream, pki, settings)
    try:
        yield server.start().wait()
    finally:
        server.stop()


def test_tokens_of_mongodbs_provider_log_in(
    guard_of_mongodbs_provider: OidcGuard, mongodb_oidc_provider: MongodbOidcProvider
) -> None:
    with guard_of_mongodbs_provider.login(Tokens(mongodb_oidc_provider.token())) as client:
        assert client.shop.numbers.count_documents({}) == 100
        assert who(client)[0] == [f"{PREFIX}/alice"]


def test_a_provider_that_comes_back_with_another_key_is_asked_again(
    guard_of_mongodbs_provider: OidcGuard, mongodb_oidc_provider: MongodbOidcProvider
) -> None:
    mongodb_oidc_provider.restart()
    time.sleep(1.1)
    with guard_of_mongodbs_provider.login(Tokens(mongodb_oidc_provider.token())) as client:
        client.shop.numbers.find_one()


def test_the_node_driver_logs_in_and_brings_a_new_token_when_asked(
    guard: OidcGuard, oidc_provider: OidcProvider, pki: Pki, node_clients: NodeClients
) -> None:
    uri = f"mongodb://localhost:{guard.port}/?tls=true&authMechanism=MONGODB-OIDC"
    found = node_clients.node(
        "node_oidc.js",
        uri,
        str(pki.ca),
        dba(oidc_provider, subject="node", expires_in=5),
        dba(oidc_provider, subject="node"),
    )
    assert found == {
        "people": [{"issuer": oidc_provider.issuer, "clientId": CLIENT_ID, "requestScopes": ["openid"]}],
        "user": f"{PREFIX}/node",
        "count": 100,
        "countAfterExpiry": 100,
        "callbacks": 2,
    }


def test_mongosh_logs_in_by_the_device_flow_of_mongodbs_provider(
    guard_of_mongodbs_provider: OidcGuard, pki: Pki, node_clients: NodeClients
) -> None:
    found = node_clients.mongosh(
        f"mongodb://localhost:{guard_of_mongodbs_provider.port}/shop?tls=true&authMechanism=MONGODB-OIDC",
        "print(JSON.stringify([db.numbers.countDocuments(), db.runCommand({connectionStatus: 1})"
        ".authInfo.authenticatedUsers[0].user]))",
        *("--tlsCAFile", str(pki.ca), "--oidcFlows=device-auth"),
    )
    assert f'[100,"{PREFIX}/alice"]' in found
