"""What the configuration limits and opens: addresses, connections, pools, compressors, restrictions, no authorization."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo
import pytest
import yaml
from pymongo.errors import OperationFailure

from mongoguard.server.arrivals import MAX_ARRIVING_PER_ADDRESS
from tests.rawwire import ConnectionEnded, RawConnection, compressed, header, op_msg, sequence_section
from tests.servers import (
    Client,
    Guard,
    connection_string,
    free_port,
    init_upstream,
    password_of,
    run_mongoguard,
)


@contextmanager
def running(guarded: Guard, directory: Path, settings: Mapping[str, Any]) -> Iterator[Guard]:
    """Another mongoguard in front of the same upstream, with settings of its own."""
    guard = Guard(directory, guarded.upstream, settings)
    try:
        yield guard.start().wait()
    finally:
        status = guard.stop()
    assert status == 0
    assert "Traceback" not in guard.log


def refused_to_start(directory: Path, guarded: Guard, settings: Mapping[str, Any]) -> str:
    """The one sentence with which it ends at start; status 2."""
    config = directory / "refused.yaml"
    needed = {"upstream": {"uri": init_upstream(guarded.upstream)}}
    config.write_text(yaml.safe_dump({**needed, **settings}))
    done = run_mongoguard("serve", "-f", str(config))
    assert done.returncode == 2, done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    return sentence


def hello(address: str, **fields: Any) -> dict[str, Any]:
    """The answer to a hello of nobody."""
    with RawConnection(address) as raw:
        return raw.command("admin", {"hello": 1, **fields})


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


# ---- connections ----------------------------------------------------------------------------------------------------


def test_connections_beyond_the_limit_are_closed_and_a_place_given_back_is_taken(
    guard_standalone: Guard, tmp_path: Path
) -> None:
    with (
        running(guard_standalone, tmp_path, {"net": {"maxIncomingConnections": 2}}) as guard,
        RawConnection(guard.address) as first,
        RawConnection(guard.address) as second,
    ):
        for raw in (first, second):
            assert raw.command("admin", {"hello": 1})["ok"] == 1
        with RawConnection(guard.address) as third:
            assert third.is_closed_by_peer()
        assert first.command("admin", {"hello": 1})["ok"] == 1, "the others notice nothing"
        assert "net.maxIncomingConnections is reached" in guard.log

        def serves() -> bool:
            with contextlib.suppress(ConnectionEnded, ConnectionError):
                return bool(hello(guard.address)["ok"])
            return False

        second.close()
        assert within(5, serves)


@contextlib.contextmanager
def many_descriptors() -> Iterator[None]:
    """This process may open as many sockets as the machine lets it: often 1,024 are the most unasked."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def test_an_address_that_only_connects_is_refused_more_and_those_served_notice_nothing(
    guard_standalone: Guard, tmp_path: Path
) -> None:
    with (
        running(guard_standalone, tmp_path, {"net": {"bindIp": "127.0.0.1"}}) as guard,
        many_descriptors(),
        RawConnection(guard.address) as served,
        contextlib.ExitStack() as silent,
    ):
        assert served.command("admin", {"hello": 1})["ok"] == 1
        for _ in range(MAX_ARRIVING_PER_ADDRESS):
            silent.enter_context(socket.create_connection(("127.0.0.1", guard.port), 5))
        with RawConnection(guard.address) as one_more:
            assert one_more.is_closed_by_peer()
        assert served.command("admin", {"hello": 1})["ok"] == 1
        with socket.socket() as elsewhere:
            elsewhere.settimeout(5)
            elsewhere.bind(("127.0.0.2", 0))
            elsewhere.connect(("127.0.0.1", guard.port))
            elsewhere.sendall(op_msg({"hello": 1, "$db": "admin"}))
            assert elsewhere.recv(4), "another address arrives"
        assert (
            f"{MAX_ARRIVING_PER_ADDRESS} connections of 127.0.0.1, or its /64, have sent no message"
            in guard.log
        )
        silent.close()
        assert within(5, lambda: _is_served(guard))


