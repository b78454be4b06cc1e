"""Differences that are meant: rows with their reasons, from which the section of docs/differences.md is made.

In: a decision that differs, and what both sides answered to the same case for everybody else. Out: the row that accepts
it, or None: then it is unexplained, and the rig fails. A row that accepts nothing any more fails the rig, too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.oracle.plan import Directory
from tests.oracle.run import RAN, UNAUTHORIZED, Decision, Difference

__all__ = ["ACCEPTED", "LAWS", "Everybody", "Row", "accepted_by", "everybody"]


@dataclass(slots=True)
class Everybody:
    """What both sides answered to one case, over all logged-in subjects."""

    mongod: set[int] = field(default_factory=set)
    mongoguard: set[int] = field(default_factory=set)
    relayed: bool = False
    """Whether mongoguard let it through for anybody."""

    @property
    def fails_on_mongod(self) -> bool:
        """Whether mongod does this for nobody, whatever is held."""
        return 0 not in self.mongod

    @property
    def never_relayed(self) -> bool:
        """Whether mongoguard does this for nobody, whatever is held."""
        return not self.relayed


def everybody(decisions: Iterable[Decision]) -> Mapping[str, Everybody]:
    """By case name."""
    found: dict[str, Everybody] = defaultdict(Everybody)
    for decision in decisions:
        if decision.subject.logged_in:
            one = found[decision.case.name]
            one.mongod.add(decision.mongod.code)
            one.mongoguard.add(decision.mongoguard.code)
            one.relayed = one.relayed or decision.mongoguard.relayed or not decision.mongoguard.code
    return found


@dataclass(frozen=True, slots=True)
class Row:
    """One accepted difference. `what` and `reason` are for docs/differences.md.

    `kinds`: how the answers differ. `case`: a pattern that the case's name must contain. `mongod` and `mongoguard`: the
    codes that each side may answer with (empty: any). `as_`: a pattern of the subject's name.
    """

    what: str
    reason: str
    kinds: frozenset[Difference]
    case: str = ""
    mongod: frozenset[int] = frozenset()
    mongoguard: frozenset[int] = frozenset()
    as_: str = ""

    def accepts(self, decision: Decision) -> bool:
        """Whether the row is about this decision."""
        return (
            decision.difference in self.kinds
            and (not self.mongod or decision.mongod.code in self.mongod)
            and (not self.mongoguard or decision.mongoguard.code in self.mongoguard)
            and re.search(self.case, decision.case.name) is not None
            and re.search(self.as_, decision.subject.name) is not None
        )


@dataclass(frozen=True, slots=True)
class Law:
    """A difference about requests that nobody may run, accepted wherever that can be shown: most are in the order of
    checks. `how` is for docs/differences.md, as `what` and `reason` are.
    """

    what: str
    reason: str
    how: str = "other errors, or 13 against another error"

    def accepts(self, decision: Decision, everybody: Everybody) -> bool:
        """Whether what everybody is answered shows that the difference is harmless."""
        raise NotImplementedError


class FailsForEverybody(Law):
    """mongod has an error of its own for everybody, whatever is held; mongoguard looks at privileges first."""

    def accepts(self, decision: Decision, everybody: Everybody) -> bool:
        """mongod neither does it for anybody nor refuses it to anybody."""
        return (
            decision.difference in (Difference.REFUSES, Difference.ERROR)
            and not decision.mongoguard.relayed
            and decision.mongod.code not in (0, UNAUTHORIZED)
            and everybody.mongod.isdisjoint(RAN | {UNAUTHORIZED})
        )


class RefusedForEverybody(Law):
    """mongoguard has an error of its own for everybody; mongod refuses some, and does it for nobody either."""

    def accepts(self, decision: Decision, everybody: Everybody) -> bool:
        """Neither side does it for anybody."""
        return (
            decision.difference in (Difference.CODE, Difference.ERROR)
            and not decision.mongoguard.relayed
            and decision.mongoguard.code not in (0, UNAUTHORIZED)
            and everybody.never_relayed
            and everybody.mongod.isdisjoint(RAN)
        )


class UsersOfAFile(Law):
    """Users and roles are not the upstream's: what mongod does or refuses about its own, mongoguard does for nobody."""

    def accepts(self, decision: Decision, everybody: Everybody) -> bool:
        """The command is about users and roles, and refused with 115."""
        return (
            decision.directory == Directory.FILE
            and _ABOUT_USERS.fullmatch(decision.case.command_name) is not None
            and decision.mongoguard.code == 115
            and not decision.mongoguard.relayed
        )


_ABOUT_USERS = re.compile(
    r"(create|update|drop)(User|Role)|dropAll(Users|Roles)FromDatabase"
    r"|(grant|revoke)(Roles|Privileges)(To|From)(User|Role)|(users|roles)Info"
)

LAWS: tuple[Law, ...] = (
    UsersOfAFile(
        "commands about users and roles with `security.userDirectory: file`",
        "115: the users of the upstream are other people, and a file is not changed by commands",
        how="refused with 115",
    ),
    FailsForEverybody(
        "a malformed request, which mongod does for nobody",
        "mongod parses such arguments before it checks privileges; mongoguard refuses first, or in other words",
    ),
    RefusedForEverybody(
        "a malformed request, which neither does for anybody",
        "mongod checks privileges before it parses such arguments; mongoguard parses first",
    ),
)


