import pytest

from mongoguard.authn.ldap.group_lookup import (
    MAX_DEPTH,
    TERMS_IN_A_FILTER,
    GroupLookup,
    NestedGroups,
    strategy_problem,
)
from mongoguard.authn.ldap.query import LdapQuery, LdapRefusal, SearchScope
from mongoguard.authn.ldap.query_template import MAX_GROUPS
from mongoguard.errors import ConfigError
from tests.unit.authn.ldap.driving import drive, entry

USER = "uid=alice,dc=x"
BY_MEMBER = "ou=groups??sub?(member={USER})"
SID = bytes.fromhex("010500000000000515000000010000000200000003000000f4010000")
IN_CHAIN_RULE = "1.2.840.113556.1.4.1941"


def lookup(template, strategy):
    return GroupLookup.parse(template, NestedGroups(strategy))


def groups(template, strategy, *answers, user=USER):
    return drive(lookup(template, strategy).groups(user, "alice"), *answers)


def names(*dns):
    return [entry(dn) for dn in dns]


def test_direct_is_one_search():
    query = LdapQuery("ou=groups", SearchScope.SUB, f"(member={USER})")
    assert groups(BY_MEMBER, "direct", names("cn=a")) == (("cn=a",), [query])


def test_recursive_asks_for_the_groups_of_groups_level_by_level():
    result, queries = groups(
        BY_MEMBER, "recursive", names("cn=a", "cn=b"), names("cn=everyone", "cn=a"), names("cn=top"), []
    )
    assert result == ("cn=a", "cn=b", "cn=everyone", "cn=top")
    assert [q.filter for q in queries] == [
        f"(member={USER})",
        "(|(member=cn=a)(member=cn=b))",
        "(member=cn=everyone)",
        "(member=cn=top)",
    ]
    assert {q.base for q in queries} == {"ou=groups"}
    assert {q.scope for q in queries} == {SearchScope.SUB}


def test_recursive_reads_the_attribute_of_each_group_where_the_base_depends_on_it():
    answers = (
        [entry("u", memberOf=("cn=a", "cn=b"))],
        [entry("cn=a", memberOf=("cn=c",))],
        [],
        [entry("cn=c")],
    )
    result, queries = groups("{USER}?memberOf?base", "recursive", *answers)
    assert result == ("cn=a", "cn=b", "cn=c")
    assert [q.base for q in queries] == [USER, "cn=a", "cn=b", "cn=c"]


def test_a_cycle_of_groups_ends_however_their_dns_are_spelled():
    result, queries = groups(
        BY_MEMBER, "recursive", names(r"cn=loop\2Ca"), names("cn=loop-b"), names(r"CN = Loop\,A")
    )
    assert result == (r"cn=loop\2Ca", "cn=loop-b")
    assert len(queries) == 3


def test_a_wide_level_is_asked_in_several_filters():
    wide = names(*[f"cn={i}" for i in range(TERMS_IN_A_FILTER + 1)])
    result, queries = groups(BY_MEMBER, "recursive", wide, [], [])
    assert len(result) == TERMS_IN_A_FILTER + 1
    assert [q.filter.count("member=") for q in queries] == [1, TERMS_IN_A_FILTER, 1]


def test_a_group_whose_dn_cannot_be_read_is_reported_and_not_followed():
    result, queries = groups(BY_MEMBER, "recursive", names("cn=a", "no dn", "no dn"), names("no dn"))
    assert result == ("cn=a", "no dn")
    assert [q.filter for q in queries] == [f"(member={USER})", "(member=cn=a)"]


def test_nesting_at_the_bound_is_followed_and_one_deeper_is_refused():
    levels = [names(f"cn={i}") for i in range(MAX_DEPTH + 1)]
    assert len(groups(BY_MEMBER, "recursive", *levels[:MAX_DEPTH], [])[0]) == MAX_DEPTH
    with pytest.raises(LdapRefusal, match=f"more than {MAX_DEPTH} deep"):
        groups(BY_MEMBER, "recursive", *levels)