def _is_served(guard: Guard) -> bool:
    with contextlib.suppress(ConnectionEnded, ConnectionError):
        return bool(hello(guard.address)["ok"])
    return False


# ---- where it listens -----------------------------------------------------------------------------------------------


def test_two_addresses_serve_on_one_port_and_a_third_does_not(
    guard_standalone: Guard, tmp_path: Path
) -> None:
    with running(guard_standalone, tmp_path, {"net": {"bindIp": "127.0.0.1,127.0.0.2"}}) as guard:
        for host in ("127.0.0.1", "127.0.0.2"):
            assert hello(f"{host}:{guard.port}")["ok"] == 1
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.3", guard.port), 5)
        assert f"listening on 127.0.0.1:{guard.port}, 127.0.0.2:{guard.port} (pid" in guard.log


def test_any_free_port_is_the_same_on_every_address(guard_standalone: Guard, tmp_path: Path) -> None:
    settings = {"net": {"port": 0, "bindIp": "127.0.0.1,127.0.0.2"}}
    with running(guard_standalone, tmp_path, settings) as guard:
        found = re.search(r"listening on 127\.0\.0\.1:(\d+), 127\.0\.0\.2:(\d+) ", guard.log)
        assert found is not None
        assert found[1] == found[2] != "0"
        assert hello(f"127.0.0.2:{found[2]}")["ok"] == 1


def test_one_address_under_two_names_is_listened_on_once_and_ipv6_only_when_asked_for(
    guard_standalone: Guard, tmp_path: Path
) -> None:
    with running(guard_standalone, tmp_path, {"net": {"bindIp": "localhost,127.0.0.1"}}) as guard:
        assert f"listening on 127.0.0.1:{guard.port} (pid" in guard.log
        assert hello(guard.address)["ok"] == 1


