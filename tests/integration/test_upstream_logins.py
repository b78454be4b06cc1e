"""Every way in which mongoguard reaches its upstream: mechanisms, TLS, Unix sockets, no login, a service user without
the right to impersonate."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from bson import Binary, Int64
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from mongoguard.cli.user import user_entry
from mongoguard.config.secret import Secret
from mongoguard.errors import UpstreamUnavailable
from mongoguard.model.names import RoleName
from mongoguard.server.upstream_connection import open_upstream_connection
from mongoguard.server.upstream_uri import read_upstream_uri
from tests.certificates import Authority
from tests.rawwire import RawConnection
from tests.servers import Client, Guard, Mongod, free_port, init_upstream, password_of, run_mongoguard

SERVICE = "logins_service"
FALL_BACK = "the upstream refuses impersonation"


@contextmanager
def running(directory: Path, mongod: Mongod, settings: Mapping[str, Any]) -> Iterator[Guard]:
    """mongoguard with these settings; nothing of it may have gone wrong at the end."""
    guard = Guard(directory, mongod, settings)
    try:
        yield guard.start().wait()
    finally:
        status = guard.stop()
    assert status == 0
    assert "Traceback" not in guard.log


def upstream(uri: str, **fields: Any) -> dict[str, Any]:
    """The configuration of an upstream."""
    return {"upstream": {"uri": uri, **fields}}


def assert_serves(guard: Guard) -> None:
    """A user does what it may and nothing else."""
    with guard.client() as root:
        root.logins.things.insert_one({"a": 1})
        assert root.logins.things.count_documents({}) >= 1
        root.logins.things.drop()
    with RawConnection(guard.address) as nobody:
        assert nobody.command("logins", {"find": "things"})["code"] == 13


# ---- SCRAM ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(standalone: Mongod) -> Mongod:
    """`standalone` with a service user for each mechanism; the role is the one that init-upstream makes."""
    init_upstream(standalone)
    with standalone.client() as root:
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
            root.admin.command(
                "createUser",
                f"{SERVICE}-{mechanism}",
                pwd=password_of(SERVICE),
                roles=["mongoguardService"],
                mechanisms=[mechanism],
            )
    return standalone


def service_uri(mongod: Mongod, mechanism: str, **options: str) -> str:
    """The URI of the user that has this mechanism only."""
    return mongod.uri(f"{SERVICE}-{mechanism}", password_of(SERVICE), **options)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
@pytest.mark.parametrize("said", [True, False], ids=["in the URI", "negotiated"])
def test_mongoguard_logs_in_with(mechanism: str, said: bool, service: Mongod, tmp_path: Path) -> None:
    options = {"authMechanism": mechanism} if said else {}
    with running(tmp_path, service, upstream(service_uri(service, mechanism, **options))) as guard:
        assert_serves(guard)


def test_a_mechanism_that_the_service_user_has_not_ends_it_with_one_sentence(
    service: Mongod, tmp_path: Path
) -> None:
    uri = service_uri(service, "SCRAM-SHA-1", authMechanism="SCRAM-SHA-256")
    sentence = fails_to_start(tmp_path, uri)
    assert "Authentication failed" in sentence


def test_a_service_user_of_another_database_is_found_by_auth_source(service: Mongod, tmp_path: Path) -> None:
    with service.client() as root:
        root.logins_db.command(
            "createUser",
            "svc",
            pwd=password_of("svc"),
            roles=[{"role": "mongoguardService", "db": "admin"}],
        )
    try:
        uri = service.uri("svc", authSource="logins_db")
        with running(tmp_path / "source", service, upstream(uri)) as guard:
            assert_serves(guard)
        with running(
            tmp_path / "path", service, upstream(service.uri("svc").replace("/?", "/logins_db"))
        ) as guard:
            assert_serves(guard)
    finally:
        with service.client() as root:
            root.logins_db.command("dropUser", "svc")


def test_a_password_with_every_special_character_is_taken_from_the_uri(
    service: Mongod, tmp_path: Path
) -> None:
    password = "p:/?#[]@!$&'()*+,;=% ü\"\\"
    with service.client() as root:
        root.admin.command("createUser", "special", pwd=password, roles=["mongoguardService"])
    try:
        with running(tmp_path, service, upstream(service.uri("special", password))) as guard:
            assert_serves(guard)
            assert password not in guard.log
    finally:
        with service.client() as root:
            root.admin.command("dropUser", "special")


def test_a_uri_with_a_replica_sets_name_finds_its_primary(replica_set: Mongod, tmp_path: Path) -> None:
    uri = init_upstream(replica_set)
    assert "replicaSet=rs0" in uri
    with running(tmp_path, replica_set, upstream(uri)) as guard:
        assert_serves(guard)


def test_a_uri_with_another_replica_sets_name_ends_it_with_one_sentence(
    replica_set: Mongod, tmp_path: Path
) -> None:
    uri = init_upstream(replica_set).replace("replicaSet=rs0", "replicaSet=rs1")
    sentence = fails_to_start(tmp_path, uri, serverSelectionTimeoutMS=1000)
    assert sentence.startswith("mongoguard: no upstream server takes writes (")


def test_the_upstream_is_reached_over_a_unix_socket(standalone: Mongod, tmp_path: Path) -> None:
    address = f"%2Ftmp%2Fmongodb-{standalone.port}.sock"
    uri = init_upstream(standalone).replace(standalone.address, address)
    assert address in uri
    with running(tmp_path, standalone, upstream(uri)) as guard:
        assert_serves(guard)


# ---- failing to start -----------------------------------------------------------------------------------------------


def serve(directory: Path, uri: str, **fields: Any) -> subprocess.CompletedProcess[str]:
    """`mongoguard serve` to its end."""
    config = directory / "failing.yaml"
    config.write_text(yaml.safe_dump({"net": {"port": free_port()}, **upstream(uri, **fields)}))
    return run_mongoguard("serve", "-f", str(config))


def fails_to_start(directory: Path, uri: str, status: int = 1, **fields: Any) -> str:
    """The one sentence with which it ends; it holds no secret."""
    done = serve(directory, uri, **fields)
    assert done.returncode == status, done.stderr
    assert "-pw" not in done.stdout + done.stderr
    assert done.stdout == ""
    (sentence,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    return sentence


def test_a_wrong_password_ends_it_with_one_sentence(service: Mongod, tmp_path: Path) -> None:
    sentence = fails_to_start(tmp_path, service.uri(f"{SERVICE}-SCRAM-SHA-256", "canary-pw"))
    assert sentence == (
        f"mongoguard: {service.address}: login of {SERVICE}-SCRAM-SHA-256@admin with SCRAM-SHA-256 was refused: "
        "(18) Authentication failed."
    )


def test_an_unknown_service_user_ends_it_with_one_sentence(service: Mongod, tmp_path: Path) -> None:
    assert "login of nosuch@admin" in fails_to_start(tmp_path, service.uri("nosuch"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("authMechanism=GSSAPI", "GSSAPI"),
        ("authMechanism=SCRAM-SHA-256", "SCRAM"),
        ("tls=true&tlsCAFile=/nosuch/ca.pem", "/nosuch/ca.pem"),
        ("maxPoolSize=many", "maxPoolSize"),
        ("tls=true&tlsInsecure=true&tlsAllowInvalidHostnames=true", "tlsInsecure"),
    ],
)
def test_an_upstream_uri_that_can_not_be_used_is_a_configuration_error(
    options: str, told: str, tmp_path: Path
) -> None:
    sentence = fails_to_start(tmp_path, f"mongodb://127.0.0.1:1/?{options}", 2)
    assert sentence.startswith("mongoguard: upstream.uri: ")
    assert told.lower() in sentence.lower()


# ---- TLS ------------------------------------------------------------------------------------------------------------


class TLSMongod(Mongod):
    """A mongod that takes TLS only, under a certificate for 127.0.0.1 (and no other name)."""

    def __init__(self, directory: Path) -> None:
        """Make an authority, certificates, and another authority that signed nothing here."""
        self.authority = Authority(directory / "certificates")
        self.strangers = Authority(directory / "strangers", "another CA")
        self.client_file, self.client_name = self.authority.client("mongoguard")
        self.server_file = self.authority.server(hosts=["127.0.0.1"])
        super().__init__(
            directory / "mongod",
            arguments=[
                *("--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(self.server_file)),
                *("--tlsCAFile", str(self.authority.ca_file), "--tlsAllowConnectionsWithoutCertificates"),
            ],
        )

    def uri(self, user: str | None = "root", password: str | None = None, **options: str) -> str:
        """With TLS, unless `options` say otherwise."""
        tls = {"tls": "true", "tlsCAFile": str(self.authority.ca_file)}
        return super().uri(user, password, **{**tls, **options})

    def x509_uri(self, **options: str) -> str:
        """The service user's, by certificate."""
        certificate = {"tlsCertificateKeyFile": str(self.client_file), "authMechanism": "MONGODB-X509"}
        return self.uri(None, **{**certificate, **options})


