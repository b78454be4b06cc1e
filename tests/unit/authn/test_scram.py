import base64
import hashlib
import hmac
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mongoguard.authn import scram
from mongoguard.authn.conversation import AuthenticationFailure
from mongoguard.authn.scram import (
    SCRAM_MECHANISMS,
    SCRAM_SHA_1,
    SCRAM_SHA_256,
    ScramServerConversation,
    client_proof,
    decoy_credentials,
    derive_credentials,
    derive_keys,
    proof_holds,
    server_signature,
    usable_credentials,
)
from mongoguard.authn.scram_messages import ServerFirst
from mongoguard.model.names import UserName
from mongoguard.model.user import ScramCredentials
from tests.unit.authn.driving import Shell, client, make_user

FIXTURES = Path(__file__).parents[3] / "fixtures" / "scram"
KEY = b"0123456789abcdef"


@pytest.mark.parametrize("file", ["rfc5802_sha1.json", "rfc7677_sha256.json"])
def test_the_exchange_printed_in_the_rfc_is_verified_and_signed(file):
    rfc = json.loads((FIXTURES / file).read_text(encoding="utf-8"))
    mechanism = SCRAM_MECHANISMS[rfc["mechanism"]]
    first = ServerFirst.parse(rfc["server_first"].encode())
    salted = hashlib.pbkdf2_hmac(mechanism.digest, rfc["password"].encode(), first.salt, first.iterations)
    client_key = hmac.digest(salted, b"Client Key", mechanism.digest)
    server_key = hmac.digest(salted, b"Server Key", mechanism.digest)
    stored = ScramCredentials(
        first.iterations, first.salt, hashlib.new(mechanism.digest, client_key).digest(), server_key
    )
    without_proof, _, proof = rfc["client_final"].partition(",p=")
    auth_message = f"{rfc['client_first'][3:]},{rfc['server_first']},{without_proof}".encode()
    assert proof_holds(mechanism, stored, auth_message, base64.b64decode(proof))
    assert base64.b64encode(client_proof(mechanism, client_key, auth_message)).decode() == proof
    assert (
        f"v={base64.b64encode(server_signature(mechanism, server_key, auth_message)).decode()}"
        == rfc["server_final"]
    )
    if mechanism is SCRAM_SHA_256:  # MongoDB's SCRAM-SHA-1 takes a digest for the password
        assert derive_keys(
            mechanism, rfc["user"], rfc["password"], first.salt, first.iterations
        ) == scram.ScramKeys(client_key, server_key)


def test_a_proof_of_another_length_or_value_does_not_hold():
    stored = derive_credentials(SCRAM_SHA_256, "alice", "pencil", b"s" * 28, 4096)
    keys = derive_keys(SCRAM_SHA_256, "alice", "pencil", b"s" * 28, 4096)
    proof = client_proof(SCRAM_SHA_256, keys.client_key, b"message")
    assert proof_holds(SCRAM_SHA_256, stored, b"message", proof)
    assert not proof_holds(SCRAM_SHA_256, stored, b"message", proof[:-1])
    assert not proof_holds(SCRAM_SHA_256, stored, b"message", proof + b"\0")
    assert not proof_holds(SCRAM_SHA_256, stored, b"message", b"")
    assert not proof_holds(SCRAM_SHA_256, stored, b"massage", proof)


def test_sha_1_takes_mongodbs_password_digest_and_sha_256_the_prepared_password():
    digest = hashlib.md5(b"alice:mongo:\xe2\x85\xa8").hexdigest().encode()
    salted = hashlib.pbkdf2_hmac("sha1", digest, b"s" * 16, 4096)
    assert derive_keys(SCRAM_SHA_1, "alice", "\u2168", b"s" * 16, 4096).client_key == hmac.digest(
        salted, b"Client Key", "sha1"
    )
    roman = derive_keys(SCRAM_SHA_256, "alice", "\u2168", b"s" * 28, 4096)
    assert roman == derive_keys(SCRAM_SHA_256, "bob", "IX", b"s" * 28, 4096)


@pytest.mark.parametrize("mechanism", SCRAM_MECHANISMS.values(), ids=lambda m: m.name)
def test_credentials_are_derived_for_the_right_salt_length_only(mechanism):
    good = derive_credentials(mechanism, "alice", "pencil", b"s" * mechanism.salt_bytes, 4096)
    assert (len(good.stored_key), len(good.server_key)) == (mechanism.digest_bytes, mechanism.digest_bytes)
    for length in (0, mechanism.salt_bytes - 1, mechanism.salt_bytes + 1):
        with pytest.raises(ValueError, match="salt"):
            derive_credentials(mechanism, "alice", "pencil", b"s" * length, 4096)


