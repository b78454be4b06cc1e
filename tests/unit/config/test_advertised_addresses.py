"""net.presentAs: replicaSet and net.advertise: what is an address, and what goes together."""

import pytest

from mongoguard.config.settings import Settings, parse_settings
from mongoguard.errors import ConfigError
from mongoguard.proxy.replica_set import Advertised

DIRECT = "mongodb://h/?directConnection=true"


def read(advertise: str, uri: str = "mongodb://h", present_as: str = "replicaSet") -> Settings:
    text = f"upstream: {{uri: '{uri}'}}\nnet:\n  presentAs: {present_as}\n  advertise: {advertise}\n"
    return parse_settings(text, "mongoguard.yaml", environ={}, read_file=str)


def problem(advertise: str, uri: str = "mongodb://h", present_as: str = "replicaSet") -> str:
    with pytest.raises(ConfigError) as caught:
        read(advertise, uri, present_as)
    (line,) = str(caught.value).splitlines()
    return line.removeprefix("mongoguard.yaml: ")


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("guard.example:27017", "guard.example:27017"),
        ("Guard.Example:27017", "guard.example:27017"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ('"[2001:DB8::1]:65535"', "[2001:db8::1]:65535"),
        ("my_guard-1:27017", "my_guard-1:27017"),
    ],
)
def test_one_address_is_that_of_this_proxy(written, read_as):
    assert read(written).net.advertise == Advertised(own=read_as)


@pytest.mark.parametrize(
    "written",
    [
        *(
            "guard",
            '"guard:"',
            ":27017",
            "guard:0",
            "guard:65536",
            "guard:x",
            "guard:+1",
            "guard:027",
            "guard:1e3",
        ),
        *("guard:271828", '"::1:27017"', '"[::1]"', '"[::1:27017"', '"[::g]:1"', '"[]:1"', '"[127.0.0.1]:1"'),
        *(
            '"a b:1"',
            '"a,b:1"',
            '"a/b:1"',
            '"a@b:1"',
            '"a:b:1"',
            '"mongodb://a:1"',
            "a..b:1",
            ".a:1",
            '"é:1"',
        ),
        *('""', '" a:1"', '"a:1 "', '"a:1\\n"', '"[::1%eth0]:1"'),
    ],
)
def test_anything_else_is_no_address(written):
    assert problem(written).startswith('net.advertise: expected "host:port" of this proxy, or a mapping')


@pytest.mark.parametrize("written", ["27017", "true", "[a:1]", "{}", "{a:1: 5}", "{a:1: {b: c}}", "{5: a:1}"])
def test_another_kind_of_value_is_no_address(written):
    assert problem(written, DIRECT).startswith("net.advertise: ")


def test_members_are_mapped_to_the_proxies_in_front_of_them():
    settings = read("{'DB1:27017': 'g1:1', 'db2:27017': 'g2:1'}", DIRECT)
    assert settings.net.advertise == Advertised(members={"db1:27017": "g1:1", "db2:27017": "g2:1"})


def test_a_member_has_one_proxy_and_a_proxy_one_member():
    assert problem("{'DB1:1': 'g1:1', 'db1:1': 'g2:1'}", DIRECT) == "net.advertise: a member is given twice"
    assert "two members have the same proxy" in problem("{'db1:1': 'g1:1', 'db2:1': 'G1:1'}", DIRECT)


def test_a_set_has_fifty_members_at_most():
    def written(count: int) -> str:
        return "{" + ", ".join(f"'d{i}:1': 'g{i}:1'" for i in range(count)) + "}"

    assert len(read(written(50), DIRECT).net.advertise.members) == 50  # type: ignore[union-attr]
    assert problem(written(51), DIRECT).startswith("net.advertise: expected")


@pytest.mark.parametrize(
    "uri", ["mongodb://h", "mongodb://h/?directConnection=false", "mongodb://h/?directConnection=1"]
)
def test_a_proxy_per_member_is_connected_to_that_member_alone(uri):
    assert problem("{'db1:1': 'g1:1'}", uri).startswith(
        "net.advertise: a proxy per member needs directConnection=true in upstream.uri"
    )
    assert read("g:1", uri).net.advertise == Advertised(own="g:1")


@pytest.mark.parametrize("present_as", ["auto", "standalone", "mongos"])
def test_an_address_is_only_advertised_as_a_replica_set(present_as):
    wanted = "net.advertise is only used with net.presentAs: replicaSet"
    assert problem("g:1", present_as=present_as) == wanted


def test_a_replica_set_needs_an_address():
    text = "upstream: {uri: 'mongodb://h'}\nnet: {presentAs: replicaSet}"
    with pytest.raises(ConfigError, match=r"net.presentAs: replicaSet needs net.advertise"):
        parse_settings(text, "mongoguard.yaml", environ={}, read_file=str)
