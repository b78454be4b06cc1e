"""The LDAP directory's shell: connections, servers, a pool, and the steps of a login by them.

In: `security.ldap`. Out: `LdapDirectory`, whose steps can be taken one by one, and `LdapUserDirectory`, which makes a
user directory of them. What a name or an answer means is decided in `authn/ldap`; ldap3 is known to `connection.py`
and `native_tls.py` alone.
"""
