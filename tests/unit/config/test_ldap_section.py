"""security.ldap: every key, its default, and the sentence for what is wrong with it."""

import pytest
import yaml

from mongoguard.authn.ldap.group_lookup import NestedGroups
from mongoguard.config.ldap_section import Ldap, ServerName
from mongoguard.config.secret import Secret
from mongoguard.config.settings import parse_settings
from mongoguard.errors import ConfigError

TEMPLATE = "{USER}?memberOf?base"


def read(ldap, parameters=None, environ=None):
    text = yaml.safe_dump(
        {
            "upstream": {"uri": "mongodb://s:p@localhost/?tls=true"},
            "security": {"ldap": ldap},
            "setParameter": parameters or {},
        }
    )
    return parse_settings(text, "c", environ=environ or {}, read_file=lambda path: path)


def section(ldap, **more) -> Ldap:
    found = read({"servers": "ldap.example", **ldap}, **more).security.ldap
    assert found is not None
    return found


def problem(ldap, **more) -> str:
    with pytest.raises(ConfigError) as caught:
        read(ldap, **more)
    return str(caught.value)


def test_servers_alone_are_a_whole_section():
    ldap = section({})
    assert ldap.servers == (ServerName("ldap.example"),)
    assert (ldap.transport_security, ldap.default_port) == ("tls", 636)
    assert (ldap.timeout_ms, ldap.retry_count, ldap.validate_server_config) == (10_000, 0, True)
    assert ldap.bind.query_user is None
    assert ldap.mapping.rules == ()
    assert ldap.lookup is None
    assert ldap.user_cache_staleness_secs == 90


def test_a_whole_enterprise_section_is_accepted():
    ldap = section(
        {
            "servers": "dc1.example:636, dc2.example,srv:corp.example , srv_raw:_ldap._tcp.corp.example, [::1]:3269",
            "transportSecurity": "startTLS",
            "CAFile": "/etc/ca.pem",
            "bind": {
                "method": "simple",
                "queryUser": "cn=svc",
                "queryPassword": ["new", "${OLD}"],
                "useOSDefaults": False,
            },
            "timeoutMS": 5000,
            "retryCount": 2,
            "userToDNMapping": '[{match: "x"}]'.replace("match", '"match"').replace(
                '"x"', '"(.+)", "substitution": "uid={0},ou=people"'
            ),
            "authz": {"queryTemplate": "ou=groups??sub?(member={USER})", "requireRoles": True},
            "nestedGroups": "recursive",
            "roleMapping": {"cn=dba,ou=groups": ["root", {"role": "read", "db": "shop"}]},
            "validateLDAPServerConfig": False,
            "userCacheStalenessSecs": 30,
        },
        environ={"OLD": "older"},
    )
    assert ldap.servers == (
        ServerName("dc1.example", 636),
        ServerName("dc2.example"),
        ServerName("corp.example", None, "srv"),
        ServerName("_ldap._tcp.corp.example", None, "srv_raw"),
        ServerName("::1", 3269),
    )
    assert ldap.default_port == 389
    assert ldap.bind.query_passwords == (Secret("new"), Secret("older"))
    assert ldap.strategy is NestedGroups.RECURSIVE
    assert ldap.lookup is not None
    assert ldap.authz.require_roles
    assert len(ldap.mapping.rules) == len(ldap.role_table.table) == 1


