"""Laws of LDAP names: whatever a name holds, it stays a value; and what is equal is one entry."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongoguard.authn.ldap.attribute_values import escape_rdn_value
from mongoguard.authn.ldap.distinguished_name import DistinguishedName, DnSyntaxError
from mongoguard.authn.ldap.ecmascript_regex import EcmaScriptRegex
from mongoguard.authn.ldap.filter_text import escape_filter_value, read_filter, unescape_filter_value
from mongoguard.authn.ldap.group_lookup import GroupLookup, NestedGroups
from mongoguard.authn.ldap.query import LdapRefusal
from mongoguard.authn.ldap.query_template import QueryTemplate
from mongoguard.authn.ldap.spellings import spellings
from mongoguard.authn.ldap.user_to_dn import UserToDnMapping
from tests.unit.authn.ldap.driving import drive, entry

HOSTILE = st.text(' ,+"\\<>;=#*()&|!?%{}\0\n2Cab0', min_size=1, max_size=12)
TEXTS = HOSTILE | st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
NAMES = TEXTS.filter(lambda name: name.strip() and "\0" not in name)
TYPES = st.sampled_from(["cn", "OU", "2.5.4.3", "dc", "uid", "x-own"])


@st.composite
def dns(draw):
    rdns = st.lists(
        st.tuples(TYPES, TEXTS),
        min_size=1,
        max_size=2,
        unique_by=lambda pair: pair[0].replace("2.5.4.3", "cn"),
    )
    parts = draw(st.lists(rdns, min_size=1, max_size=3))
    return ",".join("+".join(f"{name}={escape_rdn_value(text)}" for name, text in rdn) for rdn in parts)


@given(TEXTS)
def test_an_escaped_value_parses_to_itself(text):
    parsed = DistinguishedName.parse(f"cn={escape_rdn_value(text)}")
    assert [[(a.type, a.value) for a in rdn] for rdn in parsed.rdns] == [[("cn", text)]]


@given(TEXTS, TEXTS)
def test_no_value_changes_the_dn_around_it(text, other):
    parsed = DistinguishedName.parse(f"uid={escape_rdn_value(text)}+cn=x{escape_rdn_value(other)}y,ou=people")
    assert [[a.type for a in rdn] for rdn in parsed.rdns] == [["uid", "cn"], ["ou"]]
    assert [a.value for a in parsed.rdns[0]] == [text, f"x{other}y"]
    assert parsed.rdns[1][0].value == "people"


@given(TEXTS)
def test_no_value_changes_the_filter_around_it(text):
    escaped = escape_filter_value(text)
    items = read_filter(f"(&(objectClass=group)(!(uid={escaped}))(cn=a*{escaped}*))")
    assert [item.value for item in items] == ["group", escaped, f"a*{escaped}*"]
    assert "*" not in escaped
    assert unescape_filter_value(escaped) == text


@given(dns())
def test_a_dn_is_read_the_same_from_its_own_text_and_from_each_spelling(text):
    dn = DistinguishedName.parse(text)
    assert str(dn) == text
    assert DistinguishedName.parse(str(dn)) == dn
    for spelling in spellings(dn):
        assert DistinguishedName.parse(spelling) == dn


@given(st.text('cnou=,+;#\\"2C0a \0é', max_size=20) | TEXTS)
def test_any_text_is_a_dn_or_an_error_that_names_a_place_in_it(text):
    try:
        dn = DistinguishedName.parse(text)
    except DnSyntaxError as error:
        assert 1 <= error.position <= len(text) + 1
    else:
        assert DistinguishedName.parse(str(dn)) == dn
        assert hash(DistinguishedName.parse(str(dn))) == hash(dn)


@given(st.lists(dns() | st.sampled_from(["cn=a", "CN=A", "2.5.4.3= a", "cn=b"]), min_size=3, max_size=3))
def test_equality_is_an_equivalence(texts):
    a, b, c = (DistinguishedName.parse(text) for text in texts)
    assert a == replace(a)
    assert (a == b) == (b == a)
    assert a != b or hash(a) == hash(b)
    assert not (a == b and b == c) or a == c


@given(dns())
def test_separators_cases_and_spaces_do_not_matter(text):
    dn = DistinguishedName.parse(text)
    typed = " ; ".join(
        " + ".join(f"{a.type.upper()} = {escape_rdn_value(a.value)}" for a in rdn[::-1]) for rdn in dn.rdns
    )
    assert DistinguishedName.parse(typed) == dn


@given(NAMES)
def test_a_mapped_name_is_one_value_of_the_substitution(name):
    rules = UserToDnMapping.parse([{"match": "([\\x00-\U0010ffff]+)", "substitution": "uid={0},ou=people"}])
    dn, _ = drive(rules.bind_name(name))
    assert [a.value for rdn in DistinguishedName.parse(dn).rdns for a in rdn] == [name, "people"]


@given(NAMES, dns())
def test_no_name_changes_the_shape_of_the_group_search(name, user):
    template = QueryTemplate.parse(
        "cn={PROVIDED_USER},dc=x??sub?(&(member={USER})(x=cn={PROVIDED_USER},dc=x)(y={PROVIDED_USER}*))"
    )
    _, (query,) = drive(template.groups(user, name), [])
    assert [a.value for rdn in DistinguishedName.parse(query.base).rdns for a in rdn] == [name, "x"]
    member, dn, text = (unescape_filter_value(item.value) for item in read_filter(query.filter))
    assert member == user
    assert [a.value for rdn in DistinguishedName.parse(dn).rdns for a in rdn] == [name, "x"]
    assert text == name + "*"


@given(TEXTS)
def test_a_user_that_is_no_dn_is_never_a_base(name):
    flow = QueryTemplate.parse("{USER}?memberOf").groups(name, name)
    try:
        DistinguishedName.parse(name)
    except DnSyntaxError:
        with pytest.raises(LdapRefusal):
            drive(flow, [])
    else:
        assert drive(flow, [])[1][0].base == name


@given(st.dictionaries(st.integers(0, 7), st.frozensets(st.integers(0, 7)), max_size=8))
def test_recursion_finds_what_can_be_reached_and_nothing_else(graph):
    lookup = GroupLookup.parse("dc=x??sub?(member={USER})", NestedGroups.RECURSIVE)
    flow = lookup.groups("cn=0", "zero")
    found = None
    try:
        query = next(flow)
        while True:
            asked = [int(n) for n in re.findall(r"member=cn ?= ?(\d)", query.filter.lower())]
            query = flow.send([entry(f"CN = {n}") for a in asked for n in graph.get(a, ())])
    except StopIteration as stop:
        found = stop.value
    reached, frontier = set(), {0}
    while frontier:
        frontier = {n for f in frontier for n in graph.get(f, ())} - reached
        reached |= frontier
    assert set(found) == {f"CN = {n}" for n in reached}


ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", "(?:)"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?", "+?", "??"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        ),
    ),
    max_leaves=6,
)


@given(PATTERNS, st.text("abc", max_size=6))
def test_a_pattern_matches_the_names_that_pythons_engine_matches(pattern, text):
    try:
        regex = EcmaScriptRegex.parse(pattern)
    except ValueError as error:
        assert "must not match the empty text" in str(error)
        return
    matched = regex.match_whole(text)
    assert (matched is not None) == (re.fullmatch(pattern, text) is not None)
