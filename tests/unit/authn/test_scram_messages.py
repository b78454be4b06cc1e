import pytest

from mongoguard.authn.scram_messages import (
    ClientFinal,
    ClientFirst,
    ScramFormatError,
    ServerFinal,
    ServerFirst,
    decode_name,
    encode_name,
)


@pytest.mark.parametrize("header", [b"n,,", b"y,,", b"n,a=alice,", b"y,a=alice,", b"n,a=,"])
def test_a_client_first_message_is_read_and_written_unchanged(header):
    first = ClientFirst.parse(header + b"n=alice,r=nonce")
    assert (first.gs2_header, first.user, first.nonce, first.bare) == (
        header,
        "alice",
        b"nonce",
        b"n=alice,r=nonce",
    )
    assert first.encode() == header + b"n=alice,r=nonce"


def test_an_authorization_identity_is_unescaped_before_it_is_compared():
    assert ClientFirst.parse(b"n,a=a=2Cb,n=a=2Cb,r=nonce").user == "a,b"


def test_extensions_after_the_nonce_are_ignored_and_stay_in_the_signed_part():
    first = ClientFirst.parse(b"n,,n=alice,r=nonce,x=1,whatever")
    assert first.nonce == b"nonce"
    assert first.bare == b"n=alice,r=nonce,x=1,whatever"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"garbage",
        b"n,,n=alice",
        b"p=tls-unique,,n=alice,r=nonce",
        b"x,,n=alice,r=nonce",
        b"Y,,n=alice,r=nonce",
        b",,n=alice,r=nonce",
        b"n,a=bob,n=alice,r=nonce",
        b"n,x,n=alice,r=nonce",
        b"n,,m=ext,n=alice,r=nonce",
        b"n,,n=,r=nonce",
        b"n,,r=nonce,n=alice",
        b"n,,N=alice,r=nonce",
        b"n,,n=alice,r=",
        b"n,,n=alice,r=abc",
        b"n,,n=alice,r=ab\x01cd",
        b"n,,n=alice,r=ab cd",
        b"n,,n=alice,r=ab\xffcd",
        b"n,,n=al\xffce,r=nonce",
    ],
)
def test_a_malformed_client_first_message_is_refused(payload):
    with pytest.raises(ScramFormatError):
        ClientFirst.parse(payload)


def test_a_nonce_of_four_characters_is_enough_and_three_are_not():
    assert ClientFirst.parse(b"n,,n=alice,r=abcd").nonce == b"abcd"
    with pytest.raises(ScramFormatError, match="too short"):
        ClientFirst.parse(b"n,,n=alice,r=abc")


@pytest.mark.parametrize(
    ("saslname", "name"),
    [
        (b"a=2Cb", "a,b"),
        (b"a=3Db", "a=b"),
        (b"=3D2C", "=2C"),  # one pass: not a comma
        (b"a=41", "a=41"),
        (b"a=2c", "a=2c"),
        (b"a=", "a="),
        ("ü".encode(), "ü"),
    ],
)
def test_a_name_is_unescaped_in_one_pass_and_other_escapes_stand_for_themselves(saslname, name):
    assert decode_name(saslname) == name


def test_an_escaped_name_holds_no_comma_and_comes_back():
    assert encode_name("a,=b") == b"a=2C=3Db"
    assert decode_name(encode_name("a,=2C=b")) == "a,=2C=b"


def test_a_server_first_message_is_read_and_written():
    message = ServerFirst.parse(b"r=nonce,s=c2FsdA==,i=15000")
    assert message == ServerFirst(b"nonce", b"salt", 15000)
    assert message.encode() == b"r=nonce,s=c2FsdA==,i=15000"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"r=nonce,s=c2FsdA==",
        b"m=x,r=nonce,s=c2FsdA==,i=15000",
        b"r=nonce,s=,i=15000",
        b"r=nonce,s=c2FsdA,i=15000",
        b"r=nonce,s=c2FsdB==,i=15000",  # the same bytes in another spelling
        b"r=nonce,s=c2FsdA==,i=0",
        b"r=nonce,s=c2FsdA==,i=-1",
        b"r=nonce,s=c2FsdA==,i=015",
        b"r=nonce,s=c2FsdA==,i=15000x",
        b"r=nonce,s=c2FsdA==,i=99999999999",
        b"s=c2FsdA==,r=nonce,i=15000",
    ],
)
def test_a_malformed_server_first_message_is_refused(payload):
    with pytest.raises(ScramFormatError):
        ServerFirst.parse(payload)


def test_a_client_final_message_is_read_and_written_with_its_signed_part_apart():
    message = ClientFinal.parse(b"c=biws,r=nonce,x=ignored,p=cHJvb2Y=")
    assert message == ClientFinal(b"n,,", b"nonce", b"proof", b"c=biws,r=nonce,x=ignored")
    assert message.encode() == b"c=biws,r=nonce,x=ignored,p=cHJvb2Y="


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"c=biws,p=cHJvb2Y=",
        b"d=biws,r=nonce,p=cHJvb2Y=",
        b"c=biw,r=nonce,p=cHJvb2Y=",
        b"c=biws,r=,p=cHJvb2Y=",
        b"c=biws,r=nonce,p=cHJvb2Y",
        b"c=biws,r=nonce,p=cHJvb2Z=",  # the same bytes in another spelling
        b"c=biws,r=nonce,p=cHJvb2Y=,x=1",
        b"c=biws,r=nonce,v=cHJvb2Y=",
    ],
)
def test_a_malformed_client_final_message_is_refused(payload):
    with pytest.raises(ScramFormatError):
        ClientFinal.parse(payload)


def test_a_server_final_message_is_read_and_written():
    assert ServerFinal.parse(b"v=c2ln,x=ignored") == ServerFinal(b"sig")
    assert ServerFinal(b"sig").encode() == b"v=c2ln"


@pytest.mark.parametrize("payload", [b"", b"e=invalid-proof", b"v=c2l", b"p=c2ln"])
def test_a_malformed_or_failed_server_final_message_is_refused(payload):
    with pytest.raises(ScramFormatError):
        ServerFinal.parse(payload)


def test_no_repr_shows_a_salt_a_proof_or_a_signature():
    shown = repr(
        [
            ServerFirst(b"nonce", b"secret", 1),
            ClientFinal(b"n,,", b"nonce", b"secret", b"c=biws"),
            ServerFinal(b"secret"),
        ]
    )
    assert "secret" not in shown
