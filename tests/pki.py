"""The folder of certificates that the `pki` fixture makes: every kind that a test of TLS or X.509 asks for, by name.

Each path is a PEM file with the certificate and its key. `AWKWARD_SUBJECTS` are subjects whose spelling differs between
libraries, each with mongod's own spelling (test_environment_certificates asks a real mongod).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.certificates import CLIENT, DAY, SERVER, Authority, host_names, roles_extension

__all__ = ["AWKWARD_SUBJECTS", "KEY_PASSWORD", "Pki", "Subject", "subject"]

KEY_PASSWORD = "key-pw"
"""Opens the key of `Pki.server_with_password`."""

EXPIRED = (-30 * DAY, -DAY)

_SHORT_NAMES = {
    "C": NameOID.COUNTRY_NAME,
    "CN": NameOID.COMMON_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "GN": NameOID.GIVEN_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "SN": NameOID.SURNAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "UID": NameOID.USER_ID,
    "dnQualifier": NameOID.DN_QUALIFIER,
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "pseudonym": NameOID.PSEUDONYM,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "street": NameOID.STREET_ADDRESS,
    "title": NameOID.TITLE,
    "unknown": x509.ObjectIdentifier("1.2.3.4.5"),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A certificate's subject, and the user name that mongod 6.0 makes of it."""

    name: x509.Name
    mongod: str


def subject(*rdns: Mapping[str, str]) -> x509.Name:
    """A subject from its RDNs in the certificate's order; an RDN of several attributes is a mapping of several."""
    return x509.Name(
        x509.RelativeDistinguishedName(
            x509.NameAttribute(_SHORT_NAMES[short], value) for short, value in rdn.items()
        )
        for rdn in rdns
    )


_ORGANIZATION = ({"O": "mongoguard tests"}, {"OU": "clients"})
_TAIL = "OU=clients,O=mongoguard tests"

AWKWARD_SUBJECTS: Mapping[str, Subject] = {
    "comma and quotes": Subject(
        subject(*_ORGANIZATION, {"CN": 'Carter, "CC" Carl'}), f'CN=Carter\\, \\"CC\\" Carl,{_TAIL}'
    ),
    "plus, brackets and semicolon": Subject(
        subject(*_ORGANIZATION, {"CN": "C++ <ops>; core"}), f"CN=C\\+\\+ \\<ops\\>\\; core,{_TAIL}"
    ),
    "backslash and equals sign": Subject(
        subject(*_ORGANIZATION, {"CN": "a\\b=c"}), f"CN=a\\\\b=c,{_TAIL}"
    ),
    "leading number sign": Subject(subject(*_ORGANIZATION, {"CN": "#1 fan"}), f"CN=\\#1 fan,{_TAIL}"),
    "spaces at both ends": Subject(subject(*_ORGANIZATION, {"CN": " padded "}), f"CN=\\ padded\\ ,{_TAIL}"),
    "non-ASCII": Subject(
        subject(*_ORGANIZATION, {"CN": "José 山"}), f"CN=Jos\\C3\\A9 \\E5\\B1\\B1,{_TAIL}"
    ),
    "two attributes in one RDN": Subject(
        subject(*_ORGANIZATION, {"CN": "dave", "UID": "dave1"}), f"UID=dave1+CN=dave,{_TAIL}"
    ),
    "three attributes in one RDN": Subject(
        subject({"CN": "X", "O": "Z", "OU": "Y"}, {"UID": "three"}), "UID=three,OU=Y+O=Z+CN=X"
    ),
    "domain components": Subject(
        subject({"DC": "org"}, {"DC": "example"}, {"OU": "people"}, {"UID": "alice"}),
        "UID=alice,OU=people,DC=example,DC=org",
    ),
    "e-mail address and street": Subject(
        subject({"C": "IS"}, {"ST": "South"}, {"L": "Reykjavik"}, {"street": "Main 1"}, {"emailAddress": "m@x.org"}),
        "emailAddress=m@x.org,street=Main 1,L=Reykjavik,ST=South,C=IS",
    ),
    "rare attributes": Subject(
        subject({"GN": "Ann"}, {"SN": "Lee"}, {"title": "Dr"}, {"serialNumber": "7"}, {"dnQualifier": "q"}, {"pseudonym": "p"}),
        "pseudonym=p,dnQualifier=q,serialNumber=7,title=Dr,SN=Lee,GN=Ann",
    ),
    "attribute without a name": Subject(
        subject(*_ORGANIZATION, {"unknown": "u"}), f"1.2.3.4.5=u,{_TAIL}"
    ),
}  # fmt: skip
"""The subjects that libraries spell in different ways."""