@pytest.fixture(scope="module")
def tls_mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TLSMongod]:
    """A mongod behind TLS with a service user of each kind, X.509 and SCRAM."""
    mongod = TLSMongod(tmp_path_factory.mktemp("tls"))
    try:
        mongod.start().wait()
        init_upstream(mongod)
        with mongod.client() as root:
            role = {"role": "mongoguardService", "db": "admin"}
            root["$external"].command("createUser", mongod.client_name, roles=[role])
        yield mongod
    finally:
        mongod.kill()


def service_user(mongod: Mongod) -> set[str]:
    """Who is logged in upstream beside root, by mongod's own account."""
    with mongod.client() as root:
        operations = list(root.admin.aggregate([{"$currentOp": {"allUsers": True, "idleConnections": True}}]))
    found = {user["user"] for one in operations for user in one.get("effectiveUsers", [])}
    return found - {"root", "__system"}


def test_mongoguard_logs_in_by_certificate(tls_mongod: TLSMongod, tmp_path: Path) -> None:
    with running(tmp_path, tls_mongod, upstream(tls_mongod.x509_uri())) as guard:
        assert_serves(guard)
        assert service_user(tls_mongod) == {tls_mongod.client_name}
        assert FALL_BACK not in guard.log


def test_the_certificates_name_may_be_said_in_the_uri(tls_mongod: TLSMongod, tmp_path: Path) -> None:
    uri = tls_mongod.x509_uri().replace("://", f"://{tls_mongod.client_name.replace(' ', '%20')}@")
    with running(tmp_path, tls_mongod, upstream(uri)) as guard:
        assert_serves(guard)


