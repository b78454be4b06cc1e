import pytest

from mongoguard.authn.ldap.query import LdapQuery, LdapRefusal, SearchScope
from mongoguard.authn.ldap.query_template import MAX_GROUPS, QueryTemplate
from mongoguard.errors import ConfigError
from tests.unit.authn.ldap.driving import drive, entry

MEMBER_OF = QueryTemplate.parse("{USER}?memberOf?base")
MEMBER = QueryTemplate.parse("ou=groups??sub?(&(objectClass=groupOfNames)(member={USER}))")


def groups(template, *answers, user="uid=alice,dc=x", provided="alice"):
    return drive(template.groups(user, provided), *answers)


def test_the_values_of_a_named_attribute_are_the_groups():
    answer = [entry("uid=alice,dc=x", memberof=("cn=a", b"cn=b", "cn=a"))]
    query = LdapQuery("uid=alice,dc=x", SearchScope.BASE, "(objectClass=*)", ("memberOf",))
    assert groups(MEMBER_OF, answer) == (("cn=a", "cn=b"), [query])


def test_without_an_attribute_the_entries_are_the_groups():
    query = LdapQuery("ou=groups", SearchScope.SUB, "(&(objectClass=groupOfNames)(member=uid=alice,dc=x))")
    assert groups(MEMBER, [entry("cn=a"), entry("cn=b")]) == (("cn=a", "cn=b"), [query])


@pytest.mark.parametrize("attribute", ["dn", "DN", ""])
def test_the_attribute_dn_means_the_entries(attribute):
    template = QueryTemplate.parse(f"ou=groups?{attribute}?sub?(member={{USER}})")
    assert template.attribute is None
    assert groups(template, [entry("cn=a", dn=("cn=b",))])[0] == ("cn=a",)


def test_no_entry_and_no_value_mean_no_group():
    assert groups(MEMBER, [])[0] == ()
    assert groups(MEMBER_OF, [entry("uid=alice,dc=x")])[0] == ()


def test_the_name_before_the_mapping_may_be_used():
    template = QueryTemplate.parse(
        "ou=groups??sub?(|(memberUid={PROVIDED_USER})(member=cn={PROVIDED_USER},dc=x))"
    )
    (query,) = groups(template, [], provided="a,(*)")[1]
    assert query.filter == r"(|(memberUid=a,\28\2a\29)(member=cn=a\5c,\28\2a\29,dc=x))"


def test_doubled_braces_are_braces():
    template = QueryTemplate.parse("ou={{x}}??sub?(cn={{{USER}}})")
    (query,) = groups(template, [])[1]
    assert (query.base, query.filter) == ("ou={x}", "(cn={uid=alice,dc=x})")


@pytest.mark.parametrize("user", [r"cn=a\, (b)*,dc=x", "cn=a?sub?(objectClass=%2a),dc=x"])
def test_no_dn_of_a_user_changes_the_search(user):
    (query,) = groups(MEMBER, [], user=user)[1]
    escaped = user.replace("\\", r"\5c").replace("*", r"\2a").replace("(", r"\28").replace(")", r"\29")
    assert query == LdapQuery(
        "ou=groups", SearchScope.SUB, f"(&(objectClass=groupOfNames)(member={escaped}))", ("1.1",)
    )
    (query,) = groups(MEMBER_OF, [], user=user)[1]
    assert query == LdapQuery(user, SearchScope.BASE, "(objectClass=*)", ("memberOf",))


@pytest.mark.parametrize("user", ["alice", "alice@example.org", "cn=a,", ""])
def test_a_mapped_name_that_is_no_dn_is_refused_as_a_base(user):
    with pytest.raises(LdapRefusal, match="not a DN"):
        groups(MEMBER_OF, user=user)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{PROVIDED_USER}?memberOf", "must stand in a value"),
        ("{user}?memberOf", "no placeholder"),
        ("{0}?memberOf", "no placeholder"),
        ("{USER}?memberOf,cn", "at most one attribute"),
        ("{USER}?*", "attributes"),
        ("ldap://host/{USER}?memberOf", "scheme"),
    ],
)
def test_a_wrong_template_is_an_error_that_names_the_key(text, problem):
    with pytest.raises(ConfigError, match="security.ldap.authz.queryTemplate: ") as caught:
        QueryTemplate.parse(text)
    assert problem in str(caught.value)


def test_more_groups_than_the_bound_are_refused():
    assert len(groups(MEMBER, [entry(f"cn={i}") for i in range(MAX_GROUPS)])[0]) == MAX_GROUPS
    with pytest.raises(LdapRefusal, match=f"more than {MAX_GROUPS}"):
        groups(MEMBER, [entry(f"cn={i}") for i in range(10_000)])
    with pytest.raises(LdapRefusal, match=f"more than {MAX_GROUPS}"):
        groups(MEMBER_OF, [entry("cn=u", memberOf=tuple(f"cn={i}" for i in range(10_000)))])


def test_a_group_that_is_not_text_is_refused():
    with pytest.raises(LdapRefusal, match="not text"):
        groups(MEMBER_OF, [entry("cn=u", memberOf=(b"\xff",))])


def _part(name, *values):
    return [entry("cn=U,dc=x", **{name: values})]


def test_values_that_come_in_ranges_are_fetched_to_the_end():
    """Active Directory returns 1,500 values at once, under the name of the range."""
    result, queries = groups(
        MEMBER_OF,
        [entry("cn=U,dc=x", memberOf=(), **{"MemberOf;Range=0-1": ("cn=a", "cn=b")})],
        _part("memberOf;range=2-3", "cn=c", "cn=d"),
        _part("memberOf;range=4-*", "cn=e"),
    )
    assert result == ("cn=a", "cn=b", "cn=c", "cn=d", "cn=e")
    assert [q.attributes for q in queries[1:]] == [("memberOf;range=2-*",), ("memberOf;range=4-*",)]
    assert {q.base for q in queries[1:]} == {"cn=U,dc=x"}


@pytest.mark.parametrize("name", [f"memberOf;range={'9' * 5000}-*", f"memberOf;range=0-{'9' * 5000}"])
def test_a_range_of_more_digits_than_numbers_have_is_no_range(name):
    assert groups(MEMBER_OF, _part(name, "cn=a"))[0] == ()


def test_one_range_may_be_all():
    assert groups(MEMBER_OF, _part("memberOf;range=0-*", "cn=a"))[0] == ("cn=a",)


@pytest.mark.parametrize(
    "second",
    [
        [],
        [entry("cn=U"), entry("cn=V")],
        [entry("cn=U")],
        _part("memberOf", "cn=c"),
        _part("memberOfX;range=1-*", "cn=c"),
        _part("member;range=1-*", "cn=c"),
        _part("memberOf;range=0-0", "cn=a"),
        _part("memberOf;range=3-*", "cn=c"),
        _part("memberOf;range=1-1"),
        _part("memberOf;range=1-5000", *[f"cn={i}" for i in range(5000)]),
    ],
)
def test_a_first_part_never_passes_for_the_whole(second):
    with pytest.raises(LdapRefusal, match="memberOf"):
        groups(MEMBER_OF, _part("memberOf;range=0-0", "cn=a"), second)