def _kinds(*kinds: Difference) -> frozenset[Difference]:
    return frozenset(kinds)


def _codes(*codes: int) -> frozenset[int]:
    return frozenset(codes)


_STRICTER = _kinds(Difference.CODE, Difference.ERROR)
"""mongoguard has an error of its own for everybody, where mongod does it for those who may."""

ACCEPTED: tuple[Row, ...] = (
    Row(
        "commands between servers (`_*`, `replSetGetRBID`, …)",
        "no client's business: the service user would lend the client its standing",
        _STRICTER,
        mongoguard=_codes(115),
        case=r"servers|measured: (_|replSet)",
    ),
    Row(
        "commands of mongos and of newer servers",
        "mongod 6.0.5 does not know them (59); mongoguard does, and checks login, database and privileges first",
        _kinds(Difference.REFUSES, Difference.ERROR),
        mongod=_codes(59),
    ),
    Row(
        "`moveChunk`",
        "mongod has the name as an alias of `_shardsvrMoveRange`, whose name its text gives; here it is mongos' command",
        _kinds(Difference.WORDS),
        case="moveChunk",
    ),
    Row(
        "a collection given by its UUID",
        "which collection it is, only the server knows",
        _STRICTER,
        case=r"BinData\(4|by UUID",
        mongoguard=_codes(73),
    ),
    Row(
        "`$listCatalog`",
        "it lists the catalogue in a form that no privilege describes",
        _STRICTER,
        case=r"\$listCatalog",
        mongoguard=_codes(5491300),
    ),
    Row(
        "applyOps with commands, conditions or UUIDs inside",
        "what these need can only be told by running them",
        _STRICTER,
        case="applyOps",
        mongoguard=_codes(115, 40415),
    ),
    Row(
        "pipelines in updates with stages that have no place there",
        "mongod notices them when a document is updated; mongoguard relays no pipeline that it can't account for",
        _STRICTER,
        case=r"update|whenMatched",
        mongoguard=_codes(72),
    ),
    Row(
        "views over pipelines that are refused here",
        "mongod does not look at the pipeline of a view that its maker may not read",
        _STRICTER,
        case=r"(create|collMod): .*viewOn",
    ),
    Row(
        "role names with unknown keys",
        "mongod ignores the keys; mongoguard refuses what it does not understand",
        _STRICTER,
        case=r"role: 'read', db: 't', x: 1",
        mongoguard=_codes(2),
    ),
    Row(
        "options of `$changeStream` and aggregate between servers",
        "undocumented; they need `internal`",
        _kinds(Difference.REFUSES),
        case=r"allowToRunOnConfigDB|showMigrationEvents|exchange",
        mongod=_codes(0),
    ),
    Row(
        "`$configTime`, `$replData` and their like",
        "arguments between servers; they need `internal`, and lack of it has one text",
        _kinds(Difference.REFUSES, Difference.WORDS),
        case=r"\$configTime|\$replData",
    ),
    Row(
        "`help: true`",
        "mongod gives a command's help text to everybody; mongoguard asks for the command's privileges",
        _kinds(Difference.REFUSES, Difference.ERROR),
        case="help: true",
    ),
    Row(
        "a profile filter at level -1",
        "mongod takes it from everybody who may read system.profile; mongoguard asks for enableProfiler, as for every "
        "other change",
        _kinds(Difference.REFUSES),
        case=r"profile: -1, filter",
    ),
    Row(
        "updateUser with only `mechanisms`",
        "mongod 6.0.5 asks for nothing, so that anybody can strip anybody's credentials; closed in later servers",
        _kinds(Difference.REFUSES),
        case="updateUser.*mechanisms",
        mongod=_codes(0, 2, 11),
    ),
    Row(
        "what only `internal`, `bypassWriteBlockingMode` or `anyAction` on anyResource allows",
        "allowed here and refused upstream: the service user must not hold them, whoever it acts for",
        _kinds(Difference.REFUSES, Difference.ERROR),
        case=r"term|applyOps: \[\]|applyOps \[\]|mayBypassWriteBlocking",
        mongod=_codes(0),
    ),
    Row(
        "killAllSessionsByPattern for others without `impersonate`",
        "one text for everything that is missing",
        _kinds(Difference.WORDS),
        case="killAllSessionsByPattern",
    ),
    Row(
        "killAllSessionsByPattern with `users` or `roles` that are no lists of names, without `impersonate`",
        "mongod checks killAnySession, parses, and then checks impersonate; mongoguard checks both at once",
        _kinds(Difference.REFUSES),
        case=r"killAllSessionsByPattern: \[\{(users|roles): (5|\[5\]|null)\}",
        mongod=_codes(14, 10065),
    ),
    Row(
        "ping before login with arguments of transactions or between servers",
        "answered here, so that nothing is begun and nobody impersonated",
        _kinds(Difference.ALLOWS, Difference.ERROR),
        case="ping: 1",
        as_=r"^\(nobody\)$",
    ),
)
"""Differences that are meant."""


def accepted_by(decision: Decision, answers: Mapping[str, Everybody]) -> Row | Law | None:
    """What accepts the difference; None for an unexplained one. Rows come before laws, so that they are not stale."""
    for row in ACCEPTED:
        if row.accepts(decision):
            return row
    others = answers.get(decision.case.name, Everybody())
    return next((law for law in LAWS if law.accepts(decision, others)), None)
