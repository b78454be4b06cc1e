import pytest

from mongoguard.authn.ldap.filter_template import IN_CHAIN, FilterTemplate
from mongoguard.authn.ldap.query import LdapRefusal
from mongoguard.authn.ldap.template_text import read_template

NAMES = ("USER", "NAME")


def template(text):
    return FilterTemplate.parse(read_template(text, NAMES), ("USER",))


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("(uid={NAME})", "alice", "(uid=alice)"),
        ("uid={NAME}", "alice", "(uid=alice)"),
        ("(uid={NAME})", "*", r"(uid=\2a)"),
        ("(&(uid={NAME})(active=TRUE))", "x)(|(uid=*", r"(&(uid=x\29\28|\28uid=\2a)(active=TRUE))"),
        ("(uid={NAME})", "a\\2a\0", r"(uid=a\5c2a\00)"),
        ("(|(uid={NAME})(mail={NAME}@x)(cn=a*{NAME}*))", "b*", r"(|(uid=b\2a)(mail=b\2a@x)(cn=a*b\2a*))"),
        ("(userPrincipalName={NAME}@example.org)", "a=b", "(userPrincipalName=a=b@example.org)"),
        ("(description=1 = a, {NAME})", "x,y", "(description=1 = a, x,y)"),
        (r"(cn=\c3{NAME})", "x", r"(cn=\c3x)"),
        (r"(cn=\c3=1{NAME})", "x", r"(cn=\c3=1x)"),
        ("(cn=no placeholder)", "x", "(cn=no placeholder)"),
    ],
)
def test_a_value_matches_only_itself(text, name, found):
    assert template(text).render({"NAME": name}) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(member=uid={NAME},ou=people)", r"(member=uid=a\5c,ou\5c=admins\5c\5c\28,ou=people)"),
        (r"(member=cn=x\5c, \28y\29 {NAME})", r"(member=cn=x\5c, \28y\29 a\5c,ou\5c=admins\5c\5c\28)"),
        ("(member={NAME})", r"(member=a,ou=admins\5c\28)"),
    ],
)
def test_a_name_inside_a_dn_inside_a_filter_is_escaped_for_both(text, found):
    assert template(text).render({"NAME": "a,ou=admins\\("}) == found


def test_a_dn_may_end_a_dn_inside_a_filter():
    assert (
        template("(seeAlso=cn=x,{USER})").render({"USER": r"cn=a\, (b)"})
        == r"(seeAlso=cn=x,cn=a\5c, \28b\29)"
    )


@pytest.mark.parametrize(
    "text", ["(seeAlso=cn=x,{NAME})", "(description=a=b, {NAME})", "(seeAlso={NAME}=x,dc=y)"]
)
def test_a_name_that_could_end_a_dn_inside_a_filter_is_refused(text):
    with pytest.raises(ValueError, match="must stand in"):
        template(text)


@pytest.mark.parametrize(
    "text", ["({NAME}=x)", "(u{NAME}=x)", "(cn:{NAME}:=x)", "({NAME})", "(&{NAME})", "(cn=a{NAME"]
)
def test_a_placeholder_outside_a_value_is_refused(text):
    with pytest.raises(ValueError):
        template(text)


def test_the_error_for_a_placeholder_in_an_attribute_names_it():
    with pytest.raises(ValueError, match=r"\{NAME\} must stand in the value"):
        template("({NAME}=x)")


def test_a_placeholder_cannot_complete_an_escape():
    with pytest.raises(ValueError, match="expected '\\)'"):
        template(r"(cn=\2{NAME})")


def test_an_empty_value_is_refused_for_it_would_make_a_presence_filter():
    with pytest.raises(LdapRefusal, match="empty"):
        template("(uid={NAME}*)").render({"NAME": ""})


def test_a_lone_surrogate_is_refused():
    with pytest.raises(LdapRefusal, match="surrogate"):
        template("(uid={NAME})").render({"NAME": "\ud800"})


def test_the_placeholders_used_are_known():
    assert template("(|(a={NAME})(member=cn={USER},dc=x))").names == {"NAME", "USER"}
    assert template("(a=b)").names == frozenset()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(member={USER})", f"(member:{IN_CHAIN}:={{}})"),
        ("(&(objectClass=group)(member={USER}))", f"(&(objectClass=group)(member:{IN_CHAIN}:={{}}))"),
        ("(|(member={USER})(owner={USER}))", f"(|(member:{IN_CHAIN}:={{}})(owner:{IN_CHAIN}:={{}}))"),
        (f"(member:{IN_CHAIN}:={{USER}})", f"(member:{IN_CHAIN}:={{}})"),
    ],
)
def test_an_assertion_of_the_user_is_followed_in_chains(text, found):
    assert template(text).in_chain("USER").render({"USER": "cn=u"}) == found.replace("{}", "cn=u")


@pytest.mark.parametrize(
    "text", ["(a=b)", "(member={NAME})", "(cn={USER}*)", "(cn=*{USER})", "(cn>={USER})", "(m;x-y={USER})"]
)
def test_a_filter_without_such_an_assertion_cannot_be_followed(text):
    with pytest.raises(ValueError, match=r"\(member=\{USER\}\)"):
        template(text).in_chain("USER")
