"""AuthorizationSession: whether this user may do that.

In: a `User` and a `Requirement`. Out: a `Decision` that carries its reasons. Must not know commands, messages or roles.

The rule is mongod's: a required privilege holds when its actions are covered by the union of what the user holds on
every pattern that matches the resource (`search_list`). No deny rules, no precedence, no order. `NotHeld` exists
because a few of mongod's own checks ask that something is *not* held.
Source: mongod's db/auth/authorization_session; measured on 6.0.5 (fixtures/mongod/6.0.5).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from mongoguard.model.action_type import ActionType
from mongoguard.model.names import UserName
from mongoguard.model.privilege import AllOf, AnyActionInDatabase, AnyOf, NotHeld, Privilege, Requirement
from mongoguard.model.resource_pattern import MatchType, ResourcePattern, search_list
from mongoguard.model.user import User

__all__ = ["EVERYBODY", "MAX_DECISIONS", "MAX_KEPT_WEIGHT", "AuthorizationSession", "Decision", "Grant"]

EVERYBODY = User(
    UserName("", ""),
    privileges={ResourcePattern.for_any_resource(): frozenset({ActionType.ANY_ACTION})},
)
"""What everybody may when authorization is disabled."""

MAX_DECISIONS = 256
"""Decisions kept per session. A client uses a few dozen commands on a few dozen namespaces; a full cache is cleared,
which costs each of them one evaluation (a few microseconds) again."""

MAX_KEPT_WEIGHT = 2048
"""Characters of names (plus 16 for each part) in the largest requirement that is kept. Clients choose names and how
many stages a pipeline has: without a limit they would choose how much memory a session's cache takes."""

_PART_WEIGHT = 16
_ANY_ACTION = ActionType.ANY_ACTION
_NO_ACTIONS: frozenset[str] = frozenset()
_LIST_COLLECTIONS: frozenset[str] = frozenset({ActionType.LIST_COLLECTIONS})
_IN_ANY_DATABASE = frozenset(
    {MatchType.ANY_RESOURCE, MatchType.COLLECTION, MatchType.BUCKETS_IN_ANY_DB, MatchType.ANY_BUCKETS}
)
_NOT_UNDER_ANY_NORMAL = frozenset({"local", "config"})


