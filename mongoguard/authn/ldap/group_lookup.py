"""`security.ldap.nestedGroups`: from a user to all groups, by the strategy that suits the directory.

In: the query template, the strategy, names. Out: a flow of group DNs. Must not know roles or servers.

* `direct`: what the template finds. OpenLDAP's dynlist overlay and templates that hold the IN_CHAIN rule themselves
  are direct, too: the server does the nesting.
* `recursive`: the template is asked again with each group in place of `{USER}`, level by level, until nothing is new.
* `in_chain`: each `(attribute={USER})` of the template's filter is asked with Active Directory's rule
  1.2.840.113556.1.4.1941. OpenLDAP answers that with nothing and no error, so `strategy_problem` asks first.
* `token_groups`: the SIDs in the user's tokenGroups, which alone include the primary group. The template then says
  where groups are and which count, and holds no placeholder: `DC=example,DC=org??sub?(objectClass=group)`.

The last two are Active Directory's, and look at the user's account, too: one that is disabled keeps its groups, and has
none here. So who was logged in when it was disabled is logged out when its groups are asked for again.

Reaching a bound refuses the login: a list that was cut short would be an answer nobody configured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from mongoguard.authn.ldap.distinguished_name import DistinguishedName
from mongoguard.authn.ldap.filter_template import IN_CHAIN
from mongoguard.authn.ldap.filter_text import escape_filter_octets
from mongoguard.authn.ldap.query import (
    ANY_ENTRY,
    LdapEntry,
    LdapFlow,
    LdapQuery,
    LdapRefusal,
    SearchScope,
)
from mongoguard.authn.ldap.query_template import (
    MAX_GROUPS,
    PROVIDED_USER,
    QUERY_TEMPLATE_KEY,
    USER,
    QueryTemplate,
    found_groups,
)
from mongoguard.errors import ConfigError

__all__ = ["MAX_DEPTH", "TERMS_IN_A_FILTER", "GroupLookup", "NestedGroups", "strategy_problem"]

MAX_DEPTH = 16
"""Levels of nesting that are followed. Organisations nest three to six deep; a level costs one round trip."""

TERMS_IN_A_FILTER = 50
"""Assertions joined by OR in one search: few round trips, and filters far below any server's limit."""

_ACTIVE_DIRECTORY = "1.2.840.113556.1.4.800"
"""LDAP_CAP_ACTIVE_DIRECTORY_OID, which the root entry of such a server lists (MS-ADTS 3.1.1.3.4.3.1)."""


_ACCOUNT_CONTROL, _ACCOUNT_DISABLED = "userAccountControl", 2
"""ADS_UF_ACCOUNT_DISABLE (MS-ADTS 2.2.16)."""


class NestedGroups(StrEnum):
    """The strategies, as the option spells them."""

    DIRECT = "direct"
    RECURSIVE = "recursive"
    IN_CHAIN = "in_chain"
    TOKEN_GROUPS = "token_groups"  # noqa: S105 (Active Directory's tokens are no secrets)


@dataclass(frozen=True, slots=True)
class GroupLookup:
    """A strategy and the template it works on (already rewritten, for `in_chain`)."""

    template: QueryTemplate
    strategy: NestedGroups

    @classmethod
    def parse(cls, query_template: str, strategy: NestedGroups) -> GroupLookup:
        """Read the template, and check that the strategy can work on it; raises `ConfigError`."""
        template = QueryTemplate.parse(query_template)
        names = template.url.names
        match strategy:
            case NestedGroups.RECURSIVE if names != {USER}:
                raise _mismatch(
                    strategy, f"hold {{{USER}}} and not {{{PROVIDED_USER}}}, for groups have no such name"
                )
            case NestedGroups.IN_CHAIN:
                return cls(_followed_in_chain(template), strategy)
            case NestedGroups.TOKEN_GROUPS if names or template.attribute is not None:
                where = "DC=example,DC=org??sub?(objectClass=group)"
                raise _mismatch(
                    strategy, f"only say where groups are, without placeholders and attributes: {where}"
                )
        return cls(template, strategy)

    def groups(self, user_dn: str, provided_user: str) -> LdapFlow[tuple[str, ...]]:
        """The DNs of all groups, in the directory's spelling; `user_dn` is the mapped name.

        Raises `LdapRefusal` when a bound is reached, an answer cannot be used, or the account is disabled.
        """
        if self.strategy is NestedGroups.RECURSIVE:
            return (yield from self._recursive(user_dn))
        if self.strategy is NestedGroups.TOKEN_GROUPS:
            return (yield from self._of_sids((yield from _token_sids(user_dn))))
        if self.strategy is NestedGroups.IN_CHAIN and isinstance(_parsed(user_dn), DistinguishedName):
            for entry in (yield LdapQuery(user_dn, SearchScope.BASE, ANY_ENTRY, (_ACCOUNT_CONTROL,))):
                _check_account(entry)
        return (yield from self.template.groups(user_dn, provided_user))

    def _recursive(self, user_dn: str) -> LdapFlow[tuple[str, ...]]:
        """Breadth first. A group whose DN cannot be parsed is reported, but not followed: nothing is in it for sure."""
        seen: dict[DistinguishedName | str, str] = {}
        frontier: list[str] = [user_dn]
        for _ in range(MAX_DEPTH + 1):
            level: list[str] = []
            for query in self._level_queries(frontier):
                for text in (yield from found_groups(query, self.template.attribute)):
                    parsed = _parsed(text)
                    if parsed in seen:
                        continue
                    seen[parsed] = text
                    if isinstance(parsed, DistinguishedName):
                        level.append(text)
                if len(seen) > MAX_GROUPS:
                    raise LdapRefusal(f"the user has more than {MAX_GROUPS} groups")
            if not level:
                return tuple(seen.values())
            frontier = level
        raise LdapRefusal(f"the user's groups are nested more than {MAX_DEPTH} deep")

    def _level_queries(self, frontier: Sequence[str]) -> Iterable[LdapQuery]:
        """One search for many members where only the filter depends on them, else one for each."""
        queries = [self.template.url.query({USER: dn}) for dn in frontier]
        if self.template.url.base is not None and self.template.url.base.names:
            return queries
        chunks = _chunks([query.filter for query in queries])
        return [replace(queries[0], filter=_any_of(chunk)) for chunk in chunks]

    def _of_sids(self, sids: Sequence[bytes]) -> LdapFlow[tuple[str, ...]]:
        """The groups that have these SIDs, among those that the template finds."""
        found: dict[str, None] = {}
        everywhere = self.template.url.query({})
        for chunk in _chunks([f"(objectSid={escape_filter_octets(sid)})" for sid in sids]):
            query = replace(everywhere, filter=f"(&{everywhere.filter}{_any_of(chunk)})")
            found.update(dict.fromkeys((yield from found_groups(query, None))))
        return tuple(found)


