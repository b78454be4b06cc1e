"""setParameter.oidcIdentityProviders: what is taken, and what is refused at start."""

import json

import pytest

from mongoguard.authn.ldap import ecmascript_regex
from mongoguard.config.oidc_section import _pattern
from mongoguard.config.settings import parse_settings
from mongoguard.errors import ConfigError

BASE = {
    "upstream": {"uri": "mongodb://u:p@localhost/"},
    "net": {
        "tls": {
            "mode": "requireTLS",
            "certificateKeyFile": "/k.pem",
            "allowConnectionsWithoutCertificates": True,
        }
    },
}
RIGHT = {
    "issuer": "https://idp.example.test/realm",
    "audience": "mongodb",
    "authNamePrefix": "okta",
    "authorizationClaim": "groups",
    "clientId": "c1",
}


def settings(*providers, **sections):
    given = {
        **BASE,
        "setParameter": {
            "authenticationMechanisms": "MONGODB-OIDC",
            "oidcIdentityProviders": list(providers),
        },
        **sections,
    }
    return parse_settings(json.dumps(given), "f", environ={}, read_file=str)


def without(*keys, **more):
    return {key: value for key, value in {**RIGHT, **more}.items() if key not in keys}


def refused(*providers, **sections):
    with pytest.raises(ConfigError) as caught:
        settings(*providers, **sections)
    return str(caught.value)


@pytest.mark.parametrize("form", [list, json.dumps])
def test_a_list_or_the_json_text_that_mongod_takes_are_the_same(form):
    parameter = {"authenticationMechanisms": "MONGODB-OIDC", "oidcIdentityProviders": form([RIGHT])}
    (provider,) = settings(setParameter=parameter).set_parameter.providers
    assert (provider.issuer, provider.audience, provider.auth_name_prefix) == (
        "https://idp.example.test/realm",
        "mongodb",
        "okta",
    )
    assert (provider.principal_claim, provider.authorization_claim, provider.client_id) == (
        "sub",
        "groups",
        "c1",
    )
    assert (provider.supports_human_flows, provider.match_pattern, provider.log_claims) == (
        True,
        None,
        ("iss", "sub"),
    )


def test_a_match_pattern_is_found_anywhere_in_a_name():
    (provider,) = settings({**RIGHT, "matchPattern": "@corp$|^root"}).set_parameter.providers
    found = {name: provider.match_pattern.match_whole(name) is not None for name in NAMES}
    assert found == {"ann@corp": True, "ann@corp.test": False, "rooted": True, "uproot": False}


NAMES = ("ann@corp", "ann@corp.test", "rooted", "uproot")


@pytest.mark.parametrize(
    ("provider", "problem"),
    [
        (without("issuer"), "issuer: required"),
        (without("audience"), "audience: required"),
        (without("authNamePrefix"), "authNamePrefix: required"),
        (without("clientId"), "clientId: required unless supportsHumanFlows is false"),
        (without("authorizationClaim"), "authorizationClaim: required unless useAuthorizationClaim is false"),
        (without(useAuthorizationClaim=False), "authorizationClaim: not used"),
        (without(issuer="http://idp.example.test"), "issuer: expected an https:// address"),
        (without(issuer="http://localhost:8080"), "issuer: expected an https:// address"),
        (without(issuer="https://"), "issuer: expected an https:// address"),
        (without(issuer="https://u:p@idp.example.test"), "issuer: expected an https:// address"),
        (without(issuer="https://idp.example.test/?a=b"), "issuer: expected an https:// address"),
        (without(issuer="https://idp.example.test/#f"), "issuer: expected an https:// address"),
        (without(issuer="https://idp.example.test:99999"), "issuer: expected an https:// address"),
        (without(issuer="https://idp.example.test/\r\nHost: x"), "issuer: expected an https:// address"),
        (without(authNamePrefix="a/b"), "authNamePrefix: expected a name"),
        (without(authNamePrefix="a\n"), "authNamePrefix: expected a name"),
        (without(authNamePrefix=""), "authNamePrefix: expected a name"),
        (without(matchPattern="("), "matchPattern: expected a regular expression"),
        (without(matchPattern="a)(?:b"), "matchPattern: expected a regular expression"),
        (without(matchPattern=""), "matchPattern: expected a regular expression"),
        (without(matchPattern="(a|b){40}"), "matchPattern: expected a smaller regular expression"),
        (without(requestScopes="openid"), "requestScopes: expected a list"),
        (without(logClaims=[5]), "logClaims: expected a list"),
        (without(JWKSPollSecs=-1), "JWKSPollSecs: expected a number of seconds"),
        (without(serverCAFile=""), "serverCAFile: expected a file path"),
        (without(JWKSUri="https://x"), "JWKSUri: unknown key"),
    ],
)
def test_a_wrong_provider_is_refused_with_the_key_and_what_was_expected(provider, problem):
    assert problem in refused(provider)


