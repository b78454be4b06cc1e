import pytest
from bson import Int64

from mongoguard.authn.hello_fields import speculative_attempt, supported_mechs_name
from mongoguard.errors import CommandError
from mongoguard.model.names import UserName
from tests.unit.authn.driving import body


def _refused(read, **fields):
    with pytest.raises(CommandError) as refused:
        read(body(hello=1, **fields))
    return refused.value.code, refused.value.errmsg


@pytest.mark.parametrize("fields", [{}, {"speculativeAuthenticate": None}])
def test_a_hello_without_an_attempt_has_none(fields):
    assert speculative_attempt(body(hello=1, **fields)) is None


@pytest.mark.parametrize("command", ["saslStart", "authenticate"])
def test_the_first_field_of_an_attempt_is_its_command(command):
    attempt = speculative_attempt(body(hello=1, speculativeAuthenticate={command: 1, "db": "x"}))
    assert attempt is not None
    assert attempt[0] == command
    assert attempt[1].string("db") == "x"


@pytest.mark.parametrize(
    ("value", "code", "errmsg"),
    [
        (5, 14, "BSON field 'hello.speculativeAuthenticate' is the wrong type 'int', expected type 'object'"),
        (
            [],
            14,
            "BSON field 'hello.speculativeAuthenticate' is the wrong type 'array', expected type 'object'",
        ),
        ({}, 2, "hello.speculativeAuthenticate must be a non-empty Object"),
        ({"saslContinue": 1}, 51769, "hello.speculativeAuthenticate unknown command: saslContinue"),
        (
            {"mechanism": "x", "saslStart": 1},
            51769,
            "hello.speculativeAuthenticate unknown command: mechanism",
        ),
    ],
)
def test_an_attempt_that_is_none_of_the_two_commands_fails_hello(value, code, errmsg):
    assert _refused(speculative_attempt, speculativeAuthenticate=value) == (code, errmsg)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("admin.root", ("root", "admin")),
        ("a.b.c", ("b.c", "a")),
        ("admin.", ("", "admin")),
        (".root", ("root", "")),
        ({"user": "root", "db": "admin"}, ("root", "admin")),
    ],
)
def test_the_user_asked_about_is_split_at_the_first_dot_or_given_as_a_document(value, name):
    assert supported_mechs_name(body(hello=1, saslSupportedMechs=value)) == UserName(*name)


def test_a_hello_that_asks_about_nobody_names_nobody():
    assert supported_mechs_name(body(hello=1)) is None


@pytest.mark.parametrize(
    ("value", "code", "errmsg"),
    [
        ("root", 2, "UserName must contain a '.' separated database.user pair"),
        ("", 2, "UserName must contain a '.' separated database.user pair"),
        *(
            (
                value,
                14,
                f"BSON field 'hello.saslSupportedMechs' is the wrong type '{kind}', expected types '[string, object']",
            )
            for value, kind in ((5, "int"), (Int64(5), "long"), (None, "null"), (["admin.root"], "array"))
        ),
        ({"user": "root"}, 2, "UserName must contain a field named: db"),
        ({"user": "root", "db": "admin", "x": 1}, 2, "UserName contains an unknown field named: 'x"),
        (
            {"user": 5, "db": "admin"},
            2,
            "UserName must contain a string field named: user. But, has type int",
        ),
    ],
)
def test_an_ill_formed_user_fails_hello_in_mongods_words(value, code, errmsg):
    assert _refused(supported_mechs_name, saslSupportedMechs=value) == (code, errmsg)
