import base64

import pytest
from bson import Binary, Decimal128, Int64

from mongoguard.authn.sasl_requests import (
    MAX_PAYLOAD_BYTES,
    MAX_TICKET_BYTES,
    Authenticate,
    Payload,
    SaslContinue,
    SaslStart,
    check_fields,
)
from mongoguard.errors import CommandError
from tests.unit.authn.driving import body

START = {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": b"x"}
GENERIC = {
    "lsid": {"id": Binary(b"1" * 16, 4)},
    "$db": "admin",
    "$clusterTime": {},
    "$readPreference": {"mode": "primary"},
    "apiVersion": "1",
    "apiStrict": True,
    "apiDeprecationErrors": True,
    "comment": "x",
    "maxTimeMS": 100,
    "readConcern": {},
}


def _refused(parse, **fields):
    with pytest.raises(CommandError) as refused:
        parse(body(**fields))
    return refused.value.code, refused.value.errmsg


def test_a_start_with_every_field_that_mongod_takes_is_read():
    request = SaslStart.parse(
        body(**START, autoAuthorize=1, options={"skipEmptyExchange": True, "other": 1}, **GENERIC)
    )
    assert (request.mechanism, request.payload) == ("SCRAM-SHA-256", Payload(b"x"))
    assert request.skip_empty_exchange() is True


@pytest.mark.parametrize("options", [{}, {"options": None}, {"options": {}}, {"options": {"other": 1}}])
def test_without_the_option_the_empty_exchange_is_kept(options):
    assert SaslStart.parse(body(**START, **options)).skip_empty_exchange() is False


@pytest.mark.parametrize("value", [1, "true", None, 1.0, {}])
def test_the_option_must_be_a_bool(value):
    request = SaslStart.parse(body(**START, options={"skipEmptyExchange": value}))
    with pytest.raises(CommandError, match="^skipEmptyExchange must be boolean$") as refused:
        request.skip_empty_exchange()
    assert refused.value.code == 2


@pytest.mark.parametrize("value", [True, 1, Int64(1), 1.5, Decimal128("1"), None])
def test_auto_authorize_may_be_a_bool_a_number_or_null(value):
    assert SaslStart.parse(body(**START, autoAuthorize=value))


@pytest.mark.parametrize(
    ("fields", "code", "errmsg"),
    [
        ({"saslStart": 1}, 40414, "BSON field 'saslStart.mechanism' is missing but a required field"),
        (
            {"saslStart": 1, "payload": b"x"},
            40414,
            "BSON field 'saslStart.mechanism' is missing but a required field",
        ),
        (
            {**START, "mechanism": None},
            40414,
            "BSON field 'saslStart.mechanism' is missing but a required field",
        ),
        (
            {"saslStart": 1, "mechanism": "x"},
            40414,
            "BSON field 'saslStart.payload' is missing but a required field",
        ),
        (
            {**START, "mechanism": 5},
            14,
            "BSON field 'saslStart.mechanism' is the wrong type 'int', expected type 'string'",
        ),
        ({**START, "payload": 5}, 2, "Invalid SASLPayload type. Expected Base64 or BinData, got: int"),
        ({**START, "payload": None}, 2, "Invalid SASLPayload type. Expected Base64 or BinData, got: null"),
        (
            {**START, "payload": Binary(b"x" * 16, 5)},
            2,
            "Invalid SASLPayload subtype. Expected BinDataGeneral, got: MD5",
        ),
        (
            {**START, "payload": Binary(b"x", 9)},
            2,
            "Invalid SASLPayload subtype. Expected BinDataGeneral, got: invalid",
        ),
        ({**START, "payload": "!!notb64"}, 40537, "Failed decoding SASL payload: Invalid base64 character"),
        ({**START, "payload": "ab=d"}, 40537, "Failed decoding SASL payload: Invalid base64 character"),
        ({**START, "payload": "üüüü"}, 40537, "Failed decoding SASL payload: Invalid base64 character"),
        ({**START, "payload": "abc"}, 10270, "Failed decoding SASL payload: invalid base64"),
        (
            {**START, "options": 5},
            14,
            "BSON field 'saslStart.options' is the wrong type 'int', expected type 'object'",
        ),
        (
            {**START, "autoAuthorize": "x"},
            14,
            "BSON field 'saslStart.autoAuthorize' is the wrong type 'string',"
            " expected types '[bool, long, int, decimal, double']",
        ),
        ({**START, "bogus": 1}, 40415, "BSON field 'saslStart.bogus' is an unknown field."),
        ({**START, "db": "x"}, 40415, "BSON field 'saslStart.db' is an unknown field."),
        ({**START, "user": "x"}, 40415, "BSON field 'saslStart.user' is an unknown field."),
        ({**START, "conversationId": 1}, 40415, "BSON field 'saslStart.conversationId' is an unknown field."),
        ({**START, "$audit": {}}, 40415, "BSON field 'saslStart.$audit' is an unknown field."),
        ({**START, "writeConcern": {}}, 72, "Command does not support writeConcern"),
        (
            {"saslStart": 1, "bogus": 1, "mechanism": 5},
            40415,
            "BSON field 'saslStart.bogus' is an unknown field.",
        ),
        (
            {"saslStart": 1, "mechanism": 5, "bogus": 1},
            14,
            "BSON field 'saslStart.mechanism' is the wrong type 'int', expected type 'string'",
        ),
    ],
)
def test_an_ill_formed_start_is_refused_in_mongods_words(fields, code, errmsg):
    assert _refused(SaslStart.parse, **fields) == (code, errmsg)


def test_a_speculative_start_has_a_database_of_its_own():
    assert SaslStart.parse(body(**START, db="admin"), speculative=True).mechanism == "SCRAM-SHA-256"
    with pytest.raises(CommandError) as refused:
        SaslStart.parse(body(**START, db=5), speculative=True)
    assert refused.value.code == 14


CONTINUE = {"saslContinue": 1, "conversationId": 1, "payload": b"x"}


def test_a_continuation_is_read():
    assert SaslContinue.parse(body(**CONTINUE, **GENERIC)) == SaslContinue(1, Payload(b"x"))


@pytest.mark.parametrize(
    ("fields", "code", "errmsg"),
    [
        (
            {"saslContinue": 1},
            40414,
            "BSON field 'saslContinue.conversationId' is missing but a required field",
        ),
        (
            {**CONTINUE, "conversationId": None},
            40414,
            "BSON field 'saslContinue.conversationId' is missing but a required field",
        ),
        (
            {"saslContinue": 1, "conversationId": 1},
            40414,
            "BSON field 'saslContinue.payload' is missing but a required field",
        ),
        ({**CONTINUE, "payload": 5}, 2, "Invalid SASLPayload type. Expected Base64 or BinData, got: int"),
        ({**CONTINUE, "user": "eve"}, 40415, "BSON field 'saslContinue.user' is an unknown field."),
        *(
            (
                {**CONTINUE, "conversationId": value},
                14,
                f"BSON field 'saslContinue.conversationId' is the wrong type '{kind}', expected type 'int'",
            )
            for value, kind in (("x", "string"), (1.0, "double"), (Int64(1), "long"), (True, "bool"))
        ),
    ],
)
def test_an_ill_formed_continuation_is_refused_in_mongods_words(fields, code, errmsg):
    assert _refused(SaslContinue.parse, **fields) == (code, errmsg)


def test_authenticate_is_read_and_its_user_is_optional():
    assert Authenticate.parse(body(authenticate=1, mechanism="MONGODB-X509")) == Authenticate(
        "MONGODB-X509", ""
    )
    assert Authenticate.parse(body(authenticate=1, mechanism="MONGODB-X509", user=None)).user == ""
    assert (
        Authenticate.parse(body(authenticate=1, mechanism="X", user="CN=x", db="y"), speculative=True).user
        == "CN=x"
    )


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, 40414),
        ({"mechanism": 5}, 14),
        ({"mechanism": "MONGODB-X509", "user": 5}, 14),
        ({"mechanism": "MONGODB-X509", "db": "x"}, 40415),
        ({"user": "root", "nonce": "x", "key": "y"}, 40415),
    ],
)
def test_an_ill_formed_authenticate_is_refused(fields, code):
    assert _refused(Authenticate.parse, authenticate=1, **fields)[0] == code