def test_a_login_by_certificate_without_a_certificate_ends_it_with_one_sentence(
    tls_mongod: TLSMongod, tmp_path: Path
) -> None:
    uri = tls_mongod.uri(None, authMechanism="MONGODB-X509")
    assert "MONGODB-X509 was refused" in fails_to_start(tmp_path, uri)


def test_a_certificate_that_is_nobodys_ends_it_with_one_sentence(
    tls_mongod: TLSMongod, tmp_path: Path
) -> None:
    stranger, _ = tls_mongod.authority.client("stranger", "stranger.pem")
    uri = tls_mongod.x509_uri(tlsCertificateKeyFile=str(stranger))
    sentence = fails_to_start(tmp_path, uri)
    assert "MONGODB-X509 was refused" in sentence


def test_mongoguard_logs_in_with_scram_over_tls(tls_mongod: TLSMongod, tmp_path: Path) -> None:
    with running(tmp_path, tls_mongod, upstream(init_upstream(tls_mongod))) as guard:
        assert_serves(guard)
        assert service_user(tls_mongod) == {"mongoguard"}
        with guard.client() as root:  # many reads of one message, and many records of one write
            documents = [{"_id": i, "text": "x" * 100_000} for i in range(100)]
            root.logins.large.insert_many(documents)
            assert sorted(root.logins.large.find(), key=lambda d: d["_id"]) == documents
            root.logins.large.drop()


