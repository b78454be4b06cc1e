"""setParameter.ldap...: every name of Enterprise and Percona Server is taken, and says so where it changes nothing."""

import pytest
import yaml

from mongoguard.authn.ldap.user_to_dn import UserToDnMapping
from mongoguard.config.ldap_parameters import OTHER_NAMES
from mongoguard.config.ldap_section import ServerName
from mongoguard.config.secret import Secret
from mongoguard.config.settings import parse_settings
from mongoguard.errors import ConfigError

MAPPING = '[{"match": "(.+)", "substitution": "uid={0},ou=people"}]'
SERVERS = {"servers": "h"}
STALENESS = "ldapUserCacheStalenessInterval"
REFRESH = "ldapUserCacheRefreshInterval"
INVALIDATION = "ldapUserCacheInvalidationInterval"
NO_REFRESH = {"ldapShouldRefreshUserCacheEntries": False}
POOL = "ldapConnectionPool"


def read(parameters, ldap=SERVERS, environ=None):
    document = {"upstream": {"uri": "mongodb://s:p@localhost/?tls=true"}, "setParameter": parameters}
    if ldap is not None:
        document["security"] = {"ldap": ldap}
    return parse_settings(yaml.safe_dump(document), "c", environ=environ or {}, read_file=lambda path: path)


def problem(parameters, ldap=SERVERS):
    with pytest.raises(ConfigError) as caught:
        read(parameters, ldap)
    return str(caught.value)


# ---- other names of security.ldap's keys ------------------------------------------------------------------------------


def test_every_other_name_is_taken_in_place_of_its_key():
    settings = read(
        {
            "ldapServers": "a,b:1636",
            "ldapQueryUser": "cn=svc",
            "ldapQueryPassword": ["new", "${OLD}"],
            "ldapTimeoutMS": 5000,
            "ldapRetryCount": 2,
            "ldapUserToDNMapping": MAPPING,
            "ldapUserCacheStalenessInterval": 45,
            "ldapConnectionPoolSizePerHost": 3,
        },
        ldap=None,
        environ={"OLD": "older"},
    )
    ldap = settings.security.ldap
    assert ldap is not None
    assert ldap.servers == (ServerName("a"), ServerName("b", 1636))
    assert (ldap.bind.query_user, ldap.bind.query_passwords) == ("cn=svc", (Secret("new"), Secret("older")))
    assert (ldap.timeout_ms, ldap.retry_count) == (5000, 2)
    assert ldap.mapping == UserToDnMapping.parse(MAPPING)
    assert settings.ldap_staleness_secs == 45
    assert settings.set_parameter.search_connections == 3
    assert settings.warnings() == ()


def test_what_the_section_says_besides_stays():
    ldap = read(
        {"ldapQueryPassword": "secret", "ldapTimeoutMS": 500},
        {"servers": "h", "retryCount": 3, "bind": {"queryUser": "cn=svc"}},
    ).security.ldap
    assert ldap.retry_count == 3
    assert ldap.timeout_ms == 500
    assert (ldap.bind.query_user, ldap.bind.query_passwords) == ("cn=svc", (Secret("secret"),))


ONE_VALUE = {
    "ldapServers": ("a", "b"),
    "ldapQueryUser": ("cn=one", "cn=two"),
    "ldapQueryPassword": ("canary1", "canary2"),
    "ldapTimeoutMS": (1000, 2000),
    "ldapRetryCount": (1, 2),
    "ldapUserToDNMapping": (MAPPING, "[]"),
    "ldapUserCacheStalenessInterval": (30, 45),
    "ldapConnectionPoolSizePerHost": (2, 3),
}


def both(name, value, other):
    """Parameters and a section that give the value by that name, and the other one by its key."""
    *sections, key = OTHER_NAMES[name].split(".")
    parameters, ldap = {name: value}, {"servers": "h", "bind": {"queryUser": "cn=u", "queryPassword": "p"}}
    into = {"setParameter": parameters, "security.ldap": ldap, "security.ldap.bind": ldap["bind"]}
    into[".".join(sections)][key] = other
    return parameters, ldap


def test_no_other_name_is_left_out_here():
    assert set(ONE_VALUE) == set(OTHER_NAMES)


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_both_names_with_different_values_are_refused_by_both_names(name):
    value, other = ONE_VALUE[name]
    text = problem(*both(name, value, other))
    assert f"c: setParameter.{name}: another name for {OTHER_NAMES[name]}, which has another value" in text
    assert "canary" not in text


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_both_names_with_one_value_are_one_value(name):
    value, _ = ONE_VALUE[name]
    read(*both(name, value, value))


