"""The audit sink: order, back-pressure, failing disks, rotation, shutdown."""

import errno
import json
import logging
import os
import subprocess
import sys
import threading
from ipaddress import IPv4Address

import pytest
import trio
import trio.testing

from mongoguard.config.sections import AuditLog
from mongoguard.errors import ConfigError
from mongoguard.model.restriction import Peer
from mongoguard.observe.event import AuditEvent
from mongoguard.server.sinks import (
    BATCH_BYTES,
    QUEUE_LINES,
    CountingSink,
    DiscardingSink,
    LineOutput,
    LineSink,
    TakingTurns,
    open_audit_sink,
)

PEER = Peer(IPv4Address("10.0.0.7"), IPv4Address("10.0.0.1"), 50123, 27017)


def event(number=0, text="") -> AuditEvent:
    return AuditEvent("authCheck", PEER, param={"n": number, "text": text})


def numbers(data: bytes) -> list[int]:
    return [json.loads(line)["param"]["n"] for line in data.splitlines()]


class FakeOutput:
    """An output in memory. `errors` are raised in turn; `gate` blocks writes while it is cleared."""

    def __init__(self, errors=(), short=None):
        self.files = [bytearray()]
        self.errors = list(errors)
        self.short = short
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False
        self.calls = 0
        self.reopen_error = None

    def write(self, data):
        self.gate.wait()
        self.calls += 1
        if self.errors:
            error = self.errors.pop(0)
            if error is not None:
                raise error
        count = min(len(data), self.short or len(data))
        self.files[-1] += data[:count]
        return count

    def reopen(self):
        if self.reopen_error:
            raise self.reopen_error
        self.files.append(bytearray())

    def close(self):
        self.closed = True


async def until(condition):
    """Wait for the writer's thread in real time; on the autojump clock let its retries come."""
    with trio.fail_after(30):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.001)
            if getattr(trio.lowlevel.current_clock(), "autojump_threshold", None) == 0:
                await trio.sleep(0.1)


async def test_events_are_written_in_order_as_json_lines(nursery):
    output = FakeOutput()
    sink = LineSink(output, clock=lambda: 0.0)
    nursery.start_soon(sink.run)
    for number in range(300):
        await sink.write(event(number))
    await sink.aclose()
    assert numbers(output.files[0]) == list(range(300))
    assert json.loads(output.files[0].splitlines()[0])["ts"] == {"$date": "1970-01-01T00:00:00.000+00:00"}
    assert output.closed


async def test_many_waiting_lines_become_one_write(nursery):
    output = FakeOutput()
    sink = LineSink(output)
    for number in range(100):
        await sink.write(event(number))
    nursery.start_soon(sink.run)
    await sink.aclose()
    assert output.calls == 1
    assert numbers(output.files[0]) == list(range(100))