def test_a_server_of_another_authority_is_refused_with_one_sentence(
    tls_mongod: TLSMongod, tmp_path: Path
) -> None:
    uri = tls_mongod.x509_uri(tlsCAFile=str(tls_mongod.strangers.ca_file))
    sentence = fails_to_start(tmp_path, uri, serverSelectionTimeoutMS=1000)
    assert sentence.startswith("mongoguard: no upstream server takes writes (127.0.0.1:")
    assert "certificate verify failed" in sentence


def test_a_server_under_another_name_is_refused_with_one_sentence(
    tls_mongod: TLSMongod, tmp_path: Path
) -> None:
    uri = tls_mongod.x509_uri().replace("127.0.0.1", "localhost")
    sentence = fails_to_start(tmp_path, uri, serverSelectionTimeoutMS=1000)
    assert "certificate is not valid for 'localhost'" in sentence


async def test_a_server_whose_certificate_is_revoked_gets_no_request(tls_mongod: TLSMongod) -> None:
    authority = tls_mongod.authority
    nothing_revoked = authority.revocation_list("nothing.crl")
    authority.revoke(tls_mongod.server_file)
    revoked = authority.revocation_list("server.crl")

    async def connect(revocation_list: Path) -> None:
        uri = Secret(tls_mongod.x509_uri(tlsCRLFile=str(revocation_list)))
        (await open_upstream_connection(tls_mongod.address, read_upstream_uri(uri), 20)).close()

    await connect(nothing_revoked)
    with pytest.raises(UpstreamUnavailable, match="certificate revoked"):
        await connect(revoked)


def test_another_name_is_accepted_when_the_uri_allows_it(tls_mongod: TLSMongod, tmp_path: Path) -> None:
    uri = tls_mongod.x509_uri(tlsAllowInvalidHostnames="true").replace("127.0.0.1", "localhost")
    with running(tmp_path, tls_mongod, upstream(uri)) as guard:
        assert_serves(guard)


def test_another_authority_is_accepted_when_the_uri_allows_it(tls_mongod: TLSMongod, tmp_path: Path) -> None:
    uri = tls_mongod.x509_uri(tlsCAFile=str(tls_mongod.strangers.ca_file), tlsAllowInvalidCertificates="true")
    with running(tmp_path, tls_mongod, upstream(uri)) as guard:
        assert_serves(guard)


def test_a_server_that_wants_tls_is_not_reached_without(tls_mongod: TLSMongod, tmp_path: Path) -> None:
    uri = f"mongodb://mongoguard:canary-pw@{tls_mongod.address}/"
    sentence = fails_to_start(tmp_path, uri, serverSelectionTimeoutMS=1000)
    assert "connection closed" in sentence


def test_a_server_without_tls_is_not_reached_with_it(
    tls_mongod: TLSMongod, standalone: Mongod, tmp_path: Path
) -> None:
    uri = tls_mongod.x509_uri().replace(tls_mongod.address, standalone.address)
    sentence = fails_to_start(tmp_path, uri, serverSelectionTimeoutMS=1000)
    assert (
        "no server answers" in sentence or "SSL handshake failed" in sentence
    )  # mongod waits for more bytes


# ---- an upstream without access control -----------------------------------------------------------------------------


class OpenMongod(Mongod):
    """A mongod without --auth, and without users."""

    def _spawn(self, arguments: Any, environment: Mapping[str, str] | None = None) -> None:
        super()._spawn([one for one in arguments if one != "--auth"], environment)

    def _initialize(self, client: Client) -> None:
        """It needs no user."""


def users_file(path: Path, *entries: tuple[str, list[RoleName]]) -> dict[str, Any]:
    """A users file, and the settings that name it."""
    users = "".join(user_entry(name, "admin", roles, password_of(name)) for name, roles in entries)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"users": yaml.safe_load(users)}))
    return {"security": {"userDirectory": "file", "userFile": str(path)}}


