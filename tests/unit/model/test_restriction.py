"""From where a user may log in: the table of cases measured on mongod 6.0.5."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mongoguard.model.documents import parse_restrictions
from mongoguard.model.restriction import Peer, restrictions_met


def peer(client: str | None, server: str | None = "10.0.0.5") -> Peer:
    return Peer(ip_address(client) if client else None, ip_address(server) if server else None)


@pytest.mark.parametrize(
    ("sources", "client", "met"),
    [
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["127.0.0.77/8"], "127.9.9.9", True),
        (["10.0.0.0/8", "127.0.0.1"], "127.0.0.1", True),
        (["0.0.0.0/0"], "::1", False),
        (["::/0"], "127.0.0.1", False),
        (["::/0"], "::1", True),
        (["::ffff:127.0.0.1"], "127.0.0.1", False),
        (["127.0.0.1"], "::ffff:127.0.0.1", False),
        (["0.0.0.0/0"], None, False),
        (["::/0"], None, False),
        ([], "127.0.0.1", False),
        ([], None, False),
    ],
)
def test_client_source(sources: list[str], client: str | None, met: bool) -> None:
    assert restrictions_met([parse_restrictions([{"clientSource": sources}])], peer(client)) is met


@pytest.mark.parametrize(("server", "met"), [("10.0.0.5", True), ("10.0.0.6", False), (None, False)])
def test_server_address(server: str | None, met: bool) -> None:
    assert (
        restrictions_met([parse_restrictions([{"serverAddress": ["10.0.0.5"]}])], peer("1.2.3.4", server))
        is met
    )


def test_both_lists_of_one_document_must_be_met() -> None:
    array = parse_restrictions([{"clientSource": ["1.2.3.4"], "serverAddress": ["10.0.0.5"]}])
    assert restrictions_met([array], peer("1.2.3.4"))
    assert not restrictions_met([array], peer("1.2.3.5"))
    assert not restrictions_met([array], peer("1.2.3.4", "10.0.0.6"))


def test_one_document_of_an_array_is_enough() -> None:
    array = parse_restrictions([{"clientSource": []}, {"clientSource": ["1.2.3.4"]}])
    assert restrictions_met([array], peer("1.2.3.4"))
    assert not restrictions_met([array], peer("1.2.3.5"))


def test_every_array_must_be_met() -> None:
    own, of_a_role = (
        parse_restrictions([{"clientSource": [source]}]) for source in ("1.0.0.0/8", "1.2.0.0/16")
    )
    assert restrictions_met([own, of_a_role, ()], peer("1.2.3.4"))
    assert not restrictions_met([own, of_a_role, ()], peer("1.3.3.4"))


def test_no_restrictions_are_met_by_anyone() -> None:
    assert restrictions_met([], peer(None, None))
    assert restrictions_met([()], peer(None, None))
