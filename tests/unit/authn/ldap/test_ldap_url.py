import pytest

from mongoguard.authn.ldap.ldap_url import LdapUrl
from mongoguard.authn.ldap.query import LdapQuery, LdapRefusal, SearchScope


def url(text):
    return LdapUrl.parse(text, ("NAME", "USER"), ("USER",))


VALUES = {"NAME": "a", "USER": "cn=u"}


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("", LdapQuery("")),
        ("dc=x", LdapQuery("dc=x", SearchScope.BASE, "(objectClass=*)", ("1.1",))),
        ("{USER}?memberOf?base", LdapQuery("cn=u", SearchScope.BASE, "(objectClass=*)", ("memberOf",))),
        ("{USER}?dn", LdapQuery("cn=u")),
        ("{USER}?DN", LdapQuery("cn=u")),
        ("dc=x??sub?(uid={NAME})", LdapQuery("dc=x", SearchScope.SUB, "(uid=a)")),
        ("dc=x??ONE?uid={NAME}", LdapQuery("dc=x", SearchScope.ONE, "(uid=a)")),
        (
            "dc=x?cn,mail,1.2.3?one?",
            LdapQuery("dc=x", SearchScope.ONE, "(objectClass=*)", ("cn", "mail", "1.2.3")),
        ),
        ("dc=x????x-tension", LdapQuery("dc=x")),
        (
            "o=University%20of%20Michigan,c=US??sub",
            LdapQuery("o=University of Michigan,c=US", SearchScope.SUB),
        ),
        ("o=a%3Fb??sub?(cn=%25%3f)", LdapQuery("o=a?b", SearchScope.SUB, "(cn=%?)")),
        ("o=Jos%C3%A9", LdapQuery("o=José")),
        ("o=%7BNAME%7D", LdapQuery("o={NAME}")),
        ("o={{x}}", LdapQuery("o={x}")),
        ("o=a%5C2C", LdapQuery(r"o=a\2C")),
    ],
)
def test_a_relative_url_of_rfc_4516_is_read(text, query):
    assert url(text).query(VALUES) == query


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ldap://host/dc=x", "scheme"),
        ("ldaps://host/dc=x", "scheme"),
        ("ldap:///dc=x", "scheme"),
        ("/dc=x", "scheme"),
        (" //host/dc=x", "scheme"),
        ("dc=x??sub?(a=b)??", "at most five parts"),
        ("dc=x??tree", "scope"),
        ("dc=x??sub ", "scope"),
        ("dc=x????!bindname=cn=a", "critical"),
        ("dc=x????x, !y", "critical"),
        ("dc=x?*", "attributes"),
        ("dc=x?+", "attributes"),
        ("dc=x?member;range=0-1", "attributes"),
        ("dc=x?a,", "attributes"),
        ("dc=x?{USER}", "attributes"),
        ("dc=%", "'%'"),
        ("dc=%4", "'%'"),
        ("dc=%zz", "'%'"),
        ("dc=%C3", "'%'"),
        ("dc=%-1", "'%'"),
        ("dc=x??sub?(cn=100%)", "'%'"),
        ("{WHO}", "no placeholder"),
        ("{NAME}", "must stand in a value"),
        ("example.org??sub", "attribute type"),
        ("dc=x??sub?(uid={NAME}", "expected ')'"),
    ],
)
def test_what_is_not_a_relative_url_is_refused(text, problem):
    with pytest.raises(ValueError) as caught:
        url(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", ["a?sub?(uid=*)", "%2Cou=admins", "a%00", "a,ou=b??one"])
def test_url_characters_of_a_name_stay_in_the_name(name):
    query = url("uid={NAME},dc=x?memberOf?base?(uid={NAME})").query({"NAME": name})
    assert query.scope is SearchScope.BASE
    assert query.attributes == ("memberOf",)
    assert query.base == "uid=" + name.replace(",", r"\,").replace("=", r"\=") + ",dc=x"
    assert query.filter == "(uid=" + name.replace("(", r"\28").replace(")", r"\29").replace("*", r"\2a") + ")"


def test_a_name_that_is_no_dn_is_refused_as_a_base():
    with pytest.raises(LdapRefusal):
        url("{USER}?memberOf").query({"USER": "alice@example.org"})


def test_the_placeholders_used_are_known():
    assert url("cn={NAME}??sub?(member={USER})").names == {"NAME", "USER"}
    assert url("??sub?(member={USER})").names == {"USER"}
