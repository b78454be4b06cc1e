import pytest

from mongoguard.authn.ldap.role_mapping import RoleMapping, read_dn_roles
from mongoguard.errors import ConfigError
from mongoguard.model.names import RoleName

NO_ROLES = read_dn_roles(())


def admin(name):
    return RoleName(name, "admin")


@pytest.mark.parametrize(
    "role", [r"CN=Ops\, EU (Admins),DC=x", r"cn=Ops\2c EU (Admins), dc=x", r"cn=ops\2C eu (admins),dc=X"]
)
@pytest.mark.parametrize("group", [r"cn=Ops\2C EU (Admins),dc=x", r"CN=Ops\, EU (Admins),DC=x"])
def test_a_role_named_as_the_groups_dn_is_found_however_either_is_spelled(group, role):
    """Pitfall: OpenLDAP and Active Directory spell one DN differently, and administrators type either."""
    outcome = RoleMapping.parse(None).resolve([group], read_dn_roles(["root", role, "cn=other,dc=x"]))
    assert outcome.roles == {admin(role)}
    assert outcome.matches == {group: {admin(role)}}


def test_one_group_in_two_spellings_of_one_server_gives_one_role():
    """Pitfall: dynlist returned a group as cn=c\\2B\\2B in memberOf, and as cn=C\\2B\\2B in a search."""
    roles = read_dn_roles([r"cn=C\+\+ team,dc=x"])
    for text in (r"cn=c\2B\2B team,dc=x", r"cn=C\2B\2B team,dc=x"):
        assert RoleMapping.parse(None).resolve([text], roles).roles == {admin(r"cn=C\+\+ team,dc=x")}


def test_two_roles_named_by_one_dn_are_both_given():
    outcome = RoleMapping.parse(None).resolve(["cn=a"], read_dn_roles(["cn=a", "CN=A"]))
    assert outcome.roles == {admin("cn=a"), admin("CN=A")}


@pytest.mark.parametrize(
    "group", ["cn=a,dc=y", "cn=b,dc=x", "dc=x", "cn=a,dc=x,dc=y", "cn=a+ou=b,dc=x", "root", "cn=a"]
)
def test_another_dn_gives_no_role(group):
    outcome = RoleMapping.parse({"cn=a,dc=x": ["root"]}).resolve(
        [group], read_dn_roles(["cn=a,dc=x", "root"])
    )
    assert outcome.roles == frozenset()


def test_a_group_that_is_called_as_a_role_but_has_no_dn_gives_nothing_and_is_reported():
    outcome = RoleMapping.parse(None).resolve(["root", "cn=a"], read_dn_roles(["root", "cn=a"]))
    assert outcome.roles == {admin("cn=a")}
    assert outcome.unparsed == ("root",)
    assert outcome.summary == "authenticated, 2 groups, 1 matched, 1 with a DN that cannot be read"


def test_the_table_gives_roles_beside_mongodbs_rule():
    table = {
        r"CN=Ops\, EU,DC=x": ["clusterMonitor", {"role": "read", "db": "shop"}],
        "cn=none,dc=x": ["root"],
    }
    outcome = RoleMapping.parse(table).resolve(
        [r"cn=ops\2C eu,dc=x", "cn=z"], read_dn_roles([r"cn=Ops\, EU,dc=x"])
    )
    assert outcome.roles == {admin("clusterMonitor"), RoleName("read", "shop"), admin(r"cn=Ops\, EU,dc=x")}
    assert (outcome.groups, len(outcome.matches)) == (2, 1)


def test_no_match_is_said_in_the_summary():
    """Pitfall: a user without a role logs in, and every command fails; the log must say why."""
    outcome = RoleMapping.parse(None).resolve(["cn=a", "cn=b"], NO_ROLES)
    assert outcome.summary == "authenticated, 2 groups, 0 matched"
    assert RoleMapping.parse({}).resolve([], NO_ROLES).roles == frozenset()


def test_a_configured_role_whose_dn_cannot_be_read_is_reported():
    """Pitfall: such a role never matches, and nobody learns why."""
    roles = read_dn_roles(["cn=Smith, John,dc=x", "root", "cn=a", "cn=x,,dc=y"])
    assert roles.unparsed == ("cn=Smith, John,dc=x", "cn=x,,dc=y")
    assert set(roles.roles.values()) == {frozenset({admin("cn=a")})}


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"root": ["root"]}, "'root' is not a group's DN"),
        ({"cn=Smith, John": ["root"]}, r"character 10"),
        ({"cn=a": ["root"], "CN = A": ["read"]}, "'CN = A' names a group that the table holds already"),
        ({"cn=a": "root"}, "'cn=a': expected a list"),
        ({"cn=a": []}, "'cn=a': expected a list"),
        ({"cn=a": [""]}, "expected the name of a role"),
        ({"cn=a": [1]}, "expected the name of a role"),
        ({"cn=a": [{"role": "read"}]}, "expected the name of a role"),
        ({"cn=a": [{"role": "read", "db": ""}]}, "expected the name of a role"),
        ({"cn=a": [{"role": "read", "db": "x", "also": 1}]}, "expected the name of a role"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_the_key(table, problem):
    with pytest.raises(ConfigError, match="security.ldap.roleMapping: ") as caught:
        RoleMapping.parse(table)
    assert problem in str(caught.value)
