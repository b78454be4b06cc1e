"""Which provider a person is sent to, and which one a token is of."""

import pytest

from mongoguard.authn.ldap.ecmascript_regex import EcmaScriptRegex
from mongoguard.authn.oidc_provider import IdentityProvider, provider_for_name, provider_of_token
from mongoguard.model.names import RoleName, UserName


def provider(name, pattern=None, **more):
    compiled = None if pattern is None else EcmaScriptRegex.parse(pattern)
    return IdentityProvider(f"https://{name}.test", name, name, match_pattern=compiled, **more)


CORP, SHOP, REST = provider("corp", ".*@corp"), provider("shop", ".*@shop|.*@corp"), provider("rest")
MACHINES = provider("machines", supports_human_flows=False)


def test_users_and_roles_carry_the_providers_prefix():
    assert CORP.user_name("a/b") == UserName("corp/a/b", "$external")
    assert CORP.role_name("dba") == RoleName("corp/dba", "admin")


@pytest.mark.parametrize(
    ("providers", "name", "found"),
    [
        ([CORP, SHOP, REST], "ann@corp", CORP),
        ([SHOP, CORP, REST], "ann@corp", SHOP),
        ([CORP, SHOP, REST], "ann@shop", SHOP),
        ([CORP, SHOP, REST], "ann", REST),
        ([CORP, SHOP, REST], None, REST),
        ([CORP, SHOP], None, None),
        ([CORP, SHOP], "ann", None),
        ([CORP], None, CORP),
        ([CORP], "ann", None),
        ([CORP, MACHINES], None, CORP),
        ([MACHINES], None, None),
        ([MACHINES], "ann", None),
        ([MACHINES, REST], "ann", REST),
    ],
)
def test_a_person_is_sent_to_the_first_provider_that_fits(providers, name, found):
    assert provider_for_name(providers, name) is found


def test_a_token_is_of_the_provider_with_its_issuer_and_one_of_its_audiences():
    other = IdentityProvider(CORP.issuer, "other", "corp")
    providers = [CORP, other, SHOP]
    assert provider_of_token(providers, CORP.issuer, ["corp", "x"]) is CORP
    assert provider_of_token(providers, CORP.issuer, ["other"]) is other
    assert provider_of_token(providers, CORP.issuer, ["corp", "other"]) is None
    assert provider_of_token(providers, CORP.issuer, ["shop"]) is None
    assert provider_of_token(providers, CORP.issuer + "/", ["corp"]) is None
    assert provider_of_token(providers, SHOP.issuer, []) is None