def test_true_is_not_the_number_one():
    assert "another value" in problem({"ldapRetryCount": True}, {"servers": "h", "retryCount": 1})


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"ldapServers": "a,a"}, "c: setParameter.ldapServers: a server is given twice"),
        ({"ldapTimeoutMS": "soon"}, "c: setParameter.ldapTimeoutMS: expected a number of milliseconds"),
        ({"ldapRetryCount": -1}, "c: setParameter.ldapRetryCount: expected a number of repetitions"),
        ({"ldapUserToDNMapping": "["}, "c: setParameter.ldapUserToDNMapping: expected a JSON array"),
        ({"ldapUserToDNMapping": [{}]}, "c: setParameter.ldapUserToDNMapping: security.ldap.userToDNMapping[0]: "),
        ({"ldapQueryPassword": 3}, "c: setParameter.ldapQueryPassword: expected a password"),
        ({"ldapQueryPassword": "${NO}"}, "c: setParameter.ldapQueryPassword: the environment variable NO is not set"),
        ({"ldapQueryUser": "cn=s"}, "queryUser and queryPassword need each other"),
        ({STALENESS: 0}, f"c: setParameter.{STALENESS}: expected a number of seconds from 1 to 86400"),
        ({f"{POOL}SizePerHost": 0}, f"c: setParameter.{POOL}SizePerHost: expected a number of connections"),
        ({"ldapTimeoutMs": 1}, "unknown key; did you mean setParameter.ldapTimeoutMS?"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_under_the_name_it_was_given_by(parameters, expected):
    assert expected in problem(parameters, {} if "ldapServers" in parameters else SERVERS)


def test_other_names_make_no_directory_without_servers():
    assert "security.ldap.servers: required" in problem({"ldapTimeoutMS": 500}, ldap=None)


@pytest.mark.parametrize("security", [3, {"ldap": 3}, {"ldap": {"servers": "h", "bind": 3}}])
def test_a_section_that_is_none_is_refused_with_its_path(security):
    text = yaml.safe_dump(
        {
            "upstream": {"uri": "mongodb://h"},
            "security": security,
            "setParameter": {"ldapQueryPassword": "canary"},
        }
    )
    with pytest.raises(ConfigError, match="expected a mapping of keys") as caught:
        parse_settings(text, "c", environ={}, read_file=lambda path: path)
    assert "canary" not in str(caught.value)


def test_the_query_password_is_never_printed():
    settings = read({"ldapQueryUser": "cn=s", "ldapQueryPassword": ["canary1", "canary2"]})
    assert "canary" not in repr(settings) + str(settings.model_dump())
    assert "canary" not in problem({"ldapQueryUser": "", "ldapQueryPassword": ["canary1", 3]})


# ---- how old answers may be -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "own", "staleness", "refresh"),
    [
        ({}, None, 90, 30),
        ({}, 60, 60, 20),
        ({STALENESS: 45}, None, 45, 15),
        ({STALENESS: 1}, None, 1, 1 / 3),
        ({REFRESH: 10}, None, 90, 10),
        ({REFRESH: 90}, None, 90, 90),
        ({REFRESH: 600, STALENESS: 900}, None, 900, 600),
        ({INVALIDATION: 600}, None, 90, 30),
        (NO_REFRESH, None, 30, None),
        (NO_REFRESH, 60, 60, None),
        ({**NO_REFRESH, STALENESS: 60}, None, 60, None),
        ({**NO_REFRESH, INVALIDATION: 600}, None, 600, None),
        ({**NO_REFRESH, INVALIDATION: 60, STALENESS: 60}, 60, 60, None),
        ({**NO_REFRESH, REFRESH: 600}, None, 30, None),
    ],
)
def test_one_number_governs_how_old_an_answer_may_be(parameters, own, staleness, refresh):
    settings = read(parameters, SERVERS if own is None else {**SERVERS, "userCacheStalenessSecs": own})
    assert settings.ldap_staleness_secs == staleness
    assert settings.ldap_refresh_secs == refresh


@pytest.mark.parametrize(
    ("parameters", "own", "expected"),
    [
        ({REFRESH: 91}, None, f"setParameter.{REFRESH}: must not exceed security.ldap.userCacheStalenessSecs"),
        ({REFRESH: 61}, 60, f"setParameter.{REFRESH}: must not exceed security.ldap.userCacheStalenessSecs"),
        ({REFRESH: 46, STALENESS: 45}, None, f"must not exceed security.ldap.userCacheStalenessSecs (setParameter.{STALENESS})"),
        ({**NO_REFRESH, INVALIDATION: 30}, 60, f"setParameter.{INVALIDATION}: with ldapShouldRefreshUserCacheEntries: false another name for security.ldap.userCacheStalenessSecs"),
        ({**NO_REFRESH, INVALIDATION: 30, STALENESS: 90}, None, f"(setParameter.{STALENESS}), which is set to another value"),
        ({REFRESH: 0}, None, f"setParameter.{REFRESH}: expected a number of seconds from 1 to 86400"),
        ({INVALIDATION: 86_401}, None, f"setParameter.{INVALIDATION}: expected a number of seconds from 1 to 86400"),
        ({"ldapShouldRefreshUserCacheEntries": "no"}, None, "ldapShouldRefreshUserCacheEntries: expected true or false"),
    ],
)  # fmt: skip
def test_intervals_that_contradict_each_other_are_refused(parameters, own, expected):
    ldap = SERVERS if own is None else {**SERVERS, "userCacheStalenessSecs": own}
    text = problem(parameters, ldap)
    assert text.startswith("c: setParameter.")
    assert expected in text