class Grant(NamedTuple):
    """A required privilege (narrowed to the actions granted), and the user's patterns that granted them."""

    privilege: Privilege
    patterns: tuple[ResourcePattern, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and its reasons.

    `missing`: the smallest set of privileges that would have to be granted, merged by resource. `excess`: what would
    have to be revoked, where the requirement asks that something is not held. Both are empty when allowed, and when
    nothing could be granted (an empty `AnyOf`, or nobody is logged in). `granted_by`: what was held, also of a refusal.
    """

    allowed: bool
    missing: tuple[Privilege, ...] = ()
    granted_by: tuple[Grant, ...] = ()
    excess: tuple[Privilege, ...] = ()


_ALLOWED = Decision(True)
_REFUSED = Decision(False)
_ENDLESS = float("inf")


class AuthorizationSession:
    """One user's rights. A changed user needs a new session: nothing here is refreshed.

    A session of nobody (`user` is None) is allowed nothing, not even what needs no privilege.
    """

    __slots__ = ("_decisions", "_privileges", "user")

    def __init__(self, user: User | None) -> None:
        """Take the user as the directory resolved it."""
        self.user = user
        self._privileges = user.privileges if user is not None else {}
        self._decisions: dict[Requirement, Decision] = {}

    def authorize(self, requirement: Requirement) -> Decision:
        """Decide, or give the decision made before on an equal requirement. Never raises for a `Requirement`."""
        decision = self._decisions.get(requirement)
        if decision is None:
            decision = self._decide(requirement)
            if _weight(requirement) <= MAX_KEPT_WEIGHT:
                if len(self._decisions) >= MAX_DECISIONS:
                    self._decisions.clear()
                self._decisions[requirement] = decision
        return decision

    def holds(self, privilege: Privilege) -> bool:
        """Whether every action of `privilege` is granted on its resource; for an action set, not kept."""
        return self.user is not None and not self._privilege(privilege).missing

    def any_action_on(self, resource: ResourcePattern) -> bool:
        """Whether any action at all is held on `resource`: the collections that listCollections shows."""
        return any(self._privileges.get(pattern) for pattern in search_list(resource))

    def may_see_database(self, db: str) -> bool:
        """Whether any privilege could apply to something in `db`: the databases that listDatabases shows."""
        return bool(self._patterns_in(db))

    def _decide(self, requirement: Requirement) -> Decision:
        decision = self._evaluate(requirement)
        if self.user is None:  # a NotHeld holds for nobody in particular, but not for nobody
            return Decision(False, decision.missing)
        return decision

    def _evaluate(self, requirement: Requirement) -> Decision:
        match requirement:
            case Privilege():
                return self._privilege(requirement)
            case AllOf(parts):
                return _all_of(self._evaluate(part) for part in parts)
            case AnyOf(parts):
                return _any_of(self._evaluate(part) for part in parts)
            case NotHeld(part):
                return self._evaluate_not(part)
            case AnyActionInDatabase(db):
                return self._any_action_in(db)
            case _:
                assert_never(requirement)

    def _evaluate_not(self, part: Requirement) -> Decision:
        """De Morgan's laws down to single privileges, so that `excess` is the least that must go."""
        match part:
            case AllOf(parts):
                return _any_of(self._evaluate_not(p) for p in parts)
            case AnyOf(parts):
                return _all_of(self._evaluate_not(p) for p in parts)
            case NotHeld(inner):
                return self._evaluate(inner)
            case Privilege():
                return _inverted(self._privilege(part), (part,) if part.actions else ())
            case AnyActionInDatabase(db):
                patterns = self._patterns_in(db)
                return _inverted(
                    self._any_action_in(db), tuple(Privilege(p, self._privileges[p]) for p in patterns)
                )
            case _:
                assert_never(part)

    def _privilege(self, required: Privilege) -> Decision:
        resource, actions = required
        if not actions:
            return _ALLOWED
        missing, patterns = actions, []
        for pattern in search_list(resource):
            held = self._privileges.get(pattern)
            if not held:
                continue
            left = _NO_ACTIONS if _ANY_ACTION in held else missing - held
            if len(left) != len(missing):
                patterns.append(pattern)
                missing = left
                if not left:
                    return Decision(True, (), (Grant(required, tuple(patterns)),))
        granted = (Grant(Privilege(resource, actions - missing), tuple(patterns)),) if patterns else ()
        return Decision(False, (Privilege(resource, missing),), granted)

    def _any_action_in(self, db: str) -> Decision:
        patterns = self._patterns_in(db)
        target = ResourcePattern.for_database(db)
        if patterns:
            return Decision(True, (), (Grant(Privilege(target, _NO_ACTIONS), patterns),))
        # Any action would do; listCollections on the database is the one that the manual names for this.
        return Decision(False, (Privilege(target, _LIST_COLLECTIONS),))

    def _patterns_in(self, db: str) -> tuple[ResourcePattern, ...]:
        """The user's patterns that could apply to something in `db`; existence does not matter, the cluster is none."""
        return tuple(p for p, actions in self._privileges.items() if actions and _could_apply(p, db))


def _could_apply(pattern: ResourcePattern, db: str) -> bool:
    match pattern.match_type:
        case MatchType.CLUSTER:
            return False
        case MatchType.ANY_NORMAL:
            return db not in _NOT_UNDER_ANY_NORMAL
        case kind:
            return kind in _IN_ANY_DATABASE or pattern.db == db


def _inverted(held: Decision, excess: tuple[Privilege, ...]) -> Decision:
    return Decision(False, (), held.granted_by, excess) if held.allowed else _ALLOWED


def _all_of(decisions: Iterable[Decision]) -> Decision:
    allowed, hopeless = True, False
    missing, granted, excess = list[Privilege](), list[Grant](), list[Privilege]()
    for decision in decisions:
        allowed = allowed and decision.allowed
        hopeless = hopeless or _distance(decision) == _ENDLESS
        missing += decision.missing
        granted += decision.granted_by
        excess += decision.excess
    if hopeless:  # what the other parts lack would not help
        return Decision(False, granted_by=tuple(granted))
    return Decision(allowed, _merged(missing), tuple(granted), _merged(excess))


def _any_of(decisions: Iterable[Decision]) -> Decision:
    """The first that is allowed; else the one that lacks least (the first of equals)."""
    best, least = _REFUSED, _ENDLESS
    for decision in decisions:
        if decision.allowed:
            return decision
        distance = _distance(decision)
        if distance < least:
            best, least = decision, distance
    return best


def _distance(decision: Decision) -> float:
    """How many actions would have to be granted or revoked; endless when neither would help."""
    if decision.allowed:
        return 0
    return sum(len(p.actions) for p in (*decision.missing, *decision.excess)) or _ENDLESS


def _merged(privileges: list[Privilege]) -> tuple[Privilege, ...]:
    if len(privileges) < 2:
        return tuple(privileges)
    merged: dict[ResourcePattern, frozenset[str]] = {}
    for resource, actions in privileges:
        merged[resource] = merged.get(resource, _NO_ACTIONS) | actions
    return tuple(Privilege(*item) for item in merged.items())


def _weight(requirement: Requirement) -> int:
    match requirement:
        case Privilege(resource, _):
            return _PART_WEIGHT + len(resource.db) + len(resource.collection)
        case AnyActionInDatabase(db):
            return _PART_WEIGHT + len(db)
        case NotHeld(part):
            return _PART_WEIGHT + _weight(part)
        case AllOf(parts) | AnyOf(parts):
            return _PART_WEIGHT + sum(_weight(part) for part in parts)
        case _:
            assert_never(requirement)