def has_ipv6() -> bool:
    """Whether this machine has ::1."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6_serves_beside_ipv4(guard_standalone: Guard, tmp_path: Path) -> None:
    settings = {"net": {"ipv6": True, "bindIp": "127.0.0.1,::1"}}
    with running(guard_standalone, tmp_path, settings) as guard:
        assert f"listening on 127.0.0.1:{guard.port}, [::1]:{guard.port} (pid" in guard.log
        uri = f"mongodb://reader:{password_of('reader')}@[::1]:{guard.port}/"
        with pymongo.MongoClient[dict[str, Any]](uri) as client:
            assert "::1" in client.admin.command("whatsmyuri")["you"]
            client.shop.orders.find_one()
            with pytest.raises(OperationFailure, match="not authorized"):
                client.shop.orders.insert_one({})
        assert hello(guard.address)["ok"] == 1


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_every_address_of_both_families_is_a_star_with_ipv6(guard_standalone: Guard, tmp_path: Path) -> None:
    with running(guard_standalone, tmp_path, {"net": {"ipv6": True, "bindIp": "*"}}) as guard:
        for host in ("127.0.0.1", "127.0.0.5", "::1"):
            assert hello(f"{host}:{guard.port}")["ok"] == 1
        assert "without TLS: traffic can be read" in guard.log


def test_an_address_in_use_is_named(guard_standalone: Guard, tmp_path: Path) -> None:
    port = guard_standalone.port
    sentence = refused_to_start(tmp_path, guard_standalone, {"net": {"port": port}})
    assert sentence.startswith(f"mongoguard: net.bindIp, net.port: cannot listen on 127.0.0.1:{port}: ")


def test_a_name_that_no_host_has_is_named(guard_standalone: Guard, tmp_path: Path) -> None:
    settings = {"net": {"port": free_port(), "bindIp": "127.0.0.1,no-such-host.invalid"}}
    sentence = refused_to_start(tmp_path, guard_standalone, settings)
    assert sentence.startswith("mongoguard: net.bindIp: no-such-host.invalid cannot be resolved: ")


# ---- Unix sockets ---------------------------------------------------------------------------------------------------


def unix_settings(directory: Path, **fields: Any) -> dict[str, Any]:
    """A listener in that directory."""
    return {"net": {"unixDomainSocket": {"enabled": True, "pathPrefix": str(directory), **fields}}}


def unix_client(path: Path, user: str) -> Client:
    """A PyMongo client of that socket."""
    return pymongo.MongoClient(connection_string(quote(str(path), safe=""), user, None, {}))


def connects(path: Path) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@pytest.mark.parametrize(("given", "mode"), [({}, 0o700), ({"filePermissions": 0o660}, 0o660)])
def test_a_unix_socket_has_the_permissions_asked_for(
    guard_standalone: Guard, tmp_path: Path, given: dict[str, int], mode: int
) -> None:
    with running(guard_standalone, tmp_path, unix_settings(tmp_path, **given)) as guard:
        path = tmp_path / f"mongodb-{guard.port}.sock"
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert connects(path)
    assert not path.exists()


def test_a_unix_socket_that_all_may_use_is_warned_of(guard_standalone: Guard, tmp_path: Path) -> None:
    with running(guard_standalone, tmp_path, unix_settings(tmp_path, filePermissions=0o777)) as guard:
        assert "filePermissions lets every local account connect" in guard.log


def test_the_file_of_a_socket_that_nobody_serves_is_replaced(guard_standalone: Guard, tmp_path: Path) -> None:
    port = free_port()
    path = tmp_path / f"mongodb-{port}.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    settings = unix_settings(tmp_path)
    settings["net"]["port"] = port
    with running(guard_standalone, tmp_path, settings):
        assert connects(path)


def test_a_socket_that_somebody_serves_is_left_alone(guard_standalone: Guard, tmp_path: Path) -> None:
    path = tmp_path / "served.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        sentence = refused_to_start(tmp_path, guard_standalone, {"net": {"bindIp": str(path)}})
        assert sentence.startswith(f"mongoguard: net.unixDomainSocket: cannot listen on {path}: ")
        assert connects(path)


def test_a_file_that_is_no_socket_is_left_alone(guard_standalone: Guard, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("precious")
    refused_to_start(tmp_path, guard_standalone, {"net": {"bindIp": str(path)}})
    assert path.read_text() == "precious"


def test_a_unix_socket_alone_serves_without_a_port(guard_standalone: Guard, tmp_path: Path) -> None:
    path = tmp_path / "only.sock"
    with running(guard_standalone, tmp_path, {"net": {"bindIp": str(path)}}) as guard:
        with unix_client(path, "reader") as client:
            client.shop.orders.find_one()
            with pytest.raises(OperationFailure, match="not authorized"):
                client.shop.orders.insert_one({})
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", guard.port), 5)


# ---- what a hello says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("present_as", ["standalone", "mongos"])
def test_a_hello_says_what_it_was_told_to(guard: Guard, tmp_path: Path, present_as: str) -> None:
    with running(guard, tmp_path, {"net": {"presentAs": present_as}}) as own:
        reply = hello(own.address)
        assert reply.get("msg") == ("isdbgrid" if present_as == "mongos" else None)
        assert not {"setName", "hosts", "me", "primary"} & set(reply)
        # Drivers expect retryable writes of a mongos; a standalone upstream has none, whatever the hello says.
        with own.client(retryWrites="true" if own.upstream.replica_set else "false") as client:
            client.limits.things.insert_one({})
            assert client.limits.things.count_documents({}) == 1
            client.limits.things.drop()
            assert client.topology_description.topology_type_name == (
                "Sharded" if present_as == "mongos" else "Single"
            )


@pytest.mark.parametrize("said", ["disabled", "zlib"])
def test_compressors_are_negotiated_as_configured(guard_standalone: Guard, tmp_path: Path, said: str) -> None:
    with running(guard_standalone, tmp_path, {"net": {"compression": {"compressors": said}}}) as guard:
        reply = hello(guard.address, compression=["snappy", "zstd", "zlib"])
        assert reply.get("compression") == (None if said == "disabled" else ["zlib"])
        with guard.client("reader", compressors="zlib") as client:
            client.shop.orders.find_one()


# ---- the pid file ---------------------------------------------------------------------------------------------------


def test_the_pid_file_holds_the_pid_and_goes_with_the_process(
    guard_standalone: Guard, tmp_path: Path
) -> None:
    path = tmp_path / "mongoguard.pid"
    with running(guard_standalone, tmp_path, {"processManagement": {"pidFilePath": str(path)}}) as guard:
        assert path.read_text() == f"{guard.pid}\n"
    assert not path.exists()


def test_a_pid_file_that_can_not_be_written_is_named(guard_standalone: Guard, tmp_path: Path) -> None:
    path = tmp_path / "nosuch" / "mongoguard.pid"
    settings = {"net": {"port": free_port()}, "processManagement": {"pidFilePath": str(path)}}
    sentence = refused_to_start(tmp_path, guard_standalone, settings)
    assert sentence == (
        f"mongoguard: processManagement.pidFilePath: cannot write {path}: No such file or directory"
    )


# ---- authentication restrictions ------------------------------------------------------------------------------------


@pytest.fixture
def restricted(guard_standalone: Guard) -> Iterator[Callable[..., Any]]:
    """Give the user limits_user these restrictions; the user is there at first without any."""
    with guard_standalone.client() as root:
        root.admin.command(
            "createUser",
            "limits_user",
            pwd=password_of("limits_user"),
            roles=[{"role": "read", "db": "shop"}],
        )
        try:
            yield lambda *restrictions: root.admin.command(
                "updateUser", "limits_user", authenticationRestrictions=list(restrictions)
            )
        finally:
            root.admin.command("dropUser", "limits_user")
            with contextlib.suppress(OperationFailure):
                root.admin.command("dropRole", "limits_role")


def logs_in(address: str) -> bool:
    """Whether limits_user may log in there, and then reads."""
    with RawConnection(address) as raw:
        try:
            raw.log_in("limits_user", password_of("limits_user"))
        except AssertionError:
            return False
        assert raw.command("shop", {"find": "orders"})["ok"] == 1
        return True


@pytest.mark.parametrize(
    ("restrictions", "expected"),
    [
        ([{"clientSource": ["127.0.0.1"]}], (True, True)),
        ([{"clientSource": ["127.0.0.0/8"], "serverAddress": ["127.0.0.2"]}], (False, True)),
        ([{"serverAddress": ["127.0.0.1", "127.0.0.2"]}], (True, True)),
        ([{"clientSource": ["192.0.2.0/24"]}], (False, False)),
        ([{"clientSource": ["192.0.2.0/24"]}, {"serverAddress": ["127.0.0.1"]}], (True, False)),
        ([{"clientSource": ["127.0.0.1"], "serverAddress": ["192.0.2.1"]}], (False, False)),
        ([{"clientSource": ["::1"]}], (False, False)),
    ],
)
def test_restrictions_decide_from_where_and_to_which_address_one_logs_in(
    guard_standalone: Guard,
    two_addresses: Guard,
    restricted: Callable[..., Any],
    restrictions: list[dict[str, list[str]]],
    expected: tuple[bool, bool],
) -> None:
    assert within(4, lambda: logs_in(f"127.0.0.1:{two_addresses.port}")), "it may know the last test's user"
    restricted(*restrictions)
    found = []
    for host, wanted in zip(("127.0.0.1", "127.0.0.2"), expected, strict=True):
        # Changed through another mongoguard, so it holds here within userCacheInvalidationIntervalSecs.
        within(4, lambda host=host, wanted=wanted: logs_in(f"{host}:{two_addresses.port}") is wanted)  # type: ignore[misc]
        found.append(logs_in(f"{host}:{two_addresses.port}"))
    assert tuple(found) == expected


@pytest.fixture(scope="module")
def two_addresses(guard_standalone: Guard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """mongoguard on two addresses, with a user cache of one second, and a Unix socket."""
    directory = tmp_path_factory.mktemp("two_addresses")
    settings = {
        "net": {"bindIp": f"127.0.0.1,127.0.0.2,{directory}/guard.sock"},
        "security": {"userCacheInvalidationIntervalSecs": 1},
    }
    with running(guard_standalone, directory, settings) as guard:
        yield guard


def test_a_restriction_is_not_met_over_a_unix_socket(
    two_addresses: Guard, restricted: Callable[..., Any]
) -> None:
    def logs_in_there() -> bool:
        with unix_client(two_addresses.directory / "guard.sock", "limits_user") as client:
            try:
                client.shop.orders.find_one()
            except OperationFailure as error:
                assert error.code == 18
                return False
            return True

    assert within(4, logs_in_there)
    restricted({"clientSource": ["0.0.0.0/0", "::/0"]})
    assert within(4, lambda: not logs_in_there())


def test_a_restriction_added_logs_out_at_the_next_command(
    guard_standalone: Guard, restricted: Callable[..., Any]
) -> None:
    find = {"find": "orders"}
    with RawConnection(guard_standalone.address) as raw:
        raw.log_in("limits_user", password_of("limits_user"))
        assert raw.command("shop", find)["ok"] == 1
        restricted({"clientSource": ["127.0.0.1"]})
        assert raw.command("shop", find)["ok"] == 1, "a restriction that is met changes nothing"
        restricted({"clientSource": ["192.0.2.1"]})
        refused = raw.command("shop", find)
        assert (refused["code"], refused["errmsg"]) == (13, "command find requires authentication")
        restricted()
        assert raw.command("shop", find)["code"] == 13, "logged out stays logged out"
        raw.log_in("limits_user", password_of("limits_user"))
        assert raw.command("shop", find)["ok"] == 1


def test_a_restriction_of_a_role_granted_logs_out_at_the_next_command(
    guard_standalone: Guard, restricted: Callable[..., Any]
) -> None:
    with RawConnection(guard_standalone.address) as raw, guard_standalone.client() as root:
        raw.log_in("limits_user", password_of("limits_user"))
        assert raw.command("shop", {"find": "orders"})["ok"] == 1
        unmet = [{"clientSource": ["192.0.2.1"]}]
        root.admin.command(
            "createRole", "limits_role", privileges=[], roles=[], authenticationRestrictions=unmet
        )
        root.admin.command("grantRolesToUser", "limits_user", roles=["limits_role"])
        assert raw.command("shop", {"find": "orders"})["code"] == 13
    assert not logs_in(guard_standalone.address)


def test_a_change_made_past_mongoguard_reaches_live_connections_that_a_login_overtook(
    two_addresses: Guard, restricted: Callable[..., Any]
) -> None:
    """The login asks the directory first; the refresh that follows must still tell the older connections."""
    with RawConnection(two_addresses.address) as raw, two_addresses.upstream.client() as direct:
        raw.log_in("limits_user", password_of("limits_user"))
        assert raw.command("shop", {"find": "orders"})["ok"] == 1
        direct.admin.command("revokeRolesFromUser", "limits_user", roles=[{"role": "read", "db": "shop"}])

        def overtaken() -> bool:
            with RawConnection(two_addresses.address) as other:
                other.log_in("limits_user", password_of("limits_user"))
                return bool(raw.command("shop", {"find": "orders"}).get("code") == 13)

        assert within(4, overtaken)


# ---- no authorization -----------------------------------------------------------------------------------------------


def test_without_authorization_everything_is_allowed_and_logins_are_still_verified(
    guard_standalone: Guard, tmp_path: Path
) -> None:
    settings = {"security": {"authorization": "disabled"}}
    with running(guard_standalone, tmp_path, settings) as guard:
        assert "security.authorization is disabled" in guard.log
        with guard.client(None) as nobody:
            nobody.limits.things.insert_one({"_id": 1})
            assert nobody.limits.things.find_one() == {"_id": 1}
            assert "limits" in nobody.list_database_names()
            assert nobody.limits.list_collection_names() == ["things"]
        with guard.client("reader") as reader:
            reader.limits.things.insert_one({"_id": 2})
            reader.limits.things.drop()
        for name, password in (("reader", "wrong"), ("stranger", "stranger-pw")):
            with guard.client(name, password) as client, pytest.raises(OperationFailure) as refused:
                client.limits.things.find_one()
            assert refused.value.code == 18
        with RawConnection(guard.address) as raw:
            assert raw.command("admin", {"noSuchCommand": 1})["code"] == 59
    assert "security.authorization is disabled" not in guard_standalone.log


# ---- the upstream pool ----------------------------------------------------------------------------------------------


def slow(milliseconds: int) -> dict[str, Any]:
    """A query that takes that long over one document."""
    return {"find": "one", "filter": {"$where": f"sleep({milliseconds}) || true"}}


@pytest.fixture
def one_document(guard_standalone: Guard) -> Iterator[None]:
    """limits.one holds one document."""
    with guard_standalone.client() as root:
        root.limits.one.drop()
        root.limits.one.insert_one({"_id": 1})
        yield
        root.limits.one.drop()


def test_a_full_pool_makes_requests_wait_and_then_fail(
    guard_standalone: Guard, one_document: None, tmp_path: Path
) -> None:
    upstream = {
        "uri": init_upstream(guard_standalone.upstream),
        "maxPoolSize": 1,
        "waitQueueTimeoutMS": 500,
    }
    with (
        running(guard_standalone, tmp_path, {"upstream": upstream}) as guard,
        guard_standalone.upstream.client() as direct,
        RawConnection(guard.address) as first,
        RawConnection(guard.address) as second,
    ):
        for raw in (first, second):
            raw.log_in("root", password_of("root"))

        def beside(milliseconds: int) -> dict[str, Any]:
            """The answer to a second request while the first one takes that long."""
            replies: list[dict[str, Any]] = []
            thread = threading.Thread(
                target=lambda: replies.append(first.command("limits", slow(milliseconds)))
            )
            thread.start()
            assert within(5, lambda: bool(_running(direct)))
            answer = second.command("limits", {"find": "one"})
            thread.join(30)
            assert replies[0]["ok"] == 1
            return answer

        assert beside(200)["ok"] == 1
        refused = beside(3000)
        assert (refused["code"], refused["codeName"]) == (6, "HostUnreachable")
        assert refused["errmsg"].startswith("mongoguard cannot reach the upstream: all connections ")
        assert "127.0.0.1" not in refused["errmsg"], "where the server is, is the administrator's to know"
        assert f"all 1 connections to {guard_standalone.upstream.address} are busy" in guard.log
        assert second.command("limits", {"find": "one"})["ok"] == 1, "the place is free again"


def _running(direct: Any) -> list[dict[str, Any]]:
    stages: list[dict[str, Any]] = [{"$currentOp": {"allUsers": True}}, {"$match": {"ns": "limits.one"}}]
    return list(direct.admin.aggregate(stages))


# ---- deadlines ------------------------------------------------------------------------------------------------------


def test_who_says_nothing_or_half_a_message_is_closed_in_time(
    guard_standalone: Guard, tmp_path: Path
) -> None:
    settings = {"net": {"handshakeTimeoutSecs": 1, "messageTimeoutSecs": 1}}
    message = op_msg({"hello": 1, "$db": "admin"})
    with (
        running(guard_standalone, tmp_path, settings) as guard,
        RawConnection(guard.address) as silent,
        RawConnection(guard.address) as half,
        RawConnection(guard.address) as late,
        RawConnection(guard.address) as idle,
    ):
        half.send(message[:20])
        for raw in (late, idle):
            assert raw.exchange(message).document["ok"] == 1
        late.send(message + message[:20])
        assert late.receive().document["ok"] == 1
        for raw in (silent, half, late):
            assert raw.is_closed_by_peer()
        assert idle.exchange(message).document["ok"] == 1, "who has spoken may be silent"
        assert guard.log.count("a message did not arrive whole in time") >= 1
        assert guard.log.count("no message came in time") >= 1


def test_a_large_message_is_decompressed_and_its_answer_compressed(guard_standalone: Guard) -> None:
    with RawConnection(guard_standalone.address) as raw:
        raw.log_in("root", password_of("root"))
        text = os.urandom(300_000).hex()
        insert = op_msg({"insert": "large", "documents": [{"_id": 1, "t": text}], "$db": "limits"})
        assert raw.exchange(compressed(insert)).decompressed().document["ok"] == 1
        found = raw.exchange(compressed(op_msg({"find": "large", "$db": "limits"}))).decompressed().document
        assert found["cursor"]["firstBatch"] == [{"_id": 1, "t": text}]
        assert raw.command("limits", {"drop": "large"})["ok"] == 1


# ---- connections of a user ------------------------------------------------------------------------------------------


def test_a_user_has_so_many_connections_and_one_more_is_refused_like_a_wrong_password(
    guard_standalone: Guard, tmp_path: Path
) -> None:
    audit = tmp_path / "audit.json"
    settings = {
        "net": {"maxConnectionsPerUser": 2},
        "auditLog": {"destination": "file", "path": str(audit)},
    }
    with running(guard_standalone, tmp_path / "guard", settings) as guard, contextlib.ExitStack() as stack:

        def connect(user: str, password: str | None = None) -> RawConnection:
            raw = stack.enter_context(RawConnection(guard.address))
            raw.log_in(user, password or password_of(user))
            return raw

        kept = [connect("reader"), connect("reader")]
        with pytest.raises(AssertionError) as too_many:
            connect("reader")
        with pytest.raises(AssertionError) as wrong:
            connect("app", "wrong")
        assert str(too_many.value) == str(wrong.value)
        connect("app")
        assert all(raw.command("shop", {"count": "orders"})["ok"] == 1 for raw in kept)
        assert kept[0].command("admin", {"logout": 1})["ok"] == 1
        connect("reader")
        kept[1].close()

        def logs_in() -> bool:
            with contextlib.suppress(AssertionError):
                connect("reader")
                return True
            return False

        assert within(10, logs_in)
    assert audit.read_text().count("net.maxConnectionsPerUser is reached") >= 1


# ---- large and slow -------------------------------------------------------------------------------------------------


def resident_mb(pid: int) -> float:
    """The memory of a process that is in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.fixture
