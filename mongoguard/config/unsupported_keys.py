"""Keys that an administrator may bring along from a mongod.conf, and that this version refuses (data).

In: nothing. Out: full key path -> the sentence that says why. Must not know the models.
A key that covers a whole section covers everything below it.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["UNSUPPORTED_KEYS"]

_LATER = "not supported yet by this version of mongoguard"
_UPSTREAM = "a setting of the server behind mongoguard; it belongs in that server's own configuration file"

UNSUPPORTED_KEYS: Mapping[str, str] = {
    "net.tls": _LATER,
    "net.ssl": _LATER,
    "net.proxyProtocol": _LATER,
    "net.advertise": _LATER,
    "net.bindIpAll": 'not supported; write net.bindIp: "*" (and net.ipv6: true for IPv6)',
    "net.listenBacklog": _LATER,
    "net.maxIncomingConnectionsOverride": _LATER,
    "net.wireObjectCheck": "not supported: every message is always checked",
    "net.serviceExecutor": _UPSTREAM,
    "net.transportLayer": _UPSTREAM,
    "net.http": _UPSTREAM,
    "upstream.tls": "not supported; TLS options go into upstream.uri (tls=true&tlsCAFile=...)",
    "security.ldap": _LATER,
    "security.sasl": _LATER,
    "security.kmip": _UPSTREAM,
    "security.keyFile": _UPSTREAM,
    "security.clusterAuthMode": _UPSTREAM,
    "security.clusterIpSourceAllowlist": _UPSTREAM,
    "security.transitionToAuth": "not supported: clients always log in to mongoguard",
    "security.javascriptEnabled": _UPSTREAM,
    "security.redactClientLogData": "not supported: mongoguard's log never holds client data",
    "security.enableEncryption": _UPSTREAM,
    "security.encryptionCipherMode": _UPSTREAM,
    "security.encryptionKeyFile": _UPSTREAM,
    "auditLog.filter": _LATER,
    "auditLog.schema": _LATER,
    "auditLog.auditEncryptionKeyIdentifier": _LATER,
    "auditLog.compressionMode": _LATER,
    "auditLog.localAuditKeyFile": _LATER,
    "auditLog.runtimeConfiguration": _LATER,
    "systemLog.quiet": _LATER,
    "systemLog.traceAllExceptions": _LATER,
    "systemLog.syslogFacility": _LATER,
    "systemLog.timeStampFormat": "not supported: times are ISO 8601 in UTC",
    "systemLog.component": _LATER,
    "systemLog.logRotate": "not supported: rename the file, and mongoguard opens a new one by itself",
    "processManagement.fork": "not supported: run mongoguard under a service manager (systemd, a container)",
    "processManagement.timeZoneInfo": _UPSTREAM,
    "processManagement.windowsService": "not supported: mongoguard runs on Unix systems",
    "storage": _UPSTREAM,
    "replication": _UPSTREAM,
    "sharding": _UPSTREAM,
    "operationProfiling": _UPSTREAM,
    "cloud": _UPSTREAM,
    "snmp": _UPSTREAM,
    "config": _UPSTREAM,
}
