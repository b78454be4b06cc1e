"""AuditEvent -> MongoDB's audit message."""

import json
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address

from mongoguard.model.names import RoleName, UserName
from mongoguard.model.restriction import Peer
from mongoguard.observe.event import AuditEvent, to_document, to_json

PEER = Peer(IPv4Address("10.0.0.7"), IPv4Address("10.0.0.1"), 50123, 27017)


def test_a_message_has_the_fields_of_the_manual():
    event = AuditEvent(
        "authenticate",
        PEER,
        (UserName("alice", "admin"),),
        (RoleName("read", "shop"),),
        {"user": "alice"},
        18,
    )
    assert to_document(event, 1_700_000_000.1234) == {
        "atype": "authenticate",
        "ts": {"$date": "2023-11-14T22:13:20.123+00:00"},
        "local": {"ip": "10.0.0.1", "port": 27017},
        "remote": {"ip": "10.0.0.7", "port": 50123},
        "users": [{"user": "alice", "db": "admin"}],
        "roles": [{"role": "read", "db": "shop"}],
        "param": {"user": "alice"},
        "result": 18,
    }


def test_a_unix_socket_has_no_address():
    document = to_document(AuditEvent("logout", Peer(None, None)), 0)
    assert document["remote"] == document["local"] == {"unix": "anonymous"}


def test_an_ipv6_address_is_written_without_brackets():
    peer = Peer(IPv6Address("::1"), IPv6Address("::1"), 1, 2)
    assert to_document(AuditEvent("logout", peer), 0)["remote"] == {"ip": "::1", "port": 1}


def test_a_name_can_not_forge_a_second_line_or_a_terminal_code():
    name = UserName('a\n{"atype":"x"}\r\x1b[31m\u2028', "admin")
    line = to_json(AuditEvent("authenticate", PEER, (name,)), 0)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["users"][0]["user"] == name.user


def test_a_value_that_json_has_no_form_for_does_not_lose_the_line():
    event = AuditEvent("logout", PEER, param={"loginTime": datetime.fromtimestamp(0, UTC), "odd": b"c4n4ry"})
    line = to_json(event, 0)
    assert json.loads(line)["param"] == {
        "loginTime": {"$date": "1970-01-01T00:00:00.000+00:00"},
        "odd": "<bytes>",
    }


def test_no_text_makes_a_line_as_long_as_a_client_likes() -> None:
    long = "x" * 100_000
    param = {"ns": long, "mechanism": long, "roles": [{"role": long}] * 2, "short": "as it is"}
    line = to_json(AuditEvent("authCheck", PEER, param=param), 0.0)
    assert len(line) < 8192
    shown = json.loads(line)["param"]
    assert shown["ns"] == "x" * 1024 + "..."
    assert shown["roles"] == [{"role": "x" * 1024 + "..."}] * 2
    assert shown["short"] == "as it is"
