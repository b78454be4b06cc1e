"""Keys that an administrator may bring along from a mongod.conf, and that this version refuses (data).

In: nothing. Out: full key path -> the sentence that says why. Must not know the models.
A key that covers a whole section covers everything below it.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["UNSUPPORTED_KEYS"]

_LATER = "not supported yet by this version of mongoguard"
_UPSTREAM = "a setting of the server behind mongoguard; it belongs in that server's own configuration file"

_NO_MEMBER = (
    "not supported: mongoguard is no member of a cluster; its certificate towards the upstream goes into upstream.uri "
    "(tlsCertificateKeyFile=...)"
)

UNSUPPORTED_KEYS: Mapping[str, str] = {
    "net.tls.allowInvalidCertificates": "not supported: a certificate that is not verified proves nothing",
    "net.tls.allowInvalidHostnames": "not supported: a client's certificate names no host; for the upstream's, write "
    "tlsAllowInvalidHostnames=true into upstream.uri",
    "net.tls.certificateSelector": "not supported: it is for Windows and macOS; write net.tls.certificateKeyFile",
    "net.tls.clusterCertificateSelector": _NO_MEMBER,
    "net.tls.clusterFile": _NO_MEMBER,
    "net.tls.clusterPassword": _NO_MEMBER,
    "net.tls.clusterCAFile": "not supported: net.tls.CAFile has the authorities of client certificates; those of the "
    "upstream go into upstream.uri (tlsCAFile=...)",
    "net.tls.FIPSMode": "not supported: it is a setting of the system's OpenSSL",
    "net.tls.logVersions": _LATER,
    "net.ssl": "not supported: it is the old name of net.tls, whose keys have the same meaning (mode: requireTLS)",
    "setParameter.allowRolesFromX509Certificates": "not supported: roles are taken from the certificates of those "
    "authorities that setParameter.tlsCATrusts lists, and from no other",
    "setParameter.enforceUserClusterSeparation": "not supported: nobody logs in with the certificate of a server",
    "setParameter.opensslCipherSuiteConfig": "not supported: TLS 1.3 has safe suites only",
    "setParameter.opensslDiffieHellmanParameters": "not supported: elliptic curves are used",
    "setParameter.ocspEnabled": "not supported: revoked certificates are listed in net.tls.CRLFile",
    "setParameter.sslMode": "not supported: write net.tls.mode",
    "setParameter.tlsMode": "not supported: write net.tls.mode",
    "setParameter.tlsUseSystemCA": "not supported: write net.tls.CAFile",
    "setParameter.tlsWithholdClientCertificate": _UPSTREAM,
    "net.bindIpAll": 'not supported; write net.bindIp: "*" (and net.ipv6: true for IPv6)',
    "net.listenBacklog": _LATER,
    "net.maxIncomingConnectionsOverride": _LATER,
    "net.wireObjectCheck": "not supported: every message is always checked",
    "net.serviceExecutor": _UPSTREAM,
    "net.transportLayer": _UPSTREAM,
    "net.http": _UPSTREAM,
    "upstream.tls": "not supported; TLS options go into upstream.uri (tls=true&tlsCAFile=...)",
    "security.sasl.saslauthdSocketPath": "not supported: mongoguard asks the directory itself; write security.ldap",
    "setParameter.saslauthdPath": "not supported: mongoguard asks the directory itself; write security.ldap",
    "setParameter.saslHostName": "not supported: write security.sasl.hostName",
    "setParameter.saslServiceName": "not supported: write security.sasl.serviceName",
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