PATTERN, PLAIN = without(matchPattern="a"), without(issuer="https://other.test", authNamePrefix="other")


@pytest.mark.parametrize(
    ("providers", "problem"),
    [
        ([PLAIN, PATTERN], "with a matchPattern must stand before"),
        ([PATTERN, PLAIN], "each of them needs a matchPattern"),
        ([RIGHT, without(clientId="c2", supportsHumanFlows=False)], "an issuer is given twice"),
        (
            [RIGHT, without(audience="b", supportsHumanFlows=False, JWKSPollSecs=5)],
            "JWKSPollSecs and serverCAFile must be the same",
        ),
        (
            [RIGHT, without(issuer="https://other.test", supportsHumanFlows=False)],
            "need different authNamePrefixes",
        ),
        ([], "expected a list of 1 to 64 providers"),
        ([RIGHT] * 65, "expected a list of 1 to 64 providers"),
    ],
)
def test_providers_that_do_not_fit_together_are_refused(providers, problem):
    assert problem in refused(*providers)


def test_two_audiences_of_one_issuer_may_share_a_prefix():
    settings(RIGHT, without(audience="b", supportsHumanFlows=False))


@pytest.mark.parametrize("text", ["{", "5", '[{"issuer": "a", "issuer": "b"}]', "[" * 10_000])
def test_json_that_is_no_list_of_providers_is_refused(text):
    parameter = {"authenticationMechanisms": "MONGODB-OIDC", "oidcIdentityProviders": text}
    assert "oidcIdentityProviders: expected a list" in refused(setParameter=parameter)


def test_the_mechanism_and_the_providers_need_each_other():
    assert "needed by MONGODB-OIDC" in refused(setParameter={"authenticationMechanisms": "MONGODB-OIDC"})
    assert "useless without it" in refused(setParameter={"oidcIdentityProviders": [RIGHT]})


def test_tokens_need_a_connection_that_nobody_reads():
    assert "MONGODB-OIDC needs net.tls.mode, or a Unix socket" in refused(RIGHT, net={})
    settings(RIGHT, net={"unixDomainSocket": {"enabled": True}})


@pytest.mark.parametrize("by_claim", [True, False])
def test_ldap_is_never_asked_for_the_roles_of_a_token(by_claim):
    provider = RIGHT if by_claim else without("authorizationClaim", useAuthorizationClaim=False)
    ldap = {"servers": "ldap.example.test", "authz": {"queryTemplate": "{USER}?memberOf?base"}}
    if by_claim:
        settings(provider, security={"ldap": ldap})
    else:
        assert "useAuthorizationClaim: must be true with" in refused(provider, security={"ldap": ldap})
        settings(provider, security={"ldap": {"servers": "ldap.example.test"}})


@pytest.mark.parametrize("name", ["a" * 512, "@" * 512, "@corp.example" * 39])
def test_looking_for_a_pattern_in_a_strangers_name_is_little_work(monkeypatch, name):
    """It is done before any login, on the event loop."""
    steps = 0
    step = ecmascript_regex._step

    def counted(*arguments):
        nonlocal steps
        steps += 1
        return step(*arguments)

    pattern = _pattern(r"@corp\.example$")
    monkeypatch.setattr(ecmascript_regex, "_step", counted)
    pattern.match_whole(name)
    assert steps < 6 * len(name)
