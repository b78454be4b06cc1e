"""The login by client certificate: `authenticate` with MONGODB-X509.

In: what the connection proves, the database and the user name of the command. Out: the user, and until when. Must not
know sessions.
Source: measured on mongod 6.0.5 (order of checks, codes, texts). On purpose not as there: whether a user exists, and
that a certificate is a server's own, is told to nobody (mongod answers 11 with the name, and 18 with a text).
"""

from __future__ import annotations

from mongoguard.authn.channel import Channel
from mongoguard.authn.conversation import AuthenticationFailure, Expiry
from mongoguard.effects import FetchUser, Flow, Now, perform
from mongoguard.errors import CommandError, ErrorCode
from mongoguard.model.names import EXTERNAL_DB, UserName
from mongoguard.model.user import User, UserRequest

__all__ = ["X509_MECHANISM", "log_in_by_certificate"]

X509_MECHANISM = "MONGODB-X509"


def log_in_by_certificate(channel: Channel, db: str, claimed: str) -> Flow[tuple[User, Expiry]]:
    """The user whose certificate the connection has proven; `claimed` is the command's user name, or empty.

    Raises `CommandError` for a wrong request, `AuthenticationFailure` for a certificate that is nobody's.
    """
    certificate = channel.certificate
    if certificate is None:
        raise CommandError(ErrorCode.AUTHENTICATION_FAILED, "No verified subject name available from client")
    if claimed and claimed != certificate.subject:
        raise CommandError(
            ErrorCode.AUTHENTICATION_FAILED, "There is no x.509 client certificate matching the user."
        )
    if db != EXTERNAL_DB:
        raise CommandError(
            ErrorCode.PROTOCOL_ERROR, "X.509 authentication must always use the $external database."
        )
    if certificate.refusal:
        raise AuthenticationFailure(certificate.refusal)
    if (yield from perform(Now())) >= certificate.not_after:
        raise AuthenticationFailure("the certificate has expired")
    request = UserRequest(UserName(certificate.subject, EXTERNAL_DB), certificate.roles)
    user = yield from perform(FetchUser(request))
    if user is None:
        raise AuthenticationFailure("no such user")
    return user, Expiry(certificate.not_after)
