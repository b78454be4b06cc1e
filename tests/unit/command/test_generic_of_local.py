"""Generic arguments of commands that are answered here: refused with mongod's codes and texts, in its order."""

from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64, Timestamp

from mongoguard.command.catalog import find_row
from mongoguard.command.generic_of_local import check_generic_of_local
from mongoguard.errors import CommandError
from tests.unit.command.commands import command

LSID = {"id": Binary(bytes(range(16)), 4)}


def check(
    name: str, arguments: dict[str, Any], *, logged_in: bool = True, with_transactions: bool = True
) -> None:
    row = find_row(name)
    assert row is not None
    check_generic_of_local(
        row, command({name: 1, **arguments}), logged_in=logged_in, with_transactions=with_transactions
    )


def refused(name: str, arguments: dict[str, Any], *, with_transactions: bool = True) -> tuple[int, str]:
    with pytest.raises(CommandError) as error:
        check(name, arguments, with_transactions=with_transactions)
    return error.value.code, error.value.errmsg


@pytest.mark.parametrize(
    "name", ["hello", "isMaster", "buildInfo", "connectionStatus", "ping", "startSession"]
)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"lsid": LSID, "comment": "x", "$clusterTime": 5, "apiVersion": "1"},
        {"txnNumber": None, "autocommit": None, "lsid": None},
        {"maxTimeMS": 0},
        {"maxTimeMS": Int64(2**31 - 1)},
        {"maxTimeMS": Decimal128("5.5")},
        {"readConcern": {}},
        {"readConcern": {"level": "local", "afterClusterTime": Timestamp(1, 1)}},
        {"$readPreference": {"mode": "secondaryPreferred"}},
    ],
)
def test_what_drivers_send_passes(name: str, arguments: dict[str, Any]):
    check(name, arguments)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ({"lsid": 1}, 14, "BSON field 'OperationSessionInfo.lsid' is the wrong type 'int', expected type 'object'"),
        ({"txnNumber": 1}, 14, "BSON field 'OperationSessionInfo.txnNumber' is the wrong type 'int', expected type 'long'"),
        ({"startTransaction": 1}, 14, "BSON field 'OperationSessionInfo.startTransaction' is the wrong type"),
        ({"autocommit": 0, "txnNumber": Int64(1)}, 14, "BSON field 'OperationSessionInfo.autocommit' is"),
        ({"lsid": LSID, "txnNumber": Int64(1)}, 50889, "It is illegal to provide a txnNumber for this command"),
        ({"autocommit": True}, 263, "This command is not supported in transactions"),
        ({"lsid": LSID, "txnNumber": Int64(1), "autocommit": False}, 263, "This command is not supported in"),
        ({"maxTimeMS": "x"}, 2, "maxTimeMS must be a number"),
        ({"maxTimeMS": None}, 2, "maxTimeMS must be a number"),
        ({"maxTimeMS": -1}, 2, "-1 value for maxTimeMS is out of range"),
        ({"maxTimeMS": 2**31}, 2, "2147483648 value for maxTimeMS is out of range"),
        ({"maxTimeMS": 1.5}, 2, "maxTimeMS has non-integral value"),
        ({"maxTimeMS": float("nan")}, 2, "maxTimeMS has non-integral value"),
        ({"maxTimeMS": 1e300}, 2, "9223372036854775807 value for maxTimeMS is out of range"),
        ({"$maxTimeMS": 1}, 72, "no such command option $maxTimeMs; use maxTimeMS instead"),
        ({"$readPreference": 1}, 14, "$readPreference has incorrect type: expected object but got int"),
        ({"$tenant": 1}, 72, "Multitenancy not enabled, cannot set $tenant in command body"),
        ({"readConcern": []}, 9, "readConcern field should be an object"),
        ({"readConcern": {"x": 1, "level": 1}}, 72, "Unrecognized option in readConcern: x"),
        ({"readConcern": {"level": None}}, 14, '"level" had the wrong type. Expected string, found null'),
        ({"readConcern": {"level": "x"}}, 9, "readConcern.level must be either 'local', 'majority',"),
        ({"readConcern": {"level": "majority"}}, 72, "Command buildInfo does not support { readConcern: { level: "),
        ({"readConcern": {"atClusterTime": Timestamp(1, 1)}}, 72, "atClusterTime field can be set only if level is"),
        ({"readConcern": {"afterClusterTime": 1}}, 14, '"afterClusterTime" had the wrong type. Expected timestamp'),
        ({"writeConcern": {"w": 1}}, 72, "Command does not support writeConcern"),
    ],
)  # fmt: skip
def test_what_mongod_refuses_is_refused(arguments: dict[str, Any], code: int, text: str):
    found = refused("buildInfo", arguments)
    assert (found[0], found[1][: len(text)]) == (code, text)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ({"txnNumber": Int64(1)}, 72, "Transaction number requires a session ID to also be specified"),
        ({"lsid": LSID, "txnNumber": Int64(-1)}, 72, "Transaction number cannot be negative"),
        ({"autocommit": False}, 72, "'autocommit' field requires a transaction number to also be specified"),
        ({"lsid": LSID, "txnNumber": Int64(1), "autocommit": True}, 72, "Specifying autocommit=true is not"),
        ({"startTransaction": True}, 72, "'startTransaction' field requires 'autocommit' field to also be"),
        (
            {"lsid": LSID, "txnNumber": Int64(1), "autocommit": False, "startTransaction": False},
            72,
            "Specifying startTransaction=false is not allowed.",
        ),
        (
            {"lsid": LSID, "txnNumber": Int64(1), "autocommit": False},
            263,
            "Cannot run 'logout' in a multi-doc",
        ),
        ({"lsid": LSID, "txnNumber": Int64(1)}, 50768, "txnNumber may only be provided for multi-document"),
    ],
)
def test_a_command_that_needs_a_login_is_told_what_is_wrong_with_its_transaction(
    arguments: dict[str, Any], code: int, text: str
):
    found = refused("logout", arguments)
    assert (found[0], found[1][: len(text)]) == (code, text)