def test_an_upstream_without_access_control_gets_it_from_mongoguard(tmp_path: Path) -> None:
    mongod = OpenMongod(tmp_path / "mongod")
    mongod.upstream_uri = f"mongodb://{mongod.address}/"
    users = users_file(
        tmp_path / "users.yaml",
        ("root", [RoleName("root", "admin")]),
        ("reader", [RoleName("read", "shop")]),
    )
    try:
        mongod.start().wait()
        with running(tmp_path / "guard", mongod, users) as guard:
            assert_serves(guard)
            with guard.client() as root:
                root.shop.orders.insert_one({"_id": 1})
            with guard.client("reader") as reader:
                assert reader.shop.orders.find_one() == {"_id": 1}
                with pytest.raises(OperationFailure, match="not authorized on shop"):
                    reader.shop.orders.insert_one({})
                with pytest.raises(OperationFailure, match="not authorized on other"):
                    reader.other.orders.find_one()
            with guard.client("reader", "wrong") as wrong, pytest.raises(OperationFailure, match="failed"):
                wrong.shop.orders.find_one()
            assert "upstream.uri names no user" in guard.log
    finally:
        mongod.kill()


# ---- a service user that may not impersonate ------------------------------------------------------------------------

READ_WRITE = [RoleName("readWrite", "shop")]


