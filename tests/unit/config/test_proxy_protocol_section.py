from ipaddress import ip_address

import pytest

from mongoguard.config.settings import parse_settings
from mongoguard.errors import ConfigError

UPSTREAM = "upstream: {uri: 'mongodb://u:p@localhost/'}\n"


def settings(text):
    return parse_settings(UPSTREAM + text, "f", environ={}, read_file=str)


def trust(sources):
    return settings(f"net: {{proxyProtocol: {{trustedSources: {sources}}}}}").net.proxy_protocol


@pytest.mark.parametrize(
    ("sources", "source", "trusted"),
    [
        ("[]", "127.0.0.1", False),
        ("['10.0.0.0/8']", "10.9.8.7", True),
        ("['10.0.0.0/8']", "11.0.0.1", False),
        ("['10.0.0.0/8']", "::ffff:10.9.8.7", True),
        ("['192.0.2.7']", "192.0.2.7", True),
        ("['192.0.2.7']", "192.0.2.8", False),
        ("'192.0.2.7, 192.0.2.8'", "192.0.2.8", True),
        ("['2001:db8::/32']", "2001:db8::1", True),
        ("['2001:db8::/32']", "2001:db9::1", False),
        ("['2001:db8::/32']", "32.1.13.184", False),
        ("['0.0.0.0/0']", "::1", False),
        ("[unix]", None, True),
        ("[unix]", "127.0.0.1", False),
        ("['0.0.0.0/0', '::/0']", None, False),
    ],
)
def test_a_source_is_trusted_by_its_network_or_as_a_unix_socket(sources, source, trusted):
    assert trust(sources).trusts(None if source is None else ip_address(source)) is trusted


@pytest.mark.parametrize(
    "sources",
    ["['10.0.0.1/8']", "['10.0.0.0/33']", "[localhost]", "['']", "[5]", "{a: b}", "['/tmp/x.sock']", "7"],
)
def test_anything_else_is_refused_with_what_was_expected(sources):
    with pytest.raises(
        ConfigError, match=r"net.proxyProtocol.trustedSources: expected a list of IP networks"
    ):
        trust(sources)


@pytest.mark.parametrize(
    ("sources", "warned"), [("['0.0.0.0/0']", True), ("['::/0']", True), ("['10.0.0.0/8']", False)]
)
def test_trusting_everybody_is_warned_about(sources, warned):
    found = settings(f"net: {{proxyProtocol: {{trustedSources: {sources}}}}}").warnings()
    assert any("trustedSources names every address" in text for text in found) is warned


def test_login_limits_have_defaults_and_are_read():
    limits = settings("").security.login_limits.limits
    assert (limits.per_user_and_address, limits.per_address, limits.per_user) == (50, 500, 1000)
    assert (limits.window_secs, limits.block_secs) == (600, 600)
    text = (
        "security: {loginLimits: {maxFailuresPerUserAndAddress: 0, maxFailuresPerAddress: 1, maxFailuresPerUser: 2,"
        " windowSecs: 3, blockSecs: 4}}"
    )
    limits = settings(text).security.login_limits.limits
    assert (limits.per_user_and_address, limits.per_address, limits.per_user) == (0, 1, 2)
    assert (limits.window_secs, limits.block_secs) == (3, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("maxFailuresPerUser: -1", "expected a number of failed logins from 0 (no limit) to 1000000, not -1"),
        ("maxFailuresPerAddress: 1.5", "expected a number of failed logins"),
        ("blockSecs: 0", "expected a number of seconds from 1 to 86400, not 0"),
        ("windowSecs: 86401", "expected a number of seconds from 1 to 86400, not 86401"),
        ("maxFailures: 3", "unknown key; did you mean security.loginLimits.maxFailuresPer"),
    ],
)
def test_login_limits_out_of_range_are_refused(text, message):
    with pytest.raises(ConfigError) as error:
        settings(f"security: {{loginLimits: {{{text}}}}}")
    assert message in str(error.value)