def test_an_empty_or_prohibited_password_gets_no_credentials():
    with pytest.raises(ValueError, match="empty"):
        derive_credentials(SCRAM_SHA_256, "alice", "", b"s" * 28, 4096)
    with pytest.raises(ValueError, match="empty"):
        derive_credentials(SCRAM_SHA_256, "alice", "\u00ad", b"s" * 28, 4096)
    with pytest.raises(ValueError, match="prohibits") as refused:
        derive_credentials(SCRAM_SHA_256, "alice", "bell\x07", b"s" * 28, 4096)
    assert "bell" not in str(refused.value)


def test_stored_credentials_of_a_wrong_length_are_not_usable():
    user = make_user("alice")
    good = user.credentials["SCRAM-SHA-256"]
    assert usable_credentials(SCRAM_SHA_256, user) is good
    for bad in (
        replace(good, salt=good.salt[:16]),
        replace(good, salt=good.salt + b"."),
        replace(good, stored_key=b""),
        replace(good, server_key=good.server_key[:20]),
        replace(good, iteration_count=0),
    ):
        malformed = replace(user, credentials={"SCRAM-SHA-256": bad})
        assert usable_credentials(SCRAM_SHA_256, malformed) is None
    assert usable_credentials(SCRAM_SHA_1, make_user("alice", mechanisms=("SCRAM-SHA-256",))) is None
    assert usable_credentials(SCRAM_SHA_256, None) is None


def test_a_stored_iteration_count_of_one_is_usable_as_in_mongod():
    user = make_user("alice")
    one = replace(user.credentials["SCRAM-SHA-256"], iteration_count=1)
    assert usable_credentials(SCRAM_SHA_256, replace(user, credentials={"SCRAM-SHA-256": one})) is one


def test_a_decoy_is_the_same_for_a_name_and_differs_by_user_database_mechanism_and_key():
    decoy = decoy_credentials(SCRAM_SHA_256, UserName("eve", "shop"), KEY)
    assert decoy == decoy_credentials(SCRAM_SHA_256, UserName("eve", "shop"), KEY)
    others = [
        decoy_credentials(SCRAM_SHA_256, UserName("eva", "shop"), KEY),
        decoy_credentials(SCRAM_SHA_256, UserName("eve", "sho"), KEY),
        decoy_credentials(SCRAM_SHA_256, UserName("peve", "sho"), KEY),
        decoy_credentials(SCRAM_SHA_1, UserName("eve", "shop"), KEY),
        decoy_credentials(SCRAM_SHA_256, UserName("eve", "shop"), KEY[::-1]),
    ]
    assert len({o.salt[:16] for o in others} | {decoy.salt[:16]}) == 6


@pytest.mark.parametrize("mechanism", SCRAM_MECHANISMS.values(), ids=lambda m: m.name)
def test_a_decoy_has_the_shape_of_real_credentials(mechanism):
    decoy = decoy_credentials(mechanism, UserName("eve", "shop"), KEY)
    assert len(decoy.salt) == mechanism.salt_bytes
    assert decoy.iteration_count == {"SCRAM-SHA-1": 10_000, "SCRAM-SHA-256": 15_000}[mechanism.name]
    assert len(decoy.stored_key) == len(decoy.server_key) == mechanism.digest_bytes


def _conversation(mechanism=SCRAM_SHA_256, skip=True):
    return ScramServerConversation(mechanism, "shop", KEY, skip_empty_exchange=skip)


@pytest.mark.parametrize("mechanism", SCRAM_MECHANISMS.values(), ids=lambda m: m.name)
def test_the_twins_agree_and_the_proven_user_is_the_one_fetched_at_the_start(mechanism):
    shell = Shell()
    alice = shell.add(make_user("alice"))
    server, twin = _conversation(mechanism), client("alice", mechanism=mechanism.name)
    assert server.name is None
    answer = shell.run(server.step(twin.first()))
    assert server.name == alice.name
    assert answer.user is None
    shell.users.clear()
    final = shell.run(server.step(twin.final(answer.answer)))
    twin.verify(final.answer)
    assert final.user is alice
    assert shell.fetched == [alice.name]


def test_the_server_adds_24_random_bytes_of_its_own_to_the_nonce():
    shell = Shell()
    answer = shell.run(_conversation().step(b"n,,n=alice,r=abcd")).answer
    nonce = ServerFirst.parse(answer).nonce
    assert nonce == b"abcd" + base64.b64encode(b"\x01" * 24)


def test_without_skip_empty_exchange_the_user_is_named_after_one_more_message_of_any_content():
    shell = Shell()
    alice = shell.add(make_user("alice"))
    server, twin = _conversation(skip=False), client("alice")
    proof = twin.final(shell.run(server.step(twin.first())).answer)
    answered = shell.run(server.step(proof))
    twin.verify(answered.answer)
    assert answered.user is None
    last = shell.run(server.step(b"anything"))
    assert (last.answer, last.user) == (b"", alice)
    with pytest.raises(AuthenticationFailure, match="over"):
        shell.run(server.step(b""))