async def test_a_batch_is_bounded(nursery):
    output = FakeOutput()
    sink = LineSink(output)
    for number in range(10):
        await sink.write(event(number, ["x" * 1024] * (BATCH_BYTES // 4096)))
    nursery.start_soon(sink.run)
    await sink.aclose()
    assert output.calls == 3
    assert numbers(output.files[0]) == list(range(10))


async def test_clients_wait_while_the_output_does_not_take_lines_and_nothing_is_dropped(nursery):
    output = FakeOutput()
    output.gate.clear()
    sink = LineSink(output)
    nursery.start_soon(sink.run)
    accepted = []

    async def client():
        for number in range(3 * QUEUE_LINES):
            await sink.write(event(number))
            accepted.append(number)

    nursery.start_soon(client)
    await trio.testing.wait_all_tasks_blocked(0.01)
    waiting_at = len(accepted)
    output.gate.set()
    await until(lambda: len(accepted) == 3 * QUEUE_LINES)
    await sink.aclose()
    in_one_batch = BATCH_BYTES // 200
    assert waiting_at <= QUEUE_LINES + in_one_batch
    assert numbers(output.files[0]) == list(range(3 * QUEUE_LINES))


async def test_events_are_taken_at_once_until_the_queue_is_full_and_keep_their_order(nursery):
    output = FakeOutput()
    sink = LineSink(output)
    assert all(sink.take(event(number)) for number in range(QUEUE_LINES))
    assert not sink.take(event(-1))
    nursery.start_soon(sink.write, event(QUEUE_LINES))
    await trio.testing.wait_all_tasks_blocked()
    assert not sink.take(event(-1))
    nursery.start_soon(sink.run)
    await until(lambda: len(numbers(output.files[0])) == QUEUE_LINES + 1)
    assert sink.take(event(QUEUE_LINES + 1))
    await sink.aclose()
    assert numbers(output.files[0]) == list(range(QUEUE_LINES + 2))
    with pytest.raises(trio.ClosedResourceError):
        sink.take(event(-1))


def test_a_sink_that_discards_takes_everything():
    assert DiscardingSink().take(event())


async def test_a_full_disk_is_tried_again_until_it_takes_the_line(
    nursery, autojump_clock, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("mongoguard"), "propagate", True)
    full = OSError(errno.ENOSPC, "No space left on device")
    output = FakeOutput(errors=[full, full, full, None, full])
    sink = LineSink(output)
    with caplog.at_level(logging.INFO):
        nursery.start_soon(sink.run)
        await sink.write(event(1))
        await until(lambda: output.files[0])
        await sink.write(event(2))
        await until(lambda: len(output.files[0].splitlines()) == 2)
        await sink.aclose()
    assert numbers(output.files[0]) == [1, 2]
    texts = [record.getMessage() for record in caplog.records]
    assert (
        texts
        == [
            "The audit log can't be written; clients wait",
            "The audit log can be written again",
        ]
        * 2
    )
    assert caplog.records[0].attr == {"error": "[Errno 28] No space left on device"}


async def test_a_short_write_is_continued_where_it_stopped(nursery):
    output = FakeOutput(short=7)
    sink = LineSink(output)
    nursery.start_soon(sink.run)
    for number in range(3):
        await sink.write(event(number))
    await sink.aclose()
    assert numbers(output.files[0]) == [0, 1, 2]


async def test_a_line_that_is_half_in_the_old_file_is_whole_in_the_new_one(nursery, mock_clock):
    output = FakeOutput(errors=[None, OSError(errno.ENOSPC, "full")], short=10)
    sink = LineSink(output)
    nursery.start_soon(sink.run)
    await sink.write(event(1))
    await until(lambda: output.calls == 2)
    sink.reopen()
    await sink.write(event(2))
    mock_clock.jump(2)
    await until(lambda: output.files[-1].count(b"\n") == 2)
    await sink.aclose()
    assert len(output.files[0]) == 10
    assert numbers(output.files[1]) == [1, 2]


async def test_reopening_needs_no_line_to_come(nursery):
    output = FakeOutput()
    sink = LineSink(output)
    nursery.start_soon(sink.run)
    sink.reopen()
    await sink.aclose()
    assert output.files == [b"", b""]


async def test_a_file_that_can_not_be_reopened_stays_in_use(nursery, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("mongoguard"), "propagate", True)
    output = FakeOutput()
    output.reopen_error = OSError(errno.EACCES, "Permission denied")
    sink = LineSink(output)
    nursery.start_soon(sink.run)
    sink.reopen()
    await sink.write(event(1))
    await sink.aclose()
    assert numbers(output.files[0]) == [1]
    assert "the old file stays in use" in caplog.text


async def test_shutdown_does_not_wait_for_ever_and_says_what_was_lost(
    nursery, autojump_clock, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("mongoguard"), "propagate", True)
    output = FakeOutput()
    output.gate.clear()
    sink = LineSink(output)
    nursery.start_soon(sink.run)
    try:
        for number in range(5):
            await sink.write(event(number))
        await sink.aclose()
    finally:
        output.gate.set()
    assert caplog.records[-1].getMessage() == "Audit lines could not be written before shutdown"
    assert caplog.records[-1].attr == {"lines": 5}


async def test_a_closed_sink_takes_no_event(nursery):
    sink = LineSink(FakeOutput())
    nursery.start_soon(sink.run)
    await sink.aclose()
    sink.reopen()
    with pytest.raises(trio.ClosedResourceError):
        await sink.write(event())


async def test_cancelling_the_process_still_writes_what_was_accepted(tmp_path):
    path = tmp_path / "audit.json"
    with trio.CancelScope() as scope:
        async with open_audit_sink(AuditLog(destination="file", path=str(path))) as sink:
            for number in range(50):
                await sink.write(event(number))
            scope.cancel()
            await trio.sleep_forever()
    assert numbers(path.read_bytes()) == list(range(50))


async def test_a_file_is_appended_to_and_private_and_follows_rotation(tmp_path):
    path = tmp_path / "audit.json"
    config = AuditLog(destination="file", path=str(path))
    async with open_audit_sink(config) as sink:
        await sink.write(event(1))
    assert path.stat().st_mode & 0o777 == 0o600
    async with open_audit_sink(config) as sink:
        await sink.write(event(2))
    assert numbers(path.read_bytes()) == [1, 2]
    async with open_audit_sink(config) as sink:
        path.rename(tmp_path / "audit.json.1")
        sink.reopen()
        await sink.write(event(3))
    assert numbers(path.read_bytes()) == [3]
    assert numbers((tmp_path / "audit.json.1").read_bytes()) == [1, 2]


async def test_the_console_is_standard_output(capfd):
    async with open_audit_sink(AuditLog(destination="console")) as sink:
        sink.reopen()
        await sink.write(event(4))
    assert numbers(capfd.readouterr().out.encode()) == [4]
    os.fstat(1)


async def test_a_path_that_can_not_be_opened_is_a_configuration_error(tmp_path):
    config = AuditLog(destination="file", path=str(tmp_path / "no" / "audit.json"))
    with pytest.raises(
        ConfigError, match=r"auditLog.path: can't open .*/no/audit.json: No such file or directory"
    ):
        async with open_audit_sink(config):
            pass


async def test_without_an_audit_log_events_go_nowhere(capfd):
    async with open_audit_sink(None) as sink:
        assert isinstance(sink, DiscardingSink)
        sink.reopen()
        await sink.write(event())
    assert capfd.readouterr().out == ""


# ---- several processes ----------------------------------------------------------------------------------------------


class ShortWrites:
    """A file of a full disk: takes `room` bytes of what it is given, at least one."""

    def __init__(self, path, room):
        self.output = LineOutput(str(path))
        self.room = room

    def write(self, data):
        return self.output.write(data[: self.room])

    def reopen(self):
        self.output.reopen()

    def close(self):
        self.output.close()


WRITER = """
import sys
sys.path[:] = sys.argv[4:]
from mongoguard.server.sinks import LineOutput, TakingTurns
class ShortWrites(LineOutput):
    def write(self, data):
        return super().write(data[:7])
output = TakingTurns(ShortWrites(sys.argv[1]), int(sys.argv[2]))
sys.stdin.readline()
for number in range(300):
    data = f"{sys.argv[3] * 40}{number:05d}\\n".encode()
    while data:
        data = data[output.write(data):]
"""


def test_lines_of_several_processes_are_whole_though_each_is_written_in_pieces(tmp_path):
    path = tmp_path / "audit.json"
    turns = os.memfd_create("turns")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(turns), letter, *sys.path],
            stdin=subprocess.PIPE,
            pass_fds=[turns],
            text=True,
        )
        for letter in "ab"
    ]
    try:
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        assert [writer.wait(60) for writer in writers] == [0, 0]
    finally:
        os.close(turns)
        for writer in writers:
            writer.kill()
            writer.stdin.close()
            writer.wait()
    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(f"{letter * 40}{number:05d}" for letter in "ab" for number in range(300))


