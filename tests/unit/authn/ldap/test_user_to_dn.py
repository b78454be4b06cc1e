import json

import pytest

from mongoguard.authn.ldap.query import LdapQuery, LdapRefusal, SearchScope
from mongoguard.authn.ldap.user_to_dn import MAX_NAME_LENGTH, MAX_RULES, UserToDnMapping
from mongoguard.errors import ConfigError
from tests.unit.authn.ldap.driving import drive, entry

DOCUMENTED = """[
    {"match": "(.+)@ENGINEERING.EXAMPLE.COM", "substitution": "cn={0},ou=engineering,dc=example,dc=com"},
    {"match": "(.+)@DBA.EXAMPLE.COM", "ldapQuery": "ou=dba,dc=example,dc=com??one?(user={0})"}
]"""  # the example of MongoDB's manual


def mapping(**element):
    return UserToDnMapping.parse([{"match": "(.+)", **element}])


def mapped(rules, name):
    return drive(rules.bind_name(name))[0]


@pytest.mark.parametrize("option", [None, "", "  ", "[]", [], ()])
def test_without_elements_the_name_is_bound_as_it_is(option):
    assert drive(UserToDnMapping.parse(option).bind_name("uid=alice,dc=x")) == ("uid=alice,dc=x", [])


def test_a_substitution_makes_the_dn():
    name = "alice@ENGINEERING.EXAMPLE.COM"
    assert mapped(UserToDnMapping.parse(DOCUMENTED), name) == "cn=alice,ou=engineering,dc=example,dc=com"


def test_a_query_that_finds_one_entry_makes_the_dn():
    flow = UserToDnMapping.parse(DOCUMENTED).bind_name("bob@DBA.EXAMPLE.COM")
    query = LdapQuery("ou=dba,dc=example,dc=com", SearchScope.ONE, "(user=bob)")
    assert drive(flow, [entry("cn=Bob,ou=dba")]) == ("cn=Bob,ou=dba", [query])


@pytest.mark.parametrize("answer", [[], [entry("cn=a"), entry("cn=b")]], ids=["none", "two"])
def test_a_query_that_finds_not_exactly_one_entry_is_no_match_and_the_walk_goes_on(answer):
    elements = [{"match": "(.+)", "ldapQuery": f"ou={n}??sub?(uid={{0}})"} for n in "ab"]
    result, queries = drive(UserToDnMapping.parse(elements).bind_name("x"), answer, [entry("cn=found")])
    assert result == "cn=found"
    assert [query.base for query in queries] == ["ou=a", "ou=b"]
    with pytest.raises(LdapRefusal, match="no element"):
        drive(UserToDnMapping.parse(elements).bind_name("x"), answer, answer)


def test_an_error_inside_a_query_ends_the_login_and_does_not_fall_through():
    elements = [
        {"match": "(.+)", "ldapQuery": "ou=a??sub?(uid={0})"},
        {"match": "(.+)", "substitution": "cn={0}"},
    ]
    with pytest.raises(ConnectionError):
        drive(UserToDnMapping.parse(elements).bind_name("x"), ConnectionError())


def test_the_first_element_that_matches_decides():
    elements = [
        {"match": "(a.*)", "substitution": "cn={0},ou=1"},
        {"match": "(.*)", "substitution": "cn={0},ou=2"},
        {"match": "(b.*)", "substitution": "cn={0},ou=3"},
    ]
    rules = UserToDnMapping.parse(elements)
    assert mapped(rules, "alice") == "cn=alice,ou=1"
    assert mapped(rules, "bob") == "cn=bob,ou=2"


def test_a_match_must_be_of_the_whole_name():
    rules = UserToDnMapping.parse([{"match": "(alice)", "substitution": "cn={0}"}])
    for name in ("alice2", "malice", "alice\n", "Alice"):
        with pytest.raises(LdapRefusal, match="no element"):
            mapped(rules, name)