def test_a_stranger_begins_no_transaction_that_could_be_malformed():
    check("hello", {"startTransaction": True}, logged_in=False)
    begun = refused("hello", {"startTransaction": True})
    assert begun == (72, "'startTransaction' field requires 'autocommit' field to also be specified")


def test_a_standalone_server_numbers_no_transactions():
    arguments = {"lsid": LSID, "txnNumber": Int64(1)}
    assert refused("startSession", arguments, with_transactions=False)[0] == 20
    after = {"readConcern": {"afterClusterTime": Timestamp(1, 1)}}
    assert refused("hello", after, with_transactions=False)[0] == 20
    check("hello", after)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"writeConcern": 1, "readConcern": 1}, 9),
        ({"readConcern": 1, "maxTimeMS": "x"}, 2),
        ({"maxTimeMS": "x", "$maxTimeMS": 1}, 72),
        ({"$maxTimeMS": 1, "lsid": 1}, 14),
        ({"lsid": 1, "$readPreference": {}}, 4),
        ({"$readPreference": {}, "$tenant": 1}, 72),
    ],
)
def test_the_first_that_mongod_looks_at_is_what_the_refusal_says(arguments: dict[str, Any], code: int):
    assert refused("buildInfo", arguments)[0] == code


@pytest.mark.parametrize("name", ["connectionStatus", "ping"])
@pytest.mark.parametrize("field", ["foo", "help", "$tenant", "$maxTimeMS"])
def test_a_command_that_knows_its_arguments_takes_no_others(name: str, field: str):
    assert refused(name, {field: 1}) == (40415, f"BSON field '{name}.{field}' is an unknown field.")


def test_other_commands_pass_over_what_they_do_not_know():
    for name in ("hello", "buildInfo", "whatsmyuri", "startSession"):
        check(name, {"foo": 1})


@pytest.mark.parametrize(
    ("name", "code"), [("hello", 40472), ("buildInfo", 40472), ("ping", 40415), ("saslStart", 40415)]
)
def test_a_document_sequence_is_refused(name: str, code: int):
    row = find_row(name)
    assert row is not None
    sent = command({name: 1})
    sent.sequences = {"client": [(0, len(bson.encode({})))]}
    with pytest.raises(CommandError) as error:
        check_generic_of_local(row, sent, logged_in=True, with_transactions=True)
    assert error.value.code == code
