import pytest

from mongoguard.authn.ldap.attribute_values import escape_rdn_value


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("alice", "alice"),
        ("Sue, Grabbit and Runn", r"Sue\, Grabbit and Runn"),
        ('James "Jim" Smith, III', r"James \"Jim\" Smith\, III"),
        ("a+b;c<d>e=f\\g", r"a\+b\;c\<d\>e\=f\\g"),
        ("#1", r"\#1"),
        ("a#1", "a#1"),
        ("  a  b  ", r"\  a  b \ "),
        (" ", r"\ "),
        ("a\0b\r\n\x7f", r"a\00b\0D\0A\7F"),
        ("Lučić 山田", "Lučić 山田"),
        ("*()", "*()"),
    ],
)
def test_a_value_is_escaped_as_rfc_4514_section_2_4_says(text, escaped):
    assert escape_rdn_value(text) == escaped


def test_an_empty_value_has_no_escaped_form():
    with pytest.raises(ValueError, match="empty"):
        escape_rdn_value("")


def test_a_lone_surrogate_has_no_escaped_form():
    with pytest.raises(ValueError, match="surrogates"):
        escape_rdn_value("a\udc00")