def test_more_groups_than_the_bound_over_several_levels_are_refused():
    half = MAX_GROUPS // 2
    first = names(*[f"cn=a{i}" for i in range(half)])
    second = names(*[f"cn=b{i}" for i in range(half + 1)])
    rest = [[]] * (half // TERMS_IN_A_FILTER)
    with pytest.raises(LdapRefusal, match=f"more than {MAX_GROUPS} groups"):
        groups(BY_MEMBER, "recursive", first, second, *rest)


@pytest.mark.parametrize("strategy", ["direct", "recursive", "in_chain"])
def test_ten_thousand_groups_are_refused(strategy):
    account = [[]] if strategy == "in_chain" else []
    with pytest.raises(LdapRefusal, match=f"more than {MAX_GROUPS} groups"):
        groups(BY_MEMBER, strategy, *account, names(*[f"cn={i}" for i in range(10_000)]))


def test_in_chain_asks_the_filter_with_the_matching_rule_and_keeps_its_other_assertions():
    template = "DC=x??sub?(&(objectClass=group)(cn=mongo-*)(member={USER}))"
    result, (_, query) = groups(template, "in_chain", [], names("CN=a"), user=r"CN=a\, (b),DC=x")
    assert result == ("CN=a",)
    member = r"CN=a\5c, \28b\29,DC=x"
    assert query.filter == f"(&(objectClass=group)(cn=mongo-*)(member:{IN_CHAIN_RULE}:={member}))"


def test_in_chain_takes_the_template_of_mongodbs_manual():
    template = f"DC=x??sub?(&(objectClass=group)(member:{IN_CHAIN_RULE}:={{USER}}))"
    _, query = groups(template, "in_chain", [], [])[1]
    assert query.filter == f"(&(objectClass=group)(member:{IN_CHAIN_RULE}:={USER}))"


@pytest.mark.parametrize("control", ["514", "66050", "-2147483134"])
@pytest.mark.parametrize("strategy", ["in_chain", "token_groups"])
def test_a_disabled_account_has_no_groups(strategy, control):
    template = BY_MEMBER if strategy == "in_chain" else "DC=x??sub"
    with pytest.raises(LdapRefusal, match="the account is disabled"):
        groups(template, strategy, [entry(USER, tokenGroups=(SID,), userAccountControl=(control,))])


@pytest.mark.parametrize("control", [("512",), ("-2147483136",), ()])
def test_any_other_account_has(control):
    account = [entry(USER, userAccountControl=control)]
    result, queries = groups(BY_MEMBER, "in_chain", account, names("CN=a"))
    assert result == ("CN=a",)
    assert queries[0] == LdapQuery(USER, SearchScope.BASE, "(objectClass=*)", ("userAccountControl",))


def test_an_account_whose_state_cannot_be_read_is_refused():
    with pytest.raises(LdapRefusal, match="no number"):
        groups(BY_MEMBER, "in_chain", [entry(USER, userAccountControl=("on",))])


def test_a_name_that_is_no_dn_has_no_account_to_look_at():
    assert groups(BY_MEMBER, "in_chain", names("CN=a"), user="alice@x.org")[0] == ("CN=a",)


def test_token_groups_are_read_from_the_users_entry_with_a_base_search():
    """Pitfall: the primary group is in tokenGroups alone, and a subtree search for it is an operations error."""
    result, queries = groups(
        "DC=x??sub?(objectClass=group)",
        "token_groups",
        [entry(USER, tokenGroups=(SID,))],
        names("CN=Domain Users"),
    )
    assert result == ("CN=Domain Users",)
    assert queries[0] == LdapQuery(
        USER, SearchScope.BASE, "(objectClass=*)", ("tokenGroups", "userAccountControl")
    )
    sid = "".join(f"\\{b:02x}" for b in SID)
    assert queries[1] == LdapQuery("DC=x", SearchScope.SUB, f"(&(objectClass=group)(objectSid={sid}))")


def test_many_sids_are_looked_up_in_several_filters():
    sids = (*tuple(SID[:-1] + bytes([i]) for i in range(TERMS_IN_A_FILTER + 2)), SID[:-1] + b"\x00")
    answer = [entry(USER, tokenGroups=sids)]
    result, queries = groups("DC=x??sub", "token_groups", answer, names("CN=a", "CN=b"), names("CN=c"))
    assert result == ("CN=a", "CN=b", "CN=c")
    assert [q.filter.count("objectSid=") for q in queries] == [0, TERMS_IN_A_FILTER, 2]
    assert queries[2].filter.startswith("(&(objectClass=*)(|(objectSid=")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ([], "no tokenGroups"),
        ([entry(USER)], "no tokenGroups"),
        ([entry(USER, tokenGroups=(SID,)), entry("cn=b")], "no tokenGroups"),
        ([entry(USER, tokenGroups=(SID, SID[:-1]))], "no SID"),
        ([entry(USER, tokenGroups=("*)(cn=*",))], "no SID"),
        ([entry(USER, tokenGroups=(b"\2" + SID[1:],))], "no SID"),
        ([entry(USER, tokenGroups=(b"\1\x10" + bytes(70),))], "no SID"),
        ([entry(USER, tokenGroups=(b"",))], "no SID"),
        ([entry(USER, tokenGroups=(SID,) * (MAX_GROUPS + 1))], f"more than {MAX_GROUPS}"),
    ],
)
def test_token_groups_that_cannot_be_right_are_refused(answer, problem):
    with pytest.raises(LdapRefusal, match=problem):
        groups("DC=x??sub", "token_groups", answer)


