"""hello, isMaster, ismaster: what clients learn of this server, at once or when it changes.

In: a hello and the session that sent it. Out: the fields of the reply (without ok), or `CommandError`. Must not know
sockets.
Source: the "MongoDB Handshake", "Server Discovery And Monitoring" and "Load Balancer Support" specifications; replies
measured on mongod 6.0.5.

$clusterTime is the newest that a heartbeat of the upstream has brought, so that a client's first command carries one.
Relayed replies are ahead of it; clients keep the newest that they have seen. operationTime is not in it: no command has
run whose effects a client would have to wait for.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mongoguard.command.arguments import is_absent
from mongoguard.command.command import Command
from mongoguard.effects import AwaitTopologyChange, Flow, Now, perform
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.proxy.client_metadata import check_client_metadata, client_element
from mongoguard.proxy.deployment import DeploymentView, PresentAs
from mongoguard.proxy.hello_arguments import check_arguments, compressors_wanted
from mongoguard.proxy.topology_version import MIN_STREAM_SECS, AwaitableHello, topology_version
from mongoguard.wire.document import Document

if TYPE_CHECKING:
    from mongoguard.proxy.client_session import ClientSession

__all__ = ["hello"]


def hello(session: ClientSession, command: Command) -> Flow[dict[str, Any]]:
    """Unknown fields are ignored: drivers add some every year."""
    body = command.body
    metadata = _client_metadata(session, body)
    check_arguments(body)
    session.has_said_hello = True
    if metadata is not None:
        session.introduce(client_element(metadata))
    is_load_balanced = body.truthy("loadBalanced")
    says_hello_ok = not is_absent(body, "helloOk")  # whatever its value, as in mongod
    yield from _await_change(session, body)
    view, deployment = session.deployment, session.deployment.current
    version = topology_version(view.process_id, view.counter)
    now = yield from perform(Now())
    reply: dict[str, Any] = {"helloOk": True} if says_hello_ok else {}
    reply |= _role(
        view, version, "isWritablePrimary" if command.name == "hello" else "ismaster", is_load_balanced
    )
    reply |= {
        "maxBsonObjectSize": deployment.max_bson_object_bytes,
        "maxMessageSizeBytes": deployment.max_client_message_bytes,
        "maxWriteBatchSize": deployment.max_write_batch_size,
        "localTime": datetime.fromtimestamp(now, UTC),
        "logicalSessionTimeoutMinutes": deployment.session_timeout_minutes,
        "connectionId": session.connection_id,
        "minWireVersion": deployment.min_wire_version,
        "maxWireVersion": deployment.max_wire_version,
        "readOnly": False,
    }
    if is_load_balanced:
        reply["serviceId"] = view.service_id
    reply |= _negotiated_compression(session, body)
    reply |= yield from _login_fields(session, body)
    cluster_time = view.cluster_time
    if cluster_time is not None:
        reply["$clusterTime"] = cluster_time
    if session.streaming.allowed:
        session.streaming.go_on(AwaitableHello.with_version(body, version))
    return reply


def _role(
    view: DeploymentView, version: dict[str, Any], writable: str, is_load_balanced: bool
) -> dict[str, Any]:
    """What kind of server this is. Behind a load balancer there are only mongos, whatever else would be said."""
    present_as = view.current.present_as
    if present_as is PresentAs.REPLICA_SET and not is_load_balanced:
        fields = view.replica_set_fields
        return {
            "topologyVersion": version,
            **{writable if name == "isWritablePrimary" else name: value for name, value in fields.items()},
        }
    is_mongos = is_load_balanced or present_as is PresentAs.MONGOS
    return {writable: True, **({"msg": "isdbgrid"} if is_mongos else {}), "topologyVersion": version}


def _await_change(session: ClientSession, body: Document) -> Flow[None]:
    """Wait as long as the client wants to, if it knows already what would be said now."""
    asked = AwaitableHello(body)
    if session.streaming.allowed and not asked.is_awaiting:
        raise CommandError(51756, "An isMaster or hello request with exhaust must specify 'maxAwaitTimeMS'")
    if not asked.is_awaiting:
        return
    view = session.deployment
    of_replica_set = view.current.present_as is PresentAs.REPLICA_SET
    if not asked.knows(view.process_id, view.counter, of_replica_set=of_replica_set):
        return
    seconds = max(asked.wait_secs, MIN_STREAM_SECS) if session.streaming.allowed else asked.wait_secs
    if seconds:
        yield from perform(AwaitTopologyChange(view.counter, seconds))


def _client_metadata(session: ClientSession, body: Document) -> Document | None:
    if "client" not in body:
        return None
    if session.has_said_hello:
        raise CommandError(
            ErrorCode.CLIENT_METADATA_CANNOT_BE_MUTATED,
            "The client metadata document may only be sent in the first hello",
        )
    return check_client_metadata(body)


def _negotiated_compression(session: ClientSession, body: Document) -> dict[str, Any]:
    if "compression" in body:  # a hello that does not speak of it is told what was agreed before
        session.compressors = [
            name for name in compressors_wanted(body) if name in session.settings.compressors
        ]
    return {"compression": session.compressors} if session.compressors else {}


def _login_fields(session: ClientSession, body: Document) -> Flow[dict[str, Any]]:
    fields: dict[str, Any] = {}
    mechanisms = yield from session.authentication.sasl_supported_mechs(body)
    if mechanisms is not None:
        fields["saslSupportedMechs"] = mechanisms
    answer = yield from session.authentication.speculative(body, mechanisms)
    if answer is not None:
        fields["speculativeAuthenticate"] = answer
    return fields
