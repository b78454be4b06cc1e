import pytest

from mongoguard.authn.ldap.distinguished_name import DnSyntaxError
from mongoguard.authn.ldap.dn_template import DnTemplate, MisplacedPlaceholder
from mongoguard.authn.ldap.query import LdapRefusal
from mongoguard.authn.ldap.template_text import read_template

NAMES = ("USER", "NAME")


def template(text):
    return DnTemplate.parse(read_template(text, NAMES), ("USER",))


@pytest.mark.parametrize(
    ("text", "name", "dn"),
    [
        ("uid={NAME},ou=people", "alice", "uid=alice,ou=people"),
        ("uid={NAME},ou=people", "a,ou=admins", r"uid=a\,ou\=admins,ou=people"),
        ("uid={NAME},ou=people", " #a\0", r"uid=\ #a\00,ou=people"),
        ("cn=x{NAME}y", "+uid=root", r"cn=x\+uid\=rooty"),
        ("cn={NAME}+uid={NAME}", "a;b", r"cn=a\;b+uid=a\;b"),
        (r"cn=a\,{NAME},dc=x", "ou=b", r"cn=a\,ou\=b,dc=x"),
        (r"cn=a\\\,{NAME},dc=x", "ou=b", r"cn=a\\\,ou\=b,dc=x"),
        (r"cn=\2C{NAME}", "x", r"cn=\2Cx"),
    ],
)
def test_a_value_fills_its_place_and_no_more(text, name, dn):
    assert template(text).render({"NAME": name, "USER": "cn=u"}) == dn
    assert template(text).names == {"NAME"}


@pytest.mark.parametrize(
    ("text", "dn"),
    [
        ("{USER}", r"cn=a\, b,dc=y"),
        ("ou=groups,{USER}", r"ou=groups,cn=a\, b,dc=y"),
        ("ou=groups , {USER} ; dc=x", r"ou=groups , cn=a\, b,dc=y ; dc=x"),
        (r"cn=a\\,{USER}", r"cn=a\\,cn=a\, b,dc=y"),
        (r"cn=a\,{USER}", r"cn=a\,cn\=a\\\, b\,dc\=y"),
        ("cn={USER}", r"cn=cn\=a\\\, b\,dc\=y"),
    ],
)
def test_a_dn_stands_for_rdns_where_it_fills_everything_between_separators(text, dn):
    assert template(text).render({"USER": r"cn=a\, b,dc=y"}) == dn


@pytest.mark.parametrize(
    "user", ["alice", "alice@example.org", "CORP\\alice", "cn=a,", "cn=a\\", "", "cn=a,ou"]
)
def test_what_is_no_dn_cannot_stand_for_rdns(user):
    with pytest.raises(LdapRefusal, match="not a DN"):
        template("ou=groups,{USER}").render({"USER": user})


@pytest.mark.parametrize(
    "text", ["{NAME}=x", "c{NAME}=x", "{NAME}", "ou=x,{NAME}", "{NAME},dc=x", "ou=x , {NAME} , dc=y"]
)
def test_a_placeholder_that_could_change_more_than_a_value_is_refused(text):
    with pytest.raises(MisplacedPlaceholder, match="must stand in"):
        template(text)


@pytest.mark.parametrize(
    "text",
    [r"cn=\{NAME}", r"cn=\2{NAME}", "cn=#{NAME}", "cn=#0c01{NAME}", "{NAME}{NAME}", "x{NAME}", "cn=x,"],
)
def test_what_is_no_dn_with_any_value_is_no_template(text):
    with pytest.raises(DnSyntaxError):
        template(text)


@pytest.mark.parametrize("name", ["", "\ud800"])
def test_a_name_without_an_escaped_form_is_refused(name):
    with pytest.raises(LdapRefusal, match="cannot stand in a DN"):
        template("uid={NAME}").render({"NAME": name})


def test_a_name_that_makes_a_dn_too_long_is_refused():
    with pytest.raises(LdapRefusal, match="at most 8192"):
        template("uid={NAME}").render({"NAME": "," * 5000})


def test_a_raw_template_takes_what_makes_a_dn_and_refuses_the_rest():
    raw = DnTemplate(read_template("{NAME},dc=x", NAMES), is_raw=True)
    assert raw.render({"NAME": "cn=a,ou=b"}) == "cn=a,ou=b,dc=x"
    with pytest.raises(LdapRefusal, match="valid DN"):
        raw.render({"NAME": "a"})
