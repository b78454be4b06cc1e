"""Client metadata: what a client says of itself in its first hello.

In: that hello's body. Out: the element that tells the upstream so, or `CommandError`. Must not know sessions.
Source: the "MongoDB Handshake" specification; the server's ClientMetadata (codes and texts measured on mongod 6.0.5).

Connections to the upstream are shared and carry mongoguard's own metadata. A mongos has the same problem and writes the
client's as `$client` into each command; mongod then has its appName in currentOp, profiler and logs, and in the
conditions of fail points. Only the metadata of a client that names its application is written there: most do not, and
the server parses it with each command (a tenth more work for a find by id). Nor is that of a client that says it is
behind a mongos, which only a mongos may know.
"""

from __future__ import annotations

from mongoguard.errors import CommandError, ErrorCode
from mongoguard.wire.document import ARRAY, STRING, Document

__all__ = ["check_client_metadata", "client_element"]

_ELEMENT_HEAD = b"\x03$client\0"

MAX_METADATA_BYTES = 1024
"""Of a mongod; a mongos takes `MAX_RELAYED_BYTES`, as the specification has it for all."""
MAX_RELAYED_BYTES = 512
MAX_APPLICATION_NAME_BYTES = 128

_REQUIRED = {"driver": ("name", "version"), "os": ("type",)}
_PLACE = "in the client metadata document"


def check_client_metadata(body: Document) -> Document:
    """hello's `client` if mongod takes it. Raises `CommandError` 14, 183, 184 or 185 as mongod does."""
    metadata = _opened(body, "client")
    if metadata is None:
        raise CommandError(ErrorCode.TYPE_MISMATCH, "The client metadata document must be a document")
    if metadata.end - metadata.start > MAX_METADATA_BYTES:
        raise CommandError(
            ErrorCode.CLIENT_METADATA_DOCUMENT_TOO_LARGE,
            f"The client metadata document must be less then or equal to {MAX_METADATA_BYTES}bytes",
        )
    for name in metadata:
        if name == "application":
            _check_application(_section(metadata, name))
        elif name in _REQUIRED:
            section = _section(metadata, name)
            for field in _REQUIRED[name]:
                _check_string(section, name, field)
    for name in _REQUIRED:
        if name not in metadata:
            raise CommandError(
                ErrorCode.CLIENT_METADATA_MISSING_FIELD, f"Missing required sub-document '{name}' {_PLACE}"
            )
    return metadata


def client_element(metadata: Document) -> bytes:
    """`$client` for the commands of a client that names its application; nothing for any other.

    Raises `BSONError` for what the upstream could not read: it would refuse each of the commands.
    """
    application = metadata.document("application")
    if application is None or not application.string("name") or "mongos" in metadata:
        return b""
    if metadata.end - metadata.start > MAX_RELAYED_BYTES:
        return b""
    metadata.decode()
    return _ELEMENT_HEAD + metadata.raw


def _opened(parent: Document, name: str) -> Document | None:
    """An object, or an array, which is one to this part of mongod."""
    return parent.array(name) if parent.type_of(name) == ARRAY else parent.document(name)


def _section(metadata: Document, name: str) -> Document:
    section = _opened(metadata, name)
    if section is None:
        raise CommandError(
            ErrorCode.TYPE_MISMATCH, f"The '{name}' field is required to be a BSON document {_PLACE}"
        )
    return section


def _check_application(application: Document) -> None:
    """Its name may be left out."""
    if "name" not in application:
        return
    if application.type_of("name") != STRING:
        raise CommandError(ErrorCode.TYPE_MISMATCH, f"The 'application.name' field must be a string {_PLACE}")
    if application.size_of("name") - 5 > MAX_APPLICATION_NAME_BYTES:  # its length and the zero byte
        raise CommandError(
            ErrorCode.CLIENT_METADATA_APP_NAME_TOO_LARGE,
            f"The 'application.name' field must be less then or equal to {MAX_APPLICATION_NAME_BYTES} bytes {_PLACE}",
        )


def _check_string(section: Document, name: str, field: str) -> None:
    if field not in section:
        raise CommandError(
            ErrorCode.CLIENT_METADATA_MISSING_FIELD, f"Missing required field '{name}.{field}' {_PLACE}"
        )
    if section.type_of(field) != STRING:
        raise CommandError(ErrorCode.TYPE_MISMATCH, f"The '{name}.{field}' field must be a string {_PLACE}")
