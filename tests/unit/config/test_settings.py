"""mongoguard.yaml -> Settings: what is accepted, and the sentence for everything that is not."""

import copy
import pickle

import pytest

from mongoguard.config.loading import load_settings
from mongoguard.config.secret import Secret
from mongoguard.config.settings import Settings, parse_settings
from mongoguard.errors import ConfigError

URI = "mongodb://mongoguard:hunter2@db.internal/?tls=true"
MINIMAL = f"upstream: {{uri: '{URI}'}}\n"


def read(text: str, environ=None, files=None) -> Settings:
    def read_file(path: str) -> str:
        if path not in (files or {}):
            raise FileNotFoundError(2, "No such file or directory")
        return files[path]

    return parse_settings(text, "mongoguard.yaml", environ=environ or {}, read_file=read_file)


def problems(text: str, **kwargs) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, **kwargs)
    return str(caught.value).splitlines()


def test_an_upstream_uri_alone_is_a_whole_configuration():
    settings = read(MINIMAL)
    assert settings.upstream.uri == Secret(URI)
    assert settings.net.port == 27017
    assert settings.net.tcp_hosts == ("127.0.0.1",)
    assert settings.net.unix_socket_paths == ()
    assert settings.net.compression.compressors == ("snappy", "zstd", "zlib")
    assert settings.net.max_incoming_connections == 65536
    assert settings.security.authorization == "enabled"
    assert settings.set_parameter.authentication_mechanisms == ("SCRAM-SHA-256", "SCRAM-SHA-1")
    assert settings.audit_log is None
    assert settings.warnings() == ()


def test_every_key_is_read_from_where_mongod_conf_has_it():
    settings = read(
        """
net:
  port: 27018
  bindIp: "127.0.0.1, ::1,/run/guard.sock"
  ipv6: true
  unixDomainSocket: {enabled: true, pathPrefix: /run, filePermissions: 0770}
  maxIncomingConnections: 100
  compression: {compressors: "zlib,snappy"}
  presentAs: mongos
  handshakeTimeoutSecs: 10
  messageTimeoutSecs: 20
  maxUnauthenticatedMessageBytes: 65536
upstream:
  uriFile: /etc/uri
  maxPoolSize: 50
  minPoolSize: 5
  connectTimeoutMS: 1000
  serverSelectionTimeoutMS: 2000
  waitQueueTimeoutMS: 3000
security:
  authorization: enabled
  userDirectory: file
  userFile: users.yaml
  userCacheInvalidationIntervalSecs: 1
  userCacheMaxStaleSecs: 0
  explainDenials: true
setParameter:
  authenticationMechanisms: "SCRAM-SHA-256"
  enableLocalhostAuthBypass: false
  auditAuthorizationSuccess: true
auditLog: {destination: file, format: JSON, path: audit.json, parameterMaxBytes: 1000}
systemLog: {destination: file, path: guard.log, verbosity: 2, logAppend: true}
processManagement: {pidFilePath: /run/guard.pid}
workers: 1
""",
        files={"/etc/uri": f"{URI}\n"},
    )
    assert settings.upstream.uri.reveal() == URI
    assert settings.net.tcp_hosts == ("127.0.0.1", "::1")
    assert settings.net.unix_socket_paths == ("/run/guard.sock", "/run/mongodb-27018.sock")
    assert settings.net.unix_domain_socket.file_permissions == 0o770
    assert settings.net.compression.compressors == ("zlib", "snappy")
    assert settings.security.user_file == "users.yaml"
    assert settings.audit_log is not None
    assert settings.audit_log.parameter_max_bytes == 1000
    assert settings.process_management.pid_file_path == "/run/guard.pid"
    assert settings.workers == 1


def test_compression_can_be_disabled():
    assert read(MINIMAL + "net: {compression: {compressors: disabled}}").net.compression.compressors == ()


