import pytest

from mongoguard.authn.ldap.distinguished_name import DistinguishedName
from mongoguard.authn.ldap.spellings import spellings


def test_a_group_is_spelled_as_given_as_openldap_and_as_active_directory_do():
    assert spellings(DistinguishedName.parse(r"Cn=Ops\2c EU (Admins) , dc=x")) == (
        r"Cn=Ops\2c EU (Admins) , dc=x",
        r"Cn=Ops\2C EU (Admins),dc=x",
        r"cn=Ops\2C EU (Admins),dc=x",
        r"CN=Ops\2C EU (Admins),DC=x",
        r"Cn=Ops\, EU (Admins),dc=x",
        r"cn=Ops\, EU (Admins),dc=x",
        r"CN=Ops\, EU (Admins),DC=x",
    )


@pytest.mark.parametrize(
    ("typed", "openldap"),
    [
        (r"cn=Carter\, Carl", r"cn=Carter\2C Carl"),
        (r"cn=C\+\+ Eve", r"cn=C\2B\2B Eve"),
        (r"cn=Frank \"The Tank\" Fox", r"cn=Frank \22The Tank\22 Fox"),
        (r"cn=\#Ivan\; \<ops\>\=1", r"cn=\23Ivan\3B \3Cops\3E\3D1"),
        (r"cn=Judy\\Star*", r"cn=Judy\5CStar*"),
        ("cn=Dave Dunn+uid=dave", "cn=Dave Dunn+uid=dave"),
        ("cn=José", "cn=José"),
        (r"cn=\ a\ ", r"cn=\20a\20"),
        (r"cn=\ ", r"cn=\20"),
    ],
)
def test_the_spelling_of_slapd_2_5_is_among_them(typed, openldap):
    assert openldap in spellings(DistinguishedName.parse(typed))


@pytest.mark.parametrize(
    ("typed", "samba"),
    [
        (r"cn=Carter\2C Carl", r"CN=Carter\, Carl"),
        (r"cn=\#Ivan\; \<ops\>\=1", r"CN=\#Ivan\3B \<ops\>\3D1"),
        (r"cn=Frank \22The Tank\22 Fox", r"CN=Frank \"The Tank\" Fox"),
        (r"cn=Judy\5CStar*", r"CN=Judy\\Star*"),
    ],
)
def test_the_spelling_of_samba_4_17_is_among_them(typed, samba):
    assert samba in spellings(DistinguishedName.parse(typed))


def test_a_simple_name_has_few_spellings_and_each_once():
    assert spellings(DistinguishedName.parse("cn=a")) == ("cn=a", "CN=a")


def test_octets_are_spelled_in_hex():
    assert spellings(DistinguishedName.parse("1.2.3=#04024869")) == ("1.2.3=#04024869",)
