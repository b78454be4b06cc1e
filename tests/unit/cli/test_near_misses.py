"""Near misses: roles that somebody may have meant."""

import pytest

from mongoguard.authn.ldap.distinguished_name import DistinguishedName
from mongoguard.cli.near_misses import MAX_GROUPS, MAX_SENTENCES, NearMisses

GROUP = "cn=dba,ou=groups,dc=example,dc=org"


def misses(*roles, mapped=(), group=GROUP):
    return NearMisses.among(roles, [DistinguishedName.parse(text) for text in mapped]).of(group)


@pytest.mark.parametrize(
    ("role", "part"),
    [
        ("cn=dba,ou=teams,dc=example,dc=org", "ou=teams there, ou=groups in the group's DN"),
        ("cn=dbas,ou=groups,dc=example,dc=org", "cn=dbas there, cn=dba in the group's DN"),
        ("ou=dba,ou=groups,dc=example,dc=org", "ou=dba there, cn=dba in the group's DN"),
        ("cn=dba,ou=groups,dc=example", "3 parts there, 4 in the group's DN"),
        ("cn=dba,,dc=org", "is not a DN: "),
        ("dba", "a role is named as the whole DN"),
        ("DBA", "a role is named as the whole DN"),
    ],
)
def test_a_role_that_is_nearly_the_group_is_told_with_the_difference(role, part):
    (sentence,) = misses(role)
    assert sentence.startswith(f"the role {role} on admin")
    assert part in sentence


@pytest.mark.parametrize("role", ["cn=ops,ou=groups,dc=example,dc=org", "read", "cn=", "="])
def test_another_role_is_none(role):
    assert misses(role) == ()


def test_the_group_itself_is_no_near_miss():
    assert misses("CN=DBA, OU=Groups, DC=Example, DC=org") == ()


def test_keys_of_the_role_mapping_count():
    assert misses(mapped=["cn=dba,ou=teams,dc=example,dc=org"]) == (
        "security.ldap.roleMapping has cn=dba,ou=teams,dc=example,dc=org: ou=teams there, ou=groups in the group's DN",
    )


def test_a_group_that_can_not_be_read_says_so():
    (sentence,) = misses("dba", group="cn=dba,,dc=org")
    assert sentence.startswith("the group's DN cannot be read")


def test_sentences_and_groups_are_bounded():
    near = NearMisses.among([f"cn=dba,ou={n},dc=org" for n in range(10)], [])
    assert len(near.of(GROUP)) == MAX_SENTENCES
    for _ in range(MAX_GROUPS):
        near.of(GROUP)
    assert near.of(GROUP) == ()
