"""Groups whose names look alike: what mongoguard takes for one group is one entry in real directories, too."""

import ldap3
import pytest

from mongoguard.authn.ldap.attribute_values import comparable_value
from mongoguard.authn.ldap.distinguished_name import DistinguishedName
from mongoguard.authn.ldap.role_mapping import RoleMapping, read_dn_roles
from tests.ldap_servers import done

LOOKALIKES = {
    "access-admins": "acceß-admins",
    "\u03b4\u03c3": "\u03b4\u03c2",
    "\u03b1\u03b9": "\u1fb3",
    "tmtm": "tm™",
    "\u13a0a": "\uab70a",
    "ßz": "ẞz",
}
"""Both of each pair may be there at once, in OpenLDAP and in Samba's Active Directory but for the Greek ones."""

CAPITALS = [chr(code) for code in range(0x80, 0x530) if comparable_value(chr(code)) != chr(code)]


@pytest.fixture
def made(slapd):
    """Makes groups, which are gone after the test."""
    names = []

    def make(name):
        slapd.add_group(name, [slapd.dn_of("alice")])
        names.append(name)
        return slapd.group_dn(name)

    yield make
    with slapd.administrator() as connection:
        for name in names:
            done(connection.delete(slapd.group_dn(name)))


def roles_of(group_dns, names):
    return RoleMapping.parse(None).resolve(group_dns, read_dn_roles(names)).roles


@pytest.mark.parametrize("name", LOOKALIKES)
def test_who_may_make_a_group_makes_none_with_another_groups_roles(made, name):
    mapped, lookalike = made(name), made(LOOKALIKES[name])
    assert len(roles_of([mapped], [mapped])) == 1
    assert roles_of([lookalike], [mapped]) == frozenset()


def test_letters_whose_case_does_not_count_are_one_in_the_directory(slapd, made):
    assert len(CAPITALS) > 150
    for start in range(0, len(CAPITALS), 40):
        name = "q" + "".join(CAPITALS[start : start + 40])
        dn, small = made(name), slapd.group_dn(comparable_value(name))
        with slapd.administrator() as connection:
            assert done(connection.search(small, "(objectClass=*)", ldap3.BASE, attributes=["1.1"]))
        assert DistinguishedName.parse(dn) == DistinguishedName.parse(small)
