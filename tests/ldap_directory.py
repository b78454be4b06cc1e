"""An `LdapDirectory` in the test's own process, as `security.ldap` would make it."""

from __future__ import annotations

from typing import Any

import yaml

from mongoguard.config.settings import Settings, parse_settings
from mongoguard.server.ldap.directory import LdapDirectory

__all__ = ["directory_of", "settings_of"]


def settings_of(ldap: dict[str, Any], **parameters: Any) -> Settings:
    """Settings with that section, and with those of setParameter."""
    text = yaml.safe_dump(
        {
            "upstream": {"uri": "mongodb://s:p@localhost/?tls=true"},
            "security": {"ldap": ldap},
            "setParameter": parameters,
        }
    )
    return parse_settings(text, "test", environ={}, read_file=lambda path: path)


def directory_of(ldap: dict[str, Any], **parameters: Any) -> LdapDirectory:
    """A directory that is not connected yet."""
    return LdapDirectory(settings_of(ldap, **parameters))
