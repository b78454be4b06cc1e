"""What a bind's result means: yes, no with a reason, or no answer."""

import pytest

from mongoguard.server.ldap.bind_answer import BindAnswer

AD = "80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data {}, v4563"


def test_only_success_is_accepted():
    assert BindAnswer.read(0, "success", "").accepted
    for code in range(1, 124):
        assert not BindAnswer.read(code, "x", "").accepted


@pytest.mark.parametrize(
    ("sub_code", "words"),
    [
        ("525", "there is no such user"),
        ("52e", "wrong password, or no such user"),
        ("530", "not permitted at this time"),
        ("531", "not permitted from this host"),
        ("532", "the password has expired"),
        ("533", "the account is disabled"),
        ("701", "the account has expired"),
        ("773", "the password must be changed first"),
        ("775", "the account is locked"),
        ("52E", "wrong password"),
        ("abc", "a reason without a name"),
    ],
)
def test_active_directorys_sub_codes_are_said_in_words(sub_code, words):
    answer = BindAnswer.read(49, "invalidCredentials", AD.format(sub_code))
    assert answer.refused
    assert not answer.accepted
    assert words in answer.reason
    assert sub_code.lower() in answer.reason


@pytest.mark.parametrize("code", [19, 32, 34, 48, 49, 53])
def test_what_is_about_the_name_is_a_refusal(code):
    answer = BindAnswer.read(code, "x", "whatever the server writes")
    assert answer.refused
    assert str(code) in answer.reason
    assert "whatever" not in answer.reason


@pytest.mark.parametrize("code", [1, 2, 3, 7, 8, 10, 11, 13, 14, 50, 51, 52, 80])
def test_everything_else_is_no_answer(code):
    answer = BindAnswer.read(code, "name", "")
    assert not answer.refused
    assert answer.reason.startswith(f"the directory answers {code} name")


def test_a_sub_code_counts_with_invalid_credentials_alone():
    assert BindAnswer.read(0, "success", AD.format("52e")).accepted
    assert BindAnswer.read(8, "strongerAuthRequired", AD.format("52e")).sub_code == ""