class Pki:
    """An authority with certificates of every kind; make more with `authority.issue`, `authority.server`, ...

    Servers' certificates are for localhost and 127.0.0.1 where their name says nothing else.
    """

    def __init__(self, directory: Path) -> None:
        """Make all of them in `directory`, which takes about 50 ms."""
        self.directory = directory
        self._numbers = count()
        self.authority = Authority(directory)
        self.ca = self.authority.ca_file
        self.other_authority = Authority(directory / "other", "another CA")
        self.other_ca = self.other_authority.ca_file
        self._make_servers()
        self._make_clients()
        self._make_chain()
        self.authority.revoke(self.client_revoked)
        self.crl = self.authority.revocation_list()

    def _make_servers(self) -> None:
        authority = self.authority
        self.server = authority.server()
        self.server_with_password = authority.server("server-password.pem", password=KEY_PASSWORD)
        self.server_expired = authority.server("server-expired.pem", validity=EXPIRED)
        self.server_wrong_host = authority.server("server-wrong-host.pem", ["elsewhere.example.test"])
        self.server_without_ip = authority.server("server-without-ip.pem", ["localhost"])
        self.server_untrusted = self.other_authority.server("server-untrusted.pem")
        # mongod's own kind: a member of a cluster is a client of the others
        self.member = authority.issue(
            "member.pem",
            subject({"O": "mongoguard tests"}, {"OU": "servers"}, {"CN": "mongod"}),
            (*SERVER, *CLIENT),
            extensions=[host_names()],
        )

    def _make_clients(self) -> None:
        authority = self.authority
        self.client, self.client_name = authority.client("alice")
        self.client_expired = authority.issue(
            "client-expired.pem", client_subject("expired"), CLIENT, validity=EXPIRED
        )
        self.client_revoked = authority.issue("client-revoked.pem", client_subject("revoked"), CLIENT)
        self.client_untrusted = self.other_authority.issue(
            "client-untrusted.pem", client_subject("alice"), CLIENT
        )
        self.client_roles = authority.issue(
            "client-roles.pem",
            client_subject("role carrier"),
            CLIENT,
            extensions=[roles_extension(("readWrite", "shop"), ("read", "reports"))],
        )
        self.client_like_member = authority.issue(
            "client-like-member.pem",
            subject({"O": "mongoguard tests"}, {"OU": "servers"}, {"CN": "looks like a member"}),
            CLIENT,
        )
        self.awkward = {
            kind: authority.issue(f"awkward-{number}.pem", awkward.name, CLIENT)
            for number, (kind, awkward) in enumerate(AWKWARD_SUBJECTS.items())
        }

    def _make_chain(self) -> None:
        self.intermediate = Authority(self.directory, "mongoguard issuing CA", issuer=self.authority)
        self.intermediate_ca = self.intermediate.ca_file
        self.client_chained = self.intermediate.issue("client-chained.pem", client_subject("chained"), CLIENT)
        self.client_chained_roles = self.intermediate.issue(
            "client-chained-roles.pem",
            client_subject("chained role carrier"),
            CLIENT,
            extensions=[roles_extension(("read", "shop"))],
        )
        self.intermediate_crl = self.intermediate.revocation_list("intermediate.crl")

    def short_lived_client(self, seconds: float, common_name: str = "short-lived") -> Path:
        """A client's certificate that ends so soon; notAfter counts whole seconds, so it may end one earlier."""
        name = f"client-short-{next(self._numbers)}.pem"
        validity = (-DAY, datetime.timedelta(seconds=seconds))
        return self.authority.issue(name, client_subject(common_name), CLIENT, validity=validity)


def client_subject(common_name: str) -> x509.Name:
    """CN=...,OU=clients,O=mongoguard tests."""
    return subject(*_ORGANIZATION, {"CN": common_name})
