"""A reload that is prepared: everything read and checked, nothing used yet.

In: settings and what was read of their files. Out: values for whoever uses them, or why nobody does. Must not
know what a setting means.
"""

from __future__ import annotations

from dataclasses import dataclass

from mongoguard.config.reloadable import Reload
from mongoguard.config.user_file import UserFile
from mongoguard.errors import ConfigError
from mongoguard.server.tls_context import LoadedTLS

__all__ = ["NotReloaded", "PreparedReload"]


class NotReloaded(ConfigError):
    """Nothing is reloaded, because of a mistake in `part`; the text says which."""

    def __init__(self, part: str, error: ConfigError) -> None:
        """`part` as the log names it."""
        super().__init__(str(error))
        self.part = part


@dataclass(frozen=True, slots=True)
class PreparedReload:
    """Settings with everything read that they name: using them can't fail. `parts` are the files that were read."""

    reload: Reload
    users: UserFile | None
    tls: LoadedTLS | None

    @property
    def parts(self) -> tuple[str, ...]:
        """As the log names them."""
        read = {"the users file": self.users, "net.tls": self.tls}
        return tuple(name for name, content in read.items() if content is not None)
