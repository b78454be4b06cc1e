"""security.sasl: what may be written there, and when."""

import pytest
import yaml

from mongoguard.config.sasl_section import Sasl
from mongoguard.config.settings import parse_settings
from mongoguard.errors import ConfigError


def settings(sasl=None, *, mechanisms="SCRAM-SHA-256,GSSAPI", **more):
    values = {
        "upstream": {"uri": "mongodb://guard:pw@localhost/"},
        "setParameter": {"authenticationMechanisms": mechanisms},
        "security": {} if sasl is None else {"sasl": sasl},
        **more,
    }
    return parse_settings(yaml.safe_dump(values), "mongoguard.yaml", environ={}, read_file=lambda _: "")


def problem(*arguments, **more):
    with pytest.raises(ConfigError) as caught:
        settings(*arguments, **more)
    return str(caught.value)


def test_gssapi_needs_no_section():
    found = settings()
    assert "GSSAPI" in found.mechanisms
    assert found.security.sasl is None
    assert Sasl() == Sasl.model_validate({"serviceName": "mongodb"})


def test_gssapi_is_not_served_unasked():
    values = {"upstream": {"uri": "mongodb://guard:pw@localhost/"}}
    found = parse_settings(yaml.safe_dump(values), "mongoguard.yaml", environ={}, read_file=lambda _: "")
    assert "GSSAPI" not in found.mechanisms


def test_the_keys_of_mongod_and_a_keytab_are_taken():
    sasl = settings({"hostName": "guard.example.test", "serviceName": "mongo", "keytab": "/k"}).security.sasl
    assert (sasl.host_name, sasl.service_name, sasl.keytab) == ("guard.example.test", "mongo", "/k")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("serviceName", "mongodb/other", "letters, digits"),
        ("serviceName", "mongodb@other", "letters, digits"),
        ("serviceName", "", "letters, digits"),
        ("serviceName", "mongodb\n", "letters, digits"),
        ("hostName", "", "fully qualified name"),
        ("hostName", "guard/admin", "fully qualified name"),
        ("hostName", "guard@OTHER.REALM", "fully qualified name"),
        ("hostName", "-guard", "fully qualified name"),
        ("keytab", "", "expected a file path"),
        ("keytab", 7, "the path of a keytab"),
        ("saslauthdSocketPath", "/run/mux", "write security.ldap"),
        ("realm", "EXAMPLE.TEST", "unknown key"),
    ],
)
def test_anything_else_is_refused_by_its_key(key, value, expected):
    text = problem({key: value})
    assert f"security.sasl.{key}: " in text
    assert expected in text


@pytest.mark.parametrize("parameter", ["saslHostName", "saslServiceName", "saslauthdPath"])
def test_the_parameters_of_mongod_are_refused_with_the_key_to_write(parameter):
    values = {"authenticationMechanisms": "GSSAPI", parameter: "x"}
    assert f"setParameter.{parameter}: not supported" in problem(setParameter=values)


def test_a_section_that_would_do_nothing_is_refused():
    assert "security.sasl: only used with GSSAPI" in problem({"keytab": "/k"}, mechanisms="SCRAM-SHA-256")


def test_a_listener_without_tls_is_warned_of_unless_it_is_loopback():
    def warned(**net):
        return any("GSSAPI protects the login alone" in text for text in settings(net=net).warnings())

    tls = {"certificateKeyFile": "/c", "allowConnectionsWithoutCertificates": True}
    assert warned(bindIp="10.0.0.1")
    assert warned(bindIp="10.0.0.1", tls={**tls, "mode": "preferTLS"})
    assert not warned(bindIp="127.0.0.1")
    assert not warned(bindIp="10.0.0.1", tls={**tls, "mode": "requireTLS"})