def test_an_error_at_the_beginning_of_a_line_gives_the_turn_back(tmp_path):
    turns = os.memfd_create("turns")
    output = TakingTurns(ShortWrites(tmp_path / "a", 3), turns)
    try:
        assert output.write(b"abc\n") == 3
        assert output._in_line
        assert output.write(b"\n") == 1
        assert not output._in_line
        output.close()
        with pytest.raises(OSError):
            output.write(b"x\n")
        assert not output._in_line
    finally:
        os.close(turns)


# ---- counting -------------------------------------------------------------------------------------------------------


async def test_refused_commands_are_counted_whether_or_not_they_are_written():
    sink = CountingSink(DiscardingSink())
    for result in (0, 13, 13, 8000):
        await sink.write(AuditEvent("authCheck", PEER, result=result))
    assert sink.take(AuditEvent("authCheck", PEER, result=13))
    for other in ("authenticate", "logout"):
        assert sink.take(AuditEvent(other, PEER, result=18))
    sink.reopen()
    assert sink.refused == 4


async def test_what_the_sink_does_not_take_at_once_is_counted_when_it_is_written():
    class FullSink(DiscardingSink):
        def take(self, event):
            return False

    sink = CountingSink(FullSink())
    refusal = AuditEvent("authCheck", PEER, result=13)
    assert not sink.take(refusal)
    assert sink.refused == 0
    await sink.write(refusal)
    assert sink.refused == 1
