"""A client that no server since 6.0 serves: Debian's prometheus-mongodb-exporter with mgo.v2, which speaks OP_QUERY only.

mongod answers its `getnonce` with 352 UnsupportedOpQueryCommand. mongoguard must do the same: the same error in the
program's log, the same reply byte for byte (but for its id and the cluster's time), and serve others afterwards.
"""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import urllib.request
from typing import Any

import bson
from pymongo.errors import PyMongoError

from tests.drivers.running import Comparison, Guarded
from tests.servers import ChildServer, free_port, wait_for_port

__all__ = ["compare_exporter", "getnonce_reply"]

_REQUEST_ID = 7
_SECONDS = 60.0
_CLUSTER_TIME = frozenset({"$clusterTime", "operationTime"})
_ADDRESS = re.compile(r"mongodb://\S+|127\.0\.0\.1:\d+")


def getnonce_reply(server: ChildServer) -> tuple[dict[str, Any], bytes]:
    """What the server answers to getnonce in an OP_QUERY: the document, and the header's other fields and the flags.

    The document is without the cluster's time: mongoguard puts none on replies of its own (docs/differences.md).
    """
    query = struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + bson.encode({"getnonce": 1})
    message = struct.pack("<iiii", 16 + len(query), _REQUEST_ID, 0, 2004) + query
    with socket.create_connection(("127.0.0.1", server.port), _SECONDS) as connection:
        connection.sendall(message)
        stream = connection.makefile("rb")
        header = stream.read(16)
        body = stream.read(struct.unpack_from("<i", header)[0] - 16)
    document = {key: value for key, value in bson.decode(body[20:]).items() if key not in _CLUSTER_TIME}
    return document, header[8:] + body[:20] + bson.encode(document)


def compare_exporter(deployment: Guarded) -> Comparison:
    """The program's words and the raw reply, from both ends; and a client of today right after."""
    ends: tuple[ChildServer, ChildServer] = (deployment.mongod, deployment.guard)
    direct, through = (_words_of_the_exporter(uri) for uri in deployment.uris())
    (document, reply), (_, other) = (getnonce_reply(server) for server in ends)
    differences = []
    if direct != through:
        differences.append(f"log: direct {direct}, through {through}")
    if document.get("code") != 352:
        differences.append(f"mongod answers {document}")
    if reply != other:
        differences.append(f"raw reply: direct {reply!r}, through {other!r}")
    if not direct:
        differences.append("the program has not said what is wrong")
    try:
        with deployment.guard.client("app", **deployment.options) as client:
            client.shop.command("ping")
    except PyMongoError as error:
        differences.append(f"a client of today is not served afterwards: {error}"[:500])
    return Comparison("exporter (mgo.v2)", "1.0.0", deployment.name, "refused", "refused", tuple(differences))


def _words_of_the_exporter(uri: str) -> list[str]:
    """The errors that it logs when it is asked for metrics, without addresses and times."""
    port = free_port()
    process = subprocess.Popen(
        [
            "prometheus-mongodb-exporter",
            "-mongodb.uri",
            uri,
            "-web.listen-address",
            f"127.0.0.1:{port}",
            "-logtostderr",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_port(port)
        # It connects when it is asked, and gives up after its own ten seconds.
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_SECONDS) as page:
            metrics = page.read().decode()
    finally:
        process.terminate()
        _, log = process.communicate()
    found = {
        _ADDRESS.sub("ADDRESS", line.partition("] ")[2]) for line in log.splitlines() if line.startswith("E")
    }
    return sorted(found) + [line for line in metrics.splitlines() if line.startswith("mongodb_")]