@pytest.mark.parametrize(("ipv6", "hosts"), [("false", ("0.0.0.0",)), ("true", ("0.0.0.0", "::"))])
def test_a_star_binds_every_address(ipv6, hosts):
    assert read(MINIMAL + f"net: {{bindIp: '*', ipv6: {ipv6}}}").net.tcp_hosts == hosts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net: {portt: 1}", "net.portt: unknown key; did you mean net.port?"),
        ("port: 1", "port: unknown key; did you mean net.port?"),
        ("zzz: 1", "zzz: unknown key"),
        ("net.port: 1", "net.port: unknown key; write one key per level instead of dots"),
        ("source: x", "source: unknown key"),
        ("net: 3", "net: expected a mapping of keys, not 3"),
        ("net:", "net: expected a mapping of keys, not nothing"),
        ("net: {port: 65536}", "net.port: expected a port number from 0 (any free port) to 65535, not 65536"),
        (
            "net: {port: '27017'}",
            "net.port: expected a port number from 0 (any free port) to 65535, not a string",
        ),
        (
            "net: {port: true}",
            "net.port: expected a port number from 0 (any free port) to 65535, not true or false",
        ),
        ("net: {ipv6: 1}", "net.ipv6: expected true or false, not 1"),
        ("net: {bindIp: '::1'}", "net.bindIp holds an IPv6 address, which needs net.ipv6: true"),
        ("net: {bindIp: '*,::1'}", 'net.bindIp: "*" stands for every address and must be alone'),
        (
            "net: {bindIp: 'a,,b'}",
            "net.bindIp: expected a comma-separated list without empty places",
        ),
        ("net: {bindIp: 'a,a'}", "net.bindIp: a name is given twice"),
        (
            "net: {bindIp: 'a b'}",
            "net.bindIp: expected a comma-separated list of IP addresses, host names or Unix socket paths",
        ),
        ("net: {bindIp: 3}", "net.bindIp: expected a comma-separated list of names"),
        (
            "net: {presentAs: replicaset}",
            'net.presentAs: expected auto, standalone, mongos or replicaSet, not "replicaset"',
        ),
        (
            "net: {compression: {compressors: lz4}}",
            'net.compression.compressors: expected "disabled" or some of snappy,zstd,zlib',
        ),
        (
            "net: {maxIncomingConnections: 0}",
            "net.maxIncomingConnections: expected a number of connections from 1 to 1000000, not 0",
        ),
        (
            "net: {handshakeTimeoutSecs: 0}",
            "net.handshakeTimeoutSecs: expected a number of seconds from 1 to 3600, not 0",
        ),
        (
            "net: {maxUnauthenticatedMessageBytes: 1}",
            "net.maxUnauthenticatedMessageBytes: expected a number of bytes from 16384 to 48000000, not 1",
        ),
        (
            "net: {unixDomainSocket: {filePermissions: 01000}}",
            "net.unixDomainSocket.filePermissions: expected an octal file mode from 0000 to 0777, not 512",
        ),
        (
            "net: {tls: {mode: requireTLS}}",
            "net.tls.certificateKeyFile: required by net.tls.mode: requireTLS",
        ),
        (
            "storage: {dbPath: /data}",
            "storage: a setting of the server behind mongoguard; it belongs in that server's own configuration file",
        ),
        (
            "security: {authorization: off}",
            "security.authorization: expected enabled or disabled",
        ),
        ("security: {userDirectory: file}", "security.userDirectory: file needs security.userFile"),
        (
            "security: {userFile: u.yaml}",
            "security.userFile is only read with security.userDirectory: file",
        ),
        (
            "setParameter: {authenticationMechanisms: 'MONGODB-CR'}",
            (
                "setParameter.authenticationMechanisms: expected some of SCRAM-SHA-256, SCRAM-SHA-1, PLAIN, MONGODB-X509, "
                "MONGODB-OIDC, GSSAPI:"
                " others are not supported yet"
            ),
        ),
        (
            "setParameter: {enableTestCommands: 1}",
            "setParameter.enableTestCommands: unknown key",
        ),
        ("auditLog: {path: x}", "auditLog.destination: required: console or file"),
        ("auditLog: {destination: file}", "auditLog.destination: file needs auditLog.path"),
        (
            "auditLog: {destination: console, path: x}",
            "auditLog.path is only used with auditLog.destination: file",
        ),
        ("auditLog: {destination: syslog}", 'auditLog.destination: expected console or file, not "syslog"'),
        (
            "auditLog: {destination: console, format: BSON}",
            'auditLog.format: expected JSON, not "BSON"',
        ),
        (
            "auditLog: {destination: console, filter: '{}'}",
            "auditLog.filter: not supported yet by this version of mongoguard",
        ),
        ("systemLog: {verbosity: 6}", "systemLog.verbosity: expected a number from 0 to 5, not 6"),
        ("systemLog: {destination: file}", "systemLog.destination: file needs systemLog.path"),
        ("systemLog: {destination: file, path: ''}", "systemLog.path: expected a file path"),
        (
            "processManagement: {fork: true}",
            (
                "processManagement.fork: not supported: run mongoguard under a service manager"
                " (systemd, a container)"
            ),
        ),
        ("workers: 0", "workers: expected auto or a number of processes from 1 to 256"),
        ("workers: 257", "workers: expected auto or a number of processes from 1 to 256"),
        ("workers: true", "workers: expected auto or a number of processes from 1 to 256"),
        ("workers: many", "workers: expected auto or a number of processes from 1 to 256"),
    ],
)
def test_a_wrong_key_is_refused_with_its_path_and_what_was_expected(text, expected):
    assert problems(MINIMAL + text) == [f"mongoguard.yaml: {expected}"]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("", "upstream: uri or uriFile is required"),
        ("uri: 'mongodb://h', uriFile: f", "upstream: uri and uriFile exclude each other"),
        ("uri: 3", "upstream.uri: expected a mongodb:// or mongodb+srv:// connection string"),
        (
            "uri: 'http://u:hunter2@h'",
            "upstream.uri: expected a mongodb:// or mongodb+srv:// connection string",
        ),
        (
            "uri: 'mongodb://u:hunter2@'",
            "upstream.uri: expected at least one host after the user name, and no spaces",
        ),
        (
            "uri: 'mongodb://u:hunter2@a,/'",
            "upstream.uri: expected at least one host after the user name, and no spaces",
        ),
        ("uri: 'mongodb://u:${PW}@h'", "upstream.uri: the environment variable PW is not set"),
        (
            "uri: 'mongodb://u:${P W}@h'",
            "upstream.uri: expected the name of an environment variable between ${ and }",
        ),
        ("uriFile: nowhere", "upstream.uriFile: can't read nowhere: No such file or directory"),
        ("uriFile: 3", "upstream.uriFile: expected the path of a file that holds the connection string"),
        ("uri: 'mongodb://h', urlFile: 3", "upstream.urlFile: unknown key; did you mean upstream.uriFile?"),
        (
            "uri: 'mongodb://h', maxPoolSize: -1",
            "upstream.maxPoolSize: expected a number of connections, 0 for no limit, not -1",
        ),
        (
            "uri: 'mongodb://h', minPoolSize: 1001",
            "upstream.minPoolSize: expected a number of connections from 0 to 1000, not 1001",
        ),
        (
            "uri: 'mongodb://h', minPoolSize: -1",
            "upstream.minPoolSize: expected a number of connections from 0 to 1000, not -1",
        ),
        (
            "uri: 'mongodb://h', minPoolSize: 6, maxPoolSize: 5",
            "upstream.minPoolSize must not be more than upstream.maxPoolSize",
        ),
    ],
)
def test_a_wrong_upstream_is_refused(section, expected):
    assert problems(f"upstream: {{{section}}}") == [f"mongoguard.yaml: {expected}"]


