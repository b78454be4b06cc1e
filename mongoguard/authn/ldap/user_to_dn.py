"""`security.ldap.userToDNMapping`: from the name a client gave to the name that is bound with the directory.

In: the option (a JSON text as in mongod.conf, or the list it means), and user names. Out: a flow that ends with the
bind name; it asks for a search where an element has an `ldapQuery`. Must not know passwords or servers.

As in MongoDB the elements are tried in order; `match` must match the whole name, `{0}` is the first capture group, the
first element that matches decides, and an `ldapQuery` that finds not exactly one entry is no match. Unlike MongoDB,
what a name puts in is escaped for its place. An element for names that are DNs already says `escape: none`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mongoguard.authn.ldap.distinguished_name import DistinguishedName
from mongoguard.authn.ldap.dn_template import DnTemplate
from mongoguard.authn.ldap.ecmascript_regex import EcmaScriptRegex
from mongoguard.authn.ldap.ldap_url import LdapUrl
from mongoguard.authn.ldap.query import LdapFlow, LdapRefusal
from mongoguard.authn.ldap.template_text import Pieces, read_template
from mongoguard.errors import ConfigError

__all__ = ["MAX_NAME_LENGTH", "MAX_RULES", "MappingRule", "NameTemplate", "UserToDnMapping"]

MAX_NAME_LENGTH = 1024
"""Characters of a user name. DNs of people are a tenth of it, and the time that matching a name takes grows with it."""

MAX_RULES = 64
"""Elements of one mapping: each may cost a login a search."""

_KEY = "security.ldap.userToDNMapping"
_ESCAPES = ("rdnValue", "none")
_DN_CHARACTERS = frozenset(',+"\\<>;=#')


@dataclass(frozen=True, slots=True)
class NameTemplate:
    r"""A substitution that is no DN, such as `{0}@example.org` or `CORP\{0}`: Active Directory binds those, too.

    Unless `is_raw`, a value with a character that has a meaning in DNs is refused: it could make the whole a DN.
    """

    pieces: Pieces
    is_raw: bool = False

    def render(self, values: Mapping[str, str]) -> str:
        """The bind name; raises `LdapRefusal`."""
        return "".join(p if isinstance(p, str) else self._inserted(values[p.name]) for p in self.pieces)

    def _inserted(self, value: str) -> str:
        if not value:
            raise LdapRefusal("a group of the user name is empty, and the substitution needs it")
        if not self.is_raw and not _DN_CHARACTERS.isdisjoint(value):
            raise LdapRefusal("the name holds a character of DNs, and the substitution is no DN")
        return value


@dataclass(frozen=True, slots=True)
class MappingRule:
    """One element: what it matches, and the name or the search that it makes of the groups."""

    match: EcmaScriptRegex
    target: DnTemplate | NameTemplate | LdapUrl

    @classmethod
    def read(cls, element: object) -> MappingRule:
        """One element of the option; raises `ValueError` that names the key of the element."""
        if not isinstance(element, Mapping) or any(not isinstance(v, str) for v in element.values()):
            raise ValueError("expected an object of texts with match and either substitution or ldapQuery")
        if len({"substitution", "ldapQuery"} & element.keys()) != 1 or "match" not in element:
            raise ValueError("expected match and exactly one of substitution and ldapQuery")
        unknown = sorted(
            str(key) for key in element.keys() - {"match", "substitution", "ldapQuery", "escape"}
        )
        if unknown:
            raise ValueError(
                f"'{unknown[0]}' is no key here (there are: match, substitution, ldapQuery, escape)"
            )
        escape = element.get("escape", _ESCAPES[0])
        if escape not in _ESCAPES:
            raise ValueError(f"escape is {' or '.join(_ESCAPES)}")
        match = _named("match", EcmaScriptRegex.parse, element["match"])
        names = frozenset(str(i) for i in range(match.groups))
        if "ldapQuery" in element:
            return cls(match, _named("ldapQuery", _read_query, element["ldapQuery"], names, escape == "none"))
        return cls(
            match,
            _named("substitution", _read_substitution, element["substitution"], names, escape == "none"),
        )

    def values(self, name: str) -> dict[str, str] | None:
        """The groups of the name as the values of the placeholders, or None when it does not match.

        A group that took no part in the match has no value; using it raises `LdapRefusal`, as an empty one does.
        """
        groups = self.match.match_whole(name)
        return None if groups is None else {str(i): group or "" for i, group in enumerate(groups)}


@dataclass(frozen=True, slots=True)
class UserToDnMapping:
    """The whole option; without rules every name is bound as it is."""

    rules: tuple[MappingRule, ...] = ()

    @classmethod
    def parse(cls, option: str | Sequence[object] | None) -> UserToDnMapping:
        """Read the option; unset, `""` and `[]` mean identity. Raises `ConfigError` that names the element."""
        elements: Any = option
        if isinstance(option, str):
            try:
                elements = json.loads(option, object_pairs_hook=_unique_keys) if option.strip() else []
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"{_KEY}: expected a JSON array: {error}") from None
        if elements is None:
            elements = []
        if not isinstance(elements, list | tuple) or len(elements) > MAX_RULES:
            raise ConfigError(f"{_KEY}: expected an array of at most {MAX_RULES} objects")
        rules: list[MappingRule] = []
        for i, element in enumerate(elements):
            try:
                rules.append(MappingRule.read(element))
            except ValueError as error:
                raise ConfigError(f"{_KEY}[{i}]: {error}") from None
        return cls(tuple(rules))

    @property
    def binds_typed_names(self) -> bool:
        """Whether a name may be bound as it was typed, so that the directory alone decides whose it is."""
        targets = [rule.target for rule in self.rules]
        return not targets or any(
            isinstance(target, NameTemplate) and not any(isinstance(p, str) for p in target.pieces)
            for target in targets
        )

    def bind_name(self, name: str) -> LdapFlow[str]:
        """The name to bind as: never empty, without NUL. Raises `LdapRefusal` when no element matches or none results.

        An error that the shell throws into a search ends the login: it does not fall through to the next element.
        """
        _check(name, "the user name")
        if len(name) > MAX_NAME_LENGTH:
            raise LdapRefusal(f"the user name is longer than {MAX_NAME_LENGTH} characters")
        if not self.rules:
            return name
        for rule in self.rules:
            values = rule.values(name)
            if values is None:
                continue
            if not isinstance(rule.target, LdapUrl):
                return _check(rule.target.render(values), "the name that userToDNMapping makes")
            entries = yield rule.target.query(values)
            if len(entries) == 1:
                return _check_dn(entries[0].dn)
        raise LdapRefusal("no element of userToDNMapping matches the user name")


def _named(key: str, read: Any, text: str, *more: object) -> Any:
    """What `read` makes of the text; its errors begin with the key."""
    try:
        return read(text, *more)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _read_query(text: str, names: frozenset[str], is_raw: bool) -> LdapUrl:
    """Only the entry's DN is used, so no attributes are asked for. In filters values are always escaped."""
    url = LdapUrl.parse(text, names, names if is_raw else ())
    base = url.base if url.base is None else replace(url.base, is_raw=is_raw)
    return replace(url, base=base, attributes=())


def _read_substitution(text: str, names: frozenset[str], is_raw: bool) -> DnTemplate | NameTemplate:
    """A DN when it holds a `=`, else another kind of name."""
    if not text:
        raise ValueError("an empty name cannot be bound")
    pieces = read_template(text, names)
    if any("=" in piece for piece in pieces if isinstance(piece, str)):
        return replace(DnTemplate.parse(pieces, names if is_raw else ()), is_raw=is_raw)
    return NameTemplate(pieces, is_raw)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _check(name: str, what: str) -> str:
    """A name that can be bound. Empty ones become anonymous binds, which succeed (RFC 4513 section 5.1.1)."""
    if not name.strip():
        raise LdapRefusal(f"{what} is empty")
    if "\0" in name:
        raise LdapRefusal(f"{what} holds a NUL")
    return name


def _check_dn(dn: str) -> str:
    try:
        DistinguishedName.parse(dn)
    except ValueError as error:
        raise LdapRefusal(f"the directory's entry has a DN that cannot be read: {error}") from None
    return dn
