"""Laws of the command room: any body is a command with a requirement, or a CommandError; any command can be printed."""

from __future__ import annotations

from mongoguard.command.catalog import find_row
from mongoguard.command.command import Command
from mongoguard.command.generic import check_api_version, generic_denied, generic_requirement
from mongoguard.command.printing import print_command
from mongoguard.command.requirement import requirement_of
from mongoguard.command.spec import Asker
from mongoguard.errors import CommandError, ProtocolError
from mongoguard.model.names import UserName
from mongoguard.observe.access_messages import auth_check
from mongoguard.observe.event import to_json
from mongoguard.proxy.reading import read_command
from mongoguard.wire.message import OpMsg, parse_message
from tests.fuzz.commands import measured_messages
from tests.playbook import PEER
from tests.rawwire import OP_MSG, header

SEEDS = [data[16:] for data in measured_messages()]
_ALICE = Asker(UserName("alice", "t"), frozenset({("read", "t")}))


def check(data: bytes) -> None:
    """A payload of an OP_MSG: everything that is asked of a command before it is decided on."""
    try:
        message = parse_message(header(16 + len(data), OP_MSG) + data)
        assert isinstance(message, OpMsg)
        command = read_command(message)
    except (CommandError, ProtocolError):
        return
    print_command(command)
    _audit(command)
    row = find_row(command.name)
    if row is None:
        return
    try:
        check_api_version(command, row)
        hash((requirement_of(row, command, _ALICE), generic_requirement(command, _ALICE)))
        generic_denied(command, _ALICE)
    except CommandError:
        return


def _audit(command: Command) -> None:
    event = auth_check(PEER, (), (), "x", command.db, body=command.body, result=13, max_bytes=4096)
    assert len(to_json(event, 0.0)) < 16_384
