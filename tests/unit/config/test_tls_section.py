"""net.tls and the parameters about X.509: what is accepted, and the sentence for everything that is not."""

import pytest

from mongoguard.authn.x509.certificate import RolePattern
from mongoguard.authn.x509.membership import members_of_dn
from mongoguard.config.secret import Secret
from mongoguard.config.settings import parse_settings
from mongoguard.errors import ConfigError

SHA = "ab" * 32
ON = "mode: requireTLS, certificateKeyFile: server.pem, CAFile: ca.pem"


def read(tls="", more="", environ=None):
    text = f"upstream: {{uri: 'mongodb://u:p@127.0.0.1/'}}\nnet: {{tls: {{{tls}}}}}\n{more}"
    return parse_settings(text, "f", environ=environ or {}, read_file=lambda path: path)


def problems(tls="", more="", **kwargs):
    with pytest.raises(ConfigError) as caught:
        read(tls, more, **kwargs)
    return [line.removeprefix("f: ") for line in str(caught.value).splitlines()]


def test_tls_is_off_unless_asked_for():
    settings = read()
    assert not settings.net.tls.is_on
    assert settings.mechanisms == ("SCRAM-SHA-256", "SCRAM-SHA-1")


def test_every_key_is_read():
    settings = read(
        f"{ON}, certificateKeyFilePassword: 'canary-${{PW}}', CRLFile: crl.pem, "
        "allowConnectionsWithoutCertificates: true, disabledProtocols: 'TLS1_0, TLS1_2', "
        "clusterAuthX509: {attributes: 'O=Corp,OU=db'}",
        "setParameter: {opensslCipherConfig: 'HIGH', tlsX509ExpirationWarningThresholdDays: 7, "
        "tlsX509ClusterAuthDNOverride: 'OU=old', "
        f"tlsCATrusts: [{{sha256: '{SHA.upper()}', roles: [{{role: read}}, {{db: shop}}, {{}}]}}]}}",
        environ={"PW": "xyz"},
    )
    tls, parameters = settings.net.tls, settings.set_parameter
    assert (tls.is_on, tls.takes_certificates, tls.crl_file) == (True, True, "crl.pem")
    assert tls.certificate_key_file_password == Secret("canary-xyz")
    assert "canary" not in repr(settings)
    assert tls.disabled_protocols == {"TLS1_0", "TLS1_2"}
    assert tls.cluster_auth_x509.attributes == "O=Corp,OU=db"
    assert parameters.members == (members_of_dn("OU=old"),)
    assert parameters.ca_trusts == {
        bytes.fromhex(SHA): (RolePattern("read", ""), RolePattern("", "shop"), RolePattern("", ""))
    }


def test_ca_trusts_may_be_json_as_on_mongods_command_line():
    more = f"""setParameter: {{tlsCATrusts: '[{{"sha256": "{SHA}", "roles": []}}]'}}"""
    assert read(ON, more).set_parameter.ca_trusts == {bytes.fromhex(SHA): ()}
    assert read(ON, "setParameter: {tlsCATrusts: []}").set_parameter.ca_trusts == {}