def test_the_first_group_is_number_zero():
    rules = UserToDnMapping.parse([{"match": "(.+)@(.+)", "substitution": "cn={0},ou={1}"}])
    assert mapped(rules, "alice@eng") == "cn=alice,ou=eng"


@pytest.mark.parametrize("target", ["substitution", "ldapQuery"])
def test_a_placeholder_without_its_group_is_refused_at_the_start(target):
    with pytest.raises(ConfigError, match=rf"userToDNMapping\[0\]: {target}: '\{{1\}}' at character"):
        mapping(**{target: "cn={1},dc=x"})


@pytest.mark.parametrize(
    ("name", "dn"),
    [
        ("a,ou=admins", r"cn=a\,ou\=admins,ou=x"),
        ("a+uid=root", r"cn=a\+uid\=root,ou=x"),
        ("a;ou=admins", r"cn=a\;ou\=admins,ou=x"),
        ("a\\", r"cn=a\\,ou=x"),
        ("#0c0161", r"cn=\#0c0161,ou=x"),
        (' a"<>', r"cn=\ a\"\<\>,ou=x"),
    ],
)
def test_no_name_moves_the_dn_of_a_substitution(name, dn):
    assert mapped(mapping(substitution="cn={0},ou=x"), name) == dn


def test_no_name_changes_a_query():
    flow = mapping(ldapQuery="ou={0},dc=x??sub?(&(uid={0})(member=cn={0},dc=x))").bind_name("a,b)(uid=*")
    (query,) = drive(flow, [entry("cn=a")])[1]
    assert query.base == r"ou=a\,b)(uid\=*,dc=x"
    assert query.filter == r"(&(uid=a,b\29\28uid=\2a)(member=cn=a\5c,b\29\28uid\5c=\2a,dc=x))"


def test_an_element_for_names_that_are_dns_takes_them_as_they_are():
    rules = mapping(substitution="{0}", escape="none")
    assert mapped(rules, "cn=a,ou=b") == "cn=a,ou=b"
    assert mapped(mapping(substitution="{0},dc=x", escape="none"), "cn=a,ou=b") == "cn=a,ou=b,dc=x"
    with pytest.raises(LdapRefusal, match="valid DN"):
        mapped(mapping(substitution="{0},dc=x", escape="none"), "cn=a,ou")


def test_even_there_filters_are_escaped():
    flow = mapping(ldapQuery="{0}??base?(distinguishedName={0})", escape="none").bind_name(r"cn=a\, (*)")
    (query,) = drive(flow, [entry("cn=a")])[1]
    assert query == LdapQuery(r"cn=a\, (*)", SearchScope.BASE, r"(distinguishedName=cn=a\5c, \28\2a\29)")


def test_the_escaping_may_be_named():
    assert mapped(mapping(substitution="cn={0}", escape="rdnValue"), "a,b") == r"cn=a\,b"


@pytest.mark.parametrize("template", ["{0}@example.org", "CORP\\{0}", "{0}"])
def test_a_substitution_that_is_no_dn_makes_other_bind_names_but_never_a_dn(template):
    rules = mapping(substitution=template)
    assert mapped(rules, "alice") == template.replace("{0}", "alice")
    for name in ("cn=alice,dc=x", "a,b", "a+b", "MG\\alice"):
        with pytest.raises(LdapRefusal, match="character of DNs"):
            mapped(rules, name)


@pytest.mark.parametrize(
    "target", [{"substitution": "cn={1}"}, {"substitution": "{1}@x"}, {"ldapQuery": "??sub?(uid={1}*)"}]
)
def test_a_group_that_matched_nothing_fails_where_it_is_used(target):
    rules = UserToDnMapping.parse([{"match": "(a)(b)?", **target}])
    with pytest.raises(LdapRefusal, match="empty"):
        mapped(rules, "a")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        ("a\0", "NUL"),
        ("\0", "NUL"),
        ("a" * (MAX_NAME_LENGTH + 1), "longer"),
        ("a" * 10_240, "longer"),
    ],
)
@pytest.mark.parametrize("option", [None, [{"match": "([\\s\\x00-\\xff]*)", "substitution": "x{0}"}]])
def test_names_that_are_empty_or_hold_a_nul_or_are_too_long_are_refused(option, name, problem):
    with pytest.raises(LdapRefusal, match=problem):
        mapped(UserToDnMapping.parse(option), name)


