"""What `mongoguard explain` says beside the requirement: rules that surprise, and what only a running server can tell.

In: a command's canonical name and its requirement. Out: sentences. Must not know users.
Source: measured on mongod 6.0.5.
"""

from __future__ import annotations

from collections.abc import Mapping

from mongoguard.model.privilege import AllOf, AnyOf, NotHeld, Requirement

__all__ = ["notes_for"]

_DISABLED = "security.authorization is disabled: privileges are not asked for"

_VIEW = (
    "as in mongod, who can find a view must also be able to run what defines it; who cannot may define it anyway."
    " So being granted find on the view can turn allowed into denied"
)
_NON_MONOTONIC: Mapping[str, str] = {
    "collMod": _VIEW,
    "create": _VIEW,
    "renameCollection": "as in mongod, renameCollectionSameDB is not enough for a collection that one cannot find if"
    " the new name is one that one can: renaming would show its documents. So being granted find on the target can turn"
    " allowed into denied",
}

_OTHER_CHECKS: Mapping[str, str] = {
    "getMore": "the cursor must be one that this user opened, read in the same session and on the same collection,"
    " and what opening it needed is asked again",
    "killCursors": "ending one's own cursors needs nothing; another user's needs killAnyCursor on the cluster or on the"
    " cursor's collection",
    "killOp": "ending an operation of one's own needs nothing, whatever is said here",
    "listCollections": "with nameOnly and authorizedCollections, and without listCollections on the database, only"
    " collections are shown on which some action is held",
    "listDatabases": "without listDatabases on the cluster, only databases are shown in which something is held",
}


def notes_for(name: str, requirement: Requirement, *, authorization_enabled: bool) -> tuple[str, ...]:
    """The sentences for that command."""
    if not authorization_enabled:
        return (_DISABLED,)
    notes = [_OTHER_CHECKS[name]] if name in _OTHER_CHECKS else []
    if name in _NON_MONOTONIC and _asks_for_absence(requirement):
        notes.append(_NON_MONOTONIC[name])
    return tuple(notes)


def _asks_for_absence(requirement: Requirement) -> bool:
    match requirement:
        case NotHeld():
            return True
        case AllOf(parts) | AnyOf(parts):
            return any(_asks_for_absence(part) for part in parts)
        case _:
            return False
