"""What a running process takes over from a configuration that has changed, and what waits for a restart."""

import pytest
from pydantic import BaseModel

from mongoguard.config.reloadable import RELOADABLE, reload_settings
from mongoguard.config.settings import Settings, parse_settings

BASE = """
upstream: {uri: "mongodb://u:p@127.0.0.1/"}
net: {port: 27018}
security: {userDirectory: file, userFile: users.yaml}
"""


def read(text):
    return parse_settings(text, "m.yaml", environ={}, read_file=lambda path: path)


USED = read(BASE)


def with_(section, text):
    return read(
        BASE.replace(f"{section}: {{", f"{section}: {{{text}, ")
        if f"{section}:" in BASE
        else BASE + f"{section}: {{{text}}}\n"
    )


def test_an_equal_file_changes_nothing():
    reload = reload_settings(USED, read(BASE))
    assert (reload.changed, reload.needs_restart) == ((), ())
    assert reload.settings == USED


@pytest.mark.parametrize(
    ("section", "text", "path"),
    [
        ("net", "maxIncomingConnections: 7", "net.maxIncomingConnections"),
        ("net", "handshakeTimeoutSecs: 7", "net.handshakeTimeoutSecs"),
        ("net", "messageTimeoutSecs: 7", "net.messageTimeoutSecs"),
        ("net", "maxUnauthenticatedMessageBytes: 20000", "net.maxUnauthenticatedMessageBytes"),
        ("net", "compression: {compressors: disabled}", "net.compression"),
        ("net", 'proxyProtocol: {trustedSources: ["10.0.0.0/8"]}', "net.proxyProtocol"),
        ("security", "explainDenials: true", "security.explainDenials"),
        ("security", "loginLimits: {windowSecs: 7}", "security.loginLimits"),
        ("setParameter", "auditAuthorizationSuccess: true", "setParameter.auditAuthorizationSuccess"),
        (
            "setParameter",
            "tlsX509ExpirationWarningThresholdDays: 7",
            "setParameter.tlsX509ExpirationWarningThresholdDays",
        ),
        ("systemLog", "verbosity: 2", "systemLog.verbosity"),
        ("upstream", "waitQueueTimeoutMS: 7", "upstream.waitQueueTimeoutMS"),
        ("upstream", "minPoolSize: 7", "upstream.minPoolSize"),
    ],
)
def test_a_reloadable_key_is_taken_over(section, text, path):
    wanted = with_(section, text)
    reload = reload_settings(USED, wanted)
    assert (reload.changed, reload.needs_restart) == ((path,), ())
    assert reload.settings == wanted


@pytest.mark.parametrize(
    ("section", "text", "path"),
    [
        ("net", "bindIp: 127.0.0.9", "net.bindIp"),
        ("net", "presentAs: mongos", "net.presentAs"),
        ("upstream", "maxPoolSize: 7", "upstream.maxPoolSize"),
        ("net", "maxConnectionsPerUser: 5", "net.maxConnectionsPerUser"),
        ("security", "authorization: disabled", "security.authorization"),
        ("security", "userCacheMaxStaleSecs: 1", "security.userCacheMaxStaleSecs"),
        ("setParameter", "authenticationMechanisms: SCRAM-SHA-1", "setParameter.authenticationMechanisms"),
        ("setParameter", "enableLocalhostAuthBypass: true", "setParameter.enableLocalhostAuthBypass"),
        ("systemLog", "logAppend: true", "systemLog.logAppend"),
        ("processManagement", "pidFilePath: x", "processManagement.pidFilePath"),
        ("auditLog", "destination: console", "auditLog"),
    ],
)
def test_another_key_is_named_and_its_old_value_stays(section, text, path):
    reload = reload_settings(USED, with_(section, text))
    assert (reload.changed, reload.needs_restart) == ((), (path,))
    assert reload.settings == USED


def test_the_upstream_and_workers_and_the_kind_of_directory_need_a_restart_together_with_what_does_not():
    text = BASE.replace("127.0.0.1", "127.0.0.2").replace(
        "port: 27018", "port: 27019, maxIncomingConnections: 9"
    )
    text = (
        text.replace("userDirectory: file, userFile: users.yaml", "userDirectory: upstream") + "workers: 3\n"
    )
    reload = reload_settings(USED, read(text))
    assert reload.changed == ("net.maxIncomingConnections",)
    assert reload.needs_restart == (
        "net.port",
        "security.userDirectory",
        "security.userFile",
        "upstream.uri",
        "workers",
    )
    assert reload.settings.net.max_incoming_connections == 9
    assert reload.settings.upstream == USED.upstream
    assert "127.0.0.2" not in repr(reload)


TLS = "tls: {mode: requireTLS, allowConnectionsWithoutCertificates: true, certificateKeyFile: a.pem}"


@pytest.mark.parametrize(
    ("before", "after", "is_taken_over"),
    [
        (TLS, TLS.replace("a.pem", "b.pem"), True),
        (TLS, TLS.replace("requireTLS", "preferTLS"), True),
        (TLS, "ipv6: false", False),
        ("ipv6: false", TLS, False),
        (TLS, TLS.replace("a.pem", "a.pem, CAFile: ca.pem"), False),
        (
            TLS.replace("a.pem", "a.pem, CAFile: ca.pem"),
            TLS.replace("a.pem", "a.pem, CAFile: other.pem"),
            True,
        ),
    ],
    ids=["certificate", "mode", "no TLS any more", "TLS at last", "certificates log in", "authorities"],
)
def test_tls_is_taken_over_unless_mechanisms_depend_on_it(before, after, is_taken_over):
    reload = reload_settings(with_("net", before), with_("net", after))
    assert reload.changed == (("net.tls",) if is_taken_over else ())
    assert reload.needs_restart == (() if is_taken_over else ("net.tls",))


def test_a_limit_of_connections_per_user_may_change_but_not_come_or_go():
    five, nine = (with_("net", f"maxConnectionsPerUser: {n}") for n in (5, 9))
    assert reload_settings(five, nine).changed == ("net.maxConnectionsPerUser",)
    assert reload_settings(five, USED).needs_restart == ("net.maxConnectionsPerUser",)


def key_paths(model, prefix=""):
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield path
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from key_paths(field.annotation, f"{path}.")


def test_the_table_names_no_key_that_there_is_not():
    assert set(key_paths(Settings)) >= RELOADABLE