@pytest.fixture(scope="module")
def fallen_back(replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """A guard whose service user has readWriteAnyDatabase only; users ann and bob of a file, with the same rights."""
    init_upstream(replica_set)
    directory = tmp_path_factory.mktemp("fallen_back")
    with replica_set.client() as root:
        root.admin.command("createUser", "plain", pwd=password_of("plain"), roles=["readWriteAnyDatabase"])
        root.shop.apart.drop()
        root.shop.apart.insert_many([{"_id": i} for i in range(10)])
    users = users_file(
        directory / "users.yaml",
        ("ann", READ_WRITE),
        ("bob", READ_WRITE),
        ("chief", [RoleName("root", "admin")]),
    )
    with running(directory, replica_set, {**upstream(replica_set.uri("plain")), **users}) as guard:
        yield guard


@contextmanager
def logged_in(guard: Guard, user: str) -> Iterator[RawConnection]:
    """A connection of that user."""
    with RawConnection(guard.address) as raw:
        raw.log_in(user, password_of(user))
        yield raw


def new_session() -> dict[str, Any]:
    """An lsid nobody has used."""
    return {"id": Binary(uuid.uuid4().bytes, 4)}


def test_an_upstream_that_refuses_impersonation_is_told_of_once(fallen_back: Guard) -> None:
    for user in ("ann", "bob"):
        with fallen_back.client(user) as client:
            client.shop.apart.find_one()
    assert fallen_back.log.count(FALL_BACK) == 1


def in_transaction(lsid: dict[str, Any], *, start: bool = False) -> dict[str, Any]:
    """The fields of a command in a transaction."""
    fields: dict[str, Any] = {"lsid": lsid, "txnNumber": Int64(1), "autocommit": False}
    return {**fields, "startTransaction": True} if start else fields


def test_two_users_with_one_session_id_stay_apart_without_impersonation(fallen_back: Guard) -> None:
    lsid = new_session()
    with logged_in(fallen_back, "ann") as ann, logged_in(fallen_back, "bob") as bob:
        insert = {"insert": "apart", "documents": [{"_id": "ann's"}]}
        assert ann.command("shop", {**insert, **in_transaction(lsid, start=True)})["ok"] == 1
        find = {"find": "apart", "filter": {"_id": "ann's"}}
        stranger = bob.command("shop", {**find, **in_transaction(lsid)})
        assert stranger["code"] == 251, stranger  # NoSuchTransaction: bob's session has none
        aborted = bob.command("admin", {"abortTransaction": 1, **in_transaction(lsid)})
        assert aborted["code"] == 251, aborted
        own = bob.command(
            "shop", {**insert, "documents": [{"_id": "bob's"}], **in_transaction(lsid, start=True)}
        )
        assert own["ok"] == 1, "bob's transaction of the same session and number is another one"
        for end in ({"endSessions": [lsid]}, {"killSessions": [lsid]}):
            bob.command("admin", end)
        assert len(ann.command("shop", {**find, **in_transaction(lsid)})["cursor"]["firstBatch"]) == 1
        assert ann.command("admin", {"commitTransaction": 1, **in_transaction(lsid)})["ok"] == 1
        assert len(ann.command("shop", find)["cursor"]["firstBatch"]) == 1
        assert not ann.command("shop", {**find, "filter": {"_id": "bob's"}})["cursor"]["firstBatch"]


def test_a_cursor_stays_its_owners_without_impersonation(fallen_back: Guard) -> None:
    lsid = new_session()
    with logged_in(fallen_back, "ann") as ann, logged_in(fallen_back, "bob") as bob:
        for session in ({}, {"lsid": lsid}):
            reply = ann.command("shop", {"find": "apart", "batchSize": 2, **session})
            cursor = Int64(reply["cursor"]["id"])
            more = {"getMore": cursor, "collection": "apart", "batchSize": 2, **session}
            assert bob.command("shop", more)["code"] == 13
            assert bob.command("shop", {"killCursors": "apart", "cursors": [cursor], **session})["code"] == 13
            assert ann.command("shop", more)["ok"] == 1
            assert ann.command("shop", {"killCursors": "apart", "cursors": [cursor], **session})["ok"] == 1


def test_drivers_transactions_work_without_impersonation(fallen_back: Guard) -> None:
    with fallen_back.client("ann") as client, client.start_session() as session:

        def move(s: Any) -> None:
            client.shop.apart.update_one({"_id": 1}, {"$inc": {"n": -1}}, session=s)
            client.shop.apart.update_one({"_id": 2}, {"$inc": {"n": 1}}, session=s)

        session.with_transaction(
            move, read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority")
        )
        assert [d.get("n") for d in client.shop.apart.find({"_id": {"$in": [1, 2]}}).sort("_id")] == [-1, 1]
        session.start_transaction()
        client.shop.apart.delete_many({}, session=session)
        session.abort_transaction()
        assert client.shop.apart.count_documents({"_id": {"$in": list(range(10))}}) == 10


def test_an_lsid_with_more_than_an_id_is_refused_without_impersonation(fallen_back: Guard) -> None:
    with logged_in(fallen_back, "ann") as ann:
        for extra in ({"uid": Binary(bytes(32), 0)}, {"txnNumber": Int64(1)}):
            refused = ann.command("shop", {"find": "apart", "lsid": {**new_session(), **extra}})
            assert refused["ok"] == 0, refused


def test_own_operations_show_nothing_of_others_without_impersonation(fallen_back: Guard) -> None:
    """Upstream all operations are the service user's, so none can be told to be one's own: then none is shown."""
    with logged_in(fallen_back, "ann") as ann, logged_in(fallen_back, "bob") as bob:
        lsid = new_session()
        insert = {"insert": "apart", "documents": [{"_id": "seen"}], "comment": "bob's secret"}
        assert bob.command("shop", {**insert, **in_transaction(lsid, start=True)})["ok"] == 1
        shown = ann.command("admin", {"currentOp": 1, "$ownOps": True, "$all": True})
        assert (shown["ok"], shown.get("inprog")) == (1, []), shown
        stages = [{"$currentOp": {"idleSessions": True, "idleConnections": True}}]
        shown = ann.command("admin", {"aggregate": 1, "pipeline": stages, "cursor": {}})
        assert (shown["ok"], shown.get("cursor", {}).get("firstBatch")) == (1, []), shown
        assert ann.command("admin", {"currentOp": 1})["code"] == 13
        assert bob.command("admin", {"abortTransaction": 1, **in_transaction(lsid)})["ok"] == 1


def test_what_the_service_user_may_not_do_nobody_does(fallen_back: Guard) -> None:
    with fallen_back.client("chief") as chief, pytest.raises(OperationFailure) as refused:
        chief.admin.command("serverStatus")
    assert refused.value.code == 13


def test_all_own_sessions_are_not_killed_at_once_without_impersonation(fallen_back: Guard) -> None:
    with logged_in(fallen_back, "ann") as ann:
        refused = ann.command("admin", {"killSessions": []})
        assert (refused["code"], refused["codeName"]) == (115, "CommandNotSupported")
