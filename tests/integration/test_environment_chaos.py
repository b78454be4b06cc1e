"""The judges of chaos notice what they are there for; a storm that breaks nothing would prove nothing otherwise."""

from __future__ import annotations

import dataclasses
import io
import os
import socket
import struct
import threading
from pathlib import Path
from typing import Any, cast

import pytest
from pymongo.errors import AutoReconnect, DuplicateKeyError, OperationFailure, ProtocolError

from tests.certificates import Authority
from tests.chaos.driver_client import ClientPlan
from tests.chaos.events import Breach, Event, Outcome, Report
from tests.chaos.faults import Concerned, Fault
from tests.chaos.footprint import Footprint, footprint
from tests.chaos.ledger import Ledger, document_of
from tests.chaos.rights_client import RightsClient
from tests.chaos.storm import Bout, StormReport, _beyond, _worst
from tests.chaos.tls import connect_raw, driver_options
from tests.chaos.verdict import violations
from tests.rawwire import OP_MSG, Message, RawConnection, op_msg


@pytest.fixture
def ledger() -> Ledger:
    """Of the client alice, with acknowledged documents 1 and 2, and 3 whose insert was not acknowledged."""
    ledger = Ledger("alice")
    for number in (1, 2, 3):
        assert ledger.new_number() == number
        ledger.try_insert(number)
    ledger.inserted(1)
    ledger.inserted(2)
    return ledger


def read(client: str, number: int, token: str) -> dict[str, Any]:
    return {**document_of(client, number), "echo": token}


def test_right_answers_are_taken(ledger: Ledger) -> None:
    ledger.check_read(1, read("alice", 1, "t"), "t")
    ledger.check_read(3, None, "t")
    ledger.check_range(1, 3, [read("alice", 1, "t"), read("alice", 2, "t")], "t")
    ledger.check_read(3, read("alice", 3, "t"), "t")


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (1, None),
        (1, read("alice", 1, "another token")),
        (1, read("alice", 2, "t")),
        (1, read("bob", 1, "t")),
        (1, {**read("alice", 1, "t"), "filling": "x"}),
        (4, read("alice", 4, "t")),
    ],
    ids=["lost", "another read's", "another document", "another user's", "changed", "never written"],
)
def test_a_wrong_reply_to_a_read_is_a_breach(
    ledger: Ledger, number: int, found: dict[str, Any] | None
) -> None:
    with pytest.raises(Breach):
        ledger.check_read(number, found, "t")


def test_what_was_seen_once_must_stay(ledger: Ledger) -> None:
    ledger.check_read(3, read("alice", 3, "t"), "t")
    with pytest.raises(Breach, match="not found"):
        ledger.check_read(3, None, "t")


@pytest.mark.parametrize("numbers", [[1], [2, 1], [1, 1, 2]], ids=["lost", "out of order", "twice"])
def test_a_wrong_batch_is_a_breach(ledger: Ledger, numbers: list[int]) -> None:
    with pytest.raises(Breach):
        ledger.check_range(1, 3, [read("alice", number, "t") for number in numbers], "t")


@pytest.mark.parametrize("entries", [[1, 1], [], [1, 9]], ids=["twice", "lost", "never written"])
def test_a_write_that_happened_twice_or_not_at_all_is_a_breach(entries: list[int]) -> None:
    ledger = Ledger("alice")
    ledger.try_log(1)
    ledger.has_logged(1)
    ledger.check_log([1])
    with pytest.raises(Breach):
        ledger.check_log(entries)


def test_a_counter_rises_once_for_each_try() -> None:
    ledger = Ledger("alice")
    ledger.try_count()
    ledger.try_count()
    ledger.counted(2)
    ledger.try_count()
    with pytest.raises(Breach):
        ledger.counted(4)
    with pytest.raises(Breach):
        ledger.check_counter(1)