def megabytes(guard_standalone: Guard) -> Iterator[None]:
    """limits.megabytes has 60 documents of 1 MB."""
    with guard_standalone.upstream.client() as root:
        root.limits.megabytes.drop()
        for number in range(60):
            root.limits.megabytes.insert_one({"_id": number, "b": os.urandom(1_000_000)})
        yield
        root.limits.megabytes.drop()


def highest_resident_mb(guard: Guard, seconds: float) -> float:
    """For so long; others are served meanwhile."""
    highest = 0.0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        highest = max(highest, resident_mb(guard.pid))
        with RawConnection(guard.address) as other:
            assert other.command("admin", {"hello": 1})["ok"] == 1
        time.sleep(0.2)
    return highest


def clients_of_root(guard: Guard, count: int, stack: contextlib.ExitStack) -> list[RawConnection]:
    """Logged in, and served once."""
    clients = [stack.enter_context(RawConnection(guard.address)) for _ in range(count)]
    for raw in clients:
        raw.log_in("root", password_of("root"))
        assert raw.command("admin", {"ping": 1})["ok"] == 1
    return clients


FIND_MEGABYTES = op_msg({"find": "megabytes", "batchSize": 60, "$db": "limits"})
"""The reply has 16 MB."""


@pytest.mark.parametrize("at_once", [1, 20])
def test_clients_that_read_nothing_hold_next_to_no_memory(
    guard_standalone: Guard, megabytes: None, tmp_path: Path, at_once: int
) -> None:
    """The server waits for them, as it would if they had asked it directly; the second request for the first reply."""
    with running(guard_standalone, tmp_path, {}) as guard, contextlib.ExitStack() as stack:
        clients = clients_of_root(guard, 16, stack)
        before = resident_mb(guard.pid)
        for raw in clients:
            raw.send(FIND_MEGABYTES * at_once)
        assert highest_resident_mb(guard, 4) - before < 16 * 3, "what a pipe holds, and a piece of a reply"
        for raw in (clients[0], clients[-1]):
            reply = raw.receive().document
            assert len(reply["cursor"]["firstBatch"]) >= 15, "whoever reads at last gets it whole"