def test_token_groups_of_a_name_that_is_no_dn_are_refused():
    with pytest.raises(LdapRefusal, match="not a DN"):
        groups("DC=x??sub", "token_groups", user="alice@example.org")


@pytest.mark.parametrize(
    ("template", "strategy", "problem"),
    [
        (
            "ou=groups??sub?(memberUid={PROVIDED_USER})",
            "recursive",
            "recursive the template must hold {USER}",
        ),
        ("ou=groups??sub?(|(member={USER})(x={PROVIDED_USER}))", "recursive", "not {PROVIDED_USER}"),
        ("ou=groups??sub?(cn=all)", "recursive", "must hold {USER}"),
        ("{USER}?memberOf?base", "in_chain", "in_chain the template must find entries"),
        ("ou=groups??sub?(memberUid={PROVIDED_USER})", "in_chain", "(member={USER})"),
        ("{USER}?tokenGroups?base", "token_groups", "without placeholders"),
        ("DC=x??sub?(member={USER})", "token_groups", "without placeholders"),
        ("DC=x?cn?sub", "token_groups", "without placeholders and attributes"),
        ("{WHO}", "direct", "no placeholder"),
    ],
)
def test_a_template_that_does_not_suit_the_strategy_is_an_error_that_says_what_does(
    template, strategy, problem
):
    with pytest.raises(ConfigError, match="security.ldap.authz.queryTemplate: ") as caught:
        lookup(template, strategy)
    assert problem in str(caught.value)


@pytest.mark.parametrize("strategy", ["in_chain", "token_groups"])
def test_a_strategy_of_active_directory_on_openldap_is_found_out_before_it_returns_no_groups(strategy):
    """Pitfall: OpenLDAP answers the IN_CHAIN rule with success and no entries."""
    openldap = [entry("", supportedControl=("1.2.840.113556.1.4.800",))]
    problem, (query,) = drive(strategy_problem(NestedGroups(strategy)), openldap)
    assert strategy in problem
    assert "use recursive" in problem
    assert query == LdapQuery("", SearchScope.BASE, "(objectClass=*)", ("supportedCapabilities",))
    active_directory = [
        entry("", supportedCapabilities=("1.2.840.113556.1.4.1670", "1.2.840.113556.1.4.800"))
    ]
    assert drive(strategy_problem(NestedGroups(strategy)), active_directory)[0] is None


@pytest.mark.parametrize("strategy", ["direct", "recursive"])
def test_the_other_strategies_work_everywhere(strategy):
    assert drive(strategy_problem(NestedGroups(strategy))) == (None, [])


@pytest.mark.parametrize("strategy", ["direct", "recursive", "token_groups"])
def test_an_error_of_the_directory_passes_through(strategy):
    template = "DC=x??sub" if strategy == "token_groups" else BY_MEMBER
    with pytest.raises(ConnectionError):
        groups(template, strategy, ConnectionError())