def test_certificates_log_in_where_they_can_be_shown_unless_the_mechanisms_are_named():
    assert read(ON).mechanisms == ("SCRAM-SHA-256", "SCRAM-SHA-1", "MONGODB-X509")
    without = "mode: requireTLS, certificateKeyFile: s.pem, allowConnectionsWithoutCertificates: true"
    assert read(without).mechanisms == ("SCRAM-SHA-256", "SCRAM-SHA-1")
    scram = "setParameter: {authenticationMechanisms: SCRAM-SHA-256}"
    assert read(ON, scram).mechanisms == ("SCRAM-SHA-256",)
    x509 = "setParameter: {authenticationMechanisms: MONGODB-X509}"
    assert read(ON, x509).mechanisms == ("MONGODB-X509",)


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ("mode: on", "net.tls.mode: expected disabled, allowTLS, preferTLS or requireTLS"),
        ("mode: allowTLS", "net.tls.certificateKeyFile: required by net.tls.mode: allowTLS"),
        (
            "mode: requireTLS, certificateKeyFile: s.pem",
            "net.tls.CAFile: required: clients must show a certificate that one of its authorities has signed;"
            " net.tls.allowConnectionsWithoutCertificates: true lets them in without",
        ),
        (
            "CRLFile: crl.pem",
            "net.tls.CRLFile needs net.tls.CAFile: there is nothing to revoke without",
        ),
        (
            "certificateKeyFilePassword: canary",
            "net.tls.certificateKeyFilePassword needs net.tls.certificateKeyFile",
        ),
        (
            f"{ON}, certificateKeyFilePassword: 5551234",
            "net.tls.certificateKeyFilePassword: expected a text that is not empty (digits alone need quotes)",
        ),
        (
            f"{ON}, certificateKeyFilePassword: '${{NO}}'",
            "net.tls.certificateKeyFilePassword: the environment variable NO is not set",
        ),
        (f"{ON}, disabledProtocols: none", "net.tls.disabledProtocols: TLS 1.0 and 1.1 can't be enabled"),
        (f"{ON}, disabledProtocols: TLS1_4", "net.tls.disabledProtocols: expected some of TLS1_0, TLS1_1"),
        (f"{ON}, disabledProtocols: 'TLS1_2,TLS1_3'", "net.tls.disabledProtocols: TLS 1.2 and 1.3 are the"),
        (f"{ON}, allowInvalidCertificates: true", "net.tls.allowInvalidCertificates: not supported"),
        (f"{ON}, allowInvalidHostnames: true", "net.tls.allowInvalidHostnames: not supported"),
        (f"{ON}, clusterFile: x", "net.tls.clusterFile: not supported: mongoguard is no member"),
        (f"{ON}, clusterCAFile: x", "net.tls.clusterCAFile: not supported: net.tls.CAFile"),
        (f"{ON}, FIPSMode: true", "net.tls.FIPSMode: not supported"),
        (f"{ON}, certificateKeyfile: x", "net.tls.certificateKeyfile: unknown key; did you mean"),
        (
            f"{ON}, clusterAuthX509: {{attributes: 'CN=x'}}",
            "net.tls.clusterAuthX509.attributes: expected a distinguished name",
        ),
        (
            f"{ON}, clusterAuthX509: {{}}",
            "net.tls.clusterAuthX509: needs one of attributes and extensionValue",
        ),
    ],
)
def test_a_wrong_key_is_refused_with_its_path_and_what_was_expected(tls, expected):
    (problem,) = problems(tls)
    assert problem.startswith(expected)
    assert "canary" not in problem
    assert "5551234" not in problem


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("setParameter: {tlsCATrusts: '['}", "setParameter.tlsCATrusts: expected a list, or a JSON array"),
        (
            "setParameter: {tlsCATrusts: [{sha256: abc, roles: []}]}",
            "setParameter.tlsCATrusts.sha256: expected the SHA-256 of an authority's certificate",
        ),
        ("setParameter: {tlsCATrusts: [{roles: []}]}", "setParameter.tlsCATrusts.sha256: required"),
        (
            f"setParameter: {{tlsCATrusts: [{{sha256: {SHA}, roles: []}}, {{sha256: {SHA}, roles: []}}]}}",
            "setParameter.tlsCATrusts names an authority twice",
        ),
        (
            "setParameter: {tlsX509ClusterAuthDNOverride: 'nonsense'}",
            "setParameter.tlsX509ClusterAuthDNOverride: expected a distinguished name",
        ),
        (
            "setParameter: {tlsX509ExpirationWarningThresholdDays: -1}",
            "setParameter.tlsX509ExpirationWarningThresholdDays: expected a number of days",
        ),
        (
            "setParameter: {allowRolesFromX509Certificates: true}",
            "setParameter.allowRolesFromX509Certificates: not supported: roles are taken",
        ),
    ],
)
def test_a_wrong_parameter_is_refused(more, expected):
    (problem,) = problems(ON, more)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            "setParameter: {authenticationMechanisms: MONGODB-X509}",
            "setParameter.authenticationMechanisms: MONGODB-X509 needs net.tls.mode and net.tls.CAFile",
        ),
        (
            "setParameter: {tlsCATrusts: []}",
            "setParameter.tlsCATrusts: needs net.tls.mode and net.tls.CAFile",
        ),
    ],
)
@pytest.mark.parametrize(
    "tls",
    ["", "mode: requireTLS, certificateKeyFile: s.pem, allowConnectionsWithoutCertificates: true"],
    ids=["without TLS", "without authorities"],
)
def test_what_needs_certificates_is_refused_without_them(tls, more, expected):
    (problem,) = problems(tls, more)
    assert problem.endswith(expected)


def warnings(mode):
    text = f"""
upstream: {{uri: 'mongodb://u:p@127.0.0.1/'}}
net: {{bindIp: 0.0.0.0, tls: {{mode: {mode}, certificateKeyFile: s.pem, CAFile: ca.pem}}}}
"""
    return parse_settings(text, "f", environ={}, read_file=lambda path: path).warnings()


def test_clear_connections_from_elsewhere_are_warned_of_unless_tls_is_required():
    assert warnings("requireTLS") == ()
    assert "without TLS: traffic can be read" in warnings("disabled")[0]
    for mode in ("allowTLS", "preferTLS"):
        assert f"net.tls.mode {mode} lets clients in without TLS" in warnings(mode)[0]