def test_a_client_that_sends_faster_than_the_upstream_takes_is_slowed_down(
    guard_standalone: Guard, one_document: None, tmp_path: Path
) -> None:
    """While one command runs, what the client sends behind it stays in its own buffers and the kernel's."""
    with running(guard_standalone, tmp_path, {}) as guard, RawConnection(guard.address, 60) as raw:
        raw.log_in("root", password_of("root"))
        before = resident_mb(guard.pid)
        raw.send(op_msg({**slow(3000), "$db": "limits"}))
        insert = op_msg({"insert": "sent", "documents": [{"b": b"x" * 1_000_000}], "$db": "limits"})
        sent = threading.Thread(target=lambda: raw.send(insert * 80))
        sent.start()
        time.sleep(1.5)
        assert sent.is_alive(), "the client waits"
        assert resident_mb(guard.pid) - before < 40
        replies = [raw.receive().document for _ in range(81)]
        sent.join(30)
        assert all(reply["ok"] == 1 for reply in replies)
        assert raw.command("limits", {"drop": "sent"})["ok"] == 1


def test_the_first_message_after_a_login_may_be_long_and_after_a_logout_not(guard_standalone: Guard) -> None:
    long = {"_id": 1, "padding": "x" * 200_000}
    with RawConnection(guard_standalone.address) as raw:
        raw.log_in("root", password_of("root"))
        reply = raw.command("limits", {"insert": "long"}, sequence_section("documents", [long]))
        assert reply["ok"] == 1.0, reply
        assert raw.command("limits", {"drop": "long"})["ok"] == 1.0
        assert raw.command("admin", {"logout": 1})["ok"] == 1.0
        with pytest.raises((ConnectionEnded, ConnectionError)):
            raw.command("limits", {"insert": "long"}, sequence_section("documents", [long]))