def test_check_fields_alone_serves_a_command_without_arguments():
    check_fields("logout", body(logout=1, **{"$db": "admin"}), {})
    with pytest.raises(CommandError, match="logout.bogus"):
        check_fields("logout", body(logout=1, bogus=1), {})


def test_the_answer_takes_the_form_of_the_question():
    assert Payload.read(body(payload=b"x")).answer(b"y") == b"y"
    asked_in_text = Payload.read(body(payload=base64.b64encode(b"x").decode()))
    assert asked_in_text == Payload(b"x", True)
    assert asked_in_text.answer(b"y") == "eQ=="
    assert asked_in_text.answer(b"") == ""


@pytest.mark.parametrize("encode", [bytes, lambda content: base64.b64encode(content).decode()])
def test_a_payload_of_the_maximum_size_is_read_and_a_longer_one_is_refused(encode):
    assert Payload.read(body(payload=encode(b"x" * MAX_PAYLOAD_BYTES)))
    for length in (MAX_PAYLOAD_BYTES + 1, 4 * MAX_PAYLOAD_BYTES):
        with pytest.raises(CommandError, match="exceeds"):
            Payload.read(body(payload=encode(b"x" * length)))


@pytest.mark.parametrize("encode", [bytes, lambda content: base64.b64encode(content).decode()])
def test_a_kerberos_ticket_may_be_longer_and_no_other_payload(encode):
    ticket = encode(b"x" * MAX_TICKET_BYTES)
    assert SaslStart.parse(body(saslStart=1, mechanism="GSSAPI", payload=ticket)).payload.content
    for mechanism in ("SCRAM-SHA-256", "PLAIN", "gssapi", ""):
        with pytest.raises(CommandError, match="exceeds 16384 bytes"):
            SaslStart.parse(body(saslStart=1, mechanism=mechanism, payload=ticket))
    with pytest.raises(CommandError, match="exceeds 65536 bytes"):
        SaslStart.parse(body(saslStart=1, mechanism="GSSAPI", payload=encode(b"x" * (MAX_TICKET_BYTES + 1))))
    with pytest.raises(CommandError, match="exceeds 16384 bytes"):
        SaslContinue.parse(body(saslContinue=1, conversationId=1, payload=ticket))


def test_no_repr_shows_a_payload():
    assert "secret" not in repr(Payload(b"secret"))
