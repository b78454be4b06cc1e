"""security.sasl: as which service clients' Kerberos tickets are accepted, in mongod's vocabulary.

In: plain values. Out: one frozen section. Must not know Kerberos or keytabs.

`keytab` is a key of mongoguard's own; without it the file is found as mongod finds it, by KRB5_KTNAME or krb5.conf.
"""

from __future__ import annotations

from pydantic import Field

from mongoguard.config.section import FilePath, Section

__all__ = ["Sasl"]

_HOST = r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$"
_SERVICE = r"^[A-Za-z0-9_-]{1,64}$"


class Sasl(Section):
    """Clients reach the service as `service_name/host_name`; without `host_name`, as any host that the keytab has."""

    host_name: str | None = Field(
        default=None, alias="hostName", pattern=_HOST, description="the host's fully qualified name"
    )
    service_name: str = Field(
        default="mongodb",
        alias="serviceName",
        pattern=_SERVICE,
        description="letters, digits, - and _ (the part of the service's principal before the slash)",
    )
    keytab: FilePath | None = Field(default=None, description="the path of a keytab")