def test_without_a_directory_there_is_no_number():
    settings = read({}, ldap=None)
    assert (settings.ldap_staleness_secs, settings.ldap_refresh_secs) == (0, None)


# ---- the pool ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "connections", "idle_secs"),
    [
        ({}, 4, 300),
        ({f"{POOL}MaximumConnectionsPerHost": 2, f"{POOL}IdleHostTimeoutSecs": 60}, 2, 60),
        ({"ldapUseConnectionPool": True}, 4, 300),
        ({"ldapUseConnectionPool": False}, 4, 0),
        ({"ldapUseConnectionPool": False, f"{POOL}IdleHostTimeoutSecs": 60}, 4, 0),
    ],
)
def test_the_pool_takes_enterprises_parameters(parameters, connections, idle_secs):
    settings = read(parameters)
    assert settings.set_parameter.search_connections == connections
    assert settings.set_parameter.search_idle_secs == idle_secs
    assert settings.warnings() == ()


def test_enterprises_unbounded_pool_is_taken_as_a_bounded_one_and_said_so():
    settings = read({f"{POOL}MaximumConnectionsPerHost": 2**31 - 1})
    assert settings.set_parameter.search_connections == 1000
    assert settings.warnings() == (
        f"setParameter.{POOL}MaximumConnectionsPerHost is taken as 1000: no more connections are opened",
    )


# ---- parameters without effect ----------------------------------------------------------------------------------------

NO_EFFECT = [
    (f"{POOL}MinimumConnectionsPerHost", 1, "connections are opened when a search needs them"),
    (f"{POOL}MaximumConnectionsInProgressPerHost", 2, "bounds those that are being opened, too"),
    (f"{POOL}HostRefreshIntervalMillis", 60_000, "a connection is looked at when a search takes it"),
    (f"{POOL}UseLatencyForHostPriority", True, "the order of security.ldap.servers"),
    ("ldapForceMultiThreadMode", True, "mongoguard does not use libldap"),
    ("ldapEnableOpenLDAPLogging", True, "mongoguard does not use libldap"),
    ("ldapDebug", True, "see systemLog.verbosity"),
    ("ldapUserToDNCacheTTLSeconds", 30, "names are mapped anew"),
    ("ldapUserToDNCacheSize", 10_000, "names are mapped anew"),
    (INVALIDATION, 30, "it counts with ldapShouldRefreshUserCacheEntries: false alone"),
]


@pytest.mark.parametrize(("name", "value", "why"), NO_EFFECT)
def test_a_parameter_that_changes_nothing_is_taken_with_a_warning(name, value, why):
    (warning,) = read({name: value}).warnings()
    assert warning.startswith(f"setParameter.{name} has no effect: ")
    assert why in warning


def test_an_interval_of_refreshing_has_no_effect_where_nothing_is_refreshed():
    (warning,) = read({**NO_REFRESH, REFRESH: 10}).warnings()
    assert warning.startswith(f"setParameter.{REFRESH} has no effect: nothing is refreshed")


@pytest.mark.parametrize(
    "name",
    [
        f"{POOL}UseLatencyForHostPriority",
        "ldapForceMultiThreadMode",
        "ldapEnableOpenLDAPLogging",
        "ldapDebug",
        "ldapFollowReferrals",
    ],
)
def test_what_is_switched_off_and_not_done_here_is_no_warning(name):
    assert read({name: False}).warnings() == ()
    assert f"setParameter.{name}: expected true or false" in problem({name: 1})


@pytest.mark.parametrize(
    "name",
    [f"{POOL}MinimumConnectionsPerHost", "ldapUserToDNCacheTTLSeconds", "ldapUserToDNCacheSize"],
)
def test_what_is_set_to_none_and_not_done_here_is_no_warning(name):
    assert read({name: 0}).warnings() == ()
    assert f"setParameter.{name}: expected a number from 0" in problem({name: -1})


def test_referrals_are_never_followed():
    assert "c: setParameter.ldapFollowReferrals: true is not supported: the service's password" in problem(
        {"ldapFollowReferrals": True}
    )


def test_without_a_directory_they_are_warned_of_all_the_same():
    assert read({REFRESH: 30, "ldapDebug": False}, ldap=None).warnings() == (
        f"setParameter.{REFRESH} has no effect: there is no security.ldap",
        "setParameter.ldapDebug has no effect: there is no security.ldap",
    )