def test_a_message_of_48_mb_passes_and_replies_of_16_mb_and_a_longer_message_does_not(
    guard_standalone: Guard,
) -> None:
    """Three documents of almost 16 MB in one message; back they come one by one, for no batch of mongod is longer."""
    with RawConnection(guard_standalone.address, 60) as raw:
        raw.log_in("root", password_of("root"))
        hello = raw.command("admin", {"hello": 1})
        most = hello["maxMessageSizeBytes"]
        size = 15_900_000
        documents = [{"_id": n, "b": os.urandom(size)} for n in range(3)]
        section = sequence_section("documents", documents)
        message = op_msg({"insert": "huge", "$db": "limits"}, section)
        assert 47_000_000 < len(message) < most
        try:
            done = raw.exchange(message).document
            assert (done["n"], done["ok"]) == (3, 1.0)
            for document in documents:
                found = raw.command("limits", {"find": "huge", "filter": {"_id": document["_id"]}})
                assert found["cursor"]["firstBatch"] == [document]
            cursor = raw.command("limits", {"find": "huge", "batchSize": 0})["cursor"]["id"]
            more = raw.command("limits", {"getMore": cursor, "collection": "huge"})["cursor"]["nextBatch"]
            assert more == documents[: len(more)]
            assert len(more) >= 1
            assert raw.command("limits", {"count": "huge"})["n"] == 3
        finally:
            raw.command("limits", {"drop": "huge"})
        with RawConnection(guard_standalone.address, 60) as longer:
            longer.log_in("root", password_of("root"))
            with contextlib.suppress(OSError):
                longer.send(header(48_000_001, 2013) + b"\0" * 1000)
            assert longer.is_closed_by_peer()
