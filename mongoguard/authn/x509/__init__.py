"""MONGODB-X509: who a client certificate that TLS has verified belongs to, and how its owner logs in with it.

`certificate.py` reads a certificate into a `ClientCertificate`; `login.py` is the login. The other modules read and
compare the parts: `der.py`, `subject.py`, `role_extension.py`, `membership.py`.
"""