def strategy_problem(strategy: NestedGroups) -> LdapFlow[str | None]:
    """Why the strategy cannot work on this server, or None. Reads the root entry, as anybody may."""
    if strategy not in (NestedGroups.IN_CHAIN, NestedGroups.TOKEN_GROUPS):
        return None
    entries = yield LdapQuery("", SearchScope.BASE, ANY_ENTRY, ("supportedCapabilities",))
    if any(_ACTIVE_DIRECTORY in entry.texts("supportedCapabilities") for entry in entries):
        return None
    return (
        f"security.ldap.nestedGroups: {strategy} works on Active Directory alone, and this server does not say it is "
        "one; OpenLDAP would answer without any group (use recursive)"
    )


def _token_sids(user_dn: str) -> LdapFlow[list[bytes]]:
    """The SIDs of the user's token. Active Directory computes them for base searches alone."""
    if isinstance(_parsed(user_dn), str):
        raise LdapRefusal("tokenGroups is read from the user's entry, and the mapped name is not a DN")
    entries = yield LdapQuery(user_dn, SearchScope.BASE, ANY_ENTRY, ("tokenGroups", _ACCOUNT_CONTROL))
    for entry in entries:
        _check_account(entry)
    sids = [sid for entry in entries for sid in entry.octets("tokenGroups")]
    if len(entries) != 1 or not sids:
        raise LdapRefusal(
            "the directory returned no tokenGroups of the user, who has a primary group at least"
        )
    if len(sids) > MAX_GROUPS:
        raise LdapRefusal(f"the user has more than {MAX_GROUPS} groups")
    if not all(_is_sid(sid) for sid in sids):
        raise LdapRefusal("the directory returned a tokenGroups value that is no SID")
    return sids


def _check_account(entry: LdapEntry) -> None:
    """Refuse a disabled account. One that the service may not read the state of is not known to be disabled."""
    for text in entry.texts(_ACCOUNT_CONTROL):
        try:
            is_disabled = int(text) & _ACCOUNT_DISABLED
        except ValueError:
            raise LdapRefusal(f"the directory returned a {_ACCOUNT_CONTROL} that is no number") from None
        if is_disabled:
            raise LdapRefusal("the account is disabled")


def _is_sid(octets: bytes) -> bool:
    """MS-DTYP 2.4.2.2: revision 1, a count up to 15, six octets of authority, four octets for each of the count."""
    return len(octets) >= 8 and octets[0] == 1 and octets[1] <= 15 and len(octets) == 8 + 4 * octets[1]


def _followed_in_chain(template: QueryTemplate) -> QueryTemplate:
    if template.attribute is not None:
        raise _mismatch(NestedGroups.IN_CHAIN, "find entries, not an attribute's values")
    try:
        return QueryTemplate(replace(template.url, filter=template.url.filter.in_chain(USER)))
    except ValueError as error:
        raise ConfigError(f"{QUERY_TEMPLATE_KEY}: {error} ({IN_CHAIN})") from None


def _mismatch(strategy: NestedGroups, expected: str) -> ConfigError:
    return ConfigError(f"{QUERY_TEMPLATE_KEY}: with nestedGroups {strategy} the template must {expected}")


def _parsed(text: str) -> DistinguishedName | str:
    try:
        return DistinguishedName.parse(text)
    except ValueError:
        return text


def _chunks(terms: Sequence[str]) -> Iterable[Sequence[str]]:
    unique = list(dict.fromkeys(terms))
    return (unique[i : i + TERMS_IN_A_FILTER] for i in range(0, len(unique), TERMS_IN_A_FILTER))


def _any_of(terms: Sequence[str]) -> str:
    return terms[0] if len(terms) == 1 else f"(|{''.join(terms)})"