def test_a_proof_serves_once():
    shell = Shell()
    shell.add(make_user("alice"))
    server, twin = _conversation(), client("alice")
    proof = twin.final(shell.run(server.step(twin.first())).answer)
    shell.run(server.step(proof))
    with pytest.raises(AuthenticationFailure, match="over"):
        shell.run(server.step(proof))


def test_a_failed_proof_can_not_be_tried_again_in_the_same_conversation():
    shell = Shell()
    shell.add(make_user("alice"))
    server, twin, wrong = _conversation(), client("alice"), client("alice", "pen")
    answer = shell.run(server.step(twin.first())).answer
    with pytest.raises(AuthenticationFailure, match="proof"):
        shell.run(server.step(wrong.final(answer)))
    with pytest.raises(AuthenticationFailure, match="over"):
        shell.run(server.step(twin.final(answer)))


def test_a_malformed_first_message_asks_the_directory_nothing_and_ends_the_conversation():
    shell = Shell()
    shell.add(make_user("alice"))
    server = _conversation()
    with pytest.raises(AuthenticationFailure):
        shell.run(server.step(b"p=tls-unique,,n=alice,r=abcd"))
    with pytest.raises(AuthenticationFailure, match="over"):
        shell.run(server.step(b"n,,n=alice,r=abcd"))
    assert shell.fetched == []


def test_a_proof_for_another_conversation_is_refused():
    shell = Shell()
    shell.add(make_user("alice"))
    twin = client("alice")
    proof = twin.final(shell.run(_conversation().step(twin.first())).answer)
    second = _conversation()
    shell.run(second.step(twin.first()))
    with pytest.raises(AuthenticationFailure, match="nonce"):
        shell.run(second.step(proof))


def test_a_channel_binding_that_is_not_the_first_messages_header_is_refused():
    shell = Shell()
    shell.add(make_user("alice"))
    server, twin = _conversation(), client("alice")
    answer = shell.run(server.step(b"y" + twin.first()[1:])).answer
    with pytest.raises(AuthenticationFailure, match="channel binding"):
        shell.run(server.step(twin.final(answer)))


def _refused_login(shell, user, password="pencil"):
    server, twin = _conversation(), client(user, password)
    first = shell.run(server.step(twin.first())).answer
    with pytest.raises(AuthenticationFailure):
        shell.run(server.step(twin.final(first)))
    return first


def _strangers():
    sha1_only = make_user("sha1-only", mechanisms=("SCRAM-SHA-1",))
    broken = make_user("malformed")
    credentials = replace(broken.credentials["SCRAM-SHA-256"], salt=b"short")
    return [sha1_only, replace(broken, credentials={"SCRAM-SHA-256": credentials})]


@pytest.mark.parametrize("name", ["nobody", "sha1-only", "malformed"])
def test_who_can_not_log_in_fails_at_the_proof_as_a_wrong_password_does(name):
    shell = Shell()
    for user in (make_user("alice"), *_strangers()):
        shell.add(user)
    wrong = _refused_login(shell, "alice", "wrong")
    stranger = _refused_login(shell, name)
    assert len(wrong.split(b",")) == len(stranger.split(b","))
    real, shown = ServerFirst.parse(wrong), ServerFirst.parse(stranger)
    assert (len(real.nonce), len(real.salt)) == (len(shown.nonce), len(shown.salt))
    assert shown.iterations == 15_000
    assert ServerFirst.parse(_refused_login(shell, name)).salt == shown.salt


def test_not_even_the_owner_of_the_decoy_key_can_log_in_with_a_decoy(monkeypatch):
    known = derive_credentials(SCRAM_SHA_256, "nobody", "pencil", b"s" * 28, 4096)
    monkeypatch.setattr(scram, "decoy_credentials", lambda *_: known)
    _refused_login(Shell(), "nobody")


def test_a_login_runs_no_iterations_on_the_server_for_anybody(monkeypatch):
    shell = Shell()
    shell.add(make_user("alice"))
    twins = {name: client(name) for name in ("alice", "nobody")}
    servers = {name: _conversation() for name in twins}
    answers = {name: shell.run(servers[name].step(twin.first())).answer for name, twin in twins.items()}
    proofs = {name: twin.final(answers[name]) for name, twin in twins.items()}

    def refuse(*_args):
        raise AssertionError("PBKDF2 on the server side")

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", refuse)
    assert shell.run(servers["alice"].step(proofs["alice"])).user is not None
    with pytest.raises(AuthenticationFailure):
        shell.run(servers["nobody"].step(proofs["nobody"]))
    shell.run(_conversation().step(twins["nobody"].first()))
