"""Laws of the SCRAM twins, for any name, password and tampering."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mongoguard.authn.conversation import AuthenticationFailure
from mongoguard.authn.saslprep import saslprep
from mongoguard.authn.scram import SCRAM_MECHANISMS, SCRAM_SHA_256, ScramServerConversation
from mongoguard.authn.scram_client import ScramClientConversation, ScramClientError, ScramPassword
from mongoguard.authn.scram_messages import ClientFirst, ScramFormatError, decode_name, encode_name
from tests.unit.authn.driving import Shell, client, make_user

KEY = b"0123456789abcdef"
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.text(
    "=,23CD", min_size=1, max_size=8
)
NONCES = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","), min_size=4, max_size=40
)
MECHANISMS = st.sampled_from(tuple(SCRAM_MECHANISMS))

ALICE = make_user("alice")
TWIN_PASSWORD = ScramPassword(SCRAM_SHA_256, "alice", "pencil")


def _server(mechanism="SCRAM-SHA-256"):
    return ScramServerConversation(SCRAM_MECHANISMS[mechanism], "shop", KEY, skip_empty_exchange=True)


def _has_form(password):
    try:
        return bool(saslprep(password))
    except ValueError:
        return False


@given(NAMES)
def test_a_name_survives_its_escaping(name):
    assert decode_name(encode_name(name)) == name
    assert b"," not in encode_name(name)


@given(NAMES, NONCES)
def test_a_first_message_survives_the_wire(name, nonce):
    message = ClientFirst.of(name, nonce.encode())
    assert ClientFirst.parse(message.encode()) == message


@given(st.binary(max_size=60))
def test_bytes_of_a_stranger_are_refused_or_read_and_nothing_else(payload):
    try:
        message = ClientFirst.parse(payload)
    except ScramFormatError:
        return
    assert message.encode() == payload


@settings(max_examples=40)
@given(NAMES, NAMES, MECHANISMS)
def test_the_twins_agree_on_any_name_and_password(name, password, mechanism):
    assume(_has_form(password))
    shell = Shell()
    user = shell.add(make_user(name, password=password, mechanisms=(mechanism,)))
    server, twin = _server(mechanism), client(name, password, mechanism)
    proof = twin.final(shell.run(server.step(twin.first())).answer)
    last = shell.run(server.step(proof))
    twin.verify(last.answer)
    assert last.user is user


@settings(max_examples=25)
@given(NAMES, NAMES, MECHANISMS)
def test_another_password_never_logs_in(password, other, mechanism):
    assume(_has_form(password) and _has_form(other) and saslprep(password) != saslprep(other))
    shell = Shell()
    shell.add(make_user("alice", password=password, mechanisms=(mechanism,)))
    server, twin = _server(mechanism), client("alice", other, mechanism)
    proof = twin.final(shell.run(server.step(twin.first())).answer)
    with pytest.raises(AuthenticationFailure):
        shell.run(server.step(proof))


def _login(at=None, position=0, flip=0):
    """A login of alice where some bits of the byte at `position` (modulo its length) of message number `at` flip."""
    shell = Shell()
    shell.add(ALICE)
    server, twin = _server(), ScramClientConversation(TWIN_PASSWORD, b"client-nonce-of-length-32-chars!")

    def carried(number, message):
        if number != at:
            return message
        where = position % len(message)
        return message[:where] + bytes([message[where] ^ flip]) + message[where + 1 :]

    first = shell.run(server.step(carried(0, twin.first()))).answer
    last = shell.run(server.step(carried(2, twin.final(carried(1, first)))))
    twin.verify(carried(3, last.answer))


def test_a_login_that_nobody_tampers_with_succeeds():
    _login()


@settings(max_examples=400)
@given(st.integers(0, 3), st.integers(0, 200), st.integers(1, 255))
def test_one_changed_byte_in_any_message_fails_the_login(at, position, flip):
    with pytest.raises((AuthenticationFailure, ScramClientError)):
        _login(at, position, flip)


@pytest.mark.parametrize("at", range(4))
def test_no_position_of_a_message_is_unprotected(at):
    unprotected = []
    for position in range(150):  # more than the longest of them
        for flip in (1, 2, 4, 8, 16, 32):
            try:
                _login(at, position, flip)
            except (AuthenticationFailure, ScramClientError):
                continue
            unprotected.append((position, flip))
    assert unprotected == []


@settings(max_examples=25)
@given(NAMES)
def test_an_unknown_user_gets_the_same_salt_every_time_and_never_logs_in(name):
    assume(name != "alice")
    salts = set()
    for _ in range(2):
        shell, server, twin = Shell(), _server(), client(name)
        answer = shell.run(server.step(twin.first())).answer
        salts.add(answer.split(b",")[1])
        assert answer.endswith(b",i=15000")
    assert len(salts) == 1
    proof = twin.final(answer)
    with pytest.raises(AuthenticationFailure):
        shell.run(server.step(proof))
