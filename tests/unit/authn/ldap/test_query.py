import pytest

from mongoguard.authn.ldap.query import LdapEntry, LdapQuery, LdapRefusal, SearchScope


def test_a_query_asks_for_one_entry_without_attributes_unless_told_otherwise():
    assert LdapQuery("dc=x") == LdapQuery("dc=x", SearchScope.BASE, "(objectClass=*)", ("1.1",))


def test_the_names_of_attributes_have_no_case():
    entry = LdapEntry("cn=a", {"memberOf": ("cn=g", b"cn=h"), "cn": ("a",)})
    assert entry.texts("MEMBEROF") == ("cn=g", "cn=h")
    assert entry.texts("absent") == ()


def test_a_value_that_is_not_text_is_refused_as_text():
    entry = LdapEntry("cn=a", {"memberOf": ("cn=g", b"\xff")})
    with pytest.raises(LdapRefusal, match="memberOf"):
        entry.texts("memberOf")


def test_octets_that_happen_to_be_text_are_octets():
    entry = LdapEntry("cn=a", {"tokenGroups": ("\x01\x05", b"\x01\xff")})
    assert entry.octets("tokengroups") == (b"\x01\x05", b"\x01\xff")
