"""BindAnswer: what a directory says of a name and a password.

In: a result code and the server's own text. Out: accepted, refused, or no answer; the reason in words. Must not know
connections, and repeats nothing of the server's text but Active Directory's sub-code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["BindAnswer"]

_SUB_CODE = re.compile(r"\bdata ([0-9a-f]{2,8})\b", re.IGNORECASE)

_SUB_CODES: Mapping[str, str] = {
    "525": "there is no such user",
    "52e": "wrong password, or no such user",
    "52f": "an account restriction, such as an empty password or a required smart card",
    "530": "logging in is not permitted at this time",
    "531": "logging in is not permitted from this host",
    "532": "the password has expired",
    "533": "the account is disabled",
    "568": "the user has too many groups",
    "701": "the account has expired",
    "773": "the password must be changed first",
    "775": "the account is locked",
}
"""Active Directory's reasons: Windows system error codes in hexadecimal (MS-ERREF 2.2)."""

_ABOUT_THE_NAME: Mapping[int, str] = {
    19: "the account is locked, or the password must be changed (19 constraintViolation)",
    32: "there is no such entry (32 noSuchObject)",
    34: "the mapped name is no DN for this directory (34 invalidDNSyntax)",
    48: "the entry has no password (48 inappropriateAuthentication)",
    49: "wrong password, or no such user (49 invalidCredentials)",
    53: "the account may not log in (53 unwillingToPerform)",
}
"""Result codes that are about who logs in (RFC 4511 section 4.1.9), not about the server or the connection."""

_HINTS: Mapping[int, str] = {
    8: "; it wants TLS (security.ldap.transportSecurity: tls)",
    13: "; it wants TLS (security.ldap.transportSecurity: tls)",
}


@dataclass(frozen=True, slots=True)
class BindAnswer:
    """The result of a simple bind. `description` is RFC 4511's name of `code`."""

    code: int
    description: str
    sub_code: str = ""

    @classmethod
    def read(cls, code: int, description: str, message: str) -> BindAnswer:
        """From the parts of a bind response."""
        found = _SUB_CODE.search(message) if code == 49 else None
        return cls(code, description, found[1].lower() if found else "")

    @property
    def accepted(self) -> bool:
        """Whether name and password are right. Nothing but 0 means that."""
        return self.code == 0

    @property
    def refused(self) -> bool:
        """Whether the directory says no to this name and password; anything else that is not 0 is no answer at all."""
        return self.code in _ABOUT_THE_NAME

    @property
    def reason(self) -> str:
        """Why not, in words, for the audit event."""
        if self.sub_code:
            words = _SUB_CODES.get(self.sub_code, "a reason without a name")
            return f"{words} (49 invalidCredentials, data {self.sub_code})"
        if self.refused:
            return _ABOUT_THE_NAME[self.code]
        return f"the directory answers {self.code} {self.description}{_HINTS.get(self.code, '')}"
