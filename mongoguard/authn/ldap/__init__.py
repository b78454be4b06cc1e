"""Names and groups of an LDAP directory, without the directory: pure values, and flows that ask for searches.

In: names, configuration texts, entries. Out: bind names, group DNs, role names. Must not know sockets, ldap3 or clocks.

A flow is a generator: it yields an `LdapQuery` and is sent the `LdapEntry` list of the answer; it returns its result.
`query.py` holds those values. What the shell calls, in the order of a login:

* `user_to_dn.UserToDnMapping.parse(text or list or None)`, then `.bind_name(user_name)`, a flow: the bind name.
* `group_lookup.GroupLookup.parse(query_template, strategy)`, then `.groups(user_dn, provided_user)`, a flow: group DNs.
* `role_mapping.RoleMapping.parse(table or None)`, then `.resolve(group_dns, read_dn_roles(admin_role_names))`: no flow.

`parse` raises `ConfigError`; a flow raises `LdapRefusal` (the login is refused; its text is for the audit event alone).
What the shell throws into a flow (a directory that does not answer) passes through it unchanged.
"""