def test_environment_variables_fill_the_uri_and_the_path_of_the_uri_file():
    settings = read("upstream: {uri: 'mongodb://u:${PW}@h'}", environ={"PW": "hunter2"})
    assert settings.upstream.uri.reveal() == "mongodb://u:hunter2@h"
    settings = read("upstream: {uriFile: '${DIR}/uri'}", environ={"DIR": "/run"}, files={"/run/uri": URI})
    assert settings.upstream.uri.reveal() == URI


def test_an_unset_variable_is_not_an_empty_password():
    assert problems("upstream: {uri: 'mongodb://u:${PW}@h'}", environ={"pw": "x"})


def test_all_problems_are_told_at_once():
    text = "upstream: {uri: 'http://x'}\nnet: {port: -1, tsl: {}}\nsystemLog: {verbosity: 9}"
    assert len(problems(text)) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "upstream: required: a mapping of keys with uri or uriFile"),
        ("- 1", "expected a mapping of keys such as net, upstream, security"),
        ("net: {port: 1, port: 2}", "line 1: the key 'port' is given twice"),
        ("net: {port: [", "line 1, column 14: not valid YAML: expected the node content"),
        (
            "net: &a {port: 1}\nsecurity: {<<: *a}",
            "line 2, column 16: not valid YAML: YAML aliases (*name) are not allowed here",
        ),
        ("a: {<<: {b: 1}}", "line 1, column 5: not valid YAML: a key must be a plain word"),
        ("? [a, b]\n: 1", "line 1, column 3: not valid YAML: a key must be a plain word"),
        (
            "a: !!python/object/apply:os.system [x]",
            "line 1, column 4: not valid YAML: YAML tags (!name) are not allowed here",
        ),
        ("a: !!set {b}", "line 1, column 4: not valid YAML: YAML tags (!name) are not allowed here"),
        ("a: \x00", "not valid YAML: it has characters that are not printable"),
        ("a: \ud800", "not valid YAML: it has characters that are not printable"),
        ("a: " + "[" * 600, "not valid YAML: nested too deeply"),
        ("a: 1\n---\nb: 2", "line 2, column 1: not valid YAML: but found another document"),
    ],
)
def test_text_that_is_not_one_plain_yaml_mapping_is_refused(text, expected):
    assert problems(text) == [f"mongoguard.yaml: {expected}"]


