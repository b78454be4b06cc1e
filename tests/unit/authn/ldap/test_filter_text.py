import pytest

from mongoguard.authn.ldap.filter_text import (
    escape_filter_octets,
    escape_filter_value,
    read_filter,
    unescape_filter_value,
)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        (
            "Parens R Us (for all your parenthetical needs)",
            r"Parens R Us \28for all your parenthetical needs\29",
        ),
        ("*", r"\2a"),
        (r"C:\MyFile", r"C:\5cMyFile"),
        ("\0\0\0\x04", r"\00\00\00\04"),
        ("Lučić", "Lučić"),
        ("a\r\n\x7f", r"a\0d\0a\7f"),
        ("&|!=<>~", "&|!=<>~"),
    ],
)
def test_the_values_of_rfc_4515_section_4_are_escaped(text, escaped):
    assert escape_filter_value(text) == escaped
    assert unescape_filter_value(escaped) == text


def test_octets_are_escaped_one_by_one():
    assert escape_filter_octets(b"\x01\x05a\xff") == r"\01\05\61\ff"


def test_a_lone_surrogate_is_no_value():
    with pytest.raises(ValueError, match="surrogates"):
        escape_filter_value("\ud800")


def test_escapes_that_are_not_utf8_are_no_text():
    with pytest.raises(ValueError, match="utf-8"):
        unescape_filter_value(r"\c3")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(cn=Babs Jensen)", ["Babs Jensen"]),
        ("(!(cn=Tim Howes))", ["Tim Howes"]),
        ("(&(objectClass=Person)(|(sn=Jensen)(cn=Babs J*)))", ["Person", "Jensen", "Babs J*"]),
        ("(o=univ*of*mich*)", ["univ*of*mich*"]),
        ("(seeAlso=)", [""]),
        ("(cn:caseExactMatch:=Fred Flintstone)", ["Fred Flintstone"]),
        ("(cn:=Betty Rubble)", ["Betty Rubble"]),
        ("(sn:dn:2.4.6.8.10:=Barney Rubble)", ["Barney Rubble"]),
        ("(o:dn:=Ace Industry)", ["Ace Industry"]),
        ("(:1.2.3:=Wilma Flintstone)", ["Wilma Flintstone"]),
        ("(:DN:2.4.6.8.10:=Dino)", ["Dino"]),
        ("(cn;lang-de>=b)", ["b"]),
        ("(cn~=b)", ["b"]),
        ("(1.2.840.48018.1.2.2=x)", ["x"]),
        (r"(o=Parens \28x\29)", [r"Parens \28x\29"]),
        ("(member=cn=a,dc=b)", ["cn=a,dc=b"]),
    ],
)
def test_the_filters_of_rfc_4515_section_4_are_read(text, found):
    items = read_filter(text)
    assert [item.value for item in items] == found
    assert [text[item.start :][: len(item.value)] for item in items] == found


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 1),
        ("cn=a", 1),
        ("()", 2),
        ("(cn)", 2),
        ("(=a)", 2),
        ("(c n=a)", 2),
        ("(cn=a", 6),
        ("(cn=a))", 7),
        ("(cn=a)(cn=b)", 7),
        ("(cn=a(b)", 6),
        ("(cn=a\\b)", 6),
        ("(cn=a\\2)", 6),
        ("(cn=a\0)", 6),
        ("(&)", 3),
        ("(|)", 3),
        ("(!)", 3),
        ("(!(a=b)(c=d))", 8),
        ("(& (a=b))", 3),
        ("(&(a=b) (c=d))", 8),
    ],
)
def test_what_is_no_filter_is_an_error_that_names_the_place(text, position):
    with pytest.raises(ValueError, match=rf"\(at character {position} of the filter\)"):
        read_filter(text)


def test_nesting_has_a_bound():
    assert read_filter("(!" * 19 + "(a=b)" + ")" * 19)
    with pytest.raises(ValueError, match="more than 20 deep"):
        read_filter("(!" * 20 + "(a=b)" + ")" * 20)
