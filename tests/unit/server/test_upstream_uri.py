"""The upstream URI: credentials, TLS options, and errors without secrets."""

import ssl

import pytest

from mongoguard.authn.upstream_login import UpstreamCredential
from mongoguard.command.read_preference import ReadPreference, ReadPreferenceMode
from mongoguard.config.secret import Secret
from mongoguard.errors import ConfigError
from mongoguard.model.names import UserName
from mongoguard.server import upstream_uri
from mongoguard.server.upstream_uri import read_upstream_uri
from tests.certificates import Authority


def read(uri):
    return read_upstream_uri(Secret(uri))


@pytest.mark.parametrize(
    ("uri", "mechanism", "name"),
    [
        ("mongodb://u:p@h", None, UserName("u", "admin")),
        ("mongodb://u:p@h/shop", None, UserName("u", "shop")),
        ("mongodb://u:p@h/shop?authSource=users", None, UserName("u", "users")),
        ("mongodb://u%40x:p@h/?authMechanism=SCRAM-SHA-1", "SCRAM-SHA-1", UserName("u@x", "admin")),
        ("mongodb://h/?tls=true&authMechanism=MONGODB-X509", "MONGODB-X509", None),
    ],
)
def test_the_uri_says_who_mongoguard_is(uri, mechanism, name):
    credential = read(uri).credential
    assert isinstance(credential, UpstreamCredential)
    assert credential.mechanism == mechanism
    assert name is None or credential.name == name


def test_a_uri_without_a_user_logs_nobody_in():
    assert read("mongodb://h").credential is None


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://canary:canary@h:port",
        "mongodb://canary:ca/nary@h",
        "mongodb://canary:canary@h/?authMechanism=GSSAPI",
        "mongodb://canary:canary@h/?authMechanism=PLAIN",
        "mongodb://canary:canary@h/?tls=perhaps",
        "mongodb://canary:canary@h/?tls=true&tlsCAFile=/nosuch/ca.pem",
        "mongodb://canary:canary@h/?tls=true&tlsCertificateKeyFile=/nosuch/client.pem",
        "mongodb://canary@h/?authMechanism=SCRAM-SHA-256",
        "mongodb://canary@h",
    ],
)
def test_a_uri_that_can_not_be_used_is_an_error_without_its_secrets(uri):
    with pytest.raises(ConfigError) as failed:
        read(uri)
    assert str(failed.value).startswith("upstream.uri: ")
    assert "canary" not in str(failed.value)
    assert "canary" not in repr(failed.value)


def test_tls_files_that_are_no_certificates_are_an_error(tmp_path):
    path = tmp_path / "text.pem"
    path.write_text("no certificate")
    for option in ("tlsCAFile", "tlsCertificateKeyFile", "tlsCRLFile"):
        with pytest.raises(ConfigError, match=r"upstream.uri: the TLS files cannot be used: "):
            read(f"mongodb://h/?tls=true&{option}={path}")


def test_tls_verifies_unless_told_otherwise(tmp_path):
    authority = Authority(tmp_path)
    certificate, _ = authority.client("mongoguard")
    base = f"mongodb://h/?tls=true&tlsCAFile={authority.ca_file}&tlsCertificateKeyFile={certificate}"
    assert read("mongodb://h").tls is None

    def checks(uri):
        context = read(uri).tls
        return context.check_hostname, context.verify_mode

    assert checks(base) == (True, ssl.CERT_REQUIRED)
    assert checks(base.replace("tls=true", "ssl=true")) == (True, ssl.CERT_REQUIRED)
    assert checks(f"{base}&tlsAllowInvalidHostnames=true") == (False, ssl.CERT_REQUIRED)
    assert checks(f"{base}&tlsAllowInvalidCertificates=true") == (False, ssl.CERT_NONE)
    assert checks(f"{base}&tlsInsecure=true") == (False, ssl.CERT_NONE)
    assert checks(f"{base}&tlsAllowInvalidCertificates=false") == (True, ssl.CERT_REQUIRED)


def test_a_servers_certificate_is_held_against_the_revocation_list(tmp_path):
    authority = Authority(tmp_path)
    uri = f"mongodb://h/?tls=true&tlsCAFile={authority.ca_file}"
    assert not read(uri).tls.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    context = read(f"{uri}&tlsCRLFile={authority.revocation_list()}").tls
    assert context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    assert context.cert_store_stats()["crl"] == 1


def test_a_password_is_in_no_repr():
    assert "canary" not in repr(read("mongodb://u:canary@h/?tls=true"))


def test_what_reads_without_a_preference_follow_is_read_in_the_uri():
    uri = "mongodb://h/?readPreference=nearest&readPreferenceTags=dc:east,rack:1&readPreferenceTags=&maxStalenessSeconds=120"
    tags = ((("dc", "east"), ("rack", "1")), ())
    assert read(uri).read_preference == ReadPreference(ReadPreferenceMode.NEAREST, tags, 120)
    assert read("mongodb://h").read_preference is None
    assert read("mongodb://h/?readPreference=primary").read_preference is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("readPreference=secondary&maxStalenessSeconds=10", "can not be less than 90"),
        ("readPreference=sideways", ""),
        ("compressors=lzma", "compressors: expected some of snappy, zlib, zstd, not 'lzma'"),
        ("loadBalanced=true", "loadBalanced=true is not supported"),
        ("zlibCompressionLevel=10", "zlibcompressionlevel must be between -1 and 9"),
        ("zlibCompressionLevel=-2", "zlibcompressionlevel must be between -1 and 9"),
        ("zlibCompressionLevel=x", "zlibcompressionlevel must be an integer"),
        ("connectTimeoutMS=soon", ""),
    ],
)
def test_an_option_that_can_not_be_served_is_an_error(options, told):
    with pytest.raises(ConfigError, match=rf"upstream\.uri: .*{told}"):
        read(f"mongodb://h/?{options}")


def test_compressors_are_kept_in_their_order():
    assert read("mongodb://h").compressors == ()
    assert read("mongodb://h/?compressors=zlib").compressors == ("zlib",)
    assert read("mongodb://h/?Compressors=zstd,zlib,zstd").compressors == ("zstd", "zlib")


def test_how_hard_zlib_tries_is_read_in_the_uri():
    assert read("mongodb://h/?compressors=zlib").zlib_level == -1
    for level in (-1, 0, 9):
        assert read(f"mongodb://h/?compressors=zlib&zlibCompressionLevel={level}").zlib_level == level


def test_a_compressor_without_its_library_is_an_error(monkeypatch):
    monkeypatch.setattr(upstream_uri, "available_compressors", lambda: ("zlib",))
    with pytest.raises(ConfigError, match="compressors: snappy needs the extra compression"):
        read("mongodb://h/?compressors=snappy")
