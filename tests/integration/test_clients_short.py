"""The clients that every machine which runs these tests has, directly and through mongoguard: both find the same.

`tox -e clients` runs the drivers of all languages; docs/differences.md says what PyMongo's own tests find.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import bson
import pytest

from tests.drivers.clients import CLIENTS, WITNESSES, DriverClient
from tests.drivers.exporter import getnonce_reply
from tests.drivers.running import AS_MONGOS, Guarded, Uris, compare, run_client
from tests.missing import CLIENTS as NODE_CLIENTS
from tests.missing import require_node_package
from tests.servers import Guard, Mongod

HERE = {"pymongo", "pymongo async", "node 7", "mongosh"}
SHORT = [client for client in CLIENTS if client.name in HERE]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the table of clients looks for Node's packages."""
    require_node_package("mongodb")
    require_node_package("mongosh")
    folder = tmp_path_factory.mktemp("drivers")
    (folder / "node-7").mkdir()
    (folder / "node-7" / "node_modules").symlink_to(NODE_CLIENTS / "node_modules")
    return folder


def guarded(guard: Guard, mongod: Mongod) -> Guarded:
    if mongod.replica_set:
        return Guarded("set", "set", mongod, guard, {}, lacks=AS_MONGOS)
    return Guarded("standalone", "standalone", mongod, guard, {})


@pytest.mark.parametrize("client", SHORT, ids=lambda client: client.name)
def test_a_client_finds_the_same_directly_and_through_mongoguard(
    guard: Guard, prefix: Path, tmp_path: Path, client: DriverClient
) -> None:
    found = compare(client, guarded(guard, guard.upstream), prefix, tmp_path)
    assert found.differences == ()


def test_a_client_that_fails_is_not_taken_for_one_that_finds_the_same(
    guard_standalone: Guard, standalone: Mongod, prefix: Path, tmp_path: Path
) -> None:
    """Both ends refuse it: the wrong password is used as the right one."""
    (client,) = (one for one in SHORT if one.name == "pymongo")
    deployment = guarded(guard_standalone, standalone)
    wrong, _ = deployment.uris("not-the-password")
    found = run_client(client, Uris(wrong, wrong, wrong), deployment, prefix, tmp_path)
    assert found["exit status"] == "1"
    broken = DriverClient("broken", ("false",), client.parts, client.set_parts)
    assert compare(broken, deployment, prefix, tmp_path).differences


def test_a_client_that_only_says_so_has_no_witness(
    guard_standalone: Guard, standalone: Mongod, tmp_path: Path
) -> None:
    """It prints every part, alike at both ends, and sends nothing."""
    script = f"for part in {sorted(WITNESSES)!r}: print(part + ': done')"
    boaster = DriverClient("boaster", (sys.executable, "-c", script), frozenset(WITNESSES), frozenset())
    found = compare(boaster, guarded(guard_standalone, standalone), tmp_path, tmp_path)
    assert {word.removeprefix("nobody has seen directly: ") for word in found.differences} == {
        witness for needed in WITNESSES.values() for witness in needed
    }


def test_a_command_that_came_by_op_query_is_refused_in_mongods_bytes(guard: Guard) -> None:
    (document, direct), (_, through) = getnonce_reply(guard.upstream), getnonce_reply(guard)
    assert document["code"] == 352
    assert document["codeName"] == "UnsupportedOpQueryCommand"
    assert through == direct


def test_the_raw_reply_leaves_out_nothing_but_its_own_id_and_the_clusters_time(replica_set: Mongod) -> None:
    document, raw = getnonce_reply(replica_set)
    assert struct.unpack_from("<ii", raw) == (7, 1)
    assert bson.decode(raw[-len(bson.encode(document)) :]) == document
    assert set(document) == {"ok", "errmsg", "code", "codeName"}