@pytest.mark.parametrize(
    "value",
    [
        *("!!bool x", "!!int x", "!!int ''", "!!float ''", "!!timestamp x", "2025-02-30", "!!binary ü"),
        *("!name x", "!!seq x", "!!python/name:os.system x", "=", "!!int 1:9:1e", '"\\ud800"'),
    ],
)
def test_a_value_that_does_not_fit_its_yaml_type_is_refused_and_not_repeated(value):
    (problem,) = problems(f"net: {{port: {value}}}")
    assert problem.startswith("mongoguard.yaml: line 1, column ")
    assert "not valid YAML: " in problem
    assert value not in problem


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (MINIMAL + "security: {authorization: disabled}", "security.authorization is disabled"),
        (MINIMAL + "setParameter: {enableLocalhostAuthBypass: true}", "enableLocalhostAuthBypass is on"),
        (MINIMAL + "net: {bindIp: '127.0.0.1,10.0.0.1'}", "listens on 10.0.0.1 without TLS"),
        ("upstream: {uri: 'mongodb://u:p@db.internal'}", "has no tls=true and names another host"),
        ("upstream: {uri: 'mongodb://127.0.0.1'}", "names no user"),
        (
            MINIMAL + "net: {unixDomainSocket: {enabled: true, filePermissions: 0777}}",
            "lets every local account connect",
        ),
        (
            MINIMAL + "setParameter: {auditAuthorizationSuccess: true}",
            "does nothing without an auditLog section",
        ),
    ],
)
def test_what_is_allowed_but_dangerous_gives_a_warning(text, part):
    (warning,) = read(text).warnings()
    assert part in warning


@pytest.mark.parametrize("host", ["localhost:27018", "127.0.0.1", "[::1]:1", "%2Ftmp%2Fmongodb-27017.sock"])
def test_an_unencrypted_upstream_on_this_host_gives_no_warning(host):
    assert read(f"upstream: {{uri: 'mongodb://u:p@{host}'}}").warnings() == ()


@pytest.mark.parametrize(
    "text",
    [
        "upstream: {uri: 'http://u:hunter2@h'}",
        "upstream: {uri: {'mongodb://u:hunter2@h': 1}}",
        "upstream: {uri: ['mongodb://u:hunter2@h']}",
        "upstream: {uri: 'mongodb://h'}\nnet: {port: 'mongodb://u:hunter2@h'}",
        "upstream: {uri: 'mongodb://h'}\nnet: {presentAs: 'mongodb://u:hunter2@h'}",
        "upstream: {uri: 'mongodb://h'}\nsecurity: {bindPassword: hunter2}",
        "upstream: {uri: 'mongodb://u:hunter2@h'",
        "upstream: {uri: mongodb://u:hunter2@h: x}",
        "upstream: {uri: 'mongodb://u:hunter2@h'}\nnet: {port: @hunter2}",
        "upstream: {uri: 'mongodb://u:hunter2@h'}\nnet: {port: *hunter2}",
    ],
)
def test_no_message_repeats_a_secret(text):
    assert "hunter2" not in "\n".join(problems(text))


def test_no_settings_print_a_secret():
    settings = read(MINIMAL)
    for text in (repr(settings), str(settings), f"{settings.upstream.uri}", repr(settings.model_dump())):
        assert "hunter2" not in text
    with pytest.raises(TypeError):
        pickle.dumps(settings.upstream.uri)
    with pytest.raises(TypeError):
        copy.copy(settings.upstream.uri)


def test_secrets_compare_by_their_text():
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        read(MINIMAL).net.port = 1


def test_a_file_is_read_with_the_uri_file_it_names(tmp_path):
    (tmp_path / "uri").write_text(URI)
    (tmp_path / "m.yaml").write_text(f"upstream: {{uriFile: {tmp_path}/uri}}")
    assert load_settings(f"{tmp_path}/m.yaml").upstream.uri == Secret(URI)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere.yaml", "No such file or directory"),
        ("binary.yaml", "it is not a UTF-8 text file of at most 1 MB"),
        ("large.yaml", "it is not a UTF-8 text file of at most 1 MB"),
    ],
)
def test_a_file_that_can_not_be_read_is_named(tmp_path, name, expected):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large.yaml").write_bytes(b"#" * 1_048_577)
    with pytest.raises(ConfigError, match=f"{name}: can't be read: {expected}"):
        load_settings(f"{tmp_path}/{name}")