def test_half_a_transaction_and_a_lost_one_are_breaches() -> None:
    ledger = Ledger("alice")
    ledger.try_pair(1)
    ledger.check_pairs([], [])
    with pytest.raises(Breach, match="half"):
        ledger.check_pairs([1], [])
    ledger.has_paired(1)
    with pytest.raises(Breach, match="not there"):
        ledger.check_pairs([], [])


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (AutoReconnect("closed"), Outcome.FAILED),
        (OperationFailure("not primary", 10107), Outcome.FAILED),
        (OperationFailure("no", 13), Outcome.BREACH),
        (OperationFailure("no", 18), Outcome.BREACH),
        (DuplicateKeyError("E11000", 11000), Outcome.BREACH),
        (ProtocolError("another response id"), Outcome.BREACH),
        (KeyError("n"), Outcome.BREACH),
    ],
)
def test_only_what_a_deployment_in_trouble_says_is_a_mere_failure(error: Exception, outcome: Outcome) -> None:
    stream = io.StringIO()
    with Report(stream).operation("alice", "read", 1.0):
        raise error
    assert Event.from_line(stream.getvalue()).outcome is outcome


@pytest.mark.parametrize("linger", [b"", struct.pack("ii", 1, 0)], ids=["closed", "reset"])
def test_a_connection_whose_handshake_fails_leaves_no_socket(linger: bytes, tmp_path: Path) -> None:
    """An unclosed one would be a warning, and so a failure."""
    authority = Authority(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()

        def hang_up() -> None:
            with listener.accept()[0] as peer:
                if linger:
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(OSError):
            connect_raw(f"{host}:{port}", 5.0, driver_options(authority))
        thread.join()


def test_each_socket_is_counted_once_and_a_dead_one_as_the_upstreams() -> None:
    before = footprint(os.getpid(), 1, [])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        server, _ = listener.accept()
        left, right = socket.socketpair()
        with client, server, left, right:
            alive = footprint(os.getpid(), port, [port])
            assert (alive.client_sockets, alive.upstream_sockets) == (1, before.upstream_sockets + 1)
            assert alive.other_descriptors == before.other_descriptors + 3  # the listener, the pair
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.close()
            dead = footprint(os.getpid(), port, [port])
            assert (dead.client_sockets, dead.upstream_sockets) == (0, before.upstream_sockets + 1)
            assert dead.other_descriptors == alive.other_descriptors


class AnswersWith:
    """A connection on which each request gets this reply."""

    def __init__(self, **reply: Any) -> None:
        self.reply = reply

    def exchange(self, data: bytes) -> Message:
        request_id = int.from_bytes(data[4:8], "little")
        payload = op_msg(self.reply)[16:]
        return Message(1, request_id, OP_MSG, payload)


def rights_client() -> RightsClient:
    plan = ClientPlan("alice", "rights", "", "", "", "bob", replica_set=False, seed=1)
    return RightsClient(plan, Report(io.StringIO()), threading.Event())


FIND, GET_MORE = {"find": "state", "$db": "x"}, {"getMore": 1, "$db": "x"}


@pytest.mark.parametrize(
    ("granted", "command", "reply"),
    [
        (True, FIND, {"ok": 1}),
        (False, FIND, {"ok": 0, "code": 13}),
        (False, GET_MORE, {"ok": 0, "code": 13}),
        (False, GET_MORE, {"ok": 0, "code": 43}),
        (None, FIND, {"ok": 1}),
        (None, FIND, {"ok": 0, "code": 13}),
    ],
)
def test_what_rights_allow_is_done_and_nothing_else(
    granted: bool | None, command: dict[str, Any], reply: dict[str, Any]
) -> None:
    found = rights_client()._reply(cast("RawConnection", AnswersWith(**reply)), command, granted)
    assert (found is None) == (reply.get("code") == 13)


@pytest.mark.parametrize(
    ("granted", "command", "reply", "words"),
    [
        (False, FIND, {"ok": 1}, "taken away was used"),
        (False, GET_MORE, {"ok": 1}, "taken away was used"),
        (True, FIND, {"ok": 0, "code": 13}, "granted: True"),
        (None, FIND, {"ok": 0, "code": 18}, "granted: None"),
    ],
)
def test_rights_that_are_used_too_late_or_missed_are_a_breach(
    granted: bool | None, command: dict[str, Any], reply: dict[str, Any], words: str
) -> None:
    with pytest.raises(Breach, match=words):
        rights_client()._reply(cast("RawConnection", AnswersWith(**reply)), command, granted)


def test_the_worst_recovery_counts() -> None:
    first: dict[str, float | None] = {"alice": 1.0, "bob": 2.0, "carol": None}
    assert _worst(first, {"alice": 3.0, "bob": None, "carol": 1.0}) == {
        "alice": 3.0,
        "bob": None,
        "carol": None,
    }


def test_clients_own_deadlines_are_no_part_of_a_recovery() -> None:
    assert _beyond(6.0, {"alice": 6.5, "bob": 1.0, "carol": None}) == {
        "alice": 0.5,
        "bob": 0.0,
        "carol": None,
    }
    assert _beyond(0.0, {"alice": 6.5}) == {"alice": 6.5}


CALM = Footprint(1, 0, 5, 9, 5, 80.0)
BOUT = Bout(Fault("x", lambda _chaos, _dice: None, Concerned.RELAYED), 10.0, 12.0, 14.0, {"alice": 1.0})
GOOD = StormReport(
    seed=1,
    events=[Event("bob", "read", 11.0, 12.0, Outcome.FAILED, "reset", 3.0)],
    bouts=[BOUT],
    seconds=60.0,
    relayed=frozenset({"bob"}),
    before=CALM,
    after=CALM,
    most_upstream_sockets=20,
    upstream_connections=5,
    operations_left=0,
    statuses=[0, 0],
    prints="",
    guard_log="",
    guard_restarted=False,
)


def event(**fields: Any) -> list[Event]:
    return [dataclasses.replace(GOOD.events[0], **fields)]


def test_a_good_storm_breaks_nothing() -> None:
    assert list(violations(GOOD)) == []


def test_a_worker_that_was_frozen_may_be_given_up_once() -> None:
    fault = Fault("frozen", lambda _chaos, _dice: None, freezes_worker=True)
    log = "worker 1 (pid 7) has not answered for 10 s: it is stopped, or hangs"
    frozen = dataclasses.replace(
        GOOD, bouts=[*GOOD.bouts, dataclasses.replace(BOUT, fault=fault)], guard_log=log
    )
    assert list(violations(frozen)) == []
    in_two_words = f"{log}\nworker 1 (pid 7) does not confirm that users have changed, and is ended"
    assert list(violations(dataclasses.replace(frozen, guard_log=in_two_words))) == []
    twice = dataclasses.replace(frozen, guard_log=f"{log}\n{log.replace('7', '8')}")
    assert "not frozen" in next(violations(twice))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"events": event(outcome=Outcome.BREACH)}, "a wrong reply"),
        ({"events": event(ended=20.0)}, "a hang"),
        ({"events": event(client="alice")}, "a failure without a fault"),
        ({"events": event(began=1.0, ended=2.0)}, "a failure without a fault"),
        ({"bouts": [dataclasses.replace(BOUT, recovered_secs={"bob": 5.1})]}, "recovered in 5.1 s"),
        ({"bouts": [dataclasses.replace(BOUT, recovered_secs={"bob": None})]}, "recovered not at all"),
        ({"bouts": [dataclasses.replace(BOUT, operations_left=1)]}, "still run upstream"),
        ({"operations_left": 1}, "still run upstream"),
        ({"after": dataclasses.replace(CALM, client_sockets=1)}, "a leak"),
        ({"after": dataclasses.replace(CALM, other_descriptors=12)}, "a leak"),
        ({"after": dataclasses.replace(CALM, threads=10)}, "a leak"),
        ({"after": dataclasses.replace(CALM, processes=2)}, "a leak"),
        ({"after": dataclasses.replace(CALM, upstream_sockets=21)}, "sockets to the upstream"),
        ({"after": dataclasses.replace(CALM, megabytes=121.0)}, "memory grew"),
        ({"upstream_connections": 6}, "the upstream holds 6"),
        ({"statuses": [0, None]}, "they hang"),
        ({"prints": "Exception in thread c1d0:\n"}, "a client crashed"),
        ({"prints": "pymongo.errors.OperationFailure: no, full error: {'code': 13}\n"}, "printed"),
        ({"guard_restarted": True}, "mongoguard has ended"),
        ({"guard_log": "Traceback (most recent call last)"}, "mongoguard logged"),
        ({"guard_log": "worker 1 (pid 7) has not answered for 10 s: it"}, "gave up workers"),
        ({"guard_log": "worker 1 (pid 7) does not confirm that users have changed, and is ended"}, "gave up"),
    ],
)
def test_each_law_is_judged(changes: dict[str, Any], words: str) -> None:
    found = list(violations(dataclasses.replace(GOOD, **changes)))
    assert len(found) == 1
    assert words in found[0]