@pytest.mark.parametrize(
    ("ldap", "expected"),
    [
        ({}, "security.ldap.servers: required: a comma-separated list of host"),
        ({"servers": "a,,b"}, "security.ldap.servers: expected host, host:port, srv:NAME"),
        ({"servers": "ldaps://a"}, "write host:port without ldap:// or ldaps://"),
        ({"servers": "a:0"}, "a port is a number from 1 to 65535"),
        ({"servers": "a:99999"}, "a port is a number from 1 to 65535"),
        ({"servers": "a b"}, "security.ldap.servers: expected host"),
        ({"servers": "a,a"}, "a server is given twice"),
        ({"servers": "srv:"}, "expected a domain name after srv:"),
        ({"servers": ",".join(f"h{n}" for n in range(33))}, "expected at most 32 servers"),
        ({"servers": 3}, "expected a comma-separated list of servers"),
        ({"transportSecurity": "starttls"}, 'expected tls, startTLS or none, not "starttls"'),
        ({"transportSecurity": "none", "CAFile": "f"}, "security.ldap.CAFile is only used with"),
        ({"bind": {"method": "kerberos"}}, 'security.ldap.bind.method: expected simple or sasl, not "kerberos"'),
        ({"bind": {"method": "sasl"}}, "sasl needs queryUser and queryPassword for DIGEST-MD5, the default"),
        ({"bind": {"method": "sasl", "saslMechanisms": "GSSAPI,DIGEST-MD5"}}, "needs queryUser and queryPassword"),
        ({"bind": {"method": "sasl", "saslMechanisms": "PLAIN"}}, "expected a comma-separated list of GSSAPI and"),
        ({"bind": {"method": "sasl", "saslMechanisms": ""}}, "expected a comma-separated list of GSSAPI and"),
        ({"bind": {"method": "sasl", "saslMechanisms": ["GSSAPI"]}}, "expected a comma-separated list of GSSAPI and"),
        ({"bind": {"method": "sasl", "saslMechanisms": "GSSAPI", "queryPassword": "x"}}, "need each other"),
        ({"bind": {"method": "sasl", "saslMechanisms": "GSSAPI", "queryUser": " "}}, "that would bind as nobody"),
        ({"bind": {"method": "sasl", "queryUser": 'a"b', "queryPassword": "x"}}, 'holds no " and no \\'),
        (
            {"bind": {"method": "sasl", "saslMechanisms": "GSSAPI"}, "transportSecurity": "none"},
            "security.ldap.bind.method: sasl needs security.ldap.transportSecurity: tls or startTLS",
        ),
        ({"bind": {"useOSDefaults": True}}, "security.ldap.bind.useOSDefaults: true is not supported: it is for Windows"),
        ({"bind": {"saslMechanisms": "GSSAPI"}}, "saslMechanisms is only used with method: sasl"),
        ({"bind": {"queryUser": "cn=s"}}, "queryUser and queryPassword need each other"),
        ({"bind": {"queryPassword": "x"}}, "queryUser and queryPassword need each other"),
        ({"bind": {"queryUser": "cn=s", "queryPassword": ""}}, "bind.queryPassword: expected a password that is not"),
        ({"bind": {"queryUser": "cn=s", "queryPassword": []}}, "bind.queryPassword: expected a password that is not"),
        ({"bind": {"queryUser": "cn=s", "queryPassword": ["a", 3]}}, "bind.queryPassword: expected a password"),
        ({"bind": {"queryUser": " ", "queryPassword": "x"}}, "that would bind as nobody"),
        ({"bind": {"queryUser": "cn=s", "queryPassword": "${NO}"}}, "the environment variable NO is not set"),
        ({"timeoutMS": 0}, "security.ldap.timeoutMS: expected a number of milliseconds"),
        ({"retryCount": -1}, "security.ldap.retryCount: expected a number of repetitions"),
        ({"userToDNMapping": "["}, "security.ldap.userToDNMapping: expected a JSON array"),
        ({"userToDNMapping": [{"match": "(.+)"}]}, "security.ldap.userToDNMapping[0]: expected match and exactly one"),
        ({"authz": {"queryTemplate": "{NAME}?memberOf"}}, "security.ldap.authz.queryTemplate: '{NAME}'"),
        ({"authz": {"requireRoles": True}}, "security.ldap.authz.requireRoles needs security.ldap.authz.queryTemplate"),
        ({"nestedGroups": "recursive"}, "security.ldap.nestedGroups needs security.ldap.authz.queryTemplate"),
        ({"roleMapping": {}}, "security.ldap.roleMapping needs security.ldap.authz.queryTemplate"),
        (
            {"authz": {"queryTemplate": TEMPLATE}, "nestedGroups": "in_chain"},
            "with nestedGroups in_chain the template must find entries",
        ),
        (
            {"authz": {"queryTemplate": TEMPLATE}, "roleMapping": {"dba": ["root"]}},
            "security.ldap.roleMapping: 'dba' is not a group's DN",
        ),
        ({"userCacheStalenessSecs": 0}, "security.ldap.userCacheStalenessSecs: expected a number of seconds from 1"),
        ({"server": "x"}, "security.ldap.server: unknown key; did you mean security.ldap.servers?"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_refused_with_its_path_and_what_was_expected(ldap, expected):
    servers = {} if not ldap or "server" in ldap else {"servers": "ldap.example"}
    assert expected in problem({**servers, **ldap})


def test_the_query_password_is_never_printed():
    settings = read({"servers": "h", "bind": {"queryUser": "cn=s", "queryPassword": ["canary1", "canary2"]}})
    assert "canary" not in repr(settings) + str(settings.model_dump())
    assert "canary" not in problem(
        {"servers": "h", "bind": {"queryUser": "", "queryPassword": ["canary1", 3]}}
    )


def test_plain_needs_a_directory():
    with pytest.raises(ConfigError, match="authenticationMechanisms: PLAIN needs security.ldap"):
        parse_settings(
            "{upstream: {uri: 'mongodb://h'}, setParameter: {authenticationMechanisms: PLAIN}}",
            "c",
            environ={},
            read_file=lambda path: path,
        )
    mechanisms = read(
        {"servers": "h"}, {"authenticationMechanisms": "PLAIN"}
    ).set_parameter.authentication_mechanisms
    assert mechanisms == ("PLAIN",)
    assert "PLAIN" not in read({"servers": "h"}).set_parameter.authentication_mechanisms


TYPED_NAME = "dc=org??sub?(memberUid={PROVIDED_USER})"
BOUND_NAME = "dc=org??sub?(member={USER})"
FOUND = {"match": "(.+)", "ldapQuery": "dc=org??sub?(uid={0})"}


@pytest.mark.parametrize(
    ("mapping", "template", "warned"),
    [
        (None, TYPED_NAME, True),
        ([], TYPED_NAME, True),
        ([{"match": "(.+)", "substitution": "{0}"}], TYPED_NAME, True),
        ([FOUND, {"match": "(.+)@corp", "substitution": "{0}"}], TYPED_NAME, True),
        ([FOUND], TYPED_NAME, False),
        ([{"match": "([^,]+)", "substitution": "uid={0},dc=org"}], TYPED_NAME, False),
        ([{"match": "(.+)", "substitution": "CORP\\{0}"}], TYPED_NAME, False),
        (None, BOUND_NAME, False),
        (None, None, False),
    ],
)
def test_groups_of_a_typed_name_that_the_directory_may_take_for_another_account_are_warned_of(
    mapping, template, warned
):
    authz = {} if template is None else {"queryTemplate": template}
    found = read({"servers": "h", "userToDNMapping": mapping, "authz": authz}).warnings()
    assert [text for text in found if "{PROVIDED_USER}" in text and "userToDNMapping" in text] == list(found)
    assert bool(found) == warned


@pytest.mark.parametrize(
    ("servers", "warned"),
    [("localhost,127.0.0.1:389", False), ("ldap.example", True), ("srv:corp.example", True)],
)
def test_passwords_in_clear_to_another_host_are_warned_of(servers, warned):
    settings = read({"servers": servers, "transportSecurity": "none"})
    assert any("transportSecurity is none" in text for text in settings.warnings()) == warned
    assert not any("transportSecurity" in text for text in read({"servers": servers}).warnings())