def test_the_longest_name_is_mapped():
    assert mapped(UserToDnMapping.parse(None), "a" * MAX_NAME_LENGTH) == "a" * MAX_NAME_LENGTH


def test_a_mapping_that_yields_an_empty_name_is_no_anonymous_bind():
    """Pitfall: an empty bind name silently becomes an anonymous bind, which succeeds with any password."""
    with pytest.raises(LdapRefusal, match="userToDNMapping makes is empty"):
        mapped(UserToDnMapping.parse([{"match": "x( *)", "substitution": "{0}", "escape": "none"}]), "x ")
    with pytest.raises(LdapRefusal, match="cannot be read"):
        drive(mapping(ldapQuery="??sub?(uid={0})").bind_name("x"), [entry("")])


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("[", "userToDNMapping: expected a JSON array"),
        ("[" * 100_000, "userToDNMapping: expected a JSON array"),
        ("{}", "userToDNMapping: expected an array"),
        ('"x"', "userToDNMapping: expected an array"),
        ('[{"match": "a", "match": "b", "substitution": "cn=x"}]', "key twice"),
        ([{"match": "a", "substitution": "cn=x"}] * (MAX_RULES + 1), f"at most {MAX_RULES}"),
        (["x"], r"userToDNMapping\[0\]: expected an object"),
        ([{"match": 1, "substitution": "cn=x"}], "expected an object of texts"),
        ([{"match": "a"}], "exactly one of"),
        ([{"substitution": "cn=x"}], "exactly one of"),
        ([{"match": "a", "substitution": "cn=x", "ldapQuery": "dc=x"}], "exactly one of"),
        ([{"match": "a", "substitution": "cn=x", "extra": ""}], "'extra' is no key"),
        ([{"match": "a", "substitution": "cn=x", "escape": "all"}], "escape is rdnValue or none"),
        ([{"match": "(a", "substitution": "cn=x"}], r"\[0\]: match: a group is not closed"),
        ([{"match": "a", "substitution": ""}], r"\[0\]: substitution: an empty name"),
        ([{"match": "a", "substitution": "cn=x,"}], r"\[0\]: substitution: "),
        ([{"match": "(a)", "substitution": "{0}=x"}], r"\[0\]: substitution: \{0\} must stand in"),
        ([{"match": "(a)", "substitution": "{0},dc=x"}], r"\[0\]: substitution: \{0\} is not a DN"),
        ([{"match": "a", "ldapQuery": "ldap://evil/dc=x"}], r"\[0\]: ldapQuery: leave out the scheme"),
        ([{"match": "(a)", "ldapQuery": "{0}"}], r"\[0\]: ldapQuery: \{0\} is not a DN"),
        ([{"match": "(a)", "ldapQuery": "dc=x??sub?({0}=x)"}], r"\[0\]: ldapQuery: \{0\} must stand in"),
        ([{"match": "a", "substitution": "cn=x"}, {}], r"userToDNMapping\[1\]"),
    ],
)
def test_a_wrong_option_is_an_error_that_names_the_place(option, problem):
    with pytest.raises(ConfigError, match=problem):
        UserToDnMapping.parse(option)


def test_a_list_means_what_its_json_text_means():
    assert UserToDnMapping.parse(json.loads(DOCUMENTED)) == UserToDnMapping.parse(DOCUMENTED)


@pytest.mark.parametrize("name", ["canary", "canary@x", "c,anary\0"])
def test_a_refusal_does_not_quote_the_name(name):
    with pytest.raises(LdapRefusal) as caught:
        mapped(UserToDnMapping.parse([{"match": "([^a]+)", "substitution": "cn={0}"}]), name)
    assert "anary" not in str(caught.value)
